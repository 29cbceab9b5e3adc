//! The commands we send, each as a type: its exact text, how long Quectel says the answer may take, what its lines look like, and how
//! they become a value.
//!
//! Maximum response times are those of Quectel's "EC2x&EG9x&EG2x-G&EM05 Series AT Commands Manual V2.0", section "Maximum Response
//! Time" of each command. [`Command::timeout`] adds [`SLACK`] for USB and for a Pi that was busy elsewhere.

use std::time::Duration;

use crate::identity::redact_digits;

use super::urc::Expect;

pub mod context;
pub mod equipment;
pub mod network;
pub mod sim;
pub mod time;
pub mod uicc;

/// Quectel's maximum response time of commands that only look something up.
pub const QUICK: Duration = Duration::from_millis(300);

/// Added to every maximum response time: the manual counts inside the modem, we count outside, with USB and a loaded host between.
pub const SLACK: Duration = Duration::from_secs(2);

/// The answer's lines make no sense. The caller adds the command and the answer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError;

/// One command.
pub trait Command {
    /// What the answer says.
    type Answer;

    /// The text to send, without the `<CR>`.
    fn line(&self) -> String;

    /// What the answer's information lines look like.
    fn expect(&self) -> Expect;

    /// Quectel's maximum response time.
    fn max_response(&self) -> Duration {
        QUICK
    }

    /// Reads the information lines of an answer that ended in `OK`.
    ///
    /// # Errors
    /// [`ParseError`] if they do not say what was asked.
    fn parse(&self, lines: &[String]) -> Result<Self::Answer, ParseError>;

    /// How long to wait.
    fn timeout(&self) -> Duration {
        self.max_response() + SLACK
    }

    /// The command for logs and messages: identities and secrets hidden.
    fn shown(&self) -> String {
        redact_digits(&self.line())
    }

    /// Whether the answer may be shown in logs and messages (identities in it are hidden in any case).
    fn answer_is_secret(&self) -> bool {
        false
    }
}

/// The digits of a bare answer (`AT+CGSN`, `AT+CIMI`): alone on a line, behind the command's prefix, or with a code stuck to its end.
fn bare_digits(prefix: &str, lines: &[String]) -> Option<String> {
    lines.iter().rev().find_map(|line| {
        let rest = line.strip_prefix(prefix).unwrap_or(line).trim().trim_matches('"');
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let stuck = &rest[end..];
        (end > 0 && (stuck.is_empty() || stuck.starts_with('+'))).then(|| rest[..end].to_owned())
    })
}

/// A command that answers `OK` and nothing else.
macro_rules! plain {
    ($(#[$doc:meta])* $name:ident => $text:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;

        impl $crate::modem::command::Command for $name {
            type Answer = ();
            fn line(&self) -> String {
                $text.to_owned()
            }
            fn expect(&self) -> $crate::modem::urc::Expect {
                $crate::modem::urc::Expect::Nothing
            }
            fn parse(&self, _: &[String]) -> Result<(), $crate::modem::command::ParseError> {
                Ok(())
            }
        }
    };
}
use plain;
