//! What was acknowledged against what arrived: sample by sample, by sequence number.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::SAMPLES;
use super::programs::AgentRun;
use crate::bench::clouds::{Cloud, Clouds, Message, Payload};

/// An acknowledged message is in the stand-in's list before its PUBACK is sent; this only bounds a failure.
const ARRIVE_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Ledger<'a> {
    clouds: &'a Clouds,
    ways: Vec<Way>,
}

struct Way {
    name: &'static str,
    acknowledged: u64,
    arrived: u64,
    messages: Vec<Message>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(clouds: &'a Clouds) -> Self {
        Self {
            clouds,
            ways: Vec::new(),
        }
    }

    /// Counts the different samples that arrived at `cloud`.
    pub(super) async fn close(&mut self, name: &'static str, cloud: Cloud, run: &AgentRun) {
        let of_cloud = |m: &&Message| m.cloud == cloud;
        let want = run.acknowledged;
        self.clouds
            .wait_for_messages(ARRIVE_WITHIN, |all| count(all.iter().filter(of_cloud)) >= want)
            .await;
        let messages: Vec<Message> = self.clouds.messages().iter().filter(of_cloud).cloned().collect();
        self.ways.push(Way {
            name,
            acknowledged: run.acknowledged,
            arrived: count(messages.iter()),
            messages,
        });
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.ways.iter().flat_map(|w| &w.messages)
    }

    /// Every way delivered all of its samples, and nothing was acknowledged that did not arrive.
    pub(super) fn is_complete(&self) -> bool {
        self.ways.len() == 2
            && self
                .ways
                .iter()
                .all(|w| w.arrived == SAMPLES && w.acknowledged == SAMPLES)
    }

    /// `delivered 20/20: direct 10/10, gateway 10/10`
    pub(super) fn line(&self) -> String {
        let each: Vec<String> = self
            .ways
            .iter()
            .map(|w| format!("{} {}/{SAMPLES}", w.name, w.arrived))
            .collect();
        let sum: u64 = self.ways.iter().map(|w| w.arrived).sum();
        format!("delivered {sum}/{}: {}", 2 * SAMPLES, each.join(", "))
    }

    pub(super) fn to_json(&self) -> Value {
        let ways: Vec<Value> = self
            .ways
            .iter()
            .map(|w| json!({"way": w.name, "wanted": SAMPLES, "acknowledged": w.acknowledged, "arrived": w.arrived}))
            .collect();
        json!({"result": self.line(), "ok": self.is_complete(), "ways": ways})
    }
}

/// How many different samples, by spool and sequence number.
fn count<'m>(messages: impl Iterator<Item = &'m Message>) -> u64 {
    let seen: BTreeSet<(String, u64)> = messages.filter_map(name).collect();
    seen.len() as u64
}

fn name(message: &Message) -> Option<(String, u64)> {
    let Payload::Text(text) = &message.payload else {
        return None;
    };
    let sample: Value = serde_json::from_str(text).ok()?;
    Some((sample["spool"].as_str()?.to_owned(), sample["seq"].as_u64()?))
}
