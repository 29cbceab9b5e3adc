//! The store: subscribers, groups and credentials, in SQLite (one gateway) or PostgreSQL (several, behind a load balancer). The same
//! schema, the same migrations, and no other state: any gateway on a store serves any of its devices.
//!
//! - Every change raises the **generation**; a gateway that sees the old number has the old content (one small query a connect).
//! - Secrets (credentials, tokens' digests, configurations of groups, which may hold passwords) are encrypted before they reach the
//!   database, under a key that is not in it (`store.key_file`, or a systemd credential). Nothing gives a secret back to a person.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use super::config::StoreConfig;
use super::credential::{CredentialId, Version};
use super::group::GroupId;
use super::subscriber::Prefix;
use crate::clock::Clock;
use crate::identity::{Iccid, Imei, Imsi, Subscriber};

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or opened.
    #[error("{0}")]
    Unreachable(String),
    /// The key is missing, wrong, or readable by others.
    #[error("{0}")]
    Key(String),
    /// There is no such thing.
    #[error("there is no {0}")]
    Missing(String),
    /// It would break a rule (the same IMSI, source or token twice, a group still in use).
    #[error("{0}")]
    Conflict(String),
    /// The database refused or its content is damaged.
    #[error("{0}")]
    Broken(String),
}

/// How a subscriber is recognised by a token: a keyed digest of it, never the token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// SHA-256 of a certificate's DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A subscriber as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberRecord {
    /// The SIM.
    pub imsi: Imsi,
    /// The modem, if it is known.
    pub imei: Option<Imei>,
    /// Whether only that modem may use the SIM: the client id must end in the IMEI.
    pub imei_lock: bool,
    /// The card, which is SORACOM's SIM id.
    pub iccid: Option<Iccid>,
    /// Its group; without one it cannot connect, as at SORACOM.
    pub group: Option<GroupId>,
    /// Whether it may connect.
    pub enabled: bool,
    /// Where it calls from.
    pub source: Option<Prefix>,
    /// Whether it has a token (its digest is not given out).
    pub has_token: bool,
    /// Its certificate on the TLS listener, if one is pinned.
    pub certificate: Option<Fingerprint>,
    /// For people.
    pub name: String,
    /// When it was last connected, and through which gateway: Unix time.
    pub last_seen: Option<(Duration, String)>,
}

impl SubscriberRecord {
    /// What names are made from.
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        Subscriber {
            imsi: self.imsi.clone(),
            imei: self.imei.clone(),
            iccid: self.iccid.clone(),
        }
    }
}

/// What becomes of a subscriber's token when it is written.
#[derive(Debug, Clone)]
pub enum TokenChange {
    /// Stays as it is.
    Keep,
    /// There is none from now on.
    Remove,
    /// This one.
    Set(Zeroizing<Vec<u8>>),
}

/// A group as stored: its namespaces (`SoracomBeam`, `OnyxGateway`, `SoracomKrypton`), each keys with values.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRecord {
    /// Its id.
    pub id: GroupId,
    /// For people (SORACOM's tag `name`).
    pub name: String,
    /// Namespace, key, value.
    pub configuration: BTreeMap<String, BTreeMap<String, Value>>,
    /// Unix time.
    pub created: Duration,
    /// Unix time.
    pub updated: Duration,
}

/// What may be known of a credential: all but its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialSummary {
    /// Its id.
    pub id: CredentialId,
    /// SORACOM's type: `x509`, `username-password-credentials`.
    pub kind: String,
    /// For people.
    pub description: String,
    /// Unix time.
    pub created: Duration,
    /// Unix time.
    pub updated: Duration,
    /// Unix time; when a device last connected with it.
    pub last_used: Option<Duration>,
    /// End of the certificate's validity, Unix time.
    pub not_after: Option<Duration>,
    /// Which state of it this is.
    pub version: Version,
}

/// A credential with its secret: SORACOM's `credentials` object as JSON text (`{"key":…,"cert":…,"ca":…}`).
#[derive(Clone)]
pub struct CredentialSecret {
    /// All but the secret.
    pub summary: CredentialSummary,
    /// The secret.
    pub secret: Zeroizing<String>,
}

