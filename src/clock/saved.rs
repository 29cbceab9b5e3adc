//! The last time that was confirmed, kept over restarts in a file of one line: `2026-11-22T05:53:12Z ntp` or `… network`.
//!
//! Only confirmed times are saved: an unconfirmed system clock from the future would poison the file, and with it every start after.
//! What is damaged, or lies beyond what is plausible, is ignored with a line in the log, and replaced by the next confirmed time.
//!
//! A card lives as long as it is not written: a confirmed time is saved when there is none, when it is [`SAVE_EVERY`] from what is
//! saved (either way: NTP may take back a wrong one), when NTP confirms what only the network had said, and at the end of the run;
//! never twice within [`SAVE_GAP`], a restart loop included.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Clock, Saved, Source, Witness, is_plausible, rfc3339};
use crate::files::{PUBLIC, read_small, write_atomically};

/// The file, in the state directory.
const NAME: &str = "clock";
/// Largest file that is read, in bytes; it has under 40.
const FILE_MAX: u64 = 128;
/// How far the time moves before it is saved again.
pub const SAVE_EVERY: Duration = Duration::from_secs(3_600);
/// The least distance of two savings.
pub const SAVE_GAP: Duration = Duration::from_secs(60);

/// Where the time is kept in a state directory.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

fn encode(saved: Saved) -> String {
    format!("{} {}\n", rfc3339(saved.time), saved.by.word())
}

fn decode(text: &str) -> Result<Saved, String> {
    let fields: Vec<_> = text.split_whitespace().collect();
    let [time, by] = fields.as_slice() else {
        return Err("it is not a time and a word".to_owned());
    };
    let by = Witness::from_word(by).ok_or("its second word is neither ntp nor network")?;
    let time: jiff::Timestamp = time.parse().map_err(|e| format!("its time cannot be read ({e})"))?;
    let time = u64::try_from(time.as_second())
        .map(Duration::from_secs)
        .unwrap_or_default();
    if !is_plausible(time) {
        return Err(format!("it says {}, which cannot be", rfc3339(time)));
    }
    Ok(Saved { time, by })
}

/// Tells the clock what was saved below the state directory, and says in the log what is wrong with it.
pub fn restore(state_dir: &Path, clock: &Clock) {
    let path = path(state_dir);
    let found = match read_small(&path, FILE_MAX) {
        Ok(bytes) => decode(&String::from_utf8_lossy(&bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(e) => Err(e.to_string()),
    };
    match found {
        Ok(saved) => {
            tracing::debug!(
                "the last confirmed time is {}, by {}",
                rfc3339(saved.time),
                saved.by.word()
            );
            clock.remember(saved);
        }
        Err(why) => tracing::warn!(
            "the saved time in {} is ignored: {why}; the next confirmed time replaces it",
            path.display()
        ),
    }
}

/// Writes it; the old file or the new one survives a power cut.
///
/// # Errors
/// From the file system.
pub fn write(state_dir: &Path, saved: Saved) -> io::Result<()> {
    write_atomically(&path(state_dir), encode(saved).as_bytes(), PUBLIC)
}

/// What is to be saved, if anything; `last` is what is saved, and `ending` says that the run ends.
#[must_use]
pub fn due(last: Option<Saved>, now: Option<(Duration, Source)>, ending: bool) -> Option<Saved> {
    let (time, source) = now?;
    let by = source.confirmed_by()?;
    let apart = last.map_or(Duration::MAX, |l| l.time.abs_diff(time));
    let better = by == Witness::Ntp && last.is_some_and(|l| l.by == Witness::Network);
    let due = apart >= SAVE_EVERY || (apart >= SAVE_GAP && (ending || better));
    due.then_some(Saved { time, by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FLOOR;

    const S: Duration = Duration::from_secs(1);
    const T: Duration = Duration::from_secs(FLOOR.as_secs() + 1_000_000);

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        for by in [Witness::Ntp, Witness::Network] {
            let saved = Saved { time: T, by };
            write(dir.path(), saved).unwrap();
            let clock = Clock::new();
            restore(dir.path(), &clock);
            assert_eq!(clock.view().saved, Some(saved));
        }
        assert_eq!(
            std::fs::read_to_string(path(dir.path())).unwrap(),
            "2026-11-12T13:46:40Z network\n"
        );
    }

    #[test]
    fn garbage_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(200);
        for text in [
            "",
            "\0\0\0\0\0\0",
            "2026-11-12T13:46:40Z",
            "2026-11-12T13:46:40Z gps",
            "2026-11-12T13:46:40Z ntp ntp",
            "2026-13-12T13:46:40Z ntp",
            "1970-01-01T00:00:00Z ntp",
            "1969-01-01T00:00:00Z ntp",
            "2099-01-01T00:00:00Z ntp",
            "99999-01-01T00:00:00Z ntp",
            &long,
        ] {
            std::fs::write(path(dir.path()), text).unwrap();
            let clock = Clock::new();
            restore(dir.path(), &clock);
            assert_eq!(clock.view().saved, None, "{text:?}");
        }
    }

    #[test]
    fn saved_seldom_and_only_what_is_confirmed() {
        let ntp = |time| Some((time, Source::Ntp));
        let network = |time| Some((time, Source::Confirmed(Witness::Network)));
        let by = |time, by| Some(Saved { time, by });
        let (n, m) = (Witness::Ntp, Witness::Network);
        assert_eq!(due(None, ntp(T), false), by(T, n));
        assert_eq!(due(None, network(T), false), by(T, m));
        assert_eq!(due(None, Some((T, Source::Carried(m))), false), by(T, m));
        for unsure in [None, Some((T, Source::System)), Some((T, Source::Saved))] {
            assert_eq!(due(None, unsure, true), None);
            assert_eq!(due(by(T - 99 * SAVE_EVERY, n), unsure, true), None);
        }
        assert_eq!(due(by(T, n), ntp(T + SAVE_EVERY - S), false), None);
        assert_eq!(due(by(T, n), ntp(T + SAVE_EVERY), false), by(T + SAVE_EVERY, n));
        assert_eq!(
            due(by(T, n), ntp(T + SAVE_GAP), true),
            by(T + SAVE_GAP, n),
            "at the end"
        );
        assert_eq!(due(by(T, n), ntp(T + SAVE_GAP - S), true), None, "a restart loop");
        assert_eq!(
            due(by(T, m), ntp(T + SAVE_GAP), false),
            by(T + SAVE_GAP, n),
            "a better witness"
        );
        assert_eq!(due(by(T, n), network(T + SAVE_GAP), false), None);
        assert_eq!(
            due(by(T + 3 * SAVE_EVERY, n), ntp(T), false),
            by(T, n),
            "NTP takes back a wrong one"
        );
    }
}
