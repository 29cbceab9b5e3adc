//! Secrets at rest: what is in the database is of no use without `store.key`.
//!
//! ```text
//! store.key ── HKDF-SHA256 (RFC 5869) ─┬─ sealing key: ChaCha20-Poly1305 (RFC 8439) over configurations, credentials and the token key
//!                                      └─ its name (8 bytes), which tells "another key" from "changed since"
//! token key ── HMAC-SHA-256 (RFC 2104) ── digests of tokens
//! ```
//!
//! The token key is random, made with the store and sealed in it, so a new `store.key` needs no token again: digests cannot be made from
//! digests. A sealed value is `1`, the key's name (8 bytes), a random nonce (12 bytes), the ciphertext and the tag (16 bytes). The table, the
//! row's id and the row's version are authenticated with it, so a value that was copied into another row, or brought back into a row that
//! has changed, does not open. (A whole row brought back with its version does: who can write the database can undo changes, not read.)
//! 96-bit random nonces are safe for 2^32 values under one key (NIST SP 800-38D, section 8.3).

use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::key::StoreKey;
use super::{StoreError, TokenDigest};
use crate::digest::hex;

/// The format of a sealed value.
const FORMAT: u8 = 1;
/// Salt of the derivation: this use, and no other (RFC 5869, section 3.1).
const SALT: &[u8] = b"onyx gateway store";
/// What is derived (RFC 5869, section 3.2).
const INFO_KEY: &[u8] = b"sealing key 1";
const INFO_NAME: &[u8] = b"name of sealing key 1";
const NAME_LEN: usize = 8;
const LEN: usize = 32;

/// What a sealed value is, where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) table: &'static str,
    pub(super) id: &'a str,
    pub(super) version: i64,
}

impl Place<'_> {
    /// Each part with its length before it: no two places have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.id.len());
        for part in [self.table.as_bytes(), self.id.as_bytes(), &self.version.to_be_bytes()] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsealed {
    #[error("it is sealed under another store.key: was the store given a new key? restart with that")]
    OtherKey,
    #[error("it is not what was sealed there: the row was damaged, copied or changed by hand; write it again")]
    Changed,
}

/// The sealing key. Cheap to clone; wiped with the last of them.
#[derive(Clone)]
pub(super) struct Seal {
    key: Arc<Zeroizing<[u8; LEN]>>,
    name: [u8; NAME_LEN],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seal({})", hex(&self.name))
    }
}

fn crypto(what: &str) -> StoreError {
    StoreError::Key(format!("sealing failed: {what}"))
}

fn random(bytes: &mut [u8]) -> Result<(), StoreError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| crypto("the operating system gives no random numbers"))
}

impl Seal {
    pub(super) fn derive(secret: &StoreKey) -> Result<Self, StoreError> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&secret.0);
        let fill = |info: &[u8], out: &mut [u8; LEN]| {
            root.expand(&[info], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(out))
                .map_err(|_| crypto("the key cannot be derived"))
        };
        let (mut key, mut long_name) = (Zeroizing::new([0; LEN]), [0; LEN]);
        fill(INFO_KEY, &mut key)?;
        fill(INFO_NAME, &mut long_name)?;
        let mut name = [0; NAME_LEN];
        for (to, from) in name.iter_mut().zip(long_name) {
            *to = from;
        }
        Ok(Self {
            key: Arc::new(key),
            name,
        })
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.key[..])
            .ok()
            .map(LessSafeKey::new)
    }

    pub(super) fn seal(&self, plain: &[u8], place: Place<'_>) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let mut body = Zeroizing::new(Vec::with_capacity(plain.len() + CHACHA20_POLY1305.tag_len()));
        body.extend_from_slice(plain);
        self.cipher()
            .and_then(|c| {
                c.seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(place.bytes()),
                    &mut *body,
                )
                .ok()
            })
            .ok_or_else(|| crypto("the cipher refused"))?;
        Ok([&[FORMAT][..], &self.name, &nonce, &body].concat())
    }

    pub(super) fn open(&self, sealed: &[u8], place: Place<'_>) -> Result<Zeroizing<Vec<u8>>, Unsealed> {
        let rest = sealed.strip_prefix(&[FORMAT]).ok_or(Unsealed::Changed)?;
        let (name, rest) = rest.split_at_checked(NAME_LEN).ok_or(Unsealed::Changed)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(Unsealed::Changed)?;
        if name != self.name {
            return Err(Unsealed::OtherKey);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealed::Changed)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .cipher()
            .ok_or(Unsealed::Changed)?
            .open_in_place(nonce, Aad::from(place.bytes()), &mut body)
            .map_err(|_| Unsealed::Changed)?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

/// Makes the digests of tokens.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

impl TokenKey {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The bytes of a new one.
    pub(super) fn random() -> Result<Zeroizing<[u8; LEN]>, StoreError> {
        let mut bytes = Zeroizing::new([0; LEN]);
        random(&mut bytes[..])?;
        Ok(bytes)
    }

    /// What stands in the database for this token.
    #[must_use]
    pub fn digest(&self, token: &[u8]) -> TokenDigest {
        let mut out = [0; LEN];
        out.copy_from_slice(hmac::sign(&self.0, token).as_ref());
        TokenDigest(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: &str, version: i64) -> Place<'_> {
        Place {
            table: "credential",
            id,
            version,
        }
    }

    fn key(byte: u8) -> Seal {
        Seal::derive(&StoreKey(Zeroizing::new(vec![byte; 32]))).unwrap()
    }

    #[test]
    fn a_value_opens_in_its_own_place_under_its_own_key() {
        let (a, b) = (key(1), key(2));
        let sealed = a.seal(b"a private key", place("x", 7)).unwrap();
        assert_eq!(&a.open(&sealed, place("x", 7)).unwrap()[..], b"a private key");
        assert_eq!(b.open(&sealed, place("x", 7)).unwrap_err(), Unsealed::OtherKey);
        for other in [
            place("y", 7),
            place("x", 8),
            Place {
                table: "device_group",
                ..place("x", 7)
            },
        ] {
            assert_eq!(a.open(&sealed, other).unwrap_err(), Unsealed::Changed, "{other:?}");
        }
        for n in 0..sealed.len() {
            assert!(a.open(&sealed[..n], place("x", 7)).is_err(), "cut at {n}");
            let mut flipped = sealed.clone();
            flipped[n] ^= 1;
            assert!(a.open(&flipped, place("x", 7)).is_err(), "byte {n} changed");
        }
        assert!(!sealed.windows(7).any(|w| w == b"private"));
        assert_ne!(
            sealed,
            a.seal(b"a private key", place("x", 7)).unwrap(),
            "nonces differ"
        );
    }

    #[test]
    fn places_do_not_run_into_each_other() {
        let p = |table, id, version| Place { table, id, version }.bytes();
        assert_ne!(p("ab", "c", 1), p("a", "bc", 1));
        assert_ne!(p("a", "b", 1), p("a", "b", 256));
    }

    #[test]
    fn what_is_sealed_today_opens_in_the_next_release() {
        // HKDF-SHA256 of 32 bytes of 1 with this module's salt and name, the first 8 bytes; HMAC-SHA-256: both by Python's hmac.
        assert_eq!(hex(key(1).name()), "EBCB0D4F3CD5B706");
        let digest = TokenKey::of(&[1; 32]).digest(b"0123456789abcdef").0;
        assert_eq!(
            hex(&digest),
            "CDF289FDB53834162B86A9FB32391C2B066DD4D8FC21A7CCE818BC162590A9E4"
        );
        assert!(!format!("{:?}", key(1)).contains(&hex(&key(1).key[..])));
    }
}
