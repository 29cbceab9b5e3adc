//! The rule book of the MQTT broker of Azure Event Grid namespaces, as far as a device with X.509 meets it.
//!
//! - Who connects: [`clients`]. Without a registry every certificate that the intermediate signed is a client, with its common name as
//!   authentication name. The authority is the intermediate alone, because Event Grid wants the certificate that directly signed the leaf.
//!   With a client that is known by thumbprint, TLS takes any certificate, and [`Admission`] asks for the authority where one is needed.
//! - Where it may publish and subscribe: [`spaces`].
//! - What it looks like: in 3.1.1 a refused publication closes the connection (the troubleshooting page says as much), in 5 it is a
//!   PUBACK with the reason, or a DISCONNECT for QoS 0. QoS 2 closes for PUBLISH and SUBSCRIBE alike: the documentation says "failure,
//!   connection closed" and makes no difference. Which reason codes the service gives is not written down: those that MQTT 5 has for the
//!   case are used, and that is inferred throughout.
//! - Keep-alive over the maximum is capped, not refused: MQTT 5 says so in CONNACK, 3.1.1 cannot.
//! - Rates: messages and bytes beyond them end the connection (QuotaExceeded among the life-cycle events' reasons). Two numbers are in
//!   print for messages of a session, 100 and, newer, 1,000 a second; the newer one is the default here and the older one can be asked for.

pub mod clients;
mod rules;
mod settings;
pub mod spaces;

#[cfg(test)]
mod tests;

use std::time::Duration;

use rustls_pki_types::CertificateDer;

use self::clients::{Client, Scheme};
use self::rules::{
    AUTH_NAME, AUTHORITY, CERTIFICATE, CLIENT_ID, PUBLISHER, QOS_2, RETAINED, SUBSCRIBER, TOPIC_SIZE, UNKNOWN,
    USER_NAME, USER_PROPERTIES,
};
use self::spaces::{Permission, allowed};
use super::{
    Five, Keeping, Limits, Look, Look5, Peer, Policy, Publication, Refusal, Rule, Session, one_and_a_half, reason,
};
use crate::bench::clouds::backend::{Backend, Now};
use crate::bench::clouds::chain;
use crate::bench::clouds::rate::{Excess, Rate, Rates};
use crate::bench::clouds::topic;
use crate::mqtt::{Connect, PacketType, connack};
use crate::tls::Leaf;

pub(super) use rules::RULES;
pub use settings::{SESSION_EXPIRY_MAX, Settings};

/// Largest packet, in bytes.
const PACKET_MAX: usize = 512 * 1024;
/// Longest topic or filter, in bytes.
const TOPIC_MAX: usize = 256;
/// Most segments of a topic or filter.
const SEGMENTS_MAX: usize = 8;
/// Longest authentication name, in characters.
const AUTH_NAME_MAX: usize = 128;
/// Longest keep-alive, in seconds.
const KEEP_ALIVE_MAX: u16 = 1_160;
/// Outbound messages without acknowledgement.
const IN_FLIGHT: usize = 16;
/// Inbound messages without acknowledgement in MQTT 5; the outbound number is taken for both ways (inferred).
const RECEIVE_MAXIMUM: u16 = 16;
/// Topic aliases of a connection.
const TOPIC_ALIASES: u16 = 10;
/// Longest will delay.
const WILL_DELAY_MAX: Duration = Duration::from_secs(300);
/// Largest message that is kept, in bytes.
const RETAINED_MAX: usize = 64 * 1024;
/// Bytes of a session in a second.
const BYTES_PER_SECOND: u32 = 1 << 20;
/// Messages of a session in a second: see the module's notes.
const PUBLISHES_PER_SECOND: u32 = 1_000;
/// Sessions of an authentication name, in the documentation's example of a namespace.
const SESSIONS: usize = 1;
/// Messages kept for a session.
const QUEUE: usize = 100;
/// Default session expiry of a namespace.
const SESSION_EXPIRY: Duration = Duration::from_secs(3_600);

/// A namespace.
#[derive(Debug, Clone)]
pub struct EventGrid {
    settings: Settings,
}

fn find<'a>(clients: &'a [Client], name: &str) -> Option<&'a Client> {
    let name = name.to_lowercase();
    clients.iter().find(|c| c.authentication_name.to_lowercase() == name)
}

impl EventGrid {
    /// `templates` are those of the topic space when the settings name none.
    ///
    /// # Errors
    /// Templates that cannot be used, a binding to a space that is not there, an expiry over [`SESSION_EXPIRY_MAX`].
    pub fn new(mut settings: Settings, templates: Vec<String>) -> Result<Self, String> {
        settings.complete(templates)?;
        Ok(Self { settings })
    }

