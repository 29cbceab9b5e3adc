//! The hub's state behind its broker: what happens when a device connects, subscribes, asks, answers, acknowledges and goes. A
//! [`Backend`]: no I/O, no clock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use super::bag::Bag;
use super::devicebound::{self, ToDevice};
use super::error::HubError;
use super::methods::{Calls, MethodCall, Outcome};
use super::registry::{Credential, Registry, Status};
use super::request::Request;
use crate::bench::clouds::backend::{Act, Backend, Handling, Now, Received};
use crate::bench::clouds::policy::iot_hub::{self as rules, telemetry_bag};
use crate::bench::clouds::policy::{Peer, Refusal, Session};
use crate::bench::clouds::rate::{Bucket, Excess, Rate, Verdict};

/// Twin reads a second, whole hub (IoT Hub documentation, quotas and throttling: S1, "Get twins").
pub(super) const TWIN_READS: u32 = 100;
/// Twin writes a second, whole hub (ibid.: S1, "Update twins").
pub(super) const TWIN_WRITES: u32 = 50;

/// Where the outcome of a call will be, and what is to be sent for it.
type Begun = (oneshot::Receiver<Outcome>, Vec<Act>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) registry: Registry,
    calls: Calls,
    reads: Bucket,
    writes: Bucket,
    messages: u64,
}

/// The hub without its connections.
#[derive(Debug)]
pub(crate) struct Core {
    state: Mutex<State>,
    /// Counts up whenever a device might have become able to take methods.
    changes: watch::Sender<u64>,
}

/// A throttle of the hub: so many operations a second, with one second's worth at once.
fn throttle(per_second: u32) -> Bucket {
    let excess = Excess::Discard;
    Bucket::new(Rate { per_second, excess }, Duration::ZERO)
}

impl Core {
    /// A hub whose devices' certificates lead to `authorities`; an open one takes in every such device.
    pub(crate) fn new(authorities: Vec<CertificateDer<'static>>, open: bool) -> Self {
        Self {
            state: Mutex::new(State {
                registry: Registry::new(authorities, open),
                calls: Calls::default(),
                reads: throttle(TWIN_READS),
                writes: throttle(TWIN_WRITES),
                messages: 0,
            }),
            changes: watch::Sender::new(0),
        }
    }

