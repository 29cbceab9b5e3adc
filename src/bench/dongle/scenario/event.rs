//! What happens during a scenario: events with their time, and answers that differ from the modem's own.

use std::time::Duration;

use serde::Deserialize;

use super::parts::{Hex, NetworkPart};
use crate::bench::dongle::period::Period;

/// Something that happens to the dongle, from a scenario or from a test's hand.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Nothing comes out and nothing goes in, for this long or for ever.
    Silent(Option<Duration>),
    /// Ends silence, rubbish and lateness.
    Talk,
    /// Answers come this much later.
    Late(Duration),
    /// Every command is answered by rubbish, for this long or for ever.
    Garbage(Option<Duration>),
    /// The network is lost, for this long or for ever.
    LoseNetwork(Option<Duration>),
    /// The network is there, and willing.
    FindNetwork,
    /// The network refuses, with this cause.
    Deny(String),
    /// The signal's strength (RSRP) in dBm.
    Signal(i16),
    /// The card is taken out.
    RemoveSim,
    /// The card is put in.
    InsertSim,
    /// The modem crashes and boots.
    Crash,
    /// The port vanishes, for this long or for ever.
    Unplug(Option<Duration>),
    /// The port comes back; the modem boots.
    Plug,
    /// An unsolicited line.
    Urc(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
}

/// `[[event]]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawEvent")]
pub struct TimedEvent {
    /// When, since power-on.
    pub at: Duration,
    /// What.
    pub event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Silent,
    Talk,
    Late,
    Garbage,
    LoseNetwork,
    FindNetwork,
    Deny,
    Signal,
    RemoveSim,
    InsertSim,
    Crash,
    Unplug,
    Plug,
    Urc,
    Bytes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    at: Period,
    r#do: Kind,
    r#for: Option<Period>,
    by: Option<Period>,
    cause: Option<String>,
    rsrp: Option<i16>,
    text: Option<String>,
    hex: Option<Hex>,
}

impl TryFrom<RawEvent> for TimedEvent {
    type Error = String;

    fn try_from(raw: RawEvent) -> Result<Self, String> {
        let RawEvent {
            at,
            r#do: kind,
            r#for: lasting,
            by,
            cause,
            rsrp,
            text,
            hex,
        } = raw;
        let mut given = vec![
            ("for", lasting.is_some()),
            ("by", by.is_some()),
            ("cause", cause.is_some()),
            ("rsrp", rsrp.is_some()),
            ("text", text.is_some()),
            ("hex", hex.is_some()),
        ];
        let mut used = |key: &str| given.retain(|(name, _)| *name != key);
        let lasting = lasting.map(Period::get);
        let missing = |key: &str| format!("this event needs `{key}`");
        let event = match kind {
            Kind::Silent | Kind::Garbage | Kind::LoseNetwork | Kind::Unplug => {
                used("for");
                match kind {
                    Kind::Silent => Event::Silent(lasting),
                    Kind::Garbage => Event::Garbage(lasting),
                    Kind::LoseNetwork => Event::LoseNetwork(lasting),
                    _ => Event::Unplug(lasting),
                }
            }
            Kind::Talk => Event::Talk,
            Kind::Late => {
                used("by");
                Event::Late(by.ok_or_else(|| missing("by"))?.get())
            }
            Kind::FindNetwork => Event::FindNetwork,
            Kind::Deny => {
                used("cause");
                Event::Deny(cause.unwrap_or_else(|| NetworkPart::default().denied_cause))
            }
            Kind::Signal => {
                used("rsrp");
                Event::Signal(rsrp.ok_or_else(|| missing("rsrp"))?)
            }
            Kind::RemoveSim => Event::RemoveSim,
            Kind::InsertSim => Event::InsertSim,
            Kind::Crash => Event::Crash,
            Kind::Plug => Event::Plug,
            Kind::Urc => {
                used("text");
                Event::Urc(text.ok_or_else(|| missing("text"))?)
            }
            Kind::Bytes => {
                used("hex");
                Event::Bytes(hex.ok_or_else(|| missing("hex"))?.0)
            }
        };
        if let Some((key, _)) = given.iter().find(|(_, is_given)| *is_given) {
            return Err(format!("`{key}` means nothing for this event: take it out"));
        }
        Ok(Self { at: at.get(), event })
    }
}

/// `[[override]]`: another answer to one command line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The whole command line, upper and lower case alike.
    pub command: String,
    /// Its information lines.
    #[serde(default)]
    pub answer: String,
    /// Its result; empty for none.
    #[serde(default = "ok")]
    pub result: String,
    /// Instead of answer and result: these exact characters.
    pub raw: Option<String>,
    /// No answer at all.
    #[serde(default)]
    pub silent: bool,
    /// This much later.
    #[serde(default)]
    pub after: Period,
    /// Use it this often; `None`: always.
    pub times: Option<u32>,
}

fn ok() -> String {
    "OK".to_owned()
}
