//! The network: registration, operator, signal, and why it did not work.

use std::time::Duration;

use crate::modem::eg25::{self, ServingCell};
use crate::modem::fields::Fields;
use crate::modem::registration::{Domain, Registration, Technology};
use crate::modem::urc::Expect;

use super::{Command, ParseError, plain};

/// `AT+COPS?`: maximum response time 180 s.
const COPS_MAX: Duration = Duration::from_secs(180);

plain!(
    /// `AT+CEREG=2`: tell changes of registration, with area and cell.
    AnnounceRegistration => "AT+CEREG=2"
);

/// `AT+CEREG?`, `AT+CGREG?` or `AT+CREG?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRegistration(pub Domain);

impl Command for ReadRegistration {
    type Answer = Registration;
    fn line(&self) -> String {
        format!("AT{}?", self.0.prefix())
    }
    fn expect(&self) -> Expect {
        Expect::Registration(self.0)
    }
    fn parse(&self, lines: &[String]) -> Result<Registration, ParseError> {
        lines
            .iter()
            .rev()
            .find_map(|l| l.strip_prefix(self.0.prefix())?.strip_prefix(':'))
            .and_then(|rest| Registration::from_read(&Fields::of(rest)))
            .ok_or(ParseError)
    }
}

/// The network we are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Its name, or its number if the modem knows no name.
    pub name: String,
    /// Radio technology.
    pub technology: Option<Technology>,
}

/// `AT+COPS?`; `None` while not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOperator;

impl Command for ReadOperator {
    type Answer = Option<Operator>;
    fn line(&self) -> String {
        "AT+COPS?".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+COPS:")
    }
    fn max_response(&self) -> Duration {
        COPS_MAX
    }
    fn parse(&self, lines: &[String]) -> Result<Option<Operator>, ParseError> {
        let f = Fields::behind("+COPS:", lines).ok_or(ParseError)?;
        f.number::<u8>(0).ok_or(ParseError)?;
        Ok(f.text(2).map(|name| Operator {
            name: eg25::operator_name(name).to_owned(),
            technology: f.number(3).and_then(Technology::from_act),
        }))
    }
}

/// `AT+QENG="servingcell"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadServingCell;

impl Command for ReadServingCell {
    type Answer = ServingCell;
    fn line(&self) -> String {
        "AT+QENG=\"servingcell\"".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+QENG:")
    }
    fn parse(&self, lines: &[String]) -> Result<ServingCell, ParseError> {
        ServingCell::parse(lines).ok_or(ParseError)
    }
}

/// `AT+CSQ`: received signal strength in dBm; `None` if the modem does not know (99).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalQuality;

impl Command for SignalQuality {
    type Answer = Option<i16>;
    fn line(&self) -> String {
        "AT+CSQ".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+CSQ:")
    }
    fn parse(&self, lines: &[String]) -> Result<Option<i16>, ParseError> {
        match Fields::behind("+CSQ:", lines).and_then(|f| f.number::<i16>(0)) {
            // 3GPP TS 27.007 section 8.5: 0 is -113 dBm or less, each step 2 dB; 100 to 191 are TD-SCDMA's, -216 + n.
            Some(n @ 0..=31) => Ok(Some(2 * n - 113)),
            Some(n @ 100..=191) => Ok(Some(n - 216)),
            Some(99 | 199) => Ok(None),
            _ => Err(ParseError),
        }
    }
}

/// `AT+CEER`: why the last call or activation failed, in the modem's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFailure;

impl Command for LastFailure {
    type Answer = String;
    fn line(&self) -> String {
        "AT+CEER".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+CEER:")
    }
    fn parse(&self, lines: &[String]) -> Result<String, ParseError> {
        lines
            .iter()
            .rev()
            .find_map(|l| l.strip_prefix("+CEER:"))
            .map(|t| t.trim().to_owned())
            .ok_or(ParseError)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::modem::registration::RegStatus;

    fn one(line: &str) -> Vec<String> {
        vec![line.to_owned()]
    }

    #[test]
    fn registration() {
        let read = ReadRegistration(Domain::Eps);
        assert_eq!(read.line(), "AT+CEREG?");
        assert_eq!(
            read.parse(&one("+CEREG: 2,1,\"1E2F\",\"2B3C4D5\",7")).unwrap().status,
            RegStatus::Home
        );
        assert_eq!(read.parse(&one("+CEREG:0,5")).unwrap().status, RegStatus::Roaming);
        assert!(read.parse(&one("+CGREG: 0,5")).is_err());
        assert!(read.parse(&one("+CEREG: x")).is_err());
    }

    #[test]
    fn operators() {
        let o = ReadOperator
            .parse(&one("+COPS: 0,0,\"NTT DOCOMO\",7"))
            .unwrap()
            .unwrap();
        assert_eq!((o.name.as_str(), o.technology), ("NTT DOCOMO", Some(Technology::Lte)));
        let o = ReadOperator.parse(&one("+COPS: 1,2,\"44010\",7")).unwrap().unwrap();
        assert_eq!(o.name, "NTT DOCOMO");
        assert_eq!(ReadOperator.parse(&one("+COPS: 0")), Ok(None));
        assert!(ReadOperator.parse(&one("+COPS: ")).is_err());
    }

    #[test]
    fn signal() {
        for (answer, want) in [
            ("+CSQ: 21,99", Ok(Some(-71))),
            ("+CSQ: 30, 99", Ok(Some(-53))),
            ("+CSQ: 99,99", Ok(None)),
            ("+CSQ: 0,0", Ok(Some(-113))),
            ("+CSQ: 32,99", Err(ParseError)),
            ("+CSQ: ,", Err(ParseError)),
        ] {
            assert_eq!(SignalQuality.parse(&one(answer)), want, "{answer}");
        }
    }

    #[test]
    fn failures_are_the_modems_words() {
        assert_eq!(
            LastFailure.parse(&one("+CEER: EMM_DETACHED, IMSI unknown")).unwrap(),
            "EMM_DETACHED, IMSI unknown"
        );
    }
}
