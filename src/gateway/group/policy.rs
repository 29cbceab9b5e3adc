//! What becomes of what an upstream would punish.
//!
//! A cloud answers a packet it does not like by closing without a word, and the device then tries the same again for ever. So the
//! gateway looks first. A [`Matter`] is one thing that some upstream punishes, an [`Answer`] is what the gateway does about it, and a
//! [`Policy`] says which answer a group gives to which matter. [`table`] writes the defaults as the table that follows; a test keeps
//! this text and the code the same.
//!
//! | matter | event-grid | iot-hub | aws-iot | standard | may also be |
//! |---|---|---|---|---|---|
//! | `publish_qos2` | adapt | adapt | adapt | pass | close |
//! | `subscribe_qos2` | adapt | pass | adapt | pass | refuse |
//! | `retain` | pass | pass | pass | pass | adapt, close |
//! | `keep_alive` | adapt, 1160 s | adapt, 1177 s | adapt, 1200 s | pass | refuse |
//! | `many_filters` | pass | pass | adapt, 8 | pass | refuse |
//! | `topic_shape` | refuse, 256 B, 8 levels | refuse | refuse, 256 B, 8 levels | refuse | close |
//! | `filter_shape` | refuse, 256 B, 8 levels | pass | refuse, 256 B, 8 levels | pass | close |
//! | `large_publish` | refuse, 524288 B packet | refuse, 262144 B payload | refuse, 131072 B payload | refuse | close |
//! | `will_qos2` | adapt | adapt | adapt | pass | refuse |
//! | `will_retain` | pass | pass | pass | pass | adapt, refuse |
//! | `empty_client_id` | refuse | refuse | refuse | pass | - |
//! | `shared_subscription` | refuse | refuse | pass | pass | close |
//! | `dollar_topic` | pass | refuse | refuse | pass | close |
//! | `subscription_id` | refuse | pass | refuse | pass | close |
//! | `mqtt5` | pass | refuse | pass | pass | - |
//!
//! The answers, and what they are where MQTT 3.1.1 has no word for them:
//!
//! | answer | PUBLISH | SUBSCRIBE | CONNECT |
//! |---|---|---|---|
//! | pass | goes on | goes on | goes on |
//! | adapt | goes on in a form that upstream takes | the same | the same |
//! | refuse | MQTT 5 with QoS 1 or 2: PUBACK or PUBREC with the reason, payload discarded; otherwise as close | SUBACK 0x80 (5: the fitting code) for that filter, in its place | CONNACK |
//! | close | the connection ends with the reason (5: in a DISCONNECT) | the same | - |
//!
//! What the adaptations are: a PUBLISH with QoS 2 goes up with QoS 1 (MQTT 5 announces Maximum QoS 1 instead, and closes with 0x9B);
//! QoS 2 of a filter or a will becomes 1; the retain flag is cleared; upstream gets its longest keep-alive and the gateway's own
//! PINGREQs; a SUBSCRIBE is cut into several.
//!
//! Retained messages pass by default everywhere: Event Grid has kept them since the middle of 2025, AWS keeps them, IoT Hub turns the
//! flag into a property of the message that applications may use; whose namespace is older writes `retain = "adapt"`, and messages
//! then go on without the flag, or `"close"`. A queue of QoS 2 cannot be kept by a cloud that has none, so "exactly once" becomes "at
//! least once" when a connection breaks between PUBLISH and PUBREC.

use std::fmt;
use std::str::FromStr;

use super::Kind;
use crate::cloud;

/// What the gateway does about a [`Matter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: upstream can do it, or says so itself.
    Pass,
    /// It goes on in a form that upstream takes.
    Adapt,
    /// The packet is refused, and the connection stays where the protocol has a word for that.
    Refuse,
    /// The connection ends with the reason.
    Close,
}

impl Answer {
    /// The words of configurations.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("pass", Self::Pass),
        ("adapt", Self::Adapt),
        ("refuse", Self::Refuse),
        ("close", Self::Close),
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, a)| *a == self).map_or("", |(w, _)| w)
    }
}

impl FromStr for Answer {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::WORDS.iter().find(|(w, _)| *w == text).map(|(_, a)| *a);
        found.ok_or_else(|| format!("{text:?} is no answer: write pass, adapt, refuse or close"))
    }
}

