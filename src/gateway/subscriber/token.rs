//! Tokens: secrets in files of mode 0600, and their keyed digests, by which they are found.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::files::read_small;
use crate::gateway::store::TokenDigest;

/// Shortest token, in bytes: 16 random characters cannot be guessed over a network.
pub const TOKEN_MIN: usize = 16;
/// Longest token, in bytes.
pub const TOKEN_MAX: usize = 256;
/// Largest token file that is read, in bytes.
const TOKEN_FILE_MAX: u64 = 4096;

/// A device's secret, sent as its MQTT password.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<Vec<u8>>);

impl std::hash::Hash for Token {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.as_slice().hash(state);
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file system refuses.
    #[error("cannot read the token file {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("the token file {} may be read by others (mode {mode:03o}): run 'chmod 600 FILE'", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too short to be a secret, or too long to be meant.
    #[error("the token in {} has {size} bytes; it must have {TOKEN_MIN} to {TOKEN_MAX}: make one with 'openssl rand -hex 16'", path.display())]
    Size {
        /// Which file.
        path: PathBuf,
        /// Its size without the line end.
        size: usize,
    },
    /// Two subscribers with one token.
    #[error("the token in {} is also another subscriber's: every device needs its own", path.display())]
    Twice {
        /// The later file.
        path: PathBuf,
    },
}

impl Token {
    /// A token from memory.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(Zeroizing::new(secret.to_vec()))
    }

    /// Reads a token file: the secret, and perhaps a line end.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let unreadable = |source| TokenError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let content = Zeroizing::new(read_small(path, TOKEN_FILE_MAX).map_err(unreadable)?);
        let secret = content.trim_ascii_end();
        if !(TOKEN_MIN..=TOKEN_MAX).contains(&secret.len()) {
            return Err(TokenError::Size {
                path: path.to_owned(),
                size: secret.len(),
            });
        }
        Ok(Self::new(secret))
    }

    /// The secret, to be digested.
    pub(in crate::gateway) fn secret(&self) -> &[u8] {
        &self.0
    }
}

type Digest = dyn Fn(&[u8]) -> TokenDigest + Send + Sync;

/// Makes keyed digests of tokens.
#[derive(Clone)]
pub struct Digester(Arc<Digest>);

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester(…)")
    }
}

impl Digester {
    /// Digests with another's function: that of a store, whose digests are made with its key.
    #[must_use]
    pub fn new(digest: impl Fn(&[u8]) -> TokenDigest + Send + Sync + 'static) -> Self {
        Self(Arc::new(digest))
    }

    /// HMAC-SHA-256 (RFC 2104) under `key`.
    #[must_use]
    pub fn keyed(key: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Self::new(move |token| {
            let tag = hmac::sign(&key, token);
            TokenDigest(std::array::from_fn(|i| {
                tag.as_ref().get(i).copied().unwrap_or_default()
            }))
        })
    }

    /// HMAC-SHA-256 under a key of this process's own. Without a source of chance the key stays zero, which is logged: digests are then only
    /// as secret as the tokens are long.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut key = Zeroizing::new([0_u8; 32]);
        if SystemRandom::new().fill(key.as_mut()).is_err() {
            tracing::warn!("the operating system gives no random numbers: tokens are compared under a known key");
        }
        Self::keyed(key.as_ref())
    }

    /// The digest of what a device sent.
    #[must_use]
    pub fn digest(&self, token: &[u8]) -> TokenDigest {
        (self.0)(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn token_files_are_private_and_long_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let write = |text: &str, mode| crate::files::write_atomically(&path, text.as_bytes(), mode).unwrap();
        assert!(matches!(Token::read(&path), Err(TokenError::Unreadable { .. })));
        write("0123456789abcdef\n", 0o600);
        assert_eq!(Token::read(&path).unwrap().secret(), b"0123456789abcdef");
        write("0123456789abcdef\n", 0o640);
        assert!(Token::read(&path).unwrap_err().to_string().contains("chmod 600"));
        write("short\n", 0o600);
        assert!(matches!(Token::read(&path), Err(TokenError::Size { size: 5, .. })));
    }

    #[test]
    fn digests_are_hmac_sha_256() {
        // RFC 4231 section 4.3 (test case 2).
        let got = Digester::keyed(b"Jefe").digest(b"what do ya want for nothing?");
        assert_eq!(got.0[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        assert_eq!(got.0[28..], [0x64, 0xec, 0x38, 0x43]);
        let (one, other) = (Digester::of_this_process(), Digester::of_this_process());
        assert!(one.digest(b"x") != other.digest(b"x"), "no two directories share a key");
    }

    proptest! {
        #[test]
        fn digests_are_equal_or_not(a: Vec<u8>, b: Vec<u8>) {
            let d = Digester::keyed(b"k");
            prop_assert_eq!(d.digest(&a) == d.digest(&b), a == b);
        }
    }
}
