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

mod asks;
mod network;
mod sim;

pub(super) use network::reading;

use super::fault::{Fault, policy};
use super::ladder::{Ladder, Rung, State};
use super::watchdog::Pulse;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::agent::AgentConfig;
use crate::identity::Subscriber;
use crate::modem::usim::{Ask, LeftOpen};
use crate::modem::{Modem, ModemError, Port, Recovery};
use crate::telemetry::sample::ModemReading;

/// How often the network's time is asked for while nobody knows what time it is.
const TIME_EVERY: Duration = Duration::from_secs(5);
/// The longest that one question to the modem can take: AT+COPS? may answer after 180 s (Quectel AT manual V2.0).
const QUESTION_MAX: Duration = Duration::from_secs(240);
/// A question to the SIM that is on its way when the agent is to stop may take this long to its end: an open channel would outlive us.
const FINISH_WITHIN: Duration = Duration::from_secs(10);
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
