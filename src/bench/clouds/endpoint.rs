//! An MQTT stand-in: its doors, a [broker](super::broker), a [policy](super::policy), the [backend](super::backend) of that cloud, and the
//! connections between them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::{Act, Backend, Now};
use super::broker::{AttachError, Attached, Broker, ConnectionId, Message, Routed, Start};
use super::connection;
use super::fault::{MqttFault, Switch, Tapped};
use super::gate::Gate;
use super::journal::{Journal, What};
use super::policy::{Look, Policy, Refusal, Session, mqtt, reason};
use super::stand_in::Cloud;
use super::visit::{self, Visit};
use crate::clock::Clock;

/// Connections that a stand-in has at a time; more are closed at once.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// How long to wait after the system refused a connection (too many open files) before the next.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection has to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// For the journal.
    pub(crate) why: &'static str,
    /// For a device that speaks MQTT 5; without one nothing is said.
    pub(crate) reason: Option<u8>,
}

/// How a connection is reached from outside its task.
#[derive(Debug)]
struct Handle {
    wake: Arc<Notify>,
    end: watch::Sender<Option<Ending>>,
    /// What is recorded of it from other tasks is recorded there.
    visit: Weak<Visit>,
}

/// What a connection gets when it is admitted.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) attached: Attached,
    /// There is something to send.
    pub(crate) wake: Arc<Notify>,
    /// The connection has to end, and why.
    pub(crate) end: watch::Receiver<Option<Ending>>,
}

/// One stand-in; everything its connections share.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) cloud: Cloud,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) fault: Switch<MqttFault>,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
    broker: Mutex<Broker>,
    handles: Mutex<HashMap<ConnectionId, Handle>>,
}

impl Endpoint {
    pub(crate) fn new(
        cloud: Cloud,
        policy: Arc<dyn Policy>,
        backend: Arc<dyn Backend>,
        journal: Arc<Journal>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        Self {
            cloud,
            broker: Mutex::new(Broker::new(policy.limits(), policy.keeping())),
            policy,
            backend,
            journal,
            fault: Switch::new(None),
            clock,
            stop,
            handles: Mutex::default(),
        }
    }

