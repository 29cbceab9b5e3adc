//! What happens to the stand-ins, and when: the scenario file. TOML, read whole: every mistake comes with line and column, all in one
//! report. Its format is [`HELP`].
//!
//! [`Play`] is the running scenario without I/O: the time and the stand-ins' events go in, what is to be done comes out. `run` does it.

mod play;

use std::path::Path;
use std::time::Duration;

pub use play::Play;
pub(crate) use play::run;

use super::control;
use super::fault::{Fault, Limited, Spec, Whom};
use super::stand_in::Cloud;
use crate::config::reader::{ConfigError, Reader, Section};

/// The format, for `--help`.
pub const HELP: &str = r#"FAULTS (--fault, scenario files, `onyx-bench clouds fault`, the control endpoint)
  [CLOUD:]KIND[*N] [for client "ID" | for peer ADDRESS[:PORT] | for connection NUMBER | for next N connections]

  every stand-in   refuse-tcp, cut@BYTES, cut-up@BYTES, cut-down@BYTES, stall@BYTES, stall-up@BYTES, stall-down@BYTES,
                   throttle=BYTES-PER-SECOND, stall@accept
  with TLS         tls-alert-0 ... tls-alert-255, stall@client-hello, stall@server-hello, stall@finished,
                   cert-expired, cert-not-yet-valid, cert-wrong-name, cert-unknown-authority
  MQTT             refuse-1 ... refuse-5, close-after-connack, cut-after-N (the N-th PUBLISH), no-puback, no-suback, no-pingresp,
                   late-acks=DURATION, duplicate, stall@connect, stall@subscribe, stall@publish, client-certs-expired
  HTTPS            http-400 ... http-599, html, truncated, empty, slow, stall@request, stall@response
  krypton          wrong-key, expired, garbage-cert, never-assigned, failed

SCENARIO FILE (TOML; an unknown key is an error with line and column)
  [[event]]                     at most 1000 of them; each has one of at and when, and one thing to do
  at = "10s"                    since the start
  when = { connects = 3, client = "pi-1" }    once: after so many connects, messages, subscribes, refusals, requests (HTTP) or closes
                                at the event's cloud (left out: at any); client is left out for any
  cloud = "iot-hub"             krypton | krypton-sim | event-grid | iot-hub | aws-iot | dps | beam; left out: all
  client = "pi-1"               whom a fault is for, or whose connections are cut
  fault = "no-puback*2"         one more fault, as above
  clear = true                  all faults end; or one kind: clear = "no-puback"
  restart = "keep-sessions"     or "forget-sessions"
  closed_for = "5s"             with restart: nobody listens for so long
  clock = "+2h"                 the stand-in's clock jumps, or back: "-400d"
  cut = true                    cuts the connections of client

PORTS with --standard-ports and --bind A
  A     8036 krypton, 443 krypton-sim, 8883 event-grid, 1883 beam (plain MQTT)
  A+1   8883 iot-hub
  A+2   8883 aws-iot, 443 aws-iot by ALPN
  A+3   8883 and 443 dps
"#;

/// The most `[[event]]` tables of a scenario.
pub const EVENTS_MAX: usize = 1_000;
/// The last moment of a scenario.
const AT_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What an event waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// This long after the start.
    At(Duration),
    /// After so many of these.
    Seen {
        /// What is counted.
        what: Seen,
        /// How many.
        count: u32,
        /// At which stand-in; `None` for any.
        cloud: Option<Cloud>,
        /// Of which MQTT client; `None` for any.
        client: Option<String>,
    },
}

/// What can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Devices admitted.
    Connects,
    /// Messages accepted.
    Messages,
    /// Filters granted.
    Subscribes,
    /// Rules broken.
    Refusals,
    /// HTTP requests answered.
    Requests,
    /// TCP connections closed.
    Closes,
}

impl Seen {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Connects, "connects"),
        (Self::Messages, "messages"),
        (Self::Subscribes, "subscribes"),
        (Self::Refusals, "refusals"),
        (Self::Requests, "requests"),
        (Self::Closes, "closes"),
    ];
}

/// What an event does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// One more fault.
    Fault(Spec),
    /// Faults end: all, or those of a kind.
    Clear(Option<Cloud>, Option<Fault>),
    /// A restart.
    Restart {
        /// Of which stand-in; `None` for all.
        cloud: Option<Cloud>,
        /// Whether sessions are lost.
        forget_sessions: bool,
        /// How long nobody listens.
        closed_for: Duration,
    },
    /// A clock jumps by so many milliseconds.
    Clock(Option<Cloud>, i64),
    /// A client's connections are cut.
    Cut(Option<Cloud>, String),
}

/// One `[[event]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub when: When,
    /// What.
    pub deed: Deed,
}

/// A scenario file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scenario {
    /// What happens, in the order of the file.
    pub events: Vec<Planned>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// Every mistake with line and column.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        Reader::open(path)?.read(schema)
    }

    /// Reads a text; `path` is for messages.
    ///
    /// # Errors
    /// Every mistake with line and column.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Reader::from_text(path, text.to_owned()).read(schema)
    }
}

fn schema(top: &mut Section<'_, '_>) -> Scenario {
    let sections = top.sections("event");
    if sections.len() > EVENTS_MAX {
        top.mistake(
            "event",
            format!("{} of them are too many: at most {EVENTS_MAX}", sections.len()),
        );
    }
    let events = sections.into_iter().filter_map(|mut section| {
        let event = event(&mut section);
        section.finish();
        event
    });
    Scenario {
        events: events.collect(),
    }
}

