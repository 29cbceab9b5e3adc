//! The bench's certificate authority, kept in the directory so that devices' credentials outlive a restart.
//!
//! `ca.pem` and `intermediate.pem` are for everybody; `ca.key` and `intermediate.key` are readable by their owner alone. The keys are
//! written first and `ca.pem` last, so a directory with `ca.pem` is complete.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;
use crate::files::{PUBLIC, SECRET, write_atomically};
use crate::pki::{Authority, Issued, PkiError, Purpose, SavedAuthority};
use crate::tls::{Identity, TlsError};

const DAY: Duration = Duration::from_secs(86_400);
/// The authority lives this long.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(3_650 * DAY.as_secs());
/// Device certificates live this long (`step certificate create --not-after 2400h`, as the Event Grid guide has it).
pub(crate) const DEVICE_VALIDITY: Duration = Duration::from_secs(2_400 * 3_600);
/// Server certificates are made at each start.
const SERVER_VALIDITY: Duration = Duration::from_secs(365 * DAY.as_secs());
/// How long ago an expired certificate expired.
const EXPIRED_SINCE: Duration = DAY;
/// An authority is not taken up when it expires sooner than this.
const LEFT_MIN: Duration = Duration::from_secs(30 * DAY.as_secs());
/// Who it is.
const NAME: &str = "Onyx bench";
/// Longest common name (X.520 upper bound ub-common-name, RFC 5280 appendix A).
pub(crate) const COMMON_NAME_MAX: usize = 64;

/// Why there is no authority or certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file system.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// Keys and certificates in the directory cannot be used.
    #[error(
        "the authority in {path} cannot be used: {why}; remove ca.pem, ca.key, intermediate.pem and intermediate.key to get a new one"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Making a certificate failed.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// rustls does not take it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The name cannot be a common name or file name.
    #[error(
        "{0:?} cannot be a device's name: 1 to {COMMON_NAME_MAX} characters without '/', '+', '#' or a leading dot"
    )]
    Name(String),
    /// Nobody knows what time it is.
    #[error("this machine's clock says {0}, which cannot be: set it, certificates depend on it")]
    Clock(String),
}

/// The authority and the clock it dates certificates by.
#[derive(Debug)]
pub struct Ca {
    authority: Authority,
    clock: Clock,
    device_validity: Duration,
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    std::fs::read_to_string(path).map_err(|source| AuthorityError::File {
        path: path.to_owned(),
        source,
    })
}

fn write(path: PathBuf, content: &str, mode: u32) -> Result<(), AuthorityError> {
    write_atomically(&path, content.as_bytes(), mode).map_err(|source| AuthorityError::File { path, source })
}

