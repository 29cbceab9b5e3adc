//! What is particular about the Quectel EG25-G, in one place. (Its refusals are in [`super::cme`].)
//!
//! - `ATI` says `EG25`; the label and Quectel's papers say `EG25-G`. See [`model_name`].
//! - `AT+QENG="servingcell"` answers with a different list of fields per radio technology; any field may be `-` or missing, there may
//!   be no space after the colon, the manual itself spells `servingscell`, and SRLTE gives two lines. See [`ServingCell`].
//! - Quectel keeps the APN's user and password in `AT+QICSGP`, not in `AT+CGAUTH`.
//! - `AT+CCLK?` shows UTC or local time depending on `AT+CTZU`. See [`super::command::time`].

use super::fields::Fields;
use super::registration::Technology;

/// The name on the label for the name in `ATI`.
#[must_use]
pub fn model_name(answer: &str) -> &str {
    match answer {
        "EG25" => "EG25-G",
        other => other,
    }
}

/// Networks a SORACOM Onyx meets most, for modems that give only the number (mobile network codes as assigned under ITU-T E.212).
const NETWORKS: [(&str, &str); 9] = [
    ("44010", "NTT DOCOMO"),
    ("44011", "Rakuten Mobile"),
    ("44020", "SoftBank"),
    ("44050", "KDDI"),
    ("44051", "KDDI"),
    ("310260", "T-Mobile US"),
    ("310410", "AT&T"),
    ("311480", "Verizon"),
    ("23415", "Vodafone UK"),
];

/// A name for people: a bare network number becomes the operator's name if it is a known one.
#[must_use]
pub fn operator_name(answer: &str) -> &str {
    NETWORKS
        .iter()
        .find(|(number, _)| *number == answer)
        .map_or(answer, |(_, name)| name)
}

/// What the modem's receiver is doing (`<state>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellState {
    /// `SEARCH`: no cell found yet.
    Searching,
    /// `LIMSRV`: on a cell, not registered.
    Limited,
    /// `NOCONN`: registered, idle.
    Idle,
    /// `CONNECT`: registered, in use (some firmware writes `CONECT`).
    Connected,
}

/// The cell that serves us, from `AT+QENG="servingcell"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingCell {
    /// What the receiver is doing.
    pub state: CellState,
    /// The radio technology, if on a cell.
    pub technology: Option<Technology>,
    /// Country and network code as digits, for example `44010`.
    pub network: Option<String>,
    /// Cell identity.
    pub cell_id: Option<u32>,
    /// Tracking area (LTE) or location area.
    pub area: Option<u32>,
    /// LTE band number.
    pub band: Option<u16>,
    /// Reference signal received power in dBm (LTE).
    pub rsrp_dbm: Option<i16>,
    /// Reference signal received quality in dB (LTE).
    pub rsrq_db: Option<i16>,
    /// Received signal strength in dBm (LTE), RSCP in 3G, RXLEV in 2G.
    pub rssi_dbm: Option<i16>,
    /// Signal to interference and noise ratio in dB (LTE; the manual's range is -20 to 30).
    pub sinr_db: Option<i16>,
}

impl ServingCell {
    /// Reads all `+QENG` lines; of two (SRLTE) the LTE one counts.
    #[must_use]
    pub fn parse(lines: &[String]) -> Option<Self> {
        let cells: Vec<Self> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("+QENG:"))
            .filter_map(|rest| Self::of(&Fields::of(rest)))
            .collect();
        cells
            .iter()
            .find(|c| c.technology == Some(Technology::Lte))
            .or(cells.first())
            .cloned()
    }

    fn of(f: &Fields) -> Option<Self> {
        if !matches!(f.text(0)?, "servingcell" | "servingscell") {
            return None;
        }
        let state = match f.text(1)? {
            "SEARCH" => CellState::Searching,
            "LIMSRV" => CellState::Limited,
            "NOCONN" => CellState::Idle,
            "CONNECT" | "CONECT" => CellState::Connected,
            _ => return None,
        };
        let technology = f.text(2).and_then(Technology::from_name);
        let mut cell = Self {
            state,
            technology,
            network: None,
            cell_id: None,
            area: None,
            band: None,
            rsrp_dbm: None,
            rsrq_db: None,
            rssi_dbm: None,
            sinr_db: None,
        };
        match technology {
            // state,"LTE",duplex,mcc,mnc,cell,pcid,earfcn,band,ul,dl,tac,rsrp,rsrq,rssi,sinr,srxlev
            Some(Technology::Lte) => {
                cell.network = plmn(f, 4);
                cell.cell_id = f.hex(6);
                cell.band = f.number(9);
                cell.area = f.hex(12);
                cell.rsrp_dbm = within(f, 13, -150..=-30);
                cell.rsrq_db = within(f, 14, -40..=0);
                cell.rssi_dbm = within(f, 15, -130..=0);
                cell.sinr_db = within(f, 16, -30..=40);
            }
            // state,"WCDMA" or "GSM",mcc,mnc,lac,cell,… ; 3G: uarfcn,psc,rac,rscp; 2G: bsic,arfcn,band,rxlev
            Some(Technology::Wcdma | Technology::Gsm) => {
                cell.network = plmn(f, 3);
                cell.area = f.hex(5);
                cell.cell_id = f.hex(6);
                cell.rssi_dbm = within(f, 10, -130..=0);
            }
            Some(Technology::Cdma) | None => {}
        }
        Some(cell)
    }
}

