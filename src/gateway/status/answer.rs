//! What the status socket answers.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::ends::ENDS;
use super::handshake::Times;
use super::health::StoreState;
use super::ledger::{Counts, Tally, Way};
use super::process::Process;
use super::{Status, held};
use crate::clock::rfc3339;
use crate::gateway::refusal::KEYS;
use crate::identity::redact_digits;

/// Most connections that one answer lists.
pub(super) const LISTED_MAX: usize = 2_000;
/// Most bytes that they may take: an answer is read up to 1 MiB ([`crate::control`]), and all else takes less than the rest.
const LISTED_BYTES: usize = 700 << 10;

/// Packets and bytes of one direction.
pub(super) fn way(way: Way) -> Value {
    json!({"packets": way.packets, "bytes": way.bytes})
}

/// Counters by their keys.
fn by_key(keys: &[&str], counts: &[u64]) -> Map<String, Value> {
    keys.iter()
        .zip(counts)
        .map(|(k, n)| ((*k).to_owned(), (*n).into()))
        .collect()
}

/// One group's figures.
fn group(tally: &Tally) -> Value {
    json!({
        "open": tally.open,
        "relayed": tally.relayed,
        "refused": tally.refused,
        "up": way(tally.up),
        "down": way(tally.down),
    })
}

/// The store's state.
fn store(state: &StoreState) -> Value {
    json!({
        "generation": state.generation,
        "errors": state.errors,
        "last_error": state.last_error.as_ref().map(|(_, text)| text),
        "last_error_at": state.last_error.as_ref().map(|(at, _)| rfc3339(*at)),
        "silent_since": state.silent_since.map(rfc3339),
    })
}

impl Status {
    /// What the status socket and the page both tell: everything but the devices, nobody's number in it.
    pub(crate) fn common(&self, counts: &Counts) -> Value {
        let process = Process::now();
        let (full, resumed) = counts.handshakes.counts();
        let mean = |want: bool| {
            let mut sum = Times::default();
            counts
                .handshakes
                .each()
                .filter(|(_, r, _)| *r == want)
                .for_each(|(.., t)| sum.merge(t));
            sum.mean_ms().map(|ms| (ms * 1e3).round() / 1e3)
        };
        let versions: Map<String, Value> = super::Tls::ALL
            .iter()
            .map(|v| {
                let of = counts.handshakes.each().filter(|(version, ..)| version == v);
                (v.number().to_owned(), of.map(|(.., t)| t.count).sum::<u64>().into())
            })
            .collect();
        let groups: Map<String, Value> = counts.groups.iter().map(|(name, t)| (name.clone(), group(t))).collect();
        json!({
            "program": "onyx-gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "listening": self.listening.to_string(),
            "upstream": self.upstream,
            "subscribers": self.subscribers(),
            "seconds": self.uptime().as_secs(),
            "accepted": counts.accepted,
            "open": counts.open,
            "relaying": counts.relaying,
            "max_connections": self.places(),
            "relayed": counts.relayed,
            "refused": by_key(&KEYS, &counts.refused),
            "ended": by_key(&ENDS, &counts.ended),
            "up": way(counts.up),
            "down": way(counts.down),
            "handshakes": {
                "full": full, "full_mean_ms": mean(false),
                "resumed": resumed, "resumed_mean_ms": mean(true),
                "plain": counts.handshakes.plain,
                "tls": versions,
            },
            "groups": groups,
            "slow_addresses": self.slow_addresses(),
            "store": self.store().as_ref().map(store),
            "process": {
                "rss_bytes": process.rss,
                "open_fds": process.fds,
                "max_fds": process.fds_max,
                "cpu_seconds": process.cpu.map(|c| c.as_secs_f64()),
                "threads": process.threads,
            },
            "health": self.findings(counts, &process),
        })
    }

    /// Everything, as the status socket answers it; numbers of devices are redacted.
    #[must_use]
    pub fn json(&self) -> Value {
        self.sample();
        let now = self.clock.monotonic();
        let (counts, list): (_, Vec<Arc<Connection>>) = {
            let ledger = held(&self.ledger);
            (
                ledger.counts(),
                ledger.open.values().take(LISTED_MAX).cloned().collect(),
            )
        };
        let mut answer = self.common(&counts);
        // The page's readers may see whose certificate ends; this machine's users may not.
        if let Some(health) = answer["health"].as_array_mut() {
            for finding in health {
                let redacted = redact_digits(finding["text"].as_str().unwrap_or_default());
                finding["text"] = redacted.into();
            }
        }
        if let Some(error) = answer["store"]["last_error"].as_str().map(redact_digits) {
            answer["store"]["last_error"] = error.into();
        }
        let mut room = LISTED_BYTES;
        let mut listed = Vec::new();
        for connection in &list {
            let value = connection.json(now, &self.clock);
            let Some(left) = room.checked_sub(value.to_string().len()) else {
                break;
            };
            room = left;
            listed.push(value);
        }
        answer["connections"] = listed.into();
        answer
    }
}
