//! Command APDUs taken apart, and status words (ETSI TS 102 221 section 10).

use std::fmt;

/// What comes after the data of every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sw(pub(crate) u16);

impl Sw {
    pub(crate) const OK: Self = Self(0x9000);
    /// Well done, and a SIM toolkit command of 11 bytes waits for FETCH.
    pub(crate) const OK_TOOLKIT: Self = Self(0x910b);
    pub(crate) const WRONG_LENGTH: Self = Self(0x6700);
    pub(crate) const CHANNEL_NOT_SUPPORTED: Self = Self(0x6881);
    pub(crate) const NO_RECORD_FILE: Self = Self(0x6981);
    pub(crate) const SECURITY_STATUS: Self = Self(0x6982);
    pub(crate) const CONDITIONS: Self = Self(0x6985);
    pub(crate) const NO_FILE_SELECTED: Self = Self(0x6986);
    pub(crate) const WRONG_DATA: Self = Self(0x6a80);
    pub(crate) const NOT_SUPPORTED: Self = Self(0x6a81);
    pub(crate) const FILE_NOT_FOUND: Self = Self(0x6a82);
    pub(crate) const RECORD_NOT_FOUND: Self = Self(0x6a83);
    pub(crate) const WRONG_P1_P2: Self = Self(0x6a86);
    pub(crate) const WRONG_OFFSET: Self = Self(0x6b00);
    pub(crate) const WRONG_INSTRUCTION: Self = Self(0x6d00);
    pub(crate) const WRONG_CLASS: Self = Self(0x6e00);
    /// TS 31.102 section 7.3.1: the challenge was not made by this card's operator.
    pub(crate) const INCORRECT_MAC: Self = Self(0x9862);

    /// `length` bytes wait for GET RESPONSE; 00 stands for 256.
    pub(crate) fn waiting(length: usize) -> Self {
        Self(0x6100 | low(length))
    }

    /// The right length is `length`.
    pub(crate) fn right_length(length: usize) -> Self {
        Self(0x6c00 | low(length))
    }
}

fn low(length: usize) -> u16 {
    u16::try_from(length & 0xff).unwrap_or_default()
}

impl fmt::Display for Sw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}", self.0)
    }
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Apdu<'a> {
    pub(super) class: u8,
    pub(super) instruction: u8,
    pub(super) p1: u8,
    pub(super) p2: u8,
    pub(super) data: &'a [u8],
    /// How many bytes are expected, 1 to 256; `None` when the command does not say.
    pub(super) expected: Option<usize>,
}

impl<'a> Apdu<'a> {
    /// Takes a command apart (cases 1 to 4 with short lengths; TS 102 221 section 10.1.2).
    ///
    /// # Errors
    /// 6700 when the lengths do not add up.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Sw> {
        let [class, instruction, p1, p2, rest @ ..] = bytes else {
            return Err(Sw::WRONG_LENGTH);
        };
        let (data, expected) = match rest {
            [] => (&[][..], None),
            [le] => (&[][..], Some(le)),
            // Extended lengths begin so; this card has none.
            [0, ..] => return Err(Sw::WRONG_LENGTH),
            [lc, body @ ..] => match body.split_at_checked(usize::from(*lc)) {
                Some((data, [])) => (data, None),
                Some((data, [le])) => (data, Some(le)),
                _ => return Err(Sw::WRONG_LENGTH),
            },
        };
        Ok(Self {
            class: *class,
            instruction: *instruction,
            p1: *p1,
            p2: *p2,
            data,
            expected: expected.map(|le| if *le == 0 { 256 } else { usize::from(*le) }),
        })
    }

    /// The logical channel that the class byte names (TS 102 221 table 10.3: the two low bits of the classes 0X, without secure messaging).
    ///
    /// # Errors
    /// 6E00 for classes this card does not know.
    pub(super) fn channel(&self) -> Result<u8, Sw> {
        match self.class {
            0x00..=0x03 => Ok(self.class),
            _ => Err(Sw::WRONG_CLASS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_cases_and_lengths_that_do_not_add_up() {
        let parse = Apdu::parse;
        assert_eq!(parse(&[0, 0xa4, 0, 0]).unwrap().expected, None);
        assert_eq!(parse(&[0, 0xb2, 1, 4, 0]).unwrap().expected, Some(256));
        let three = parse(&[1, 0xa4, 0, 4, 2, 0x3f, 0]).unwrap();
        assert_eq!(
            (three.data, three.expected, three.channel()),
            (&[0x3f, 0][..], None, Ok(1))
        );
        assert_eq!(parse(&[0, 0xa4, 0, 4, 2, 0x3f, 0, 9]).unwrap().expected, Some(9));
        for bad in [
            &[][..],
            &[0, 0xa4, 0],
            &[0, 0xa4, 0, 4, 2, 0x3f],
            &[0, 0xa4, 0, 4, 2, 0x3f, 0, 9, 9],
            &[0, 0xa4, 0, 4, 0, 0, 2, 0x3f, 0],
        ] {
            assert_eq!(parse(bad), Err(Sw::WRONG_LENGTH), "{bad:?}");
        }
        assert_eq!(parse(&[0xa0, 0xa4, 0, 0]).unwrap().channel(), Err(Sw::WRONG_CLASS));
        assert_eq!(Sw::waiting(256).to_string(), "6100");
        assert_eq!(Sw::right_length(26).to_string(), "6C1A");
    }
}