impl std::fmt::Debug for CredentialSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialSecret({:?}, …)", self.summary)
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {}

#[allow(clippy::missing_errors_doc, clippy::unused_async)]
impl Store {
    /// Opens it, making or migrating the schema.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(_settings: &StoreConfig, _clock: &Clock) -> Result<Self, StoreError> {
        Err(StoreError::Unreachable("not built yet".to_owned()))
    }
    /// The number of the last change.
    pub async fn generation(&self) -> Result<u64, StoreError> {
        todo!()
    }
    /// All subscribers, by IMSI; `after` and `limit` for pages.
    pub async fn subscribers(&self, _after: Option<&Imsi>, _limit: usize) -> Result<Vec<SubscriberRecord>, StoreError> {
        todo!()
    }
    /// One.
    pub async fn subscriber(&self, _imsi: &Imsi) -> Result<Option<SubscriberRecord>, StoreError> {
        todo!()
    }
    /// Writes one, new or not.
    pub async fn put_subscriber(&self, _record: &SubscriberRecord, _token: TokenChange) -> Result<(), StoreError> {
        todo!()
    }
    /// Removes one.
    pub async fn delete_subscriber(&self, _imsi: &Imsi) -> Result<(), StoreError> {
        todo!()
    }
    /// Notes when subscribers were connected, many at once.
    pub async fn seen(&self, _seen: &[(Imsi, Duration)], _gateway: &str) -> Result<(), StoreError> {
        todo!()
    }
    /// All groups.
    pub async fn groups(&self) -> Result<Vec<GroupRecord>, StoreError> {
        todo!()
    }
    /// One.
    pub async fn group(&self, _id: &GroupId) -> Result<Option<GroupRecord>, StoreError> {
        todo!()
    }
    /// Makes one, or renames it; its configuration stays.
    pub async fn put_group(&self, _id: &GroupId, _name: &str) -> Result<GroupRecord, StoreError> {
        todo!()
    }
    /// Removes one that no subscriber is in.
    pub async fn delete_group(&self, _id: &GroupId) -> Result<(), StoreError> {
        todo!()
    }
    /// Overwrites these keys of one namespace and keeps the others. `judge` sees the whole namespace as it would be, and can refuse.
    pub async fn put_configuration(
        &self,
        _id: &GroupId,
        _namespace: &str,
        _pairs: Vec<(String, Value)>,
        _judge: &(dyn Fn(&GroupRecord) -> Result<(), String> + Send + Sync),
    ) -> Result<GroupRecord, StoreError> {
        todo!()
    }
    /// Removes one key.
    pub async fn delete_configuration(
        &self,
        _id: &GroupId,
        _namespace: &str,
        _key: &str,
    ) -> Result<GroupRecord, StoreError> {
        todo!()
    }
    /// All credentials, by id; `after` and `limit` for pages.
    pub async fn credentials(
        &self,
        _after: Option<&CredentialId>,
        _limit: usize,
    ) -> Result<Vec<CredentialSummary>, StoreError> {
        todo!()
    }
    /// One, with its secret. For connecting, never for showing.
    pub async fn credential(&self, _id: &CredentialId) -> Result<Option<CredentialSecret>, StoreError> {
        todo!()
    }
    /// Writes one that the caller has found good; `new` refuses one that is there.
    pub async fn put_credential(
        &self,
        _id: &CredentialId,
        _kind: &str,
        _description: &str,
        _secret: Zeroizing<String>,
        _not_after: Option<Duration>,
        _new: bool,
    ) -> Result<CredentialSummary, StoreError> {
        todo!()
    }
    /// Removes one.
    pub async fn delete_credential(&self, _id: &CredentialId) -> Result<(), StoreError> {
        todo!()
    }
    /// Notes that credentials were used, many at once.
    pub async fn used(&self, _used: &[(CredentialId, Duration)]) -> Result<(), StoreError> {
        todo!()
    }
}
