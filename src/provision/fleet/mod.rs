//! AWS IoT fleet provisioning by claim: a device that has only what the whole fleet has (a claim certificate) gets a certificate of its
//! own and becomes a thing. Source: AWS IoT Core developer guide, "Provisioning devices that don't have device certificates using fleet
//! provisioning" and "Device provisioning MQTT API".
//!
//! The key is made here (P-256) and certified by a signing request; AWS's other way, where it makes the key and sends it, is not used.
//!
//! | step | over the line | when it fails |
//! |---|---|---|
//! | connect | MQTT under the claim certificate, client id [`onyx-claim-…`](names::client_id), clean session | is the claim active, may it connect? |
//! | subscribe | all four answers in one packet | may it subscribe? |
//! | create | signing request → certificate, ownership token | [`refusal`] |
//! | provision | token, parameters → thing, by the template | [`refusal`] |
//! | goodbye | DISCONNECT; the device connects under its own name only then | |
//!
//! The order is in [`machine`], the wire strings in [`names`] and [`payload`]. The certificate is the thing's alone; the claim stays with
//! the fleet and is needed again only for a renewal. Its policy has to allow, and should not allow more than:
//!
//! ```text
//! iot:Connect                client/onyx-claim-*
//! iot:Subscribe              topicfilter/$aws/certificates/create-from-csr/json/*
//!                            topicfilter/$aws/provisioning-templates/TEMPLATE/provision/json/*
//! iot:Publish, iot:Receive   topic/$aws/certificates/create-from-csr/json, .../json/*
//!                            topic/$aws/provisioning-templates/TEMPLATE/provision/json, .../json/*
//! ```
//!
//! The thing's name is the client id from then on, because AWS's usual device policies demand that
//! (`client/${iot:Connection.Thing.ThingName}`). A template that makes no thing leaves the device its own client id.
//!
//! A try costs AWS a certificate; one that nobody provisions is deleted after an hour. Requests are not repeated within a try: whoever
//! asked for this try spaces them.

pub mod machine;
pub mod names;
pub mod payload;
pub mod refusal;

use std::collections::BTreeMap;
use std::time::Duration;

use self::machine::{FleetError, Machine, Next, Provisioned};
use self::names::Topics;
use self::refusal::Step;
use super::operator::read_limited;
use super::request::{Kind, Request};
use super::{Asker, Failure, Grant, Material};
use crate::clock::Clock;
use crate::cloud::aws_iot;
use crate::config::agent::{FleetConfig, SessionConfig};
use crate::identity::{ClientId, Subscriber, redact_digits};
use crate::mqtt::Connect;
use crate::session::SessionError;
use crate::session::Target;
use crate::session::conversation::{CLOSE_WITHIN, Conversation};
use crate::tls;

/// Keep-alive of the claim connection, in seconds: the longest that AWS takes as it is. Nothing pings, and with the longest time limit
/// that can be configured (300 s) the connection is quiet for less.
const KEEP_ALIVE: u16 = aws_iot::LIMITS.keep_alive_max;
/// Waits of one try that have a limit of [`FleetConfig::within`] each: TCP, TLS, CONNECT out, CONNACK, SUBSCRIBE out, SUBACK, and for
/// both requests PUBLISH out and the answer.
const WAITS: u32 = 10;

/// Makes a key, has it certified and the thing made. Bounded by [`longest`].
///
/// # Errors
/// [`Failure`]: the step, what AWS says, and what to do.
pub async fn provision(config: &FleetConfig, session: &SessionConfig, asker: Asker<'_>) -> Result<Grant, Failure> {
    let (own, session, who) = (config.clone(), session.clone(), asker.who.clone());
    let (auth_name, clock) = (asker.auth_name.clone(), asker.clock.clone());
    // Files and key generation stay off the async threads.
    let prepared = tokio::task::spawn_blocking(move || {
        let plan = Plan::new(&own, &session, &who, &clock)?;
        Ok((plan, Request::new(Kind::P256, &auth_name).map_err(no_key)?))
    });
    let (plan, request) = prepared.await.unwrap_or_else(|e| Err(no_key(e.to_string())))?;
    let machine = Machine::new(plan.topics.clone(), request, plan.parameters.clone());
    let done = tokio::time::timeout(longest(config), converse(&plan, asker, machine))
        .await
        .unwrap_or_else(|_| {
            Err(failure(
                format!(
                    "AWS IoT at {} took longer than all its steps may take",
                    plan.target.host
                ),
                "the line is very slow: see credentials.timeout".to_owned(),
            ))
        })?;
    plan.grant(asker, done)
}

/// The longest that [`provision`] can take.
#[must_use]
pub fn longest(config: &FleetConfig) -> Duration {
    config.within * WAITS + CLOSE_WITHIN
}

fn failure(cause: String, cure: String) -> Failure {
    Failure {
        cause: redact_digits(&cause),
        cure,
        after: None,
        spent: false,
    }
}

fn no_key(why: String) -> Failure {
    let cure = "look at the random source of this machine; it is tried again later";
    failure(why, cure.to_owned())
}

/// Everything that is known before the line is touched.
struct Plan {
    target: Target,
    topics: Topics,
    parameters: BTreeMap<String, String>,
    connect: Connect,
    root_ca_pem: Option<String>,
}

