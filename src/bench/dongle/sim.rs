//! The card: whether it is there, whether it is ready, and its PIN.
//!
//! `AT+CPIN?` tells: no card is CME 10, a failing card or one without power (CFUN=0) CME 13, a card still starting CME 14. A wrong PIN is CME
//! 16; the try that uses up the last one is CME 12, and from then on the card wants its PUK. When the PUK is used up as well the card is dead
//! (CME 13). Retries are kept on the card: neither a restart of the modem nor taking the card out gives one back.

use super::command::{Arg, Extended, Kind, texts};
use super::config::Config;
use super::reply::{After, Reply};
use super::scenario::SimState;
use super::state::Modem;
use super::usim::Usim;

const NOT_ALLOWED: u16 = 3;
const NOT_INSERTED: u16 = 10;
const PIN_REQUIRED: u16 = 11;
const PUK_REQUIRED: u16 = 12;
const FAILURE: u16 = 13;
const BUSY: u16 = 14;
const INCORRECT_PASSWORD: u16 = 16;

/// What a fresh card allows (3GPP TS 31.101 leaves it to the issuer; three and ten is what `AT+QPINC?` shows).
const PIN_TRIES: u8 = 3;
const PUK_TRIES: u8 = 10;

/// The card's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Open,
    Pin,
    Puk,
    Dead,
}

/// The card and the slot.
#[derive(Clone, Debug)]
pub(super) struct Sim {
    pub(super) inserted: bool,
    failing: bool,
    /// The card has answered its first questions since it got power.
    pub(super) initialised: bool,
    pin_enabled: bool,
    pin: String,
    pin_retries: u8,
    puk: String,
    puk_retries: u8,
    lock: Lock,
    /// Short messages and the phone book are loaded.
    pub(super) sms_done: bool,
    pub(super) phone_book_done: bool,
    /// `AT+QSIMSTAT=1`: tell when the card comes and goes.
    report: bool,
    /// What is on the card.
    pub(super) usim: Usim,
}

impl Sim {
    pub(super) fn new(config: &Config) -> Self {
        let part = &config.scenario.sim;
        let mut sim = Self {
            inserted: part.state != SimState::Absent,
            failing: part.state == SimState::Failure,
            initialised: false,
            pin_enabled: matches!(part.state, SimState::Pin | SimState::Puk),
            pin: part.pin.clone(),
            pin_retries: if part.state == SimState::Puk {
                0
            } else {
                part.pin_retries
            },
            puk: part.puk.clone(),
            puk_retries: part.puk_retries,
            lock: Lock::Open,
            sms_done: false,
            phone_book_done: false,
            report: false,
            usim: Usim::new(&config.sim, &config.imsi, &config.iccid, &config.scenario.usim),
        };
        sim.power_up();
        sim
    }

    /// The card gets power: it has to start, and wants its PIN again.
    pub(super) fn power_up(&mut self) {
        self.initialised = false;
        self.sms_done = false;
        self.phone_book_done = false;
        self.lock = self.lock_at_start();
        self.usim.reset();
    }

    fn lock_at_start(&self) -> Lock {
        match (self.puk_retries, self.pin_retries, self.pin_enabled) {
            (0, 0, _) => Lock::Dead,
            (_, 0, _) => Lock::Puk,
            (.., true) => Lock::Pin,
            (.., false) => Lock::Open,
        }
    }

    /// The lock, when the card can be spoken to at all.
    fn access(&self, powered: bool) -> Result<Lock, u16> {
        match () {
            () if !powered => Err(FAILURE),
            () if !self.inserted => Err(NOT_INSERTED),
            () if self.failing => Err(FAILURE),
            () if !self.initialised => Err(BUSY),
            () if self.lock == Lock::Dead => Err(FAILURE),
            () => Ok(self.lock),
        }
    }

    /// Whether the card gives its secrets: the condition for reading the IMSI and for registering.
    pub(super) fn ready(&self, powered: bool) -> Result<(), u16> {
        match self.access(powered)? {
            Lock::Open => Ok(()),
            Lock::Pin => Err(PIN_REQUIRED),
            Lock::Puk => Err(PUK_REQUIRED),
            Lock::Dead => Err(FAILURE),
        }
    }

