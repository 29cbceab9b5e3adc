//! AWS IoT Core behind its message broker: an account with certificates, policies, shadows and fleet provisioning. What the broker itself
//! allows is the [rule book](super::policy::aws_iot); the decisions that need the account are asked of it here.
//!
//! | file | what it is |
//! |---|---|
//! | [`document`] | policy documents |
//! | [`registry`] | authorities, certificates, things; just-in-time registration |
//! | [`template`], [`provisioning`] | fleet provisioning by claim |
//! | [`script`] | its answers, told in advance |
//! | [`shadow`] | device shadows |
//! | [`reserved`] | the topics that begin with `$` |
//! | [`possession`] | the proof that an authority's key is at hand |
//! | [`presence`] | connected and disconnected, as messages |
//! | [`defaults`] | the policies and the template that the bench brings along |
//! | [`control`] | the account's own side, over HTTP |
//!
//! Nothing of the account outlives the process. Certificates of the bench's own authority register themselves again; those that were
//! made by fleet provisioning do not fit the default policy then, and have to be provisioned again.
//!
//! Who gets an answer: a shadow's goes to everybody who subscribed to its topic, as from any publisher; a provisioning answer goes to the
//! connection that asked, if it subscribed. Jobs, Device Defender and streams are not simulated: what is published to them is noted and
//! not answered.

pub mod control;
pub mod defaults;
pub mod document;
pub mod possession;
pub mod presence;
pub mod provisioning;
pub mod registry;
pub mod reserved;
pub mod script;
pub mod shadow;
pub mod template;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use self::document::{Document, Verdict};
use self::presence::Presence;
use self::provisioning::{ProvisioningError, Tokens};
use self::registry::{Registration, Registry};
use self::reserved::{Format, Reserved};
use self::script::{Reply, Script};
use self::shadow::{Key, Operation, Outcome, Shadows};
use self::template::Template;
use super::authority::Ca;
use super::backend::{Act, Backend, Handling, Now, Received};
use super::policy::aws_iot::CONNECT_RATE;
use super::policy::{Look, Look5, Peer, Refusal, Session, reason};
use super::stand_in::Config;
use crate::clock::Clock;
use crate::tls;

/// CONNECTs of one client id have to be this far apart (AWS IoT Core quotas: one a second).
pub const CONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// Client ids whose last CONNECT is remembered; the bench's own bound.
const CONNECTS_MAX: usize = 1_024;
/// The quality of service of answers and events.
const QOS: u8 = 1;

#[derive(Debug)]
struct State {
    registry: Registry,
    shadows: Shadows,
    tokens: Tokens,
    script: Script,
    presence: Presence,
    connects: HashMap<String, Duration>,
}

/// The account.
#[derive(Debug)]
pub struct Aws {
    ca: Arc<Ca>,
    state: Mutex<State>,
}

fn publish(topic: String, body: &Value) -> Act {
    Act::Publish {
        topic: topic.into(),
        payload: body.to_string().into(),
        qos: QOS,
    }
}

/// What a shadow request leads to: answers and events on the shadow's topics.
fn shadow_acts(key: &Key, operation: Operation, outcome: &Outcome) -> Vec<Act> {
    let name = key.name.as_ref().map(|n| format!("/name/{n}")).unwrap_or_default();
    let topic = |end: &str| format!("$aws/things/{}/shadow{name}/{}/{end}", key.thing, operation.word());
    let mut acts = match &outcome.answer {
        Ok(body) => vec![publish(topic("accepted"), body)],
        Err(body) => vec![
            Act::Note(format!(
                "aws-iot/shadow: {} of {}{name} was rejected: {body}",
                operation.word(),
                key.thing
            )),
            publish(topic("rejected"), body),
        ],
    };
    acts.extend(outcome.delta.as_ref().map(|b| publish(topic("delta"), b)));
    acts.extend(outcome.documents.as_ref().map(|b| publish(topic("documents"), b)));
    acts
}

impl Aws {
    /// An account whose certificates are made by `ca`.
    #[must_use]
    pub fn new(ca: Arc<Ca>, registry: Registry) -> Self {
        let state = State {
            registry,
            shadows: Shadows::default(),
            tokens: Tokens::default(),
            script: Script::default(),
            presence: Presence::default(),
            connects: HashMap::new(),
        };
        Self {
            ca,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the account, or changes it.
    pub fn registry<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut self.state().registry)
    }

