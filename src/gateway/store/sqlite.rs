//! SQLite: one file, one gateway. Write-ahead log with `synchronous=FULL`: what was answered is on the disk.
//!
//! Another program (the CLI) may use the file at the same time; who comes second waits for `store.timeout`. A change whose asker has
//! gone before it was committed is undone.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::owner::{self, Local, Mode, Owner};
use super::schema::Opening;
use super::tx::{Fail, Tx};
use super::{Keys, StoreError, schema};
use crate::files::SECRET;

/// How large the write-ahead log may stay after a checkpoint, in bytes.
const WAL_KEEPS: i64 = 4 << 20;
/// Statements that stay prepared.
const STATEMENTS: usize = 64;

/// Opens the file on a thread of its own.
pub(super) async fn open(path: PathBuf, timeout: Duration, boot: schema::Boot) -> Result<(Owner, Keys), StoreError> {
    let (owner, mut jobs) = Owner::new(timeout, boot.opening);
    let (told, opened) = oneshot::channel();
    let thread = move || {
        let connection = match connect(&path, timeout, boot.opening).and_then(|c| Ok((prepare(&c, &boot)?, c))) {
            Ok((keys, connection)) => {
                if told.send(Ok(keys)).is_err() {
                    return;
                }
                connection
            }
            Err(e) => {
                let _ = told.send(Err(e));
                return;
            }
        };
        while let Some(job) = jobs.blocking_recv() {
            job.ask_sqlite(&connection);
        }
    };
    let keys = owner::start(opened, thread).await?;
    Ok((owner, keys))
}

/// Migrates and unlocks.
fn prepare(connection: &Connection, boot: &schema::Boot) -> Result<Keys, StoreError> {
    let never = || false;
    if boot.opening == Opening::Look {
        return run(connection, Mode::Read, &|tx| now(schema::look(tx, boot)), never);
    }
    loop {
        let step = |tx: &Tx<'_>| now(schema::step(tx, boot));
        if !run(connection, Mode::Write, &step, never)? {
            break;
        }
    }
    run(connection, Mode::Write, &|tx| now(schema::unlock(tx, boot)), never)
}

/// A future over SQLite never waits.
fn now<T>(future: impl Future<Output = Result<T, Fail>>) -> Result<T, Fail> {
    future
        .now_or_never()
        .unwrap_or_else(|| Err(StoreError::Broken("a question to SQLite waited for something else".to_owned()).into()))
}

/// Does the work in one transaction.
pub(super) fn transaction<T>(
    connection: &Connection,
    mode: Mode,
    work: &(dyn for<'a, 'c> Fn(&'a Tx<'c>) -> Local<'a, Result<T, Fail>> + Send),
    unwanted: impl Fn() -> bool,
) -> Result<T, StoreError> {
    run(connection, mode, &|tx| now(work(tx)), unwanted)
}

fn run<T>(
    connection: &Connection,
    mode: Mode,
    work: &dyn Fn(&Tx<'_>) -> Result<T, Fail>,
    unwanted: impl Fn() -> bool,
) -> Result<T, StoreError> {
    let sql = |text: &str| connection.execute_batch(text).map_err(|e| Fail::from(e).into_error());
    sql(match mode {
        Mode::Glance => return work(&Tx::Sqlite(connection)).map_err(Fail::into_error),
        Mode::Read => "BEGIN",
        Mode::Write => "BEGIN IMMEDIATE",
    })?;
    let done = work(&Tx::Sqlite(connection)).map_err(Fail::into_error);
    let done = done.and_then(|value| {
        if mode == Mode::Write && unwanted() {
            return Err(StoreError::Unreachable(
                "nobody waits for the change any more".to_owned(),
            ));
        }
        sql("COMMIT").map(|()| value)
    });
    // Some failures (a full disk) have rolled back already.
    if done.is_err() && !connection.is_autocommit() {
        sql("ROLLBACK")?;
    }
    done
}

fn connect(path: &Path, timeout: Duration, opening: Opening) -> Result<Connection, StoreError> {
    private(path, opening)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let told = |e: rusqlite::Error| match Fail::from(e).into_error() {
        StoreError::Broken(why) => StoreError::Broken(format!("{}: {why}", path.display())),
        StoreError::Unreachable(why) => StoreError::Unreachable(format!("{}: {why}", path.display())),
        other => other,
    };
    let set_up = || -> rusqlite::Result<(Connection, String)> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(timeout)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        match opening {
            Opening::Make => connection.pragma_update(None, "journal_mode", "wal")?,
            // Not the flag SQLITE_OPEN_READ_ONLY, which leaves the files of the write-ahead log behind.
            Opening::Look => connection.pragma_update(None, "query_only", true)?,
        }
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        if opening == Opening::Make {
            connection.pragma_update(None, "journal_size_limit", WAL_KEEPS)?;
        }
        let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok((connection, verdict))
    };
    let (connection, verdict) = set_up().map_err(told)?;
    if verdict == "ok" {
        return Ok(connection);
    }
    Err(StoreError::Broken(format!(
        "{}: the database file is damaged ({verdict}): stop the gateway, move the file away and restore it from its backup",
        path.display()
    )))
}

/// Makes the file if it may, for nobody else to read, and looks at who could put another in its place.
fn private(path: &Path, opening: Opening) -> Result<(), StoreError> {
    let shown = path.display();
    let unreachable = |what: &str, e: std::io::Error| StoreError::Unreachable(format!("{what}: {e}"));
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let meta = std::fs::metadata(folder)
        .map_err(|e| unreachable(&format!("the database's folder {} cannot be used", folder.display()), e))?;
    let mode = meta.permissions().mode();
    // In a sticky folder others can add, and not replace.
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        let folder = folder.display();
        return Err(StoreError::Unreachable(format!(
            "others may write to {folder} (mode {:03o}), and so put another database there: run 'chmod go-w {folder}'",
            mode & 0o777
        )));
    }
    if opening == Opening::Look {
        return match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(schema::unready(&format!("there is no database {shown} yet")))
            }
            _ => regular(path),
        };
    }
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(SECRET)
        .open(path);
    match made {
        Ok(_) => {
            return crate::files::give_to_owner_of_directory(path)
                .map_err(|e| unreachable(&format!("cannot give {shown} to its folder's owner"), e));
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(unreachable(&format!("cannot make the database {shown}"), e)),
    }
    regular(path)
}

/// Whether it is a file that nobody else may read.
fn regular(path: &Path) -> Result<(), StoreError> {
    let shown = path.display();
    let meta =
        std::fs::symlink_metadata(path).map_err(|e| StoreError::Unreachable(format!("cannot look at {shown}: {e}")))?;
    if !meta.is_file() {
        return Err(StoreError::Unreachable(format!(
            "{shown} is not a regular file: name the file itself in store.file"
        )));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::Unreachable(format!(
            "the database {shown} may be read by others (mode {mode:03o}): run 'chmod 600 {shown}'"
        )));
    }
    Ok(())
}