    fn allowed(&self, session: &Session, permission: Permission) -> Vec<String> {
        let Settings {
            spaces,
            bindings,
            clients,
            ..
        } = &self.settings;
        allowed(
            spaces,
            bindings,
            permission,
            &session.owner,
            find(clients, &session.owner),
        )
    }

    fn size(topic: &str, look: Look, look_5: Look5) -> Result<(), Refusal> {
        let levels = topic::levels(topic);
        if topic.len() > TOPIC_MAX || levels > SEGMENTS_MAX {
            let detail = format!("this one has {} bytes and {levels} segments", topic.len());
            return Err(Refusal::new(&TOPIC_SIZE, look, detail).in_5(look_5));
        }
        Ok(())
    }

    /// The authentication name in its registered case.
    fn authenticate(&self, peer: &Peer, name: &str) -> Result<String, Refusal> {
        let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
        if self.settings.clients.is_empty() {
            let cn = peer.common_name()?;
            if name.to_lowercase() != cn.to_lowercase() {
                let detail = format!("the user name is {name:?}, the certificate's common name {cn:?}");
                return Err(Refusal::new(&USER_NAME, refused, detail));
            }
            // Registered under the certificate's spelling: comparison ignores case, topic variables keep it.
            return Ok(cn.to_owned());
        }
        let Some(client) = find(&self.settings.clients, name) else {
            let detail = format!("no client has the authentication name {name:?}");
            return Err(Refusal::new(&UNKNOWN, refused, detail));
        };
        let judged = match peer.chain.first() {
            Some(leaf) => client.recognises(leaf, peer.cn.as_deref()),
            None => Err("there is none".to_owned()),
        };
        judged.map_err(|why| {
            Refusal::new(
                &CERTIFICATE,
                refused,
                format!("client {name:?}, the certificate: {why}"),
            )
        })?;
        Ok(client.authentication_name.clone())
    }
}

