//! A fault as a value: which rung, what happened, what a person can do, and how to recover. This is where recovery is decided.

use std::time::Duration;

use super::ladder::Rung;
use crate::backoff::Policy;
use crate::session::{Cause, SessionError};

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recover {
    /// Try this rung again after a pause.
    Retry,
    /// Start from the rung below that is named, because this one failed too often by itself.
    From(Rung),
    /// Get other credentials, if that was not tried lately, then try again.
    Reprovision,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where.
    pub rung: Rung,
    /// What happened, to what.
    pub cause: String,
    /// What a person can do.
    pub cure: String,
    /// How to go on.
    pub recover: Recover,
    /// Not before so long: somebody asked for it.
    pub after: Option<Duration>,
}

impl Fault {
    /// A fault that time may heal.
    pub(super) fn new(rung: Rung, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            rung,
            cause: cause.into(),
            cure: cure.into(),
            recover: Recover::Retry,
            after: None,
        }
    }
}

/// So many failures of a rung by itself send it down to the rung that carries it.
pub(super) const FAILURES_BEFORE_BELOW: u32 = 5;

/// New credentials are fetched because a broker refused the old ones at most this often: each fetch costs a certificate at the cloud,
/// and a device that is simply not registered would make hundreds.
pub(super) const REPROVISION_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// A rung that held for so long starts counting its failures, and its pauses, anew. One that comes up and falls at once goes on
/// counting: a broker that accepts and then drops us has not failed "once".
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(60);

/// The pauses of a rung.
#[must_use]
pub(super) fn policy(rung: Rung, retry_min: Duration, retry_max: Duration) -> Policy {
    let max = |limit: u64| retry_max.min(Duration::from_secs(limit));
    Policy {
        min: retry_min,
        max: match rung {
            // Local things are cheap to look at; a registration that is denied is left alone for minutes.
            Rung::Modem => max(10),
            Rung::Sim | Rung::Link | Rung::Clock => max(30),
            Rung::Network => max(180),
            _ => retry_max,
        },
        stable_after: STABLE_AFTER,
    }
}

/// What to do when AWS IoT drops a certificate of the operator's. With just-in-time registration that is the normal course of a first
/// connection (AWS IoT Core developer guide, "just-in-time registration": AWS registers the certificate and disconnects; it lets the
/// device in once a rule or a template has made the certificate ACTIVE), so the session is tried again at its usual pace, which begins
/// with `session.retry_min`.
const JUST_IN_TIME: &str = "just-in-time registration: first connection is expected to fail, AWS may be registering the certificate \
                            just now; it is tried again soon. If it goes on: is its CA registered there with automatic registration, the \
                            certificate ACTIVE, and does its policy allow this client id and topic?";

/// What is known of the credentials that a session was tried with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Others may be asked for.
    pub may_reprovision: bool,
    /// They are the operator's, and AWS may be registering them just now.
    pub just_in_time: bool,
}

/// Reads a session's error as a fault of the ladder. `failures` counts those of this rung since it was last up.
#[must_use]
pub(super) fn of_session(error: &SessionError, failures: u32, standing: Standing) -> Fault {
    let (rung, recover) = match error.cause() {
        Cause::Clock => (Rung::Clock, Recover::From(Rung::Clock)),
        Cause::Identity if standing.may_reprovision => (Rung::Credentials, Recover::Reprovision),
        Cause::Route if failures >= FAILURES_BEFORE_BELOW => (Rung::Session, Recover::From(Rung::Link)),
        _ => (Rung::Session, Recover::Retry),
    };
    let just_in_time = standing.just_in_time && error.may_be_about_who_we_are();
    Fault {
        rung,
        cause: error.to_string(),
        cure: if just_in_time {
            JUST_IN_TIME.to_owned()
        } else {
            error.cure()
        },
        recover,
        after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Standing = Standing {
        may_reprovision: true,
        just_in_time: false,
    };
    const THEIRS: Standing = Standing {
        may_reprovision: false,
        just_in_time: false,
    };
    const NEW_AT_AWS: Standing = Standing {
        may_reprovision: false,
        just_in_time: true,
    };

    fn refused(code: u8) -> SessionError {
        SessionError::Refused { host: "h".into(), code }
    }

    #[test]
    fn only_definite_identity_errors_reprovision() {
        assert_eq!(of_session(&refused(5), 0, OURS).recover, Recover::Reprovision);
        assert_eq!(
            of_session(&refused(5), 0, THEIRS).recover,
            Recover::Retry,
            "an operator's files are not fetched again"
        );
        assert_eq!(of_session(&refused(3), 99, OURS).recover, Recover::Retry);
        let closed = SessionError::Closed {
            host: "h".into(),
            when: "after it worked",
            why: None,
        };
        assert_eq!(of_session(&closed, 99, OURS).recover, Recover::Retry);
    }

    #[test]
    fn a_wrong_clock_is_the_clocks_fault_and_costs_no_credentials() {
        let wrong = SessionError::Tls {
            what: "the certificate is not valid yet".into(),
            cure: "wait for NTP".into(),
            cause: Cause::Clock,
        };
        let fault = of_session(&wrong, 99, OURS);
        assert_eq!((fault.rung, fault.recover), (Rung::Clock, Recover::From(Rung::Clock)));
        assert!(fault.cause.contains("not valid yet") && fault.cure.contains("NTP"));
    }

    #[test]
    fn a_route_that_keeps_failing_goes_down_to_the_link() {
        let late = || {
            SessionError::Dial(crate::link::DialError::Timeout {
                host: "h".into(),
                port: 1,
                within: Duration::from_secs(1),
            })
        };
        assert_eq!(of_session(&late(), 0, OURS).recover, Recover::Retry);
        assert_eq!(
            of_session(&late(), FAILURES_BEFORE_BELOW, OURS).recover,
            Recover::From(Rung::Link)
        );
    }

    #[test]
    fn a_first_connection_to_aws_may_be_a_registration() {
        let closed = |when| SessionError::Closed {
            host: "h".into(),
            when,
            why: None,
        };
        let alert = SessionError::Tls {
            what: "alert".into(),
            cure: "other cure".into(),
            cause: Cause::Identity,
        };
        for error in [
            closed("before it worked"),
            closed("during the TLS handshake"),
            alert,
            refused(5),
        ] {
            let fault = of_session(&error, 0, NEW_AT_AWS);
            assert!(
                fault.cure.contains("first connection is expected to fail"),
                "{}",
                fault.cure
            );
            assert_eq!((fault.rung, fault.recover), (Rung::Session, Recover::Retry));
            for standing in [OURS, THEIRS] {
                let cure = of_session(&error, 0, standing).cure;
                assert!(!cure.contains("just-in-time"), "{cure}");
            }
        }
        for error in [closed("after it worked"), refused(3)] {
            let cure = of_session(&error, 0, NEW_AT_AWS).cure;
            assert!(!cure.contains("just-in-time"), "{cure}");
        }
    }
}
