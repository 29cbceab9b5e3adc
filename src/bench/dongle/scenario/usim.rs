//! `[usim]`: what is on the card, and how the modem lets a host speak to it.

use serde::Deserialize;

/// Whether `AT+CSIM` may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Csim {
    /// Yes.
    #[default]
    Ok,
    /// CME 3.
    Refused,
    /// `ERROR`: this firmware does not know the command.
    Absent,
}

/// Whether `AT+CGLA` may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cgla {
    /// Yes.
    #[default]
    Ok,
    /// CME 3.
    Refused,
}

/// What becomes of AUTHENTICATE with Le at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Le {
    /// It is taken, with and without.
    #[default]
    #[serde(rename = "any")]
    Any,
    /// `ERROR`, as SORACOM's Java client expects of some modems.
    #[serde(rename = "error")]
    Error,
    /// The card says that the length is wrong.
    #[serde(rename = "6700")]
    WrongLength,
}

/// How much of an application's identifier selects it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aid {
    /// Its beginning is enough.
    #[default]
    Partial,
    /// All of it.
    Whole,
}

/// How `AT+CCHO` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ccho {
    /// `+CCHO: 1`, as the example in Quectel's manual.
    #[default]
    Prefixed,
    /// `1`, as the text of the same manual.
    Bare,
    /// `ERROR`, as seen on an EC20.
    Error,
}

/// Whether `AT+CUAD` works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cuad {
    /// Yes.
    #[default]
    Ok,
    /// `ERROR`: the host has to read EF_DIR.
    Error,
}

/// Who fetches an answer that waits on the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GetResponse {
    /// The host: it sees 61xx.
    #[default]
    Ask,
    /// The modem: the host sees data and 9000.
    Fetched,
}

/// What AUTHENTICATE gives when the USIM is not selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Unselected {
    /// Conditions of use not satisfied.
    #[default]
    #[serde(rename = "6985")]
    Conditions,
    /// Security status not satisfied.
    #[serde(rename = "6982")]
    Security,
    /// The answer: on this modem the USIM is always selected.
    #[serde(rename = "answer")]
    Answer,
}

/// `[usim]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UsimPart {
    /// `AT+CSIM`.
    pub csim: Csim,
    /// `AT+CCHO`.
    pub ccho: Ccho,
    /// `AT+CGLA`.
    pub cgla: Cgla,
    /// How many logical channels the card has besides the basic one, 3 at most.
    pub channels: u8,
    /// What selects the USIM.
    pub aid: Aid,
    /// AUTHENTICATE with Le.
    pub le: Le,
    /// A SIM toolkit command always waits: 910B instead of 9000.
    pub toolkit: bool,
    /// `AT+CUAD`.
    pub cuad: Cuad,
    /// Who sends GET RESPONSE.
    pub get_response: GetResponse,
    /// AUTHENTICATE without SELECT.
    pub unselected: Unselected,
    /// Whether AUTHENTICATE gives Kc, too.
    pub kc: bool,
    /// How many sequence numbers the card is ahead of its SIM file.
    pub sqn_ahead: u32,
    /// The card believes no challenge.
    pub mac_failure: bool,
}

impl Default for UsimPart {
    fn default() -> Self {
        Self {
            csim: Csim::Ok,
            ccho: Ccho::Prefixed,
            cgla: Cgla::Ok,
            channels: 3,
            aid: Aid::Partial,
            le: Le::Any,
            toolkit: false,
            cuad: Cuad::Ok,
            get_response: GetResponse::Ask,
            unselected: Unselected::Conditions,
            kc: true,
            sqn_ahead: 0,
            mac_failure: false,
        }
    }
}
