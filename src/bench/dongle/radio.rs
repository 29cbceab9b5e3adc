//! The network as the modem sees it: registration and signal.
//!
//! The modem searches while the radio is on (CFUN=1), the card is ready and nobody said `AT+COPS=2` or `AT+CGATT=0`. After the search it is
//! registered (1 home, 5 roaming) or denied (3, with a cause for `AT+CEER`). The three registration commands show the same state; the read form has
//! the mode first, the unsolicited form has not.

use super::command::{Arg, Extended, Kind, texts};
use super::reply::Reply;
use super::scenario::Registration;
use super::state::Modem;

const NOT_SEARCHING: u8 = 0;
const HOME: u8 = 1;
const SEARCHING: u8 = 2;
const DENIED: u8 = 3;
const ROAMING: u8 = 5;

/// Access technology 7 is E-UTRAN (3GPP TS 27.007 section 7.3).
const LTE: u8 = 7;
/// The cell: tracking area and cell identity in hexadecimal, physical cell, channel and band.
const TAC: &str = "1E2F";
const CELL: &str = "2B3C4D5";
const PHYSICAL_CELL: u16 = 301;
const CHANNEL: u16 = 276;
const BAND: u8 = 1;
/// 5 is 20 MHz in `AT+QENG`.
const BANDWIDTH: u8 = 5;
/// Reference signal quality in dB and signal to noise in dB of a middling cell.
const RSRQ_DB: i16 = -10;
const SINR_DB: i16 = 12;
/// The whole band's power is about this much above one reference symbol's: 100 resource blocks of 12 carriers, 10·log10(1200).
const RSSI_ABOVE_RSRP_DB: i16 = 31;

/// The commands that report the registration, in the order of [`Radio::modes`].
pub(super) const REPORTS: [&str; 3] = ["CREG", "CGREG", "CEREG"];

/// The radio.
#[derive(Clone, Debug)]
pub(super) struct Radio {
    pub(super) registration: Registration,
    pub(super) denied_cause: String,
    /// Out of coverage, by an event.
    pub(super) lost: bool,
    pub(super) rsrp: i16,
    /// The search is over and found the network.
    pub(super) found: bool,
    /// Nobody told the modem to stay off the network.
    wanted: bool,
    /// `AT+COPS=3,<format>`: 0 long name, 1 short name, 2 number.
    format: u8,
    /// 0 automatic, 1 by hand, 2 deregistered.
    mode: u8,
    /// What the registration commands say.
    pub(super) stat: u8,
    /// `AT+CREG=n`, `AT+CGREG=n`, `AT+CEREG=n`.
    pub(super) modes: [u8; 3],
    /// For `AT+CEER`.
    pub(super) last_failure: Option<String>,
}

impl Radio {
    pub(super) fn new(registration: Registration, denied_cause: String, rsrp: i16) -> Self {
        Self {
            registration,
            denied_cause,
            lost: false,
            rsrp,
            found: false,
            wanted: true,
            format: 0,
            mode: 0,
            stat: NOT_SEARCHING,
            modes: [0; 3],
            last_failure: None,
        }
    }

    /// The modem starts again.
    pub(super) fn boot(&mut self) {
        self.found = false;
        self.wanted = true;
        self.format = 0;
        self.mode = 0;
        self.stat = NOT_SEARCHING;
        self.last_failure = None;
    }

    pub(super) fn is_registered(&self) -> bool {
        matches!(self.stat, HOME | ROAMING)
    }

    /// Whether the modem wants the network.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    fn rssi(&self) -> i16 {
        self.rsrp.saturating_add(RSSI_ABOVE_RSRP_DB)
    }

    /// `AT+CSQ`'s number: 0 is -113 dBm or less, 31 is -51 dBm or more, 2 dB a step.
    fn csq(&self) -> i16 {
        self.rssi().saturating_add(113).div_euclid(2).clamp(0, 31)
    }

    fn place(&self, mode: u8) -> String {
        if mode >= 2 && self.is_registered() {
            format!(",\"{TAC}\",\"{CELL}\",{LTE}")
        } else {
            String::new()
        }
    }

    /// The unsolicited lines for a changed state.
    pub(super) fn urcs(&self) -> Vec<String> {
        REPORTS
            .iter()
            .zip(self.modes)
            .filter(|(_, mode)| *mode > 0)
            .map(|(name, mode)| format!("+{name}: {}{}", self.stat, self.place(mode)))
            .collect()
    }
}

/// The state that follows from everything else, and the refusal's cause if it is one.
pub(super) fn state(modem: &Modem) -> (u8, Option<String>) {
    let radio = &modem.radio;
    if !modem.wants_network() {
        return (NOT_SEARCHING, None);
    }
    if radio.lost || radio.registration == Registration::None || !radio.found {
        return (SEARCHING, None);
    }
    let wrong_apn = modem
        .config
        .scenario
        .network
        .required_apn
        .as_deref()
        .is_some_and(|apn| apn != modem.pdp.attach_apn());
    match radio.registration {
        Registration::Denied => (DENIED, Some(radio.denied_cause.clone())),
        _ if wrong_apn => (DENIED, Some(super::pdp::UNKNOWN_APN.to_owned())),
        Registration::Home => (HOME, None),
        _ => (ROAMING, None),
    }
}