impl Policy for EventGrid {
    fn rules(&self) -> &'static [&'static Rule] {
        &RULES
    }

    fn limits(&self) -> Limits {
        Limits {
            packet: PACKET_MAX,
            in_flight: IN_FLIGHT,
            queue: QUEUE,
            session_expiry: self.settings.session_expiry,
            hash_covers_parent: true,
            foreign_take_over: false,
        }
    }

    fn connect(&self, peer: &Peer, connect: &Connect) -> Result<Session, Refusal> {
        if connect.client_id.is_empty() {
            return Err(Refusal::new(
                &CLIENT_ID,
                Look::ConnAck(connack::BAD_CLIENT_ID),
                "the client id is empty",
            ));
        }
        let name = connect.username.as_deref().unwrap_or_default();
        let refused = Look::ConnAck(connack::NOT_AUTHORIZED);
        let length = name.chars().count();
        if length == 0 || length > AUTH_NAME_MAX {
            let detail = format!("the user name has {length} characters");
            return Err(Refusal::new(&AUTH_NAME, refused, detail));
        }
        let session = Session {
            api_version: None,
            client_id: connect.client_id.clone(),
            owner: self.authenticate(peer, name)?,
            cn: peer.cn.clone().unwrap_or_default(),
        };
        if let Some(will) = &connect.will {
            let publication = Publication {
                topic: &will.topic,
                qos: will.qos,
                payload: will.payload.len(),
            };
            self.publish(&session, publication)
                .map_err(|r| Refusal { look: refused, ..r })?;
        }
        Ok(session)
    }

    fn silence_allowed(&self, keep_alive: u16) -> Duration {
        one_and_a_half(self.keep_alive(keep_alive))
    }

    fn publish(&self, session: &Session, p: Publication<'_>) -> Result<(), Refusal> {
        if p.qos > 1 {
            let refusal = Refusal::new(&QOS_2, Look::Close, "a PUBLISH with QoS 2");
            return Err(refusal.in_5(Look5::Disconnect(reason::QOS)));
        }
        Self::size(p.topic, Look::Close, Look5::PubAck(reason::TOPIC_INVALID))?;
        let allowed = self.allowed(session, Permission::Publisher);
        if !allowed.iter().any(|filter| topic::matches(filter, p.topic, true)) {
            let detail = format!("{:?} is in none of {allowed:?}", p.topic);
            let refusal = Refusal::new(&PUBLISHER, Look::Close, detail);
            return Err(refusal.in_5(Look5::PubAck(reason::NOT_AUTHORIZED)));
        }
        Ok(())
    }

    fn subscribe(&self, session: &Session, filter: &str, qos: u8, _held: usize) -> Result<u8, Refusal> {
        if qos > 1 {
            let refusal = Refusal::new(&QOS_2, Look::Close, "a SUBSCRIBE with QoS 2");
            return Err(refusal.in_5(Look5::Disconnect(reason::QOS)));
        }
        Self::size(filter, Look::SubAckFailure, Look5::SubAck(reason::FILTER_INVALID))?;
        let allowed = self.allowed(session, Permission::Subscriber);
        if !allowed.iter().any(|outer| topic::covers(outer, filter)) {
            let detail = format!("{filter:?} is not within {allowed:?}");
            let refusal = Refusal::new(&SUBSCRIBER, Look::SubAckFailure, detail);
            return Err(refusal.in_5(Look5::SubAck(reason::NOT_AUTHORIZED)));
        }
        Ok(qos)
    }

    fn five(&self) -> Option<Five> {
        Some(Five {
            session_expiry_max: self.settings.session_expiry,
            receive_maximum: RECEIVE_MAXIMUM,
            topic_alias_maximum: TOPIC_ALIASES,
            will_delay_max: WILL_DELAY_MAX,
            retain: true,
            property_room: 0,
        })
    }

    fn user_properties(&self, packet: PacketType) -> Result<(), Refusal> {
        let look_5 = match packet {
            PacketType::Connect => Look5::ConnAck(reason::IMPLEMENTATION),
            PacketType::Subscribe => Look5::SubAck(reason::IMPLEMENTATION),
            _ => Look5::Disconnect(reason::IMPLEMENTATION),
        };
        let detail = format!("user properties on {packet:?}");
        Err(Refusal::new(&USER_PROPERTIES, Look::Close, detail).in_5(look_5))
    }

    fn keep_alive(&self, asked: u16) -> u16 {
        match asked {
            0 => KEEP_ALIVE_MAX,
            seconds => seconds.min(KEEP_ALIVE_MAX),
        }
    }

    fn retain(&self, _session: &Session, p: Publication<'_>) -> Result<bool, Refusal> {
        if p.payload > RETAINED_MAX {
            let detail = format!("this one has {} bytes", p.payload);
            let refusal = Refusal::new(&RETAINED, Look::Close, detail);
            return Err(refusal.in_5(Look5::PubAck(reason::QUOTA)));
        }
        Ok(true)
    }

    fn keeping(&self) -> Keeping {
        Keeping {
            sessions_per_owner: Some(self.settings.sessions_per_name),
            overflow_ends: true,
        }
    }

    fn rates(&self) -> Rates {
        let rate = |per_second| {
            Some(Rate {
                per_second,
                excess: Excess::Close,
            })
        };
        Rates {
            publishes: rate(self.settings.publishes_per_second),
            bytes: rate(BYTES_PER_SECOND),
        }
    }
}

/// The question for the authority, where the TLS handshake did not ask it because a client is known by its thumbprint.
#[derive(Debug)]
pub struct Admission {
    clients: Vec<Client>,
    authority: CertificateDer<'static>,
}

impl Admission {
    /// `authority` is the intermediate that signs clients.
    #[must_use]
    pub fn new(settings: &Settings, authority: CertificateDer<'static>) -> Self {
        Self {
            clients: settings.clients.clone(),
            authority,
        }
    }
}

impl Backend for Admission {
    fn admit(&self, peer: &Peer, session: &Session, now: Now) -> Result<(), Refusal> {
        let refused = |detail: String| Refusal::new(&AUTHORITY, Look::ConnAck(connack::NOT_AUTHORIZED), detail);
        let known_by_print = |c: &Client| matches!(c.scheme, Scheme::Thumbprint(_));
        if find(&self.clients, &session.owner).is_some_and(known_by_print) {
            let leaf = peer
                .chain
                .first()
                .ok_or_else(|| refused("there is no certificate".into()))?;
            let leaf = Leaf::read(leaf, "the client certificate").map_err(|e| refused(e.to_string()))?;
            return if (leaf.not_before..=leaf.not_after).contains(&now.wall) {
                Ok(())
            } else {
                Err(refused("it is outside its validity".into()))
            };
        }
        chain::follow(&peer.chain, std::slice::from_ref(&self.authority), now.wall)
            .map(|_| ())
            .map_err(|e| refused(e.to_string()))
    }
}
