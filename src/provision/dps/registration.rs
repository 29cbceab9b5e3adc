//! One registration, no I/O: what to ask next and when, from what was answered.
//!
//! ```text
//! register ──202──▶ wait ──▶ poll ──202──▶ wait ──▶ poll … ──200──▶ assigned │ failed │ disabled
//!    ▲                        │
//!    └── no operation id ─────┘        408, 429, 5xx, no answer: the same question again after a longer wait
//! ```
//!
//! - The wait is what the service asks for (`Retry-After`), but not shorter than `poll_every` and not longer than [`WAIT_MAX`]; and a
//!   device is never asked about more than [`POLLS_MAX`] times in [`POLL_WINDOW`], whatever is configured.
//! - Trouble is answered with an exponential, jittered wait, [`TROUBLES_MAX`] times in a row, then given up; the ladder tries again later.
//!   A service that wants to be left alone for longer than [`WAIT_MAX`] is given up at once, with that time in the failure.
//! - Nothing is asked after the deadline ([`longest`]), so that the watchdog can be told how long this takes.
//!
//! Time is any monotonic time, randomness a number: both are arguments.

use std::collections::VecDeque;
use std::time::Duration;

use super::error::DpsError;
use super::name::RegistrationId;
use super::reply::{Assigned, Meaning, OperationId, Reply};
use crate::backoff::{Backoff, Policy};
use crate::config::credentials::Patience;

/// Longest wait within a registration.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Most questions about a device in [`POLL_WINDOW`] (DPS documentation, "Quotas and limits").
pub const POLLS_MAX: usize = 5;
/// See [`POLLS_MAX`]. What counts here is when a question was answered, which is later than when the service counted it.
pub const POLL_WINDOW: Duration = Duration::from_secs(10);
/// So often in a row a question may go without a good answer.
pub const TROUBLES_MAX: u32 = 3;
/// Longest wait after trouble, without a word from the service.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// What DPS asks for between two questions, in its documentation: the deadline leaves room for it.
const USUAL_WAIT: Duration = Duration::from_secs(3);
/// Answers that one question may cost, each within the limit for a request: over MQTT TCP, TLS, CONNACK, SUBACK, PUBACK and the answer.
const STEPS_MAX: u32 = 6;

/// The longest that a registration can take.
#[must_use]
pub fn longest(patience: &Patience) -> Duration {
    budget(patience) + patience.within * STEPS_MAX
}

/// After this long nothing more is asked.
fn budget(patience: &Patience) -> Duration {
    (patience.within + patience.poll_every.max(USUAL_WAIT)) * (patience.polls_max + 1) + WAIT_MAX
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Register.
    Register,
    /// How does the registration stand?
    Poll(OperationId),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask, not before this time.
    Ask {
        /// What.
        ask: Ask,
        /// When.
        at: Duration,
    },
    /// The device is assigned.
    Assigned(Box<Assigned>),
}

/// One registration.
#[derive(Debug)]
pub struct Registration {
    id: RegistrationId,
    patience: Patience,
    deadline: Duration,
    operation: Option<OperationId>,
    status: String,
    polls: u32,
    /// When the last questions were answered.
    polled: VecDeque<Duration>,
    polling: bool,
    backoff: Backoff,
}

fn backoff(patience: &Patience) -> Backoff {
    Backoff::new(Policy {
        min: patience.poll_every,
        max: BACKOFF_MAX.max(patience.poll_every),
        stable_after: Duration::ZERO,
    })
}

impl Registration {
    /// Begins at `now`; the first thing to do is to register.
    #[must_use]
    pub fn begin(id: RegistrationId, patience: Patience, now: Duration) -> (Self, Step) {
        let registration = Self {
            id,
            deadline: now + budget(&patience),
            operation: None,
            status: "assigning".to_owned(),
            polls: 0,
            polled: VecDeque::with_capacity(POLLS_MAX),
            polling: false,
            backoff: backoff(&patience),
            patience,
        };
        let ask = Ask::Register;
        (registration, Step::Ask { ask, at: now })
    }

    /// The service answered at `now`; `unit` is a random number in `0.0..1.0`.
    ///
    /// # Errors
    /// [`DpsError`]: the registration is over.
    pub fn answered(&mut self, reply: &Reply, now: Duration, unit: f64) -> Result<Step, DpsError> {
        self.count(now);
        let (operation, status) = match reply.meaning(&self.id) {
            Ok(Meaning::Assigned(assigned)) => return Ok(Step::Assigned(assigned)),
            Ok(Meaning::Pending { operation, status }) => (operation, status),
            Err(e @ DpsError::Trouble { .. }) => return self.troubled(e, now, unit),
            Err(e) => return Err(e),
        };
        // An answer about an operation may leave its id out: then it is the one that was asked for.
        self.operation = operation.or(self.operation.take());
        self.status = status;
        if self.operation.is_none() {
            let e =
                DpsError::Nonsense("it says that the registration goes on, but not under which operation id".into());
            return self.troubled(e, now, unit);
        }
        self.backoff = backoff(&self.patience);
        let wait = reply.retry_after.unwrap_or_default().max(self.patience.poll_every);
        self.ask(now + wait.min(WAIT_MAX))
    }

    /// There was no answer until `now`, because of `why`; `unit` is a random number in `0.0..1.0`.
    ///
    /// # Errors
    /// [`DpsError`]: the registration is over.
    pub fn unanswered(&mut self, why: DpsError, now: Duration, unit: f64) -> Result<Step, DpsError> {
        self.count(now);
        match why {
            DpsError::Unreachable { passing: true, .. } => self.troubled(why, now, unit),
            _ => Err(why),
        }
    }

    fn troubled(&mut self, why: DpsError, now: Duration, unit: f64) -> Result<Step, DpsError> {
        let after = match &why {
            DpsError::Trouble { after, .. } => after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        if self.backoff.failures() >= TROUBLES_MAX || after > WAIT_MAX {
            return Err(why);
        }
        let wait = self.backoff.failed(now, unit).max(after);
        self.ask(now + wait).map_err(|_| why)
    }

    /// A question is over.
    fn count(&mut self, now: Duration) {
        if std::mem::take(&mut self.polling) {
            if self.polled.len() >= POLLS_MAX {
                self.polled.pop_front();
            }
            self.polled.push_back(now);
        }
    }

    /// The next question, at `at` or when the service's limit for questions allows it.
    fn ask(&mut self, at: Duration) -> Result<Step, DpsError> {
        let pending = |s: &Self| DpsError::Pending {
            status: s.status.clone(),
            polls: s.polls,
        };
        let (ask, at) = match &self.operation {
            None => (Ask::Register, at),
            Some(operation) => {
                if self.polls >= self.patience.polls_max {
                    return Err(pending(self));
                }
                let ask = Ask::Poll(operation.clone());
                let at = match self.polled.front() {
                    Some(oldest) if self.polled.len() >= POLLS_MAX => at.max(*oldest + POLL_WINDOW),
                    _ => at,
                };
                self.polls += 1;
                self.polling = true;
                (ask, at)
            }
        };
        if at > self.deadline {
            return Err(pending(self));
        }
        Ok(Step::Ask { ask, at })
    }
}

#[cfg(test)]
mod tests;
