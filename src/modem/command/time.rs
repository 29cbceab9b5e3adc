//! The network's time.
//!
//! `AT+QLTS=1` gives the current UTC as heard from the network (the `+32` behind it is only the zone, in quarters of an hour), or an
//! empty string if the network never said. `AT+CCLK?` gives the modem's clock, with the zone behind it; `AT+CTZU` decides what the
//! clock holds: UTC (1) or local time (3). Before any network time it says 1980-01-06, the GPS epoch, which is no time at all: [`None`].
//!
//! All arithmetic is checked; a time before 2000 is refused.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::modem::fields::Fields;
use crate::modem::urc::Expect;

use super::{Command, ParseError, plain};

plain!(
    /// `AT+CTZU=1`: set the modem's clock, in UTC, from the network (kept over a restart).
    KeepClock => "AT+CTZU=1"
);

/// 2000-01-01T00:00:00Z; earlier times come from a clock that was never set.
const EARLIEST: Duration = Duration::from_secs(946_684_800);

/// A date and time as the modem wrote it, taken as UTC, and the zone behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Since the Unix epoch, if what was written is UTC.
    pub as_written: Duration,
    /// Quarters of an hour that local time is ahead of UTC.
    pub zone_quarters: i8,
}

impl Reading {
    /// UTC, if what was written is local time.
    #[must_use]
    pub fn as_local(self) -> Option<Duration> {
        let ahead = Duration::from_secs(u64::from(self.zone_quarters.unsigned_abs()) * 15 * 60);
        if self.zone_quarters < 0 {
            self.as_written.checked_add(ahead)
        } else {
            self.as_written.checked_sub(ahead)
        }
    }
}

/// `yyyy/MM/dd,hh:mm:ss±zz` or `yy/…`, a `,dst` behind it ignored. `Ok(None)`: well formed, but not a time anybody set.
fn parse(text: &str) -> Result<Option<Reading>, ParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    let (date, rest) = text.split_once(',').ok_or(ParseError)?;
    let clock = rest.split(',').next().unwrap_or_default();
    let sign = clock.find(['+', '-']).ok_or(ParseError)?;
    let zone_quarters: i8 = clock[sign..].parse().map_err(|_| ParseError)?;
    // UTC-12:00 to UTC+14:00.
    if !(-48..=56).contains(&zone_quarters) {
        return Err(ParseError);
    }
    let mut day = date.split('/');
    let mut hour = clock[..sign].split(':');
    let year = day.next().ok_or(ParseError)?;
    let year_number: i16 = number(year)?;
    let year_number = match year.len() {
        4 => year_number,
        // Two digits: 70 to 99 are the last century's, which only a clock that was never set shows.
        2 if year_number >= 70 => 1900 + year_number,
        2 => 2000 + year_number,
        _ => return Err(ParseError),
    };
    let written = DateTime::new(
        year_number,
        number(day.next().ok_or(ParseError)?)?,
        number(day.next().ok_or(ParseError)?)?,
        number(hour.next().ok_or(ParseError)?)?,
        number(hour.next().ok_or(ParseError)?)?,
        number(hour.next().ok_or(ParseError)?)?,
        0,
    )
    .map_err(|_| ParseError)?;
    if day.next().is_some() || hour.next().is_some() {
        return Err(ParseError);
    }
    let seconds = TimeZone::UTC.to_timestamp(written).map_err(|_| ParseError)?.as_second();
    let as_written = u64::try_from(seconds).map(Duration::from_secs).unwrap_or_default();
    Ok((as_written >= EARLIEST).then_some(Reading {
        as_written,
        zone_quarters,
    }))
}

/// Digits only: `i16::from_str` would take a sign.
fn number<T: std::str::FromStr>(text: &str) -> Result<T, ParseError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseError);
    }
    text.parse().map_err(|_| ParseError)
}

/// `AT+QLTS=1`: UTC now, since the Unix epoch; `None` if the network never said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkTime;

