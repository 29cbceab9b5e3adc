//! Presence events: `$aws/events/presence/{connected|disconnected}/{clientId}`, with the reason of a disconnection. No I/O.
//! Source: AWS IoT Core developer guide, "Lifecycle events". A client id with `#` or `+` has none.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use crate::bench::clouds::backend::{Act, Now};
use crate::bench::clouds::policy::Session;

/// Version numbers start again when a client has been away for this long.
const FORGET: Duration = Duration::from_secs(3_600);
/// Clients whose numbers are kept; the bench's own bound.
const CLIENTS_MAX: usize = 1_024;
/// Connections of one client id at a time: the one that holds the session and those that are being sent away. The bench's own bound.
const CONNECTIONS_MAX: usize = 8;

#[derive(Debug)]
struct Live {
    session_identifier: String,
    version: u64,
}

#[derive(Debug, Default)]
struct Client {
    next_version: u64,
    left_at: Duration,
    address: Option<IpAddr>,
    live: VecDeque<Live>,
}

/// Who is connected.
#[derive(Debug, Default)]
pub struct Presence {
    clients: HashMap<String, Client>,
}

/// AWS's word for why a connection ended, from the journal's.
#[must_use]
pub fn reason(why: &str) -> &'static str {
    match why {
        "DISCONNECT" => "CLIENT_INITIATED_DISCONNECT",
        w if w.starts_with("taken over") => "DUPLICATE_CLIENTID",
        w if w.contains("mqtt/keep-alive") => "MQTT_KEEP_ALIVE_TIMEOUT",
        w if w.contains("-permission") || w.contains("aws-iot/certificate") => "AUTH_ERROR",
        w if w.contains("bench/fault") || w.contains("restarts") => "SERVER_ERROR",
        w if w.starts_with("rule ") => "CLIENT_ERROR",
        _ => "CONNECTION_LOST",
    }
}

fn event(session: &Session, kind: &str, live: &Live, now: Now, more: serde_json::Value) -> Vec<Act> {
    if session.client_id.contains(['#', '+']) {
        return Vec::new();
    }
    let mut body = json!({
        "clientId": session.client_id,
        "timestamp": u64::try_from(now.wall.as_millis()).unwrap_or(u64::MAX),
        "eventType": kind,
        "sessionIdentifier": live.session_identifier,
        "principalIdentifier": session.owner,
        "versionNumber": live.version,
    });
    if let (Some(body), serde_json::Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    vec![Act::Publish {
        topic: format!("$aws/events/presence/{kind}/{}", session.client_id).into(),
        payload: body.to_string().into(),
        qos: 1,
    }]
}

impl Presence {
    /// Where a client that was admitted comes from.
    pub fn admitted(&mut self, session: &Session, address: IpAddr, now: Now) {
        self.clients
            .retain(|_, c| !c.live.is_empty() || now.monotonic.saturating_sub(c.left_at) < FORGET);
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&session.client_id) {
            self.clients.retain(|_, c| !c.live.is_empty());
        }
        let client = self.clients.entry(session.client_id.clone()).or_default();
        client.left_at = now.monotonic;
        client.address = Some(address);
    }

    /// A client is connected.
    pub fn connected(&mut self, session: &Session, now: Now) -> Vec<Act> {
        let Some(client) = self.clients.get_mut(&session.client_id) else {
            return Vec::new();
        };
        if client.live.len() >= CONNECTIONS_MAX {
            client.live.pop_front();
        }
        let live = Live {
            session_identifier: format!("{:032x}", fastrand::u128(..)),
            version: client.next_version,
        };
        client.next_version += 1;
        let address = client.address.map(|a| a.to_string());
        let acts = event(session, "connected", &live, now, json!({ "ipAddress": address }));
        client.live.push_back(live);
        acts
    }

    /// A connection ended; of several with one client id it is the oldest, which was taken over.
    pub fn gone(&mut self, session: &Session, why: &str, now: Now) -> Vec<Act> {
        let Some(client) = self.clients.get_mut(&session.client_id) else {
            return Vec::new();
        };
        client.left_at = now.monotonic;
        let Some(live) = client.live.pop_front() else {
            return Vec::new();
        };
        let reason = reason(why);
        let more = json!({
            "clientInitiatedDisconnect": reason == "CLIENT_INITIATED_DISCONNECT",
            "disconnectReason": reason,
        });
        event(session, "disconnected", &live, now, more)
    }
}
