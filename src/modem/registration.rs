//! Whether the network has let us in: `+CREG`, `+CGREG`, `+CEREG` (3GPP TS 27.007 sections 7.2, 10.1.20, 10.1.22).

use super::fields::Fields;

/// Which registration: circuit-switched, packet (2G/3G) or EPS (LTE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// `+CREG`.
    Circuit,
    /// `+CGREG`.
    Packet,
    /// `+CEREG`.
    Eps,
}

impl Domain {
    /// The command's name with its `+`.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Circuit => "+CREG",
            Self::Packet => "+CGREG",
            Self::Eps => "+CEREG",
        }
    }

    /// The domain of a line that begins with this name.
    #[must_use]
    pub fn of_prefix(name: &str) -> Option<Self> {
        [Self::Circuit, Self::Packet, Self::Eps]
            .into_iter()
            .find(|d| d.prefix() == name)
    }
}

/// `<stat>` of a registration, 0 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegStatus {
    /// 0: not registered, and not looking.
    Idle,
    /// 1: registered at home.
    Home,
    /// 2: looking for a network.
    Searching,
    /// 3: the network refuses this SIM.
    Denied,
    /// 4: unknown, for example out of coverage.
    Unknown,
    /// 5: registered, roaming. Many SORACOM SIMs roam everywhere.
    Roaming,
    /// 6: registered for short messages only, at home.
    SmsOnlyHome,
    /// 7: registered for short messages only, roaming.
    SmsOnlyRoaming,
    /// 8: emergency calls only.
    EmergencyOnly,
}

impl RegStatus {
    /// From the number on the wire.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::Idle,
            1 => Self::Home,
            2 => Self::Searching,
            3 => Self::Denied,
            4 => Self::Unknown,
            5 => Self::Roaming,
            6 => Self::SmsOnlyHome,
            7 => Self::SmsOnlyRoaming,
            8 => Self::EmergencyOnly,
            _ => return None,
        })
    }

    /// Whether data can flow: home and roaming alike.
    #[must_use]
    pub fn is_registered(self) -> bool {
        matches!(self, Self::Home | Self::Roaming)
    }
}

impl std::fmt::Display for RegStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idle => "not searching",
            Self::Home => "home",
            Self::Searching => "searching",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
            Self::Roaming => "roaming",
            Self::SmsOnlyHome => "SMS only, home",
            Self::SmsOnlyRoaming => "SMS only, roaming",
            Self::EmergencyOnly => "emergency only",
        })
    }
}

/// The radio's generation in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technology {
    /// GSM, GPRS, EDGE.
    Gsm,
    /// UMTS, HSPA.
    Wcdma,
    /// LTE.
    Lte,
    /// CDMA, EV-DO.
    Cdma,
}

impl Technology {
    /// `<AcT>` of 3GPP TS 27.007 section 7.3 (8 and 9, and Quectel's 100, are LTE-M, NB-IoT and CDMA).
    #[must_use]
    pub fn from_act(n: u8) -> Option<Self> {
        Some(match n {
            0 | 1 | 3 => Self::Gsm,
            2 | 4..=6 => Self::Wcdma,
            7..=9 => Self::Lte,
            100 => Self::Cdma,
            _ => return None,
        })
    }

    /// The name in `+QENG` and `+QNWINFO` (`"LTE"`, `"FDD LTE"`, `"HSPA+"`, …).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            n if n.contains("LTE") => Self::Lte,
            "WCDMA" | "TDSCDMA" | "HSDPA" | "HSUPA" | "HSPA+" => Self::Wcdma,
            "GSM" | "GPRS" | "EDGE" => Self::Gsm,
            n if n.starts_with("CDMA") || n == "HDR" => Self::Cdma,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Technology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gsm => "GSM",
            Self::Wcdma => "WCDMA",
            Self::Lte => "LTE",
            Self::Cdma => "CDMA",
        })
    }
}

/// One registration, read or announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// In, out, refused.
    pub status: RegStatus,
    /// Tracking area code (location area code in 2G and 3G).
    pub tac: Option<u32>,
    /// Cell identity.
    pub cell_id: Option<u32>,
    /// Radio technology.
    pub technology: Option<Technology>,
}

impl Registration {
    /// The unsolicited form: `<stat>[,"<tac>","<ci>"[,<AcT>]]`.
    #[must_use]
    pub fn from_urc(fields: &Fields) -> Option<Self> {
        Self::from_fields(fields, 0)
    }

    /// The read form: `<n>,<stat>[,"<tac>","<ci>"[,<AcT>]]`.
    #[must_use]
    pub fn from_read(fields: &Fields) -> Option<Self> {
        Self::from_fields(fields, 1)
    }

    fn from_fields(fields: &Fields, at: usize) -> Option<Self> {
        Some(Self {
            status: RegStatus::from_number(fields.number(at)?)?,
            tac: fields.hex(at + 1),
            cell_id: fields.hex(at + 2),
            technology: fields.number(at + 3).and_then(Technology::from_act),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let want = Registration {
            status: RegStatus::Roaming,
            tac: Some(0x1E2F),
            cell_id: Some(0x2B3_C4D5),
            technology: Some(Technology::Lte),
        };
        assert_eq!(
            Registration::from_read(&Fields::of(" 2,5,\"1E2F\",\"2B3C4D5\",7")),
            Some(want)
        );
        assert_eq!(
            Registration::from_urc(&Fields::of(" 5,\"1E2F\",\"2B3C4D5\",7")),
            Some(want)
        );
        let short = Registration::from_read(&Fields::of("0,3")).unwrap();
        assert_eq!((short.status, short.tac), (RegStatus::Denied, None));
        assert!(Registration::from_read(&Fields::of("0,9")).is_none());
        assert!(Registration::from_read(&Fields::of("0")).is_none());
    }

    #[test]
    fn home_and_roaming_are_in() {
        let inside: Vec<u8> = (0..=8)
            .filter(|n| RegStatus::from_number(*n).unwrap().is_registered())
            .collect();
        assert_eq!(inside, [1, 5]);
    }
}
