//! What a group says beyond Beam and in numbers: keep-alive, rate, policy, time-outs. The namespace `OnyxGateway` says it in JSON
//! (`"keepAlive": {"idleAtZero": 1800}`), `gateway.toml` in TOML (`keep_alive.idle_at_zero = "30min"`), at `[[group]]` and beside
//! `[upstream]`; both are read here, with one set of bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::policy::{Answer, Matter, Policy};
use super::{KeepAlive, Rate};
use crate::config::Section;
use crate::gateway::json::Object;

/// Keep-alives that may be allowed, in seconds; MQTT has two bytes for one (MQTT 3.1.1 section 3.1.2.10).
const KEEP_ALIVE: RangeInclusive<u32> = 1..=65_535;
/// How long a device with keep-alive 0 may be silent, in seconds: up to a day.
const IDLE_AT_ZERO: RangeInclusive<u32> = 1..=86_400;
/// The way upstream, in seconds.
const CONNECT_TIMEOUT: RangeInclusive<u32> = 1..=120;
/// PUBLISH packets a second: far above what a device's link carries.
const MESSAGES: RangeInclusive<u32> = 0..=1_000_000;
/// Bytes a second: likewise.
const BYTES: RangeInclusive<u32> = 0..=1_000_000_000;
/// Seconds' worth that may come at once: up to an hour's.
const BURST: RangeInclusive<u32> = 1..=3_600;

/// A key's name in JSON and in TOML.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Word(&'static str, &'static str);

impl Word {
    const fn same(word: &'static str) -> Self {
        Self(word, word)
    }
}

/// Something with keys, whichever language it is written in.
pub(in crate::gateway) trait Words {
    /// A whole number; what is outside is a mistake.
    fn number(&mut self, word: Word, limits: RangeInclusive<u32>) -> Option<u32>;
    /// A time; the limits are seconds.
    fn time(&mut self, word: Word, limits: RangeInclusive<u32>) -> Option<Duration>;
    /// A text.
    fn word(&mut self, word: Word) -> Option<String>;
    /// Something is wrong with this key.
    fn wrong(&mut self, word: Word, why: String);
}

impl Words for Object<'_, '_> {
    fn number(&mut self, word: Word, limits: RangeInclusive<u32>) -> Option<u32> {
        self.some(word.0)?.number(limits)
    }

    fn time(&mut self, word: Word, limits: RangeInclusive<u32>) -> Option<Duration> {
        let seconds = self.some(word.0)?.number(limits)?;
        Some(Duration::from_secs(seconds.into()))
    }

    fn word(&mut self, word: Word) -> Option<String> {
        Some(self.text(word.0)?.0)
    }

    fn wrong(&mut self, word: Word, why: String) {
        match self.get(word.0) {
            Some(node) => node.mistake(why),
            None => self.mistake(format!("{}: {why}", word.0)),
        }
    }
}

impl Words for Section<'_, '_> {
    fn number(&mut self, word: Word, limits: RangeInclusive<u32>) -> Option<u32> {
        let limits = i64::from(*limits.start())..=i64::from(*limits.end());
        Section::number(self, word.1, limits).and_then(|n| u32::try_from(n).ok())
    }

    fn time(&mut self, word: Word, limits: RangeInclusive<u32>) -> Option<Duration> {
        let seconds = |n: &u32| Duration::from_secs((*n).into());
        let (there, limits) = (self.has(word.1), seconds(limits.start())..=seconds(limits.end()));
        let time = self.duration(word.1, Duration::ZERO, limits);
        (there && time > Duration::ZERO).then_some(time)
    }

    fn word(&mut self, word: Word) -> Option<String> {
        self.text(word.1)
    }

    fn wrong(&mut self, word: Word, why: String) {
        self.mistake(word.1, why);
    }
}

/// `connectTimeout`, `connect_timeout`.
pub(in crate::gateway) fn connect_timeout(w: &mut impl Words) -> Option<Duration> {
    w.time(Word("connectTimeout", "connect_timeout"), CONNECT_TIMEOUT)
}

/// The keys of `keepAlive`, `keep_alive`.
pub(in crate::gateway) fn keep_alive(w: &mut impl Words) -> KeepAlive {
    let beam = KeepAlive::default();
    let mut seconds = |word: Word, default: u16| {
        let n = w.number(word, KEEP_ALIVE);
        n.and_then(|n| u16::try_from(n).ok()).unwrap_or(default)
    };
    let (min, max) = (
        seconds(Word::same("min"), beam.min),
        seconds(Word::same("max"), beam.max),
    );
    if min > max {
        w.wrong(Word::same("min"), format!("{min} s is more than max, {max} s"));
    }
    let idle_at_zero = w.time(Word("idleAtZero", "idle_at_zero"), IDLE_AT_ZERO);
    KeepAlive {
        min,
        max,
        idle_at_zero: idle_at_zero.unwrap_or(beam.idle_at_zero),
    }
}

/// The keys of `rate`: a second, from one subscriber; 0 is no limit.
pub(in crate::gateway) fn rate(w: &mut impl Words) -> Rate {
    let none = Rate::default();
    Rate {
        messages: w.number(Word::same("messages"), MESSAGES).unwrap_or(none.messages),
        bytes: w.number(Word::same("bytes"), BYTES).unwrap_or(none.bytes),
        burst: w.number(Word::same("burst"), BURST).unwrap_or(none.burst),
    }
}

