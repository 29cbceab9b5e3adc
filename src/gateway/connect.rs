//! From the device's CONNECT to the one that upstream gets, and from upstream's CONNACK to the one that the device gets, in MQTT 3.1.1
//! and 5; or a refusal. No I/O.
//!
//! What is kept: client identifier, clean session, session expiry, receive maximum, aliases, user properties. What is replaced: the
//! login. SORACOM Beam's rules for it:
//! - `username` configured: that template, filled for the subscriber, and perhaps a password, filled too; X.509 is the proof.
//! - `pass_login = true` (Beam's `useClientCredentials`): the device's own user name and password.
//! - neither: no login at all.
//!
//! A password that was a token is removed in every case: it is a secret between device and gateway.
//!
//! Beam takes a keep-alive of 0 or 5 to 1,200 s and answers CONNACK 5 to any other; it cuts a connection that was silent for one and a
//! half times the keep-alive, or for 30 minutes when it is 0 (SORACOM Beam documentation, "Limitations"). A group may have other bounds.
//! Where upstream's longest keep-alive is shorter than the device's, upstream gets its longest, and the flow pings in the device's stead.
//!
//! The will goes where the device's messages go: its topic is rewritten as theirs are, its QoS and retain flag follow the group's policy,
//! and Beam's old platform drops it.
//!
//! | property of CONNACK (5) | the device gets |
//! |---|---|
//! | Maximum QoS | the lower of upstream's and the policy's |
//! | Maximum Packet Size | the lowest of upstream's (less [`REWRITE_ROOM`] when topics are rewritten), its kind's, and `listen.max_packet` |
//! | Retain Available | 0 when the policy closes on it, 1 when it clears it, else upstream's |
//! | Subscription Identifiers, Shared Subscription Available | 0 when the policy refuses them, else upstream's |
//! | Server Keep Alive | upstream's; the gateway's own idea of silence follows it |
//! | Receive Maximum, Topic Alias Maximum, Assigned Client Identifier, the rest | upstream's |
//!
//! CONNECT's Maximum Packet Size stays the device's: what upstream delivers streams through and needs no memory here.

use std::time::Duration;

use bytes::Bytes;

use super::flow::deal::Deal;
use super::flow::topics::Rewrite;
use super::flow::{Flow, Terms};
use super::group::policy::{Answer, Matter, Policy};
use super::group::{Group, KeepAlive, Login, Names, Platform};
use super::refusal::Refusal;
use super::subscriber::By;
use crate::identity::Subscriber;
use crate::mqtt::properties::{self, Value, id};
use crate::mqtt::{ConnAck, Connect, ConnectError, Frame, Level, PacketType, Will, reason};

/// Shortest keep-alive other than 0, in seconds (Beam).
pub const KEEP_ALIVE_MIN: u16 = 5;
/// Longest keep-alive, in seconds (Beam).
pub const KEEP_ALIVE_MAX: u16 = 1_200;
/// By how many bytes a rewritten topic may make a packet longer before upstream's Maximum Packet Size is met: `/<IMSI>` and two
/// placeholders. A device whose topic grows by more is told so at that message.
pub const REWRITE_ROOM: u32 = 64;

/// Most characters of a foreign protocol's name that are repeated in a log line.
const PROTOCOL_SHOWN: usize = 16;

/// What is to be done for a device that may come in.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The CONNECT for upstream.
    pub connect: Connect,
    /// The names it was made from.
    pub names: Names,
    /// After this long without a byte from the device, it is cut.
    pub idle: Duration,
    policy: Policy,
    platform: Platform,
    rewrite: Option<Rewrite>,
    /// Whether we speak in the device's stead.
    pings: bool,
}

/// A device that is in.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The CONNACK for the device.
    pub connack: ConnAck,
    /// What its connection is held to.
    pub terms: Terms,
    /// What was agreed on; [`Deal::limited`] adds the subscriber's bucket.
    pub deal: Deal,
}

impl Granted {
    /// The connection that follows; `now` is monotonic time.
    #[must_use]
    pub fn flow(self, now: Duration) -> Flow {
        Flow::with(self.terms, self.deal, now)
    }
}

/// Reads the first packet of a device.
///
/// # Errors
/// [`Refusal::Version`] or [`Refusal::Malformed`].
pub fn read(frame: &Frame) -> Result<Connect, Refusal> {
    if frame.packet != PacketType::Connect {
        return Err(Refusal::Malformed(format!(
            "the first packet is {:?}, it must be CONNECT [MQTT-3.1.0-1]",
            frame.packet
        )));
    }
    if frame.flags() != 0 {
        return Err(Refusal::Malformed(
            "CONNECT has reserved header flags set [MQTT-2.2.2-1]".into(),
        ));
    }
    Connect::decode(frame.body()).map_err(|e| match e {
        ConnectError::Protocol { name, level } => {
            // The name is the device's own text, and may be 64 KiB long.
            let name = name.chars().take(PROTOCOL_SHOWN).collect();
            Refusal::Version(ConnectError::Protocol { name, level }.to_string())
        }
        ConnectError::Malformed(_) => Refusal::Malformed(e.to_string()),
    })
}

