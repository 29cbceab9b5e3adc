//! Private keys at rest under a key that systemd hands to the service: `credentials.encrypt_with`.
//!
//! ```text
//! systemd-creds encrypt --name=NAME …   32 random bytes, encrypted for this machine (TPM and/or the host's key)
//! LoadCredentialEncrypted=NAME:…        systemd decrypts them into $CREDENTIALS_DIRECTORY/NAME, for the service alone
//! HKDF-SHA256 (RFC 5869)                makes of them the sealing key, and a name for it that tells nothing about it
//! ChaCha20-Poly1305 (RFC 8439)          seals the file, with a random nonce; source, IMSI, set and file are authenticated with it
//! ```
//!
//! ChaCha20 because the Raspberry Pi 3 and 4 have no AES instructions, and it runs in constant time without them. A sealed file is
//! `onyx-seal-1\n`, the key's name (8 bytes), the nonce (12 bytes), the sealed bytes and the tag (16 bytes). The key's name tells "sealed
//! under another key" from "changed since". 96-bit random nonces are safe for 2^32 files (NIST SP 800-38D, 8.3, whose reasoning is the same
//! for this construction); a device seals a few a year.
//!
//! What it is for: an SD card that is taken out, or its image, gives away no key. It does not protect against root on the running device.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::Failure;
use crate::config::agent::KeepConfig;
use crate::digest::hex;
use crate::files::read_small;

/// Where systemd says that the decrypted credentials are (systemd.exec(5), `$CREDENTIALS_DIRECTORY`).
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// Fewest bytes of the systemd credential: the strength of the sealing key.
pub const SECRET_MIN: usize = 32;
/// Largest systemd credential that is read, in bytes; systemd's own limit is 1 MiB (systemd.exec(5)).
const SECRET_MAX: u64 = 1024 * 1024;
/// How a sealed file begins.
const MAGIC: &[u8] = b"onyx-seal-1\n";
/// Salt of the derivation: this use, and no other (RFC 5869, section 3.1).
const SALT: &[u8] = b"onyx credentials store";
/// What is derived (RFC 5869, section 3.2): the sealing key, and its name.
const INFO_KEY: &[u8] = b"sealing key 1";
const INFO_NAME: &[u8] = b"name of sealing key 1";
/// Length of a key's name, in bytes.
const NAME_LEN: usize = 8;
const KEY_LEN: usize = 32;

/// Why there is no key to seal with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// systemd gave this process no credentials.
    #[error(
        "credentials.encrypt_with names the systemd credential {name:?}, but systemd gave this process none ($CREDENTIALS_DIRECTORY is not set)"
    )]
    NoDirectory {
        /// Its name.
        name: String,
    },
    /// There are credentials, but not this one.
    #[error("credentials.encrypt_with: the systemd credential {} cannot be read: {why}", path.display())]
    Unreadable {
        /// Its name.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Too little for a key.
    #[error(
        "credentials.encrypt_with: the systemd credential {name:?} has {length} bytes, at least {SECRET_MIN} random ones are needed"
    )]
    TooShort {
        /// Its name.
        name: String,
        /// How many there are.
        length: usize,
    },
    /// The random source or the cipher failed.
    #[error("sealing failed: {0}")]
    Crypto(&'static str),
}

impl SealError {
    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> String {
        let make = |name: &str| {
            format!(
                "make it with 'mkdir -p -m 700 /etc/credstore.encrypted; dd if=/dev/urandom bs={SECRET_MIN} count=1 | systemd-creds encrypt --name={name} - \
                 /etc/credstore.encrypted/{name}', and add 'LoadCredentialEncrypted={name}:/etc/credstore.encrypted/{name}' to [Service] of \
                 the unit (systemctl edit onyx-agent)"
            )
        };
        match self {
            Self::NoDirectory { name } => format!(
                "run it by systemd: {}; by hand: systemd-run --pty --wait -p User=onyx -p \
                 LoadCredentialEncrypted={name}:/etc/credstore.encrypted/{name} onyx-agent …",
                make(name)
            ),
            Self::Unreadable { name, .. } => make(name),
            Self::TooShort { name, .. } => format!("remove it and the sets sealed with it, and {}", make(name)),
            Self::Crypto(_) => "try again; if it stays, look at the kernel's log".to_owned(),
        }
    }
}

impl From<SealError> for Failure {
    fn from(e: SealError) -> Self {
        Self {
            cause: e.to_string(),
            cure: e.cure(),
            after: None,
            spent: false,
        }
    }
}

/// Why a sealed file cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenError {
    /// It was sealed under another key.
    OtherKey,
    /// It is not what was sealed.
    Changed,
}

/// The sealing key. Cheap to clone; the key is wiped with the last of them.
#[derive(Clone)]
pub struct Seal {
    key: Arc<Zeroizing<[u8; KEY_LEN]>>,
    name: [u8; NAME_LEN],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seal({})", hex(&self.name))
    }
}

