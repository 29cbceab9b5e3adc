//! What is stored, as values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use super::list::Damaged;
use crate::gateway::credential::{CredentialId, Version};
use crate::gateway::group::GroupId;
use crate::gateway::subscriber::Prefix;
use crate::identity::{Iccid, Imei, Imsi, Subscriber};

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
#[derive(Clone)]
pub enum TokenChange {
    /// Stays as it is.
    Keep,
    /// There is none from now on.
    Remove,
    /// This one.
    Set(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for TokenChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Remove => "Remove",
            Self::Set(_) => "Set(…)",
        })
    }
}

/// A group as stored: its namespaces (`SoracomBeam`, `OnyxGateway`, `SoracomKrypton`), each keys with values.
#[derive(Clone, PartialEq)]
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

impl std::fmt::Debug for GroupRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be passwords and private keys.
        let keys = self.configuration.iter().map(|(n, c)| {
            (
                n,
                c.keys()
                    .map(|k| crate::gateway::group::public::key(k))
                    .collect::<Vec<_>>(),
            )
        });
        f.debug_struct("GroupRecord")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("configuration", &keys.collect::<BTreeMap<_, _>>())
            .finish_non_exhaustive()
    }
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

/// Which state of the store something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Edition {
    /// The number of the last change in it.
    pub generation: u64,
    /// The random mark of that change, if it was noted.
    pub mark: Option<i64>,
}

/// What changed since an edition.
#[derive(Debug)]
pub struct Changes {
    /// Which state of the store this leads to.
    pub edition: Edition,
    /// Whom the changes are about.
    pub about: Vec<Imsi>,
    /// Those of them that are there now, with their tokens' digests; the others are not any more.
    pub subscribers: Vec<(SubscriberRecord, Option<TokenDigest>)>,
    /// All groups, if one of them was changed.
    pub groups: Option<Vec<GroupRecord>>,
}

/// What is different since an edition.
#[derive(Debug)]
pub enum News {
    /// This.
    Changes(Changes),
    /// More than can be told: everything, as it is now.
    All(Snapshot),
    /// Everything as well, and nothing shows that the edition asked about ever stood in this store: what is known from before says nothing.
    Anew(Snapshot),
}

/// Everything that a gateway keeps in memory, as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Which state of the store it is.
    pub edition: Edition,
    /// Subscribers with their tokens' digests.
    pub subscribers: Vec<(SubscriberRecord, Option<TokenDigest>)>,
    /// Groups.
    pub groups: Vec<GroupRecord>,
    /// Groups whose configuration cannot be read, and why.
    pub broken: Vec<(GroupId, String)>,
    /// Rows that cannot be read at all.
    pub damaged: Vec<Damaged>,
}

/// Sees a group as it would be, and can refuse with a reason.
pub type Judge = Arc<dyn Fn(&GroupRecord) -> Result<(), String> + Send + Sync>;