/// The keys of `policy`: answers other than the usual ones.
pub(in crate::gateway) fn policy(w: &mut impl Words) -> Vec<(Matter, Answer)> {
    let mut list = Vec::new();
    for matter in Matter::all() {
        let word = Word::same(matter.word());
        let Some(text) = w.word(word) else { continue };
        let Ok(answer) = text.parse::<Answer>() else {
            w.wrong(word, "is no answer: write pass, adapt, refuse or close".to_owned());
            continue;
        };
        // Which answers a matter may have is the same for all kinds.
        match Policy::default().set(matter, answer) {
            Ok(()) => list.push((matter, answer)),
            Err(why) => w.wrong(word, why),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::gateway::config::{Config, Source};
    use crate::gateway::group::own;
    use crate::gateway::json::Notes;

    /// `[[group]]` with these lines.
    fn toml(lines: &str) -> Result<own::Own, String> {
        let text = format!(
            "[[group]]\nname='g'\nfile='g.json'\n{lines}\n[credentials]\nfolder='c'\n[[subscriber]]\nimsi='100001'\nsource='10.0.0.1'\n"
        );
        let config = Config::from_text(Path::new("/etc/onyx/gateway.toml"), text).map_err(|e| e.to_string())?;
        let Source::Files(files) = config.source else {
            panic!("files")
        };
        Ok(files.group_files[0].own.clone())
    }

    fn json(text: &str) -> Result<own::Own, String> {
        let notes = Notes::of_text(text);
        let own = own::map(&notes.top("OnyxGateway").unwrap());
        let wrong: Vec<String> = notes.done().iter().map(ToString::to_string).collect();
        if wrong.is_empty() {
            Ok(own)
        } else {
            Err(wrong.join("\n"))
        }
    }

    #[test]
    fn both_languages_say_the_same() {
        let a = toml(
            "connect_timeout='7s'\nkeep_alive={min=7,max=70,idle_at_zero='2min'}\nrate={messages=1000000,bytes=1000000000,burst=3600}\n\
             policy={retain='adapt',many_filters='refuse'}",
        )
        .unwrap();
        let b = json(
            r#"{"connectTimeout": 7, "keepAlive": {"min": 7, "max": 70, "idleAtZero": 120},
                "rate": {"messages": 1000000, "bytes": 1000000000, "burst": 3600}, "policy": {"retain": "adapt", "many_filters": "refuse"}}"#,
        )
        .unwrap();
        assert_eq!(
            (a.connect_timeout, a.keep_alive, a.rate),
            (b.connect_timeout, b.keep_alive, b.rate)
        );
        assert_eq!(a.policy, b.policy);
        assert_eq!((a.keep_alive.max, a.rate.burst, a.policy.len()), (70, 3_600, 2));
        // Sections of their own, as people write them.
        let a =
            toml("[group.keep_alive]\nmin = 9\n[group.rate]\nmessages = 5\n[group.policy]\nretain = 'close'").unwrap();
        assert_eq!((a.keep_alive.min, a.rate.messages, a.policy.len()), (9, 5, 1));
        let none = toml("").unwrap();
        assert_eq!(
            (none.keep_alive, none.rate),
            (Default::default(), json("{}").unwrap().rate)
        );
    }

    #[test]
    fn both_have_the_same_bounds() {
        for (lines, text, why) in [
            (
                "rate={messages=1000001}",
                r#"{"rate": {"messages": 1000001}}"#,
                "1000001",
            ),
            (
                "rate={bytes=1000000001}",
                r#"{"rate": {"bytes": 1000000001}}"#,
                "1000000001",
            ),
            ("rate={burst=0}", r#"{"rate": {"burst": 0}}"#, "0"),
            ("rate={burst=3601}", r#"{"rate": {"burst": 3601}}"#, "3601"),
            ("rate={brust=1}", r#"{"rate": {"brust": 1}}"#, "did you mean \"burst\"?"),
            ("keep_alive={min=0}", r#"{"keepAlive": {"min": 0}}"#, "0"),
            ("keep_alive={max=65536}", r#"{"keepAlive": {"max": 65536}}"#, "65536"),
            (
                "keep_alive={min=9,max=8}",
                r#"{"keepAlive": {"min": 9, "max": 8}}"#,
                "9 s is more than max, 8 s",
            ),
            (
                "keep_alive={idle_at_zero='25h'}",
                r#"{"keepAlive": {"idleAtZero": 90000}}"#,
                "86400",
            ),
            ("connect_timeout='121s'", r#"{"connectTimeout": 121}"#, "120"),
            (
                "policy={retain='maybe'}",
                r#"{"policy": {"retain": "maybe"}}"#,
                "no answer",
            ),
            (
                "policy={retian='pass'}",
                r#"{"policy": {"retian": "pass"}}"#,
                "did you mean \"retain\"?",
            ),
            (
                "policy={mqtt5='adapt'}",
                r#"{"policy": {"mqtt5": "adapt"}}"#,
                "cannot be answered",
            ),
        ] {
            let (a, b) = (toml(lines).unwrap_err(), json(text).unwrap_err());
            assert!(a.contains(why), "{lines}: {a}");
            assert!(b.contains(why), "{text}: {b}");
        }
        // No limit can be written in both.
        assert_eq!(
            toml("rate={messages=0}").unwrap().rate,
            json(r#"{"rate": {"messages": 0}}"#).unwrap().rate
        );
    }
}
