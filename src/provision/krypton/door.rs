//! HTTPS to either door, along the way out that the asker has: [`crate::provision::https`] in Krypton's words. Knows nothing of what is
//! asked.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Url;

use super::error::KryptonError;
use super::operation::{Method, Request};
use super::reply::{BODY_MAX, RETRY_AFTER_MAX, Reply};
use crate::clock::Clock;
use crate::config::agent::KryptonAuth;
use crate::link::Via;
use crate::provision::https::{self, Https, HttpsError, Question};
use crate::tls;

/// Where to ask.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which door it is.
    pub door: KryptonAuth,
    /// `https://krypton.soracom.io:8036`, `https://g.api.soracom.io`, or a stand-in's.
    pub url: Url,
    /// Dial this instead of resolving the URL's host.
    pub address: Option<SocketAddr>,
    /// Authorities for the URL's host as PEM; `None` trusts the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Limit for each request.
    pub within: Duration,
}

/// A client for one door.
#[derive(Debug)]
pub struct Door {
    https: Https,
    which: KryptonAuth,
    endpoint: String,
}

impl Door {
    /// Sets TLS up; nothing is sent.
    ///
    /// # Errors
    /// [`KryptonError`], when TLS cannot be set up.
    pub fn new(settings: Settings, via: &Via, clock: &Clock) -> Result<Self, KryptonError> {
        let roots = match &settings.ca_pem {
            Some(pem) => tls::roots(pem, "credentials.ca_file"),
            None => tls::system_roots(),
        };
        let endpoint = settings.url.origin().ascii_serialization();
        let which = settings.door;
        let settings = https::Settings {
            url: settings.url,
            address: settings.address,
            roots: roots.map_err(KryptonError::Setup)?,
            identity: None,
            within: settings.within,
            body_max: BODY_MAX,
        };
        Ok(Self {
            https: Https::new(settings, via, clock).map_err(|e| unanswered(e, which))?,
            which,
            endpoint,
        })
    }

    /// Which door it is.
    #[must_use]
    pub fn which(&self) -> KryptonAuth {
        self.which
    }

    /// Scheme and host of the service.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Asks once. Within the time limit of the settings, and for at most [`BODY_MAX`] bytes.
    ///
    /// # Errors
    /// [`KryptonError`], when no whole answer came; an error status is an answer.
    pub async fn ask(&self, request: &Request) -> Result<Reply, KryptonError> {
        let mut headers = request.headers.clone();
        headers.push(("x-soracom-lang", "en".to_owned()));
        let (method, json) = match request.method {
            Method::Get => (reqwest::Method::GET, None),
            Method::Post => (reqwest::Method::POST, Some(request.body.clone())),
        };
        let question = Question {
            method,
            path: &request.path,
            query: None,
            headers: &headers,
            json,
        };
        let answer = self.https.ask(question).await;
        let answer = answer.map_err(|e| unanswered(e, self.which))?;
        Ok(Reply {
            status: answer.status,
            retry_after: answer.retry_after.map(|after| after.min(RETRY_AFTER_MAX)),
            body: answer.body,
        })
    }
}

fn unanswered(e: HttpsError, door: KryptonAuth) -> KryptonError {
    let what = e.to_string();
    match e {
        HttpsError::Setup(e) => KryptonError::Setup(e),
        HttpsError::TooLong { most, .. } => KryptonError::Nonsense(format!("it is longer than {most} bytes")),
        HttpsError::Tls { cure, .. } => KryptonError::Tls {
            what,
            cure: format!("{cure} (credentials.url, credentials.ca_file)"),
        },
        HttpsError::Late { .. } | HttpsError::Broken { .. } => KryptonError::Unreachable { what, door },
    }
}
