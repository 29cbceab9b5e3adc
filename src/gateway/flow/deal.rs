//! What device, gateway and upstream have agreed on for one connection; made once, when upstream's CONNACK has come.

use std::sync::Arc;

use super::bucket::Bucket;
use super::topics::Rewrite;
use crate::gateway::group::policy::{Answer, Bounds, Matter, Policy};
use crate::gateway::group::{Kind, Platform};
use crate::gateway::rules::{Checker, Direction};
use crate::identity::redact_digits;
use crate::mqtt::properties::id;
use crate::mqtt::{ConnAck, Connect, Level};

/// Most characters of a device's own topic that are repeated in a log line.
const SHOWN_MAX: usize = 64;
/// Longest topic or filter of MQTT, in bytes: its length has two.
const TOPIC_MAX: usize = 65_535;

/// Something of the device's that this connection cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word}: {why}")]
pub struct Offence {
    /// The matter's word in a policy.
    pub word: &'static str,
    /// Offending and expected value.
    pub why: String,
    /// The code for a DISCONNECT of MQTT 5.
    pub reason: u8,
}

impl Offence {
    pub(super) fn new(matter: Matter, reason: u8, why: String) -> Self {
        Self {
            word: matter.word(),
            why,
            reason,
        }
    }
}

/// A topic for a log line: digits hidden, nothing that breaks the line, and not for ever.
pub(super) fn shown(topic: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(topic).chars().take(SHOWN_MAX).collect();
    format!("\"{}\"", redact_digits(&text).escape_debug())
}

/// What one connection is given. Its default is a connection to a broker that takes the whole of MQTT 3.1.1.
#[derive(Debug, Clone)]
pub struct Deal {
    level: Level,
    policy: Policy,
    bounds: Bounds,
    publish_qos: u8,
    subscribe_qos: u8,
    rewrite: Option<Arc<Rewrite>>,
    bucket: Option<Arc<Bucket>>,
    /// Seconds after which upstream misses us, if we are to speak in the device's stead.
    keep_alive: Option<u16>,
    /// What CONNECT and CONNACK of MQTT 5 settled for the checks.
    aliases: u16,
    authentication: bool,
    expires: bool,
    receive_maximum: u16,
    retains: bool,
}

impl Default for Deal {
    fn default() -> Self {
        Self::new(Level::V3, Policy::default(), Platform::Full)
    }
}

impl Deal {
    /// A deal by policy and platform alone.
    #[must_use]
    pub fn new(level: Level, policy: Policy, platform: Platform) -> Self {
        let most = |matter| if policy.answer(matter) == Answer::Pass { 2 } else { 1 };
        let (publish_qos, subscribe_qos) = match platform {
            Platform::Old => (0, 0),
            Platform::Full => (most(Matter::PublishQos2), most(Matter::SubscribeQos2)),
        };
        Self {
            level,
            policy,
            bounds: policy.bounds(),
            publish_qos,
            subscribe_qos,
            rewrite: None,
            bucket: None,
            keep_alive: None,
            aliases: 0,
            authentication: false,
            expires: false,
            receive_maximum: u16::MAX,
            retains: true,
        }
    }

    /// What checks each direction; `limit` bounds a packet, in bytes.
    pub(super) fn checkers(&self, limit: usize) -> (Checker, Checker) {
        let up = Checker::new(self.level, Direction::Up, limit)
            .with_topic_aliases(self.aliases)
            .with_authentication(self.authentication)
            .with_session_expiry(self.expires);
        (up, Checker::new(self.level, Direction::Down, limit))
    }

    /// With changes to topics.
    #[must_use]
    pub fn rewriting(mut self, rewrite: Option<Rewrite>) -> Self {
        self.rewrite = rewrite.map(Arc::new);
        self
    }

    /// With a limit on what the device sends.
    #[must_use]
    pub fn limited(mut self, bucket: Option<Arc<Bucket>>) -> Self {
        self.bucket = bucket;
        self
    }

