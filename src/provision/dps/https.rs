//! Asking DPS over HTTPS, port 443 (DPS documentation, "Use X.509 certificates over HTTPS").

use reqwest::{Method, Url};
use rustls::RootCertStore;

use super::error::DpsError;
use super::name::RegistrationId;
use super::registration::Ask;
use super::reply::{BODY_MAX, Reply};
use super::{API_VERSION_CSR, DpsService};
use crate::clock::Clock;
use crate::link::Via;
use crate::provision::https::{Https, HttpsError, Question, Settings};
use crate::tls::Identity;

/// As azure-iot-sdk-c and iot-identity-service have it.
const API_VERSION: &str = "2021-06-01";

/// The service over HTTPS, on behalf of one device.
pub(super) struct Door {
    https: Https,
    /// `/{id scope}/registrations/{registration id}`
    path: String,
    query: String,
    body: Vec<u8>,
}

impl Door {
    pub(super) fn new(
        config: &DpsService,
        id: &RegistrationId,
        identity: &Identity,
        roots: RootCertStore,
        body: Vec<u8>,
        via: &Via,
        clock: &Clock,
    ) -> Result<Self, DpsError> {
        // An IPv6 address is written in brackets there.
        let host = match config.host.parse::<std::net::Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => config.host.clone(),
        };
        let url = Url::parse(&format!("https://{host}")).map_err(|e| DpsError::Here(format!("{host:?}: {e}")))?;
        let settings = Settings {
            url,
            address: config.address,
            roots,
            identity: Some(identity),
            within: config.patience.within,
            body_max: BODY_MAX,
        };
        Ok(Self {
            https: Https::new(settings, via, clock).map_err(unanswered)?,
            path: format!("/{}/registrations/{}", config.id_scope, id.as_str()),
            query: format!("api-version={}", if config.csr { API_VERSION_CSR } else { API_VERSION }),
            body,
        })
    }

    pub(super) async fn ask(&self, ask: &Ask) -> Result<Reply, DpsError> {
        let (method, path, body) = match ask {
            Ask::Register => (Method::PUT, format!("{}/register", self.path), Some(self.body.clone())),
            Ask::Poll(operation) => (
                Method::GET,
                format!("{}/operations/{}", self.path, operation.as_str()),
                None,
            ),
        };
        let question = Question {
            method,
            path: &path,
            query: Some(&self.query),
            headers: &[],
            json: body,
        };
        let mut answer = self.https.ask(question).await.map_err(unanswered)?;
        Ok(Reply {
            status: answer.status,
            retry_after: answer.retry_after,
            // Nothing that DPS says is secret.
            body: std::mem::take(&mut *answer.body),
        })
    }
}

fn unanswered(e: HttpsError) -> DpsError {
    let what = e.to_string();
    match e {
        HttpsError::Setup(e) => DpsError::Setup(e),
        HttpsError::TooLong { .. } => DpsError::Nonsense(what),
        HttpsError::Tls { refuses_us: true, .. } => DpsError::NotLetIn(what),
        HttpsError::Tls { cure, .. } => DpsError::Unreachable {
            what,
            cure: format!("{cure} (credentials.host, credentials.ca_file)"),
            passing: false,
        },
        HttpsError::Late { .. } | HttpsError::Broken { .. } => DpsError::Unreachable {
            what,
            cure: "check credentials.host, the DNS of the link, and that port 443 is not blocked".into(),
            passing: true,
        },
    }
}