    /// What the boot line `+CPIN: ...` says.
    pub(super) fn announcement(&self, powered: bool) -> &'static str {
        match self.access(powered) {
            Ok(lock) => state_word(lock),
            Err(NOT_INSERTED) => "NOT INSERTED",
            Err(_) => "NOT READY",
        }
    }

    fn enter_pin(&mut self, pin: &str) -> Result<(), u16> {
        if pin == self.pin {
            self.pin_retries = PIN_TRIES;
            self.lock = Lock::Open;
            return Ok(());
        }
        self.pin_retries = self.pin_retries.saturating_sub(1);
        self.lock = self.lock_at_start();
        Err(if self.lock == Lock::Puk {
            PUK_REQUIRED
        } else {
            INCORRECT_PASSWORD
        })
    }

    fn enter_puk(&mut self, puk: &str, pin: &str) -> Result<(), u16> {
        if puk == self.puk {
            self.pin = pin.to_owned();
            self.pin_retries = PIN_TRIES;
            self.puk_retries = PUK_TRIES;
            self.lock = Lock::Open;
            return Ok(());
        }
        self.puk_retries = self.puk_retries.saturating_sub(1);
        self.lock = self.lock_at_start();
        Err(if self.lock == Lock::Dead {
            FAILURE
        } else {
            INCORRECT_PASSWORD
        })
    }

    /// What the slot's switch says, when `AT+QSIMSTAT=1` asked for it.
    pub(super) fn slot_urc(&self) -> Option<String> {
        self.report.then(|| format!("+QSIMSTAT: 1,{}", u8::from(self.inserted)))
    }
}

fn state_word(lock: Lock) -> &'static str {
    match lock {
        Lock::Open => "READY",
        Lock::Pin => "SIM PIN",
        Lock::Puk | Lock::Dead => "SIM PUK",
    }
}

/// A PIN is 4 to 8 digits (3GPP TS 31.101 section 9.5.1).
fn is_pin(text: &str) -> bool {
    (4..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Answers the card's commands; `None` for all others.
pub(super) fn answer(modem: &mut Modem, command: &Extended) -> Option<Reply> {
    let powered = modem.sim_powered();
    let reply = match (command.name.as_str(), &command.kind) {
        ("CPIN", Kind::Read) => modem
            .sim
            .access(powered)
            .map(|lock| Reply::line(format!("+CPIN: {}", state_word(lock))))
            .into(),
        ("CPIN", Kind::Set(args)) => cpin(&mut modem.sim, powered, args),
        ("CIMI", Kind::Run) => modem
            .sim
            .ready(powered)
            .map(|()| Reply::line(modem.config.imsi.as_str()))
            .into(),
        ("QCCID" | "CCID", Kind::Run) | ("CCID", Kind::Read) => modem
            .sim
            .access(powered)
            .map(|_| Reply::line(format!("+{}: {}", command.name, modem.config.iccid)))
            .into(),
        ("QPINC", Kind::Read) => modem.sim.access(powered).map(|_| tries(&modem.sim)).into(),
        ("QINISTAT", Kind::Run) => {
            let sim = &modem.sim;
            // 1: the card is ready, 2: short messages are, 4: the phone book is.
            let sum =
                u8::from(sim.ready(powered).is_ok()) + 2 * u8::from(sim.sms_done) + 4 * u8::from(sim.phone_book_done);
            Reply::line(format!("+QINISTAT: {sum}"))
        }
        ("QSIMSTAT", Kind::Read) => Reply::line(format!(
            "+QSIMSTAT: {},{}",
            u8::from(modem.sim.report),
            u8::from(modem.sim.inserted)
        )),
        ("QSIMSTAT", Kind::Set(args)) => match texts(args).as_slice() {
            [on @ ("0" | "1")] => {
                modem.sim.report = *on == "1";
                Reply::ok()
            }
            _ => Reply::error(),
        },
        ("CPIN" | "CIMI" | "QCCID" | "CCID" | "QPINC" | "QINISTAT" | "QSIMSTAT", Kind::Test) => Reply::ok(),
        _ => return None,
    };
    Some(reply)
}

fn tries(sim: &Sim) -> Reply {
    Reply::lines([
        format!("+QPINC: \"SC\",{},{}", sim.pin_retries, sim.puk_retries),
        // The second PIN guards nothing here and is never asked for.
        format!("+QPINC: \"P2\",{PIN_TRIES},{PUK_TRIES}"),
    ])
}

fn cpin(sim: &mut Sim, powered: bool, args: &[Arg]) -> Reply {
    let lock = match sim.access(powered) {
        Ok(lock) => lock,
        Err(code) => return Reply::cme(code),
    };
    let outcome = match (lock, texts(args).as_slice()) {
        (Lock::Pin, [pin]) if is_pin(pin) => sim.enter_pin(pin),
        (Lock::Puk, [puk, pin]) if is_pin(pin) => sim.enter_puk(puk, pin),
        // One PIN for a card that wants its PUK.
        (Lock::Puk, [_]) => Err(PUK_REQUIRED),
        (Lock::Pin, [_] | [_, _]) => Err(INCORRECT_PASSWORD),
        (Lock::Open, [_] | [_, _]) => Err(NOT_ALLOWED),
        _ => return Reply::error(),
    };
    outcome.map(|()| Reply::ok().then(After::SimUnlocked)).into()
}