impl Plan {
    fn new(config: &FleetConfig, session: &SessionConfig, who: &Subscriber, clock: &Clock) -> Result<Self, Failure> {
        let host = session.host.clone().ok_or_else(|| {
            failure(
                "nobody says where AWS IoT is".to_owned(),
                "set session.host to the endpoint (aws iot describe-endpoint --endpoint-type iot:Data-ATS)".to_owned(),
            )
        })?;
        let ca = session.ca_file.as_deref().map(read_limited).transpose();
        let ca = ca.map_err(|e| failure(e.to_string(), "check session.ca_file".to_owned()))?;
        let root_ca_pem = ca.clone().map(String::from_utf8).transpose().map_err(|_| {
            failure(
                "session.ca_file holds other bytes than text".to_owned(),
                "write certificates in PEM into session.ca_file".to_owned(),
            )
        })?;
        let now = clock.now().map_or_else(|| clock.system(), |(now, _)| now);
        let claim = config.claim.load(who, ca.as_deref(), now).map_err(|e| {
            failure(
                format!("the claim: {e}"),
                "put the fleet's claim certificate and its key (PEM) where credentials.certificate and credentials.key say".to_owned(),
            )
        })?;
        let client = tls::Client {
            identity: Some(&claim.identity),
            roots: claim.roots.clone(),
            versions: session.tls,
            alpn: aws_iot::alpn(session.port),
        };
        let tls = client.build(clock).map_err(|e| {
            failure(
                format!("the claim: {e}"),
                "check the files in credentials.certificate and credentials.key".to_owned(),
            )
        })?;
        let filled = config
            .parameters
            .iter()
            .map(|(name, template)| template.fill(who).map(|value| (name.clone(), value)))
            .collect::<Result<_, _>>();
        let parameters = filled.map_err(|e| {
            failure(
                format!("a parameter of the template cannot be filled: {e}"),
                "change credentials.parameters, or find out why the modem does not tell".to_owned(),
            )
        })?;
        let client_id = names::client_id(who, fastrand::u16(..))
            .map_err(|e| failure(e.to_string(), "report this: it cannot happen".to_owned()))?;
        Ok(Self {
            target: Target {
                host,
                port: session.port,
                address: session.address,
                tls: Some(tls),
                within: config.within,
            },
            topics: Topics::new(&config.template),
            parameters,
            connect: Connect::new(client_id.as_str(), true, KEEP_ALIVE),
            root_ca_pem,
        })
    }

    fn failed(&self, step: Step, error: &SessionError) -> Failure {
        failure(format!("{step}: {error}"), refusal::cure(step, error, &self.topics))
    }

    fn ended(&self, error: &FleetError) -> Failure {
        match error {
            FleetError::Refused(refusal) => Failure {
                after: refusal.after(),
                ..failure(error.to_string(), refusal.cure(&self.topics))
            },
            FleetError::Unusable(request, _) => Failure {
                // By then the certificate is active and stays.
                spent: *request == names::Request::Provision,
                ..failure(
                    error.to_string(),
                    "is session.host an endpoint of AWS IoT Core? It is asked again later".to_owned(),
                )
            },
            FleetError::Internal(_) => failure(error.to_string(), "report this: it cannot happen".to_owned()),
        }
    }

    fn grant(self, asker: Asker<'_>, done: Provisioned) -> Result<Grant, Failure> {
        let client_id = match (done.thing_name.as_ref(), asker.who.imei.as_ref()) {
            (Some(name), _) => ClientId::new(name.clone()),
            (None, Some(imei)) => ClientId::from_parts(asker.auth_name, imei),
            (None, None) => ClientId::new(asker.auth_name.as_str().to_owned()),
        };
        let client_id = client_id.map_err(|e| Failure {
            spent: true,
            ..failure(
                format!("the thing that the template has made: {e}"),
                "give things other names in the template of credentials.template".to_owned(),
            )
        })?;
        tracing::info!(
            certificate = done.certificate_id.get(..8).unwrap_or_default(),
            thing = done.thing_name.as_deref().map(redact_digits),
            "AWS IoT has made a certificate for this device"
        );
        if !done.device_configuration.is_empty() {
            let names: Vec<_> = done.device_configuration.keys().map(|k| redact_digits(k)).collect();
            tracing::info!(?names, "the template's device configuration is not used");
        }
        Ok(Grant {
            host: self.target.host,
            client_id,
            material: Material::Issued {
                certificate_pem: done.certificate_pem,
                private_key_pem: done.private_key_pem,
            },
            root_ca_pem: self.root_ca_pem,
        })
    }
}

async fn converse(plan: &Plan, asker: Asker<'_>, machine: Machine) -> Result<Provisioned, Failure> {
    let mut talk = Conversation::open(&plan.target, asker.via, &plan.connect)
        .await
        .map_err(|e| plan.failed(Step::Connect, &e))?;
    let told = ask(plan, &mut talk, machine).await;
    // Also after a refusal: AWS then knows that nobody is there any more.
    talk.close().await;
    told
}

async fn ask(plan: &Plan, talk: &mut Conversation, mut machine: Machine) -> Result<Provisioned, Failure> {
    let filters = machine.filters();
    talk.subscribe(&filters.each_ref().map(String::as_str))
        .await
        .map_err(|e| plan.failed(Step::Subscribe, &e))?;
    let mut publication = machine.subscribed().map_err(|e| plan.ended(&e))?;
    loop {
        let step = Step::Ask(publication.request);
        tracing::debug!("{step}");
        let failed = |e: SessionError| plan.failed(step, &e);
        // The answer says more than an acknowledgement, and either may come first.
        talk.request(&publication.topic, &publication.payload)
            .await
            .map_err(failed)?;
        let next = talk
            .answer(plan.target.within, |m| {
                machine.received(&m.topic, &m.payload).transpose()
            })
            .await
            .map_err(failed)?
            .map_err(|e| plan.ended(&e))?;
        match next {
            Next::Publish(following) => publication = following,
            Next::Done(done) => return Ok(done),
        }
    }
}