/// Answers the radio's commands; `None` for all others.
pub(super) fn answer(modem: &mut Modem, command: &Extended) -> Option<Reply> {
    if let Some(index) = REPORTS.iter().position(|name| *name == command.name) {
        return registration(&mut modem.radio, index, &command.kind);
    }
    let operator = modem.config.operator.clone();
    let plmn = modem.config.plmn.clone();
    let on = modem.cfun == 1;
    let radio = &mut modem.radio;
    let (rsrp, rssi) = (radio.rsrp, radio.rssi());
    let registered = radio.is_registered();
    let reply = match (command.name.as_str(), &command.kind) {
        ("CSQ", Kind::Run) if registered => Reply::line(format!("+CSQ: {},99", radio.csq())),
        ("CSQ", Kind::Run) => Reply::line("+CSQ: 99,99"),
        ("CSQ", Kind::Test) => Reply::line("+CSQ: (0-31,99),(0-7,99)"),
        // The number is five times the signal to noise ratio above -20 dB.
        ("QCSQ", Kind::Run) if registered => {
            Reply::line(format!("+QCSQ: \"LTE\",{rssi},{rsrp},{},{RSRQ_DB}", (SINR_DB + 20) * 5))
        }
        ("QCSQ", Kind::Run) => Reply::line("+QCSQ: \"NOSERVICE\""),
        ("QENG", Kind::Set(args)) => match texts(args).as_slice() {
            ["servingcell"] => serving_cell(radio, on, plmn.parts()),
            _ => Reply::error(),
        },
        ("QNWINFO", Kind::Run) if registered => Reply::line(format!(
            "+QNWINFO: \"FDD LTE\",\"{plmn}\",\"LTE BAND {BAND}\",{CHANNEL}"
        )),
        ("QNWINFO", Kind::Run) => Reply::line("+QNWINFO: No Service"),
        ("COPS", Kind::Read) if registered => {
            let name = if radio.format == 2 {
                plmn.as_str()
            } else {
                operator.as_str()
            };
            Reply::line(format!("+COPS: {},{},\"{name}\",{LTE}", radio.mode, radio.format))
        }
        ("COPS", Kind::Read) => Reply::line(format!("+COPS: {}", radio.mode)),
        ("COPS", Kind::Test) => {
            let status = if registered { 2 } else { 1 };
            Reply::line(format!(
                "+COPS: ({status},\"{operator}\",\"{operator}\",\"{plmn}\",{LTE}),,(0-4),(0-2)"
            ))
        }
        ("COPS", Kind::Set(args)) => cops(radio, args, plmn.as_str()),
        ("CGATT", Kind::Read) => Reply::line(format!("+CGATT: {}", u8::from(registered))),
        ("CGATT", Kind::Set(args)) => match texts(args).as_slice() {
            [want @ ("0" | "1")] => {
                radio.wanted = *want == "1";
                Reply::ok()
            }
            _ => Reply::error(),
        },
        ("CEER", Kind::Run) => {
            let cause = radio
                .last_failure
                .as_deref()
                .unwrap_or("No cause information available");
            Reply::line(format!("+CEER: {cause}"))
        }
        _ => return None,
    };
    Some(reply)
}

fn registration(radio: &mut Radio, index: usize, kind: &Kind) -> Option<Reply> {
    let name = REPORTS.get(index)?;
    let stat = radio.stat;
    let mode = radio.modes.get(index).copied()?;
    let place = radio.place(mode);
    let reply = match kind {
        Kind::Read => Reply::line(format!("+{name}: {mode},{stat}{place}")),
        Kind::Test => Reply::line(format!("+{name}: (0-2)")),
        Kind::Set(args) => match texts(args).as_slice() {
            [text @ ("0" | "1" | "2")] => {
                if let (Some(slot), Ok(value)) = (radio.modes.get_mut(index), text.parse()) {
                    *slot = value;
                }
                Reply::ok()
            }
            _ => Reply::error(),
        },
        Kind::Run => return None,
    };
    Some(reply)
}

fn serving_cell(radio: &Radio, on: bool, (mcc, mnc): (&str, &str)) -> Reply {
    let state = match radio.stat {
        HOME | ROAMING => "NOCONN",
        DENIED => "LIMSRV",
        // Without a card the modem still camps on a cell for emergencies.
        NOT_SEARCHING if on && !radio.lost && radio.registration != Registration::None => "LIMSRV",
        _ => return Reply::line("+QENG: \"servingcell\",\"SEARCH\""),
    };
    // Cell selection level: what is above the cell's usual minimum of -128 dBm.
    let level = radio.rsrp.saturating_add(128);
    Reply::line(format!(
        "+QENG: \"servingcell\",\"{state}\",\"LTE\",\"FDD\",{mcc},{mnc},{CELL},{PHYSICAL_CELL},{CHANNEL},{BAND},{BANDWIDTH},\
         {BANDWIDTH},{TAC},{},{RSRQ_DB},{},{SINR_DB},{level}",
        radio.rsrp,
        radio.rssi()
    ))
}

fn cops(radio: &mut Radio, args: &[Arg], plmn: &str) -> Reply {
    match texts(args).as_slice() {
        ["3", format @ ("0" | "1" | "2")] => {
            radio.format = format.parse().unwrap_or(0);
            Reply::ok()
        }
        ["2"] => {
            radio.mode = 2;
            radio.wanted = false;
            Reply::ok()
        }
        ["0", ..] => {
            radio.mode = 0;
            radio.wanted = true;
            Reply::ok()
        }
        ["1", "2", wanted, ..] if *wanted == plmn => {
            radio.mode = 1;
            radio.wanted = true;
            Reply::ok()
        }
        // No such network here.
        ["1", "2", ..] => Reply::cme(30),
        _ => Reply::error(),
    }
}
