//! Who is calling? A device is known by the address it calls from, by a token in its MQTT password, or by both.
//!
//! The rules, in order:
//! 1. If the password is somebody's token, the device is that subscriber; if the subscriber also has a source, the address must lie in
//!    it, otherwise the device is unknown (a token stolen from its network is of no use).
//! 2. Otherwise the subscriber without a token whose source holds the address; the longest prefix wins.
//! 3. Otherwise nobody knows the device.
//!
//! A password that is no token does not harm rule 2: it may be a login for the cloud (`pass_login`).
//!
//! Tokens are secrets: they live in files of mode 0600 and never in the configuration, because mistakes in it are printed. They are
//! compared in a time that does not depend on where they differ. Pure but for [`Token::read`].

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use super::group::GroupId;
use crate::files::read_small;
use crate::identity::Subscriber;

/// Shortest token, in bytes: 16 random characters cannot be guessed over a network.
pub const TOKEN_MIN: usize = 16;
/// Longest token, in bytes.
pub const TOKEN_MAX: usize = 256;
/// Largest token file that is read, in bytes.
const TOKEN_FILE_MAX: u64 = 4096;

/// An address or a range of them: `10.8.0.2`, `10.8.0.0/24`, `2001:db8::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Whether the address lies in the range. IPv4 addresses in IPv6 clothes (`::ffff:10.0.0.1`) count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.length) == self.address
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}

impl FromStr for Prefix {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not an IP address or prefix: write for example \"10.8.0.2\" or \"10.8.0.0/24\"");
        let (address, length) = match text.split_once('/') {
            Some((a, l)) => (a, Some(l)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| wrong())?.to_canonical();
        let length = match length {
            None => width(address),
            Some(l) => l
                .parse::<u8>()
                .ok()
                .filter(|l| *l <= width(address))
                .ok_or_else(wrong)?,
        };
        let base = masked(address, length);
        if base != address {
            return Err(format!(
                "{text:?} has bits after its prefix: write \"{base}/{length}\" for the range or \"{address}\" for the one address"
            ));
        }
        Ok(Self { address, length })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == width(self.address) {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.length)
        }
    }
}

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

    /// Compares in a time that depends on the lengths alone.
    fn is(&self, other: &[u8]) -> bool {
        self.0.len() == other.len()
            && black_box(
                self.0
                    .iter()
                    .zip(other)
                    .fold(0_u8, |acc, (a, b)| black_box(acc | (a ^ b))),
            ) == 0
    }
}

/// One subscriber and how it is recognised.
#[derive(Debug, Clone)]
pub struct Known {
    /// The SIM (and modem, and card) behind the device.
    pub subscriber: Subscriber,
    /// Its group.
    pub group: GroupId,
    /// Where it calls from, if that is told.
    pub source: Option<Prefix>,
    /// Its secret, if it has one.
    pub token: Option<Token>,
}

/// How a device was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By its address alone.
    Source,
    /// By its token; the password has done its work and goes no further.
    Token,
}

/// Everybody who may connect.
#[derive(Debug, Default)]
pub struct Directory {
    all: Vec<Known>,
    by_source: HashMap<(IpAddr, u8), usize>,
    /// Prefix lengths in use, longest first.
    lengths: Vec<u8>,
    with_token: Vec<usize>,
}

impl Directory {
    /// Builds the index. Where two subscribers without token share a source, the first is found (the configuration refuses that).
    #[must_use]
    pub fn new(all: Vec<Known>) -> Self {
        let mut by_source = HashMap::new();
        let mut lengths = BTreeSet::new();
        let mut with_token = Vec::new();
        for (index, known) in all.iter().enumerate() {
            if known.token.is_some() {
                with_token.push(index);
            } else if let Some(p) = known.source {
                by_source.entry((p.address, p.length)).or_insert(index);
                lengths.insert(p.length);
            }
        }
        Self {
            all,
            by_source,
            lengths: lengths.into_iter().rev().collect(),
            with_token,
        }
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody may connect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.all.iter()
    }

