//! HTTPS to either door, along the way out that the asker has. Knows nothing of what is asked.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url};
use zeroize::Zeroizing;

use super::error::KryptonError;
use super::operation::{Method, Request};
use super::reply::{BODY_MAX, Reply, retry_after};
use crate::clock::Clock;
use crate::config::agent::KryptonAuth;
use crate::link::Via;
use crate::tls::{self, Versions};

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

/// A client for one door. Redirects are not followed, proxies not asked.
#[derive(Debug)]
pub struct Door {
    client: Client,
    settings: Settings,
    clock: Clock,
}

/// The time for signatures and dates: the best there is, which TLS has believed already.
pub(super) fn now(clock: &Clock) -> Duration {
    clock.now().map_or_else(|| clock.system(), |(time, _)| time)
}

impl Door {
    /// Sets TLS up; nothing is sent.
    ///
    /// # Errors
    /// [`KryptonError`], when TLS cannot be set up.
    pub fn new(settings: Settings, via: &Via, clock: &Clock) -> Result<Self, KryptonError> {
        let roots = match &settings.ca_pem {
            Some(pem) => tls::roots(pem, "credentials.ca_file")?,
            None => tls::system_roots()?,
        };
        let tls = tls::Client {
            identity: None,
            roots,
            versions: Versions::Both,
            alpn: &["http/1.1"],
        }
        .build(clock)?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.within)
            .timeout(settings.within)
            .user_agent(concat!("onyx-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(interface) = &via.interface {
            builder = builder.interface(interface);
        }
        if let (Some(address), Some(host)) = (settings.address, settings.url.host_str()) {
            builder = builder.resolve(host, address);
        }
        let client = builder.build().map_err(|e| KryptonError::Unreachable {
            what: e.to_string(),
            door: settings.door,
        })?;
        Ok(Self {
            client,
            settings,
            clock: clock.clone(),
        })
    }

    /// Which door it is.
    #[must_use]
    pub fn which(&self) -> KryptonAuth {
        self.settings.door
    }

    /// Scheme and host of the service.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.settings.url.origin().ascii_serialization()
    }

    /// Asks once. Within the time limit of the settings, and for at most [`BODY_MAX`] bytes.
    ///
    /// # Errors
    /// [`KryptonError`], when no whole answer came; an error status is an answer.
    pub async fn ask(&self, request: &Request) -> Result<Reply, KryptonError> {
        let mut url = self.settings.url.clone();
        url.set_path(&request.path);
        if let Some(address) = self.settings.address {
            // reqwest takes the port from the URL alone and ignores that of a resolved address.
            let _ = url.set_port(Some(address.port()));
        }
        let mut asked = match request.method {
            Method::Get => self.client.get(url),
            Method::Post => self
                .client
                .post(url)
                .header("content-type", "application/json")
                .body(request.body.clone()),
        };
        asked = asked.header("x-soracom-lang", "en");
        for (name, value) in &request.headers {
            asked = asked.header(*name, value);
        }
        let mut response = asked.send().await.map_err(|e| self.describe(&e))?;
        let status = response.status().as_u16();
        let retry_after = self.retry_after(&response);
        // Never grows: no copy of a key stays behind.
        let mut body = Zeroizing::new(Vec::with_capacity(BODY_MAX));
        while let Some(chunk) = response.chunk().await.map_err(|e| self.describe(&e))? {
            if body.len() + chunk.len() > BODY_MAX {
                return Err(KryptonError::Nonsense(format!("it is longer than {BODY_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply {
            status,
            retry_after,
            body,
        })
    }

    fn retry_after(&self, response: &Response) -> Option<Duration> {
        let header = response.headers().get(RETRY_AFTER).map(HeaderValue::to_str)?;
        retry_after(header.ok()?, now(&self.clock))
    }

    /// reqwest's own message stops at "error sending request"; the reason is further down, and TLS's is inside an [`std::io::Error`] or two,
    /// which do not show it as their source.
    fn describe(&self, e: &reqwest::Error) -> KryptonError {
        let host = self.settings.url.host_str().unwrap_or_default();
        let mut innermost: &(dyn std::error::Error + 'static) = e;
        loop {
            if let Some(tls) = innermost.downcast_ref::<rustls::Error>() {
                let (what, cure) = tls::explain(tls, host);
                let cure = format!("{cure} (credentials.url, credentials.ca_file)");
                return KryptonError::Tls { what, cure };
            }
            let inside = innermost
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
                .map(|i| i as &(dyn std::error::Error + 'static));
            match inside.or_else(|| innermost.source()) {
                Some(next) => innermost = next,
                None => break,
            }
        }
        let what = if e.is_timeout() {
            format!("{host} did not answer in time")
        } else {
            format!("{host}: {innermost}")
        };
        KryptonError::Unreachable {
            what,
            door: self.settings.door,
        }
    }
}
