//! The database.

use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use super::SECOND;
use crate::config::Section;

/// Which database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// One file, for one gateway.
    Sqlite(PathBuf),
    /// `postgresql://…`, for several.
    Postgres(Zeroizing<String>),
    /// A file with that URL in it, because it may hold a password.
    PostgresFile(PathBuf),
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
            Self::PostgresFile(path) => write!(f, "PostgresFile({})", path.display()),
        }
    }
}

/// The database and the key to it.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Which.
    pub database: Database,
    /// 32 bytes, from which the keys that encrypt secrets are made. Made when the database is.
    pub key_file: Option<PathBuf>,
    /// The name of a systemd credential (`LoadCredentialEncrypted=`) with the same, in place of the file.
    pub key_credential: Option<String>,
    /// Authorities of the database server; none: the operating system's. SQLite needs none.
    pub ca_file: Option<PathBuf>,
    /// How long one question may take.
    pub timeout: Duration,
    /// Connections to PostgreSQL.
    pub connections: usize,
    /// How long known devices are let in while the database does not answer.
    pub stale_for: Duration,
}

/// Where systemd's StateDirectory is.
pub(super) const DEFAULT_FILE: &str = "/var/lib/onyx-gateway/store.db";
/// The key beside it; better on another disk, or a systemd credential.
pub(super) const DEFAULT_KEY: &str = "/var/lib/onyx-gateway/store.key";

pub(super) fn read(mut s: Section<'_, '_>) -> StoreConfig {
    let url = s.text("database");
    let file = s.file("file");
    let url_file = s.file("database_file");
    if [url.is_some(), file.is_some(), url_file.is_some()]
        .iter()
        .filter(|x| **x)
        .count()
        > 1
    {
        s.mistake(
            "database",
            "file, database and database_file name the database each: keep one of them",
        );
    }
    if url
        .as_ref()
        .is_some_and(|u| !u.starts_with("postgresql://") && !u.starts_with("postgres://"))
    {
        s.mistake(
            "database",
            "begins with neither postgresql:// nor postgres://; for SQLite write file = \"store.db\"",
        );
    }
    let key_credential = s.text("key_credential");
    let key_file = s.file("key_file");
    if key_file.is_some() && key_credential.is_some() {
        s.mistake(
            "key_credential",
            "key_file is set too, and there is one key: remove one of them",
        );
    }
    let config = StoreConfig {
        database: match (url, url_file) {
            (Some(url), _) => Database::Postgres(Zeroizing::new(url)),
            (None, Some(path)) => Database::PostgresFile(path),
            (None, None) => Database::Sqlite(file.unwrap_or_else(|| DEFAULT_FILE.into())),
        },
        key_file: key_file.or_else(|| key_credential.is_none().then(|| DEFAULT_KEY.into())),
        key_credential,
        ca_file: s.file("ca_file"),
        timeout: s.duration("timeout", 5 * SECOND, SECOND..=60 * SECOND),
        connections: s
            .number("connections", 1..=1_000)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(8),
        stale_for: s.duration("stale_for", 3_600 * SECOND, Duration::ZERO..=30 * 86_400 * SECOND),
    };
    s.finish();
    config
}
