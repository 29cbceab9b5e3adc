//! HTTP answers, and what is taken out of them. No I/O.
//!
//! Nothing of an answer that may hold a key reaches a message: only answers that are not JSON objects are quoted, and of these the
//! beginning; of refusals, `code` and `message`; of what the JSON reader says, nothing that it quotes.

use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::KryptonError;
use super::refusal::Refusal;
use crate::identity::redact_digits;

/// Longest answer that is read, in bytes: three PEM texts are under 8 KiB.
pub const BODY_MAX: usize = 64 * 1024;
/// A service that wants to be left alone for longer than this is asked again after this time all the same.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Longest excerpt of an unexpected answer in a message, in characters.
const EXCERPT: usize = 80;
/// Longest text of a refusal in a message, in characters.
const MESSAGE_MAX: usize = 300;

/// An HTTP answer.
#[derive(Clone)]
pub struct Reply {
    /// HTTP status code.
    pub status: u16,
    /// `Retry-After`, at most [`RETRY_AFTER_MAX`].
    pub retry_after: Option<Duration>,
    /// The body, at most [`BODY_MAX`] bytes; overwritten when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply(HTTP {}, {} bytes)", self.status, self.body.len())
    }
}

#[derive(Deserialize)]
struct Problem {
    code: Option<String>,
    message: Option<String>,
}

/// What serde_json says, without what it quotes: a text in the wrong place may be a secret.
fn unquoted(text: &str) -> String {
    match (text.find('"'), text.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            let (before, after) = (text.get(..first), text.get(last + 1..));
            format!("{}…{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        _ => text.to_owned(),
    }
}

/// The beginning of a text that came from outside, on one line and without long numbers.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("PRIVATE KEY") {
        return "(a private key)".to_owned();
    }
    clean(&text, EXCERPT)
}

fn clean(text: &str, longest: usize) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(longest)
        .collect();
    redact_digits(text.trim())
}

impl Reply {
    /// Whether it begins as a JSON object does.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
    }

    /// Whether it has the shape of a refusal, whatever the status.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        serde_json::from_slice::<Problem>(&self.body).is_ok_and(|p| p.code.is_some() || p.message.is_some())
    }

    /// `{"code","message"}` in one line, or the beginning of what came instead.
    #[must_use]
    pub fn message(&self) -> String {
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(Problem { code, message }) if code.is_some() || message.is_some() => clean(
                &format!(
                    "{}: {}",
                    code.as_deref().unwrap_or("no code"),
                    message.as_deref().unwrap_or("no message")
                ),
                MESSAGE_MAX,
            ),
            _ if self.is_object() => "a JSON object without code and message".to_owned(),
            _ => excerpt(&self.body),
        }
    }

    /// What a success holds.
    ///
    /// # Errors
    /// [`KryptonError`], when it is none.
    pub fn good(&self) -> Result<&[u8], KryptonError> {
        let status = self.status;
        match status {
            200..=299 => Ok(&self.body),
            // No client of SORACOM's follows these, and a signed request is good for one address only.
            300..=399 => Err(KryptonError::Nonsense(format!(
                "it sends us to another address (HTTP {status})"
            ))),
            408 | 429 => Err(self.trouble()),
            400..=499 => Err(KryptonError::Refused(Refusal::read(status, self.message()))),
            _ => Err(self.trouble()),
        }
    }

    fn trouble(&self) -> KryptonError {
        KryptonError::Trouble {
            status: self.status,
            message: self.message(),
            after: self.retry_after,
        }
    }

    /// Takes the JSON out of a success.
    ///
    /// # Errors
    /// [`KryptonError`]: what the answer was instead.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, KryptonError> {
        let body = self.good()?;
        if !self.is_object() {
            return Err(KryptonError::Nonsense(if body.is_empty() {
                "it is empty".to_owned()
            } else {
                format!("it begins with {:?}", excerpt(body))
            }));
        }
        serde_json::from_slice(body).map_err(|e| {
            KryptonError::Nonsense(if e.is_eof() {
                format!("the JSON is cut off after {} bytes", body.len())
            } else {
                format!("the JSON does not fit: {}", redact_digits(&unquoted(&e.to_string())))
            })
        })
    }

    /// Takes a certificate out of a success: PEM text, not JSON.
    ///
    /// # Errors
    /// [`KryptonError`]: what the answer was instead.
    pub fn pem(&self) -> Result<String, KryptonError> {
        let body = self.good()?;
        if body.is_empty() {
            return Err(KryptonError::Nonsense("it is empty".to_owned()));
        }
        match std::str::from_utf8(body) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Ok(text.to_owned()),
            _ if self.is_object() => Err(KryptonError::Nonsense(
                "it is no PEM certificate, but a JSON object".to_owned(),
            )),
            _ => Err(KryptonError::Nonsense(format!(
                "it is no PEM certificate: it begins with {:?}",
                excerpt(body)
            ))),
        }
    }
}
