//! PostgreSQL: one database, several gateways.
//!
//! A bounded pool of connections on the thread of the store ([`super::owner`]). A connection on which anything went wrong, or whose question was
//! given up, is thrown away; the next question makes a new one, so a server that was restarted is found again by itself. A transaction that
//! lost against another one, or whose connection was gone before it was committed, is tried again up to [`TRIES`] times within its time
//! limit. One whose connection broke *while* it was committed is not: nobody knows what became of it, and the asker is told so.
//!
//! The server is told the time limits as well (`statement_timeout`, `idle_in_transaction_session_timeout`): a gateway that froze in the middle
//! of a change does not hold up the others.
//!
//! TLS is rustls and always verifies, name and all: `sslmode=require`, `verify-ca` and `verify-full` are the same here (libpq's `require`
//! does not verify). `prefer` and `allow`, which protect from nobody, are refused. Without `sslmode`, other hosts are spoken to as with
//! `require`, and this machine (a Unix socket, a loopback address) in the clear.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{IsolationLevel, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

use super::owner::{self, Mode, Owner, Work};
use super::schema::Opening;
use super::tx::{Fail, Tx};
use super::{Keys, StoreConfig, StoreError, WHOLE_TIMES, schema};
use crate::files::read_small;
use crate::gateway::config::Database;
use crate::tls;

/// How often a transaction is tried.
const TRIES: u32 = 5;
/// The pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(20);
/// Largest file with a URL that is read, in bytes.
const URL_MAX: u64 = 8_192;
/// Silence after which TCP asks whether the server is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Connections to the server. Lives on the store's thread.
#[derive(Debug, Clone)]
pub(super) struct Pool(deadpool_postgres::Pool);

/// Connects on a thread of its own.
pub(super) async fn open(settings: StoreConfig, boot: schema::Boot) -> Result<(Owner, Keys), StoreError> {
    let (owner, mut jobs) = Owner::new(settings.timeout, boot.opening);
    let (told, opened) = oneshot::channel();
    let pool = connect(&settings, &boot)?;
    let patience = settings.timeout * WHOLE_TIMES;
    let connections = settings.connections;
    let thread = move || {
        let life = async move {
            let keys = prepare(&pool, &boot, patience).await;
            let good = keys.is_ok();
            if told.send(keys).is_err() || !good {
                return;
            }
            let places = Arc::new(Semaphore::new(connections));
            while let Some(job) = jobs.recv().await {
                let Ok(place) = places.clone().acquire_owned().await else {
                    return;
                };
                let asked = job.ask_postgres(pool.clone());
                tokio::task::spawn_local(async move {
                    asked.await;
                    drop(place);
                });
            }
        };
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, life),
            Err(e) => tracing::error!("the database's thread cannot start: {e}"),
        }
    };
    let keys = owner::start(opened, thread).await?;
    Ok((owner, keys))
}

/// Migrates and unlocks; gateways that start together wait for each other.
async fn prepare(pool: &Pool, boot: &schema::Boot, patience: Duration) -> Result<Keys, StoreError> {
    if boot.opening == Opening::Look {
        let boot = boot.clone();
        let look: Work<Keys> = Box::new(move |tx| {
            let boot = boot.clone();
            Box::pin(async move { schema::look(tx, &boot).await })
        });
        return pool.transaction(Mode::Read, patience, &look).await;
    }
    loop {
        let boot = boot.clone();
        let step: Work<bool> = Box::new(move |tx| {
            let boot = boot.clone();
            Box::pin(async move { schema::step(tx, &boot).await })
        });
        if !pool.transaction(Mode::Write, patience, &step).await? {
            break;
        }
    }
    let boot = boot.clone();
    let unlock: Work<Keys> = Box::new(move |tx| {
        let boot = boot.clone();
        Box::pin(async move { schema::unlock(tx, &boot).await })
    });
    pool.transaction(Mode::Write, patience, &unlock).await
}

/// A connection that goes back to the pool only when it is known to be good.
struct Lease(Option<Object>);

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

impl Pool {
    pub(super) async fn transaction<T>(&self, mode: Mode, patience: Duration, work: &Work<T>) -> Result<T, StoreError> {
        let tries = async {
            let mut pause = PAUSE;
            for _ in 1..TRIES {
                match self.once(mode, work).await {
                    Err(Fail::Again(_)) => {}
                    done => return done.map_err(Fail::into_error),
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            self.once(mode, work).await.map_err(Fail::into_error)
        };
        match tokio::time::timeout(patience, tries).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::Unreachable(format!(
                "PostgreSQL did not answer within {} s (store.timeout){}",
                patience.as_secs(),
                if mode == Mode::Write { UNKNOWN } else { "" }
            ))),
        }
    }