/// Rewrites the CONNECT for a known subscriber.
///
/// # Errors
/// [`Refusal::Version`], [`Refusal::KeepAlive`], [`Refusal::Policy`], or [`Refusal::Credential`] when a template asks for a number this
/// subscriber does not have.
pub fn plan(device: Connect, who: &Subscriber, by: By, group: &Group) -> Result<Plan, Refusal> {
    let policy = group.policy;
    if device.level == Level::V5 && policy.answer(Matter::Mqtt5) != Answer::Pass {
        return Err(Refusal::Version(
            "upstream does not speak MQTT 5: use MQTT 3.1.1 (protocol version 4)".into(),
        ));
    }
    let KeepAlive { min, max, .. } = group.keep_alive;
    let asked = device.keep_alive;
    let idle = idle(asked, &group.keep_alive).ok_or(Refusal::KeepAlive { asked, min, max })?;
    let (keep_alive, adapted) = keep_alive(asked, &policy)?;
    if device.client_id.is_empty() && policy.answer(Matter::EmptyClientId) != Answer::Pass {
        return Err(Refusal::Policy {
            word: Matter::EmptyClientId.word(),
            why: "the client identifier is empty, and this upstream needs one".into(),
            reason: reason::BAD_CLIENT_ID,
        });
    }
    let names = group.names(who).map_err(Refusal::Credential)?;
    let rewrite = Rewrite::new(group.topics, who);
    let (username, password) = match &group.login {
        Login::Fixed { .. } => (
            names.username.clone(),
            names.password.as_ref().map(|p| Bytes::copy_from_slice(p.as_bytes())),
        ),
        Login::PassThrough => (device.username, device.password.filter(|_| by != By::Token)),
        Login::None => (None, None),
    };
    let will = match (device.will, group.platform) {
        (Some(will), Platform::Full) => Some(adapt_will(will, device.level, &policy, rewrite.as_ref())?),
        _ => None,
    };
    // Who waits for a bucket cannot ping.
    let limited = group.rate.messages > 0 || group.rate.bytes > 0;
    Ok(Plan {
        connect: Connect {
            username,
            password,
            will,
            keep_alive,
            ..device
        },
        names,
        idle,
        policy,
        platform: group.platform,
        rewrite,
        pings: adapted || limited,
    })
}

/// The keep-alive for upstream, and whether it is another than the device's.
fn keep_alive(asked: u16, policy: &Policy) -> Result<(u16, bool), Refusal> {
    let Some(most) = policy.bounds().keep_alive else {
        return Ok((asked, false));
    };
    match policy.answer(Matter::KeepAlive) {
        _ if (1..=most).contains(&asked) => Ok((asked, false)),
        Answer::Pass => Ok((asked, false)),
        Answer::Adapt => Ok((most, true)),
        Answer::Refuse | Answer::Close => Err(Refusal::Policy {
            word: Matter::KeepAlive.word(),
            why: format!("a keep-alive of {asked} s, and upstream takes 1 to {most} s"),
            reason: reason::NOT_AUTHORIZED,
        }),
    }
}

fn adapt_will(mut will: Will, level: Level, policy: &Policy, rewrite: Option<&Rewrite>) -> Result<Will, Refusal> {
    let refuse = |matter: Matter, why: String, reason| Refusal::Policy {
        word: matter.word(),
        why,
        reason,
    };
    if let Some(rewrite) = rewrite {
        let topic = rewrite.published(will.topic.as_bytes());
        let topic = topic.map_err(|missing| Refusal::Credential(format!("the will: {missing}")))?;
        if let Some(text) = topic.and_then(|t| String::from_utf8(t).ok()) {
            will.topic = text;
        }
    }
    let deal = Deal::new(level, *policy, Platform::Full);
    let wrong = deal
        .shape(Matter::TopicShape, will.topic.as_bytes())
        .or_else(|| deal.foreign(will.topic.as_bytes()));
    if let Some(why) = wrong {
        let why = format!("the will's topic: {why}");
        return Err(refuse(Matter::TopicShape, why, reason::TOPIC_NAME_INVALID));
    }
    let (size, most) = (will.payload.len(), policy.bounds().payload);
    if size > most && policy.answer(Matter::LargePublish) != Answer::Pass {
        let why = format!("the will has {size} bytes, and at most {most} are taken");
        return Err(refuse(Matter::LargePublish, why, reason::PACKET_TOO_LARGE));
    }
    if will.qos == 2 {
        match policy.answer(Matter::WillQos2) {
            Answer::Pass => {}
            Answer::Adapt => will.qos = 1,
            Answer::Refuse | Answer::Close => {
                let why = "a will with QoS 2, and upstream takes 1".to_owned();
                return Err(refuse(Matter::WillQos2, why, reason::QOS_NOT_SUPPORTED));
            }
        }
    }
    if will.retain {
        match policy.answer(Matter::WillRetain) {
            Answer::Pass => {}
            Answer::Adapt => will.retain = false,
            Answer::Refuse | Answer::Close => {
                let why = "a will that is to be retained, and upstream does not".to_owned();
                return Err(refuse(Matter::WillRetain, why, reason::RETAIN_NOT_SUPPORTED));
            }
        }
    }
    Ok(will)
}

