//! The MQTT side: two topics for requests, one for answers.
//!
//! `$dps/registrations/PUT/iotdps-register/?$rid=R` and `$dps/registrations/GET/iotdps-get-operationstatus/?$rid=R&operationId=O` are
//! answered at `$dps/registrations/res/STATUS/?$rid=R`, with `&retry-after=SECONDS` after it where there is something to wait for.
//! `$rid` comes first and is the only `$` of the query, and the seconds are whole, because Microsoft's Python client reads it so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use super::Dps;
use super::message::{Register, Reply};
use super::name::RegistrationId;
use crate::bench::clouds::backend::{Act, Backend, Handling, Now, Received};
use crate::bench::clouds::broker::SESSIONS_MAX;
use crate::bench::clouds::policy::dps::{Fault, POLL, PREVIEW, REGISTER, TOPIC};
use crate::bench::clouds::policy::{Look, Peer, Refusal, Session};

type Chain = Arc<[CertificateDer<'static>]>;

/// The service behind the MQTT stand-in.
#[derive(Debug)]
pub(crate) struct DpsMqtt {
    dps: Arc<Dps>,
    /// What each connected device showed, by client id, least recently used first; one a session.
    chains: Mutex<VecDeque<(String, Chain)>>,
}

/// A request as its topic says it.
#[derive(Debug, PartialEq, Eq)]
enum Request<'a> {
    Register { rid: &'a str },
    Poll { rid: &'a str, operation: &'a str },
}

/// A value of a query, unless it is empty.
fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let pair = |pair: &'a str| pair.strip_prefix(key)?.strip_prefix('=');
    query.split('&').find_map(pair).filter(|v| !v.is_empty())
}

fn parse(topic: &str) -> Result<Request<'_>, Refusal> {
    let refuse = |what: &str| {
        Err(Refusal::new(
            &TOPIC,
            Look::Close,
            format!("the topic {topic:?} has no {what}"),
        ))
    };
    if let Some(query) = topic.strip_prefix(REGISTER) {
        return match value(query, "$rid") {
            Some(rid) => Ok(Request::Register { rid }),
            None => refuse("$rid"),
        };
    }
    let Some(query) = topic.strip_prefix(POLL) else {
        return refuse("meaning");
    };
    let rid = value(query, "$rid");
    let operation = value(query, "operationId");
    match (rid, operation) {
        (Some(rid), Some(operation)) => Ok(Request::Poll { rid, operation }),
        (None, _) => refuse("$rid"),
        (_, None) => refuse("operationId"),
    }
}

fn answer(client_id: &str, rid: &str, status: u16, retry_after: Option<u64>, body: &Value) -> Act {
    let wait = retry_after.map(|s| format!("&retry-after={s}")).unwrap_or_default();
    Act::Send {
        client_id: client_id.to_owned(),
        topic: format!("$dps/registrations/res/{status}/?$rid={rid}{wait}").into(),
        payload: Bytes::from(body.to_string()),
        qos: 1,
    }
}

impl DpsMqtt {
    pub(crate) fn new(dps: Arc<Dps>) -> Self {
        Self {
            dps,
            chains: Mutex::default(),
        }
    }

    fn chains(&self) -> std::sync::MutexGuard<'_, VecDeque<(String, Chain)>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, client_id: &str, chain: Chain) {
        let mut chains = self.chains();
        chains.retain(|(id, _)| id != client_id);
        if chains.len() >= SESSIONS_MAX {
            chains.pop_front();
        }
        chains.push_back((client_id.to_owned(), chain));
    }

    /// What a device showed; it is now the most recently used.
    fn shown(&self, client_id: &str) -> Chain {
        let mut chains = self.chains();
        let found = chains.iter().position(|(id, _)| id == client_id);
        match found.and_then(|at| chains.remove(at)) {
            Some((id, chain)) => {
                chains.push_back((id, Arc::clone(&chain)));
                chain
            }
            None => Vec::new().into(),
        }
    }

    fn handle(
        &self,
        id: &RegistrationId,
        chain: &[CertificateDer<'_>],
        request: &Request<'_>,
        payload: &[u8],
        version: Option<&str>,
    ) -> Result<Reply, Fault> {
        match request {
            Request::Register { .. } => {
                let mut body = Register::read(payload, id, true)?;
                body.preview = version == Some(PREVIEW);
                self.dps.register(id, chain, body, false)
            }
            Request::Poll { operation, .. } => self.dps.poll(id, chain, operation),
        }
    }
}

impl Backend for DpsMqtt {
    fn admit(&self, peer: &Peer, session: &Session, _now: Now) -> Result<(), Refusal> {
        self.keep(&session.client_id, peer.chain.clone().into());
        Ok(())
    }

    fn received(&self, session: &Session, received: Received<'_>, _now: Now) -> Result<Handling, Refusal> {
        let client_id = &session.client_id;
        let request = parse(received.topic)?;
        let id: RegistrationId = client_id
            .parse()
            .map_err(|e: super::name::BadRegistrationId| Refusal::new(&TOPIC, Look::Close, e.to_string()))?;
        let (Request::Register { rid } | Request::Poll { rid, .. }) = request;
        let chain = self.shown(client_id);
        let mut acts = Vec::new();
        let mut report = |refusal: Refusal| {
            acts.push(Act::Report {
                client_id: client_id.clone(),
                refusal,
            });
        };
        let reply = match self.handle(&id, &chain, &request, received.payload, session.api_version.as_deref()) {
            Ok(reply) => {
                if let Some(refusal) = reply.broken {
                    report(refusal);
                }
                answer(client_id, rid, reply.status, reply.retry_after, &reply.body)
            }
            Err(fault) => {
                let tracking_id = self.dps.tracking_id();
                let body = self.dps.fault_body(&fault, &tracking_id);
                report(fault.refusal.clone());
                answer(client_id, rid, fault.status(), fault.retry_after, &body)
            }
        };
        acts.push(reply);
        Ok(Handling::Request(acts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_in_either_order() {
        let register = "$dps/registrations/PUT/iotdps-register/?$rid=7";
        assert_eq!(parse(register), Ok(Request::Register { rid: "7" }));
        let poll = Ok(Request::Poll {
            rid: "a-b",
            operation: "5.x.y",
        });
        let topic = "$dps/registrations/GET/iotdps-get-operationstatus/?";
        assert_eq!(parse(&format!("{topic}$rid=a-b&operationId=5.x.y")), poll);
        assert_eq!(parse(&format!("{topic}operationId=5.x.y&$rid=a-b")), poll);
        for bad in [
            "$dps/registrations/PUT/iotdps-register/?",
            "$dps/registrations/PUT/iotdps-register/?$rid=",
            "$dps/registrations/PUT/iotdps-register/?rid=1",
            "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1",
            "$dps/registrations/GET/iotdps-get-operationstatus/?operationId=1",
            "x",
        ] {
            assert_eq!(parse(bad).unwrap_err().rule.id, "dps/topic", "{bad}");
        }
    }
}
