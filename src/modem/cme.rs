//! Why the modem refused a command: `+CME ERROR`, `+CMS ERROR`, `ERROR`, as number or text, in one type.
//!
//! The factory setting is numbers (`+CMEE=1`), we set text (`+CMEE=2`), and an earlier program may have left anything, so all forms
//! are read. Numbers and texts: 3GPP TS 27.007 section 9.2 and TS 27.005 section 3.2.5 (`+CGSN` of Quectel answers in the `+CMS` form).

use super::at::Final;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CmeError {
    /// 3.
    NotAllowed,
    /// 4, or `COMMAND NOT SUPPORT`.
    NotSupported,
    /// 10.
    SimAbsent,
    /// 11.
    PinRequired,
    /// 12.
    PukRequired,
    /// 13; also the answer while `CFUN=0`.
    SimFailure,
    /// 14: still starting.
    SimBusy,
    /// 15.
    SimWrong,
    /// 16: the PIN is wrong.
    IncorrectPassword,
    /// 17.
    Pin2Required,
    /// 18.
    Puk2Required,
    /// 30.
    NoNetworkService,
    /// 31.
    NetworkTimeout,
    /// 32.
    EmergencyOnly,
    /// Another `+CME ERROR` number.
    Cme(u16),
    /// Another `+CMS ERROR` number.
    Cms(u16),
    /// A text nobody knows.
    Text(String),
    /// `ERROR` without a cause: usually a command this firmware does not know.
    Plain,
    /// `NO CARRIER`, `BUSY`, `NO ANSWER`, `NO DIALTONE` or `CONNECT`, none of which belongs to the commands sent here.
    Unexpected(&'static str),
}

/// Number, text of TS 27.007, meaning.
const KNOWN: [(u16, &str, CmeError); 14] = [
    (3, "operation not allowed", CmeError::NotAllowed),
    (4, "operation not supported", CmeError::NotSupported),
    (10, "SIM not inserted", CmeError::SimAbsent),
    (11, "SIM PIN required", CmeError::PinRequired),
    (12, "SIM PUK required", CmeError::PukRequired),
    (13, "SIM failure", CmeError::SimFailure),
    (14, "SIM busy", CmeError::SimBusy),
    (15, "SIM wrong", CmeError::SimWrong),
    (16, "incorrect password", CmeError::IncorrectPassword),
    (17, "SIM PIN2 required", CmeError::Pin2Required),
    (18, "SIM PUK2 required", CmeError::Puk2Required),
    (30, "no network service", CmeError::NoNetworkService),
    (31, "network timeout", CmeError::NetworkTimeout),
    (
        32,
        "network not allowed - emergency calls only",
        CmeError::EmergencyOnly,
    ),
];

impl CmeError {
    /// The refusal that a result code is; `None` for `OK`.
    #[must_use]
    pub fn of(code: &Final) -> Option<Self> {
        Some(match code {
            Final::Ok => return None,
            Final::Cme(cause) => Self::from_cause(cause, Self::from_cme_number),
            Final::Cms(cause) => Self::from_cause(cause, Self::from_cms_number),
            Final::Error => Self::Plain,
            Final::NotSupported => Self::NotSupported,
            Final::NoCarrier => Self::Unexpected("NO CARRIER"),
            Final::Busy => Self::Unexpected("BUSY"),
            Final::NoAnswer => Self::Unexpected("NO ANSWER"),
            Final::NoDialtone => Self::Unexpected("NO DIALTONE"),
            Final::Connect(_) => Self::Unexpected("CONNECT"),
        })
    }

    fn from_cause(cause: &str, number: fn(u16) -> Self) -> Self {
        if let Ok(n) = cause.parse() {
            return number(n);
        }
        KNOWN
            .iter()
            .find(|(_, text, _)| text.eq_ignore_ascii_case(cause))
            .map_or_else(|| Self::Text(cause.to_owned()), |(_, _, error)| error.clone())
    }

    fn from_cme_number(n: u16) -> Self {
        KNOWN
            .iter()
            .find(|(known, ..)| *known == n)
            .map_or(Self::Cme(n), |(_, _, error)| error.clone())
    }

    fn from_cms_number(n: u16) -> Self {
        match n {
            302 => Self::NotAllowed,
            303 => Self::NotSupported,
            310 => Self::SimAbsent,
            311 => Self::PinRequired,
            313 => Self::SimFailure,
            314 => Self::SimBusy,
            315 => Self::SimWrong,
            316 => Self::PukRequired,
            317 => Self::Pin2Required,
            318 => Self::Puk2Required,
            331 => Self::NoNetworkService,
            332 => Self::NetworkTimeout,
            _ => Self::Cms(n),
        }
    }

    /// Whether asking again in a moment can help without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::SimBusy | Self::NetworkTimeout | Self::NoNetworkService)
    }
}

impl std::fmt::Display for CmeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cme(n) => write!(f, "CME error {n}"),
            Self::Cms(n) => write!(f, "CMS error {n}"),
            Self::Text(text) if text.is_empty() => f.write_str("an error without a cause"),
            Self::Text(text) => f.write_str(text),
            Self::Plain => f.write_str("ERROR without a cause"),
            Self::Unexpected(code) => f.write_str(code),
            known => f.write_str(
                KNOWN
                    .iter()
                    .find(|(_, _, error)| error == known)
                    .map_or("error", |(_, text, _)| text),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn number_and_text_mean_the_same() {
        for (number, text, error) in KNOWN {
            assert_eq!(CmeError::of(&Final::Cme(number.to_string())), Some(error.clone()));
            assert_eq!(CmeError::of(&Final::Cme(text.to_uppercase())), Some(error.clone()));
            assert_eq!(error.to_string(), text);
        }
        assert_eq!(CmeError::of(&Final::Cms("310".into())), Some(CmeError::SimAbsent));
        assert_eq!(CmeError::of(&Final::Cme("148".into())), Some(CmeError::Cme(148)));
        assert_eq!(
            CmeError::of(&Final::Cme("raspberry".into())),
            Some(CmeError::Text("raspberry".into()))
        );
        assert_eq!(
            CmeError::of(&Final::Cme(String::new())).unwrap().to_string(),
            "an error without a cause"
        );
        assert_eq!(CmeError::of(&Final::Ok), None);
        assert_eq!(CmeError::of(&Final::Error), Some(CmeError::Plain));
    }
}
