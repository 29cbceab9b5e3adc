//! Operation ids. An id carries what was registered, sealed by a key that comes from the authority's own: every gateway that has the
//! authority understands it, no other can make one, and no state is needed between `register` and the questions after it.
//!
//! `base64url( HMAC-SHA-256(key, json) || json )`, where the key is HKDF-SHA-256 of the authority's private key (PKCS#8 DER) with the info
//! [`INFO`]. The content is no secret: it is the caller's own numbers, and it goes to the caller.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hkdf, hmac};
use serde::{Deserialize, Serialize};

use crate::identity::Imsi;

/// What tells this use of the authority's key from any other.
const INFO: &[u8] = b"onyx-gateway provisioning operation id v1";
/// After this long an id is no longer answered.
pub const GOOD_FOR: Duration = Duration::from_secs(3_600);
/// Longest id, in characters; ours have about 180.
const ID_MAX: usize = 600;
/// Bytes of the seal.
const SEAL: usize = 32;

/// An operation id as it is sent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OperationId(String);

impl std::fmt::Debug for OperationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OperationId(…)")
    }
}

impl OperationId {
    /// The id as it came; whether it is one, [`Sealer::unseal`] tells.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// By whom.
    pub imsi: Imsi,
    /// Under which name.
    pub device_id: String,
    /// When, since the Unix epoch.
    pub at: Duration,
}

#[derive(Serialize, Deserialize)]
struct Content {
    imsi: String,
    name: String,
    at: u64,
    /// Two registrations in one second are two.
    nonce: u64,
}

/// Makes and understands ids.
#[derive(Debug)]
pub struct Sealer(hmac::Key);

impl Sealer {
    /// From the authority's private key, in DER.
    ///
    /// # Errors
    /// Never for a key that signs; ring's own doubt otherwise.
    pub fn new(authority_key: &[u8]) -> Result<Self, ring::error::Unspecified> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
        let mut key = [0_u8; 32];
        salt.extract(authority_key)
            .expand(&[INFO], hkdf::HKDF_SHA256)?
            .fill(&mut key)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The id of a registration.
    #[must_use]
    pub fn seal(&self, registered: &Registered) -> OperationId {
        let content = Content {
            imsi: registered.imsi.to_string(),
            name: registered.device_id.clone(),
            at: registered.at.as_secs(),
            nonce: fastrand::u64(..),
        };
        // Strings and numbers: serialising them cannot fail.
        let json = serde_json::to_vec(&content).unwrap_or_default();
        let mut bytes = hmac::sign(&self.0, &json).as_ref().to_vec();
        bytes.extend_from_slice(&json);
        OperationId(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What an id stands for; `None` when it is none of ours, or too old at `now`.
    #[must_use]
    pub fn unseal(&self, id: &OperationId, now: Duration) -> Option<Registered> {
        if id.0.len() > ID_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(&id.0).ok()?;
        let (seal, json) = bytes.split_at_checked(SEAL)?;
        hmac::verify(&self.0, json, seal).ok()?;
        let content: Content = serde_json::from_slice(json).ok()?;
        let at = Duration::from_secs(content.at);
        // A clock that was set back makes an id look new, which harms nobody: it is sealed.
        (now.saturating_sub(at) <= GOOD_FOR).then_some(())?;
        Some(Registered {
            imsi: content.imsi.parse().ok()?,
            device_id: content.name,
            at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gateway_of_the_authority_understands_it_and_nobody_else_makes_it() {
        let (here, there, stranger) = (
            Sealer::new(b"key").unwrap(),
            Sealer::new(b"key").unwrap(),
            Sealer::new(b"other").unwrap(),
        );
        let at = Duration::from_secs(1_800_000_000);
        let registered = Registered {
            imsi: "295012345678901".parse().unwrap(),
            device_id: "myDevice-295012345678901".into(),
            at,
        };
        let id = here.seal(&registered);
        assert_ne!(id, here.seal(&registered), "two registrations are two");
        assert_eq!(there.unseal(&id, at), Some(registered.clone()));
        assert_eq!(stranger.unseal(&id, at), None);
        assert_eq!(there.unseal(&id, at + GOOD_FOR), Some(registered));
        assert_eq!(there.unseal(&id, at + GOOD_FOR + Duration::from_secs(1)), None);
        for position in 0..id.as_str().len() {
            let mut text = id.as_str().as_bytes().to_vec();
            text[position] = if text[position] == b'A' { b'B' } else { b'A' };
            let other = OperationId::new(std::str::from_utf8(&text).unwrap());
            if other != id {
                assert_eq!(there.unseal(&other, at), None, "changed at {position}");
            }
        }
        for text in ["", "x", "../..", &"A".repeat(10_000)] {
            assert_eq!(here.unseal(&OperationId::new(text), at), None);
        }
    }
}
