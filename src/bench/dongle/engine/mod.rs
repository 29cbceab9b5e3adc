//! The simulated modem without its port: bytes and time in, bytes out.
//!
//! Time is the time since power-on and comes from outside; [`Engine::next_wakeup`] says when [`Engine::tick`] is needed next. All that happens
//! later is in one list of timers, at most one of each kind beside the scenario's events, so the list is as bounded as the scenario.
//! A command is answered when its CR arrives, or `latency` later; until the answer is out, further bytes wait (at most 4096), as in
//! the modem's input buffer. Output that nobody takes is kept up to [`MAX_OUTPUT`]; what does not fit is dropped, line by line.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::config::Config;
use super::faults;
use super::line::LineReader;
use super::scenario::{Event, Override};
use super::state::Modem;

mod dialogue;
mod fate;

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

    /// How many logical channels to the card are open, besides the basic one.
    pub fn open_channels(&self) -> usize {
        self.modem.sim.usim.open_channels()
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
}