    /// Takes connections at one door until told to stop; without `tls` it is a plain one.
    pub(crate) async fn serve(
        self: Arc<Self>,
        mut gate: Gate,
        tls: Option<Arc<rustls::ServerConfig>>,
        tasks: TaskTracker,
    ) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = gate.accept() => accepted,
            };
            match accepted {
                Ok((stream, visit)) => match Arc::clone(&permits).try_acquire_owned() {
                    Ok(permit) => {
                        let endpoint = Arc::clone(&self);
                        let tls = tls.clone();
                        tasks.spawn(async move {
                            endpoint.connection(stream, tls, visit).await;
                            drop(permit);
                        });
                    }
                    Err(_) => self.note(format!(
                        "{CONNECTIONS_MAX} connections are open: {} was turned away",
                        visit.peer
                    )),
                },
                Err(e) => {
                    self.note(format!("cannot accept a connection: {e}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>, visit: Arc<Visit>) {
        let stop = self.stop.clone();
        let tls = tls.map(|own| visit.tls(&own));
        let stream = Tapped::new(stream, &visit);
        tokio::select! {
            () = stop.cancelled() => {}
            () = visit.serve(connection::run(&self, stream, tls, visit.peer)) => {}
        }
    }

    /// The time as the backend counts it.
    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: self.clock.monotonic(),
            wall: self.clock.system() + visit::clock_ahead(),
        }
    }

    pub(crate) fn note(&self, text: String) {
        self.journal.record(self.cloud, What::Note { text });
    }

    /// Locks the broker; never held over an await.
    pub(crate) fn broker(&self) -> std::sync::MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectionId, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an admitted device its session and sends away whoever held it.
    pub(crate) fn attach(&self, session: &Session, start: Start) -> Result<Admitted, AttachError> {
        // Broker before handles, here and in `restart`: a session is never without the handle of its connection.
        let mut broker = self.broker();
        let attached = broker.attach(session, start, self.clock.monotonic())?;
        let (end, ended) = watch::channel(None);
        let wake = Arc::new(Notify::new());
        let mut handles = self.handles();
        if let Some(old) = attached.displaced.and_then(|id| handles.remove(&id)) {
            let _ = old.end.send(Some(Ending {
                why: "taken over by a new connection with the same client id",
                reason: Some(reason::TAKEN_OVER),
            }));
        }
        let handle = Handle {
            wake: Arc::clone(&wake),
            end,
            visit: visit::current().map_or_else(Weak::new, |v| Arc::downgrade(&v)),
        };
        handles.insert(attached.connection, handle);
        Ok(Admitted {
            attached,
            wake,
            end: ended,
        })
    }

    pub(crate) fn detach(&self, client_id: &str, connection: ConnectionId) {
        self.handles().remove(&connection);
        self.broker().detach(client_id, connection, self.clock.monotonic());
    }

    /// An accepted message: written down with what the backend read out of it, then handed to subscribers.
    pub(crate) fn publish(&self, session: &Session, message: &Message, properties: Option<serde_json::Value>) {
        let (topic, payload) = (&message.topic, &message.payload);
        self.journal
            .message(self.cloud, session, topic, payload, message.qos, properties);
        let routed = self.broker().publish(message);
        self.routed(routed, &message.topic);
    }

    /// Keeps a message for later subscribers, or forgets the one that was kept.
    pub(crate) fn retain(&self, message: &Message) {
        let has_room = self.broker().retain(message, self.clock.monotonic());
        if !has_room {
            self.note(format!("no room to keep a message for {:?}", message.topic));
        }
    }

    /// Does what the backend wants done.
    pub(crate) fn perform(&self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Send {
                    client_id,
                    topic,
                    payload,
                    qos,
                } => {
                    self.deliver(&client_id, &plain(topic, payload, qos));
                }
                Act::Publish { topic, payload, qos } => {
                    let message = plain(topic, payload, qos);
                    let routed = self.broker().publish(&message);
                    self.routed(routed, &message.topic);
                }
                Act::End { client_id, why } => self.end(&client_id, why),
                Act::Forget { client_id, why } => {
                    let connection = self.broker().forget_session(&client_id);
                    self.end_connection(connection, why);
                }
                Act::Note(text) => self.note(text),
                Act::Report { client_id, refusal } => {
                    let visit = self.visit(self.broker().connection(&client_id));
                    self.refused_at(visit.as_deref(), &refusal, &client_id);
                }
            }
        }
    }

    fn deliver(&self, client_id: &str, message: &Message) {
        let routed = self.broker().deliver(client_id, message);
        self.routed(routed, &message.topic);
    }

    fn routed(&self, routed: Routed, topic: &str) {
        let handles = self.handles();
        for handle in routed.wake.iter().filter_map(|id| handles.get(id)) {
            handle.wake.notify_one();
        }
        drop(handles);
        for (client_id, connection) in routed.overflowed {
            let detail = format!("no room for a message from {topic:?}: the session ends");
            let refusal = Refusal::new(&mqtt::OVERFLOW, Look::Close, detail);
            let visit = self.visit(connection);
            self.refused_at(visit.as_deref(), &refusal, &client_id);
            if let Some(handle) = connection.and_then(|c| self.handles().remove(&c)) {
                let _ = handle.end.send(Some(Ending {
                    why: "its queue of unacknowledged messages is full",
                    reason: Some(reason::QUOTA),
                }));
            }
            self.dropped_at(visit.as_deref(), client_id, topic);
        }
        for client_id in routed.dropped {
            let visit = self.visit(self.broker().connection(&client_id));
            self.dropped_at(visit.as_deref(), client_id, topic);
        }
    }

    /// The connection behind this number. What happens to it may happen in the task of another, whose doing it is not.
    fn visit(&self, connection: Option<ConnectionId>) -> Option<Arc<Visit>> {
        let connection = connection?;
        self.handles().get(&connection).and_then(|h| h.visit.upgrade())
    }

    fn refused_at(&self, visit: Option<&Visit>, refusal: &Refusal, client_id: &str) {
        let peer = visit.map_or_else(|| "nowhere: it is away".to_owned(), |v| v.peer.to_string());
        let what = What::refused(refusal, Some(client_id), &peer);
        self.journal.record_of(self.cloud, visit, what);
    }

    fn dropped_at(&self, visit: Option<&Visit>, client_id: String, topic: &str) {
        let topic = topic.to_owned();
        self.journal
            .record_of(self.cloud, visit, What::Dropped { client_id, topic });
    }

    /// Ends the connection that holds a session.
    pub(crate) fn end(&self, client_id: &str, why: &'static str) {
        let connection = self.broker().connection(client_id);
        self.end_connection(connection, why);
    }

    fn end_connection(&self, connection: Option<ConnectionId>, why: &'static str) {
        if let Some(handle) = connection.and_then(|c| self.handles().remove(&c)) {
            let reason = Some(reason::ADMINISTRATIVE);
            let _ = handle.end.send(Some(Ending { why, reason }));
        }
    }

    /// Cuts every connection, and forgets every session if so asked.
    pub(crate) fn restart(&self, forget_sessions: bool) {
        let mut broker = self.broker();
        if forget_sessions {
            broker.forget();
        }
        for (_, handle) in self.handles().drain() {
            let _ = handle.end.send(Some(Ending {
                why: "the stand-in restarts",
                reason: None,
            }));
        }
        self.journal
            .register()
            .cut_the_rest(self.cloud, "the stand-in restarts");
    }
}

/// A message of the cloud itself.
fn plain(topic: Arc<str>, payload: bytes::Bytes, qos: u8) -> Message {
    Message {
        topic,
        payload,
        qos,
        ..Message::default()
    }
}
