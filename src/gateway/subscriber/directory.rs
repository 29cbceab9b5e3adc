//! Everybody who may connect, found by the rules of [`super`].
//!
//! A directory never changes: connections look into the one that they got. One with a few changes shares what has not changed with the one before
//! it ([`Directory::changed`]): an index of all as they were once, and a small one of those who are different since, which is asked first and
//! hides who has the same IMSI in the other. When that one grows beyond [`OVER_MAX`], both become one again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::prefix::{masked, width};
use super::{Bar, By, Caller, Digester, Known, PeerCertificate, Secret, TOKEN_MAX, TOKEN_MIN, Unknown, is_of};
use crate::gateway::store::{Fingerprint, TokenDigest};
use crate::identity::{Imei, Imsi};

/// Most subscribers that stand beside the large index; each change copies so many at most.
const OVER_MAX: usize = 1_000;

/// Some subscribers, and the ways to them.
#[derive(Debug, Default)]
struct Index {
    all: Vec<Known>,
    by_token: HashMap<TokenDigest, usize>,
    by_certificate: HashMap<Fingerprint, usize>,
    by_imsi: HashMap<Imsi, usize>,
    by_source: HashMap<(IpAddr, u8), usize>,
    /// Prefix lengths in use.
    lengths: BTreeSet<u8>,
}

impl Index {
    fn of(all: Vec<Known>, digester: &Digester) -> Self {
        let mut index = Self::default();
        for (place, known) in all.iter().enumerate() {
            index.by_imsi.entry(known.subscriber.imsi.clone()).or_insert(place);
            let digest = match &known.token {
                Some(Secret::Token(token)) => Some(digester.digest(token.secret())),
                Some(Secret::Digest(digest)) => Some(digest.clone()),
                None => None,
            };
            if let Some(digest) = digest {
                index.by_token.entry(digest).or_insert(place);
            }
            if let Some(pinned) = known.certificate {
                index.by_certificate.entry(pinned).or_insert(place);
            }
            if let (None, None, Some(p)) = (&known.token, known.certificate, known.source) {
                index.by_source.entry((p.address, p.length)).or_insert(place);
                index.lengths.insert(p.length);
            }
        }
        index.all = all;
        index
    }

    fn get(&self, place: Option<&usize>) -> Option<&Known> {
        self.all.get(*place?)
    }
}

