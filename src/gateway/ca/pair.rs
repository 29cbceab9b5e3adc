//! A certificate and its key in files: `NAME.key`, `NAME.leaf.pem`, `NAME.pem`, written in this order.
//!
//! `NAME.pem` comes last, so where it is the others are. A run that was killed between them is taken up: a key without a certificate
//! gets one. What is whole, of this authority and for these names is kept; what does not fit is told and not touched, because a key cannot
//! be brought back.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place::{taken, text, write};
use crate::clock::rfc3339;
use crate::files::{PUBLIC, SECRET};
use crate::pki::{Issued, KeyKind, Purpose, Signer, Validity};
use crate::tls::{Identity, Leaf, Pem, Traits, certificates};

/// Where a pair is.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) chain: PathBuf,
    pub(super) leaf: PathBuf,
    pub(super) key: PathBuf,
}

/// What was done about a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Issued,
    Renewed,
    Kept,
    Unusable,
}

impl Done {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Renewed => "renewed",
            Self::Kept => "kept",
            Self::Unusable => "unusable",
        }
    }
}

/// What is to be made.
pub(super) struct Order<'a> {
    pub(super) signer: &'a Signer,
    pub(super) common_name: &'a str,
    pub(super) purpose: &'a Purpose,
    pub(super) validity: Validity,
    pub(super) kind: KeyKind,
    pub(super) renew: bool,
    pub(super) now: Duration,
}

impl Pair {
    pub(super) fn at(directory: &Path, name: &str) -> Self {
        let file = |suffix: &str| directory.join(format!("{name}.{suffix}"));
        Self {
            chain: file("pem"),
            leaf: file("leaf.pem"),
            key: file("key"),
        }
    }

    /// Makes what is not there; answers what was done and what is to be said about it.
    pub(super) fn make(&self, order: &Order<'_>) -> anyhow::Result<(Done, Option<String>)> {
        let Order {
            signer,
            common_name,
            purpose,
            validity,
            kind,
            ..
        } = *order;
        match (taken(&self.chain), taken(&self.key)) {
            (true, _) if !order.renew => self.judge(order),
            (false, true) => {
                // A run that was killed, or a key that somebody put here: it gets its certificate and stays.
                let key = text(&self.key)?;
                self.write(&signer.issue_for(common_name, purpose, validity, &key)?, false)?;
                let note = format!("{} was there without a certificate and was used", self.key.display());
                Ok((Done::Issued, Some(note)))
            }
            (there, _) => {
                self.write(&signer.issue(common_name, purpose, validity, kind)?, true)?;
                Ok((if there { Done::Renewed } else { Done::Issued }, None))
            }
        }
    }

    fn write(&self, issued: &Issued, with_key: bool) -> anyhow::Result<()> {
        if with_key {
            write(&self.key, &issued.key_pem, SECRET)?;
        }
        write(&self.leaf, &issued.leaf_pem, PUBLIC)?;
        write(&self.chain, &issued.chain_pem, PUBLIC)
    }

    fn judge(&self, order: &Order<'_>) -> anyhow::Result<(Done, Option<String>)> {
        let unusable = |why: String| Ok((Done::Unusable, Some(format!("{why}; --renew replaces both"))));
        if let Some(why) = self.strange(order)? {
            return unusable(why);
        }
        if !taken(&self.key) {
            let note = format!("{} is not there: the device has it, or it is lost", self.key.display());
            return Ok((Done::Kept, Some(note)));
        }
        let (chain, key) = (text(&self.chain)?, text(&self.key)?);
        let (from, key_from) = (self.chain.display().to_string(), self.key.display().to_string());
        let pair = Identity::of(
            Pem {
                text: chain.as_bytes(),
                from: &from,
            },
            Pem {
                text: key.as_bytes(),
                from: &key_from,
            },
        );
        match pair {
            Err(e) => unusable(e.what()),
            Ok(identity) if order.now > identity.leaf.not_after => {
                unusable(format!("{from} expired on {}", rfc3339(identity.leaf.not_after)))
            }
            Ok(_) => Ok((Done::Kept, None)),
        }
    }

    /// Why the certificate that is there is not the one that is ordered: another authority's, for another name, for something else.
    fn strange(&self, order: &Order<'_>) -> anyhow::Result<Option<String>> {
        let (pem, from) = (text(&self.chain)?, self.chain.display().to_string());
        let ours = certificates(order.signer.pem().as_bytes(), "the signer")?;
        // What cannot be read is told by whoever reads it with its key.
        let Ok(chain) = certificates(pem.as_bytes(), &from) else {
            return Ok(None);
        };
        let Some(leaf) = chain.first() else { return Ok(None) };
        if !chain.iter().skip(1).any(|c| ours.first() == Some(c)) {
            return Ok(Some(format!("{from} is of another authority")));
        }
        let (read, traits) = (Leaf::read(leaf, &from)?, Traits::read(leaf, &from)?);
        let name = read.common_name.unwrap_or_default();
        if name != order.common_name {
            return Ok(Some(format!("{from} is for {name:?}")));
        }
        Ok(match order.purpose {
            Purpose::Server(wanted) => {
                let there = |wanted: &String| traits.names.iter().any(|n| same_name(n, wanted));
                let lacking = wanted.iter().find(|w| !there(w));
                lacking.map(|name| format!("{from} is not for {name}"))
            }
            Purpose::Device => traits
                .unfit
                .map(|_| format!("{from} is a server's certificate, not a device's")),
            Purpose::Proof => None,
        })
    }
}

/// Host names do not depend on case, and addresses have several spellings.
fn same_name(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}
