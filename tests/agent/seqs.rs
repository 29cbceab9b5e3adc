//! What arrived, sample by sample.

use std::collections::BTreeMap;

use onyx::bench::clouds::{Cloud, Message, Payload};

/// Samples by (spool, sequence number), and how many messages were copies of one.
#[derive(Debug, Default)]
pub struct Arrived {
    pub samples: BTreeMap<(String, u64), String>,
    pub duplicates: usize,
}

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

    /// A number stands for one content for ever.
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
                assert_eq!(before, payload, "a number was used for two samples");
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
