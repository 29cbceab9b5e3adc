//! The lower rungs for one command: the modem and its SIM, held open in the background while the command works with them.
//!
//! `run` has a task that owns the AT port for as long as the agent lives. A command such as `provision` wants the same for a minute:
//! [`open`] climbs as far as it [`Need`]s, and from then on the same task, [`super::dongle`], serves what is asked through
//! [`Card::sim`] and listens to the modem, until the [`Card`] is dropped. A question to the SIM that is on its way then is finished
//! first ([`Card::close`] waits for that), because a logical channel that stays open is gone until the SIM restarts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dongle::{Dongle, View};
use super::ladder::{Ladder, Rung};
use super::watchdog::Pulses;
use crate::clock::Clock;
use crate::config::agent::AgentConfig;
use crate::identity::Subscriber;
use crate::modem::usim::SimDoor;

/// How far to climb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// The SIM can be asked.
    Card,
    /// And the network has let us in.
    Registered,
}

impl Need {
    /// What the way out of this machine needs: the network, unless another line carries IP (`network.required`).
    pub(super) fn of(config: &AgentConfig) -> Self {
        if config.network.required {
            Self::Registered
        } else {
            Self::Card
        }
    }

    fn is_met(self, view: &View) -> bool {
        view.subscriber.is_some() && (self == Self::Card || view.registered)
    }
}

/// The SIM, within reach.
#[derive(Debug)]
pub(super) struct Card {
    /// Whose it is.
    pub(super) who: Subscriber,
    /// The way to it.
    pub(super) sim: SimDoor,
    /// How the rungs stand; those above the network are the caller's to climb.
    pub(super) ladder: Ladder,
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// Climbs modem and SIM, and registration if that is needed.
///
/// # Errors
/// When it is not reached `within`; the message names the rung, the cause and the cure.
pub(super) async fn open(
    config: Arc<AgentConfig>,
    clock: &Clock,
    need: Need,
    within: Duration,
) -> anyhow::Result<Card> {
    let ladder = Ladder::new(clock.clone());
    let (view_out, mut view) = watch::channel(View::default());
    let (sim, asks) = SimDoor::new();
    let stop = CancellationToken::new();
    let dongle = Dongle {
        config,
        ladder: ladder.clone(),
        clock: clock.clone(),
        view: view_out,
        pulse: Pulses::new(clock.clone()).add("dongle"),
        stop: stop.clone(),
        asks,
    };
    let stop = stop.drop_guard();
    let task = tokio::spawn(dongle.run());
    let met = async {
        let seen = view.wait_for(|view| need.is_met(view)).await;
        seen.ok().and_then(|view| view.subscriber.clone())
    };
    let who = match tokio::time::timeout(within, met).await {
        Ok(who) => who,
        Err(_) => anyhow::bail!(
            "the {} was not reached within {} s. {}",
            match need {
                Need::Card => "SIM",
                Need::Registered => "network",
            },
            within.as_secs(),
            stuck(&ladder, need, Rung::Network)
        ),
    };
    let who = who.ok_or_else(|| anyhow::anyhow!("the task that speaks with the modem has ended; try again"))?;
    Ok(Card {
        who,
        sim,
        ladder,
        stop,
        task,
    })
}

impl Card {
    /// Lets the modem go, when what it was asked is answered. Bounded.
    pub(super) async fn close(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

/// The lowest rung up to `top` that is not up, why, and what to do. The network counts only if it is needed.
pub(super) fn stuck(ladder: &Ladder, need: Need, top: Rung) -> String {
    let rungs = ladder.to_json();
    let lowest = Rung::ALL
        .iter()
        .zip(rungs.as_array().into_iter().flatten())
        .filter(|(rung, _)| **rung <= top && (**rung != Rung::Network || need == Need::Registered))
        .find(|(_, v)| v["state"] != "up");
    lowest.map_or(String::new(), |(rung, v)| {
        let text = |key: &str| v[key].as_str().unwrap_or_default();
        match text("cure") {
            "" => format!("{rung}: {}", text("why")),
            cure => format!("{rung}: {}. {cure}", text("why")),
        }
    })
}

#[cfg(all(test, feature = "bench"))]
#[path = "card_tests.rs"]
mod tests;