    /// Locks the state; never held over an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn throttle_twins(&self, reads: u32, writes: u32) {
        let mut state = self.state();
        state.reads = throttle(reads);
        state.writes = throttle(writes);
    }

    /// Disables or enables; a disabled device's connection ends.
    pub(crate) fn set_status(&self, id: &str, status: Status) -> Result<Vec<Act>, HubError> {
        self.state().registry.get_mut(id)?.status = status;
        Ok(match status {
            Status::Enabled => Vec::new(),
            Status::Disabled => vec![end(id, "the device was disabled")],
        })
    }

    pub(crate) fn register(&self, id: &str, credential: Credential, now: Now) -> Result<Vec<Act>, HubError> {
        let mut state = self.state();
        let changed = state.registry.get(id).is_ok_and(|d| d.credential != credential);
        state.registry.register(id, credential, now.wall)?;
        Ok(Vec::from_iter(
            changed.then(|| end(id, "the device's credential was changed")),
        ))
    }

    pub(super) fn remove(&self, id: &str) -> Result<Vec<Act>, HubError> {
        let mut state = self.state();
        state.registry.remove(id)?;
        state.calls.gone(id);
        // With its session: a device of that name that is created later begins without subscriptions.
        Ok(vec![Act::Forget {
            client_id: id.to_owned(),
            why: "the device was deleted",
        }])
    }

    pub(super) fn update_twin(&self, id: &str, patch: &Value, now: Now) -> Result<(Value, Vec<Act>), HubError> {
        let mut state = self.state();
        let device = state.registry.get_mut(id)?;
        let desired = device.twin.update(patch, now.wall)?;
        let told = desired.filter(|_| device.is_connected() && device.subscriptions.desired);
        let acts = told.map(|d| {
            let topic = format!("$iothub/twin/PATCH/properties/desired/?$version={}", d.version);
            send(id, &topic, d.notice.to_string().into())
        });
        Ok((device.twin_document(id), Vec::from_iter(acts)))
    }

    /// Queues a cloud-to-device message; the answer is its id, or `None` if it is dropped because the device was never there.
    pub(super) fn to_device(
        &self,
        id: &str,
        message: ToDevice,
        now: Now,
    ) -> Result<(Option<String>, Vec<Act>), HubError> {
        let mut state = self.state();
        state.messages += 1;
        let number = state.messages;
        let device = state.registry.get_mut(id)?;
        if !device.seen {
            return Ok((
                None,
                vec![Act::Note(format!(
                    "a message to {id:?} is lost: it was never connected"
                ))],
            ));
        }
        let mid = format!("onyx-{number}");
        let mid = device.inbox.push(id, mid, message, now.monotonic)?;
        Ok((Some(mid), hand(&mut state, id, now)))
    }

    /// Begins a call if the device is there and takes methods.
    pub(super) fn call(&self, id: &str, call: &MethodCall) -> Result<Option<Begun>, HubError> {
        let mut state = self.state();
        let device = state.registry.get(id)?;
        if !device.is_connected() || !device.subscriptions.methods {
            return Ok(None);
        }
        let (rid, outcome) = state.calls.begin(id)?;
        let topic = format!("$iothub/methods/POST/{}/?$rid={rid}", call.name);
        Ok(Some((outcome, vec![send(id, &topic, call.payload.to_string().into())])))
    }

    fn twin_request(
        &self,
        state: &mut State,
        id: &str,
        request: &Request<'_>,
        payload: &Bytes,
        now: Now,
    ) -> Result<Act, HubError> {
        match request {
            Request::TwinGet { rid } => {
                if state.reads.take(1, now.monotonic) != Verdict::Take {
                    return Err(HubError::throttled(format!(
                        "more than {TWIN_READS} twin reads a second"
                    )));
                }
                let body = state.registry.get(id)?.twin.for_device();
                Ok(send(
                    id,
                    &format!("$iothub/twin/res/200/?$rid={rid}"),
                    body.to_string().into(),
                ))
            }
            Request::TwinReport { rid } => {
                if state.writes.take(1, now.monotonic) != Verdict::Take {
                    return Err(HubError::throttled(format!(
                        "more than {TWIN_WRITES} twin updates a second"
                    )));
                }
                let version = state.registry.get_mut(id)?.twin.report(payload, now.wall)?;
                let topic = format!("$iothub/twin/res/204/?$rid={rid}&$version={version}");
                Ok(send(id, &topic, Bytes::new()))
            }
            Request::MethodAnswer { status, rid } => {
                let known = state.calls.answered(id, rid, *status, payload);
                let note = if known {
                    "a call was answered"
                } else {
                    "an answer to no call, or too late"
                };
                Ok(Act::Note(format!(
                    "{id:?}, method, $rid={rid}, status {status}: {note}"
                )))
            }
        }
    }
}

/// A message that is never kept for later: twin and method messages go to a device that is there (QoS 0 for methods is documented, for
/// twins it is inferred from "only while connected").
fn send(id: &str, topic: &str, payload: Bytes) -> Act {
    Act::Send {
        client_id: id.to_owned(),
        topic: topic.into(),
        payload,
        qos: 0,
    }
}

fn end(id: &str, why: &'static str) -> Act {
    Act::End {
        client_id: id.to_owned(),
        why,
    }
}

/// What can be sent to a device now.
fn hand(state: &mut State, id: &str, now: Now) -> Vec<Act> {
    let Ok(device) = state.registry.get_mut(id) else {
        return Vec::new();
    };
    let Some(qos) = device.subscriptions.devicebound.filter(|_| device.connections > 0) else {
        return Vec::new();
    };
    let messages = device.inbox.hand(qos > 0, now.monotonic).into_iter();
    messages
        .map(|(topic, payload)| Act::Send {
            client_id: id.to_owned(),
            topic,
            payload,
            qos: 1,
        })
        .collect()
}

impl Backend for Core {
    fn admit(&self, peer: &Peer, session: &Session, now: Now) -> Result<(), Refusal> {
        self.state().registry.admit(peer, session, now.wall)
    }

