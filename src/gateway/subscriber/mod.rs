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
//! | `prefix` | addresses and ranges of them |
//! | `token` | token files, digests |
//! | `certificate` | what a device's certificate says, fingerprints |

mod certificate;
mod prefix;
mod token;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

pub use certificate::{PeerCertificate, fingerprint};
pub use prefix::Prefix;
use prefix::{masked, width};
pub use token::{Digester, TOKEN_MAX, TOKEN_MIN, Token, TokenError};

use super::group::GroupId;
use super::store::{Fingerprint, TokenDigest};
use crate::identity::{Imsi, Subscriber};

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

/// Everybody who may connect.
#[derive(Debug)]
pub struct Directory {
    all: Vec<Known>,
    digester: Digester,
    by_token: HashMap<TokenDigest, usize>,
    by_certificate: HashMap<Fingerprint, usize>,
    by_imsi: HashMap<Imsi, usize>,
    by_source: HashMap<(IpAddr, u8), usize>,
    /// Prefix lengths in use, longest first.
    lengths: Vec<u8>,
}

impl Default for Directory {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Directory {
    /// Builds the index, with digests under a key of this process's own. Where two subscribers without token share a source (or two share
    /// a token or certificate), the first is found; the configuration and the store refuse that.
    #[must_use]
    pub fn new(all: Vec<Known>) -> Self {
        Self::with(all, Digester::of_this_process())
    }

    /// Builds the index with the digests of a store.
    #[must_use]
    pub fn with(all: Vec<Known>, digester: Digester) -> Self {
        let (mut by_token, mut by_certificate) = (HashMap::new(), HashMap::new());
        let (mut by_imsi, mut by_source) = (HashMap::new(), HashMap::new());
        let mut lengths = BTreeSet::new();
        for (index, known) in all.iter().enumerate() {
            by_imsi.entry(known.subscriber.imsi.clone()).or_insert(index);
            match &known.token {
                Some(Secret::Token(token)) => {
                    by_token.entry(digester.digest(token.secret())).or_insert(index);
                }
                Some(Secret::Digest(digest)) => {
                    by_token.entry(digest.clone()).or_insert(index);
                }
                None => {}
            }
            if let Some(pinned) = known.certificate {
                by_certificate.entry(pinned).or_insert(index);
            }
            if let (None, None, Some(p)) = (&known.token, known.certificate, known.source) {
                by_source.entry((p.address, p.length)).or_insert(index);
                lengths.insert(p.length);
            }
        }
        Self {
            all,
            digester,
            by_token,
            by_certificate,
            by_imsi,
            by_source,
            lengths: lengths.into_iter().rev().collect(),
        }
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody may connect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.all.iter()
    }

    /// The subscriber with this SIM.
    #[must_use]
    pub fn of_imsi(&self, imsi: &Imsi) -> Option<&Known> {
        self.all.get(*self.by_imsi.get(imsi)?)
    }

    /// The subscriber behind a caller, by the rules of this module.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn find(&self, caller: &Caller<'_>) -> Result<(&Known, By), Unknown<'_>> {
        let address = caller.address.to_canonical();
        let found = self.recognise(caller, address);
        let (known, by) = found
            .and_then(|(i, by)| Some((self.all.get(i)?, by)))
            .ok_or(Unknown::Nobody)?;
        if known.source.is_some_and(|s| !s.contains(address)) {
            return Err(Unknown::Nobody);
        }
        if !known.enabled {
            return Err(Unknown::Disabled(known));
        }
        if known.imei_lock && !is_of(caller.client_id, known) {
            return Err(Unknown::Imei(known));
        }
        Ok((known, by))
    }

    /// Rules 1 to 3.
    fn recognise(&self, caller: &Caller<'_>, address: IpAddr) -> Option<(usize, By)> {
        let token = caller.password.filter(|p| (TOKEN_MIN..=TOKEN_MAX).contains(&p.len()));
        if let Some(index) = token.and_then(|t| self.by_token.get(&self.digester.digest(t))) {
            return Some((*index, By::Token));
        }
        if let Some(index) = caller.certificate.and_then(|c| self.certified(c)) {
            return Some((index, By::Certificate));
        }
        self.lengths
            .iter()
            .filter(|l| **l <= width(address))
            .find_map(|l| self.by_source.get(&(masked(address, *l), *l)))
            .map(|i| (*i, By::Source))
    }

    fn certified(&self, certificate: &PeerCertificate) -> Option<usize> {
        if let Some(index) = self.by_certificate.get(&certificate.fingerprint) {
            return Some(*index);
        }
        let index = *self.by_imsi.get(certificate.imsi.as_ref()?)?;
        self.all.get(index)?.certificate.is_none().then_some(index)
    }
}

/// Whether a client id says that it is the modem of this subscriber.
fn is_of(client_id: &str, known: &Known) -> bool {
    let Some(imei) = &known.subscriber.imei else {
        return false;
    };
    client_id
        .strip_suffix(imei.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('-'))
}

#[cfg(test)]
mod tests;
