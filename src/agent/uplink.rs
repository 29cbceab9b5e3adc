//! Link, clock, credentials, session, delivery: the upper half of the ladder, climbed in order and kept.
//!
//! A session in the air does not look down: it lives on while the modem is silent. When it ends, the climb begins again at the link;
//! rungs that still hold are passed at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dongle::View;
use super::endpoint::Ready;
use super::fault::{Fault, Recover, Standing, of_session, policy};
use super::ground::{Ground, ended};
use super::ladder::{Rung, State};
use super::retime::Retime;
use super::run::Counters;
use crate::backoff::Backoff;
use crate::cloud::Kind;
use crate::identity::{ClientId, Subscriber};
use crate::link::Via;
use crate::session::core::Core;
use crate::session::{Endpoint, Event, Session, SessionError};
use crate::telemetry::sample::stamp;
use crate::telemetry::spool::SpoolHandle;
use crate::telemetry::spool::{Seq, SpoolError};

/// How long a stop waits for acknowledgements that are on their way.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Most bytes read from the spool at a time.
const PEEK_BYTES: usize = 256 * 1024;

pub(super) struct Uplink {
    pub(super) ground: Ground,
    pub(super) view: watch::Receiver<View>,
    pub(super) spool: SpoolHandle,
    pub(super) retime: Retime,
    pub(super) counters: Arc<Counters>,
    pub(super) stop: CancellationToken,
    pub(super) kept: Kept,
}

/// What is kept between two sessions.
#[derive(Default)]
pub(super) struct Kept {
    core: Option<(ClientId, Core)>,
    backoffs: HashMap<Rung, Backoff>,
}

/// Why a climb ended without a fault.
enum Ended {
    /// The agent is to stop.
    Stopped,
    /// New credentials are there to connect with.
    Renewed,
}

impl Uplink {
    pub(super) async fn run(mut self) {
        while let Some(who) = self.wait_for_subscriber().await {
            let fault = match self.climb(&who).await {
                Ok(Ended::Stopped) => break,
                Ok(Ended::Renewed) => continue,
                Err(fault) => fault,
            };
            let rung = fault.rung;
            let limits = &self.ground.config.session;
            // What only a connection can tell is asked again at the pace of connections, not of looks at this machine.
            let paced_as = match fault.recover {
                Recover::From(_) => Rung::Session,
                Recover::Retry | Recover::Reprovision => rung,
            };
            let policy = policy(paced_as, limits.retry_min, limits.retry_max);
            let now = self.ground.clock.monotonic();
            let backoff = self
                .kept
                .backoffs
                .entry(paced_as)
                .or_insert_with(|| Backoff::new(policy));
            let wait = backoff
                .failed(now, fastrand::f64())
                .max(fault.after.unwrap_or_default());
            self.ground.ladder.down(rung, &fault.cause, &fault.cure, wait);
            match fault.recover {
                Recover::Retry => {}
                Recover::From(below) => self
                    .ground
                    .ladder
                    .climbing(below, &format!("looked at again, because {rung} keeps failing")),
                Recover::Reprovision => self.ground.refused_by_broker(),
            }
            self.ground.ladder.fall_above(rung);
            if !self.pause(wait, fault.after.unwrap_or_default()).await {
                break;
            }
        }
        self.ground.pulse.rest();
    }

    /// Waits before the next climb, but no longer than `least`, which somebody asked for, when the network has come back meanwhile; false
    /// when the agent is to stop.
    async fn pause(&mut self, wait: Duration, least: Duration) -> bool {
        self.ground.pulse.promise(wait);
        let was_registered = self.view.borrow_and_update().registered;
        let needed = self.ground.config.network.required;
        let back = async {
            if !needed {
                // Another line carries IP: the network's return says nothing of it.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(least).await;
            let mut lost = !was_registered;
            while self.view.changed().await.is_ok() {
                let registered = self.view.borrow_and_update().registered;
                if registered && lost {
                    return;
                }
                lost |= !registered;
            }
            std::future::pending().await
        };
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
            () = back => true,
        }
    }

    /// Waits until the modem says who we are and, if the way out needs the network, that it is registered; `None` when the agent is to stop.
    async fn wait_for_subscriber(&mut self) -> Option<Subscriber> {
        let needed = self.ground.config.network.required;
        loop {
            {
                let view = self.view.borrow_and_update();
                if let Some(who) = view.subscriber.clone().filter(|_| view.registered || !needed) {
                    return Some(who);
                }
            }
            // The dongle's task has promises of its own.
            self.ground.pulse.rest();
            tokio::select! {
                () = self.stop.cancelled() => return None,
                changed = self.view.changed() => if changed.is_err() { return None },
            }
        }
    }

