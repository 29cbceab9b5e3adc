//! The USIM's AUTHENTICATE (AKA, TS 33.102), through the modem: values, and the way to ask for it from another task.
//!
//! The task that owns the AT port serves [`Ask`]s; everybody else holds a [`SimDoor`].
//!
//! | file | subject | I/O |
//! |---|---|---|
//! | [`apdu`] | one command to the card and its status words | none |
//! | [`authenticate`] | the bytes of AUTHENTICATE and of its answers | none |
//! | [`application`] | where the USIM is on the card | none |
//! | `flow` | which way to the card, over a [`Modem`](super::Modem); channels opened and closed | yes |

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zeroize::{Zeroize, ZeroizeOnDrop};

pub mod apdu;
pub mod application;
pub mod authenticate;
mod flow;
#[cfg(test)]
mod flow_tests;

pub use flow::{Asked, LeftOpen};

/// A challenge from the home network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// RAND.
    pub rand: [u8; 16],
    /// AUTN.
    pub autn: [u8; 16],
}

/// What AUTHENTICATE answers to a good challenge. Never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    /// RES, 4 to 16 bytes (TS 33.102 section 6.3.7).
    pub res: Vec<u8>,
    /// CK.
    pub ck: [u8; 16],
    /// IK.
    pub ik: [u8; 16],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// What the USIM says to a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is genuine and fresh.
    Keys(Keys),
    /// It is genuine, but its sequence number is not fresh: the home network must take up the SIM's (TS 33.102 section 6.3.5).
    Resync {
        /// AUTS.
        auts: [u8; 14],
    },
}

/// Why the USIM gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AkaError {
    /// SW 9862: the challenge is not from this SIM's home network.
    #[error("the SIM refuses the challenge as not genuine (SW 9862)")]
    Mac,
    /// Another status word.
    #[error("the SIM answers {what} with status {sw:04X}")]
    Status {
        /// To what.
        what: &'static str,
        /// The status word.
        sw: u16,
    },
    /// The bytes are not an answer to AUTHENTICATE.
    #[error("the SIM's answer cannot be read: {0}")]
    Nonsense(String),
    /// The SIM has worked on it, and the modem does not fetch what it has to say.
    #[error("the SIM's answer was not fetched: {0}")]
    Unfetched(String),
    /// The modem does not pass commands to the SIM, or is not there.
    #[error("{0}")]
    Modem(String),
    /// Nobody who could ask the SIM.
    #[error("there is no modem to ask the SIM through")]
    Nobody,
    /// It took too long.
    #[error("the SIM was not asked within {} s: the modem is busy or not there", .0.as_secs())]
    Late(Duration),
}

impl AkaError {
    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Mac => {
                "is this SIM SORACOM's, and its plan one of those with SIM authentication (plan01s, plan01s-LDV, planP1, planX3, plan-K2)?"
            }
            Self::Status { .. } | Self::Nonsense(_) => {
                "the SIM may not allow authentication from outside: use credentials.auth = \"cellular\""
            }
            Self::Modem(_) | Self::Unfetched(_) | Self::Nobody | Self::Late(_) => {
                "check the modem rung: 'onyx-agent modem' shows whether the dongle and the SIM answer"
            }
        }
    }
}

/// A question to the task that owns the AT port.
#[derive(Debug)]
pub struct Ask {
    /// The challenge.
    pub challenge: Challenge,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Answer, AkaError>>,
}

/// The longest that an answer is waited for: the modem may be in the middle of a question that takes it minutes (AT+COPS?, 180 s).
const WITHIN: Duration = Duration::from_secs(240);
/// Questions that may wait.
const ASKS_MAX: usize = 4;

/// The way to the SIM from another task; clones lead to the same SIM.
#[derive(Debug, Clone)]
pub struct SimDoor {
    asks: Option<mpsc::Sender<Ask>>,
}

impl SimDoor {
    /// A door, and what the owner of the AT port takes the questions from.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, taken) = mpsc::channel(ASKS_MAX);
        (Self { asks: Some(asks) }, taken)
    }

    /// A door with nobody behind.
    #[must_use]
    pub fn nobody() -> Self {
        Self { asks: None }
    }

    /// Has the SIM answer a challenge. Bounded.
    ///
    /// # Errors
    /// [`AkaError`].
    pub async fn authenticate(&self, challenge: Challenge) -> Result<Answer, AkaError> {
        let asks = self.asks.as_ref().ok_or(AkaError::Nobody)?;
        let (answer, answered) = oneshot::channel();
        let asked = async {
            asks.send(Ask { challenge, answer })
                .await
                .map_err(|_| AkaError::Nobody)?;
            answered.await.map_err(|_| AkaError::Nobody)?
        };
        tokio::time::timeout(WITHIN, asked)
            .await
            .unwrap_or(Err(AkaError::Late(WITHIN)))
    }
}
