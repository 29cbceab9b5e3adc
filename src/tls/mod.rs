//! rustls set-up: the one place that knows rustls.
//!
//! - An [`Identity`] is a private key and the certificate chain that goes with it. It is checked when it is made: the key must fit one
//!   of the certificates (rustls leaves that unchecked on the path below), the others are put in order behind that one (`chain`), and
//!   what a person must know of it (common name, validity, X.509 version) is read out once.
//! - X.509 **v1** certificates: `openssl x509 -req` of OpenSSL 3.0 and 3.1 (Debian 12, Raspberry Pi OS bookworm) makes version 1
//!   leaves unless it is given extensions, and the clouds take them, but rustls' own set-up refuses to present one
//!   (`UnsupportedCertVersion`, rustls issue 2364). The chain is therefore given to rustls through a resolver, which does not parse it.
//! - The clock is ours ([`crate::clock::Clock`]), because the system clock of a Pi may be decades off at boot.
//! - One [`ClientConfig`] per identity for the life of the process: it holds the session tickets, and sharing one between identities
//!   would let one device resume another's session.
//!
//! | file | subject |
//! |---|---|
//! | `pem` | what lies in a file, also when it is something else |
//! | `key`, `certificate`, `chain`, `identity` | a key; a certificate; their order; the two together |
//! | `client`, `server`, `proven`, `resume` | configurations for rustls |
//! | `error`, `explain` | words for people |

mod certificate;
mod chain;
mod client;
mod error;
mod explain;
mod identity;
mod key;
mod pem;
mod proven;
mod resume;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use certificate::{Leaf, Traits, Unfit, certificates, roots, system_roots};
pub use chain::Repair;
pub use client::{Client, Versions, for_identity};
pub use error::TlsError;
pub use explain::{explain, refuses_our_certificate};
pub use identity::{CERTIFICATES_MAX, Identity, Pem};
pub use pem::{Found, Wanted};
pub use proven::INTERMEDIATES_MAX;
pub use server::{Clients, Server};

/// The crypto of the whole program: ring.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
