//! Server certificates that are wrong on demand, for one connection at a time: a copy of the door's TLS configuration with another
//! certificate or another idea of the time, and without resumption, which would show no certificate at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use super::authority::{AuthorityError, Ca, DEVICE_VALIDITY};
use super::fault::CertificateFault;
use crate::clock::Clock;

/// When client certificates are to count as expired, the stand-in looks at them from this far ahead: beyond the validity of any device
/// certificate that the bench makes, and within its authority's.
pub(crate) const CLIENTS_EXPIRE_AFTER: Duration = Duration::from_secs(DEVICE_VALIDITY.as_secs() + 86_400);
/// The name in a certificate for another host (RFC 2606 section 2 keeps it free).
const OTHER_NAME: &str = "other.invalid";

type Key = (Option<CertificateFault>, bool);

/// What a door can put on.
#[derive(Debug)]
pub(crate) struct Wardrobe {
    ca: Arc<Ca>,
    clock: Clock,
    names: Vec<String>,
    made: Mutex<HashMap<Key, Arc<ServerConfig>>>,
}

#[derive(Debug)]
struct Ahead(Clock);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = self.0.current_time()?;
        let ahead = Duration::from_secs(now.as_secs()) + CLIENTS_EXPIRE_AFTER;
        Some(UnixTime::since_unix_epoch(ahead))
    }
}

impl Wardrobe {
    /// `names` are those of the door's own certificate.
    pub(crate) fn new(ca: Arc<Ca>, clock: Clock, names: Vec<String>) -> Self {
        Self {
            ca,
            clock,
            names,
            made: Mutex::default(),
        }
    }

    /// The door's own configuration, or a wrong one.
    pub(crate) fn dress(
        &self,
        own: &Arc<ServerConfig>,
        fault: Option<CertificateFault>,
        clients_expired: bool,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        if fault.is_none() && !clients_expired {
            return Ok(Arc::clone(own));
        }
        let key = (fault, clients_expired);
        // At most as many as there are faults, made once each.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(&key) {
            return Ok(Arc::clone(config));
        }
        let mut config = ServerConfig::clone(own);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if clients_expired {
            config.time_provider = Arc::new(Ahead(self.clock.clone()));
        }
        if let Some(fault) = fault {
            let identity = match fault {
                CertificateFault::WrongName => self.ca.server(vec![OTHER_NAME.to_owned()])?,
                CertificateFault::UnknownAuthority => self.ca.stranger(self.names.clone())?,
                CertificateFault::Expired => self.ca.server_of_another_time(self.names.clone(), false)?,
                CertificateFault::NotYetValid => self.ca.server_of_another_time(self.names.clone(), true)?,
                CertificateFault::Clients => self.ca.server(self.names.clone())?,
            };
            config.cert_resolver = identity.resolver();
        }
        let config = Arc::new(config);
        made.insert(key, Arc::clone(&config));
        Ok(config)
    }
}
