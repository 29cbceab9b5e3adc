//! HTTPS to a provisioning service (DPS, both of Krypton's doors): one request, one answer, both bounded. What the request and the answer
//! mean is the caller's.
//!
//! The connection goes through the link's interface, trusts only the authorities that it is given, goes to the host itself (no proxy, no
//! redirect: either would carry the device's proof of identity to somebody else), and shows a client certificate where there is one.
//! An answer's body has a limit, an answer as a whole has a time limit.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, Url};
use rustls::RootCertStore;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::link::Via;
use crate::tls::{self, Identity, TlsError, Versions};

/// How to reach a service.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Scheme, host and port; path and query come with each request.
    pub url: Url,
    /// Dial this instead of resolving the URL's host.
    pub address: Option<SocketAddr>,
    /// Whom to trust.
    pub roots: RootCertStore,
    /// Whom to be; `None` shows no certificate.
    pub identity: Option<&'a Identity>,
    /// Limit for a request with its answer.
    pub within: Duration,
    /// Largest answer that is read, in bytes.
    pub body_max: usize,
}

/// An HTTP answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// [`Retry-After`](retry_after), as the service says it: whoever waits knows how long is too long.
    pub retry_after: Option<Duration>,
    /// The body, within the limit; overwritten when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The body may hold a private key.
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// A request.
#[derive(Clone)]
pub struct Question<'a> {
    /// GET, PUT, POST.
    pub method: Method,
    /// The path.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// Further headers.
    pub headers: &'a [(&'static str, String)],
    /// The very bytes of a body in JSON, which may be none at all; `None` sends no `Content-Type` either.
    pub json: Option<Vec<u8>>,
}

impl std::fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Paths, headers and bodies hold names of subscribers and signatures.
        write!(f, "Question({})", self.method)
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date, which may be over. `now` is the time since the Unix epoch.
#[must_use]
pub fn retry_after(header: &str, now: Duration) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(header).ok()?.timestamp().as_second();
    Some(Duration::from_secs(u64::try_from(at).ok()?).saturating_sub(now))
}

/// The time for signatures and dates: the best there is, which TLS has believed already.
#[must_use]
pub fn now(clock: &Clock) -> Duration {
    clock.now().map_or_else(|| clock.system(), |(time, _)| time)
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpsError {
    /// Nothing was sent: TLS cannot be set up.
    #[error(transparent)]
    Setup(#[from] TlsError),
    /// One side refused the other in the TLS handshake.
    #[error("{what}")]
    Tls {
        /// The whole story.
        what: String,
        /// What to do.
        cure: String,
        /// It is our certificate that is refused.
        refuses_us: bool,
    },
    /// No answer in time.
    #[error("{host} did not answer within {:.1} s", within.as_secs_f32())]
    Late {
        /// Which host.
        host: String,
        /// The limit.
        within: Duration,
    },
    /// No connection, or it broke.
    #[error("{host}: {why}")]
    Broken {
        /// Which host.
        host: String,
        /// What the innermost error says.
        why: String,
    },
    /// More than anybody would send.
    #[error("the answer of {host} is longer than {most} bytes")]
    TooLong {
        /// Which host.
        host: String,
        /// The limit.
        most: usize,
    },
}

/// A service that can be asked. Keeps its connection between two requests.
#[derive(Debug)]
pub struct Https {
    client: Client,
    base: Url,
    host: String,
    within: Duration,
    body_max: usize,
    clock: Clock,
}

impl Https {
    /// Sets everything up; nothing is sent yet.
    ///
    /// # Errors
    /// [`HttpsError::Setup`], [`HttpsError::Broken`].
    pub fn new(settings: Settings<'_>, via: &Via, clock: &Clock) -> Result<Self, HttpsError> {
        let host = settings.url.host_str().unwrap_or_default().to_owned();
        let tls = tls::Client {
            identity: settings.identity,
            roots: settings.roots,
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
        let mut base = settings.url;
        if let Some(address) = settings.address {
            builder = builder.resolve(&host, address);
            // reqwest takes the port from the URL alone and ignores that of a resolved address.
            let _ = base.set_port(Some(address.port()));
        }
        let client = builder.build().map_err(|e| HttpsError::Broken {
            host: host.clone(),
            why: e.to_string(),
        })?;
        Ok(Self {
            client,
            base,
            host,
            within: settings.within,
            body_max: settings.body_max,
            clock: clock.clone(),
        })
    }

    /// Sends a request and reads the answer; an error status is an answer.
    ///
    /// # Errors
    /// [`HttpsError`]: no whole answer came.
    pub async fn ask(&self, question: Question<'_>) -> Result<Answer, HttpsError> {
        let mut url = self.base.clone();
        url.set_path(question.path);
        url.set_query(question.query);
        let mut request = self.client.request(question.method, url);
        for (name, value) in question.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = question.json {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let failed = |e: reqwest::Error| self.describe(&e);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let retry_after = after.and_then(|text| retry_after(text, now(&self.clock)));
        // Never grows: no copy of a key stays behind.
        let mut body = Zeroizing::new(Vec::with_capacity(self.body_max));
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.body_max {
                return Err(HttpsError::TooLong {
                    host: self.host.clone(),
                    most: self.body_max,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            retry_after,
            body,
        })
    }

    /// reqwest's own message stops at "error sending request"; the reason is further down, and TLS's is inside an
    /// [`std::io::Error`] or two, which do not show it as their source.
    fn describe(&self, e: &reqwest::Error) -> HttpsError {
        let host = self.host.clone();
        let mut innermost: &(dyn std::error::Error + 'static) = e;
        loop {
            if let Some(tls) = innermost.downcast_ref::<rustls::Error>() {
                let (what, cure) = tls::explain(tls, &host);
                let refuses_us = tls::refuses_our_certificate(tls);
                return HttpsError::Tls { what, cure, refuses_us };
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
        if e.is_timeout() {
            let within = self.within;
            HttpsError::Late { host, within }
        } else {
            let why = innermost.to_string();
            HttpsError::Broken { host, why }
        }
    }
}

#[cfg(test)]
mod tests;