    async fn once<T>(&self, mode: Mode, work: &Work<T>) -> Result<T, Fail> {
        let mut lease = Lease(Some(self.0.get().await.map_err(no_connection)?));
        let value = match lease.0.as_mut() {
            Some(client) => on(client, mode, work).await?,
            None => return Err(StoreError::Unreachable("the connection is gone".to_owned()).into()),
        };
        drop(lease.0.take());
        Ok(value)
    }
}

/// What is said of a change that may or may not have been made.
const UNKNOWN: &str = "; whether the change was made is not known: look before you repeat it";

async fn on<T>(client: &mut Object, mode: Mode, work: &Work<T>) -> Result<T, Fail> {
    let transaction = match mode {
        Mode::Glance => return work(&Tx::Glance(client)).await,
        Mode::Read => {
            let one_state = client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead);
            one_state.read_only(true).start().await?
        }
        // The first statement of every change takes the lock of the generation; what is read after that is current.
        Mode::Write => {
            let current = client
                .build_transaction()
                .isolation_level(IsolationLevel::ReadCommitted);
            current.start().await?
        }
    };
    let tx = Tx::Postgres(transaction);
    let done = work(&tx).await;
    let Tx::Postgres(transaction) = tx else {
        return done;
    };
    match done {
        Ok(value) => match transaction.commit().await {
            Ok(()) => Ok(value),
            Err(e) if mode == Mode::Write && e.as_db_error().is_none() => Err(Fail::Done(StoreError::Unreachable(
                format!("the connection to PostgreSQL broke while a change was committed{UNKNOWN}"),
            ))),
            Err(e) => Err(e.into()),
        },
        // A refusal by the store itself leaves the connection good.
        Err(Fail::Done(e)) => {
            transaction.rollback().await?;
            Err(Fail::Done(e))
        }
        Err(e) => Err(e),
    }
}

fn no_connection(e: PoolError) -> Fail {
    match e {
        PoolError::Backend(e) => e.into(),
        PoolError::Timeout(_) => {
            StoreError::Unreachable("PostgreSQL gave no connection within store.timeout".to_owned()).into()
        }
        other => StoreError::Unreachable(format!("no connection to PostgreSQL: {other}")).into(),
    }
}

fn connect(settings: &StoreConfig, boot: &schema::Boot) -> Result<Pool, StoreError> {
    let url = url(&settings.database)?;
    let (config, ca) = configuration(&url)?;
    let ca = settings.ca_file.clone().or(ca);
    let config = bounded(config, settings.timeout);
    let manager = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = if config.get_ssl_mode() == SslMode::Disable {
        Manager::from_config(config, NoTls, manager)
    } else {
        let roots = match &ca {
            Some(path) => {
                let shown = path.display().to_string();
                let pem = read_small(path, crate::gateway::book::FILE_MAX)
                    .map_err(|e| StoreError::Unreachable(format!("store.ca_file: cannot read {shown}: {e}")))?;
                tls::roots(&pem, &shown)
            }
            None => tls::system_roots(),
        };
        let client = tls::Client {
            identity: None,
            roots: roots.map_err(|e| StoreError::Unreachable(format!("store.ca_file: {e}")))?,
            versions: tls::Versions::Both,
            alpn: &[],
        };
        let client = client
            .build(&boot.clock)
            .map_err(|e| StoreError::Unreachable(e.to_string()))?;
        Manager::from_config(config, MakeRustlsConnect::new((*client).clone()), manager)
    };
    let limit = (settings.timeout * WHOLE_TIMES).as_millis();
    let mut limits = format!("SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}");
    if boot.opening == Opening::Look {
        limits += "; SET default_transaction_read_only = on";
    }
    let limits = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
        let limits = limits.clone();
        Box::pin(async move { client.batch_execute(&limits).await.map_err(HookError::Backend) })
    });
    deadpool_postgres::Pool::builder(manager)
        .max_size(settings.connections)
        .runtime(Runtime::Tokio1)
        .timeouts(deadpool_postgres::Timeouts {
            wait: Some(settings.timeout),
            create: Some(settings.timeout),
            recycle: Some(settings.timeout),
        })
        .post_create(limits)
        .build()
        .map(Pool)
        .map_err(|e| StoreError::Unreachable(format!("no connections to PostgreSQL: {e}")))
}

fn url(database: &Database) -> Result<Zeroizing<String>, StoreError> {
    let path = match database {
        Database::Postgres(url) => return Ok(url.clone()),
        Database::PostgresFile(path) => path,
        Database::Sqlite(_) => return Err(StoreError::Broken("the database is a file".to_owned())),
    };
    let shown = path.display();
    let wrong = |e: std::io::Error| StoreError::Unreachable(format!("store.database_file: cannot read {shown}: {e}"));
    let mode = std::fs::metadata(path).map_err(wrong)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::Unreachable(format!(
            "store.database_file: {shown} may be read by others (mode {mode:03o}), and it may hold a password: run 'chmod 600 {shown}'"
        )));
    }
    let bytes = read_small(path, URL_MAX).map(Zeroizing::new).map_err(wrong)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| not_a_url())?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Never with the parser's words: they may show pieces of a password that was not percent-encoded.