impl Plan {
    /// What upstream's CONNACK means for the device. `max_packet` is the largest packet that the listener takes, in bytes.
    ///
    /// # Errors
    /// [`Refusal::Upstream`] and [`Refusal::Upstream5`].
    pub fn granted(&self, mut connack: ConnAck, max_packet: usize) -> Result<Granted, Refusal> {
        if !connack.is_accepted() {
            return Err(match connack.level {
                Level::V3 => Refusal::Upstream(connack.code),
                Level::V5 => Refusal::Upstream5(connack.code),
            });
        }
        let mut terms = Terms {
            max_packet,
            idle: self.idle,
        };
        let mut deal = Deal::new(self.connect.level, self.policy, self.platform).rewriting(self.rewrite.clone());
        let mut keep_alive = self.connect.keep_alive;
        if connack.level == Level::V5 {
            deal = deal.granted(&self.connect, &connack);
            if let Some(seconds) = connack.properties().two(id::SERVER_KEEP_ALIVE) {
                keep_alive = seconds;
                if seconds > 0 {
                    terms.idle = one_and_a_half(seconds);
                }
            }
            connack.properties = self.told(&connack, &deal, max_packet).into();
        }
        let deal = deal.pinging((self.pings && keep_alive > 0).then_some(keep_alive));
        Ok(Granted { connack, terms, deal })
    }

    /// The properties of the device's CONNACK.
    fn told(&self, connack: &ConnAck, deal: &Deal, max_packet: usize) -> Vec<u8> {
        let theirs = connack.properties();
        let mut own: Vec<(u8, Value<'_>)> = Vec::new();
        if deal.publish_qos() < 2 {
            own.push((id::MAXIMUM_QOS, Value::Byte(deal.publish_qos())));
        }
        let room = if self.rewrite.is_some() { REWRITE_ROOM } else { 0 };
        let most = [max_packet, self.policy.bounds().packet]
            .into_iter()
            .min()
            .unwrap_or(max_packet);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let most = theirs
            .four(id::MAXIMUM_PACKET)
            .map_or(most, |n| n.saturating_sub(room).max(1).min(most));
        own.push((id::MAXIMUM_PACKET, Value::Four(most)));
        match self.policy.answer(Matter::Retain) {
            Answer::Adapt => own.push((id::RETAIN_AVAILABLE, Value::Byte(1))),
            Answer::Close => own.push((id::RETAIN_AVAILABLE, Value::Byte(0))),
            Answer::Pass | Answer::Refuse => {}
        }
        for (matter, property) in [
            (Matter::SubscriptionId, id::IDENTIFIERS_AVAILABLE),
            (Matter::SharedSubscription, id::SHARED_AVAILABLE),
        ] {
            if self.policy.answer(matter) != Answer::Pass {
                own.push((property, Value::Byte(0)));
            }
        }
        let ids: Vec<u8> = own.iter().map(|(id, _)| *id).collect();
        let mut section = theirs.without(&ids);
        for (id, value) in own {
            // Numbers always fit.
            let _ = properties::put(&mut section, id, value);
        }
        section
    }
}

fn one_and_a_half(seconds: u16) -> Duration {
    Duration::from_millis(u64::from(seconds) * 1_500)
}

/// How long a device with this keep-alive may be silent; `None` when the group does not take it.
#[must_use]
pub fn idle(keep_alive: u16, rule: &KeepAlive) -> Option<Duration> {
    match keep_alive {
        0 => Some(rule.idle_at_zero),
        seconds if (rule.min..=rule.max).contains(&seconds) => Some(one_and_a_half(seconds)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
