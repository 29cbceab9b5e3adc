//! From credentials and configuration to an [`Endpoint`]: names, trust and limits, put together once for each set of credentials, so
//! that TLS sessions can be resumed. Reads small files: not for async threads.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::fault::Fault;
use super::keeper::Which;
use super::ladder::Rung;
use crate::clock::{self, Clock};
use crate::cloud::{Kind, Names, aws_iot, beam, event_grid, iot_hub};
use crate::config::agent::AgentConfig;
use crate::identity::{AuthName, ClientId, Subscriber};
use crate::provision::Credentials;
use crate::provision::operator::{FilesError, read_limited};
use crate::session::Endpoint;
use crate::tls;

/// Largest packet that is taken from a broker, in bytes: the largest message of the three clouds (Event Grid, 512 KiB) and its header.
const PACKET_MAX: usize = 513 * 1024;

/// Everything a session needs.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) endpoint: Endpoint,
    pub(super) credentials: Option<Credentials>,
    pub(super) which: Which,
    /// Where they are kept, if they are.
    pub(super) directory: Option<PathBuf>,
}

impl Ready {
    /// Puts it together.
    pub(super) fn new(
        all: &AgentConfig,
        clock: &Clock,
        who: &Subscriber,
        credentials: Option<Credentials>,
        which: Which,
    ) -> Result<Self, Fault> {
        let config = &all.session;
        let fault = |cause: String, cure: &str| Fault::new(Rung::Credentials, cause, cure);
        let names = names(all, who, credentials.as_ref())?;
        let host = config
            .host
            .clone()
            .or_else(|| credentials.as_ref().and_then(|c| c.host.clone()))
            .ok_or_else(|| fault("nobody says which host to connect to".into(), "set session.host"))?;
        let tls = match &credentials {
            None => None,
            Some(c) => {
                let roots = match session_ca(all)? {
                    Some(pem) => tls::roots(&pem, "session.ca_file")
                        .map_err(|e| fault(e.to_string(), "check session.ca_file"))?,
                    None => c.roots.clone(),
                };
                let client = tls::Client {
                    identity: Some(&c.identity),
                    roots,
                    versions: config.tls,
                    alpn: match config.to {
                        Kind::AwsIot => aws_iot::alpn(config.port),
                        _ => &[],
                    },
                };
                let built = client.build(clock);
                Some(built.map_err(|e| fault(e.to_string(), "check the files of the credentials"))?)
            }
        };
        let password = config
            .password_file
            .as_deref()
            .map(|path| read_limited(path).map(|p| Zeroizing::new(p.trim_ascii().to_vec())))
            .transpose()
            .map_err(|e| fault(e.to_string(), "check session.password_file"))?;
        Ok(Self {
            endpoint: Endpoint {
                host,
                port: config.port,
                address: config.address,
                tls,
                names,
                password,
                keep_alive: config.keep_alive,
                clean_session: config.clean,
                connect_within: config.connect_within,
                answer_within: config.answer_within,
                window: all.delivery.window,
                rate: config.to.limits().rate,
                packet_max: PACKET_MAX,
            },
            credentials,
            which,
            directory: None,
        })
    }

    /// The credentials rung's words.
    pub(super) fn describe(&self) -> String {
        let Some(c) = &self.credentials else {
            return "none needed: the gateway adds them".to_owned();
        };
        let leaf = &c.identity.leaf;
        format!(
            "{}certificate of {}, valid until {}{}",
            match self.which {
                Which::Candidate => "new, not proven yet: ",
                Which::Memory => "not stored: ",
                Which::Given | Which::Current => "",
            },
            leaf.common_name
                .as_deref()
                .map_or_else(|| "an unnamed subject".to_owned(), crate::identity::redact_digits),
            clock::rfc3339(leaf.not_after),
            if leaf.is_v1 {
                "; it is X.509 version 1: sign it with extensions (openssl x509 -req … -extfile), or some servers refuse it"
            } else {
                ""
            }
        )
    }
}

/// The authorities that the operator trusts for the broker.
pub(super) fn session_ca(config: &AgentConfig) -> Result<Option<Vec<u8>>, Fault> {
    let fault = |e: FilesError| Fault::new(Rung::Credentials, e.to_string(), "check session.ca_file");
    config
        .session
        .ca_file
        .as_deref()
        .map(|path| read_limited(path).map_err(fault))
        .transpose()
}

/// The name that the certificate proves.
pub(super) fn auth_name(config: &AgentConfig, who: &Subscriber) -> Result<AuthName, Fault> {
    let fault = |e: String| Fault::new(Rung::Credentials, e, "check client_authname");
    let name = config.client_authname.fill(who).map_err(|e| fault(e.to_string()))?;
    AuthName::new(name).map_err(|e| fault(e.to_string()))
}

/// The names for CONNECT, by the rules of the broker.
pub(super) fn names(config: &AgentConfig, who: &Subscriber, credentials: Option<&Credentials>) -> Result<Names, Fault> {
    let fault = |e: String| Fault::new(Rung::Credentials, e, "check client_authname and delivery.topic");
    let auth_name = auth_name(config, who)?;
    let imei = who
        .imei
        .as_ref()
        .ok_or_else(|| fault("the modem's IMEI is not known".to_owned()))?;
    let own = ClientId::from_parts(&auth_name, imei).map_err(|e| fault(e.to_string()))?;
    let given = credentials.and_then(|c| c.client_id.clone());
    let topic = config.delivery.topic.clone();
    let session = &config.session;
    let names = match session.to {
        Kind::EventGrid => event_grid::names(&auth_name, own, topic),
        Kind::AwsIot => aws_iot::names(given.unwrap_or(own), topic),
        Kind::Gateway => beam::names(own, session.username.clone(), topic),
        Kind::IotHub => {
            let host = session
                .host
                .clone()
                .or_else(|| credentials.and_then(|c| c.host.clone()))
                .unwrap_or_default();
            let common_name = || credentials.and_then(|c| c.identity.leaf.common_name.clone());
            // A hub knows a device by the certificate's common name, which is also its id; Krypton says the id outright.
            let device = given
                .or_else(|| common_name().and_then(|cn| ClientId::new(cn).ok()))
                .unwrap_or(own);
            iot_hub::names(&host, device)
        }
    };
    names.map_err(|e| fault(e.to_string()))
}