    async fn climb(&mut self, who: &Subscriber) -> Result<Ended, Fault> {
        let stop = self.stop.clone();
        let (via, ready) = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            reached = self.ground.climb(who) => reached?,
        };
        for rung in [Rung::Link, Rung::Clock, Rung::Credentials] {
            self.is_up(rung);
        }
        let session = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            session = self.session(&ready.endpoint, &via) => session?,
        };
        self.deliver(session, &ready, who).await
    }

    async fn session(&mut self, endpoint: &Endpoint, via: &Via) -> Result<Session, Fault> {
        self.ground.ladder.climbing(
            Rung::Session,
            &format!(
                "connecting to {}:{} as {}",
                endpoint.host,
                endpoint.port,
                endpoint.names.client_id.redacted()
            ),
        );
        self.ground
            .pulse
            .promise(endpoint.connect_within * 3 + endpoint.answer_within);
        let client_id = &endpoint.names.client_id;
        let mut core = self
            .kept
            .core
            .take()
            .filter(|(id, _)| id == client_id)
            .map(|(_, core)| core);
        let opened = Session::open(endpoint, via, &self.ground.clock, &mut core).await;
        // A dial that fails must not forget what the broker may still hold [MQTT-4.4.0-1].
        self.kept.core = core.map(|core| (client_id.clone(), core));
        opened.map_err(|e| self.session_fault(&e))
    }

    fn session_fault(&mut self, e: &SessionError) -> Fault {
        let may_reprovision = self.ground.session_failed(e.cause());
        let failures = self.kept.backoffs.get(&Rung::Session).map_or(0, Backoff::failures);
        let config = &self.ground.config;
        let standing = Standing {
            may_reprovision,
            just_in_time: config.session.to == Kind::AwsIot && !config.credentials.is_fetched(),
        };
        of_session(e, failures, standing)
    }

    /// Delivers until the session ends, another SIM is read, or the agent is to stop.
    async fn deliver(&mut self, mut session: Session, ready: &Ready, who: &Subscriber) -> Result<Ended, Fault> {
        let mut durable = self.spool.durable();
        // From the start: what the broker acknowledged on the last connection may not have reached the spool before it ended.
        let mut next = Seq::FIRST;
        let mut more = true;
        loop {
            self.ground
                .pulse
                .promise(Duration::from_secs(ready.endpoint.keep_alive.into()) + ready.endpoint.answer_within * 2);
            if more && session.room() > 0 {
                match self.send(&mut session, ready, &mut next).await {
                    Ok(sent) => more = sent,
                    Err(fault) => return Err(self.end(session, ready, fault)),
                }
                continue;
            }
            let paced = session.paced().filter(|_| more);
            let renewal = self.ground.renewal_in();
            if renewal.is_some_and(|wait| wait.is_zero()) {
                self.ground.renew();
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(renewal.unwrap_or_default()), if renewal.is_some() => {}
                brought = ended(&mut self.ground.renewing) => {
                    if self.ground.renewed(brought) {
                        self.goodbye(session, ready).await;
                        return Ok(Ended::Renewed);
                    }
                }
                () = tokio::time::sleep(paced.unwrap_or_default()), if paced.is_some() => {}
                event = session.next() => match event {
                    Ok(event) => {
                        more |= matches!(event, Event::Acknowledged(_));
                        if let Err(fault) = self.happened(event, ready).await {
                            return Err(self.end(session, ready, fault));
                        }
                    }
                    Err(e) => {
                        let fault = self.session_fault(&e);
                        return Err(self.end(session, ready, fault));
                    }
                },
                changed = durable.changed() => {
                    if changed.is_err() {
                        return Err(self.end(session, ready, spool_fault(&SpoolError::Closed)));
                    }
                    more = true;
                }
                // At a stop the dongle's task may be gone first: that is not another SIM, and the goodbye below is still due.
                Ok(()) = self.view.changed() => {
                    let other = {
                        let view = self.view.borrow_and_update();
                        view.subscriber.as_ref().is_some_and(|s| (&s.imsi, &s.imei) != (&who.imsi, &who.imei))
                    };
                    if other {
                        // What was in flight is not acknowledged here: it is sent again under the new name.
                        session.close().await;
                        let cure = "nothing to do: it connects again under the new SIM's name";
                        return Err(Fault::new(Rung::Session, "another SIM is in the dongle", cure));
                    }
                }
                () = self.stop.cancelled() => {
                    self.goodbye(session, ready).await;
                    return Ok(Ended::Stopped);
                }
            }
        }
    }

    /// Publishes what waits in the spool, as far as there is room. False when nothing waits.
    async fn send(&mut self, session: &mut Session, ready: &Ready, next: &mut Seq) -> Result<bool, Fault> {
        let limits = self.ground.config.session.to.limits();
        let records = self
            .spool
            .peek(*next, session.room(), PEEK_BYTES)
            .await
            .map_err(|e| spool_fault(&e))?;
        if records.is_empty() {
            return Ok(false);
        }
        for record in records {
            *next = record.seq.next();
            if session.in_flight().any(|s| s == record.seq.get()) {
                continue; // the broker kept the session, which sends it again by itself
            }
            let content = self.retime.corrected(record.seq, record.payload).await;
            let payload = match stamp(self.spool.id(), record.seq, &content) {
                Ok(payload) if payload.len() <= limits.payload_max => payload,
                other => {
                    let why = match other {
                        Err(e) => e.to_string(),
                        Ok(p) => format!("it has {} bytes, the broker takes {}", p.len(), limits.payload_max),
                    };
                    tracing::error!(
                        seq = record.seq.get(),
                        "a sample cannot be sent and is set aside: {why}"
                    );
                    self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
                    self.spool.ack(vec![record.seq]).await.map_err(|e| spool_fault(&e))?;
                    continue;
                }
            };
            let topic = ready.endpoint.names.topic.as_str();
            let taken = session
                .publish(record.seq.get(), topic, Bytes::from(payload))
                .map_err(|e| self.session_fault(&e))?;
            if !taken {
                *next = record.seq; // no room after all: it is read again
                break;
            }
        }
        Ok(true)
    }

    async fn happened(&mut self, event: Event, ready: &Ready) -> Result<(), Fault> {
        match event {
            Event::Proven => {
                self.ground.session_proven().await;
                self.is_up(Rung::Session);
                self.ground.ladder.up(
                    Rung::Session,
                    &format!("{}:{} answers", ready.endpoint.host, ready.endpoint.port),
                );
                if self.ground.ladder.state(Rung::Delivery) != State::Up {
                    self.ground
                        .ladder
                        .climbing(Rung::Delivery, "waiting for the first acknowledgement");
                }
            }
            Event::Acknowledged(seq) => {
                self.spool.ack(vec![Seq::new(seq)]).await.map_err(|e| spool_fault(&e))?;
                let count = self.counters.acknowledged.fetch_add(1, Ordering::Relaxed) + 1;
                self.counters
                    .last_acknowledged
                    .store(self.ground.clock.monotonic().as_secs(), Ordering::Relaxed);
                self.ground.ladder.up(Rung::Delivery, "samples are acknowledged");
                if self.counters.exit_after.is_some_and(|n| count >= n) {
                    self.stop.cancel();
                }
            }
            // The caller's next promise to the watchdog is all that this is for.
            Event::Alive => {}
            Event::Inbound { topic, payload } => {
                tracing::debug!(
                    topic = crate::identity::redact_digits(&topic),
                    bytes = payload.len(),
                    "a message came that nobody subscribed to"
                );
            }
        }
        Ok(())
    }

    /// A rung holds: if it goes on so for a while, its next failure is a first one.
    fn is_up(&mut self, rung: Rung) {
        let now = self.ground.clock.monotonic();
        if let Some(backoff) = self.kept.backoffs.get_mut(&rung) {
            backoff.is_up(now);
        }
    }

    /// Keeps what outlives the connection.
    fn end(&mut self, session: Session, ready: &Ready, fault: Fault) -> Fault {
        self.kept.core = Some((ready.endpoint.names.client_id.clone(), session.into_core()));
        fault
    }

    /// Waits a little for acknowledgements on their way, then says goodbye.
    async fn goodbye(&mut self, mut session: Session, ready: &Ready) {
        self.ground.pulse.promise(STOP_WITHIN * 2);
        let _ = tokio::time::timeout(STOP_WITHIN, async {
            while session.in_flight().next().is_some() {
                match session.next().await {
                    Ok(event) => {
                        if self.happened(event, ready).await.is_err() {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
        })
        .await;
        let _ = tokio::time::timeout(STOP_WITHIN, session.close()).await;
    }
}

fn spool_fault(e: &SpoolError) -> Fault {
    Fault::new(
        Rung::Delivery,
        e.to_string(),
        "look at the disk that holds state_dir: full, read-only or broken?",
    )
}
