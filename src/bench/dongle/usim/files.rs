//! The card's files: as much of a UICC's tree as a host needs to find the USIM and to know whose it is.
//!
//! ```text
//! MF 3F00
//! ├── EF_DIR 2F00      one record of 26 bytes: which applications there are (TS 102 221 section 13.1)
//! ├── EF_ICCID 2FE2    (section 13.2)
//! └── ADF.USIM A0000000871002…
//!     ├── EF_IMSI 6F07 (TS 31.102 section 4.2.2)
//!     └── EF_AD 6FAD   (section 4.2.18)
//! ```

use crate::bench::dongle::identity::{Iccid, Imsi};

/// The application identifier: RID of 3GPP, USIM (1002), then as on the cards of the facts (TS 101 220 annex E leaves the rest to the issuer).
pub(crate) const AID: [u8; 16] = [
    0xa0, 0x00, 0x00, 0x00, 0x87, 0x10, 0x02, 0xff, 0x86, 0xff, 0xff, 0x89, 0xff, 0xff, 0xff, 0xff,
];
/// What the application calls itself in EF_DIR.
const LABEL: &[u8] = b"USIM";

/// A directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directory {
    Mf,
    Usim,
}

/// A file with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Dir,
    IccId,
    Imsi,
    Ad,
}

/// File identifier of the MF.
pub(super) const MF: u16 = 0x3f00;
/// Stands for the application that is active on the channel.
pub(super) const ADF: u16 = 0x7fff;
/// Short file identifier of EF_DIR.
pub(super) const DIR_SFI: u8 = 0x1e;

impl File {
    /// The file with this identifier in this directory.
    pub(super) fn find(directory: Directory, id: u16) -> Option<Self> {
        match (directory, id) {
            (Directory::Mf, 0x2f00) => Some(Self::Dir),
            (Directory::Mf, 0x2fe2) => Some(Self::IccId),
            (Directory::Usim, 0x6f07) => Some(Self::Imsi),
            (Directory::Usim, 0x6fad) => Some(Self::Ad),
            _ => None,
        }
    }

    fn id(self) -> u16 {
        match self {
            Self::Dir => 0x2f00,
            Self::IccId => 0x2fe2,
            Self::Imsi => 0x6f07,
            Self::Ad => 0x6fad,
        }
    }

    /// Whether it consists of records; the others are transparent.
    pub(super) fn has_records(self) -> bool {
        self == Self::Dir
    }

    /// Its file control parameters (TS 102 221 section 11.1.1.3).
    pub(super) fn parameters(self, size: usize) -> Vec<u8> {
        let [high, low] = self.id().to_be_bytes();
        let size = u8::try_from(size).unwrap_or(u8::MAX);
        let descriptor = if self.has_records() {
            // Linear fixed, records of `size` bytes, one of them.
            vec![0x82, 5, 0x42, 0x21, 0, size, 1]
        } else {
            vec![0x82, 2, 0x41, 0x21]
        };
        let mut inside = descriptor;
        inside.extend([0x83, 2, high, low]);
        // Proprietary: it may be read often. Then: life cycle active, access rules in EF_ARR, size.
        inside.extend([0xa5, 3, 0xc0, 1, 0, 0x8a, 1, 5, 0x8b, 3, 0x2f, 6, 1, 0x80, 2, 0, size]);
        if self == Self::Dir {
            inside.extend([0x88, 1, DIR_SFI << 3]);
        }
        template(inside)
    }
}

impl Directory {
    /// Its file control parameters: 58 bytes for the USIM, as in the EC20 log of the facts.
    pub(super) fn parameters(self) -> Vec<u8> {
        let mut inside = vec![0x82, 2, 0x78, 0x21];
        match self {
            Self::Mf => inside.extend([0x83, 2, 0x3f, 0]),
            Self::Usim => {
                inside.extend([0x84, 16]);
                inside.extend(AID);
            }
        }
        // Power class and memory; life cycle active; access rules in EF_ARR; PINs.
        inside.extend([0xa5, 7, 0x80, 1, 0x71, 0x83, 2, 0x40, 0]);
        inside.extend([0x8a, 1, 5, 0x8b, 3, 0x2f, 6, 2]);
        inside.extend([
            0xc6, 15, 0x90, 1, 0x70, 0x83, 1, 1, 0x83, 1, 0x81, 0x83, 1, 0x0a, 0x83, 1, 0x0b,
        ]);
        template(inside)
    }
}

fn template(inside: Vec<u8>) -> Vec<u8> {
    let length = u8::try_from(inside.len()).unwrap_or(u8::MAX);
    [vec![0x62, length], inside].concat()
}

/// What is in the files.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    imsi: Vec<u8>,
    iccid: Vec<u8>,
}

impl Contents {
    pub(super) fn new(imsi: &Imsi, iccid: &Iccid) -> Self {
        // The first half byte says "IMSI" and whether the number of digits is odd (TS 24.008 figure 10.5.4).
        let kind = if imsi.as_str().len() % 2 == 1 { '9' } else { '1' };
        let mut digits = swapped(&format!("{kind}{imsi}"));
        let length = u8::try_from(digits.len()).unwrap_or(u8::MAX);
        digits.insert(0, length);
        Self {
            imsi: digits,
            iccid: swapped(iccid.as_str()),
        }
    }

    pub(super) fn of(&self, file: File) -> Vec<u8> {
        match file {
            File::Dir => {
                let mut inside = vec![0x4f, 16];
                inside.extend(AID);
                inside.extend([0x50, 4]);
                inside.extend(LABEL);
                let length = u8::try_from(inside.len()).unwrap_or(u8::MAX);
                [vec![0x61, length], inside].concat()
            }
            File::IccId => self.iccid.clone(),
            File::Imsi => self.imsi.clone(),
            // Normal operation, and network codes of two digits.
            File::Ad => vec![0, 0, 0, 2],
        }
    }
}

/// Two digits a byte, the first in the low half; a missing last one is F.
fn swapped(digits: &str) -> Vec<u8> {
    let value = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
            .unwrap_or(0xf)
    };
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [low, high] => value(*high) << 4 | value(*low),
            [low] => 0xf0 | value(*low),
            _ => 0xff,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_their_digits_swapped() {
        let c = Contents::new(&"295012345678901".parse().unwrap(), &Iccid::default());
        assert_eq!(c.of(File::Imsi), [0x08, 0x29, 0x59, 0x10, 0x32, 0x54, 0x76, 0x98, 0x10]);
        assert_eq!(
            c.of(File::IccId),
            [0x98, 0x24, 0x13, 0x00, 0x22, 0x00, 0x00, 0x21, 0x43, 0xf5]
        );
        let c = Contents::new(&"29501234567890".parse().unwrap(), &Iccid::default());
        assert_eq!(c.of(File::Imsi), [0x08, 0x21, 0x59, 0x10, 0x32, 0x54, 0x76, 0x98, 0xf0]);
    }

    #[test]
    fn sizes_are_those_of_the_logs() {
        assert_eq!(Directory::Usim.parameters().len(), 0x3a);
        let c = Contents::new(&Imsi::default(), &Iccid::default());
        let record = c.of(File::Dir);
        assert_eq!((record.len(), &record[..4]), (0x1a, &[0x61, 0x18, 0x4f, 0x10][..]));
        assert_eq!(File::Dir.parameters(record.len()).len(), 0x21);
        for bytes in [Directory::Mf.parameters(), File::Imsi.parameters(9)] {
            assert_eq!(usize::from(bytes[1]), bytes.len() - 2);
        }
    }
}
