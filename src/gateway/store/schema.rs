//! The schema, by steps. A step is a file of `schema/`, done in one transaction with the note that it was done; steps are never changed once
//! they were released. A database that knows a step more than this program is left alone. The number of steps is the schema's version.
//!
//! Who writes (a gateway, a command that changes something) makes the database and takes the steps that are missing. Who only reads leaves
//! both as they are, and says what is to be done.

use std::sync::Arc;

use super::key::KeyPlace;
use super::seal::{Place, Seal, TokenKey, Unsealed};
use super::tx::{Cell, Fail, Tx};
use super::{Keys, StoreError, millis};
use crate::clock::Clock;

/// The steps: their names, and what they do. The number is the place in this list, from 1.
pub(super) const STEPS: [(&str, &str); 4] = [
    ("devices", include_str!("schema/0001_devices.sql")),
    ("last_seen", include_str!("schema/0002_last_seen.sql")),
    ("search", include_str!("schema/0003_search.sql")),
    ("changes", include_str!("schema/0004_changes.sql")),
];

/// What a store needs to begin.
#[derive(Debug, Clone)]
pub(super) struct Boot {
    pub(super) place: KeyPlace,
    pub(super) clock: Clock,
    pub(super) opening: Opening,
}

/// What a database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// To work with it: it is made and migrated.
    Make,
    /// To be read.
    Look,
}

impl Boot {
    pub(super) fn new(place: KeyPlace, clock: &Clock, opening: Opening) -> Self {
        Self {
            place,
            clock: clock.clone(),
            opening,
        }
    }
}

/// PostgreSQL's advisory lock while the schema is made or changed: "onyxgate" as a number.
const LOCK: i64 = i64::from_be_bytes(*b"onyxgate");

async fn lock(tx: &Tx<'_>) -> Result<(), Fail> {
    // SQLite's writing transactions stand in a row by themselves.
    if let Tx::Postgres(_) = tx {
        tx.rows("SELECT CAST(pg_advisory_xact_lock($1) AS TEXT)", &[LOCK.into()])
            .await?;
    }
    Ok(())
}

async fn has_notes(tx: &Tx<'_>) -> Result<bool, Fail> {
    let sql = match tx {
        Tx::Sqlite(_) => "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'schema_step'",
        _ => "SELECT CAST(to_regclass('schema_step') AS TEXT) WHERE to_regclass('schema_step') IS NOT NULL",
    };
    Ok(tx.row(sql, &[]).await?.is_some())
}

/// How many steps were done, each by the name it has here.
async fn done(tx: &Tx<'_>) -> Result<usize, Fail> {
    let mut count = 0;
    for mut row in tx
        .rows("SELECT number, name FROM schema_step ORDER BY number", &[])
        .await?
    {
        let (number, name) = (row.int()?, row.text()?);
        let known = usize::try_from(number - 1).ok().and_then(|n| STEPS.get(n));
        if known.is_none_or(|(known, _)| *known != name) {
            return Err(StoreError::Broken(format!(
                "the database's schema has step {number} ({name:?}), and onyx-gateway {} knows {} steps: the database was made by a newer \
                 one; use that, or restore the database's backup from before",
                env!("CARGO_PKG_VERSION"),
                STEPS.len()
            ))
            .into());
        }
        count += 1;
    }
    Ok(count)
}

/// For who only reads: the keys, if the schema is this program's.
pub(super) async fn look(tx: &Tx<'_>, boot: &Boot) -> Result<Keys, Fail> {
    let version = if has_notes(tx).await? { done(tx).await? } else { 0 };
    if version != STEPS.len() {
        return Err(unready(&format!("the database's schema is version {version}")).into());
    }
    unlock(tx, boot).await
}

/// What who only reads cannot read yet, and what makes it readable.
pub(super) fn unready(what: &str) -> StoreError {
    StoreError::Unready(format!(
        "{what}, and onyx-gateway {} wants version {}: run 'onyx-gateway store migrate' (or start the gateway) once; this command only \
         reads and has changed nothing",
        env!("CARGO_PKG_VERSION"),
        STEPS.len()
    ))
}

/// Does one step that has not been done, and says whether there was one.
pub(super) async fn step(tx: &Tx<'_>, boot: &Boot) -> Result<bool, Fail> {
    lock(tx).await?;
    if !has_notes(tx).await? {
        tx.script(
            "CREATE TABLE schema_step (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, done BIGINT NOT NULL)",
        )
        .await?;
    }
    let count = done(tx).await?;
    let Some((name, sql)) = STEPS.get(count) else {
        return Ok(false);
    };
    tx.script(sql).await?;
    let number = i64::try_from(count).unwrap_or(i64::MAX).saturating_add(1);
    let done = [
        number.into(),
        Cell::from(*name),
        millis(super::time(&boot.clock)).into(),
    ];
    tx.change(
        "INSERT INTO schema_step (number, name, done) VALUES ($1, $2, $3)",
        &done,
    )
    .await?;
    Ok(true)
}

/// Where the key of the tokens' digests stands.
pub(super) const TOKEN_KEY: Place<'static> = Place {
    table: "store_state",
    id: "token_key",
    version: 1,
};

/// Proves `store.key` and takes the keys; in an empty store, makes them.
pub(super) async fn unlock(tx: &Tx<'_>, boot: &Boot) -> Result<Keys, Fail> {
    if boot.opening == Opening::Make {
        lock(tx).await?;
    }
    let state = tx
        .row("SELECT key_name, sealed_token_key FROM store_state WHERE one = 1", &[])
        .await?;
    let Some(mut state) = state else {
        if boot.opening == Opening::Look {
            return Err(unready("the database has its tables and was never opened by a gateway").into());
        }
        let seal = Seal::derive(&boot.place.make()?)?;
        let tokens = TokenKey::random()?;
        let values = [seal.name().to_vec().into(), seal.seal(&tokens[..], TOKEN_KEY)?.into()];
        tx.change(
            "INSERT INTO store_state (one, generation, key_name, sealed_token_key) VALUES (1, 1, $1, $2)",
            &values,
        )
        .await?;
        return Ok(Keys {
            seal,
            tokens: Arc::new(TokenKey::of(&tokens[..])),
        });
    };
    let (name, sealed) = (state.bytes()?, state.bytes()?);
    let shown = boot.place.path().display();
    let Some(key) = boot.place.read()? else {
        return Err(StoreError::Key(format!(
            "the store's key {shown} is missing, and the database was made under one: restore it from its backup; without it \
             nothing that is sealed in the database can be read"
        ))
        .into());
    };
    let seal = Seal::derive(&key)?;
    if name != seal.name() {
        return Err(StoreError::Key(format!(
            "{shown} is not the key of this database (it is key {}, the database is under key {}): use that one",
            crate::digest::hex(seal.name()),
            crate::digest::hex(&name)
        ))
        .into());
    }
    let tokens = seal.open(&sealed, TOKEN_KEY).map_err(|e: Unsealed| {
        StoreError::Broken(format!(
            "the database is damaged: store_state does not open with the right key ({e}); restore the database's backup"
        ))
    })?;
    Ok(Keys {
        tokens: Arc::new(TokenKey::of(&tokens)),
        seal,
    })
}
