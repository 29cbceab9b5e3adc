//! The simulated modem without its port: bytes and time in, bytes out.
//!
//! Time is the time since power-on and comes from outside; [`Engine::next_wakeup`] says when [`Engine::tick`] is needed next. All that happens
//! later is in one list of timers, at most one of each kind beside the scenario's events, so the list is as bounded as the scenario.
//! A command is answered when its CR arrives, or `latency` later; until the answer is out, further bytes wait (at most [`MAX_HELD`]), as in
//! the modem's input buffer. Output that nobody takes is kept up to [`MAX_OUTPUT`]; what does not fit is dropped, line by line.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::commands;
use super::config::Config;
use super::line::{CR, LF, LineEvent, LineReader};
use super::reply::{self, After, Final};
use super::scenario::{Echo, Event, Override, Registration, Reset};
use super::state::Modem;
use super::{faults, radio};

/// The most output kept for a reader who does not read, in bytes.
pub const MAX_OUTPUT: usize = 16 * 1024;
/// The most input kept while a command is being answered, in bytes.
const MAX_HELD: usize = 4096;
/// The most records of commands kept for somebody to take.
const MAX_RECORDS: usize = 1024;
/// Short messages are loaded this long after the card is ready, the phone book twice that.
const LOADING: Duration = Duration::from_millis(200);
/// From the answer to `AT+CFUN=1,1` to the port's vanishing (measured on a USB model of the dongle), when resets replug.
const RESET_DELAY: Duration = Duration::from_millis(500);
/// How long the port is away then.
const RESET_ABSENCE: Duration = Duration::from_millis(1500);
/// From the answer to `AT+QPOWD` to `POWERED DOWN`; a real network can take up to 60 s.
const POWER_DOWN_DELAY: Duration = Duration::from_secs(1);

/// One command and what came back, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the answer went out, since power-on.
    pub at: Duration,
    /// The command line as received (bytes that are no text are replaced).
    pub command: String,
    /// The answer with its CR and LF; empty when there was none.
    pub answer: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    Off,
    Booting,
    Running,
}

#[derive(Clone, Debug, PartialEq)]
enum Timer {
    Scenario(Event),
    Rdy,
    SimReady,
    SmsDone,
    PhoneBookDone,
    Found,
    Answer,
    EndSilence,
    EndGarbage,
    EndLoss,
    Plug,
    Reset,
    PoweredDown,
}

#[derive(Clone, Debug)]
struct Busy {
    line: String,
    instead: Option<Override>,
    /// Any byte ends it.
    abortable: bool,
}

/// The simulated modem.
#[derive(Debug)]
pub struct Engine {
    modem: Modem,
    timers: BTreeMap<(Duration, u64), Timer>,
    serial: u64,
    power: Power,
    plugged: bool,
    silent: bool,
    garbage: bool,
    latency: Duration,
    reader: LineReader,
    last_line: String,
    busy: Option<Busy>,
    held: VecDeque<u8>,
    out: Vec<u8>,
    dropped: u64,
    overrides: faults::Overrides,
    rubbish: faults::Rubbish,
    records: VecDeque<Record>,
}

impl Engine {
    /// Switches a modem on. `host_time` is the host's time now, for scenarios whose network has it; `None` if there is none to have.
    pub fn new(config: Config, host_time: Option<jiff::Timestamp>) -> Self {
        let scenario = &config.scenario;
        let mut engine = Self {
            timers: BTreeMap::new(),
            serial: 0,
            power: Power::Off,
            plugged: true,
            silent: false,
            garbage: scenario.noise.garbage_only,
            latency: scenario.latency.get(),
            reader: LineReader::default(),
            last_line: String::new(),
            busy: None,
            held: VecDeque::new(),
            out: Vec::new(),
            dropped: 0,
            overrides: faults::Overrides::new(&scenario.overrides),
            rubbish: faults::Rubbish::new(scenario.noise.seed),
            records: VecDeque::new(),
            modem: Modem::new(config, host_time),
        };
        for event in engine.modem.config.scenario.events.clone() {
            engine.schedule(event.at, Timer::Scenario(event.event));
        }
        engine.power_on();
        engine
    }