impl Ca {
    /// Takes up the authority of an earlier run in `directory`, or makes one there.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn open(directory: &Path, clock: Clock) -> Result<Self, AuthorityError> {
        let now = now(&clock)?;
        let path = |name: &str| directory.join(name);
        if !path("ca.pem").exists() {
            let authority = Authority::generate(NAME, now, AUTHORITY_VALIDITY)?;
            let saved = authority.save();
            write(path("ca.key"), &saved.root_key_pem, SECRET)?;
            write(path("intermediate.key"), &saved.intermediate_key_pem, SECRET)?;
            write(path("intermediate.pem"), &saved.intermediate_pem, PUBLIC)?;
            write(path("ca.pem"), &saved.root_pem, PUBLIC)?;
            return Ok(Self {
                authority,
                clock,
                device_validity: DEVICE_VALIDITY,
            });
        }
        let saved = SavedAuthority {
            root_pem: read(&path("ca.pem"))?,
            root_key_pem: read(&path("ca.key"))?.into(),
            intermediate_pem: read(&path("intermediate.pem"))?,
            intermediate_key_pem: read(&path("intermediate.key"))?.into(),
        };
        let unusable = |why: String| AuthorityError::Unusable {
            path: directory.to_owned(),
            why,
        };
        for (pem, key, what) in [
            (&saved.root_pem, &saved.root_key_pem, "ca.pem"),
            (&saved.intermediate_pem, &saved.intermediate_key_pem, "intermediate.pem"),
        ] {
            let identity =
                Identity::from_pem(pem.as_bytes(), key.as_bytes(), what).map_err(|e| unusable(e.to_string()))?;
            if identity.leaf.not_after < now + LEFT_MIN {
                let until = crate::clock::rfc3339(identity.leaf.not_after);
                return Err(unusable(format!("{what} is valid until {until} only")));
            }
        }
        let authority = Authority::load(NAME, &saved).map_err(|e| unusable(e.to_string()))?;
        Ok(Self {
            authority,
            clock,
            device_validity: DEVICE_VALIDITY,
        })
    }

    /// An authority that is written down nowhere.
    #[cfg(any(test, fuzzing))]
    pub(super) fn in_memory(clock: Clock) -> Result<Self, AuthorityError> {
        let authority = Authority::generate(NAME, now(&clock)?, AUTHORITY_VALIDITY)?;
        Ok(Self {
            authority,
            clock,
            device_validity: DEVICE_VALIDITY,
        })
    }

    /// Certificates of devices are valid for so long from now on, at most 100 days.
    #[must_use]
    pub fn with_device_validity(mut self, valid_for: Duration) -> Self {
        self.device_validity = valid_for.min(DEVICE_VALIDITY);
        self
    }

    /// The root certificate.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.authority.root_pem()
    }

    /// The intermediate certificate, which signs the leaves.
    #[must_use]
    pub fn intermediate_pem(&self) -> String {
        self.authority.intermediate_pem()
    }

    /// A device's credentials; `name` is the common name.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn device(&self, name: &str) -> Result<Issued, AuthorityError> {
        check_name(name)?;
        Ok(self
            .authority
            .issue(name, &Purpose::Device, now(&self.clock)?, self.device_validity)?)
    }

    /// A device's certificate for the key and subject of a signing request (PKCS #10, PEM): the leaf as PEM.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn sign_request(&self, csr_pem: &str) -> Result<String, AuthorityError> {
        Ok(self
            .authority
            .sign_request(csr_pem, now(&self.clock)?, self.device_validity)?)
    }

    /// A device's credentials that have expired.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn expired_device(&self, name: &str) -> Result<Issued, AuthorityError> {
        check_name(name)?;
        let then = now(&self.clock)?.saturating_sub(EXPIRED_SINCE + DAY);
        Ok(self.authority.issue(name, &Purpose::Device, then, DAY)?)
    }

    /// A server's identity under these DNS names and IP addresses, the first of which is its common name.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn server(&self, names: Vec<String>) -> Result<Identity, AuthorityError> {
        serving(&self.authority, names, now(&self.clock)?, SERVER_VALIDITY)
    }

    /// A server's identity that has expired, or that is not valid yet.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn server_of_another_time(&self, names: Vec<String>, future: bool) -> Result<Identity, AuthorityError> {
        let now = now(&self.clock)?;
        let then = if future {
            now + EXPIRED_SINCE + DAY
        } else {
            now.saturating_sub(EXPIRED_SINCE + DAY)
        };
        serving(&self.authority, names, then, DAY)
    }

    /// A server's identity by an authority that nobody knows, of the same names as this one.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn stranger(&self, names: Vec<String>) -> Result<Identity, AuthorityError> {
        let now = now(&self.clock)?;
        let stranger = Authority::generate(NAME, now, AUTHORITY_VALIDITY)?;
        serving(&stranger, names, now, SERVER_VALIDITY)
    }

    /// Writes a device's chain and key into `directory`/devices as `NAME.pem` and `NAME.key`.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn write_device(&self, directory: &Path, name: &str) -> Result<Issued, AuthorityError> {
        let issued = self.device(name)?;
        let folder = directory.join("devices");
        std::fs::create_dir_all(&folder).map_err(|source| AuthorityError::File {
            path: folder.clone(),
            source,
        })?;
        write(folder.join(format!("{name}.key")), &issued.key_pem, SECRET)?;
        write(folder.join(format!("{name}.pem")), &issued.chain_pem, PUBLIC)?;
        Ok(issued)
    }
}

fn serving(
    authority: &Authority,
    names: Vec<String>,
    from: Duration,
    valid_for: Duration,
) -> Result<Identity, AuthorityError> {
    let common_name: String = names
        .first()
        .map_or(NAME, String::as_str)
        .chars()
        .take(COMMON_NAME_MAX)
        .collect();
    let issued = authority.issue(&common_name, &Purpose::Server(names), from, valid_for)?;
    Ok(Identity::from_pem(
        issued.chain_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        &common_name,
    )?)
}

fn now(clock: &Clock) -> Result<Duration, AuthorityError> {
    clock
        .now()
        .map(|(time, _)| time)
        .ok_or_else(|| AuthorityError::Clock(crate::clock::rfc3339(clock.system())))
}

fn check_name(name: &str) -> Result<(), AuthorityError> {
    let good = crate::identity::AuthName::new(name.to_owned()).is_ok()
        && name.chars().count() <= COMMON_NAME_MAX
        && !name.starts_with('.');
    if good {
        Ok(())
    } else {
        Err(AuthorityError::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_start_takes_up_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let first = Ca::open(dir.path(), Clock::new()).unwrap();
        let second = Ca::open(dir.path(), Clock::new()).unwrap();
        assert_eq!(first.root_pem(), second.root_pem());
        for name in ["ca.key", "intermediate.key"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_authority_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = Ca::open(dir.path(), Clock::new()).unwrap();
        let other = tempfile::tempdir().unwrap();
        Ca::open(other.path(), Clock::new()).unwrap();
        std::fs::copy(other.path().join("ca.key"), dir.path().join("ca.key")).unwrap();
        let e = Ca::open(dir.path(), Clock::new()).unwrap_err().to_string();
        assert!(e.contains("does not fit") && e.contains("remove"), "{e}");
        assert_eq!(read(&dir.path().join("ca.pem")).unwrap(), first.root_pem());
        std::fs::remove_file(dir.path().join("intermediate.key")).unwrap();
        let e = Ca::open(dir.path(), Clock::new()).unwrap_err().to_string();
        assert!(e.contains("intermediate.key"), "{e}");
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), Clock::new()).unwrap();
        for bad in ["", "../x", ".x", "a/b", &"n".repeat(65)] {
            assert!(matches!(ca.device(bad), Err(AuthorityError::Name(_))), "{bad}");
        }
        let expired = ca.expired_device("d").unwrap();
        let leaf = Identity::from_pem(expired.chain_pem.as_bytes(), expired.key_pem.as_bytes(), "d")
            .unwrap()
            .leaf;
        assert!(leaf.not_after < Clock::new().system());
    }
}
