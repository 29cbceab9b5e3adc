//! What a simulated dongle is made from.

use std::path::PathBuf;

use super::identity::{Iccid, Imei, Imsi, Plmn};
use super::scenario::Scenario;
use crate::bench::subscriber::Sim;

/// The firmware seen on real Onyx dongles.
const FIRMWARE: &str = "EG25GGBR07A08M2G";
/// What the card's guests see in Japan.
const OPERATOR: &str = "NTT DOCOMO";

/// Who the dongle is, where it is, and what happens to it. The default is a healthy dongle on a Japanese network.
#[derive(Clone, Debug)]
pub struct Config {
    /// The subscriber's number.
    pub imsi: Imsi,
    /// The card's secrets; its number is `imsi`.
    pub sim: Sim,
    /// The modem's number.
    pub imei: Imei,
    /// The card's number.
    pub iccid: Iccid,
    /// The name of the network.
    pub operator: String,
    /// The code of the network.
    pub plmn: Plmn,
    /// The modem's firmware, as `ATI` tells it.
    pub firmware: String,
    /// Conditions and events.
    pub scenario: Scenario,
    /// A symbolic link to the pseudo-terminal.
    pub link: Option<PathBuf>,
    /// Where every command and answer is written, one JSON object a line.
    pub log: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            imsi: Imsi::default(),
            sim: Sim::default(),
            imei: Imei::default(),
            iccid: Iccid::default(),
            operator: OPERATOR.to_owned(),
            plmn: Plmn::default(),
            firmware: FIRMWARE.to_owned(),
            scenario: Scenario::default(),
            link: None,
            log: None,
        }
    }
}
