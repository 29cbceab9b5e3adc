//! A transaction, whichever database it is in. What the store does is written once, above this; the SQL is the same for both.
//!
//! Statements number their parameters `$1`, `$2`, … in the order in which they first appear (SQLite gives named parameters their numbers in
//! that order). Values are 64-bit numbers, texts and bytes, and nothing else, so that both mean the same.

use std::error::Error as _;

use bytes::BytesMut;
use deadpool_postgres::GenericClient;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::StoreError;

/// A value in or out.
#[derive(Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// What only a damaged row of SQLite has; it is never written.
    Fraction,
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Int(_) => "Int(…)",
            Self::Text(_) => "Text(…)",
            Self::Bytes(_) => "Bytes(…)",
            Self::Fraction => "Fraction",
        })
    }
}

impl From<i64> for Cell {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}
impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Self::Int(truth.into())
    }
}
impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<Vec<u8>> for Cell {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}
impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl rusqlite::ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null | Self::Fraction => ValueRef::Null,
            Self::Int(n) => ValueRef::Integer(*n),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl ToSql for Cell {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null | Self::Fraction => Ok(IsNull::Yes),
            Self::Int(n) => n.to_sql_checked(ty, out),
            Self::Text(text) => text.to_sql_checked(ty, out),
            Self::Bytes(bytes) => bytes.to_sql_checked(ty, out),
        }
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    to_sql_checked!();
}

/// One row of an answer; its values are taken from left to right.
#[derive(Debug)]
pub(super) struct Row(std::vec::IntoIter<Cell>);

fn unexpected(want: &str, got: Option<Cell>) -> Fail {
    Fail::Done(StoreError::Broken(format!(
        "the row is damaged: a column has {got:?} where {want} is due; write it again, or restore the database's backup"
    )))
}

impl Row {
    pub(super) fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }
    /// The next value, if it is a text, without taking it.
    pub(super) fn first_text(&self) -> Option<String> {
        match self.0.as_slice().first() {
            Some(Cell::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }
    pub(super) fn int(&mut self) -> Result<i64, Fail> {
        match self.0.next() {
            Some(Cell::Int(n)) => Ok(n),
            other => Err(unexpected("a number", other)),
        }
    }
    pub(super) fn text(&mut self) -> Result<String, Fail> {
        match self.0.next() {
            Some(Cell::Text(text)) => Ok(text),
            other => Err(unexpected("text", other)),
        }
    }
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Fail> {
        match self.0.next() {
            Some(Cell::Bytes(bytes)) => Ok(bytes),
            other => Err(unexpected("bytes", other)),
        }
    }
    pub(super) fn some_int(&mut self) -> Result<Option<i64>, Fail> {
        match self.0.next() {
            Some(Cell::Int(n)) => Ok(Some(n)),
            Some(Cell::Null) => Ok(None),
            other => Err(unexpected("a number", other)),
        }
    }
    pub(super) fn some_text(&mut self) -> Result<Option<String>, Fail> {
        match self.0.next() {
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Null) => Ok(None),
            other => Err(unexpected("text", other)),
        }
    }
    pub(super) fn some_bytes(&mut self) -> Result<Option<Vec<u8>>, Fail> {
        match self.0.next() {
            Some(Cell::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Cell::Null) => Ok(None),
            other => Err(unexpected("bytes", other)),
        }
    }
}

/// Why a transaction did not do it.
#[derive(Debug)]
pub(super) enum Fail {
    /// Asking again changes nothing.
    Done(StoreError),
    /// The transaction was the victim of another one, or its connection is gone: nothing of it has happened, and it may be tried again.
    Again(StoreError),
}

impl From<StoreError> for Fail {
    fn from(e: StoreError) -> Self {
        Self::Done(e)
    }
}

impl Fail {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Done(e) | Self::Again(e) => e,
        }
    }
}

impl From<rusqlite::Error> for Fail {
    fn from(e: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let text = e.to_string();
        Self::Done(match e.sqlite_error_code() {
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => StoreError::Unreachable(
                "the database is held by another program for longer than store.timeout: try again".to_owned(),
            ),
            Some(Code::DiskFull) => StoreError::Broken(format!(
                "the disk of the database is full ({text}): nothing was changed; make room and try again"
            )),
            Some(Code::NotADatabase | Code::DatabaseCorrupt) => StoreError::Broken(format!(
                "the database file is damaged ({text}): stop the gateway, move the file away and restore it from its backup"
            )),
            Some(Code::CannotOpen | Code::PermissionDenied | Code::ReadOnly | Code::SystemIoFailure) => {
                StoreError::Unreachable(format!(
                    "the database file cannot be used ({text}): look at its owner, mode and disk; nothing was changed"
                ))
            }
            Some(Code::ConstraintViolation) => conflict(&text),
            _ => StoreError::Broken(format!("the database refuses: {text}")),
        })
    }
}