/// A level, unless it is one of the fillers firmware writes when it has not measured (`-32768`, `255`).
fn within(f: &Fields, index: usize, range: std::ops::RangeInclusive<i16>) -> Option<i16> {
    f.number(index).filter(|n| range.contains(n))
}

/// Country and network code; a one-digit network code has lost its leading zero (`460,0` is 46000).
fn plmn(f: &Fields, at: usize) -> Option<String> {
    let (mcc, mnc) = (f.text(at)?, f.text(at + 1)?);
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    (digits(mcc) && digits(mnc) && mcc.len() == 3 && mnc.len() <= 3).then(|| format!("{mcc}{mnc:0>2}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn one(line: &str) -> Option<ServingCell> {
        ServingCell::parse(&[line.to_owned()])
    }

    #[test]
    fn an_lte_cell() {
        let c = one(
            "+QENG: \"servingcell\",\"NOCONN\",\"LTE\",\"FDD\",440,10,2B3C4D5,121,1850,3,5,5,1E2F,-98,-11,-67,14,27",
        )
        .unwrap();
        assert_eq!((c.state, c.technology), (CellState::Idle, Some(Technology::Lte)));
        assert_eq!(
            (c.network.as_deref(), c.band, c.area),
            (Some("44010"), Some(3), Some(0x1E2F))
        );
        assert_eq!(
            (c.rsrp_dbm, c.rsrq_db, c.rssi_dbm, c.sinr_db),
            (Some(-98), Some(-11), Some(-67), Some(14))
        );
    }

    #[test]
    fn missing_fields_spaces_extra_fields_and_typing_mistakes() {
        let c =
            one("+QENG:\"servingcell\",\"CONECT\",\"LTE\",\"FDD\",460,0,-,-,1650,3,-,-,-,-98,-,-,-32768,27,9,160,-")
                .unwrap();
        assert_eq!(
            (c.state, c.rsrp_dbm, c.rsrq_db, c.sinr_db),
            (CellState::Connected, Some(-98), None, None)
        );
        assert_eq!(c.network.as_deref(), Some("46000"));
        assert_eq!(
            one("+QENG: \"servingcell\",\"SEARCH\"").unwrap().state,
            CellState::Searching
        );
        let g = one("+QENG:\"servingcell\",\"LIMSRV\",\"GSM\",460,01,5504,2B55,52,123,0,-67,5,14,64,30,28,0,-,-,-,-,-,-,-,-,-,\"-\"").unwrap();
        assert_eq!((g.rssi_dbm, g.cell_id), (Some(-67), Some(0x2B55)));
        let w = one("+QENG: \"servingscell\",\"NOCONN\",\"WCDMA\",460,01,D5D6,8062AF1,10713,38,1,-72,-4,-,-,-,-,-")
            .unwrap();
        assert_eq!((w.technology, w.rssi_dbm), (Some(Technology::Wcdma), Some(-72)));
        for bad in [
            "+QENG: ",
            "+QENG: \"neighbourcell\",\"LTE\"",
            "+QENG: \"servingcell\",\"WHAT\"",
            "servingcell",
        ] {
            assert_eq!(one(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_two_lines_the_lte_one_counts() {
        let lines = [
            "+QENG: \"servingscell\",\"NOCONN\",\"CDMA\",460,03,1,2,3,-700,-4,5".to_owned(),
            "+QENG: \"servingcell\",\"NOCONN\",\"LTE\",\"FDD\",460,11,1,2,3,1,5,5,1A,-80,-8,-50,20,40".to_owned(),
        ];
        assert_eq!(ServingCell::parse(&lines).unwrap().rsrp_dbm, Some(-80));
    }

    #[test]
    fn names() {
        assert_eq!((model_name("EG25"), model_name("EC25")), ("EG25-G", "EC25"));
        assert_eq!(
            (operator_name("44010"), operator_name("Docomo")),
            ("NTT DOCOMO", "Docomo")
        );
    }
}
