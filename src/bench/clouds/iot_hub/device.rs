//! What the hub knows of one device.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::devicebound::Devicebound;
use super::registry::{Credential, Status};
use super::twin::Twin;

/// What a session subscribed to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Subscriptions {
    /// Quality of service of the devicebound messages.
    pub(super) devicebound: Option<u8>,
    pub(super) methods: bool,
    pub(super) desired: bool,
}

/// A device of the registry.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) credential: Credential,
    pub(super) status: Status,
    pub(super) twin: Twin,
    pub(super) inbox: Devicebound,
    pub(super) subscriptions: Subscriptions,
    /// Connections that have begun and not ended: two for a moment when one takes over from the other.
    pub(super) connections: u32,
    /// Whether it was ever there; nothing is queued before (IoT Hub documentation, mqtt-support).
    pub(super) seen: bool,
    generation: u64,
    /// Since the Unix epoch.
    pub(super) active: Duration,
}

impl Device {
    pub(super) fn new(credential: Credential, generation: u64, wall: Duration) -> Self {
        Self {
            credential,
            status: Status::Enabled,
            twin: Twin::new(wall),
            inbox: Devicebound::default(),
            subscriptions: Subscriptions::default(),
            connections: 0,
            seen: false,
            generation,
            active: Duration::ZERO,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connections > 0
    }

    fn state(&self) -> &'static str {
        if self.is_connected() {
            "Connected"
        } else {
            "Disconnected"
        }
    }

    fn last_activity(&self) -> String {
        if self.active.is_zero() {
            "0001-01-01T00:00:00Z".into() // what the hub says of a device that was never there
        } else {
            crate::clock::rfc3339(self.active)
        }
    }

    /// The document of the identity registry (IoT Hub service REST interface, `GET /devices/{id}`).
    pub(super) fn identity(&self, id: &str) -> Value {
        let (kind, prints) = match &self.credential {
            Credential::Authority | Credential::Issued { .. } => ("certificateAuthority", &[][..]),
            Credential::Thumbprints(list) => ("selfSigned", list.as_slice()),
        };
        let print = |at: usize| prints.get(at).map(ToString::to_string);
        json!({
            "deviceId": id,
            "generationId": self.generation.to_string(),
            "etag": format!("g{}", self.generation),
            "status": self.status,
            "connectionState": self.state(),
            "lastActivityTime": self.last_activity(),
            "cloudToDeviceMessageCount": self.inbox.len(),
            "authentication": {
                "type": kind,
                "x509Thumbprint": {"primaryThumbprint": print(0), "secondaryThumbprint": print(1)},
            },
        })
    }

    /// The twin as the service side sees it (`GET /twins/{id}`).
    pub(super) fn twin_document(&self, id: &str) -> Value {
        let mut out = Map::new();
        if let Value::Object(identity) = self.identity(id) {
            out.extend(identity);
        }
        out.remove("generationId");
        if let Some(authentication) = out.remove("authentication") {
            out.insert("authenticationType".into(), authentication["type"].clone());
            out.insert("x509Thumbprint".into(), authentication["x509Thumbprint"].clone());
        }
        if let Some(etag) = out.remove("etag") {
            out.insert("deviceEtag".into(), etag);
        }
        out.extend(self.twin.for_service());
        out.into()
    }
}