    /// What a session's policies say; the answer is none when they allow it, and otherwise why not.
    #[must_use]
    pub fn denial(&self, session: &Session, action: &str, kind: &str, name: &str) -> Option<String> {
        let state = self.state();
        let how = match state.registry.verdict(session, action, kind, name) {
            Verdict::Allowed => return None,
            Verdict::Denied => "denied by",
            Verdict::NotAllowed => "not allowed by any of",
        };
        let policies = state.registry.policies_of(session);
        let arn = state.registry.arn(kind, name);
        Some(format!(
            "{action} on {arn} is {how} the certificate's policies ({policies})"
        ))
    }

    /// A shadow request from the cloud's side: what is answered, and what devices see of it.
    #[must_use]
    pub fn shadow(&self, key: &Key, operation: Operation, payload: &[u8], now: Now) -> (Outcome, Vec<Act>) {
        let outcome = self.state().shadows.handle(None, key, operation, payload, now);
        let mut acts = shadow_acts(key, operation, &outcome);
        if outcome.answer.is_err() {
            // A request over HTTP is answered there ("no MQTT error messages are emitted").
            acts.clear();
        }
        (outcome, acts)
    }

    /// Registers a certificate (DER) as a claim: its device may provision and nothing else. Answers its id.
    ///
    /// # Errors
    /// [`registry::RegistryError`].
    pub fn claim(&self, der: &[u8], now: Now) -> Result<String, registry::RegistryError> {
        self.registry(|r| {
            let id = r.register(der, registry::Status::Active, None, now.wall)?;
            r.attach_policies(&id, vec![defaults::CLAIM.to_owned()])?;
            Ok(id)
        })
    }

    /// Tells answers of the provisioning service in advance.
    pub fn script<T>(&self, with: impl FnOnce(&mut Script) -> T) -> T {
        with(&mut self.state().script)
    }

    fn provisioning(&self, session: &Session, received: Received<'_>, asked: &Reserved, now: Now) -> Vec<Act> {
        let mut state = self.state();
        let State {
            registry,
            tokens,
            script,
            ..
        } = &mut *state;
        let payload = received.payload;
        let told = script.take(asked);
        let answer = match (told, asked) {
            (Some(Reply::Silence), _) => {
                let note = format!("aws-iot/provisioning: {} has no answer, as told", received.topic);
                return vec![Act::Note(note)];
            }
            (Some(Reply::Rejected(e)), _) => Err(e),
            (Some(Reply::Accepted(body)), _) => Ok(body),
            (None, Reserved::CreateKeys(Format::Json)) => tokens.create_keys(registry, &self.ca, payload, now),
            (None, Reserved::CreateFromCsr(Format::Json)) => tokens.create_from_csr(registry, &self.ca, payload, now),
            (None, Reserved::Provision(template, Format::Json)) => tokens.provision(registry, template, payload, now),
            _ => Err(ProvisioningError::cbor()),
        };
        drop(state);
        let send = |end: &str, payload: Bytes| Act::Send {
            client_id: session.client_id.clone(),
            topic: format!("{}/{end}", received.topic).into(),
            payload,
            qos: QOS,
        };
        match answer {
            Ok(body) => vec![send("accepted", body.to_string().into())],
            Err(e) => {
                let body = if received.topic.ends_with("/cbor") {
                    e.to_cbor()
                } else {
                    e.json()
                };
                vec![
                    Act::Note(format!(
                        "aws-iot/provisioning: {:?} at {}: {e}",
                        session.client_id, received.topic
                    )),
                    send("rejected", body),
                ]
            }
        }
    }
}