impl From<tokio_postgres::Error> for Fail {
    fn from(e: tokio_postgres::Error) -> Self {
        let Some(db) = e.as_db_error() else {
            let mut text = e.to_string();
            let mut source = e.source();
            while let Some(inner) = source {
                text = format!("{text}: {inner}");
                source = inner.source();
            }
            let wrong = StoreError::Unreachable(format!("PostgreSQL does not answer: {text}"));
            return if e.is_closed() || text.contains("onnection") || e.to_string().contains("communicating") {
                Self::Again(wrong)
            } else {
                Self::Done(wrong)
            };
        };
        // Its detail may hold values; the message holds names of tables and columns alone.
        let text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
        let code = db.code();
        let says = |what: &str| format!("PostgreSQL {what}: {text}");
        match code.code().get(..2) {
            _ if [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED].contains(&code) => {
                Self::Again(StoreError::Unreachable(says("put another change before this one")))
            }
            // A plan from before a migration; the statement is prepared anew.
            _ if *code == SqlState::FEATURE_NOT_SUPPORTED => Self::Again(StoreError::Broken(says("refuses"))),
            Some("23") => Self::Done(conflict(&format!(
                "{} {}",
                db.constraint().unwrap_or_default(),
                db.message()
            ))),
            // Connection exception, insufficient resources, operator intervention (a server that stops), object not in state,
            // a server that only reads (it was the first of two, and is the second now).
            Some("08" | "25" | "53" | "57" | "55") => Self::Again(StoreError::Unreachable(says("does not serve"))),
            Some("28" | "3D" | "42") => Self::Done(StoreError::Unreachable(says("refuses this user or database"))),
            _ => Self::Done(StoreError::Broken(says("refuses"))),
        }
    }
}

/// A rule of the schema, in words. The checks before a write name the other party; this is for what gets past them.
fn conflict(text: &str) -> StoreError {
    let words = if text.contains("subscriber_source") || text.contains("subscriber.source_address") {
        "the source is also another subscriber's, and neither has a token or certificate to tell them apart"
    } else if text.contains("subscriber_token") || text.contains("subscriber.token") {
        "the token is also another subscriber's: every device needs its own"
    } else if text.contains("subscriber_certificate") || text.contains("subscriber.certificate") {
        "the certificate is also another subscriber's: every device needs its own"
    } else if text.contains("FOREIGN KEY") || text.contains("subscriber_group_exists") {
        "the group is in use, or does not exist"
    } else {
        return StoreError::Broken(format!("a rule of the database's schema is broken: {text}"));
    };
    StoreError::Conflict(words.to_owned())
}

/// A transaction.
#[derive(Debug)]
pub(super) enum Tx<'c> {
    Sqlite(&'c rusqlite::Connection),
    Postgres(deadpool_postgres::Transaction<'c>),
    /// A connection to PostgreSQL without a transaction, for one statement.
    Glance(&'c deadpool_postgres::Client),
}

impl Tx<'_> {
    /// Asks, and reads the whole answer: bound it by LIMIT.
    pub(super) async fn rows(&self, sql: &str, parameters: &[Cell]) -> Result<Vec<Row>, Fail> {
        match self {
            Self::Sqlite(connection) => {
                use rusqlite::types::ValueRef;
                let mut statement = connection.prepare_cached(sql)?;
                let columns = statement.column_count();
                let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
                let mut out = Vec::new();
                while let Some(row) = rows.next()? {
                    let cells = (0..columns).map(|n| {
                        Ok(match row.get_ref(n)? {
                            ValueRef::Null => Cell::Null,
                            ValueRef::Integer(n) => Cell::Int(n),
                            ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
                            ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
                            // No column holds fractions: whoever reads this one says that it is damaged, and of which row it is.
                            ValueRef::Real(_) => Cell::Fraction,
                        })
                    });
                    out.push(Row::new(cells.collect::<Result<_, Fail>>()?));
                }
                Ok(out)
            }
            Self::Postgres(transaction) => postgres_rows(transaction, sql, parameters).await,
            Self::Glance(client) => postgres_rows(*client, sql, parameters).await,
        }
    }

    /// The one row of the answer, if there is one.
    pub(super) async fn row(&self, sql: &str, parameters: &[Cell]) -> Result<Option<Row>, Fail> {
        Ok(self.rows(sql, parameters).await?.into_iter().next())
    }

    /// Changes something, and says how many rows.
    pub(super) async fn change(&self, sql: &str, parameters: &[Cell]) -> Result<u64, Fail> {
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                Ok(statement.execute(rusqlite::params_from_iter(parameters))? as u64)
            }
            Self::Postgres(transaction) => {
                let statement = transaction.prepare_cached(sql).await?;
                let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|c| c as _).collect();
                Ok(transaction.execute(&statement, &parameters).await?)
            }
            Self::Glance(_) => Err(StoreError::Broken("a change without a transaction".to_owned()).into()),
        }
    }

    /// What makes a text compare by its bytes, whatever the database's own language.
    pub(super) fn by_bytes(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "COLLATE BINARY",
            _ => "COLLATE \"C\"",
        }
    }

    /// Many statements in SQLite's dialect, without parameters.
    pub(super) async fn script(&self, sql: &str) -> Result<(), Fail> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Self::Glance(_) => Err(StoreError::Broken("a change without a transaction".to_owned()).into()),
            // The one word that differs: both then compare texts by their bytes.
            Self::Postgres(transaction) => Ok(transaction
                .batch_execute(&sql.replace("COLLATE BINARY", self.by_bytes()))
                .await?),
        }
    }
}

async fn postgres_rows(on: &impl GenericClient, sql: &str, parameters: &[Cell]) -> Result<Vec<Row>, Fail> {
    let statement = on.prepare_cached(sql).await?;
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|c| c as _).collect();
    let rows = on.query(&statement, &parameters).await?;
    rows.iter().map(from_postgres).collect()
}

fn from_postgres(row: &tokio_postgres::Row) -> Result<Row, Fail> {
    let cells = row.columns().iter().enumerate().map(|(n, column)| {
        Ok(match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(n)?.into(),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(n)?.into(),
            _ => row.try_get::<_, Option<&str>>(n)?.into(),
        })
    });
    Ok(Row::new(cells.collect::<Result<_, Fail>>()?))
}
