//! Who the simulated dongle and its card are. Each number is checked once, when it is read.

use std::fmt;
use std::str::FromStr;

/// Why a text is no such number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not {what}: it must be {rule}")]
pub struct IdentityError {
    what: &'static str,
    rule: &'static str,
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $default:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// The number as the modem prints it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, IdentityError> {
                let check: fn(&str) -> Option<String> = $check;
                check(text).map(Self).ok_or(IdentityError { what: $what, rule: $rule })
            }
        }
    };
}

number!(
    /// The subscriber's number on the card (ITU-T E.212). SORACOM's global cards begin with 29501 or 29505.
    Imsi, "an IMSI", "14 or 15 digits", "295012345678901",
    |text| ((14..=15).contains(&text.len()) && all_digits(text)).then(|| text.to_owned())
);
number!(
    /// The modem's number. The simulator does not ask for a right Luhn digit: a bench has bad units, too.
    Imei, "an IMEI", "15 digits", "123456789011111",
    |text| (text.len() == 15 && all_digits(text)).then(|| text.to_owned())
);
number!(
    /// The card's number; one of 19 digits is filled up with an `F`, as `AT+QCCID` prints it.
    Iccid, "an ICCID", "19 digits (with or without the filler F) or 20 digits", "8942310022000012345F",
    |text| {
        let digits = text.strip_suffix(['F', 'f']).unwrap_or(text);
        match (digits.len(), text.len()) {
            _ if !all_digits(digits) => None,
            (19, _) => Some(format!("{digits}F")),
            (20, 20) => Some(digits.to_owned()),
            _ => None,
        }
    }
);
number!(
    /// The network's code, country and network in one.
    Plmn, "a PLMN", "5 or 6 digits (country and network code)", "44010",
    |text| ((5..=6).contains(&text.len()) && all_digits(text)).then(|| text.to_owned())
);

impl Plmn {
    /// Country code and network code, as `AT+QENG` prints them apart.
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_at(3)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn numbers_are_checked() {
        assert!("295012345678901".parse::<Imsi>().is_ok());
        assert!("29501234567890a".parse::<Imsi>().is_err());
        assert!("1234".parse::<Imei>().is_err());
        for text in ["8942310022000012345", "8942310022000012345f", "8942310022000012345F"] {
            assert_eq!(text.parse::<Iccid>().unwrap().as_str(), "8942310022000012345F");
        }
        assert_eq!(
            "89423100220000123456".parse::<Iccid>().unwrap().as_str(),
            "89423100220000123456"
        );
        assert!("89423100220000123456F".parse::<Iccid>().is_err());
        assert_eq!("44010".parse::<Plmn>().unwrap().parts(), ("440", "10"));
        assert!("440".parse::<Plmn>().is_err());
    }

    #[test]
    fn defaults_are_right_themselves() {
        assert!(Imsi::default().as_str().parse::<Imsi>().is_ok());
        assert!(Imei::default().as_str().parse::<Imei>().is_ok());
        assert!(Iccid::default().as_str().parse::<Iccid>().is_ok());
        assert!(Plmn::default().as_str().parse::<Plmn>().is_ok());
    }
}
