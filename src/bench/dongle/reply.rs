//! What a command gives back, and how it looks on the wire.
//!
//! With `ATV1` (the factory setting) information is `CR LF text CR LF` and the result `CR LF OK CR LF`; with `ATV0` information is
//! `text CR LF` and the result a number and CR. An error of the mobile equipment has three forms, chosen by `AT+CMEE`: plain `ERROR` (0),
//! a number (1, the factory setting) or a text (2). Texts are those of 3GPP TS 27.007 section 9.2 and TS 27.005 section 3.2.5.

use super::scenario::CmeForm;

/// The end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Final {
    Ok,
    Error,
    NoCarrier,
    /// `+CME ERROR`, by its number.
    Cme(u16),
}

/// What happens when the answer is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The card took its PIN or PUK.
    SimUnlocked,
    /// The card lost its power.
    SimOff,
    /// The modem starts again.
    Reboot,
    /// The modem takes its leave.
    PowerDown,
    /// The card has its power back and starts again.
    SimRestart,
}

/// A command's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) lines: Vec<String>,
    pub(super) result: Final,
    pub(super) after: Vec<After>,
}

impl Reply {
    pub(super) fn ok() -> Self {
        Self::end(Final::Ok)
    }

    pub(super) fn error() -> Self {
        Self::end(Final::Error)
    }

    pub(super) fn cme(code: u16) -> Self {
        Self::end(Final::Cme(code))
    }

    pub(super) fn end(result: Final) -> Self {
        Self {
            lines: Vec::new(),
            result,
            after: Vec::new(),
        }
    }

    /// One line and OK.
    pub(super) fn line(line: impl Into<String>) -> Self {
        Self::lines([line.into()])
    }

    /// Lines and OK.
    pub(super) fn lines(lines: impl IntoIterator<Item = String>) -> Self {
        Self {
            lines: lines.into_iter().collect(),
            result: Final::Ok,
            after: Vec::new(),
        }
    }

    pub(super) fn then(mut self, after: After) -> Self {
        self.after.push(after);
        self
    }
}

impl From<Result<Reply, u16>> for Reply {
    fn from(result: Result<Reply, u16>) -> Self {
        result.unwrap_or_else(Reply::cme)
    }
}

/// Information text as it goes out.
pub(super) fn info(lines: &[String], verbose: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if lines.is_empty() {
        return out;
    }
    if verbose {
        out.extend_from_slice(b"\r\n");
    }
    for line in lines {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A result as it goes out.
pub(super) fn result(result: Final, verbose: bool, cmee: u8, form: CmeForm) -> Vec<u8> {
    let text = match (result, form, cmee) {
        (Final::Ok, ..) if verbose => "OK".to_owned(),
        (Final::Error, ..) | (Final::Cme(_), CmeForm::AsSet, 0) if verbose => "ERROR".to_owned(),
        (Final::NoCarrier, ..) if verbose => "NO CARRIER".to_owned(),
        // V.250 table 3.
        (Final::Ok, ..) => return b"0\r".to_vec(),
        (Final::Error, ..) | (Final::Cme(_), CmeForm::AsSet, 0) => return b"4\r".to_vec(),
        (Final::NoCarrier, ..) => return b"3\r".to_vec(),
        (Final::Cme(code), CmeForm::Text, _) | (Final::Cme(code), CmeForm::AsSet, 2) => {
            format!("+CME ERROR: {}", cme_text(code))
        }
        (Final::Cme(code), ..) => format!("+CME ERROR: {code}"),
    };
    format!("\r\n{text}\r\n").into_bytes()
}

/// An unsolicited line as it goes out.
pub(super) fn urc(text: &str) -> Vec<u8> {
    format!("\r\n{text}\r\n").into_bytes()
}

fn cme_text(code: u16) -> &'static str {
    match code {
        3 => "operation not allowed",
        4 => "operation not supported",
        10 => "SIM not inserted",
        11 => "SIM PIN required",
        12 => "SIM PUK required",
        13 => "SIM failure",
        14 => "SIM busy",
        15 => "SIM wrong",
        16 => "incorrect password",
        21 => "invalid index",
        30 => "no network service",
        50 => "incorrect parameters",
        148 => "unspecified GPRS error",
        _ => "unknown error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cme_forms_and_plain_error() {
        let wire = |cmee, form| String::from_utf8_lossy(&result(Final::Cme(10), true, cmee, form)).into_owned();
        assert_eq!(wire(0, CmeForm::AsSet), "\r\nERROR\r\n");
        assert_eq!(wire(1, CmeForm::AsSet), "\r\n+CME ERROR: 10\r\n");
        assert_eq!(wire(2, CmeForm::AsSet), "\r\n+CME ERROR: SIM not inserted\r\n");
        assert_eq!(wire(0, CmeForm::Numeric), "\r\n+CME ERROR: 10\r\n");
        assert_eq!(wire(2, CmeForm::Numeric), "\r\n+CME ERROR: 10\r\n");
        assert_eq!(wire(1, CmeForm::Text), "\r\n+CME ERROR: SIM not inserted\r\n");
    }

    #[test]
    fn numbers_for_results_after_v0() {
        let wire = |end| result(end, false, 1, CmeForm::AsSet);
        assert_eq!(wire(Final::Ok), b"0\r");
        assert_eq!(wire(Final::Error), b"4\r");
        assert_eq!(wire(Final::NoCarrier), b"3\r");
        assert_eq!(info(&["+CSQ: 1,2".to_owned()], false), b"+CSQ: 1,2\r\n");
    }
}