impl Command for NetworkTime {
    type Answer = Option<Duration>;
    fn line(&self) -> String {
        "AT+QLTS=1".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+QLTS:")
    }
    fn parse(&self, lines: &[String]) -> Result<Option<Duration>, ParseError> {
        let f = Fields::behind("+QLTS:", lines).ok_or(ParseError)?;
        Ok(parse(f.raw(0).unwrap_or_default())?.map(|r| r.as_written))
    }
}

/// `AT+CCLK?`: the modem's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadClock;

impl Command for ReadClock {
    type Answer = Option<Reading>;
    fn line(&self) -> String {
        "AT+CCLK?".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+CCLK:")
    }
    fn parse(&self, lines: &[String]) -> Result<Option<Reading>, ParseError> {
        let f = Fields::behind("+CCLK:", lines).ok_or(ParseError)?;
        parse(f.raw(0).unwrap_or_default())
    }
}

/// What `AT+CTZU` makes of the network's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockKeeping {
    /// 0: nothing.
    Off,
    /// 1: the modem's clock holds UTC.
    Utc,
    /// 3: the modem's clock holds local time.
    Local,
}

/// `AT+CTZU?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadClockKeeping;

impl Command for ReadClockKeeping {
    type Answer = ClockKeeping;
    fn line(&self) -> String {
        "AT+CTZU?".to_owned()
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+CTZU:")
    }
    fn parse(&self, lines: &[String]) -> Result<ClockKeeping, ParseError> {
        match Fields::behind("+CTZU:", lines).and_then(|f| f.number::<u8>(0)) {
            Some(0) => Ok(ClockKeeping::Off),
            Some(1) => Ok(ClockKeeping::Utc),
            Some(3) => Ok(ClockKeeping::Local),
            _ => Err(ParseError),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::clock::rfc3339;
    use proptest::prelude::*;

    fn qlts(line: &str) -> Result<Option<String>, ParseError> {
        Ok(NetworkTime.parse(&[line.to_owned()])?.map(rfc3339))
    }

    fn cclk(line: &str) -> Result<Option<Reading>, ParseError> {
        ReadClock.parse(&[line.to_owned()])
    }

    #[test]
    fn network_time() {
        assert_eq!(
            qlts("+QLTS: \"2017/10/13,03:41:22+32,0\""),
            Ok(Some("2017-10-13T03:41:22Z".into()))
        );
        assert_eq!(qlts("+QLTS: \"\""), Ok(None));
        assert_eq!(qlts("+QLTS: \"1980/01/06,00:00:15+00,0\""), Ok(None));
        for bad in [
            "",
            "+QLTS: \"2017/13/13,03:41:22+32,0\"",
            "+QLTS: \"2017/10/13\"",
            "+QLTS: \"2017/10/13,03:41:22\"",
            "+QLTS: \"2017/10/13,03:41:22+99,0\"",
            "+QLTS: \"2017/10/13/1,03:41:22+00\"",
            "+QLTS: \"2017/02/30,03:41:22+00\"",
            "+QLTS: \"-017/02/03,03:41:22+00\"",
        ] {
            assert_eq!(qlts(bad), Err(ParseError), "{bad}");
        }
    }

    #[test]
    fn the_modems_clock() {
        assert_eq!(cclk("+CCLK: \"80/01/06,00:00:15+00\""), Ok(None));
        let r = cclk("+CCLK: \"26/11/21,21:00:00+36\"").unwrap().unwrap();
        assert_eq!(rfc3339(r.as_written), "2026-11-21T21:00:00Z");
        assert_eq!(rfc3339(r.as_local().unwrap()), "2026-11-21T12:00:00Z");
        let r = cclk("+CCLK: \"26/11/21,21:00:00-20\"").unwrap().unwrap();
        assert_eq!(rfc3339(r.as_local().unwrap()), "2026-11-22T02:00:00Z");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,40}") {
            let _ = cclk(&format!("+CCLK: \"{text}\""));
        }
        #[test]
        fn any_numbers_are_survived(y in 0u32..100_000, m in 0u8..20, d in 0u8..40, h in 0u8..30, z in -120i8..120) {
            let _ = cclk(&format!("+CCLK: \"{y}/{m:02}/{d:02},{h:02}:00:60{z:+}\""));
        }
    }
}