fn text_as<T>(s: &mut Section<'_, '_>, key: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    let text = s.text(key)?;
    match read(&text) {
        Ok(value) => Some(value),
        Err(why) => {
            s.mistake(key, why);
            None
        }
    }
}

const DEEDS: [&str; 5] = ["fault", "clear", "restart", "clock", "cut"];

fn event(s: &mut Section<'_, '_>) -> Option<Planned> {
    let cloud = text_as(s, "cloud", str::parse);
    let client = s.text("client");
    let when = when(s, cloud);
    let wanted: Vec<_> = DEEDS.into_iter().filter(|key| s.has(key)).collect();
    // All are read, so that none is called unknown and each is checked.
    let fault = text_as(s, "fault", str::parse::<Spec>);
    let clear = if s.has("clear") {
        Some(clear(s))
    } else {
        // So that "did you mean" knows it.
        s.text("clear");
        None
    };
    let restart = text_as(s, "restart", |word| match word {
        "keep-sessions" => Ok(false),
        "forget-sessions" => Ok(true),
        other => Err(format!("{other:?} is none of \"keep-sessions\", \"forget-sessions\"")),
    });
    let closed_for = text_as(s, "closed_for", control::closed_for);
    let clock = text_as(s, "clock", control::offset);
    let cut = s.boolean("cut", false);
    if s.has("closed_for") && !s.has("restart") {
        s.mistake("closed_for", "means something with restart only");
    }
    match wanted.as_slice() {
        [_] => {}
        [] => {
            s.mistake(
                "fault",
                format!("this event does nothing: write one of {}", DEEDS.join(", ")),
            );
            return None;
        }
        [_, more, ..] => {
            s.mistake(more, "one event does one thing: make two events of it");
            return None;
        }
    }
    let deed = if let Some(spec) = fault {
        Deed::Fault(aim(s, spec, cloud, client)?)
    } else if let Some(kind) = clear {
        Deed::Clear(cloud, kind?)
    } else if let Some(forget_sessions) = restart {
        Deed::Restart {
            cloud,
            forget_sessions,
            closed_for: closed_for.unwrap_or_default(),
        }
    } else if let Some(by) = clock {
        Deed::Clock(cloud, by)
    } else if cut {
        let Some(client) = client else {
            s.mistake("cut", "needs client = \"ID\"");
            return None;
        };
        Deed::Cut(cloud, client)
    } else {
        if s.has("cut") {
            s.mistake("cut", "only true means something");
        }
        return None;
    };
    Some(Planned { when: when?, deed })
}

/// `true`, or the name of a fault.
fn clear(s: &mut Section<'_, '_>) -> Option<Option<Fault>> {
    if s.is_boolean("clear") {
        if s.boolean("clear", false) {
            return Some(None);
        }
        s.mistake("clear", "only true or the name of a fault means something");
        return None;
    }
    text_as(s, "clear", str::parse::<Fault>).map(Some)
}

/// The event's `cloud` and `client` are another way of writing the fault's own.
fn aim(s: &mut Section<'_, '_>, spec: Spec, cloud: Option<Cloud>, client: Option<String>) -> Option<Spec> {
    let mut aimed = spec;
    if let Some(cloud) = cloud {
        if aimed.cloud.is_some_and(|c| c != cloud) {
            s.mistake("cloud", "fault names another one");
            return None;
        }
        aimed.cloud = Some(cloud);
    }
    if let Some(client) = client {
        if aimed.whom != Whom::Everybody {
            s.mistake("client", "fault says already whom it is for");
            return None;
        }
        aimed.whom = Whom::Client(client);
    }
    // What the grammar forbids is forbidden however it is written.
    let Limited { fault, .. } = aimed.fault;
    if let Some(cloud) = aimed.cloud.filter(|c| !fault.fits(*c)) {
        s.mistake(
            "fault",
            format!("{cloud} cannot have {fault}: it can have {}", Fault::names(cloud)),
        );
        return None;
    }
    if matches!(aimed.whom, Whom::Client(_)) && fault.before_connect() {
        s.mistake("client", format!("{fault} happens before the client id is known"));
        return None;
    }
    Some(aimed)
}

fn when(s: &mut Section<'_, '_>, cloud: Option<Cloud>) -> Option<When> {
    match (s.has("at"), s.has("when")) {
        (true, false) => {
            let at = s.duration("at", Duration::ZERO, Duration::ZERO..=AT_MAX);
            Some(When::At(at))
        }
        (false, true) => {
            let mut w = s.section("when");
            let client = w.text("client");
            let mut counted = Vec::new();
            for (what, key) in Seen::ALL {
                if let Some(n) = w.number(key, 1..=i64::from(u32::MAX)) {
                    counted.push((what, u32::try_from(n).unwrap_or(u32::MAX)));
                }
            }
            let known = Seen::ALL.map(|(_, key)| key);
            let given = known.iter().filter(|key| w.has(key)).count();
            w.finish();
            match counted.as_slice() {
                [(what, count)] => Some(When::Seen {
                    what: *what,
                    count: *count,
                    cloud,
                    client,
                }),
                _ if given == 1 => None,
                _ => {
                    s.mistake("when", format!("counts one thing: write one of {}", known.join(", ")));
                    None
                }
            }
        }
        (true, true) => {
            // Read, so that it is not called unknown as well.
            s.text("at");
            s.section("when");
            s.mistake("when", "an event has at or when, not both");
            None
        }
        (false, false) => {
            s.text("at");
            s.section("when");
            s.mistake("at", "says when: write at = \"10s\" or when = { connects = 1 }");
            None
        }
    }
}

#[cfg(test)]
mod tests;