fn not_a_url() -> StoreError {
    StoreError::Unreachable(
        "the database's URL cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require, with anything but \
         letters, digits, '-', '.', '_' and '~' in the password as %XX, and no option that PostgreSQL does not know"
            .to_owned(),
    )
}

/// The URL as the client library takes it, with our meaning of `sslmode`, and `sslrootcert`.
fn configuration(url: &str) -> Result<(tokio_postgres::Config, Option<std::path::PathBuf>), StoreError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    // A question mark in the password would end it here, and only here: the client library takes it for a part of it.
    if query.contains('@') {
        return Err(not_a_url());
    }
    let (mut mode, mut ca, mut rest) = (None, None, Zeroizing::new(String::new()));
    for option in query.split('&').filter(|o| !o.is_empty()) {
        match option.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value),
            Some(("sslrootcert", value)) => ca = Some(value.replace("%2F", "/").into()),
            _ => {
                let before = if rest.is_empty() { '?' } else { '&' };
                rest.push(before);
                rest.push_str(option);
            }
        }
    }
    let text = Zeroizing::new(format!("{base}{}", *rest));
    let mut config: tokio_postgres::Config = text.parse().map_err(|_| not_a_url())?;
    let encrypted = match mode {
        Some("require" | "verify-ca" | "verify-full") => true,
        Some("disable") => false,
        None => !config.get_hosts().iter().all(is_here),
        Some(_) => {
            return Err(StoreError::Unreachable(
                "the database's URL: sslmode may be verify-full (or require, or verify-ca, which are the same here), or disable; \
                 'prefer' and 'allow' protect from nobody"
                    .to_owned(),
            ));
        }
    };
    config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
    Ok((config, ca))
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback()),
    }
}

fn bounded(mut config: tokio_postgres::Config, timeout: Duration) -> tokio_postgres::Config {
    config
        .connect_timeout(timeout)
        .tcp_user_timeout(timeout)
        .keepalives_idle(KEEP_ALIVE)
        // Of several hosts, the one that takes changes.
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_application_name().is_none() {
        config.application_name("onyx-gateway");
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<SslMode, String> {
        configuration(url)
            .map(|(c, _)| c.get_ssl_mode())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn tls_is_the_rule_for_other_hosts() {
        for (url, want) in [
            ("postgresql://u:p@db.example/onyx", SslMode::Require),
            ("postgresql://u:p@db.example/onyx?sslmode=verify-full", SslMode::Require),
            (
                "postgresql://u:p@db.example/onyx?sslmode=verify-ca&connect_timeout=3",
                SslMode::Require,
            ),
            ("postgresql://u:p@127.0.0.1/onyx?sslmode=require", SslMode::Require),
            ("postgresql://u:p@db.example/onyx?sslmode=disable", SslMode::Disable),
            ("postgresql://u:p@127.0.0.1:5432/onyx", SslMode::Disable),
            ("postgresql:///onyx?host=/run/postgresql", SslMode::Disable),
            ("postgresql://u@localhost,db.example/onyx", SslMode::Require),
        ] {
            assert_eq!(mode(url), Ok(want), "{url}");
        }
        assert!(
            mode("postgresql://u:p@h/d?sslmode=prefer")
                .unwrap_err()
                .contains("protect from nobody")
        );
        let (_, ca) = configuration("postgresql://u:p@h/d?sslrootcert=%2Fetc%2Fca.pem&sslmode=verify-full").unwrap();
        assert_eq!(ca, Some("/etc/ca.pem".into()));
    }

    #[test]
    fn no_piece_of_the_password_is_in_a_message() {
        for url in [
            "postgresql://u:se?cr=et&@h/d",
            "postgresql://u:secret@h:port/d",
            "http://u:secret@h/d",
            "postgresql://u@h/d?password=secret&sslmode=secret",
        ] {
            let e = mode(url).unwrap_err();
            assert!(!e.contains("cr") && !e.contains("secret"), "{e}");
        }
    }

    #[test]
    fn the_file_with_the_url_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("url");
        let database = Database::PostgresFile(path.clone());
        crate::files::write_atomically(&path, b"postgresql://u:p@h/d\n", 0o644).unwrap();
        assert!(url(&database).unwrap_err().to_string().contains("chmod 600"));
        crate::files::write_atomically(&path, b"postgresql://u:p@h/d\n", 0o600).unwrap();
        assert_eq!(*url(&database).unwrap(), "postgresql://u:p@h/d");
    }
}
