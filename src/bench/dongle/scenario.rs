//! What goes wrong, and when: the scenario file.
//!
//! A scenario is TOML. Everything in it may be left out; what is left out is a healthy dongle. Keys that are not known are errors, with line
//! and column. Times in `[[event]]` count from power-on; a period is written `1500ms`, `2s`, `1m`. The table below is also what
//! `onyx-bench dongle --help` prints ([`HELP`]).

use std::time::Duration;

use serde::Deserialize;

use super::period::Period;

/// The format of a scenario, for `--help`.
pub const HELP: &str = r#"SCENARIO FILE (TOML; every key may be left out; an unknown key is an error with line and column)

  boot_time = "300ms"           power-on to the first sign of life (RDY)
  latency = "0ms"               late: every answer comes this much later

  [sim]
  state = "ready"               ready | absent (CME 10) | failure (CME 13) | pin | puk
  ready_after = "1s"            SIM busy (CME 14) for this long after start-up
  pin = "1234"                  what the card wants in state pin
  pin_retries = 3               tries left
  puk = "12345678"
  puk_retries = 10

  [network]
  registration = "roaming"      home | roaming | denied (CEREG 3) | none (searches for ever)
  register_after = "2s"         how long the search takes once the SIM is ready and the radio on
  denied_cause = "PLMN not allowed"    what AT+CEER says after a refusal
  required_apn = "soracom.io"   refuse registration while context 1 has another APN (left out: any APN will do)
  rsrp = -95                    dBm
  time = "host"                 host | none (never) | RFC 3339, the time at power-on
  zone_quarters = 36            time zone in quarters of an hour (36 = Japan)

  [line]
  echo = "as-set"               as-set (ATE) | never
  cme = "as-set"                as-set (AT+CMEE) | numeric | text: always this form
  chunk = 0                     write at most this many bytes at once (0: no limit)
  reset = "silent"              AT+CFUN=1,1: silent (the port stays) | replug (the port goes and comes back)

  [noise]
  nul_at_start = 0              NUL bytes in front of the first byte after each start
  between = "00ff41"            bytes (hexadecimal) before the lines of every answer and again before its result
  urc_inside = "+QIND: PB DONE" an unsolicited line between an answer's information and its result
  garbage_only = false          every command is answered by binary rubbish and nothing else
  seed = 1                      for the rubbish

  [[event]]                     at most 1000 of them
  at = "10s"
  do = "silent"                 what happens:
       silent                   no echo, no answers, no URCs (for = "5s", or for ever)
       talk                     ends silence, rubbish and lateness
       late                     answers come later (by = "800ms")
       garbage                  only rubbish comes back (for = "5s", or for ever)
       lose-network             registration lost (for = "5s", or for ever)
       find-network             the network is back, and no longer refuses
       deny                     the network refuses (cause = "Illegal UE")
       signal                   another signal strength (rsrp = -120)
       remove-sim, insert-sim   the card goes, comes
       crash                    the modem stops at once and boots again
       unplug                   the port vanishes (for = "5s", or for ever)
       plug                     it comes back
       urc                      an unsolicited line (text = "RING")
       bytes                    raw bytes (hex = "00ff0d0a")

  [[override]]                  the first that fits is used
  command = "AT+CSQ"            the whole command line, upper and lower case alike
  answer = "+CSQ: 30, 99"       its information lines
  result = "OK"                 OK | ERROR | NO CARRIER | +CME ERROR: 14 | any text; "" for none
  raw = "\r\n+CSQ"              instead of answer and result: these exact characters
  silent = false                no answer at all
  after = "0ms"                 this much later
  times = 1                     use it this often (left out: always)
"#;

/// The most `[[event]]` and `[[override]]` tables a scenario may have, each.
const MAX_ENTRIES: usize = 1000;