    /// The subscriber behind an address and a password, by the rules of this module.
    #[must_use]
    pub fn find(&self, address: IpAddr, password: Option<&[u8]>) -> Option<(&Known, By)> {
        let address = address.to_canonical();
        if let Some(password) = password {
            let mut hit = None;
            for &index in &self.with_token {
                let known = self.all.get(index)?;
                if known.token.as_ref().is_some_and(|t| t.is(password)) {
                    hit = Some(known);
                }
            }
            if let Some(known) = hit {
                return known
                    .source
                    .is_none_or(|s| s.contains(address))
                    .then_some((known, By::Token));
            }
        }
        self.lengths
            .iter()
            .filter(|l| **l <= width(address))
            .find_map(|l| self.by_source.get(&(masked(address, *l), *l)))
            .and_then(|i| self.all.get(*i))
            .map(|k| (k, By::Source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(imsi: &str, source: Option<&str>, token: Option<&str>) -> Known {
        Known {
            subscriber: Subscriber {
                imsi: imsi.parse().unwrap(),
                imei: None,
                iccid: None,
            },
            group: GroupId::default(),
            source: source.map(|s| s.parse().unwrap()),
            token: token.map(|t| Token::new(t.as_bytes())),
        }
    }

    fn find(d: &Directory, address: &str, password: Option<&str>) -> Option<(String, By)> {
        d.find(address.parse().unwrap(), password.map(str::as_bytes))
            .map(|(k, by)| (k.subscriber.imsi.to_string(), by))
    }

    #[test]
    fn tokens_first_then_the_longest_prefix() {
        let d = Directory::new(vec![
            known("100001", Some("10.0.0.0/8"), None),
            known("100002", Some("10.1.0.0/16"), None),
            known("100003", Some("10.1.2.3"), None),
            known("100004", None, Some("the-token-of-number-four")),
            known("100005", Some("10.9.0.0/16"), Some("the-token-of-number-five")),
            known("100006", Some("2001:db8::/32"), None),
        ]);
        let source = |n: &str| Some((n.to_owned(), By::Source));
        assert_eq!(find(&d, "10.7.7.7", None), source("100001"));
        assert_eq!(find(&d, "10.1.7.7", None), source("100002"));
        assert_eq!(find(&d, "10.1.2.3", Some("a login for the cloud")), source("100003"));
        assert_eq!(find(&d, "::ffff:10.1.2.3", None), source("100003"));
        assert_eq!(find(&d, "2001:db8::1", None), source("100006"));
        assert_eq!(find(&d, "192.0.2.1", None), None);
        let four = Some("the-token-of-number-four");
        assert_eq!(find(&d, "192.0.2.1", four), Some(("100004".into(), By::Token)));
        assert_eq!(find(&d, "10.1.2.3", four), Some(("100004".into(), By::Token)));
        let five = Some("the-token-of-number-five");
        assert_eq!(find(&d, "10.9.1.1", five), Some(("100005".into(), By::Token)));
        assert_eq!(find(&d, "10.1.2.3", five), None, "a stolen token is nobody's");
        assert_eq!(
            find(&d, "10.9.1.1", None),
            source("100001"),
            "a source with a token needs the token"
        );
    }

    #[test]
    fn prefixes_say_what_is_wrong() {
        for (text, why) in [
            ("10.0.0.5/24", "10.0.0.0/24"),
            ("10.0.0.0/33", "not an IP"),
            ("beam", "not an IP"),
            ("10.0.0.0/", "not an IP"),
        ] {
            let e = text.parse::<Prefix>().unwrap_err();
            assert!(e.contains(why), "{e}");
        }
        assert!(
            "0.0.0.0/0"
                .parse::<Prefix>()
                .unwrap()
                .contains("1.2.3.4".parse().unwrap())
        );
        assert!(
            "::/0"
                .parse::<Prefix>()
                .unwrap()
                .contains("2001:db8::1".parse().unwrap())
        );
        assert_eq!("10.0.0.0/8".parse::<Prefix>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn token_files_are_private_and_long_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let write = |text: &str, mode| crate::files::write_atomically(&path, text.as_bytes(), mode).unwrap();
        assert!(matches!(Token::read(&path), Err(TokenError::Unreadable { .. })));
        write("0123456789abcdef\n", 0o600);
        assert!(Token::read(&path).unwrap().is(b"0123456789abcdef"));
        write("0123456789abcdef\n", 0o640);
        assert!(Token::read(&path).unwrap_err().to_string().contains("chmod 600"));
        write("short\n", 0o600);
        assert!(matches!(Token::read(&path), Err(TokenError::Size { size: 5, .. })));
    }

    proptest! {
        #[test]
        fn a_prefix_holds_what_shares_its_bits(a: u32, b: u32, length in 0_u8..=32) {
            let p = Prefix { address: masked(IpAddr::V4(a.into()), length), length };
            let same = length == 0 || a >> (32 - length) == b >> (32 - length);
            prop_assert_eq!(p.contains(IpAddr::V4(b.into())), same);
        }

        #[test]
        fn tokens_are_equal_or_not(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(Token::new(&a).is(&b), a == b);
            prop_assert!(Token::new(&a).is(&a));
        }
    }
}
