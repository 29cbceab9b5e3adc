//! The modem itself: dialogue settings, name, firmware, serial number, radio on and off.

use std::time::Duration;

use crate::identity::Imei;
use crate::modem::eg25;
use crate::modem::fields::Fields;
use crate::modem::urc::Expect;

use super::{Command, ParseError, bare_digits, plain};

/// `AT+CFUN`: maximum response time 15 s.
const CFUN_MAX: Duration = Duration::from_secs(15);

plain!(
    /// `AT`: are you there?
    Attention => "AT"
);
plain!(
    /// `ATE0`: no echo from now on (not kept over a restart).
    EchoOff => "ATE0"
);
plain!(
    /// `AT+CMEE=2`: errors as text.
    VerboseErrors => "AT+CMEE=2"
);

/// `ATI`: who made it, what it is, its firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identification;

/// The answer to [`Identification`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// `Quectel`.
    pub manufacturer: String,
    /// `EG25-G`, as on the label.
    pub model: String,
    /// The revision, if the answer has one.
    pub revision: Option<String>,
}

impl Command for Identification {
    type Answer = Product;
    fn line(&self) -> String {
        "ATI".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Bare("Revision:")
    }
    fn parse(&self, lines: &[String]) -> Result<Product, ParseError> {
        let revision = lines
            .iter()
            .find_map(|l| l.strip_prefix("Revision:"))
            .map(|r| r.trim().to_owned());
        let mut names = lines.iter().filter(|l| !l.starts_with("Revision:"));
        match (names.next(), names.next()) {
            (Some(manufacturer), Some(model)) => Ok(Product {
                manufacturer: manufacturer.clone(),
                model: eg25::model_name(model).to_owned(),
                revision,
            }),
            _ => Err(ParseError),
        }
    }
}

/// `AT+QGMR`: the firmware with its sub-version, `EG25GGBR07A08M2G_30.203.30.203`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware;

impl Command for Firmware {
    type Answer = String;
    fn line(&self) -> String {
        "AT+QGMR".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Bare("+QGMR:")
    }
    fn parse(&self, lines: &[String]) -> Result<String, ParseError> {
        let line = lines.last().ok_or(ParseError)?;
        Ok(line.strip_prefix("+QGMR:").unwrap_or(line).trim().to_owned())
    }
}

/// `AT+CGSN`: the IMEI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SerialNumber;

impl Command for SerialNumber {
    type Answer = Imei;
    fn line(&self) -> String {
        "AT+CGSN".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Bare("+CGSN:")
    }
    fn parse(&self, lines: &[String]) -> Result<Imei, ParseError> {
        bare_digits("+CGSN:", lines)
            .ok_or(ParseError)?
            .parse()
            .map_err(|_| ParseError)
    }
}

/// How much of the modem is switched on (`<fun>` of `AT+CFUN`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Functionality {
    /// 0: radio and SIM off.
    Minimum,
    /// 1: everything.
    Full,
    /// 4: radio off, SIM stays.
    Airplane,
}

impl Functionality {
    fn number(self) -> u8 {
        match self {
            Self::Minimum => 0,
            Self::Full => 1,
            Self::Airplane => 4,
        }
    }
}

/// `AT+CFUN?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadFunctionality;

impl Command for ReadFunctionality {
    type Answer = Functionality;
    fn line(&self) -> String {
        "AT+CFUN?".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+CFUN:")
    }
    fn max_response(&self) -> Duration {
        CFUN_MAX
    }
    fn parse(&self, lines: &[String]) -> Result<Functionality, ParseError> {
        match Fields::behind("+CFUN:", lines).and_then(|f| f.number::<u8>(0)) {
            Some(0) => Ok(Functionality::Minimum),
            Some(1) => Ok(Functionality::Full),
            Some(4) => Ok(Functionality::Airplane),
            _ => Err(ParseError),
        }
    }
}

/// `AT+CFUN=n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetFunctionality(pub Functionality);

impl Command for SetFunctionality {
    type Answer = ();
    fn line(&self) -> String {
        format!("AT+CFUN={}", self.0.number())
    }
    fn expect(&self) -> Expect {
        Expect::Nothing
    }
    fn max_response(&self) -> Duration {
        CFUN_MAX
    }
    fn parse(&self, _: &[String]) -> Result<(), ParseError> {
        Ok(())
    }
}

/// `AT+CFUN=1,1`: the modem restarts after its `OK`, and leaves the USB bus while it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart;

impl Command for Restart {
    type Answer = ();
    fn line(&self) -> String {
        "AT+CFUN=1,1".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Nothing
    }
    fn max_response(&self) -> Duration {
        CFUN_MAX
    }
    fn parse(&self, _: &[String]) -> Result<(), ParseError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split('|').filter(|l| !l.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn who_it_is() {
        let p = Identification
            .parse(&lines("Quectel|EG25|Revision: EG25GGBR07A08M2G"))
            .unwrap();
        assert_eq!((p.manufacturer.as_str(), p.model.as_str()), ("Quectel", "EG25-G"));
        assert_eq!(p.revision.as_deref(), Some("EG25GGBR07A08M2G"));
        assert_eq!(Identification.parse(&lines("Quectel")), Err(ParseError));
        assert_eq!(
            Firmware.parse(&lines("EG25GGBR07A08M2G_30.203.30.203")).unwrap(),
            "EG25GGBR07A08M2G_30.203.30.203"
        );
        assert_eq!(Firmware.parse(&[]), Err(ParseError));
    }

    #[test]
    fn the_imei_in_all_its_forms() {
        for answer in [
            "860000000000001",
            "+CGSN: 860000000000001",
            "+CGSN: \"860000000000001\"",
            "860000000000001+CMTI: \"ME\",1",
            "junk|860000000000001",
        ] {
            assert_eq!(
                SerialNumber.parse(&lines(answer)).unwrap().as_str(),
                "860000000000001",
                "{answer}"
            );
        }
        for answer in ["", "86000000000000", "8600000000000012", "860000000000001x", "x"] {
            assert!(SerialNumber.parse(&lines(answer)).is_err(), "{answer}");
        }
    }

    #[test]
    fn radio() {
        assert_eq!(ReadFunctionality.parse(&lines("+CFUN: 4")), Ok(Functionality::Airplane));
        assert_eq!(ReadFunctionality.parse(&lines("+CFUN: 9")), Err(ParseError));
        assert_eq!(SetFunctionality(Functionality::Airplane).line(), "AT+CFUN=4");
        assert_eq!(Restart.timeout(), Duration::from_secs(17));
    }
}
