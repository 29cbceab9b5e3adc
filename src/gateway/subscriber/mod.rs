//! Who is calling? A device is known by a token in its MQTT password, by its certificate on the door with TLS, or by the address it
//! calls from. [`Directory::find`] decides, by these rules, in order:
//!
//! 1. If the password is somebody's token, the device is that subscriber.
//! 2. Otherwise, if it has shown a certificate (which the door has verified): the subscriber to whom exactly this certificate is pinned, or
//!    else the one whose IMSI stands in its common name as `listen.tls.name` says. Whoever has a certificate pinned is known by no other one.
//! 3. Otherwise the subscriber with neither token nor pinned certificate whose source holds the address; the longest prefix wins.
//! 4. Otherwise nobody knows the device.
//!
//! Then, whichever rule it was:
//! - a subscriber with a source must call from there (a token or key that was carried off is of no use elsewhere);
//! - it must be enabled;
//! - with an IMEI lock, the client id must be the IMEI or end in `-<IMEI>`, as the agent names itself (SORACOM's Event Grid guide builds it so).
//!
//! A password that is no token, and a certificate of nobody here, do not harm rule 3: the one may be a login for the cloud
//! (`pass_login`), the other an authority's certificate for another purpose.
//!
//! Tokens are found by a keyed digest in a hash map, not compared one after another: the cost of a connect does not grow with the
//! fleet, and the time a look-up takes tells nothing, for nobody outside can choose a digest without the key. Pure but for [`Token::read`].
//!
//! | file | subject |
//! |---|---|
//! | `directory` | everybody, and who of them is calling |
//! | `prefix` | addresses and ranges of them |
//! | `token` | token files, digests |
//! | `certificate` | what a device's certificate says, fingerprints |

mod certificate;
mod directory;
mod prefix;
mod token;

use std::net::IpAddr;

pub use certificate::{PeerCertificate, fingerprint};
pub use directory::Directory;
pub use prefix::Prefix;
pub use token::{Digester, TOKEN_MAX, TOKEN_MIN, Token, TokenError};

use super::group::GroupId;
use super::store::{Fingerprint, TokenDigest};
use crate::identity::{Imei, Subscriber};

/// A device's secret as its book keeps it.
#[derive(Debug, Clone)]
pub enum Secret {
    /// The token itself, from a file.
    Token(Token),
    /// A digest, from a store; made by the [`Digester`] that the directory is built with.
    Digest(TokenDigest),
}

/// One subscriber and how it is recognised.
#[derive(Debug, Clone)]
pub struct Known {
    /// The SIM (and modem, and card) behind the device.
    pub subscriber: Subscriber,
    /// Its group.
    pub group: GroupId,
    /// Whether it may connect.
    pub enabled: bool,
    /// Whether only the subscriber's modem may use the SIM.
    pub imei_lock: bool,
    /// Where it calls from, if that is told.
    pub source: Option<Prefix>,
    /// Its secret, if it has one.
    pub token: Option<Secret>,
    /// The one certificate it may show, if one is pinned.
    pub certificate: Option<Fingerprint>,
}

/// How a device was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By its address alone.
    Source,
    /// By its token; the password has done its work and goes no further.
    Token,
    /// By its certificate on the door with TLS.
    Certificate,
}

/// What a device has shown of itself.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Where it calls from.
    pub address: IpAddr,
    /// The password of its CONNECT.
    pub password: Option<&'a [u8]>,
    /// The client id of its CONNECT.
    pub client_id: &'a str,
    /// Its certificate; the door has verified that it leads to an authority of `listen.tls.client_ca`, and that it has the key.
    pub certificate: Option<&'a PeerCertificate>,
}

/// Why a device is not let in.
#[derive(Debug, Clone, Copy)]
pub enum Unknown<'a> {
    /// It is nobody here, or shows somebody's token or certificate from a place where that one is not.
    Nobody,
    /// This subscriber, who may not connect.
    Disabled(&'a Known),
    /// This subscriber's SIM in another modem.
    Imei(&'a Known),
}

/// Why somebody who is connected may not be any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bar {
    /// There is no such subscriber any more.
    #[error("the subscriber was removed while it was connected")]
    Removed,
    /// It is not enabled any more.
    #[error("the subscriber was deactivated while it was connected")]
    Disabled,
    /// It is locked to another modem than the one that is connected.
    #[error("the subscriber was locked to another IMEI while it was connected")]
    Locked,
}

/// Digits of an IMEI (3GPP TS 23.003 section 6.2.1).
const IMEI_DIGITS: usize = 15;

/// The modem that a client id names: it is its IMEI or ends in `-<IMEI>`.
#[must_use]
pub fn modem_of(client_id: &str) -> Option<Imei> {
    let (rest, imei) = client_id.split_at_checked(client_id.len().checked_sub(IMEI_DIGITS)?)?;
    (rest.is_empty() || rest.ends_with('-')).then(|| imei.parse().ok())?
}

/// Whether a client id says that it is the modem of this subscriber.
fn is_of(client_id: &str, known: &Known) -> bool {
    known.subscriber.imei.is_some() && modem_of(client_id) == known.subscriber.imei
}

#[cfg(test)]
mod tests;
