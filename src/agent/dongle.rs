//! Modem, SIM, network: the lower half of the ladder.
//!
//! One task owns the AT port. It climbs, says who we are, and then listens: every `modem.poll` it reads registration and signal, and
//! offers the network's time to the clock. What fails is reported on its rung and tried again after a pause; the port is opened anew
//! only when the error says so. A registration that is denied is left alone for minutes: asking more often makes no network friendlier.
//!
//! From the moment when the SIM is ready it also serves what others ask the SIM ([`Ask`]): while a network is searched, between two
//! polls, and in the pauses after a failure of the network rung; never in the middle of another question. While modem or SIM are down,
//! asks wait for one more try and are answered with its fault if that fails, too. A modem that fails in the middle of an ask is a
//! failure of the modem rung like any other; the logical channel that may have stayed open is closed as soon as the SIM is ready again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::fault::{Fault, policy};
use super::ladder::{Ladder, Rung, State};
use super::watchdog::Pulse;
use crate::backoff::Backoff;
use crate::clock::{self, Clock};
use crate::config::agent::AgentConfig;
use crate::identity::{Subscriber, redact_digits};
use crate::modem::usim::{AkaError, Answer, Ask, Asked, LeftOpen};
use crate::modem::{CmeError, Modem, ModemError, Pin, Port, Recovery, RegStatus, Registration, Signal, SimState, Urc};
use crate::provision::operator::read_limited;
use crate::telemetry::sample::ModemReading;

/// A SIM may be busy so long after the modem's start; then it is said and tried from the start.
const SIM_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at a busy SIM.
const SIM_EVERY: Duration = Duration::from_secs(1);
/// A network is searched so long before the rung is reported down; the modem goes on searching.
const REGISTER_WITHIN: Duration = Duration::from_secs(180);
/// Pause between two looks at the registration while searching; a change is announced by the modem itself.
const REGISTER_EVERY: Duration = Duration::from_secs(2);
/// How often the network's time is asked for while nobody knows what time it is.
const TIME_EVERY: Duration = Duration::from_secs(5);
/// The longest that one question to the modem can take: AT+COPS? may answer after 180 s (Quectel AT manual V2.0).
const QUESTION_MAX: Duration = Duration::from_secs(240);
/// A network that refuses the SIM is left alone for at least so long; the modem itself announces a change of mind.
const DENIED_PAUSE: Duration = Duration::from_secs(60);
/// A question to the SIM that is on its way when the agent is to stop may take this long to its end: an open channel would outlive us.
const FINISH_WITHIN: Duration = Duration::from_secs(10);
/// The longest that the SIM may take with one question; it takes under a second, but may have to be waited for while it is busy.
const ASK_MAX: Duration = Duration::from_secs(60);
/// First and longest pause after a failure.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(180);

/// What the rest of the agent may know about modem, SIM and network.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Who we are; kept while the modem is silent, replaced when another SIM is read.
    pub(super) subscriber: Option<Subscriber>,
    /// Whether the network has let us in, as last heard.
    pub(super) registered: bool,
    /// The signal; `None` while nothing is heard from the modem.
    pub(super) reading: Option<ModemReading>,
}

pub(super) struct Dongle {
    pub(super) config: Arc<AgentConfig>,
    pub(super) ladder: Ladder,
    pub(super) clock: Clock,
    pub(super) view: watch::Sender<View>,
    pub(super) pulse: Pulse,
    pub(super) stop: CancellationToken,
    /// What others ask the SIM.
    pub(super) asks: mpsc::Receiver<Ask>,
}

impl Dongle {
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        let mut climber = Climber::new(
            self.config,
            self.ladder,
            self.clock,
            self.view,
            self.pulse.clone(),
            self.asks,
        );
        let mut serving = climber.serving.subscribe();
        {
            let mut climb = std::pin::pin!(climber.climb());
            tokio::select! {
                () = stop.cancelled() => {}
                () = &mut climb => {}
            }
            if *serving.borrow() {
                tokio::select! {
                    () = &mut climb => {}
                    _ = tokio::time::timeout(FINISH_WITHIN, serving.wait_for(|serving| !serving)) => {}
                }
            }
        }
        self.pulse.rest();
    }
}

/// Climbs the three rungs, and stays up.
struct Climber {
    config: Arc<AgentConfig>,
    ladder: Ladder,
    clock: Clock,
    view: watch::Sender<View>,
    pulse: Pulse,
    backoffs: HashMap<Rung, Backoff>,
    pin_refused: bool,
    /// Attempts that were left before the PIN was entered last.
    pin_left: Option<u8>,
    asks: mpsc::Receiver<Ask>,
    /// Whether the SIM is being asked.
    serving: watch::Sender<bool>,
    /// A logical channel of ours that may still be open.
    left_open: LeftOpen,
}