/// A scenario file, with the healthy dongle as its default.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Power-on to `RDY`.
    pub boot_time: Period,
    /// Added to the time of every answer.
    pub latency: Period,
    /// The card.
    pub sim: SimPart,
    /// The network.
    pub network: NetworkPart,
    /// The line.
    pub line: LinePart,
    /// What is on the line and should not be.
    pub noise: NoisePart,
    /// What happens when.
    #[serde(rename = "event")]
    pub events: Vec<TimedEvent>,
    /// Answers that differ from the modem's own.
    #[serde(rename = "override")]
    pub overrides: Vec<Override>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            boot_time: Period::from_millis(300),
            latency: Period::default(),
            sim: SimPart::default(),
            network: NetworkPart::default(),
            line: LinePart::default(),
            noise: NoisePart::default(),
            events: Vec::new(),
            overrides: Vec::new(),
        }
    }
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The text is no TOML or has keys or values that mean nothing here.
    #[error("the scenario is wrong: {0}")]
    Text(#[from] toml::de::Error),
    /// Too many tables of one kind.
    #[error("the scenario has {count} [[{what}]] tables; at most {MAX_ENTRIES} are read: split it")]
    TooMany {
        /// `event` or `override`.
        what: &'static str,
        /// How many there are.
        count: usize,
    },
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// When the text is no scenario; the message has line, column and the offending line.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        for (what, count) in [
            ("event", scenario.events.len()),
            ("override", scenario.overrides.len()),
        ] {
            if count > MAX_ENTRIES {
                return Err(ScenarioError::TooMany { what, count });
            }
        }
        Ok(scenario)
    }
}

/// How the card is when the power comes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SimState {
    /// It wants nothing.
    #[default]
    Ready,
    /// The slot is empty.
    Absent,
    /// It does not answer.
    Failure,
    /// It wants its PIN.
    Pin,
    /// Its PIN is blocked.
    Puk,
}

/// `[sim]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // each key is described in HELP
pub struct SimPart {
    pub state: SimState,
    pub ready_after: Period,
    pub pin: String,
    pub pin_retries: u8,
    pub puk: String,
    pub puk_retries: u8,
}

impl Default for SimPart {
    fn default() -> Self {
        Self {
            state: SimState::Ready,
            ready_after: Period::from_millis(1000),
            pin: "1234".into(),
            pin_retries: 3,
            puk: "12345678".into(),
            puk_retries: 10,
        }
    }
}

/// What the network says to this SIM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registration {
    /// Welcome, at home.
    Home,
    /// Welcome, as a guest.
    #[default]
    Roaming,
    /// No.
    Denied,
    /// Nothing: there is no network.
    None,
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // each key is described in HELP
pub struct NetworkPart {
    pub registration: Registration,
    pub register_after: Period,
    pub denied_cause: String,
    pub required_apn: Option<String>,
    pub rsrp: i16,
    pub time: NetworkTime,
    pub zone_quarters: i8,
}

impl Default for NetworkPart {
    fn default() -> Self {
        Self {
            registration: Registration::Roaming,
            register_after: Period::from_millis(2000),
            // The name of EMM cause 11 in 3GPP TS 24.301 section 9.9.3.9.
            denied_cause: "PLMN not allowed".into(),
            required_apn: None,
            rsrp: -95,
            time: NetworkTime::Host,
            zone_quarters: 36,
        }
    }
}

/// Where the network's time comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum NetworkTime {
    /// The host's clock.
    #[default]
    Host,
    /// The network never tells.
    None,
    /// This was the time at power-on.
    At(jiff::Timestamp),
}

impl std::str::FromStr for NetworkTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "host" => Ok(Self::Host),
            "none" => Ok(Self::None),
            other => other.parse().map(Self::At).map_err(|error| {
                format!(
                    "write host, none or an RFC 3339 time such as 2026-11-21T12:00:00Z: {error}"
                )
            }),
        }
    }
}

impl TryFrom<String> for NetworkTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Whether commands come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Echo {
    /// As `ATE` says.
    #[default]
    AsSet,
    /// Never.
    Never,
}

/// Which form `+CME ERROR` has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CmeForm {
    /// As `AT+CMEE` says.
    #[default]
    AsSet,
    /// Always the number.
    Numeric,
    /// Always the text.
    Text,
}

/// What `AT+CFUN=1,1` does to the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// It stays and is silent.
    #[default]
    Silent,
    /// It goes and comes back, as on USB.
    Replug,
}

/// `[line]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // each key is described in HELP
pub struct LinePart {
    pub echo: Echo,
    pub cme: CmeForm,
    pub chunk: usize,
    pub reset: Reset,
}

/// `[noise]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // each key is described in HELP
pub struct NoisePart {
    pub nul_at_start: u16,
    pub between: Hex,
    pub urc_inside: Option<String>,
    pub garbage_only: bool,
    pub seed: u64,
}

/// Bytes, written as pairs of hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Hex(pub Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not hexadecimal: write pairs of 0-9 and a-f");
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let nibble = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|n| u8::try_from(n).ok())
                .ok_or_else(wrong)
        };
        let pairs = digits.chunks(2).map(|pair| match pair {
            [high, low] => Ok(nibble(*high)? << 4 | nibble(*low)?),
            _ => Err(wrong()),
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }
}

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
        Ok(Self {
            at: at.get(),
            event,
        })
    }
}

