//! What was sent, acknowledged and arrived, by device and sequence number, and how long it took.
//!
//! Counts and times belong to a message by the instant at which it was sent: what is sent while [`Phase::Measure`] lasts is measured,
//! however late it arrives. Rates count acknowledgements and arrivals while that phase lasts.

use serde_json::{Value, json};

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Publishing, not counted yet.
    WarmUp,
    /// Publishing and counting.
    Measure,
    /// Nothing new is sent; what is under way may come.
    Drain,
}

/// Sequence numbers that something happened to, one bit each.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    /// Whether it had not happened before.
    pub(super) fn mark(&mut self, n: u32) -> bool {
        let (word, bit) = ((n / 64) as usize, 1_u64 << (n % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0.get_mut(word).is_some_and(|w| {
            let new = *w & bit == 0;
            *w |= bit;
            new
        })
    }

    /// How many happened here and not there.
    pub(super) fn without(&self, there: &Self) -> u64 {
        let other = |i: usize| there.0.get(i).copied().unwrap_or(0);
        let missing = self.0.iter().enumerate().map(|(i, w)| w & !other(i));
        missing.map(|w| u64::from(w.count_ones())).sum()
    }

    /// Those that happened here and not there.
    pub(super) fn missing(&self, there: &Self) -> impl Iterator<Item = u32> {
        let other = |i: usize| there.0.get(i).copied().unwrap_or(0);
        let words = self.0.iter().enumerate().map(move |(i, w)| (i, w & !other(i)));
        words.filter(|(_, w)| *w != 0).flat_map(|(i, w)| {
            let first = u32::try_from(i * 64).unwrap_or(u32::MAX);
            (0..64).filter(move |bit| w >> bit & 1 == 1).map(move |bit| first + bit)
        })
    }
}

/// The books of one run.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) phase: Phase,
    acked: Vec<Seen>,
    arrived: Vec<Seen>,
    /// From here on messages are measured, in nanoseconds of the run; none while it is `None`.
    measured_from: Option<u64>,
    pub(super) sent: u64,
    pub(super) acks: u64,
    pub(super) arrivals: u64,
    pub(super) twice: u64,
    /// Messages that a rate asked for and a full buffer kept back.
    pub(super) held_back: u64,
    acks_in_time: u64,
    arrivals_in_time: u64,
    /// Nanoseconds from sending to the acknowledgement, and to the arrival upstream.
    round_trips: Vec<u64>,
    arrivals_after: Vec<u64>,
}

impl Ledger {
    pub(super) fn new(devices: usize) -> Self {
        let seen = || std::iter::repeat_with(Seen::default).take(devices).collect();
        Self {
            phase: Phase::WarmUp,
            acked: seen(),
            arrived: seen(),
            measured_from: None,
            sent: 0,
            acks: 0,
            arrivals: 0,
            twice: 0,
            held_back: 0,
            acks_in_time: 0,
            arrivals_in_time: 0,
            round_trips: Vec::new(),
            arrivals_after: Vec::new(),
        }
    }

    /// Begins to measure at `now`, in nanoseconds of the run.
    pub(super) fn measure(&mut self, now: u64) {
        self.phase = Phase::Measure;
        self.measured_from = Some(now);
    }

    fn is_measured(&self, sent: u64) -> bool {
        self.measured_from.is_some_and(|from| sent >= from)
    }

    /// A PUBACK for message `n` of `device` at `now`, sent at `sent`, all in nanoseconds of the run.
    pub(super) fn ack(&mut self, device: usize, n: u32, sent: u64, now: u64) {
        self.acks += 1;
        self.acks_in_time += u64::from(self.phase == Phase::Measure);
        if let Some(seen) = self.acked.get_mut(device) {
            seen.mark(n);
        }
        if self.is_measured(sent) {
            self.round_trips.push(now.saturating_sub(sent));
        }
    }

    /// Message `n` of `device` came out upstream at `now`.
    pub(super) fn arrival(&mut self, device: usize, n: u32, sent: u64, now: u64) {
        let Some(seen) = self.arrived.get_mut(device) else {
            return;
        };
        if !seen.mark(n) {
            self.twice += 1;
            return;
        }
        self.arrivals += 1;
        self.arrivals_in_time += u64::from(self.phase == Phase::Measure);
        if self.is_measured(sent) {
            self.arrivals_after.push(now.saturating_sub(sent));
        }
    }

    /// Messages that were acknowledged and did not arrive.
    pub(super) fn lost(&self) -> u64 {
        self.acked.iter().zip(&self.arrived).map(|(a, b)| a.without(b)).sum()
    }

    /// The result of a measurement that lasted so many seconds.
    pub(super) fn result(&mut self, seconds: f64) -> Value {
        let rate = |n: u64| as_f64(n) / seconds;
        json!({
            "sent": self.sent, "acked": self.acks, "arrived": self.arrivals, "arrived_twice": self.twice,
            "acked_and_lost": self.lost(), "held_back": self.held_back,
            "acked_while_measured": self.acks_in_time,
            "acked_per_second": rate(self.acks_in_time), "arrived_per_second": rate(self.arrivals_in_time),
            "arrival_us": quantiles(&mut self.arrivals_after), "ack_us": quantiles(&mut self.round_trips),
        })
    }
}

/// Counts of a benchmark are far below 2^52.
#[allow(clippy::cast_precision_loss)]
fn as_f64(n: u64) -> f64 {
    n as f64
}

/// Median, 99th percentile and maximum of nanoseconds, as microseconds; null when there is nothing.
fn quantiles(all: &mut [u64]) -> Value {
    all.sort_unstable();
    // The smallest value that so many of a hundred do not exceed.
    let at = |percent: usize| {
        let rank = (all.len() * percent).div_ceil(100).max(1);
        all.get(rank - 1).map(|ns| as_f64(*ns) / 1e3)
    };
    json!({"count": all.len(), "p50": at(50), "p99": at(99), "max": at(100)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_and_never_arrived_is_lost_and_late_is_not_lost() {
        let mut l = Ledger::new(2);
        l.ack(0, 0, 10, 20);
        l.ack(0, 200, 10, 20);
        l.ack(1, 63, 10, 20);
        assert_eq!(l.lost(), 3);
        l.arrival(0, 200, 10, 90);
        l.arrival(1, 63, 10, 90);
        l.arrival(1, 64, 10, 90);
        assert_eq!((l.lost(), l.arrivals, l.twice), (1, 3, 0));
        l.arrival(1, 64, 10, 95);
        assert_eq!((l.lost(), l.arrivals, l.twice), (1, 3, 1));
        l.arrival(7, 0, 10, 95);
        assert_eq!(l.arrivals, 3);
    }

    #[test]
    fn only_what_is_sent_while_measuring_is_timed_and_only_what_comes_meanwhile_makes_the_rate() {
        let mut l = Ledger::new(1);
        l.ack(0, 0, 1_000, 2_000);
        l.measure(5_000);
        l.ack(0, 1, 4_000, 6_000);
        l.ack(0, 2, 5_000, 8_000);
        l.phase = Phase::Drain;
        l.ack(0, 3, 6_000, 16_000);
        let r = l.result(2.0);
        assert_eq!((&r["acked"], &r["acked_while_measured"]), (&json!(4), &json!(2)));
        assert_eq!(r["acked_per_second"], json!(1.0));
        assert_eq!(r["ack_us"], json!({"count": 2, "p50": 3.0, "p99": 10.0, "max": 10.0}));
        assert_eq!(r["arrival_us"]["p50"], Value::Null);
    }
}