/// A thing that some upstream punishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Matter {
    /// The device publishes with QoS 2.
    PublishQos2,
    /// The device subscribes with QoS 2.
    SubscribeQos2,
    /// The device publishes a message to be retained.
    Retain,
    /// The keep-alive is longer than upstream's longest, or 0.
    KeepAlive,
    /// More filters in one SUBSCRIBE than upstream takes.
    ManyFilters,
    /// The topic of a PUBLISH is too long or too deep.
    TopicShape,
    /// A filter is too long or too deep.
    FilterShape,
    /// A PUBLISH is larger than upstream takes.
    LargePublish,
    /// The will has QoS 2.
    WillQos2,
    /// The will is to be retained.
    WillRetain,
    /// The client identifier is empty.
    EmptyClientId,
    /// A filter `$share/…`.
    SharedSubscription,
    /// A topic or filter below `$` that is not the cloud's own.
    DollarTopic,
    /// MQTT 5: a subscription identifier.
    SubscriptionId,
    /// The device speaks MQTT 5.
    Mqtt5,
}

/// How many matters there are.
const MATTERS: usize = 15;

/// One matter's word, its answers for the kinds in the order of [`KINDS`], which others it may have, what it says, and who says so.
struct Entry {
    matter: Matter,
    word: &'static str,
    defaults: [Answer; 4],
    also: &'static [Answer],
    source: &'static str,
}

/// The order of [`Entry::defaults`] and of the table's columns.
const KINDS: [Kind; 4] = [Kind::EventGrid, Kind::IotHub, Kind::AwsIot, Kind::Standard];

const fn entry(
    matter: Matter,
    word: &'static str,
    defaults: [Answer; 4],
    also: &'static [Answer],
    source: &'static str,
) -> Entry {
    Entry {
        matter,
        word,
        defaults,
        also,
        source,
    }
}

use Answer::{Adapt, Close, Pass, Refuse};

const ENTRIES: [Entry; MATTERS] = [
    entry(
        Matter::PublishQos2,
        "publish_qos2",
        [Adapt, Adapt, Adapt, Pass],
        &[Close],
        "Event Grid and IoT Hub close the connection, AWS IoT Core never answers (their MQTT pages)",
    ),
    entry(
        Matter::SubscribeQos2,
        "subscribe_qos2",
        [Adapt, Pass, Adapt, Pass],
        &[Refuse],
        "IoT Hub grants 1 itself; AWS IoT Core never answers; Event Grid's text leaves it open (inferred)",
    ),
    entry(
        Matter::Retain,
        "retain",
        [Pass, Pass, Pass, Pass],
        &[Adapt, Close],
        "Event Grid closed the connection until the middle of 2025 and keeps them since (its retain page)",
    ),
    entry(
        Matter::KeepAlive,
        "keep_alive",
        [Adapt, Adapt, Adapt, Pass],
        &[Refuse],
        "Event Grid 1160 s, IoT Hub 1177 s (its 1.5 times is capped at 1767 s), AWS IoT Core 1200 s (quotas)",
    ),
    entry(
        Matter::ManyFilters,
        "many_filters",
        [Pass, Pass, Adapt, Pass],
        &[Refuse],
        "AWS IoT Core takes 8 subscriptions in a SUBSCRIBE (quotas)",
    ),
    entry(
        Matter::TopicShape,
        "topic_shape",
        [Refuse, Refuse, Refuse, Refuse],
        &[Close],
        "Event Grid: 256 bytes, 8 segments; AWS IoT Core: 256 bytes, 7 slashes, without the first three of $aws/rules/ (quotas); a topic of MQTT: 65,535 bytes",
    ),
    entry(
        Matter::FilterShape,
        "filter_shape",
        [Refuse, Pass, Refuse, Pass],
        &[Close],
        "as topic_shape",
    ),
    entry(
        Matter::LargePublish,
        "large_publish",
        [Refuse, Refuse, Refuse, Refuse],
        &[Close],
        "Event Grid 512 KiB a packet; IoT Hub 256 KiB a message; AWS IoT Core 128 KiB a message (quotas); listen.max_packet everywhere",
    ),
    entry(
        Matter::WillQos2,
        "will_qos2",
        [Adapt, Adapt, Adapt, Pass],
        &[Refuse],
        "as publish_qos2 (inferred)",
    ),
    entry(
        Matter::WillRetain,
        "will_retain",
        [Pass, Pass, Pass, Pass],
        &[Adapt, Refuse],
        "as retain (inferred)",
    ),
    entry(
        Matter::EmptyClientId,
        "empty_client_id",
        [Refuse, Refuse, Refuse, Pass],
        &[],
        "Event Grid and IoT Hub need the name of a session or device; AWS IoT Core's policies name client ids (inferred)",
    ),
    entry(
        Matter::SharedSubscription,
        "shared_subscription",
        [Refuse, Refuse, Pass, Pass],
        &[Close],
        "Event Grid has none (its MQTT page); IoT Hub has only its own topics; AWS IoT Core has them",
    ),
    entry(
        Matter::DollarTopic,
        "dollar_topic",
        [Pass, Refuse, Refuse, Pass],
        &[Close],
        "AWS IoT Core: other than $aws/ can end the connection (reserved topics); IoT Hub: other than $iothub/ and $dps/ (inferred)",
    ),
    entry(
        Matter::SubscriptionId,
        "subscription_id",
        [Refuse, Pass, Refuse, Pass],
        &[Close],
        "Event Grid has none (its MQTT page); AWS IoT Core says so in CONNACK",
    ),
    entry(
        Matter::Mqtt5,
        "mqtt5",
        [Pass, Refuse, Pass, Pass],
        &[],
        "IoT Hub's MQTT 5 was a preview and is deprecated",
    ),
];