/// Everybody who may connect.
#[derive(Debug)]
pub struct Directory {
    digester: Digester,
    base: Arc<Index>,
    /// Those who are different from the base, or are not in it.
    over: Index,
    /// Those of whom the base says nothing that is still so.
    hidden: HashSet<Imsi>,
    /// How many of them stand in the base.
    gone: usize,
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
        let base = Arc::new(Index::of(all, &digester));
        Self::over(digester, base, Vec::new(), HashSet::new())
    }

    fn over(digester: Digester, base: Arc<Index>, over: Vec<Known>, hidden: HashSet<Imsi>) -> Self {
        let over = Index::of(over, &digester);
        let lengths: BTreeSet<u8> = base.lengths.union(&over.lengths).copied().collect();
        let gone = hidden.iter().filter(|imsi| base.by_imsi.contains_key(imsi)).count();
        Self {
            digester,
            base,
            over,
            hidden,
            gone,
            lengths: lengths.into_iter().rev().collect(),
        }
    }

    /// The same with these subscribers as they are in `now`; those who are `about` and not in `now` are none any more. Its cost grows with
    /// the number of changes, and not with that of subscribers (but every [`OVER_MAX`] changes, when it is built anew from memory).
    #[must_use]
    pub fn changed(&self, about: &[Imsi], now: Vec<Known>) -> Self {
        let mut hidden = self.hidden.clone();
        hidden.extend(about.iter().cloned());
        let about: HashSet<&Imsi> = about.iter().collect();
        let old = self.over.all.iter().filter(|k| !about.contains(&k.subscriber.imsi));
        let over: Vec<Known> = old.cloned().chain(now).collect();
        let (digester, base) = (self.digester.clone(), self.base.clone());
        let changed = Self::over(digester, base, over, hidden);
        if changed.hidden.len() <= OVER_MAX {
            return changed;
        }
        Self::with(changed.iter().cloned().collect(), changed.digester.clone())
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.base.all.len() - self.gone + self.over.all.len()
    }

    /// Whether nobody may connect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.base.all.iter().filter(|k| self.stands(k)).chain(&self.over.all)
    }

    /// Whether what the base says of this one is still so.
    fn stands(&self, known: &Known) -> bool {
        self.hidden.is_empty() || !self.hidden.contains(&known.subscriber.imsi)
    }

    /// The one that this way leads to: among those who have changed, or else among the others.
    fn by(&self, way: impl Fn(&Index) -> Option<&Known>) -> Option<&Known> {
        way(&self.over).or_else(|| way(&self.base).filter(|k| self.stands(k)))
    }

    /// The subscriber with this SIM.
    #[must_use]
    pub fn of_imsi(&self, imsi: &Imsi) -> Option<&Known> {
        self.by(|index| index.get(index.by_imsi.get(imsi)))
    }

    /// The subscriber behind a caller, by the rules of [`super`].
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn find(&self, caller: &Caller<'_>) -> Result<(&Known, By), Unknown<'_>> {
        let address = caller.address.to_canonical();
        let (known, by) = self.recognise(caller, address).ok_or(Unknown::Nobody)?;
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

    /// Why a subscriber that is connected may not stay; `modem` is what its client id says ([`super::modem_of`]). How it was recognised
    /// (address, token, certificate) is asked at a connect only: to change one of these cuts nobody off.
    #[must_use]
    pub fn bars(&self, imsi: &Imsi, modem: Option<&Imei>) -> Option<Bar> {
        let Some(known) = self.of_imsi(imsi) else {
            return Some(Bar::Removed);
        };
        if !known.enabled {
            return Some(Bar::Disabled);
        }
        let other = modem.is_none() || modem != known.subscriber.imei.as_ref();
        (known.imei_lock && other).then_some(Bar::Locked)
    }

    /// Rules 1 to 3.
    fn recognise(&self, caller: &Caller<'_>, address: IpAddr) -> Option<(&Known, By)> {
        let token = caller.password.filter(|p| (TOKEN_MIN..=TOKEN_MAX).contains(&p.len()));
        if let Some(digest) = token.map(|t| self.digester.digest(t)) {
            if let Some(known) = self.by(|index| index.get(index.by_token.get(&digest))) {
                return Some((known, By::Token));
            }
        }
        if let Some(known) = caller.certificate.and_then(|c| self.certified(c)) {
            return Some((known, By::Certificate));
        }
        let of = |length: u8| {
            let key = (masked(address, length), length);
            self.by(|index| index.get(index.by_source.get(&key)))
        };
        let lengths = self.lengths.iter().filter(|l| **l <= width(address));
        lengths.copied().find_map(of).map(|known| (known, By::Source))
    }

    fn certified(&self, certificate: &PeerCertificate) -> Option<&Known> {
        if let Some(known) = self.by(|index| index.get(index.by_certificate.get(&certificate.fingerprint))) {
            return Some(known);
        }
        self.of_imsi(certificate.imsi.as_ref()?)
            .filter(|known| known.certificate.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::subscriber::Prefix;
    use crate::identity::Subscriber;
    use proptest::prelude::*;

    /// One of a few subscribers, with one of a few sources, tokens and certificates.
    fn known(n: u8, source: u8, token: u8, certificate: u8, enabled: bool) -> Known {
        let prefix = |text: &str| text.parse::<Prefix>().ok();
        Known {
            subscriber: Subscriber {
                imsi: format!("{}", 100_000 + u32::from(n)).parse().unwrap(),
                imei: None,
                iccid: None,
            },
            group: "g".parse().unwrap(),
            enabled,
            imei_lock: false,
            source: match source {
                0 => None,
                1 => prefix("10.0.0.0/8"),
                s => prefix(&format!("10.0.0.{s}")),
            },
            token: (token > 0).then(|| Secret::Digest(TokenDigest([token; 32]))),
            certificate: (certificate > 0).then_some(Fingerprint([certificate; 32])),
        }
    }

    /// As the store keeps it: nobody shares what tells them apart.
    fn unique(all: &mut Vec<Known>) {
        let mut seen = HashSet::new();
        all.retain(|k| {
            let token = match &k.token {
                Some(Secret::Digest(d)) => Some(d.0[0]),
                _ => None,
            };
            let alone = token.is_none() && k.certificate.is_none();
            let keys = [
                Some(format!("imsi {}", k.subscriber.imsi)),
                token.map(|t| format!("token {t}")),
                k.certificate.map(|c| format!("certificate {}", c.0[0])),
                k.source.filter(|_| alone).map(|s| format!("source {s}")),
            ];
            let keys: Vec<String> = keys.into_iter().flatten().collect();
            if keys.iter().any(|key| seen.contains(key)) {
                return false;
            }
            seen.extend(keys);
            true
        });
    }

    fn digester() -> Digester {
        // A password of sixteen equal bytes is the token of that byte.
        Digester::new(|token| TokenDigest([token[0]; 32]))
    }

    fn look(directory: &Directory) -> Vec<String> {
        let mut out = vec![format!("{} {}", directory.len(), directory.is_empty())];
        let mut all: Vec<String> = directory.iter().map(|k| format!("{k:?}")).collect();
        all.sort();
        out.extend(all);
        for n in 0..8_u8 {
            let certificate = PeerCertificate {
                common_name: None,
                not_after: std::time::Duration::ZERO,
                fingerprint: Fingerprint([n; 32]),
                imsi: format!("{}", 100_000 + u32::from(n)).parse().ok(),
            };
            let password = [n; 16];
            for (password, certificate) in [(None, None), (Some(&password[..]), None), (None, Some(&certificate))] {
                let caller = Caller {
                    address: IpAddr::from([10, 0, 0, n]),
                    password,
                    client_id: "x",
                    certificate,
                };
                out.push(match directory.find(&caller) {
                    Ok((known, by)) => format!("{} {by:?}", known.subscriber.imsi),
                    Err(Unknown::Nobody) => "nobody".to_owned(),
                    Err(Unknown::Disabled(known) | Unknown::Imei(known)) => format!("not {}", known.subscriber.imsi),
                });
            }
            out.push(format!(
                "{:?}",
                certificate.imsi.and_then(|i| directory.of_imsi(&i).map(|k| k.enabled))
            ));
        }
        out
    }

    fn some() -> impl Strategy<Value = Known> {
        (0..8_u8, 0..6_u8, 0..6_u8, 0..6_u8, any::<bool>()).prop_map(|(n, s, t, c, e)| known(n, s, t, c, e))
    }

    proptest! {
        #[test]
        fn a_changed_one_is_as_one_that_was_built_anew(
            first in proptest::collection::vec(some(), 0..8),
            steps in proptest::collection::vec((proptest::collection::vec(0..8_u8, 0..4), proptest::collection::vec(some(), 0..4)), 0..6),
        ) {
            let mut all = first;
            unique(&mut all);
            let mut directory = Directory::with(all.clone(), digester());
            for (removed, put) in steps {
                // Who is removed or put; the others stay, and what would not be unique is not put.
                let removed: Vec<Imsi> = removed.iter().map(|n| format!("{}", 100_000 + u32::from(*n)).parse().unwrap()).collect();
                let about: Vec<Imsi> = removed.iter().cloned().chain(put.iter().map(|k| k.subscriber.imsi.clone())).collect();
                all.retain(|k| !about.contains(&k.subscriber.imsi));
                let stay = all.len();
                all.extend(put);
                unique(&mut all);
                let now = all[stay..].to_vec();
                directory = directory.changed(&about, now);
                prop_assert_eq!(look(&directory), look(&Directory::with(all.clone(), digester())));
            }
        }
    }

    #[test]
    fn many_changes_become_one_index_again() {
        let imsi = |n: usize| format!("{}", 100_000 + n).parse::<Imsi>().unwrap();
        let one = |n: usize| {
            let mut known = known(0, 0, 0, 0, true);
            known.subscriber.imsi = imsi(n);
            known
        };
        let mut directory = Directory::with((0..3_000).map(one).collect(), digester());
        for n in 0..3_000 {
            let now = if n % 3 == 0 { vec![] } else { vec![one(n)] };
            directory = directory.changed(&[imsi(n)], now);
            assert!(directory.hidden.len() <= OVER_MAX);
        }
        assert_eq!((directory.len(), directory.iter().count()), (2_000, 2_000));
        assert!(directory.of_imsi(&imsi(3)).is_none() && directory.of_imsi(&imsi(4)).is_some());
    }
}