    /// When [`Engine::tick`] should be called next; `None`: only input can change anything.
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.timers.keys().next().map(|(due, _)| *due)
    }

    /// Lets everything happen that is due.
    pub fn tick(&mut self, now: Duration) {
        while let Some(entry) = self.timers.first_entry() {
            let (due, _) = *entry.key();
            if due > now {
                break;
            }
            let timer = entry.remove();
            self.modem.now = self.modem.now.max(due);
            self.fire(timer);
            self.refresh();
        }
        self.modem.now = self.modem.now.max(now);
    }

    /// Takes bytes from the host.
    pub fn input(&mut self, now: Duration, bytes: &[u8]) {
        self.tick(now);
        for byte in bytes {
            self.byte(*byte);
        }
    }

    /// Lets something happen now.
    pub fn inject(&mut self, now: Duration, event: Event) {
        self.tick(now);
        self.happen(event);
        self.refresh();
    }

    /// The bytes that wait to be sent.
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// The first `count` bytes of the output are sent.
    pub fn sent(&mut self, count: usize) {
        self.out.drain(..count.min(self.out.len()));
    }

    /// Output lost because nobody read, in bytes.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether the port is there.
    pub fn is_plugged(&self) -> bool {
        self.plugged
    }

    /// The records since the last call, oldest first.
    pub fn take_records(&mut self) -> impl Iterator<Item = Record> + '_ {
        self.records.drain(..)
    }

    // --- timers

    fn schedule(&mut self, at: Duration, timer: Timer) {
        if !matches!(timer, Timer::Scenario(_)) {
            self.cancel(|other| *other == timer);
        }
        self.serial = self.serial.wrapping_add(1);
        self.timers.insert((at, self.serial), timer);
    }

    fn after(&mut self, delay: Duration, timer: Timer) {
        self.schedule(self.modem.now.saturating_add(delay), timer);
    }

    fn cancel(&mut self, which: impl Fn(&Timer) -> bool) {
        self.timers.retain(|_, timer| !which(timer));
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Scenario(event) => self.happen(event),
            Timer::Rdy => self.rdy(),
            Timer::SimReady => self.sim_ready(),
            Timer::SmsDone => {
                self.modem.sim.sms_done = true;
                self.urc("+QIND: SMS DONE");
            }
            Timer::PhoneBookDone => {
                self.modem.sim.phone_book_done = true;
                self.urc("+QIND: PB DONE");
            }
            Timer::Found => self.modem.radio.found = true,
            Timer::Answer => {
                if let Some(busy) = self.busy.take() {
                    self.answer(&busy);
                    for byte in std::mem::take(&mut self.held) {
                        self.byte(byte);
                    }
                }
            }
            Timer::EndSilence => self.silent = false,
            Timer::EndGarbage => self.garbage = false,
            Timer::EndLoss => self.modem.radio.lost = false,
            Timer::Plug => self.plug(),
            Timer::Reset => self.unplug(Some(RESET_ABSENCE)),
            Timer::PoweredDown => {
                self.urc("POWERED DOWN");
                self.power_off();
            }
        }
    }

    // --- power

    fn power_off(&mut self) {
        self.power = Power::Off;
        self.busy = None;
        self.held.clear();
        self.reader.clear();
        self.cancel(|timer| {
            !matches!(
                timer,
                Timer::Scenario(_)
                    | Timer::EndSilence
                    | Timer::EndGarbage
                    | Timer::EndLoss
                    | Timer::Plug
            )
        });
    }

    fn power_on(&mut self) {
        self.power_off();
        self.power = Power::Booting;
        self.modem.boot();
        let boot = self.modem.config.scenario.boot_time.get();
        let sim = self.modem.config.scenario.sim.ready_after.get();
        self.after(boot, Timer::Rdy);
        self.after(boot.max(sim), Timer::SimReady);
    }

    fn rdy(&mut self) {
        self.power = Power::Running;
        let nuls = vec![0; self.modem.config.scenario.noise.nul_at_start.into()];
        self.emit(&nuls);
        self.urc("RDY");
        self.urc("+CFUN: 1");
    }

    fn unplug(&mut self, lasting: Option<Duration>) {
        self.power_off();
        self.plugged = false;
        self.out.clear();
        self.cancel(|timer| *timer == Timer::Plug);
        if let Some(lasting) = lasting {
            self.after(lasting, Timer::Plug);
        }
    }

    fn plug(&mut self) {
        if !self.plugged || self.power == Power::Off {
            self.plugged = true;
            self.cancel(|timer| *timer == Timer::Plug);
            self.power_on();
        }
    }

    // --- what happens

    fn happen(&mut self, event: Event) {
        match event {
            Event::Silent(lasting) => {
                self.silent = true;
                self.reader.clear();
                self.cancel(|timer| *timer == Timer::EndSilence);
                if let Some(lasting) = lasting {
                    self.after(lasting, Timer::EndSilence);
                }
            }
            Event::Talk => {
                self.silent = false;
                self.garbage = false;
                self.latency = Duration::ZERO;
                self.cancel(|timer| matches!(timer, Timer::EndSilence | Timer::EndGarbage));
            }
            Event::Late(by) => self.latency = by,
            Event::Garbage(lasting) => {
                self.garbage = true;
                self.cancel(|timer| *timer == Timer::EndGarbage);
                if let Some(lasting) = lasting {
                    self.after(lasting, Timer::EndGarbage);
                }
            }
            Event::LoseNetwork(lasting) => {
                self.modem.radio.lost = true;
                self.cancel(|timer| *timer == Timer::EndLoss);
                if let Some(lasting) = lasting {
                    self.after(lasting, Timer::EndLoss);
                }
            }
            Event::FindNetwork => {
                self.cancel(|timer| *timer == Timer::EndLoss);
                let usual = self.modem.config.scenario.network.registration;
                let radio = &mut self.modem.radio;
                if matches!(
                    radio.registration,
                    Registration::Denied | Registration::None
                ) {
                    radio.found = false;
                    radio.registration = if usual == Registration::Home {
                        usual
                    } else {
                        Registration::Roaming
                    };
                }
                radio.lost = false;
            }
            Event::Deny(cause) => {
                self.modem.radio.registration = Registration::Denied;
                self.modem.radio.denied_cause = cause;
            }
            Event::Signal(rsrp) => self.modem.radio.rsrp = rsrp,
            Event::RemoveSim => self.card(false),
            Event::InsertSim => self.card(true),
            Event::Crash => self.power_on(),
            Event::Unplug(lasting) => self.unplug(lasting),
            Event::Plug => self.plug(),
            Event::Urc(text) => self.urc(&text),
            Event::Bytes(bytes) => self.emit(&bytes),
        }
    }

    fn card(&mut self, inserted: bool) {
        if self.modem.sim.inserted == inserted {
            return;
        }
        self.modem.sim.inserted = inserted;
        if let Some(text) = self.modem.sim.slot_urc() {
            self.urc(&text);
        }
        if inserted {
            self.sim_restart();
        } else {
            self.sim_off();
        }
    }

    fn sim_off(&mut self) {
        self.modem.sim.power_up();
        self.cancel(|timer| {
            matches!(
                timer,
                Timer::SimReady | Timer::SmsDone | Timer::PhoneBookDone
            )
        });
        self.urc("+CPIN: NOT READY");
    }

    fn sim_restart(&mut self) {
        self.modem.sim.power_up();
        if self.power == Power::Running && self.modem.sim_powered() {
            self.after(
                self.modem.config.scenario.sim.ready_after.get(),
                Timer::SimReady,
            );
        }
    }

    fn sim_ready(&mut self) {
        self.modem.sim.initialised = true;
        let powered = self.modem.sim_powered();
        let word = self.modem.sim.announcement(powered);
        self.urc(&format!("+CPIN: {word}"));
        self.load_card();
    }

    fn load_card(&mut self) {
        if self.modem.sim.ready(self.modem.sim_powered()).is_ok() {
            self.urc("+QUSIM: 1");
            self.after(LOADING, Timer::SmsDone);
            self.after(LOADING * 2, Timer::PhoneBookDone);
        }
    }

    /// Brings the registration in line with everything else.
    fn refresh(&mut self) {
        if self.power != Power::Running {
            return;
        }
        let modem = &mut self.modem;
        let there = !modem.radio.lost && modem.radio.registration != Registration::None;
        if modem.wants_network() && there {
            if !modem.radio.found && !self.timers.values().any(|timer| *timer == Timer::Found) {
                self.after(
                    self.modem.config.scenario.network.register_after.get(),
                    Timer::Found,
                );
            }
        } else {
            modem.radio.found = false;
            self.cancel(|timer| *timer == Timer::Found);
        }
        let modem = &mut self.modem;
        let (stat, cause) = radio::state(modem);
        if stat == modem.radio.stat {
            return;
        }
        modem.radio.stat = stat;
        if cause.is_some() {
            modem.radio.last_failure = cause;
        }
        modem.pdp.registration_changed();
        if modem.radio.is_registered() {
            modem.clock.told(modem.now);
        }
        for text in modem.radio.urcs() {
            self.urc(&text);
        }
    }

    // --- the line

    fn emit(&mut self, bytes: &[u8]) {
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

    fn urc(&mut self, text: &str) {
        if self.modem.urcs_here() && !self.garbage {
            self.emit(&reply::urc(text));
        }
    }

    fn byte(&mut self, byte: u8) {
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
            Some(LineEvent::TooLong) => self.finish("(too long)", &[], Final::Error),
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

    fn answer(&mut self, busy: &Busy) {
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
        let informations: Vec<Vec<u8>> = replies
            .iter()
            .map(|reply| reply::info(&reply.lines, verbose))
            .collect();
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
            bytes.extend_from_slice(&reply::result(
                result,
                settings.verbose,
                settings.cmee,
                form,
            ));
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
            answer: String::from_utf8_lossy(answer).into_owned(),
        });
    }
}
