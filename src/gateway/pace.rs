//! When a busy thread looks for work: not at once for each event, but after a moment, for all that has gathered.
//!
//! A relayed message takes four calls of the operating system that cannot be saved, and one that can: going to sleep and being woken for
//! it alone. While messages come one by one faster than a thread falls asleep, each costs a wake-up, here and, as the others answer what
//! came from here one by one, at the other two ends as well. So a thread that was busy in the last [`WINDOW`] and has nothing to do for now
//! waits [`PAUSE`] before it asks what there is. Network cards do the same with their interrupts, for the same reason.
//!
//! The price is latency of up to [`PAUSE`] and the timer's slack (50 us on Linux: `timerslack_ns` in proc(5)) while the thread is busy, and
//! none below [`BUSY`]. Under load it is repaid: less is done for each message, and queues are shorter. docs/speed.md has the figures.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// How long back "busy" looks.
const WINDOW: Duration = Duration::from_millis(1);
/// Turns of connections in a window that make a thread busy. A message is two turns: 4,000 messages a second.
const BUSY: u32 = 8;
/// How long events gather.
const PAUSE: Duration = Duration::from_micros(50);

/// What one thread did lately.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// When the window began.
    begun: Option<Instant>,
    /// Turns in it.
    turns: u32,
    /// What the last window was.
    busy: bool,
}

impl Pace {
    /// The thread has nothing more to do: how long it lets events gather.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let passed = self.begun.map_or(WINDOW, |begun| now.saturating_duration_since(begun));
        if passed >= WINDOW {
            self.busy = self.begun.is_some() && passed * BUSY <= WINDOW * self.turns;
            (self.begun, self.turns) = (Some(now), 0);
        }
        self.busy.then_some(PAUSE)
    }
}

thread_local! {
    static PACE: Cell<Pace> = const { Cell::new(Pace { begun: None, turns: 0, busy: false }) };
}

/// A connection of this thread has its turn.
pub(super) fn turn() {
    let pace = PACE.get();
    let turns = pace.turns.saturating_add(1);
    PACE.set(Pace { turns, ..pace });
}

/// For the runtime, before it puts this thread to sleep.
pub(super) fn gather() {
    let mut pace = PACE.get();
    let pause = pace.pause(Instant::now());
    PACE.set(pace);
    if let Some(pause) = pause {
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the thread does when it has had so many turns in this time.
    fn after(pace: &mut Pace, turns: u32, time: Duration) -> Option<Duration> {
        pace.turns += turns;
        let now = pace.begun.unwrap() + time;
        pace.pause(now)
    }

    #[test]
    fn only_who_was_busy_lets_events_gather() {
        let mut pace = Pace::default();
        assert_eq!(pace.pause(Instant::now()), None, "nothing is known yet");
        assert_eq!(after(&mut pace, BUSY - 1, WINDOW), None);
        assert_eq!(after(&mut pace, BUSY, WINDOW), Some(PAUSE));
        assert_eq!(after(&mut pace, 0, WINDOW / 2), Some(PAUSE), "the window is not over");
        assert_eq!(after(&mut pace, 0, WINDOW), None, "nobody came");
    }

    #[test]
    fn a_burst_after_a_long_silence_is_not_busy() {
        let mut pace = Pace::default();
        pace.pause(Instant::now());
        assert_eq!(
            after(&mut pace, 50 * BUSY, 100 * WINDOW),
            None,
            "a message a millisecond"
        );
        assert_eq!(after(&mut pace, 100 * BUSY, 100 * WINDOW), Some(PAUSE));
        assert_eq!(after(&mut pace, u32::MAX, WINDOW), Some(PAUSE));
    }
}