/// Sets the account up as the options say: the bench's own authority lets its certificates in at once, others by `--aws-jitr`.
///
/// # Errors
/// A sentence that names the option.
pub(crate) fn open(config: &Config, ca: &Arc<Ca>, clock: &Clock) -> Result<Arc<Aws>, String> {
    let read = |option: &str, path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|e| format!("{option} {}: {e}", path.display()))
    };
    let mut registry = Registry::new(&config.hosts.aws_iot);
    defaults::bring(&mut registry, &config.aws_topics).map_err(|e| e.to_string())?;
    if let Some(path) = &config.aws_policy {
        const NAME: &str = "default";
        let text = read("--aws-policy", path)?;
        let document = Document::parse(&text).map_err(|e| format!("--aws-policy {}: {e}", path.display()))?;
        registry.put_policy(NAME, text, document).map_err(|e| e.to_string())?;
        registry.set_defaults(vec![NAME.to_owned()]);
    }
    for path in &config.aws_templates {
        let wrong = |e: &dyn std::fmt::Display| format!("--aws-template {}: {e}", path.display());
        let text = read("--aws-template", path)?;
        let template = Template::parse(&text).map_err(|e| wrong(&e))?;
        let name = path.file_stem().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
        registry.put_template(name, text, template).map_err(|e| wrong(&e))?;
    }
    let own = [ca.root_pem(), ca.intermediate_pem()].map(|pem| (pem, "the bench's authority", Registration::AtOnce));
    let jitr = config.aws_jitr.iter().map(|path| {
        let activate_after = Some(Duration::ZERO);
        read("--aws-jitr", path).map(|pem| (pem, "--aws-jitr", Registration::Jitr { activate_after }))
    });
    for authority in own.into_iter().map(Ok).chain(jitr) {
        let (pem, what, registration) = authority?;
        for der in tls::certificates(pem.as_bytes(), what).map_err(|e| format!("{what}: {e}"))? {
            registry
                .add_authority(der, registration.clone())
                .map_err(|e| format!("{what}: {e}"))?;
        }
    }
    let aws = Aws::new(Arc::clone(ca), registry);
    let now = Now {
        monotonic: clock.monotonic(),
        wall: clock.system(),
    };
    for name in &config.aws_claims {
        let wrong = |e: &dyn std::fmt::Display| format!("--aws-claim {name}: {e}");
        let issued = ca.write_device(&config.directory, name).map_err(|e| wrong(&e))?;
        let ders = tls::certificates(issued.leaf_pem.as_bytes(), name).map_err(|e| wrong(&e))?;
        for der in &ders {
            aws.claim(der, now).map_err(|e| wrong(&e))?;
        }
    }
    Ok(Arc::new(aws))
}

impl Backend for Aws {
    fn greet(&self, peer: &Peer, now: Now) -> (Vec<Act>, Result<(), Refusal>) {
        self.state().registry.greet(&peer.chain, now)
    }

    fn admit(&self, peer: &Peer, session: &Session, now: Now) -> Result<(), Refusal> {
        let mut state = self.state();
        state
            .connects
            .retain(|_, at| now.monotonic.saturating_sub(*at) < CONNECT_INTERVAL);
        if let Some(last) = state.connects.get(&session.client_id) {
            let ago = now.monotonic.saturating_sub(*last).as_millis();
            let detail = format!("the last CONNECT of {:?} was {ago} ms ago", session.client_id);
            return Err(Refusal::new(&CONNECT_RATE, Look::Close, detail).in_5(Look5::ConnAck(reason::QUOTA)));
        }
        if state.connects.len() < CONNECTS_MAX {
            state.connects.insert(session.client_id.clone(), now.monotonic);
        }
        state.presence.admitted(session, peer.address.ip(), now);
        Ok(())
    }

    fn connected(&self, session: &Session, now: Now) -> Vec<Act> {
        self.state().presence.connected(session, now)
    }

    fn received(&self, session: &Session, received: Received<'_>, now: Now) -> Result<Handling, Refusal> {
        let Some(asked) = reserved::publication(received.topic) else {
            return Ok(Handling::Message);
        };
        Ok(match asked {
            Reserved::Rule => Handling::Message,
            Reserved::NotSimulated(service) => Handling::Request(vec![Act::Note(format!(
                "{} is not simulated: nobody answers {}",
                service, received.topic
            ))]),
            Reserved::Shadow(key, operation) => {
                let client_id = Some(session.client_id.as_str());
                let outcome = self
                    .state()
                    .shadows
                    .handle(client_id, &key, operation, received.payload, now);
                Handling::Request(shadow_acts(&key, operation, &outcome))
            }
            asked => Handling::Request(self.provisioning(session, received, &asked, now)),
        })
    }

    fn gone(&self, session: &Session, why: &str, now: Now) -> Vec<Act> {
        self.state().presence.gone(session, why, now)
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
