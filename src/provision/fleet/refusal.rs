//! Why AWS does not provision, and what to do about it.
//!
//! A refusal is `{statusCode, errorCode, errorMessage}`. AWS documents the fields and not the values. The classes here are by status,
//! as the header of AWS's own C library has them (aws-iot-device-sdk-embedded-C 4.0 beta, `aws_iot_provisioning_types.h`: 400, 403, 404,
//! 429, 500), and by the one code that was seen in the open, `InvalidCertificateOwnershipToken` (aws-iot-device-sdk-js-v2 issue 69).
//! Which status a pre-provisioning hook's "no" has is not written down: the cures of a refused provisioning name the hook (inferred).
//!
//! What the claim's policy does not allow has no answer at all: AWS closes the connection, or does not deliver. Those are errors of the
//! session, and [`cure`] reads them by the step at which they happened.

use std::time::Duration;

use super::names::{CLIENT_PREFIX, Request, Topics};
use super::payload::{self, Rejected};
use crate::identity::redact_digits;
use crate::session::{Cause, SessionError};

/// AWS is left alone for so long when it says that requests are too many. It gives no time of its own (the length is ours); its quotas
/// are by the second and for a whole account, so it is the fleet that has to spread.
pub const THROTTLED_AFTER: Duration = Duration::from_secs(60);
/// Most characters of AWS's words that are repeated.
const WORDS_MAX: usize = 300;
/// HTTP's "too many requests".
const TOO_MANY: u16 = 429;

/// Which kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Too many requests of the whole account.
    Throttled,
    /// The template is not there, or not enabled.
    Template,
    /// The ownership token is used or older than an hour.
    Token,
    /// The signing request.
    SigningRequest,
    /// Somebody forbids it: the hook, the claim's policy, the template's role.
    Forbidden,
    /// What was sent does not fit the template.
    Parameters,
    /// AWS's own failure.
    Service,
    /// None that is known.
    Other,
}

/// A refusal by AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of what.
    pub request: Request,
    /// Which kind.
    pub class: Class,
    /// What AWS says, cut and without long numbers.
    words: String,
}

/// What AWS said, made fit for a log line.
fn tame(text: &str) -> String {
    let kept: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WORDS_MAX)
        .collect();
    redact_digits(kept.trim())
}

impl Refusal {
    /// Reads the payload of a `rejected` topic. `secret` is never repeated.
    #[must_use]
    pub fn read(request: Request, payload: &[u8], secret: Option<&str>) -> Self {
        let rejected: Rejected = payload::read(payload).unwrap_or_default();
        let code = rejected.error_code.as_deref().unwrap_or_default();
        let mut words = [
            rejected.status_code.map(|s| s.to_string()).unwrap_or_default(),
            code.to_owned(),
            rejected.error_message.clone().unwrap_or_default(),
        ]
        .into_iter()
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
        if let Some(secret) = secret.filter(|s| !s.is_empty()) {
            words = words.replace(secret, "…");
        }
        if words.is_empty() {
            words = "without a reason".to_owned();
        }
        Self {
            request,
            class: class(request, rejected.status_code, code),
            words: tame(&words),
        }
    }

    /// What AWS wants us to wait.
    #[must_use]
    pub fn after(&self) -> Option<Duration> {
        (self.class == Class::Throttled).then_some(THROTTLED_AFTER)
    }

