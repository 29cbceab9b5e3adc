//! The tables of a scenario that say how things are at the start.

use serde::Deserialize;

use crate::bench::dongle::period::Period;

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
pub struct SimPart {
    /// How the card is at power-on.
    pub state: SimState,
    /// The card is busy for this long after start-up.
    pub ready_after: Period,
    /// What the card wants in state `pin`: 4 to 8 digits.
    pub pin: String,
    /// PIN tries left.
    pub pin_retries: u8,
    /// What unblocks the PIN.
    pub puk: String,
    /// PUK tries left.
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
pub struct NetworkPart {
    /// What the network says.
    pub registration: Registration,
    /// How long the search takes once the card is ready and the radio on.
    pub register_after: Period,
    /// What `AT+CEER` says after a refusal.
    pub denied_cause: String,
    /// Registration is refused while context 1 has another APN; `None`: any will do.
    pub required_apn: Option<String>,
    /// Signal strength in dBm.
    pub rsrp: i16,
    /// The time the network tells.
    pub time: NetworkTime,
    /// Time zone in quarters of an hour.
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
            other => other
                .parse()
                .map(Self::At)
                .map_err(|error| format!("write host, none or an RFC 3339 time such as 2026-11-21T12:00:00Z: {error}")),
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
pub struct LinePart {
    /// Whether commands come back.
    pub echo: Echo,
    /// The form of `+CME ERROR`.
    pub cme: CmeForm,
    /// The most bytes written at once; 0: no limit.
    pub chunk: usize,
    /// What `AT+CFUN=1,1` does to the port.
    pub reset: Reset,
}

/// `[noise]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoisePart {
    /// NUL bytes before the first byte after each start.
    pub nul_at_start: u16,
    /// Bytes before the lines of every answer and again before its result.
    pub between: Hex,
    /// An unsolicited line between information and result.
    pub urc_inside: Option<String>,
    /// Every command is answered by rubbish and nothing else.
    pub garbage_only: bool,
    /// For the rubbish.
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
