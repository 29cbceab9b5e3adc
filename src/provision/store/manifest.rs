//! What a set says about itself: `manifest.json`.
//!
//! Version 2 holds a SHA-256 of every other file of the set and one of its own contents, so that what was torn, swapped or edited is
//! noticed. Version 1 (the first releases) holds none; such sets are read, and are written anew as version 2 at the next write.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::{hex, sha256};

/// The version that is written; this one and version 1 are read.
pub(super) const VERSION: u64 = 2;
const FIRST: u64 = 1;

/// Where the key and the certificate are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Holds {
    /// In the set.
    Issued,
    /// In the operator's files: the set has only host, names and authority.
    OperatorsFiles,
}

/// What is known of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    pub(super) source: String,
    pub(super) imsi: String,
    pub(super) host: String,
    pub(super) client_id: String,
    /// Seconds since the Unix epoch.
    pub(super) fetched: u64,
    pub(super) holds: Holds,
    /// SHA-256 of the leaf certificate's DER, in hexadecimal digits.
    pub(super) leaf_sha256: String,
    /// The private key is encrypted.
    pub(super) sealed: bool,
    /// SHA-256 of every other file, by its name.
    pub(super) files_sha256: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Second {
    version: u64,
    set: About,
    /// Of `set`, as [`digest`] makes it.
    set_sha256: String,
}

#[derive(Deserialize)]
struct First {
    source: String,
    imsi: String,
    host: String,
    client_id: String,
    fetched: u64,
}

#[derive(Deserialize)]
struct Any {
    version: u64,
}

/// A manifest that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Manifest {
    /// Without hashes.
    First(About),
    /// With them.
    Second(About),
}

impl Manifest {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = |e: serde_json::Error| e.to_string();
        match serde_json::from_slice::<Any>(bytes).map_err(text)?.version {
            FIRST => {
                let first: First = serde_json::from_slice(bytes).map_err(text)?;
                Ok(Self::First(About {
                    source: first.source,
                    imsi: first.imsi,
                    host: first.host,
                    client_id: first.client_id,
                    fetched: first.fetched,
                    holds: Holds::Issued,
                    leaf_sha256: String::new(),
                    sealed: false,
                    files_sha256: BTreeMap::new(),
                }))
            }
            VERSION => {
                let second: Second = serde_json::from_slice(bytes).map_err(text)?;
                if digest(&second.set).map_err(text)? != second.set_sha256 {
                    return Err("it was changed after it was written (its SHA-256 does not fit)".to_owned());
                }
                Ok(Self::Second(second.set))
            }
            newer if newer > VERSION => Err(format!(
                "it has version {newer}, which a newer onyx-agent wrote; this one reads up to {VERSION}: install the newer one again"
            )),
            other => Err(format!("it has version {other}, which never was")),
        }
    }

    pub(super) fn about(&self) -> &About {
        match self {
            Self::First(about) | Self::Second(about) => about,
        }
    }
}

impl About {
    /// The file's content.
    ///
    /// # Errors
    /// Never, for this type; serde_json's signature.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(&Second {
            version: VERSION,
            set: self.clone(),
            set_sha256: digest(self)?,
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// When the set was granted, since the Unix epoch.
    pub(super) fn fetched(&self) -> Duration {
        Duration::from_secs(self.fetched)
    }
}

/// SHA-256 over the compact JSON, whose order is the struct's.
fn digest(set: &About) -> serde_json::Result<String> {
    Ok(fingerprint(&serde_json::to_vec(set)?))
}

/// SHA-256 in hexadecimal digits.
pub(super) fn fingerprint(bytes: &[u8]) -> String {
    hex(&sha256(&[bytes]))
}
