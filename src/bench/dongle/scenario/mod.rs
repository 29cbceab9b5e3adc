//! What goes wrong, and when: the scenario file.
//!
//! A scenario is TOML. Everything in it may be left out; what is left out is a healthy dongle. Keys that are not known are errors, with line
//! and column. Times in `[[event]]` count from power-on; a period is written `1500ms`, `2s`, `1m`. The table below is also what
//! `onyx-bench dongle --help` prints ([`HELP`]).

use serde::Deserialize;

use super::period::Period;

mod event;
mod parts;
#[cfg(test)]
mod tests;
mod usim;

pub use event::{Event, Override, TimedEvent};
pub use parts::{
    CmeForm, Echo, Hex, LinePart, NetworkPart, NetworkTime, NoisePart, Registration, Reset, SimPart, SimState,
};
pub use usim::{Aid, Ccho, Cgla, Csim, Cuad, GetResponse, Le, Unselected, UsimPart};

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

  [usim]
  csim = "ok"                   AT+CSIM: ok | refused (CME 3) | absent (ERROR)
  ccho = "prefixed"             AT+CCHO: prefixed (+CCHO: 1) | bare (1) | error
  cgla = "ok"                   AT+CGLA: ok | refused (CME 3)
  channels = 3                  logical channels of the card, 0 to 3; AT+CCHO is ERROR when none is left
  aid = "partial"               what selects the USIM: partial (the beginning of its identifier will do) | whole
  le = "any"                    AUTHENTICATE with Le at its end: any (taken, as without) | error (AT error) | 6700 (the card says so)
  toolkit = false               a SIM toolkit command always waits: 910B instead of 9000
  cuad = "ok"                   AT+CUAD: ok | error
  get_response = "ask"          61xx: ask (the host sends GET RESPONSE) | fetched (the modem does, and 9000 comes back)
  unselected = "6985"           AUTHENTICATE without the USIM selected: 6985 | 6982 | answer
  kc = true                     AUTHENTICATE also gives Kc
  sqn_ahead = 0                 the card has accepted this many numbers more than its SIM file says: AUTS until the HSS follows
  mac_failure = false           the card believes no challenge (9862)

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
    /// What is on the card, and the way to it.
    pub usim: UsimPart,
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
            usim: UsimPart::default(),
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
        for (what, count) in [("event", scenario.events.len()), ("override", scenario.overrides.len())] {
            if count > MAX_ENTRIES {
                return Err(ScenarioError::TooMany { what, count });
            }
        }
        Ok(scenario)
    }
}