impl Climber {
    fn new(
        config: Arc<AgentConfig>,
        ladder: Ladder,
        clock: Clock,
        view: watch::Sender<View>,
        pulse: Pulse,
        asks: mpsc::Receiver<Ask>,
    ) -> Self {
        Self {
            config,
            ladder,
            clock,
            view,
            pulse,
            backoffs: HashMap::new(),
            pin_refused: false,
            pin_left: None,
            asks,
            serving: watch::Sender::new(false),
            left_open: LeftOpen::Nothing,
        }
    }

    /// Climbs, and climbs again after every failure.
    async fn climb(&mut self) {
        loop {
            let path = self.config.modem.port.clone();
            if self.ladder.state(Rung::Modem) != State::Down {
                self.ladder
                    .climbing(Rung::Modem, &format!("opening {}", path.display()));
            }
            self.pulse.promise(QUESTION_MAX);
            match Modem::open(&path).await {
                Err(e) => self.failed(fault(Rung::Modem, &e)).await,
                Ok(mut modem) => {
                    // Until the port must be opened again.
                    loop {
                        let (rung, trouble) = self.climb_with(&mut modem).await;
                        if self.recover(&mut modem, rung, trouble).await == Some(Recovery::Reopen) {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Reports what ended a climb, and waits; the answer is what to do with the port.
    async fn recover(&mut self, modem: &mut Modem<Port>, rung: Rung, trouble: Trouble) -> Option<Recovery> {
        let recovery = trouble.recovery();
        let fault = trouble.into_fault(rung);
        if fault.rung != Rung::Network {
            self.failed(fault).await;
            return recovery;
        }
        // The SIM is ready, and whoever asks it need not wait for the network.
        let wait = self.report(&fault, Duration::ZERO);
        let until = self.clock.monotonic().saturating_add(wait);
        loop {
            let left = until.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return recovery;
            }
            if let Err(e) = self.listen(modem, left).await {
                self.failed(self::fault(Rung::Modem, &e)).await;
                return Some(e.recovery());
            }
        }
    }

    /// Reports a fault of the modem or the SIM, answers those who have asked meanwhile, and waits.
    async fn failed(&mut self, fault: Fault) {
        let wait = self.report(&fault, Duration::ZERO);
        while let Ok(ask) = self.asks.try_recv() {
            let _ = ask.answer.send(Err(AkaError::Modem(fault.cause.clone())));
        }
        tokio::time::sleep(wait).await;
    }

    /// Waits for the modem to say something by itself, for at most `max`, and serves those who ask the SIM.
    async fn listen(&mut self, modem: &mut Modem<Port>, max: Duration) -> Result<Vec<Urc>, ModemError> {
        let until = self.clock.monotonic().saturating_add(max);
        loop {
            let left = until.saturating_sub(self.clock.monotonic());
            let ask = tokio::select! {
                biased; // a modem that chatters must not keep askers waiting
                Some(ask) = self.asks.recv(), if !left.is_zero() => ask,
                heard = modem.listen(left) => return heard,
            };
            self.serve(modem, ask).await?;
            self.pulse.promise(left + QUESTION_MAX);
        }
    }

    /// Has the SIM answer a challenge. An error of the SIM is the asker's affair, one of the modem also ours.
    async fn serve(&mut self, modem: &mut Modem<Port>, ask: Ask) -> Result<(), ModemError> {
        if ask.answer.is_closed() {
            return Ok(()); // nobody waits for it any more
        }
        self.pulse.promise(QUESTION_MAX);
        self.serving.send_replace(true);
        let asking = modem.authenticate(&ask.challenge, &mut self.left_open);
        let asked = match tokio::time::timeout(ASK_MAX, asking).await {
            Ok(asked) => asked,
            Err(_) => Asked {
                answer: Err(AkaError::Late(ASK_MAX)),
                trouble: modem.close_left_open(&mut self.left_open).await.err(),
            },
        };
        self.serving.send_replace(false);
        match &asked.answer {
            Ok(Answer::Keys(_)) => tracing::info!("the SIM has answered a challenge"),
            Ok(Answer::Resync { .. }) => {
                tracing::info!("the SIM wants its sequence number taken up by the home network")
            }
            Err(e) => tracing::warn!(
                "the SIM has not answered a challenge: {}",
                redact_digits(&e.to_string())
            ),
        }
        let _ = ask.answer.send(asked.answer);
        asked.trouble.map_or(Ok(()), Err)
    }

    /// Reports a fault; the answer is how long to wait, not less than `at_least`.
    fn report(&mut self, fault: &Fault, at_least: Duration) -> Duration {
        let now = self.clock.monotonic();
        let backoff = self.backoffs.entry(fault.rung);
        let wait = backoff
            .or_insert_with(|| Backoff::new(policy(fault.rung, RETRY_MIN, RETRY_MAX)))
            .failed(now, fastrand::f64())
            .max(at_least);
        self.ladder.down(fault.rung, &fault.cause, &fault.cure, wait);
        // Link and above may live on without the modem; SIM and network cannot be known without it.
        for above in [Rung::Sim, Rung::Network].into_iter().filter(|r| *r > fault.rung) {
            if self.ladder.state(above) != State::Below {
                self.ladder.below(above, fault.rung);
            }
        }
        // An old signal is no measurement: samples of a silent modem carry none. But a silent AT port says nothing of the line: while
        // only the modem rung is down, a session lives on and may be renewed.
        let line_is_lost = fault.rung != Rung::Modem;
        self.view.send_if_modified(|view| {
            let had_reading = view.reading.take().is_some();
            let was_registered = line_is_lost && std::mem::replace(&mut view.registered, false);
            had_reading || was_registered
        });
        self.pulse.promise(wait);
        wait
    }

    /// Climbs the three rungs and stays up; ends with the first failure.
    async fn climb_with(&mut self, modem: &mut Modem<Port>) -> (Rung, Trouble) {
        match self.stay_up(modem).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn stay_up(&mut self, modem: &mut Modem<Port>) -> Result<Infallible, (Rung, Trouble)> {
        self.pulse.promise(QUESTION_MAX);
        let equipment = modem.identify().await.map_err(on(Rung::Modem))?;
        self.ladder.up(
            Rung::Modem,
            &format!(
                "{} {}, firmware {}",
                equipment.manufacturer, equipment.model, equipment.firmware
            ),
        );

        self.sim(modem).await.map_err(|t| (Rung::Sim, t))?;
        let who = modem.subscriber().await.map_err(on(Rung::Sim))?;
        modem
            .close_left_open(&mut self.left_open)
            .await
            .map_err(on(Rung::Modem))?;
        self.ladder.up(
            Rung::Sim,
            &format!("IMSI {}, IMEI {}", who.imsi.redacted(), equipment.imei.redacted()),
        );
        self.view.send_if_modified(|view| {
            let other = view.subscriber.as_ref() != Some(&who);
            if other {
                view.subscriber = Some(who.clone());
            }
            other
        });

        let network = on(Rung::Network);
        if let Some(apn) = &self.config.network.apn {
            modem.set_apn(apn).await.map_err(network)?;
        }
        modem.radio(true).await.map_err(network)?;
        let registration = self.register(modem).await?;
        let now = self.clock.monotonic();
        self.backoffs.values_mut().for_each(|b| b.is_up(now));
        self.registered(modem, &registration).await.map_err(network)?;
        loop {
            let poll = self.config.modem.poll;
            // The network says the time moments after it let us in; nothing above goes on without one.
            let pause = self.clock.now().map_or(poll.min(TIME_EVERY), |_| poll);
            self.pulse.promise(pause + QUESTION_MAX);
            self.listen(modem, pause).await.map_err(on(Rung::Modem))?;
            let now = modem.registration().await.map_err(network)?;
            if !now.status.is_registered() {
                return Err((Rung::Network, self.refused(modem, now.status).await));
            }
            self.registered(modem, &now).await.map_err(network)?;
        }
    }

    /// Waits until the SIM is ready, entering the PIN once if it wants one.
    async fn sim(&mut self, modem: &mut Modem<Port>) -> Result<(), Trouble> {
        let since = self.clock.monotonic();
        let say = |cause: String, cure: &str| Trouble::Said(cause, cure.to_owned());
        let (mut entered, mut looked, mut switched_on) = (false, false, false);
        loop {
            self.pulse.promise(QUESTION_MAX);
            let patient = self.clock.monotonic().saturating_sub(since) < SIM_WITHIN;
            match modem.sim().await.map_err(Trouble::Modem)? {
                SimState::Ready => return Ok(()),
                // The PIN was taken, but the SIM has not come round to saying so.
                SimState::PinRequired { .. } if entered && patient => tokio::time::sleep(SIM_EVERY).await,
                SimState::Busy if patient => {
                    self.ladder.climbing(Rung::Sim, "the SIM is still starting");
                    tokio::time::sleep(SIM_EVERY).await;
                }
                SimState::Busy => {
                    return Err(say(
                        format!("the SIM is still busy after {} s", SIM_WITHIN.as_secs()),
                        "take it out and in again; if it stays so, try another SIM",
                    ));
                }
                SimState::Absent => {
                    return Err(say(
                        "there is no SIM in the dongle".into(),
                        "put a SIM in, contacts first, until it clicks",
                    ));
                }
                SimState::PinRequired { .. } if entered => {
                    self.pin_refused = true;
                    return Err(say(
                        "the SIM took the PIN and wants it all the same".into(),
                        "try the SIM in a phone, and restart onyx-agent",
                    ));
                }
                SimState::PinRequired { retries_left } => {
                    self.pin(modem, retries_left).await?;
                    entered = true;
                }
                SimState::PukRequired => {
                    return Err(say(
                        "the SIM is locked and wants its PUK".into(),
                        "unlock it in a phone with the PUK from its owner's papers or the SORACOM console",
                    ));
                }
                // A modem that is off (CFUN=0) answers as if the card were broken (CME 13).
                SimState::Failure if !looked => {
                    looked = true;
                    switched_on = modem.radio(true).await.map_err(Trouble::Modem)?;
                }
                SimState::Failure if switched_on && patient => tokio::time::sleep(SIM_EVERY).await,
                SimState::Failure => {
                    return Err(say(
                        "the modem cannot read the SIM".into(),
                        "take it out, clean its contacts, put it back; try another one",
                    ));
                }
                SimState::Other(text) => {
                    return Err(say(
                        format!("the SIM says {text:?}"),
                        "it may be locked to another network or device: try it in a phone",
                    ));
                }
            }
        }
    }

    async fn pin(&mut self, modem: &mut Modem<Port>, left: Option<u8>) -> Result<(), Trouble> {
        // The answer to a try may have been lost; a wrong PIN shows in the attempts that are left.
        let before = std::mem::replace(&mut self.pin_left, left);
        self.pin_refused |= before.zip(left).is_some_and(|(before, now)| now < before);
        let left = left.map_or(String::new(), |n| format!(", {n} attempts left"));
        let Some(path) = &self.config.sim.pin_file else {
            return Err(Trouble::Said(
                format!("the SIM wants its PIN{left}"),
                "write it into a file of mode 0600 and name it under sim.pin_file, or switch the PIN off in a phone"
                    .into(),
            ));
        };
        if self.pin_refused {
            return Err(Trouble::Said(
                format!("the SIM did not take the PIN{left}; it is not tried again"),
                format!(
                    "correct the PIN in {} (sim.pin_file) and restart onyx-agent",
                    path.display()
                ),
            ));
        }
        let text = read_limited(path).map_err(|e| Trouble::Said(e.to_string(), "check sim.pin_file".into()))?;
        let pin: Pin = String::from_utf8_lossy(text.trim_ascii()).parse().map_err(|_| {
            Trouble::Said(
                format!("{} holds no PIN", path.display()),
                "write 4 to 8 digits into it".into(),
            )
        })?;
        self.ladder.climbing(Rung::Sim, "entering the PIN");
        let entered = modem.enter_pin(&pin).await;
        if let Err(ModemError::Refused {
            error: CmeError::IncorrectPassword | CmeError::PukRequired,
            ..
        }) = entered
        {
            self.pin_refused = true;
        }
        entered.map_err(Trouble::Modem)
    }

    /// Waits until a network lets us in.
    async fn register(&mut self, modem: &mut Modem<Port>) -> Result<Registration, (Rung, Trouble)> {
        let mut since = self.clock.monotonic();
        loop {
            self.pulse.promise(QUESTION_MAX);
            let r = modem.registration().await.map_err(on(Rung::Network))?;
            let waited = self.clock.monotonic().saturating_sub(since);
            match r.status {
                status if status.is_registered() => return Ok(r),
                status if status == RegStatus::Denied || waited >= REGISTER_WITHIN => {
                    let fault = self.refused(modem, status).await.into_fault(Rung::Network);
                    let at_least = if status == RegStatus::Denied {
                        DENIED_PAUSE
                    } else {
                        Duration::ZERO
                    };
                    let wait = self.report(&fault, at_least);
                    self.wait_for_change(modem, wait).await?;
                    since = self.clock.monotonic();
                }
                _ => {
                    let reading = modem.signal().await.map_err(on(Rung::Network))?;
                    let heard = reading.rsrp_dbm.or(reading.rssi_dbm);
                    self.ladder.climbing(
                        Rung::Network,
                        match heard {
                            Some(_) => "searching: the radio hears something",
                            None => "searching: the radio hears nothing yet",
                        },
                    );
                    self.listen(modem, REGISTER_EVERY).await.map_err(on(Rung::Modem))?;
                }
            }
        }
    }

    /// Waits, but not longer than until the modem announces a change of its registration.
    async fn wait_for_change(&mut self, modem: &mut Modem<Port>, wait: Duration) -> Result<(), (Rung, Trouble)> {
        let until = self.clock.monotonic().saturating_add(wait);
        loop {
            let left = until.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return Ok(());
            }
            let heard = self.listen(modem, left).await.map_err(on(Rung::Modem))?;
            if heard.iter().any(|urc| matches!(urc, Urc::Registration(..))) {
                return Ok(());
            }
        }
    }

    /// What to say when the network does not have us.
    async fn refused(&mut self, modem: &mut Modem<Port>, status: RegStatus) -> Trouble {
        let reason = match modem.last_failure().await {
            Ok(text) => format!("; the modem's reason: {text}"),
            Err(_) => String::new(),
        };
        match status {
            RegStatus::Denied => Trouble::Said(
                format!("the network refuses this SIM{reason}"),
                "is the SIM active in the SORACOM console, and the APN right (soracom.io, or du.soracom.io for plan-DU)? The modem goes on trying by itself".into(),
            ),
            other => Trouble::Said(
                format!("not registered ({other}){reason}"),
                "check the antenna and the place; the log says whether the radio hears something. The modem goes on searching".into(),
            ),
        }
    }

    /// Registered: says so, with signal, and asks the network for the time.
    async fn registered(&mut self, modem: &mut Modem<Port>, registration: &Registration) -> Result<(), ModemError> {
        let operator = modem.operator().await?;
        let signal = modem.signal().await?;
        if let Some(time) = modem.network_time().await? {
            if !self.clock.heard_network(time) {
                tracing::debug!(
                    "the modem says {}, which cannot be: no network time yet",
                    clock::rfc3339(time)
                );
            }
        }
        let reading = reading(&signal, operator.as_ref().map(|o| o.name.as_str()), registration);
        let why = format!(
            "{}{}{}",
            registration.status,
            reading.operator.as_ref().map_or(String::new(), |o| format!(", {o}")),
            reading.technology.as_ref().map_or(String::new(), |t| format!(", {t}")),
        );
        self.ladder.up(Rung::Network, &why);
        self.view.send_modify(|view| {
            view.registered = true;
            view.reading = Some(reading);
        });
        Ok(())
    }
}

/// The modem's signal as a sample carries it.
pub(super) fn reading(signal: &Signal, operator: Option<&str>, registration: &Registration) -> ModemReading {
    ModemReading {
        rsrp_dbm: signal.rsrp_dbm,
        rsrq_db: signal.rsrq_db,
        rssi_dbm: signal.rssi_dbm,
        sinr_db: signal.sinr_db.map(f32::from),
        band: signal.band,
        operator: operator.map(str::to_owned),
        technology: signal.technology.or(registration.technology).map(|t| t.to_string()),
    }
}

/// The modem's error, with the rung that it is told on.
fn on(rung: Rung) -> impl Fn(ModemError) -> (Rung, Trouble) + Copy {
    move |e| (rung, Trouble::Modem(e))
}

/// What ends a climb.
enum Trouble {
    /// The modem's own error.
    Modem(ModemError),
    /// A cause and a cure.
    Said(String, String),
}

impl Trouble {
    fn recovery(&self) -> Option<Recovery> {
        match self {
            Self::Modem(e) => Some(e.recovery()),
            Self::Said(..) => None,
        }
    }

    fn into_fault(self, rung: Rung) -> Fault {
        match self {
            Self::Modem(e) => fault(rung, &e),
            Self::Said(cause, cure) => Fault::new(rung, cause, cure),
        }
    }
}

/// A modem's error says cause and cure in one sentence, `;` between them. An error of the port is the modem rung's, whatever was being
/// done.
fn fault(rung: Rung, e: &ModemError) -> Fault {
    let text = e.to_string();
    let (cause, cure) = text.split_once("; ").unwrap_or((
        &text,
        "if it stays, set log.filter = \"info,onyx::modem=debug\" and look at the dialogue",
    ));
    let rung = if e.recovery() == Recovery::Reopen {
        Rung::Modem
    } else {
        rung
    };
    Fault::new(rung, cause, cure)
}