    /// What a person can do.
    #[must_use]
    pub fn cure(&self, topics: &Topics) -> String {
        let template = "credentials.template";
        match self.class {
            Class::Throttled => {
                "nothing to do here: too many devices of this account ask at once; it is asked again later".to_owned()
            }
            Class::Template => format!(
                "is there an enabled fleet provisioning template of the name in {template}, in the account and region of session.host?"
            ),
            Class::Token => {
                "nothing to do here: AWS forgot that certificate (an hour passed, or it was used); the next try asks for another"
                    .to_owned()
            }
            Class::SigningRequest => {
                "look at the limits for certificates in AWS: the request is a plain one with a P-256 key and client_authname as its name"
                    .to_owned()
            }
            Class::Forbidden => match self.request {
                Request::Create => format!(
                    "let the claim certificate's policy allow iot:Publish on topic/{}",
                    topics.of(self.request)
                ),
                Request::Provision => format!(
                    "does the template's pre-provisioning hook (a Lambda function) accept these parameters? Otherwise look at the \
                     template's role (AWSIoTThingsRegistration) and whether the claim certificate's policy allows iot:Publish on topic/{}",
                    topics.of(self.request)
                ),
            },
            Class::Parameters => format!(
                "compare credentials.parameters with the Parameters of the template in {template}, and look at what its \
                 pre-provisioning hook says"
            ),
            Class::Service => "nothing to do here: AWS failed; it is asked again later".to_owned(),
            Class::Other => {
                format!("look into AWS's log of the template in {template} (CloudWatch, AWSIotLogsV2: event type RegisterThing)")
            }
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.request {
            Request::Create => "the certificate",
            Request::Provision => "the thing",
        };
        write!(f, "AWS IoT refuses {what}: {}", self.words)
    }
}

fn class(request: Request, status: Option<u16>, code: &str) -> Class {
    let code = code.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| code.contains(w));
    match status {
        Some(TOO_MANY) => Class::Throttled,
        _ if says(&["throttl", "toomany", "limitexceeded"]) => Class::Throttled,
        _ if says(&["ownershiptoken"]) => Class::Token,
        _ if says(&["signingrequest", "csr"]) => Class::SigningRequest,
        Some(404) => Class::Template,
        _ if says(&["notfound"]) => Class::Template,
        Some(401 | 403) => Class::Forbidden,
        _ if says(&["denied", "forbidden", "unauthorized", "hook"]) => Class::Forbidden,
        Some(500..=599) => Class::Service,
        Some(400..=499) if request == Request::Create => Class::SigningRequest,
        Some(400..=499) => Class::Parameters,
        _ => Class::Other,
    }
}

/// At which step a session under the claim failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Until CONNACK.
    Connect,
    /// Until SUBACK.
    Subscribe,
    /// Until the answer to a request.
    Ask(Request),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting with the claim certificate",
            Self::Subscribe => "subscribing to the answers",
            Self::Ask(Request::Create) => "asking for a certificate",
            Self::Ask(Request::Provision) => "asking for the thing",
        })
    }
}

/// What a person can do about a session that failed at this step.
#[must_use]
pub fn cure(step: Step, error: &SessionError, topics: &Topics) -> String {
    let registered = "is the claim certificate ACTIVE in the account and region of session.host? (One made for a technician with \
                      create-provisioning-claim is good for five minutes.)";
    match (step, error) {
        // It did not get as far as AWS.
        (_, SessionError::Dial(_) | SessionError::NotMqtt { .. } | SessionError::Dead { .. }) => error.cure(),
        (_, SessionError::Tls { cause, .. }) if *cause != Cause::Identity => error.cure(),
        (_, SessionError::Tls { .. }) => registered.to_owned(),
        (Step::Connect, SessionError::Late { .. }) => error.cure(),
        (Step::Connect, _) => {
            format!("{registered} And does its policy allow iot:Connect on client/{CLIENT_PREFIX}*?")
        }
        (Step::Subscribe, _) => format!(
            "AWS drops whom a policy does not allow what he does: let the claim certificate's policy allow iot:Subscribe on \
             topicfilter/{}/* and topicfilter/{}/*",
            topics.of(Request::Create),
            topics.of(Request::Provision)
        ),
        // What may not be received is not delivered, and nobody says so.
        (Step::Ask(request), SessionError::Late { .. }) => format!(
            "the line is very slow, or AWS does not deliver the answer: let the claim certificate's policy allow iot:Receive on topic/{}/*",
            topics.of(request)
        ),
        (Step::Ask(request), _) => format!(
            "AWS drops whom a policy does not allow what he does: let the claim certificate's policy allow iot:Publish on topic/{}",
            topics.of(request)
        ),
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
