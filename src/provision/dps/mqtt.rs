//! Asking DPS over MQTT 3.1.1, port 8883 (DPS documentation, "Communicate with DPS using the MQTT protocol").
//!
//! The connection stays open between two questions; when the service has closed it meanwhile, the next question opens another. The
//! subscription comes first, or the answer to the first request could be missed: DPS keeps no session, whatever CONNECT asks for.

use std::time::Duration;

use rustls::RootCertStore;

use super::error::DpsError;
use super::name::RegistrationId;
use super::registration::{Ask, WAIT_MAX};
use super::reply::{ANSWERS, Reply};
use super::{API_VERSION_CSR, DpsConfig};
use crate::clock::Clock;
use crate::link::Via;
use crate::mqtt::{Connect, connack};
use crate::session::conversation::Conversation;
use crate::session::{Cause, SessionError, Target};
use crate::tls::{self, Identity, Versions};

/// The only port of MQTT with TLS there.
const PORT: u16 = 8883;
/// As Microsoft's documentation of the MQTT interface has it.
const API_VERSION: &str = "2019-03-31";
/// Where a device registers; the request's number follows.
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=";
/// Where a device asks; the request's number and `&operationId=…` follow.
const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=";
/// Keep-alive in seconds: no ping is sent, and no wait within a registration is longer than [`WAIT_MAX`].
const KEEP_ALIVE: u16 = 180;
const _: () = assert!(WAIT_MAX.as_secs() * 2 < KEEP_ALIVE as u64);

/// The service over MQTT, on behalf of one device.
pub(super) struct Door {
    target: Target,
    via: Via,
    connect: Connect,
    body: Vec<u8>,
    talk: Option<Conversation>,
    rid: u32,
}

impl Door {
    pub(super) fn new(
        config: &DpsConfig,
        id: &RegistrationId,
        identity: &Identity,
        roots: RootCertStore,
        body: Vec<u8>,
        via: &Via,
        clock: &Clock,
    ) -> Result<Self, DpsError> {
        let tls = tls::Client {
            identity: Some(identity),
            roots,
            versions: Versions::Both,
            alpn: &[],
        };
        let version = if config.csr { API_VERSION_CSR } else { API_VERSION };
        Ok(Self {
            target: Target {
                host: config.host.clone(),
                port: config.address.map_or(PORT, |a| a.port()),
                address: config.address,
                tls: Some(tls.build(clock)?),
                within: config.patience.within,
            },
            via: via.clone(),
            connect: Connect {
                username: Some(format!(
                    "{}/registrations/{}/api-version={version}&ClientVersion=onyx-agent%2F{}",
                    config.id_scope,
                    id.as_str(),
                    env!("CARGO_PKG_VERSION")
                )),
                ..Connect::new(id.as_str(), true, KEEP_ALIVE)
            },
            body,
            talk: None,
            rid: 0,
        })
    }

    pub(super) async fn ask(&mut self, ask: &Ask) -> Result<Reply, DpsError> {
        let mut talk = match self.talk.take() {
            Some(talk) => talk,
            None => self.open().await?,
        };
        self.rid = self.rid.wrapping_add(1);
        let asked = self.exchange(&mut talk, ask).await?;
        // A conversation that broke is not kept.
        self.talk = Some(talk);
        Ok(asked)
    }

    async fn open(&mut self) -> Result<Conversation, DpsError> {
        let open = Conversation::open(&self.target, &self.via, &self.connect);
        let mut talk = open.await.map_err(|e| unanswered(&e))?;
        let filter = format!("{ANSWERS}#");
        talk.subscribe(&[&filter]).await.map_err(|e| unanswered(&e))?;
        Ok(talk)
    }

    async fn exchange(&mut self, talk: &mut Conversation, ask: &Ask) -> Result<Reply, DpsError> {
        let rid = self.rid;
        let (topic, body): (String, &[u8]) = match ask {
            Ask::Register => (format!("{REGISTER}{rid}"), &self.body),
            Ask::Poll(operation) => (format!("{POLL}{rid}&operationId={}", operation.as_str()), b""),
        };
        talk.publish(&topic, body).await.map_err(|e| unanswered(&e))?;
        let within: Duration = self.target.within;
        let answer = async {
            loop {
                let message = talk.message(within).await.map_err(|e| unanswered(&e))?;
                // Answers to earlier questions, which came too late for them, are passed over.
                if let Some(reply) = Reply::from_mqtt(&message.topic, &message.payload, rid)? {
                    return Ok(reply);
                }
            }
        };
        tokio::time::timeout(within, answer).await.unwrap_or_else(|_| {
            Err(unanswered(&SessionError::Late {
                host: self.target.host.clone(),
                what: "answer",
                within,
            }))
        })
    }

    /// Says goodbye, if there is somebody to say it to.
    pub(super) async fn close(self) {
        if let Some(talk) = self.talk {
            talk.close().await;
        }
    }
}

/// The session's words for what went wrong, with the cures of this section of the configuration.
fn unanswered(e: &SessionError) -> DpsError {
    let what = e.to_string();
    let cause = e.cause();
    let cure = match e {
        SessionError::Tls { cure, .. } if cause == Cause::Clock => cure.clone(),
        SessionError::Tls { .. } => {
            "check credentials.host and credentials.ca_file: 'openssl s_client -connect HOST:8883 -servername HOST' shows who answers".into()
        }
        SessionError::Dial(_) => {
            "check credentials.host and the DNS of the link, and that port 8883 is not blocked: protocol = \"https\" uses port 443".into()
        }
        SessionError::NotMqtt { .. } | SessionError::NotAllowed { .. } => {
            "something else answers in DPS's place: check credentials.host".into()
        }
        _ => "DPS is in trouble or the line is: it is asked again later".into(),
    };
    match (e, cause) {
        (SessionError::Refused { code, .. }, _) if *code != connack::UNAVAILABLE => DpsError::NotLetIn(what),
        (_, Cause::Identity) => DpsError::NotLetIn(what),
        (_, cause) => DpsError::Unreachable {
            what,
            cure,
            passing: matches!(cause, Cause::Route | Cause::Broker),
        },
    }
}
