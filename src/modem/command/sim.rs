//! The SIM: is it there, does it want its PIN, who is it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::identity::{Iccid, Imsi};
use crate::modem::fields::Fields;
use crate::modem::urc::Expect;

use super::{Command, ParseError, bare_digits};

/// `AT+CPIN`: maximum response time 5 s.
const CPIN_MAX: Duration = Duration::from_secs(5);

/// A SIM's PIN: 4 to 8 digits (3GPP TS 31.101 section 9.5.1). Never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Pin(String);

/// The text is no PIN (and is not repeated here).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SIM PIN has 4 to 8 digits and nothing else")]
pub struct PinError;

impl FromStr for Pin {
    type Err = PinError;
    fn from_str(text: &str) -> Result<Self, PinError> {
        let ok = (4..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        ok.then(|| Self(text.to_owned())).ok_or(PinError)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(****)")
    }
}

/// What `AT+CPIN?` says when it does not refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lock {
    /// `READY`.
    Ready,
    /// `SIM PIN`.
    Pin,
    /// `SIM PUK`.
    Puk,
    /// `NOT INSERTED`.
    NotInserted,
    /// `NOT READY`: still starting.
    NotReady,
    /// A lock this program has no key for (`PH-NET PIN`, `SIM PIN2`, …).
    Other(String),
}

/// `AT+CPIN?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLock;

impl Command for ReadLock {
    type Answer = Lock;
    fn line(&self) -> String {
        "AT+CPIN?".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+CPIN:")
    }
    fn max_response(&self) -> Duration {
        CPIN_MAX
    }
    fn parse(&self, lines: &[String]) -> Result<Lock, ParseError> {
        let fields = Fields::behind("+CPIN:", lines).ok_or(ParseError)?;
        Ok(match fields.text(0).ok_or(ParseError)? {
            "READY" => Lock::Ready,
            "SIM PIN" => Lock::Pin,
            "SIM PUK" => Lock::Puk,
            "NOT INSERTED" => Lock::NotInserted,
            "NOT READY" => Lock::NotReady,
            other => Lock::Other(other.to_owned()),
        })
    }
}

/// `AT+CPIN="…"`.
#[derive(Debug, Clone, Copy)]
pub struct EnterPin<'a>(pub &'a Pin);

impl Command for EnterPin<'_> {
    type Answer = ();
    fn line(&self) -> String {
        format!("AT+CPIN=\"{}\"", self.0.0)
    }
    fn expect(&self) -> Expect {
        Expect::Nothing
    }
    fn max_response(&self) -> Duration {
        CPIN_MAX
    }
    fn parse(&self, _: &[String]) -> Result<(), ParseError> {
        Ok(())
    }
    fn shown(&self) -> String {
        "AT+CPIN=\"****\"".to_owned()
    }
}

/// `AT+QPINC?`: how many wrong PINs the card still takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinRetries;

impl Command for PinRetries {
    type Answer = u8;
    fn line(&self) -> String {
        "AT+QPINC?".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+QPINC:")
    }
    fn max_response(&self) -> Duration {
        CPIN_MAX
    }
    fn parse(&self, lines: &[String]) -> Result<u8, ParseError> {
        // One line per facility: "SC" is the SIM's PIN, "P2" the second one.
        lines
            .iter()
            .filter_map(|l| l.strip_prefix("+QPINC:").map(Fields::of))
            .find(|f| f.text(0) == Some("SC"))
            .and_then(|f| f.number(1))
            .ok_or(ParseError)
    }
}

/// `AT+CIMI`: the IMSI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriberIdentity;

impl Command for SubscriberIdentity {
    type Answer = Imsi;
    fn line(&self) -> String {
        "AT+CIMI".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Bare("+CIMI:")
    }
    fn parse(&self, lines: &[String]) -> Result<Imsi, ParseError> {
        bare_digits("+CIMI:", lines)
            .ok_or(ParseError)?
            .parse()
            .map_err(|_| ParseError)
    }
}

/// `AT+QCCID`: the card's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardNumber;

impl Command for CardNumber {
    type Answer = Iccid;
    fn line(&self) -> String {
        "AT+QCCID".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+QCCID:")
    }
    fn parse(&self, lines: &[String]) -> Result<Iccid, ParseError> {
        let fields = Fields::behind("+QCCID:", lines).ok_or(ParseError)?;
        fields.text(0).ok_or(ParseError)?.parse().map_err(|_| ParseError)
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
    fn pins_are_checked_and_never_shown() {
        let pin: Pin = "12345".parse().unwrap();
        assert_eq!(format!("{pin:?}"), "Pin(****)");
        assert_eq!(EnterPin(&pin).line(), "AT+CPIN=\"12345\"");
        assert!(!EnterPin(&pin).shown().contains("12345"));
        for bad in ["", "123", "123456789", "12a4", "１２３４", "12\r4"] {
            assert_eq!(bad.parse::<Pin>(), Err(PinError), "{bad:?}");
        }
    }

    #[test]
    fn locks() {
        for (answer, want) in [
            ("+CPIN: READY", Lock::Ready),
            ("+CPIN: SIM PIN", Lock::Pin),
            ("+CPIN: SIM PUK", Lock::Puk),
            ("+CPIN: NOT READY|+CPIN: READY", Lock::Ready),
            ("+CPIN: PH-NET PIN", Lock::Other("PH-NET PIN".into())),
        ] {
            assert_eq!(ReadLock.parse(&lines(answer)), Ok(want), "{answer}");
        }
        assert_eq!(
            PinRetries.parse(&lines("+QPINC: \"P2\",0,10|+QPINC: \"SC\",3,10")),
            Ok(3)
        );
        assert_eq!(PinRetries.parse(&lines("+QPINC: \"P2\",0,10")), Err(ParseError));
    }

    #[test]
    fn numbers() {
        assert_eq!(
            SubscriberIdentity.parse(&lines("295050000000001")).unwrap().as_str(),
            "295050000000001"
        );
        assert_eq!(SubscriberIdentity.parse(&lines("no")), Err(ParseError));
        for answer in ["+QCCID: 8981100000000000001F", "+QCCID: \"8981100000000000001\""] {
            assert_eq!(
                CardNumber.parse(&lines(answer)).unwrap().as_str(),
                "8981100000000000001"
            );
        }
        assert_eq!(CardNumber.parse(&lines("+QCCID: -")), Err(ParseError));
    }
}
