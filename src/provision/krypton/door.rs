//! Asking Krypton over HTTPS, through the cellular link.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Method, Url};

use super::{BODY_MAX, KryptonError, Registration, Reply};
use crate::clock::Clock;
use crate::config::agent::KryptonCloud;
use crate::link::Via;
use crate::provision::{Grant, krypton};
use crate::tls::{self, Versions};

/// How to ask.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which cloud.
    pub cloud: KryptonCloud,
    /// `https://krypton.soracom.io:8036`, or a gateway's.
    pub url: Url,
    /// Dial this instead of resolving the URL's host.
    pub address: Option<SocketAddr>,
    /// Authorities for the URL's host as PEM; `None` trusts the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Limit for each request.
    pub within: Duration,
    /// Pause between two questions about a registration.
    pub poll_every: Duration,
    /// Most questions about one registration.
    pub polls_max: u32,
}

/// So many questions about a registration in a row may go unanswered, or be answered with trouble, before it is given up.
const LOST_MAX: u32 = 2;

/// Gets credentials. Bounded: at most `polls_max` + 1 requests of `within` each.
///
/// # Errors
/// [`KryptonError`].
pub async fn fetch(settings: &Settings, via: &Via, clock: &Clock) -> Result<Grant, KryptonError> {
    let door = Door {
        client: client(settings, via, clock)?,
        settings,
    };
    match settings.cloud {
        KryptonCloud::Aws => krypton::aws_bootstrapped(&door.ask(Method::POST, krypton::AWS_BOOTSTRAP).await?),
        KryptonCloud::Azure => {
            let operation = krypton::azure_registered(&door.ask(Method::POST, krypton::AZURE_REGISTER).await?)?;
            let mut last = String::new();
            let mut lost = 0;
            for _ in 0..settings.polls_max {
                let answer = door.ask(Method::GET, &operation.path()).await;
                match answer.and_then(|reply| krypton::azure_registration(&reply)) {
                    Ok(Registration::Assigned(grant)) => return Ok(grant),
                    Ok(Registration::Pending(status)) => (last, lost) = (status, 0),
                    // The registration goes on without us: asking again is cheaper than registering again.
                    Err(KryptonError::Unreachable(_) | KryptonError::Trouble { .. }) if lost < LOST_MAX => lost += 1,
                    Err(e) => return Err(e),
                }
                tokio::time::sleep(settings.poll_every).await;
            }
            Err(KryptonError::Pending {
                status: last,
                tries: settings.polls_max,
            })
        }
    }
}

struct Door<'a> {
    client: Client,
    settings: &'a Settings,
}

impl Door<'_> {
    async fn ask(&self, method: Method, path: &str) -> Result<Reply, KryptonError> {
        let mut url = self.settings.url.clone();
        url.set_path(path);
        if let Some(address) = self.settings.address {
            // reqwest takes the port from the URL alone and ignores that of a resolved address.
            let _ = url.set_port(Some(address.port()));
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let unreachable = |e: reqwest::Error| describe(&e, &host);
        let mut request = self.client.request(method.clone(), url);
        if method == Method::POST {
            request = request.header("content-type", "application/json").body("");
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > BODY_MAX {
                return Err(KryptonError::Nonsense(format!("it is longer than {BODY_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body })
    }
}

fn client(settings: &Settings, via: &Via, clock: &Clock) -> Result<Client, KryptonError> {
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
    builder.build().map_err(|e| KryptonError::Unreachable(e.to_string()))
}

/// reqwest's own message stops at "error sending request"; the reason is further down, and TLS's is inside an [`std::io::Error`] or two,
/// which do not show it as their source.
fn describe(e: &reqwest::Error, host: &str) -> KryptonError {
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
    KryptonError::Unreachable(if e.is_timeout() {
        format!("{host} did not answer in time")
    } else {
        format!("{host}: {innermost}")
    })
}