/// `[[override]]`: another answer to one command line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each key is described in HELP
pub struct Override {
    pub command: String,
    #[serde(default)]
    pub answer: String,
    #[serde(default = "ok")]
    pub result: String,
    pub raw: Option<String>,
    #[serde(default)]
    pub silent: bool,
    #[serde(default)]
    pub after: Period,
    pub times: Option<u32>,
}

fn ok() -> String {
    "OK".to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_empty_scenario_is_a_healthy_dongle() {
        assert_eq!(Scenario::parse("").unwrap(), Scenario::default());
    }

    #[test]
    fn everything_the_help_names_is_understood() {
        let text = r#"
            boot_time = "1s"
            latency = "20ms"
            [sim]
            state = "pin"
            ready_after = "3s"
            pin = "0000"
            pin_retries = 2
            puk = "11111111"
            puk_retries = 9
            [network]
            registration = "denied"
            register_after = "4s"
            denied_cause = "Illegal UE"
            required_apn = "du.soracom.io"
            rsrp = -120
            time = "2026-11-21T12:00:00Z"
            zone_quarters = -12
            [line]
            echo = "never"
            cme = "text"
            chunk = 3
            reset = "replug"
            [noise]
            nul_at_start = 4
            between = "00 ff"
            urc_inside = "RING"
            garbage_only = true
            seed = 7
            [[event]]
            at = "1s"
            do = "silent"
            for = "2s"
            [[event]]
            at = "2s"
            do = "deny"
            cause = "Illegal ME"
            [[event]]
            at = "3s"
            do = "late"
            by = "1s"
            [[event]]
            at = "3s"
            do = "bytes"
            hex = "0dFf"
            [[override]]
            command = "AT+CSQ"
            answer = "+CSQ: 30, 99"
            times = 2
        "#;
        let scenario = Scenario::parse(text).unwrap();
        assert_eq!(scenario.noise.between, Hex(vec![0, 255]));
        assert_eq!(
            scenario.events[0].event,
            Event::Silent(Some(Duration::from_secs(2)))
        );
        assert_eq!(scenario.events[1].event, Event::Deny("Illegal ME".into()));
        assert_eq!(scenario.events[3].event, Event::Bytes(vec![13, 255]));
        assert_eq!(scenario.overrides[0].result, "OK");
        assert_eq!(scenario.network.registration, Registration::Denied);
        for key in text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, _)| key.trim())
        {
            assert!(
                HELP.contains(&format!("{key} =")),
                "{key} is not in the help"
            );
        }
    }

    #[test]
    fn every_kind_of_event_is_in_the_help_and_can_be_read() {
        for (kind, more) in [
            ("silent", ""),
            ("talk", ""),
            ("late", "by = '1s'"),
            ("garbage", ""),
            ("lose-network", "for = '1s'"),
            ("find-network", ""),
            ("deny", ""),
            ("signal", "rsrp = -1"),
            ("remove-sim", ""),
            ("insert-sim", ""),
            ("crash", ""),
            ("unplug", ""),
            ("plug", ""),
            ("urc", "text = 'RING'"),
            ("bytes", "hex = '00'"),
        ] {
            let text = format!("[[event]]\nat = '1s'\ndo = '{kind}'\n{more}\n");
            assert!(Scenario::parse(&text).is_ok(), "{text}");
            assert!(HELP.contains(kind), "{kind}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, wanted) in [
            ("[sim]\nstat = 'pin'\n", "line 2, column 1"),
            ("[sim]\nstate = 'pni'\n", "line 2, column 9"),
            ("latency = 'soon'\n", "1500ms"),
            (
                "[[event]]\nat = '1s'\ndo = 'crash'\nfor = '2s'\n",
                "`for` means nothing",
            ),
            ("[[event]]\nat = '1s'\ndo = 'late'\n", "needs `by`"),
            ("[[event]]\nat = '1s'\ndo = 'dance'\n", "line 3"),
            ("[noise]\nbetween = '0'\n", "hexadecimal"),
            ("[network]\ntime = 'noon'\n", "RFC 3339"),
        ] {
            let error = Scenario::parse(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn the_number_of_events_is_bounded() {
        let text = "[[event]]\nat = '1s'\ndo = 'talk'\n".repeat(MAX_ENTRIES + 1);
        assert!(
            Scenario::parse(&text)
                .unwrap_err()
                .to_string()
                .contains("at most 1000")
        );
    }
}
