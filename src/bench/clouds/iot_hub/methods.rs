//! Direct methods that wait for their device's answer. No I/O; whoever calls keeps the time.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::error::HubError;

/// Largest payload of a call or an answer, in bytes (IoT Hub documentation, direct methods).
pub const PAYLOAD_MAX: usize = 128 * 1024;
/// How long a call waits for its answer if the caller does not say (ibid.).
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Shortest and longest such wait (ibid.).
pub const RESPONSE_TIMEOUTS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How long a caller may want to wait for the device to connect at most (ibid.; the default is not to wait).
pub const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Longest method name, in bytes; the documentation has none.
pub const NAME_MAX: usize = 128;
/// Calls that wait at a time, all devices together.
pub const CALLS_MAX: usize = 64;

/// What a device answered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Answer {
    /// The device's own status.
    pub status: i32,
    /// What it said; null if it said nothing.
    pub payload: Value,
}

/// A call as the service side gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodCall {
    /// The method.
    pub name: String,
    /// JSON for it; null is sent as `null`.
    pub payload: Value,
    /// How long to wait for the answer; [`RESPONSE_TIMEOUT`] without.
    pub response_timeout: Option<Duration>,
    /// How long to wait for the device to connect and subscribe; not at all without.
    pub connect_timeout: Option<Duration>,
}

impl MethodCall {
    /// A call with the default waits.
    #[must_use]
    pub fn new(name: &str, payload: Value) -> Self {
        Self {
            name: name.into(),
            payload,
            response_timeout: None,
            connect_timeout: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), HubError> {
        if self.name.is_empty() || self.name.len() > NAME_MAX || self.name.contains(['/', '#', '+', '?', '$', '\0']) {
            let message = format!(
                "{:?} is no method name: 1 to {NAME_MAX} bytes without / # + ? $",
                self.name
            );
            return Err(HubError::argument(message));
        }
        let size = self.payload.to_string().len();
        if size > PAYLOAD_MAX {
            return Err(HubError::too_large(size, PAYLOAD_MAX));
        }
        let (least, most) = RESPONSE_TIMEOUTS;
        if self.response_timeout.is_some_and(|t| t < least || t > most) {
            let message = format!("responseTimeoutInSeconds is {} to {}", least.as_secs(), most.as_secs());
            return Err(HubError::argument(message));
        }
        if self.connect_timeout.is_some_and(|t| t > CONNECT_TIMEOUT_MAX) {
            let message = format!("connectTimeoutInSeconds is 0 to {}", CONNECT_TIMEOUT_MAX.as_secs());
            return Err(HubError::argument(message));
        }
        Ok(())
    }
}

/// The outcome for the caller.
pub(super) type Outcome = Result<Answer, HubError>;

#[derive(Debug)]
struct Pending {
    device: String,
    tell: oneshot::Sender<Outcome>,
}

/// The calls that wait.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pending: HashMap<String, Pending>,
    last: u64,
}

impl Calls {
    /// A call begins; the answer is its request id and where the outcome will be.
    pub(super) fn begin(&mut self, device: &str) -> Result<(String, oneshot::Receiver<Outcome>), HubError> {
        self.pending.retain(|_, p| !p.tell.is_closed());
        if self.pending.len() >= CALLS_MAX {
            return Err(HubError::throttled(format!(
                "{CALLS_MAX} method calls are waiting already"
            )));
        }
        self.last += 1;
        let rid = format!("{:x}", self.last);
        let (tell, outcome) = oneshot::channel();
        let device = device.to_owned();
        self.pending.insert(rid.clone(), Pending { device, tell });
        Ok((rid, outcome))
    }

    /// A device answered; whether anybody had asked it that.
    pub(super) fn answered(&mut self, device: &str, rid: &str, status: i32, payload: &[u8]) -> bool {
        if self.pending.get(rid).is_none_or(|p| p.device != device) {
            return false;
        }
        let Some(call) = self.pending.remove(rid) else {
            return false;
        };
        let outcome = if payload.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_slice(payload).map_err(|e| HubError::bad_answer(format!("the answer is no JSON: {e}")))
        };
        call.tell
            .send(outcome.map(|payload| Answer { status, payload }))
            .is_ok()
    }

    /// A device is gone: nobody will answer.
    pub(super) fn gone(&mut self, device: &str) {
        let rids: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, p)| p.device == device)
            .map(|(rid, _)| rid.clone())
            .collect();
        for call in rids.iter().filter_map(|rid| self.pending.remove(rid)) {
            // A caller that has stopped waiting needs no answer.
            let _ = call.tell.send(Err(HubError::gone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_finds_its_call_and_only_its_call() {
        let mut calls = Calls::default();
        let (one, mut first) = calls.begin("a").unwrap();
        let (two, mut second) = calls.begin("a").unwrap();
        assert_ne!(one, two);
        assert!(!calls.answered("b", &one, 200, b"1"), "another device");
        assert!(!calls.answered("a", "77", 200, b"1"), "nobody asked");
        assert!(calls.answered("a", &two, 200, b"{\"x\":1}"));
        assert!(calls.answered("a", &one, -3, b""));
        assert!(!calls.answered("a", &one, 200, b"1"), "once only");
        let answer = |status, payload| Ok(Answer { status, payload });
        assert_eq!(first.try_recv().unwrap(), answer(-3, Value::Null));
        assert_eq!(second.try_recv().unwrap(), answer(200, json!({"x": 1})));
    }

    #[test]
    fn a_device_that_goes_or_babbles_is_told_to_the_caller() {
        let mut calls = Calls::default();
        let (_, mut first) = calls.begin("a").unwrap();
        let (rid, mut second) = calls.begin("b").unwrap();
        calls.gone("a");
        assert_eq!(first.try_recv().unwrap().unwrap_err().code, 404_103);
        calls.answered("b", &rid, 200, b"{");
        assert_eq!(second.try_recv().unwrap().unwrap_err().status(), 502);
    }

    #[test]
    fn calls_are_bounded_and_forgotten_with_their_callers() {
        let mut calls = Calls::default();
        let kept: Vec<_> = (0..CALLS_MAX).map(|_| calls.begin("a").unwrap()).collect();
        assert_eq!(calls.begin("a").unwrap_err().status(), 429);
        drop(kept);
        assert!(calls.begin("a").is_ok());
    }

    #[test]
    fn a_call_keeps_the_documented_limits() {
        let good = MethodCall::new("reboot", json!({"in": 3}));
        assert_eq!(good.check(), Ok(()));
        let s = Duration::from_secs;
        for (what, bad, status) in [
            ("name", MethodCall::new("a/b", Value::Null), 400),
            ("no name", MethodCall::new("", Value::Null), 400),
            ("payload", MethodCall::new("m", "x".repeat(PAYLOAD_MAX).into()), 413),
            (
                "short",
                MethodCall {
                    response_timeout: Some(s(4)),
                    ..good.clone()
                },
                400,
            ),
            (
                "long",
                MethodCall {
                    response_timeout: Some(s(301)),
                    ..good.clone()
                },
                400,
            ),
            (
                "connect",
                MethodCall {
                    connect_timeout: Some(s(301)),
                    ..good.clone()
                },
                400,
            ),
        ] {
            assert_eq!(bad.check().unwrap_err().status(), status, "{what}");
        }
    }
}
