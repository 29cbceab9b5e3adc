//! The card, spoken to in its own language: logical channels (`AT+CCHO`, `AT+CGLA`, `AT+CCHC`; 3GPP TS 27.007 sections 8.43 to 8.46), the
//! basic channel (`AT+CSIM`, section 8.17) and the list of applications (`AT+CUAD`, section 8.47).
//!
//! Quectel promises an answer within 300 ms, but that is the modem's part: the card computes, and USIM toolkit traffic goes first.
//! So all of them may take [`CARD_MAX`]. What goes to the card and comes back is never shown: RES, CK and IK are in it. Of a command
//! the log has the first four bytes (class, instruction, parameters), of an answer nothing.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::digest::hex;
use crate::modem::urc::Expect;
use crate::modem::usim::AkaError;
use crate::modem::usim::apdu::{self, Bytes};

use super::{Command, ParseError, bare_digits};

/// How long the card may take (facts of other clients: at least 5 s).
const CARD_MAX: Duration = Duration::from_secs(5);
/// Class, instruction, P1 and P2, in hexadecimal digits.
const HEADER_DIGITS: usize = 8;

/// The session number of a logical channel, as `AT+CCHO` gave it; never 0, which is the basic channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel(u8);

impl Channel {
    /// The channels that a card without extended logical channels has (ETSI TS 102 221 section 8.7), besides the basic one.
    pub const STANDARD: [Self; 3] = [Self(1), Self(2), Self(3)];
}

/// `AT+CCHO`: opens a logical channel and selects the application on it.
#[derive(Debug, Clone, Copy)]
pub struct OpenChannel<'a>(
    /// The application's identifier, or its beginning.
    pub &'a [u8],
);

impl Command for OpenChannel<'_> {
    type Answer = Channel;
    fn line(&self) -> String {
        format!("AT+CCHO=\"{}\"", hex(self.0))
    }
    /// Quectel's manual has `1` in its text and `+CCHO: 1` in its example.
    fn expect(&self) -> Expect {
        Expect::Bare("+CCHO:")
    }
    fn max_response(&self) -> Duration {
        CARD_MAX
    }
    fn parse(&self, lines: &[String]) -> Result<Channel, ParseError> {
        let number = bare_digits("+CCHO:", lines).and_then(|digits| digits.parse().ok());
        number.filter(|n| *n > 0).map(Channel).ok_or(ParseError)
    }
    /// An application's identifier is no secret, but the filter for subscribers' numbers would hide half of it.
    fn shown(&self) -> String {
        self.line()
    }
}

/// `AT+CCHC`: closes a logical channel.
#[derive(Debug, Clone, Copy)]
pub struct CloseChannel(pub Channel);

impl Command for CloseChannel {
    type Answer = ();
    fn line(&self) -> String {
        format!("AT+CCHC={}", self.0.0)
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+CCHC")
    }
    fn max_response(&self) -> Duration {
        CARD_MAX
    }
    fn parse(&self, _: &[String]) -> Result<(), ParseError> {
        Ok(())
    }
}

/// Where a command for the card goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `AT+CGLA`, on a channel of our own.
    Channel(Channel),
    /// `AT+CSIM`, on the basic channel, which the modem uses, too.
    Basic,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Channel(_) => "+CGLA",
            Self::Basic => "+CSIM",
        }
    }
}

/// `AT+CGLA` or `AT+CSIM`: one command to the card and its answer.
#[derive(Clone, Copy)]
pub struct Transmit<'a> {
    /// Where to.
    pub way: Way,
    /// The command APDU.
    pub apdu: &'a [u8],
}

impl Transmit<'_> {
    fn with(&self, digits: &str) -> String {
        let name = self.way.name();
        let length = self.apdu.len() * 2;
        match self.way {
            Way::Channel(channel) => format!("AT{name}={},{length},\"{digits}\"", channel.0),
            Way::Basic => format!("AT{name}={length},\"{digits}\""),
        }
    }
}