    fn attached(&self, session: &Session, clean: bool, present: bool, now: Now) {
        let mut state = self.state();
        // Whoever had asked the connection before this one gets no answer any more.
        state.calls.gone(&session.client_id);
        let Ok(device) = state.registry.get_mut(&session.client_id) else {
            return;
        };
        device.connections += 1;
        device.seen = true;
        device.active = now.wall;
        if !present {
            device.subscriptions = super::device::Subscriptions::default();
            device.inbox.take_back();
        }
        if clean {
            device.inbox.clear();
        }
    }

    fn connected(&self, session: &Session, now: Now) -> Vec<Act> {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
        hand(&mut self.state(), &session.client_id, now)
    }

    fn granted(&self, session: &Session, filter: &str, qos: u8, now: Now) -> Vec<Act> {
        let mut state = self.state();
        let id = &session.client_id;
        let Ok(device) = state.registry.get_mut(id) else {
            return Vec::new();
        };
        match filter {
            rules::METHODS => device.subscriptions.methods = true,
            rules::DESIRED => device.subscriptions.desired = true,
            rules::TWIN_RESPONSES => {}
            _ => device.subscriptions.devicebound = Some(qos),
        }
        let acts = hand(&mut state, id, now);
        drop(state);
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
        acts
    }

    fn unsubscribed(&self, session: &Session, filter: &str, _now: Now) -> Vec<Act> {
        let mut state = self.state();
        if let Ok(device) = state.registry.get_mut(&session.client_id) {
            match filter {
                rules::METHODS => device.subscriptions.methods = false,
                rules::DESIRED => device.subscriptions.desired = false,
                f if f.starts_with(&devicebound::prefix(&session.client_id)) => device.subscriptions.devicebound = None,
                _ => {}
            }
        }
        Vec::new()
    }

    fn received(&self, session: &Session, received: Received<'_>, now: Now) -> Result<Handling, Refusal> {
        let id = &session.client_id;
        let mut state = self.state();
        if let Ok(device) = state.registry.get_mut(id) {
            device.active = now.wall;
        }
        // The policy has refused what is no request.
        let Some(Ok(request)) = Request::parse(received.topic) else {
            return Ok(Handling::Message);
        };
        let act = match self.twin_request(&mut state, id, &request, received.payload, now) {
            Ok(act) => vec![act],
            Err(e) => match request {
                Request::TwinGet { rid } | Request::TwinReport { rid } => {
                    let topic = format!("$iothub/twin/res/{}/?$rid={rid}", e.status());
                    let body = e.object(now.wall).to_string().into();
                    vec![
                        Act::Note(format!("{id:?}, {}: {e}", received.topic)),
                        send(id, &topic, body),
                    ]
                }
                Request::MethodAnswer { .. } => vec![Act::Note(format!("{id:?}, {}: {e}", received.topic))],
            },
        };
        Ok(Handling::Request(act))
    }

    fn acknowledged(&self, session: &Session, topic: &str, now: Now) -> Vec<Act> {
        let mut state = self.state();
        let id = &session.client_id;
        if let Ok(device) = state.registry.get_mut(id) {
            device.inbox.acknowledged(topic);
        }
        hand(&mut state, id, now)
    }

    fn gone(&self, session: &Session, _why: &str, now: Now) -> Vec<Act> {
        let mut state = self.state();
        let id = &session.client_id;
        if let Ok(device) = state.registry.get_mut(id) {
            device.connections = device.connections.saturating_sub(1);
            device.active = now.wall;
            if !device.is_connected() {
                state.calls.gone(id);
            }
        }
        Vec::new()
    }

    fn properties(&self, session: &Session, received: Received<'_>, will: bool) -> Option<Value> {
        // The policy has refused what cannot be read.
        let mut bag = Bag::parse(telemetry_bag(received.topic, &session.client_id)?).ok()?;
        if received.retain {
            bag.application.push(("mqtt-retain".into(), Some("true".into())));
        }
        if will {
            bag.application.push(("iothub-MessageType".into(), Some("Will".into())));
        }
        Some(bag.to_json())
    }
}

#[cfg(test)]
mod tests;
