//! Time: what the network told, and what the modem's own clock says.
//!
//! Before the network has told the time `AT+QLTS` answers `+QLTS: ""` and the modem's clock counts from the GPS epoch (`80/01/06`). The network
//! tells when the modem registers. `AT+CTZU` is 0 from the factory: then the modem's clock stays wrong and only `AT+QLTS` knows; 1 puts GMT into the
//! clock, 3 local time. The zone is in quarters of an hour.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::command::{Extended, Kind, texts};
use super::reply::Reply;
use super::state::Modem;

/// The GPS epoch, where a Qualcomm clock starts that nobody has set: 1980-01-06.
const EPOCH: DateTime = jiff::civil::date(1980, 1, 6).at(0, 0, 0, 0);
/// An hour has four quarters; a quarter has this many seconds.
const QUARTER_SECONDS: i32 = 15 * 60;

/// The clock.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// What the time was when the engine was switched on (never the host's clock itself: the engine asks nobody for time).
    at_power_on: Option<Timestamp>,
    zone: i8,
    /// When the network last told, since power-on.
    told_at: Option<Duration>,
    /// `AT+CTZU`: kept over restarts.
    update: u8,
    /// `AT+CCLK=`: the time set by hand, and when.
    by_hand: Option<(DateTime, String, Duration)>,
}

impl Clock {
    pub(super) fn new(at_power_on: Option<Timestamp>, zone: i8) -> Self {
        Self {
            at_power_on,
            zone,
            told_at: None,
            update: 0,
            by_hand: None,
        }
    }

    /// The modem starts again: what it was told is forgotten.
    pub(super) fn boot(&mut self) {
        self.told_at = None;
        self.by_hand = None;
    }

    /// The network tells the time, if it ever does.
    pub(super) fn told(&mut self, now: Duration) {
        if self.at_power_on.is_some() {
            self.told_at = Some(now);
        }
    }

    /// The true time, if it has been told.
    fn time(&self, since_power_on: Duration) -> Option<DateTime> {
        self.told_at?;
        let since = SignedDuration::try_from(since_power_on).ok()?;
        Some(Offset::UTC.to_datetime(self.at_power_on?.checked_add(since).ok()?))
    }

    fn local(&self, time: DateTime) -> DateTime {
        let seconds = i32::from(self.zone) * QUARTER_SECONDS;
        time.checked_add(SignedDuration::from_secs(seconds.into()))
            .unwrap_or(time)
    }

    fn network_line(&self, time: Option<DateTime>) -> Reply {
        Reply::line(match time {
            Some(t) => format!("+QLTS: \"{}{:+03},0\"", t.strftime("%Y/%m/%d,%H:%M:%S"), self.zone),
            None => "+QLTS: \"\"".to_owned(),
        })
    }

    fn own_clock(&self, now: Duration, since_boot: Duration) -> String {
        let plus = |time: DateTime, by: Duration| {
            SignedDuration::try_from(by)
                .ok()
                .and_then(|by| time.checked_add(by).ok())
                .unwrap_or(time)
        };
        let (time, zone) = match (&self.by_hand, self.time(now), self.update) {
            (_, Some(time), 1) => (time, format!("{:+03}", self.zone)),
            (_, Some(time), 3) => (self.local(time), format!("{:+03}", self.zone)),
            (Some((time, zone, at)), ..) => (plus(*time, now.saturating_sub(*at)), zone.clone()),
            _ => (plus(EPOCH, since_boot), "+00".to_owned()),
        };
        format!("+CCLK: \"{}{zone}\"", time.strftime("%y/%m/%d,%H:%M:%S"))
    }
}

/// Answers the commands about time; `None` for all others.
pub(super) fn answer(modem: &mut Modem, command: &Extended) -> Option<Reply> {
    let (now, since_boot) = (modem.now, modem.since_boot());
    let clock = &mut modem.clock;
    let reply = match (command.name.as_str(), &command.kind) {
        ("CCLK", Kind::Read) => Reply::line(clock.own_clock(now, since_boot)),
        ("CCLK", Kind::Set(args)) => match texts(args).as_slice() {
            [text] => match set_by_hand(text) {
                Some((time, zone)) => {
                    clock.by_hand = Some((time, zone, now));
                    Reply::ok()
                }
                None => Reply::error(),
            },
            _ => Reply::error(),
        },
        ("CTZU", Kind::Read) => Reply::line(format!("+CTZU: {}", clock.update)),
        ("CTZU", Kind::Test) => Reply::line("+CTZU: (0,1,3)"),
        ("CTZU", Kind::Set(args)) => match texts(args).as_slice() {
            ["0"] => set_update(clock, 0),
            ["1"] => set_update(clock, 1),
            ["3"] => set_update(clock, 3),
            _ => Reply::error(),
        },
        ("QLTS", Kind::Test) => Reply::line("+QLTS: (0-2)"),
        ("QLTS", Kind::Run) => clock.network_line(clock.told_at.and_then(|at| clock.time(at))),
        ("QLTS", Kind::Set(args)) => match texts(args).as_slice() {
            ["0"] => clock.network_line(clock.told_at.and_then(|at| clock.time(at))),
            ["1"] => clock.network_line(clock.time(now)),
            ["2"] => clock.network_line(clock.time(now).map(|time| clock.local(time))),
            _ => Reply::error(),
        },
        _ => return None,
    };
    Some(reply)
}

fn set_update(clock: &mut Clock, update: u8) -> Reply {
    clock.update = update;
    Reply::ok()
}

/// `yy/MM/dd,hh:mm:ss±zz`.
fn set_by_hand(text: &str) -> Option<(DateTime, String)> {
    let (time, zone) = text.split_at_checked("yy/MM/dd,hh:mm:ss".len())?;
    let quarters: i8 = zone.parse().ok()?;
    // 3GPP TS 27.007 section 8.15.
    if zone.len() != 3 || !(-96..=96).contains(&quarters) {
        return None;
    }
    let time = DateTime::strptime("%Y/%m/%d,%H:%M:%S", format!("20{time}")).ok()?;
    Some((time, zone.to_owned()))
}