impl Seal {
    /// The key that the configuration names; `None` when it names none.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn configured(keep: &KeepConfig) -> Result<Option<Self>, SealError> {
        keep.encrypt_with.as_deref().map(Self::from_systemd).transpose()
    }

    /// The key from the systemd credential `name`.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn from_systemd(name: &str) -> Result<Self, SealError> {
        let directory = std::env::var_os(DIRECTORY).filter(|d| !d.is_empty());
        match directory {
            Some(directory) => Self::from_directory(Path::new(&directory), name),
            None => Err(SealError::NoDirectory { name: name.to_owned() }),
        }
    }

    /// The key from the file `name` in `directory`, as systemd puts it there.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn from_directory(directory: &Path, name: &str) -> Result<Self, SealError> {
        let path = directory.join(name);
        let secret = read_small(&path, SECRET_MAX)
            .map(Zeroizing::new)
            .map_err(|e: io::Error| SealError::Unreadable {
                name: name.to_owned(),
                path,
                why: e.to_string(),
            })?;
        if secret.len() < SECRET_MIN {
            let (name, length) = (name.to_owned(), secret.len());
            return Err(SealError::TooShort { name, length });
        }
        Self::derive(&secret)
    }

    fn derive(secret: &[u8]) -> Result<Self, SealError> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret);
        let fill = |info: &[u8]| -> Result<Zeroizing<[u8; KEY_LEN]>, SealError> {
            let mut bytes = Zeroizing::new([0; KEY_LEN]);
            root.expand(&[info], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut bytes[..]))
                .map_err(|_| SealError::Crypto("the key cannot be derived"))?;
            Ok(bytes)
        };
        let mut name = [0; NAME_LEN];
        for (to, from) in name.iter_mut().zip(fill(INFO_NAME)?.iter()) {
            *to = *from;
        }
        Ok(Self {
            key: Arc::new(fill(INFO_KEY)?),
            name,
        })
    }

    fn cipher(&self) -> Result<LessSafeKey, SealError> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.key[..])
            .map(LessSafeKey::new)
            .map_err(|_| SealError::Crypto("the key has the wrong length"))
    }

    /// Whether a file is sealed, with whatever key.
    #[must_use]
    pub(super) fn is_sealed(content: &[u8]) -> bool {
        content.starts_with(MAGIC)
    }

    /// Seals `plain`; `about` is authenticated with it.
    ///
    /// # Errors
    /// [`SealError::Crypto`].
    pub(super) fn seal(&self, plain: &[u8], about: &str) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| SealError::Crypto("there is no randomness"))?;
        let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + CHACHA20_POLY1305.tag_len()));
        sealed.extend_from_slice(plain);
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), &mut *sealed)
            .map_err(|_| SealError::Crypto("the cipher refused"))?;
        Ok([MAGIC, &self.name, &nonce, &sealed].concat())
    }

    /// Opens what [`seal`](Self::seal) made.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) fn open(&self, sealed: &[u8], about: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let rest = sealed.strip_prefix(MAGIC).ok_or(OpenError::Changed)?;
        let (name, rest) = rest.split_at_checked(NAME_LEN).ok_or(OpenError::Changed)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(OpenError::Changed)?;
        if name != self.name {
            return Err(OpenError::OtherKey);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Changed)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .cipher()
            .map_err(|_| OpenError::Changed)?
            .open_in_place(nonce, Aad::from(about), &mut body)
            .map_err(|_| OpenError::Changed)?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let e = Seal::from_directory(dir.path(), "store-key").unwrap_err();
        assert!(e.to_string().contains("store-key"), "{e}");
        assert!(
            e.cure().contains("systemd-creds encrypt --name=store-key"),
            "{}",
            e.cure()
        );
        assert!(e.cure().contains("LoadCredentialEncrypted=store-key:"), "{}", e.cure());
        std::fs::write(dir.path().join("store-key"), [1; SECRET_MIN - 1]).unwrap();
        let e = Seal::from_directory(dir.path(), "store-key").unwrap_err();
        assert!(e.to_string().contains("31 bytes"), "{e}");
        let e = SealError::NoDirectory { name: "k".into() };
        assert!(e.cure().contains("systemd-run"), "{}", e.cure());
        assert_eq!(Failure::from(e.clone()).cause, e.to_string());
    }

    #[test]
    fn sealing_is_undone_by_the_same_key_alone() {
        let [a, b] = [[1; 32], [2; 32]].map(|secret| Seal::derive(&secret).unwrap());
        let sealed = a.seal(b"a private key", "here").unwrap();
        assert_eq!(&a.open(&sealed, "here").unwrap()[..], b"a private key");
        assert_eq!(b.open(&sealed, "here").unwrap_err(), OpenError::OtherKey);
        assert_eq!(a.open(&sealed, "there").unwrap_err(), OpenError::Changed);
        assert!(!sealed.windows(7).any(|w| w == b"private"));
        // What is sealed today must open in the next release: the derivation is part of the format (computed with another HKDF).
        assert_eq!(hex(&a.name), NAME_OF_ONES);
        assert!(!format!("{a:?}").contains(&hex(&a.key[..])));
    }

    /// HKDF-SHA256 of 32 bytes of 1 with this module's salt and name, the first 8 bytes: Python's hmac, RFC 5869 by hand.
    const NAME_OF_ONES: &str = "D0425FEB81C559CA";
}
