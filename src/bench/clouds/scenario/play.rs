//! A running scenario.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Deed, Planned, Scenario, Seen, When};
use crate::bench::clouds::control::Controls;
use crate::bench::clouds::journal::{Event, What};
use crate::bench::clouds::stand_in::Cloud;

#[derive(Debug)]
struct Waiting {
    planned: Planned,
    left: u32,
}

/// What has not happened yet. No I/O; the time counts from the start.
#[derive(Debug)]
pub struct Play(Vec<Waiting>);

/// What an event counts as, and of whom.
fn seen(what: &What) -> Option<(Seen, Option<&str>)> {
    Some(match what {
        What::Connected { client_id, .. } => (Seen::Connects, Some(client_id)),
        What::Message { client_id, .. } => (Seen::Messages, Some(client_id)),
        What::Subscribed { client_id, .. } => (Seen::Subscribes, Some(client_id)),
        What::Refused { client_id, .. } => (Seen::Refusals, client_id.as_deref()),
        What::Closed { client_id, .. } => (Seen::Closes, client_id.as_deref()),
        What::Http { .. } => (Seen::Requests, None),
        _ => return None,
    })
}

impl Play {
    /// From its beginning.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        let waiting = |planned: Planned| Waiting {
            left: match planned.when {
                When::At(_) => 0,
                When::Seen { count, .. } => count,
            },
            planned,
        };
        Self(scenario.events.into_iter().map(waiting).collect())
    }

    /// When something is due that only time brings.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let times = self.0.iter().filter_map(|w| match w.planned.when {
            When::At(at) => Some(at),
            When::Seen { .. } => None,
        });
        times.min()
    }

    /// Whether nothing is left to happen.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// What is due by now, in the order of time, then of the file; each once.
    pub fn due(&mut self, now: Duration) -> Vec<Deed> {
        let mut due = Vec::new();
        self.0.retain(|w| match w.planned.when {
            When::At(at) if at <= now => {
                due.push((at, w.planned.deed.clone()));
                false
            }
            _ => true,
        });
        due.sort_by_key(|(at, _)| *at);
        due.into_iter().map(|(_, deed)| deed).collect()
    }

    /// What an event brings, in the order of the file; each once.
    pub fn saw(&mut self, event: &Event) -> Vec<Deed> {
        let Some((kind, whose)) = seen(&event.what) else {
            return Vec::new();
        };
        let mut brought = Vec::new();
        self.0.retain_mut(|w| {
            let When::Seen {
                what, cloud, client, ..
            } = &w.planned.when
            else {
                return true;
            };
            let counts = *what == kind
                && cloud.is_none_or(|c| c == event.cloud)
                && client.as_deref().is_none_or(|c| Some(c) == whose);
            if !counts {
                return true;
            }
            w.left = w.left.saturating_sub(1);
            if w.left == 0 {
                brought.push(w.planned.deed.clone());
            }
            w.left > 0
        });
        brought
    }
}

fn perform(controls: &Controls, deed: Deed) -> Result<String, String> {
    let text = match deed {
        Deed::Fault(spec) => {
            controls.put(&spec)?;
            format!("fault {spec}")
        }
        Deed::Clear(cloud, None) => format!("{} faults cleared", controls.clear(cloud)?),
        Deed::Clear(cloud, Some(kind)) => format!("{} faults cleared", controls.clear_kind(cloud, kind)?),
        Deed::Restart {
            cloud,
            forget_sessions,
            closed_for,
        } => {
            controls.restart(cloud, forget_sessions, closed_for)?;
            "restart".into()
        }
        Deed::Clock(cloud, by) => {
            controls.jump(cloud, by)?;
            "clock".into()
        }
        Deed::Cut(cloud, client) => {
            format!("{} connections cut", controls.cut_client(cloud, &client))
        }
    };
    Ok(text)
}

/// Plays a scenario until it is over or the stand-ins stop. The time is tokio's, so that tests can make it pass.
pub(crate) async fn run(
    scenario: Scenario,
    controls: Arc<Controls>,
    mut events: Receiver<Event>,
    stop: CancellationToken,
) {
    let started = Instant::now();
    let mut play = Play::new(scenario);
    let note = |text: String| {
        // A scenario is about several stand-ins; the first one tells it.
        let cloud = controls.boards.keys().next().copied().unwrap_or(Cloud::Krypton);
        controls.journal.record(cloud, What::Note { text });
    };
    while !play.is_over() {
        let next = play.next();
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(started + at).await,
                None => std::future::pending().await,
            }
        };
        let deeds = tokio::select! {
            () = stop.cancelled() => return,
            () = timer => play.due(started.elapsed()),
            event = events.recv() => match event {
                Ok(event) => play.saw(&event),
                Err(RecvError::Closed) => return,
                Err(RecvError::Lagged(n)) => {
                    note(format!("the scenario has missed {n} events: what waits for them may come late"));
                    Vec::new()
                }
            },
        };
        for deed in deeds {
            match perform(&controls, deed) {
                Ok(text) => note(format!("scenario: {text}")),
                Err(why) => note(format!("scenario: {why}")),
            }
        }
    }
}
