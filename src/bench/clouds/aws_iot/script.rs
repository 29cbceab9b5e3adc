//! Answers of the provisioning service that are told in advance: for what the account here never does by itself (a pre-provisioning hook
//! that says no, throttling, a failure of AWS's, a certificate for somebody else's key) and for silence. No I/O.
//!
//! A request that is answered by the script does nothing else: no certificate is made, no thing, and no token is used up.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::Value;

use super::provisioning::ProvisioningError;
use super::reserved::Reserved;

/// Replies kept; the bench's own bound.
pub const REPLIES_MAX: usize = 64;

/// Which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// CreateKeysAndCertificate.
    Create,
    /// CreateCertificateFromCsr.
    CreateFromCsr,
    /// RegisterThing.
    Provision,
}

impl Operation {
    fn of(asked: &Reserved) -> Option<Self> {
        match asked {
            Reserved::CreateKeys(_) => Some(Self::Create),
            Reserved::CreateFromCsr(_) => Some(Self::CreateFromCsr),
            Reserved::Provision(..) => Some(Self::Provision),
            _ => None,
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Nothing: the request is acknowledged and forgotten.
    Silence,
    /// This, as a refusal.
    Rejected(ProvisioningError),
    /// This, as a result.
    Accepted(Value),
}

/// One entry of the script.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// To which requests.
    pub operation: Operation,
    /// How many of them.
    #[serde(default = "once")]
    pub times: u32,
    /// What is answered.
    pub reply: Reply,
}

fn once() -> u32 {
    1
}

/// What was told and has not happened yet.
#[derive(Debug, Default)]
pub struct Script(VecDeque<Entry>);

impl Script {
    /// Adds an entry behind the others. False: there is no room.
    #[must_use]
    pub fn add(&mut self, entry: Entry) -> bool {
        let room = self.0.len() < REPLIES_MAX;
        if room && entry.times > 0 {
            self.0.push_back(entry);
        }
        room
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The reply to a request, if one was told.
    pub(super) fn take(&mut self, asked: &Reserved) -> Option<Reply> {
        let operation = Operation::of(asked)?;
        let at = self.0.iter().position(|e| e.operation == operation)?;
        let entry = self.0.get_mut(at)?;
        entry.times -= 1;
        let reply = entry.reply.clone();
        if entry.times == 0 {
            self.0.remove(at);
        }
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::super::reserved::Format;
    use super::*;

    #[test]
    fn replies_come_in_order_and_as_often_as_told() {
        let mut script = Script::default();
        for text in [
            r#"{"operation": "provision", "times": 2, "reply": {"rejected": {"statusCode": 429, "errorCode": "Throttled", "errorMessage": "slow down"}}}"#,
            r#"{"operation": "provision", "reply": "silence"}"#,
            r#"{"operation": "create-from-csr", "reply": {"accepted": {"a": 1}}}"#,
        ] {
            assert!(script.add(serde_json::from_str(text).unwrap()));
        }
        let provision = Reserved::Provision("t".into(), Format::Json);
        assert_eq!(script.take(&Reserved::CreateKeys(Format::Json)), None);
        for _ in 0..2 {
            let Some(Reply::Rejected(e)) = script.take(&provision) else {
                panic!("not refused")
            };
            assert_eq!((e.status, e.code.as_str()), (429, "Throttled"));
        }
        assert_eq!(script.take(&provision), Some(Reply::Silence));
        assert_eq!(script.take(&provision), None);
        let create = Reserved::CreateFromCsr(Format::Json);
        assert_eq!(script.take(&create), Some(Reply::Accepted(serde_json::json!({"a": 1}))));
        assert!(serde_json::from_str::<Entry>(r#"{"operation": "x", "reply": "silence"}"#).is_err());
    }

    #[test]
    fn there_is_a_bound() {
        let mut script = Script::default();
        let entry = |times| Entry {
            operation: Operation::Create,
            times,
            reply: Reply::Silence,
        };
        assert!(script.add(entry(0)), "nothing to remember");
        for _ in 0..REPLIES_MAX {
            assert!(script.add(entry(1)));
        }
        assert!(!script.add(entry(1)));
        script.clear();
        assert!(script.add(entry(1)));
    }
}
