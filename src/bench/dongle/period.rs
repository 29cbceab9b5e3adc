//! A length of time as people write it on a command line or in a scenario: `1500ms`, `2s`, `1m 30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// The longest period accepted: a year. Keeps every sum of periods far from overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A length of time, never negative and at most a year.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Period(Duration);

impl Period {
    /// A period of whole milliseconds, cut off at a year.
    pub const fn from_millis(ms: u64) -> Self {
        let longest = LONGEST.as_millis() as u64;
        Self(Duration::from_millis(if ms > longest { longest } else { ms }))
    }

    /// The period as the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// Why a text is no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a length of time: write a number with a unit, such as 1500ms, 2s or 1m (at most a year)")]
pub struct PeriodError {
    text: String,
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let wrong = || PeriodError { text: text.to_owned() };
        let signed: jiff::SignedDuration = text.trim().parse().map_err(|_| wrong())?;
        let duration = Duration::try_from(signed).map_err(|_| wrong())?;
        if duration > LONGEST {
            return Err(wrong());
        }
        Ok(Self(duration))
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("1500ms", 1500),
            ("2s", 2000),
            ("0s", 0),
            ("1m 30s", 90_000),
            (" 1h ", 3_600_000),
        ] {
            assert_eq!(text.parse::<Period>(), Ok(Period::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "5", "-2s", "soon", "9000000h", "2 s x"] {
            let error = text.parse::<Period>().unwrap_err().to_string();
            assert!(error.contains("1500ms"), "{error}");
        }
    }
}
