//! Session tickets of one identity at one server.
//!
//! rustls' own store is a map of servers with room for up to eight tickets each, which is paid for every identity of a gateway. An
//! identity that has one server needs two places: the last ticket of TLS 1.3, and the last session of TLS 1.2. One ticket is enough for
//! a device that connects, stays and comes back; a second connection at the same time makes a full handshake. A ticket of TLS 1.3
//! is given out once (RFC 8446 appendix C.4), a session of TLS 1.2 until the server refuses it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

#[derive(Debug, Default)]
struct Kept {
    hint: Option<NamedGroup>,
    tls12: Option<Box<Tls12ClientSessionValue>>,
    tls13: Option<Box<Tls13ClientSessionValue>>,
}

/// What one identity remembers of one server. The server's name is not looked at: whoever makes this has one server only.
#[derive(Debug, Default)]
pub(super) struct OneServer(Mutex<Kept>);

impl OneServer {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for OneServer {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.kept().hint = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().hint
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept().tls12 = Some(Box::new(value));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept().tls12.as_deref().cloned()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.kept().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept().tls13 = Some(Box::new(value));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept().tls13.take().map(|boxed| *boxed)
    }
}
