//! What can go wrong with the modem, as values the ladder can decide upon.

use std::time::Duration;

use super::cme::CmeError;

/// What to do about a [`ModemError`]; which of it, and how often, is the ladder's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The dialogue is in order: ask again later.
    Retry,
    /// Resynchronise and identify the modem anew ([`super::Modem::identify`]): its settings may be lost.
    Resync,
    /// Drop the port and open it again when it is there.
    Reopen,
    /// Nothing the program may do helps: a person must act.
    Person,
}

/// A failure of the modem or its port.
#[derive(Debug, thiserror::Error)]
pub enum ModemError {
    /// The port does not exist any more: unplugged, restarted, or the USB bus reset.
    #[error(
        "the modem at {path} is gone ({why}); waiting for it to come back, check its plug and power if it does not"
    )]
    Gone {
        /// The port.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The port cannot be opened.
    #[error("cannot open {path}: {source}; {advice}")]
    Open {
        /// The port.
        path: String,
        /// What to do.
        advice: &'static str,
        /// What the system said.
        source: tokio_serial::Error,
    },
    /// No answer within Quectel's maximum response time.
    #[error("the modem did not answer {command} within {:.1} s; asking again after a resynchronisation", .waited.as_secs_f32())]
    Timeout {
        /// The command, identities and secrets hidden.
        command: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// No `OK` to any `AT` of a resynchronisation.
    #[error(
        "the modem at {path} does not answer AT ({:.1} s, several attempts); is this its AT port (USB interface 2)? Opening it again, \
         then a restart or a power cycle of the modem",
        .waited.as_secs_f32()
    )]
    Unresponsive {
        /// The port.
        path: String,
        /// How long it was tried.
        waited: Duration,
    },
    /// The port takes no bytes.
    #[error("the modem at {path} takes no data (writing blocked for {:.1} s); opening the port again", .waited.as_secs_f32())]
    Stuck {
        /// The port.
        path: String,
        /// How long it was tried.
        waited: Duration,
    },
    /// Bytes that are no AT dialogue.
    #[error(
        "instead of an answer to {command} came garbage: \"{sample}\"; is this the modem's AT port (USB interface 2), and does no \
         other program, such as ModemManager, read it too?"
    )]
    Garbage {
        /// The command, identities and secrets hidden.
        command: String,
        /// The first bytes, escaped, identities hidden.
        sample: String,
    },
    /// The modem said no.
    #[error("the modem refused {command}: {error}{}", advice(.error))]
    Refused {
        /// The command, identities and secrets hidden.
        command: String,
        /// Why.
        error: CmeError,
    },
    /// The modem said yes, but not what was asked.
    #[error(
        "the answer to {command} makes no sense: \"{answer}\"; asking again after a resynchronisation, report it if it stays"
    )]
    Unparsable {
        /// The command, identities and secrets hidden.
        command: String,
        /// The answer, likewise.
        answer: String,
    },
    /// The modem has restarted by itself; its settings are gone.
    #[error("the modem restarted by itself; configuring it again (if this repeats, look at its power supply)")]
    Rebooted,
    /// The PIN was not tried, because the card might lock.
    #[error(
        "the SIM's PIN was not entered: {}; enter it by hand in a phone or at the AT port, or switch the PIN off",
        match .left { Some(n) => format!("only {n} attempt(s) left"), None => "the modem does not say how many attempts are left".to_owned() }
    )]
    PinGuarded {
        /// Attempts left, if known.
        left: Option<u8>,
    },
    /// A setting was accepted but not kept.
    #[error(
        "the modem accepted {setting} but did not keep it; restart the modem and look whether its firmware allows the change"
    )]
    NotKept {
        /// Which.
        setting: String,
    },
}

/// What to do about a refusal, where there is something to say.
fn advice(error: &CmeError) -> &'static str {
    match error {
        CmeError::SimAbsent => "; put a SIM in, contacts first",
        CmeError::PinRequired => "; give the PIN in the configuration",
        CmeError::PukRequired => "; the SIM is locked, unlock it with its PUK in a phone",
        CmeError::SimFailure | CmeError::SimWrong => "; take the SIM out and in again, try another one",
        CmeError::IncorrectPassword => "; correct the PIN in the configuration, the next attempts may lock the SIM",
        CmeError::SimBusy => "; it is still starting",
        _ => "",
    }
}

impl ModemError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Gone { .. }
            | Self::Open { .. }
            | Self::Unresponsive { .. }
            | Self::Stuck { .. }
            | Self::Garbage { .. } => Recovery::Reopen,
            Self::Timeout { .. } | Self::Unparsable { .. } | Self::Rebooted => Recovery::Resync,
            Self::Refused {
                error: CmeError::IncorrectPassword | CmeError::PukRequired,
                ..
            }
            | Self::PinGuarded { .. } => Recovery::Person,
            Self::Refused { .. } | Self::NotKept { .. } => Recovery::Retry,
        }
    }

    /// Why the modem refused, if that is what happened.
    #[must_use]
    pub fn refusal(&self) -> Option<&CmeError> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether the modem answered, but with a refusal or nonsense: then another command may know.
    #[must_use]
    pub(super) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Unparsable { .. })
    }
}