    /// With PINGREQs of our own for a keep-alive of so many seconds upstream.
    #[must_use]
    pub fn pinging(mut self, keep_alive: Option<u16>) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// MQTT 5: with what CONNECT asked for and upstream's CONNACK grants.
    #[must_use]
    pub fn granted(mut self, connect: &Connect, connack: &ConnAck) -> Self {
        let (asked, given) = (connect.properties(), connack.properties());
        self.aliases = given.two(id::TOPIC_ALIAS_MAXIMUM).unwrap_or(0);
        self.authentication = asked.find(id::AUTH_METHOD).is_some();
        let expires = given.four(id::SESSION_EXPIRY).or(asked.four(id::SESSION_EXPIRY));
        self.expires = asked.four(id::SESSION_EXPIRY).unwrap_or(0) > 0 || expires.unwrap_or(0) > 0;
        self.receive_maximum = given.two(id::RECEIVE_MAXIMUM).unwrap_or(u16::MAX);
        self.publish_qos = self.publish_qos.min(given.byte(id::MAXIMUM_QOS).unwrap_or(2));
        self.retains = given.byte(id::RETAIN_AVAILABLE) != Some(0);
        if let Some(most) = given.four(id::MAXIMUM_PACKET).and_then(|n| usize::try_from(n).ok()) {
            self.bounds.packet = self.bounds.packet.min(most);
        }
        self
    }

    /// How many PUBLISHes above QoS 0 upstream takes before it has acknowledged one (MQTT 5).
    pub(super) fn receive_maximum(&self) -> u16 {
        self.receive_maximum
    }

    /// What is done with a message to be retained.
    pub(super) fn retain(&self) -> Answer {
        match self.answer(Matter::Retain) {
            Answer::Pass if !self.retains => Answer::Close,
            answer => answer,
        }
    }

    /// MQTT 5: up to which topic alias upstream takes.
    #[must_use]
    pub fn aliases(mut self, most: u16) -> Self {
        self.aliases = most;
        self
    }

    /// The protocol version of both sides.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The highest QoS upstream takes of a PUBLISH.
    #[must_use]
    pub fn publish_qos(&self) -> u8 {
        self.publish_qos
    }

    /// The keep-alive that the gateway's own PINGREQs keep, if it sends any.
    #[must_use]
    pub fn keep_alive(&self) -> Option<u16> {
        self.keep_alive
    }

    pub(super) fn is_five(&self) -> bool {
        self.level == Level::V5
    }

    pub(super) fn answer(&self, matter: Matter) -> Answer {
        self.policy.answer(matter)
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(super) fn subscribe_qos(&self) -> u8 {
        self.subscribe_qos
    }

    pub(super) fn rewrite(&self) -> Option<&Rewrite> {
        self.rewrite.as_deref()
    }

    pub(super) fn bucket(&self) -> Option<&Arc<Bucket>> {
        self.bucket.as_ref()
    }

    /// Whether the heads of PUBLISHes need no look: nothing is changed, and nothing of theirs is punished.
    pub(super) fn takes_any_publish(&self) -> bool {
        self.publish_qos == 2
            && self.rewrite.is_none()
            && self.retain() == Answer::Pass
            && self.answer(Matter::DollarTopic) == Answer::Pass
            && Bounds {
                packet: usize::MAX,
                ..self.bounds
            } == Policy::default().bounds()
    }

    /// The largest PUBLISH, when the listener takes `most` bytes.
    pub(super) fn publish_most(&self, most: usize) -> usize {
        match self.answer(Matter::LargePublish) {
            Answer::Pass => most,
            _ => most.min(self.bounds.packet),
        }
    }

    /// Whether SUBSCRIBEs need no look.
    pub(super) fn takes_any_subscribe(&self) -> bool {
        self.subscribe_qos == 2
            && self.rewrite.is_none()
            && [
                Matter::ManyFilters,
                Matter::FilterShape,
                Matter::SharedSubscription,
                Matter::DollarTopic,
                Matter::SubscriptionId,
            ]
            .iter()
            .all(|m| self.answer(*m) == Answer::Pass)
    }

    /// Why a topic or filter is too long or too deep. A policy of passing knows the protocol's own bound only.
    pub(crate) fn shape(&self, matter: Matter, topic: &[u8]) -> Option<String> {
        let (longest, deepest) = match self.answer(matter) {
            Answer::Pass => (TOPIC_MAX, usize::MAX),
            _ => (self.bounds.topic, self.bounds.levels),
        };
        if topic.len() > longest {
            return Some(format!("it has {} bytes, and at most {longest} are taken", topic.len()));
        }
        if deepest == usize::MAX {
            return None;
        }
        let free = if self.policy.kind() == Kind::AwsIot && topic.starts_with(BASIC_INGEST) {
            3
        } else {
            0
        };
        let levels = topic.iter().filter(|b| **b == b'/').count() + 1;
        (levels > deepest + free).then(|| format!("it has {levels} levels, and at most {} are taken", deepest + free))
    }

    /// Why a topic or filter below `$` is none of the cloud's.
    pub(crate) fn foreign(&self, topic: &[u8]) -> Option<String> {
        if topic.first() != Some(&b'$') || self.answer(Matter::DollarTopic) == Answer::Pass {
            return None;
        }
        let own: &[&[u8]] = match self.policy.kind() {
            Kind::AwsIot => &[b"$aws/"],
            Kind::IotHub => &[b"$iothub/", b"$dps/"],
            Kind::EventGrid | Kind::Standard => &[],
        };
        let known = own.iter().any(|prefix| topic.starts_with(prefix));
        (!known).then(|| "topics that begin with $ are the cloud's, and this is none that it has".to_owned())
    }
}

/// Basic Ingest: AWS IoT Core does not count the first three levels (quotas, "maximum number of slashes").
const BASIC_INGEST: &[u8] = b"$aws/rules/";

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(kind: Kind) -> Deal {
        Deal::new(Level::V3, Policy::of(kind), Platform::Full)
    }