impl Matter {
    /// All of them, in the table's order.
    #[must_use]
    pub fn all() -> [Self; MATTERS] {
        ENTRIES.map(|e| e.matter)
    }

    /// Its word in configurations, logs and the table.
    #[must_use]
    pub fn word(self) -> &'static str {
        ENTRIES.get(self as usize).map_or("", |e| e.word)
    }

    /// Why it is one: which upstream does what, and where that is written.
    #[must_use]
    pub fn source(self) -> &'static str {
        ENTRIES.get(self as usize).map_or("", |e| e.source)
    }

    /// Whether this answer makes sense for it. [`Answer::Pass`] always does: it leaves the matter to upstream.
    #[must_use]
    pub fn takes(self, answer: Answer) -> bool {
        answer == Pass
            || ENTRIES
                .get(self as usize)
                .is_some_and(|e| e.defaults.contains(&answer) || e.also.contains(&answer))
    }
}

impl FromStr for Matter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = ENTRIES.iter().find(|e| e.word == text).map(|e| e.matter);
        found.ok_or_else(|| {
            let known: Vec<&str> = ENTRIES.iter().map(|e| e.word).collect();
            format!("{text:?} is no matter of a policy; there are {}", known.join(", "))
        })
    }
}

/// How much an upstream takes. `None` and `usize::MAX` are no limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Longest keep-alive, in seconds.
    pub keep_alive: Option<u16>,
    /// Most filters in one SUBSCRIBE.
    pub filters: usize,
    /// Longest topic or filter, in bytes.
    pub topic: usize,
    /// Most levels of a topic or filter.
    pub levels: usize,
    /// Largest packet, in bytes.
    pub packet: usize,
    /// Largest payload of a PUBLISH, in bytes.
    pub payload: usize,
}

/// No limits but the protocol's: a string has at most 65,535 bytes.
const FREE: Bounds = Bounds {
    keep_alive: None,
    filters: usize::MAX,
    topic: 65_535,
    levels: usize::MAX,
    packet: usize::MAX,
    payload: usize::MAX,
};

impl Bounds {
    /// Those of a kind of upstream, from its rule book in [`crate::cloud`].
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        let keep_alive = |l: cloud::Limits| Some(l.keep_alive_max);
        match kind {
            Kind::EventGrid => Self {
                keep_alive: keep_alive(cloud::event_grid::LIMITS),
                topic: cloud::event_grid::LIMITS.topic_max,
                levels: cloud::event_grid::LIMITS.topic_levels,
                packet: 512 << 10,
                ..FREE
            },
            Kind::IotHub => Self {
                keep_alive: keep_alive(cloud::iot_hub::LIMITS),
                payload: 256 << 10,
                ..FREE
            },
            Kind::AwsIot => Self {
                keep_alive: keep_alive(cloud::aws_iot::LIMITS),
                filters: 8,
                topic: cloud::aws_iot::LIMITS.topic_max,
                levels: cloud::aws_iot::LIMITS.topic_levels,
                payload: cloud::aws_iot::LIMITS.payload_max,
                ..FREE
            },
            Kind::Standard => FREE,
        }
    }
}

/// Which answers a group gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    kind: Kind,
    answers: [Answer; MATTERS],
}

impl Default for Policy {
    fn default() -> Self {
        Self::of(Kind::default())
    }
}

