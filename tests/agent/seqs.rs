//! What arrived, sample by sample.

use std::collections::BTreeMap;

use onyx::bench::clouds::{Cloud, Message, Payload};

/// Samples by (spool, sequence number), and how many messages were copies of one.
#[derive(Debug, Default)]
pub struct Arrived {
    pub samples: BTreeMap<(String, u64), String>,
    pub duplicates: usize,
}

/// How much the network's time and this machine's may differ here, in milliseconds: the simulated dongle tells whole seconds.
const RETIMED_MS: i64 = 1_000;

impl Arrived {
    /// From the payloads that a witness printed, one a line among other lines.
    pub fn of_witness(text: &str) -> Self {
        let mut arrived = Self::default();
        text.lines().filter(|l| l.starts_with('{')).for_each(|l| arrived.add(l));
        arrived
    }

    /// From what a stand-in accepted.
    pub fn of_cloud(messages: &[Message], cloud: Cloud) -> Self {
        let mut arrived = Self::default();
        for m in messages.iter().filter(|m| m.cloud == cloud) {
            match &m.payload {
                Payload::Text(text) => arrived.add(text),
                Payload::Base64(_) => panic!("a sample is text: {m:?}"),
            }
        }
        arrived
    }

    /// A number stands for one content for ever. Its time may differ by little: what was measured before the network told the time is put
    /// right when it is sent, and sent again after a kill as it was stored.
    fn add(&mut self, payload: &str) {
        let v: serde_json::Value = serde_json::from_str(payload).unwrap_or_else(|e| panic!("{e}: {payload}"));
        let key = (v["spool"].as_str().unwrap().to_owned(), v["seq"].as_u64().unwrap());
        assert!(
            v["host"]["mem_total_kib"].as_u64().unwrap() > 0,
            "no measurement in {payload}"
        );
        match self.samples.insert(key, payload.to_owned()) {
            None => {}
            Some(before) => {
                let read = |text: &str| {
                    let mut v: serde_json::Value = serde_json::from_str(text).unwrap();
                    let ts = v.as_object_mut().unwrap().remove("ts").unwrap().as_i64().unwrap();
                    (v, ts)
                };
                let ((one, first), (other, second)) = (read(&before), read(payload));
                let same = one == other && (first - second).abs() <= RETIMED_MS;
                assert!(same, "a number was used for two samples:\n{before}\n{payload}");
                self.duplicates += 1;
            }
        }
    }

    /// How many different samples.
    pub fn count(&self) -> u64 {
        self.samples.len() as u64
    }

    /// All sequence numbers, whatever the spool.
    pub fn numbers(&self) -> std::collections::BTreeSet<u64> {
        self.samples.keys().map(|(_, n)| *n).collect()
    }
}