impl Command for Transmit<'_> {
    /// The card's bytes with their status word at the end, or what is wrong with the line that should hold them.
    type Answer = Result<Bytes, AkaError>;
    fn line(&self) -> String {
        self.with(&Zeroizing::new(hex(self.apdu)))
    }
    fn expect(&self) -> Expect {
        Expect::Prefix(match self.way {
            Way::Channel(_) => "+CGLA:",
            Way::Basic => "+CSIM:",
        })
    }
    fn max_response(&self) -> Duration {
        CARD_MAX
    }
    fn parse(&self, lines: &[String]) -> Result<Self::Answer, ParseError> {
        let line = lines
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix(self.way.name())?.strip_prefix(':'));
        line.map(apdu::decode).ok_or(ParseError)
    }
    fn shown(&self) -> String {
        let mut header = hex(self.apdu);
        header.truncate(HEADER_DIGITS);
        self.with(&format!("{header}…"))
    }
    fn answer_is_secret(&self) -> bool {
        true
    }
}

/// `AT+CUAD`: the records of EF_DIR, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applications;

impl Command for Applications {
    type Answer = Vec<u8>;
    fn line(&self) -> String {
        "AT+CUAD".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+CUAD:")
    }
    fn max_response(&self) -> Duration {
        CARD_MAX
    }
    fn parse(&self, lines: &[String]) -> Result<Vec<u8>, ParseError> {
        let fields = crate::modem::fields::Fields::behind("+CUAD:", lines).ok_or(ParseError)?;
        let last = fields.count().checked_sub(1).and_then(|last| fields.text(last));
        last.and_then(crate::digest::unhex).ok_or(ParseError)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    #[test]
    fn both_forms_of_a_channel_number() {
        let open = OpenChannel(&[0xA0, 0, 0, 0, 0x87, 0x10, 0x02]);
        assert_eq!(open.line(), "AT+CCHO=\"A0000000871002\"");
        for answer in ["+CCHO: 1", "1", "+CCHO:1", "+CCHO: \"1\"", "x|1"] {
            assert_eq!(open.parse(&lines(answer)), Ok(Channel(1)), "{answer}");
        }
        for answer in [
            "",
            "+CCHO:",
            "0",
            "+CCHO: 0",
            "256",
            "-1",
            "one",
            "99999999999999999999",
        ] {
            assert_eq!(open.parse(&lines(answer)), Err(ParseError), "{answer}");
        }
        assert_eq!(CloseChannel(Channel(3)).line(), "AT+CCHC=3");
    }

    #[test]
    fn commands_to_the_card_and_what_is_shown_of_them() {
        let apdu = [0x00, 0x88, 0x00, 0x81, 0x01, 0xAB];
        let on = |way| Transmit { way, apdu: &apdu };
        let (logical, basic) = (on(Way::Channel(Channel(2))), on(Way::Basic));
        assert_eq!(logical.line(), "AT+CGLA=2,12,\"0088008101AB\"");
        assert_eq!(basic.line(), "AT+CSIM=12,\"0088008101AB\"");
        assert_eq!(logical.shown(), "AT+CGLA=2,12,\"00880081…\"");
        assert_eq!(basic.shown(), "AT+CSIM=12,\"00880081…\"");
        assert!(basic.answer_is_secret() && logical.answer_is_secret());
        let answer = logical.parse(&lines("+CGLA: 4,\"6135\"")).unwrap();
        assert_eq!(*answer.unwrap(), [0x61, 0x35]);
        assert!(logical.parse(&lines("+CSIM: 4,\"6135\"")).is_err());
        assert!(matches!(
            logical.parse(&lines("+CGLA: 6,\"6135\"")).unwrap(),
            Err(AkaError::Nonsense(_))
        ));
    }

    #[test]
    fn the_list_of_applications() {
        let parse = |text: &str| Applications.parse(&lines(text));
        let list = [0x61, 0x09, 0x4F, 0x07, 0xA0, 0, 0, 0, 0x87, 0x10, 0x02];
        assert_eq!(parse("+CUAD: 22,\"61094F07A0000000871002\"").unwrap(), list);
        assert_eq!(parse("+CUAD: \"61094F07A0000000871002\"").unwrap(), list);
        for bad in ["", "+CUAD:", "+CUAD: 1,\"6\"", "+CUAD: 2,\"XY\""] {
            assert_eq!(parse(bad), Err(ParseError), "{bad}");
        }
    }
}
