//! The dialogue on the line: bytes become commands, commands get their answers, and the scenario spoils them.

use super::{Busy, Engine, MAX_HELD, MAX_OUTPUT, MAX_RECORDS, POWER_DOWN_DELAY, Power, RESET_DELAY, Record, Timer};
use crate::bench::dongle::line::{CR, LF, LineEvent};
use crate::bench::dongle::reply::{self, After, Final};
use crate::bench::dongle::scenario::{Echo, Reset};
use crate::bench::dongle::{commands, faults, uicc};

impl Engine {
    pub(super) fn emit(&mut self, bytes: &[u8]) {
        if !self.plugged || self.silent || self.power != Power::Running {
            return;
        }
        if self.out.len().saturating_add(bytes.len()) > MAX_OUTPUT {
            self.dropped = self
                .dropped
                .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            return;
        }
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn urc(&mut self, text: &str) {
        if self.modem.urcs_here() && !self.garbage {
            self.emit(&reply::urc(text));
        }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        if !self.plugged || self.silent || self.power != Power::Running {
            return;
        }
        if let Some(busy) = &self.busy {
            if !busy.abortable {
                if self.held.len() < MAX_HELD {
                    self.held.push_back(byte);
                }
            } else if byte != LF {
                self.abort();
            }
            return;
        }
        if self.garbage {
            if byte == CR {
                let rubbish = self.rubbish.next();
                self.emit(&rubbish);
            }
            return;
        }
        let echo = self.modem.settings.echo && self.modem.config.scenario.line.echo == Echo::AsSet;
        if echo && byte != LF {
            self.emit(&[byte]);
        }
        match self.reader.push(byte) {
            None => {}
            // Begins with no `AT`, so it is answered like any other line that is no command.
            Some(LineEvent::TooLong) => self.command("(too long)".to_owned()),
            Some(LineEvent::Repeat) => self.command(self.last_line.clone()),
            Some(LineEvent::Line(line)) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
                if !text.is_empty() {
                    self.last_line = text.to_owned();
                    self.command(text.to_owned());
                }
            }
        }
    }

    fn command(&mut self, line: String) {
        let instead = self.overrides.take(&line);
        let more = match &instead {
            Some(other) => other.after.get(),
            None => commands::takes(&line).unwrap_or_default(),
        };
        let abortable = instead.is_none() && !more.is_zero();
        let busy = Busy {
            line,
            instead,
            abortable,
        };
        let delay = self.latency.saturating_add(more);
        if delay.is_zero() {
            self.answer(&busy);
            self.refresh();
        } else {
            self.busy = Some(busy);
            self.after(delay, Timer::Answer);
        }
    }

    fn abort(&mut self) {
        self.cancel(|timer| *timer == Timer::Answer);
        if let Some(busy) = self.busy.take() {
            self.finish(&busy.line, &[], Final::Error);
        }
    }

    pub(super) fn answer(&mut self, busy: &Busy) {
        if let Some(instead) = &busy.instead {
            let bytes = faults::override_bytes(instead);
            self.record(&busy.line, &bytes);
            self.emit(&bytes);
            return;
        }
        let Some(rest) = busy
            .line
            .get(..2)
            .filter(|at| at.eq_ignore_ascii_case("AT"))
            .and(busy.line.get(2..))
        else {
            self.finish(&busy.line, &[], Final::Error);
            return;
        };
        let replies = commands::answer_line(&mut self.modem, rest);
        let verbose = self.modem.settings.verbose;
        let informations: Vec<Vec<u8>> = replies.iter().map(|reply| reply::info(&reply.lines, verbose)).collect();
        let result = replies.last().map_or(Final::Ok, |reply| reply.result);
        self.finish(&busy.line, &informations.concat(), result);
        for after in replies.into_iter().flat_map(|reply| reply.after) {
            match after {
                After::SimUnlocked => {
                    self.urc("+CPIN: READY");
                    self.load_card();
                }
                After::SimOff => self.sim_off(),
                After::SimRestart => self.sim_restart(),
                After::PowerDown => self.after(POWER_DOWN_DELAY, Timer::PoweredDown),
                After::Reboot => match self.modem.config.scenario.line.reset {
                    Reset::Silent => self.power_on(),
                    Reset::Replug => self.after(RESET_DELAY, Timer::Reset),
                },
            }
        }
    }

    /// Sends information, the scenario's noise and the result.
    fn finish(&mut self, line: &str, information: &[u8], result: Final) {
        let settings = &self.modem.settings;
        let noise = &self.modem.config.scenario.noise;
        let mut bytes = noise.between.0.clone();
        bytes.extend_from_slice(information);
        if let Some(text) = &noise.urc_inside {
            bytes.extend_from_slice(&reply::urc(text));
        }
        bytes.extend_from_slice(&noise.between.0);
        if !settings.quiet {
            let form = self.modem.config.scenario.line.cme;
            bytes.extend_from_slice(&reply::result(result, settings.verbose, settings.cmee, form));
        }
        self.record(line, &bytes);
        self.emit(&bytes);
    }

    fn record(&mut self, line: &str, answer: &[u8]) {
        if self.records.len() >= MAX_RECORDS {
            self.records.pop_front();
        }
        self.records.push_back(Record {
            at: self.modem.now,
            command: line.to_owned(),
            answer: uicc::without_keys(&String::from_utf8_lossy(answer)),
        });
    }
}
