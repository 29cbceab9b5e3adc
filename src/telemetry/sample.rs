//! One sample as it is stored and as it travels: compact JSON, one object.
//!
//! | key | meaning, unit |
//! |---|---|
//! | `seq` | number in the spool, from 1, strictly increasing; a gap that does not fill is a loss (or a number skipped by a crash) |
//! | `spool` | the spool's id, 16 hexadecimal digits: `(spool, seq)` names a sample for ever, so a receiver drops duplicates by it |
//! | `ts` | when it was measured, milliseconds since the Unix epoch; absent while the device does not know the time |
//! | `host` | [`HostReading`] |
//! | `modem` | [`ModemReading`] |
//!
//! What could not be measured is left out, never `null` and never a stand-in value. `seq` and `spool` are not known before the spool
//! took the sample, so they are not stored: [`stamp`] splices them in front when the sample is sent.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::spool::{Seq, SpoolId};

/// A measurement at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Since the Unix epoch (`ts`, milliseconds on the wire); `None` while nobody vouches for the time.
    #[serde(rename = "ts", default, with = "millis", skip_serializing_if = "Option::is_none")]
    pub time: Option<Duration>,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostReading>,
    /// The modem and its cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modem: Option<ModemReading>,
}

impl Sample {
    /// The bytes that go into the spool.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Structs of numbers and strings: serde_json has nothing to refuse (non-finite floats become null and are not produced).
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The host's own measurements.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostReading {
    /// CPU temperature, °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_temp_c: Option<f64>,
    /// Load average over one minute, runnable tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load1: Option<f64>,
    /// Memory available without swapping, KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_avail_kib: Option<u64>,
    /// Memory, KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_total_kib: Option<u64>,
    /// Free for unprivileged users on the watched file system, KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_free_kib: Option<u64>,
    /// Size of the watched file system, KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_total_kib: Option<u64>,
    /// Since boot, whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
}

/// The modem's signal and cell.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModemReading {
    /// Reference signal received power, dBm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsrp_dbm: Option<i16>,
    /// Reference signal received quality, dB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsrq_db: Option<i16>,
    /// Received signal strength, dBm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rssi_dbm: Option<i16>,
    /// Signal to interference and noise, dB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinr_db: Option<f32>,
    /// E-UTRA band number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<u16>,
    /// The network's name as the modem gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// `LTE`, `WCDMA`, `GSM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub technology: Option<String>,
}

/// A stored payload that cannot take a number because it is not a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "sample {seq} is not a JSON object and cannot carry its sequence number; set it aside, the program that stored it is wrong"
)]
pub struct NotAnObject {
    /// Which record.
    pub seq: Seq,
}

/// The bytes that travel: the stored object with `seq` and `spool` in front. Takes any JSON object, so a local program's own
/// samples travel the same way; only the opening brace is looked at.
///
/// # Errors
/// [`NotAnObject`].
pub fn stamp(spool: SpoolId, seq: Seq, payload: &[u8]) -> Result<Vec<u8>, NotAnObject> {
    let payload = payload.trim_ascii();
    let inner = payload
        .strip_prefix(b"{")
        .and_then(|p| p.strip_suffix(b"}"))
        .ok_or(NotAnObject { seq })?
        .trim_ascii();
    let mut out = format!(r#"{{"seq":{seq},"spool":"{spool}""#).into_bytes();
    if !inner.is_empty() {
        out.push(b',');
        out.extend_from_slice(inner);
    }
    out.push(b'}');
    Ok(out)
}

mod millis {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        time.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
            .serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Sample {
        Sample {
            time: Some(Duration::from_millis(1_793_491_200_123)),
            host: Some(HostReading {
                cpu_temp_c: Some(48.3),
                load1: Some(0.42),
                uptime_s: Some(7),
                ..HostReading::default()
            }),
            modem: Some(ModemReading {
                rsrp_dbm: Some(-92),
                sinr_db: Some(13.2),
                operator: Some("NTT DOCOMO \"x\"".into()),
                ..ModemReading::default()
            }),
        }
    }

    #[test]
    fn the_wire_form_is_what_the_table_says() {
        let text = String::from_utf8(full().encode()).unwrap();
        assert_eq!(
            text,
            r#"{"ts":1793491200123,"host":{"cpu_temp_c":48.3,"load1":0.42,"uptime_s":7},"modem":{"rsrp_dbm":-92,"sinr_db":13.2,"operator":"NTT DOCOMO \"x\""}}"#
        );
        assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), full());
        assert_eq!(Sample::default().encode(), b"{}");
    }

    #[test]
    fn a_stamp_names_the_sample_and_changes_nothing_else() {
        let id = SpoolId::from_u64(0xa1b2);
        let wire = stamp(id, Seq::new(12), &full().encode()).unwrap();
        let v: serde_json::Value = serde_json::from_slice(&wire).unwrap();
        assert_eq!(v["seq"], 12);
        assert_eq!(v["spool"], "000000000000a1b2");
        assert_eq!(v["host"]["load1"], 0.42);
        assert_eq!(serde_json::from_slice::<Sample>(&wire).unwrap(), full());
        assert_eq!(
            stamp(id, Seq::new(1), b" { } \n").unwrap(),
            br#"{"seq":1,"spool":"000000000000a1b2"}"#
        );
        for bad in [&b""[..], b"[]", b"{", b"}", b"3", b"\xff\x00"] {
            assert!(stamp(id, Seq::new(1), bad).is_err(), "{bad:?}");
        }
    }
}