    #[test]
    fn shapes_of_topics() {
        let aws = deal(Kind::AwsIot);
        let shape = |t: &str| aws.shape(Matter::TopicShape, t.as_bytes());
        assert_eq!(shape("1/2/3/4/5/6/7/8"), None);
        assert!(shape("1/2/3/4/5/6/7/8/9").unwrap().contains("9 levels"));
        assert_eq!(shape("$aws/rules/r/1/2/3/4/5/6/7/8"), None);
        assert!(shape("$aws/rules/r/1/2/3/4/5/6/7/8/9").is_some());
        assert_eq!(shape(&"x".repeat(256)), None);
        assert!(shape(&"x".repeat(257)).unwrap().contains("257"));
        let any = deal(Kind::Standard);
        assert_eq!(any.shape(Matter::TopicShape, &[b'/'; 65_535]), None);
        assert!(
            any.shape(Matter::FilterShape, &[b'x'; 65_536]).is_some(),
            "no policy lets a length overflow"
        );
    }

    #[test]
    fn topics_below_a_dollar() {
        for (kind, topic, known) in [
            (Kind::AwsIot, "$aws/things/t/shadow/get", true),
            (Kind::AwsIot, "$SYS/broker", false),
            (Kind::IotHub, "$iothub/twin/GET/?$rid=1", true),
            (Kind::IotHub, "$aws/x", false),
            (Kind::EventGrid, "$anything", true),
            (Kind::Standard, "$SYS/broker", true),
            (Kind::AwsIot, "a/$b", true),
        ] {
            assert_eq!(
                deal(kind).foreign(topic.as_bytes()).is_none(),
                known,
                "{kind:?} {topic}"
            );
        }
    }

    #[test]
    fn only_a_connection_without_wishes_is_not_looked_at() {
        assert!(Deal::default().takes_any_publish() && Deal::default().takes_any_subscribe());
        for kind in [Kind::AwsIot, Kind::EventGrid, Kind::IotHub] {
            assert!(!deal(kind).takes_any_publish() && !deal(kind).takes_any_subscribe());
        }
        let old = Deal::new(Level::V3, Policy::default(), Platform::Old);
        assert!(!old.takes_any_publish() && !old.takes_any_subscribe());
    }

    #[test]
    fn what_is_shown_tells_no_numbers_and_breaks_no_line() {
        assert_eq!(shown(b"d/295012345678901\n"), "\"d/29501********01\\n\"");
        assert!(shown(&[b'x'; 60_000]).len() < 80);
    }
}
