//! What works, but should be looked at.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::rfc3339;
use crate::identity::redact_digits;
use crate::tls::{Identity, Unfit};

/// A certificate with less than this left is worth a word whatever its life is.
const LEFT_MIN: Duration = Duration::from_secs(14 * 86_400);
/// The share of its life after which a certificate is worth a word, in percent: services that renew do it then.
const AGE_MAX: u32 = 80;
/// Most remarks that are remembered as said.
const SAID_MAX: usize = 64;

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What is so.
    pub found: String,
    /// What a person can do.
    pub cure: String,
}

impl Remark {
    pub(super) fn new(found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            cure: cure.into(),
        }
    }

    /// Says it in the log, unless it was said before: the files are read again whenever a broker refuses them.
    pub fn warn_once(&self) {
        static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if said.contains(&self.found) {
            return;
        }
        if said.len() >= SAID_MAX {
            said.remove(0);
        }
        said.push(self.found.clone());
        drop(said);
        tracing::warn!("{}: {}", redact_digits(&self.found), redact_digits(&self.cure));
    }
}

/// Everything to look at about a certificate and its key; `from` names the certificate's file. Expiry is not among it, but an error.
#[must_use]
pub fn remarks(identity: &Identity, now: Option<Duration>, from: &str) -> Vec<Remark> {
    let leaf = &identity.leaf;
    let mut out: Vec<Remark> = identity
        .repairs
        .iter()
        .map(|r| {
            Remark::new(
                format!("{from}: {r}"),
                "it is used as it was put right; correct the file for other programs",
            )
        })
        .collect();
    if leaf.is_v1 {
        out.push(Remark::new(
            format!("the certificate in {from} is X.509 version 1"),
            "it is presented as it is; sign it with extensions (openssl x509 -req … -extfile FILE, or onyx-gateway ca issue) to please \
             every server",
        ));
    }
    match identity.traits.unfit {
        Some(Unfit::Authority) => out.push(Remark::new(
            format!("the certificate in {from} is an authority's (CA:TRUE), which some servers refuse from a device"),
            "sign it with basicConstraints = CA:FALSE",
        )),
        Some(Unfit::NotForClients) => out.push(Remark::new(
            format!("the certificate in {from} is not for clients (its extended key usage leaves out clientAuth)"),
            "sign it with extendedKeyUsage = clientAuth: most servers refuse it otherwise",
        )),
        None => {}
    }
    out.extend(now.and_then(|now| age(leaf.not_before, leaf.not_after, now, from)));
    out
}

fn age(not_before: Duration, not_after: Duration, now: Duration, from: &str) -> Option<Remark> {
    if now < not_before {
        return Some(Remark::new(
            format!(
                "the certificate in {from} is not valid before {}, and this machine's clock says {}",
                rfc3339(not_before),
                rfc3339(now)
            ),
            "one of the two clocks is wrong, that of this machine or of the one that signed: wait for NTP, or sign it again",
        ));
    }
    let left = not_after.saturating_sub(now);
    let life = not_after.saturating_sub(not_before);
    let old = now.saturating_sub(not_before) >= life / 100 * AGE_MAX;
    (left < LEFT_MIN || old).then(|| {
        Remark::new(
            format!(
                "the certificate in {from} is valid only until {}, {} days from now",
                rfc3339(not_after),
                left.as_secs() / 86_400
            ),
            "nobody renews an operator's files: replace them (onyx-gateway ca issue --renew makes new ones)",
        )
    })
}
