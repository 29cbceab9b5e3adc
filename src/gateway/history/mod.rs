//! What was: throughput and refusals over two weeks, and each device's last events. In memory, of a fixed size, gone with the process;
//! whoever wants more has Prometheus scrape `/metrics` and ship the JSON log.
//!
//! | file | what it keeps | its bound |
//! |---|---|---|
//! | `series` | bytes, packets, connections and refusals by time | three rings of slots, under [`series::MEMORY_MAX`] bytes |
//! | `timeline` | the last events of each device, and of strangers | events a device, events in all, devices |
//!
//! Both are pure: time is an argument, nothing is read or written. [`History`] puts a lock around each for the connections' tasks, which
//! touch them when a device comes and goes, never while it is relayed.

pub mod series;
pub mod timeline;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::identity::Imsi;
use series::{Answer, Range, Series, Totals};
use timeline::{Device, Event, Noted, Timelines};

/// How often the counters are looked at for the series.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// All of it.
#[derive(Debug, Default)]
pub struct History {
    series: Mutex<Series>,
    timelines: Mutex<Timelines>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl History {
    /// Counters as they stand at `now`, in monotonic time.
    pub fn sample(&self, now: Duration, totals: &Totals) {
        held(&self.series).sample(now, totals);
    }

    /// One range of the series.
    #[must_use]
    pub fn series(&self, range: Range) -> Answer {
        held(&self.series).answer(range)
    }

    /// Something happened to a device.
    pub fn note(&self, imsi: &Imsi, event: Event) {
        held(&self.timelines).note(imsi, event);
    }

    /// Something happened to a caller whom nobody knows.
    pub fn stranger(&self, event: Event) {
        held(&self.timelines).stranger(event);
    }

    /// What is known of one device.
    #[must_use]
    pub fn device(&self, imsi: &Imsi) -> Option<Device> {
        held(&self.timelines).device(imsi).cloned()
    }

    /// Looks at every device that is known; keep it short, connections wait.
    pub fn each_device(&self, mut look: impl FnMut(&Imsi, &Device)) {
        held(&self.timelines)
            .devices()
            .for_each(|(imsi, device)| look(imsi, device));
    }

    /// Callers whom nobody knows, newest first.
    #[must_use]
    pub fn strangers(&self) -> Vec<Noted> {
        held(&self.timelines).strangers()
    }
}