impl Policy {
    /// The defaults of a kind of upstream.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        let column = KINDS.iter().position(|k| *k == kind).unwrap_or(KINDS.len() - 1);
        let answers = std::array::from_fn(|row| {
            let entry = ENTRIES.get(row);
            entry.and_then(|e| e.defaults.get(column)).copied().unwrap_or(Pass)
        });
        Self { kind, answers }
    }

    /// The answer to a matter.
    #[must_use]
    pub fn answer(&self, matter: Matter) -> Answer {
        self.answers.get(matter as usize).copied().unwrap_or(Pass)
    }

    /// Gives another answer.
    ///
    /// # Errors
    /// A sentence when this answer makes no sense for the matter.
    pub fn set(&mut self, matter: Matter, answer: Answer) -> Result<(), String> {
        if !matter.takes(answer) {
            let fits = Answer::WORDS.iter().filter(|(_, a)| matter.takes(*a)).map(|(w, _)| *w);
            let fits: Vec<&str> = fits.collect();
            return Err(format!(
                "{} cannot be answered with {:?}; it can with {}",
                matter.word(),
                answer.word(),
                fits.join(", ")
            ));
        }
        if let Some(slot) = self.answers.get_mut(matter as usize) {
            *slot = answer;
        }
        Ok(())
    }

    /// What this upstream takes.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds::of(self.kind)
    }

    /// Which upstream this policy was made for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// The defaults as a Markdown table, one matter a line: for this module's page and for the documentation.
#[must_use]
pub fn table() -> String {
    use fmt::Write as _;
    let mut out = String::from("| matter |");
    for kind in KINDS {
        let _ = write!(out, " {} |", kind.word());
    }
    out.push_str(" may also be |\n|---|---|---|---|---|---|\n");
    for e in &ENTRIES {
        let _ = write!(out, "| `{}` |", e.word);
        for (kind, answer) in KINDS.iter().zip(e.defaults) {
            let _ = write!(
                out,
                " {}{} |",
                answer.word(),
                limit(e.matter, answer, Bounds::of(*kind))
            );
        }
        let also: Vec<&str> = e.also.iter().map(|a| a.word()).collect();
        let also = if also.is_empty() {
            "-".to_owned()
        } else {
            also.join(", ")
        };
        let _ = writeln!(out, " {also} |");
    }
    out
}

fn limit(matter: Matter, answer: Answer, b: Bounds) -> String {
    match matter {
        _ if answer == Pass => String::new(),
        Matter::KeepAlive => b.keep_alive.map(|s| format!(", {s} s")).unwrap_or_default(),
        Matter::ManyFilters => format!(", {}", b.filters),
        Matter::TopicShape | Matter::FilterShape if b.levels < usize::MAX => {
            format!(", {} B, {} levels", b.topic, b.levels)
        }
        Matter::LargePublish if b.packet < usize::MAX => format!(", {} B packet", b.packet),
        Matter::LargePublish if b.payload < usize::MAX => format!(", {} B payload", b.payload),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_this_module_has_the_table() {
        let page: String = include_str!("policy.rs")
            .lines()
            .map_while(|l| l.strip_prefix("//!"))
            .map(|l| format!("{}\n", l.strip_prefix(' ').unwrap_or(l)))
            .collect();
        assert!(page.contains(&table()), "write this into the page:\n{}", table());
    }

    #[test]
    fn every_matter_stands_in_its_place_with_a_source() {
        for (index, matter) in Matter::all().into_iter().enumerate() {
            assert_eq!(matter as usize, index);
            assert_eq!(matter.word().parse::<Matter>().unwrap(), matter);
            assert!(matter.source().len() > 5, "{matter:?}");
            for kind in KINDS {
                assert!(matter.takes(Policy::of(kind).answer(matter)));
            }
        }
        assert!("qos2".parse::<Matter>().unwrap_err().contains("publish_qos2"));
        assert_eq!("close".parse(), Ok(Close));
        assert!("drop".parse::<Answer>().unwrap_err().contains("adapt"));
    }

    #[test]
    fn only_answers_that_make_sense_are_taken() {
        let mut p = Policy::of(Kind::EventGrid);
        p.set(Matter::Retain, Adapt).unwrap();
        assert_eq!(p.answer(Matter::Retain), Adapt);
        let e = p.set(Matter::LargePublish, Adapt).unwrap_err();
        assert!(e.contains("pass, refuse, close"), "{e}");
        assert_eq!(p.answer(Matter::LargePublish), Refuse);
        assert_eq!((p.kind(), p.bounds().keep_alive), (Kind::EventGrid, Some(1_160)));
    }
}
