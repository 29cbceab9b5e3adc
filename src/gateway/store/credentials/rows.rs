//! Credentials as rows.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::gateway::credential::{CredentialId, Version};
use crate::gateway::store::list::{self, Damaged, Page};
use crate::gateway::store::seal::{Place, Seal};
use crate::gateway::store::subscribers::{in_pairs, pairs};
use crate::gateway::store::tx::{Cell, Fail, Row, Tx};
use crate::gateway::store::{
    About, CredentialSecret, CredentialSummary, DESCRIPTION_MAX, NAME_MAX, StoreError, millis, raise, raise_sealed,
    since,
};

/// Largest secret, in bytes: a key, a chain of certificates and authorities as JSON.
pub const SECRET_MAX: usize = 256 << 10;

const COLUMNS: &str = "c.id, c.kind, c.description, c.version, c.not_after, c.created, c.updated, u.used";
const FROM: &str = "FROM credential c LEFT JOIN credential_used u ON u.id = c.id";

fn place(id: &str, version: i64) -> Place<'_> {
    Place {
        table: "credential",
        id,
        version,
    }
}

/// The version of a credential is the generation in which it was written: no two states of one name ever share it.
fn version(number: i64) -> Version {
    Version(number.to_be_bytes().to_vec())
}

fn summary(row: &mut Row) -> Result<(CredentialSummary, i64), Fail> {
    let id = row.text()?;
    let (kind, description, number) = (row.text()?, row.text()?, row.int()?);
    let not_after = row.some_int()?.map(since);
    let (created, updated, last_used) = (since(row.int()?), since(row.int()?), row.some_int()?.map(since));
    let id = id.parse().map_err(|e| {
        StoreError::Broken(format!(
            "its id is none ({e}): restore the database's backup, or remove the row by hand"
        ))
    })?;
    let summary = CredentialSummary {
        id,
        kind,
        description,
        created,
        updated,
        last_used,
        not_after,
        version: version(number),
    };
    Ok((summary, number))
}

/// A page; with a seal, each secret is opened too.
pub(super) async fn page(
    tx: &Tx<'_>,
    after: &str,
    limit: i64,
    seal: Option<&Seal>,
) -> Result<Page<CredentialSummary>, Fail> {
    let secret = if seal.is_some() { ", c.sealed_secret" } else { "" };
    let sql = format!("SELECT {COLUMNS}{secret} {FROM} WHERE c.id > $1 ORDER BY c.id LIMIT $2");
    let rows = tx.rows(&sql, &[after.into(), limit.into()]).await?;
    let mut page = Page {
        next: list::next(&rows, after, limit),
        ..Page::default()
    };
    for row in rows {
        page.take(read(row, seal));
    }
    Ok(page)
}

fn read(mut row: Row, seal: Option<&Seal>) -> Result<CredentialSummary, Damaged> {
    let id = row.first_text().unwrap_or_default();
    let damaged = |e| list::damaged("credential", &id, e);
    let (summary, number) = summary(&mut row).map_err(damaged)?;
    if let Some(seal) = seal {
        let sealed = row.bytes().map_err(damaged)?;
        open(&sealed, &id, number, seal).map_err(|why| Damaged {
            what: "credential",
            id: id.clone(),
            why,
        })?;
    }
    Ok(summary)
}

fn open(sealed: &[u8], id: &str, number: i64, seal: &Seal) -> Result<Zeroizing<String>, String> {
    let plain = seal.open(sealed, place(id, number)).map_err(|e| e.to_string())?;
    let text = std::str::from_utf8(&plain).map_err(|_| "its secret is no text: write it again".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

pub(super) async fn version_of(tx: &Tx<'_>, id: &CredentialId) -> Result<Option<Version>, Fail> {
    let row = tx
        .row("SELECT version FROM credential WHERE id = $1", &[id.as_str().into()])
        .await?;
    row.map(|mut row| Ok(version(row.int()?))).transpose()
}

pub(super) async fn one(tx: &Tx<'_>, id: &CredentialId, seal: &Seal) -> Result<Option<CredentialSecret>, Fail> {
    let sql = format!("SELECT {COLUMNS}, c.sealed_secret {FROM} WHERE c.id = $1");
    let Some(mut row) = tx.row(&sql, &[id.as_str().into()]).await? else {
        return Ok(None);
    };
    let (summary, number) = summary(&mut row)?;
    let secret = open(&row.bytes()?, id.as_str(), number, seal)
        .map_err(|why| StoreError::Broken(format!("credential {}: {why}", id.as_str())))?;
    Ok(Some(CredentialSecret { summary, secret }))
}

/// What is written.
#[derive(Clone)]
pub(super) struct New {
    pub(super) id: CredentialId,
    pub(super) kind: String,
    pub(super) description: String,
    pub(super) secret: Zeroizing<String>,
    pub(super) not_after: Option<Duration>,
    pub(super) new: bool,
    pub(super) now: Duration,
}

pub(super) async fn put(tx: &Tx<'_>, new: &New, seal: &Seal) -> Result<CredentialSummary, Fail> {
    let number = raise_sealed(tx, About::Credential(&new.id), seal).await?;
    let id = new.id.as_str();
    if new.secret.len() > SECRET_MAX {
        return Err(StoreError::Refused(format!("credential {id} has more than {SECRET_MAX} bytes")).into());
    }
    if new.kind.len() > NAME_MAX || new.description.chars().count() > DESCRIPTION_MAX {
        return Err(StoreError::Refused(format!(
            "credential {id}: a type of at most {} and a description of at most {} characters",
            NAME_MAX, DESCRIPTION_MAX
        ))
        .into());
    }
    let there = tx.row("SELECT id FROM credential WHERE id = $1", &[id.into()]).await?;
    if new.new && there.is_some() {
        return Err(StoreError::Conflict(format!(
            "credential {id} is there already: change it, or remove it first"
        ))
        .into());
    }
    let now = millis(new.now);
    let values = [
        id.into(),
        new.kind.as_str().into(),
        new.description.as_str().into(),
        number.into(),
        seal.seal(new.secret.as_bytes(), place(id, number))?.into(),
        Cell::from(new.not_after.map(millis)),
        now.into(),
        now.into(),
    ];
    tx.change(
        "INSERT INTO credential (id, kind, description, version, sealed_secret, not_after, created, updated) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, \
         description = excluded.description, version = excluded.version, sealed_secret = excluded.sealed_secret, \
         not_after = excluded.not_after, updated = excluded.updated",
        &values,
    )
    .await?;
    let row = tx
        .row(&format!("SELECT {COLUMNS} {FROM} WHERE c.id = $1"), &[id.into()])
        .await?;
    let mut row = row.ok_or_else(|| missing(&new.id))?;
    Ok(summary(&mut row)?.0)
}

fn missing(id: &CredentialId) -> Fail {
    StoreError::Missing(format!("credential {}", id.as_str())).into()
}

pub(super) async fn delete(tx: &Tx<'_>, id: &CredentialId) -> Result<(), Fail> {
    raise(tx, About::Credential(id)).await?;
    match tx
        .change("DELETE FROM credential WHERE id = $1", &[id.as_str().into()])
        .await?
    {
        0 => Err(missing(id)),
        _ => Ok(()),
    }
}

pub(super) async fn used(tx: &Tx<'_>, list: &[(CredentialId, Duration)]) -> Result<(), Fail> {
    let list = list.iter().map(|(id, at)| (id.as_str().to_owned(), *at)).collect();
    for values in in_pairs(list) {
        let sql = format!(
            "INSERT INTO credential_used (id, used) SELECT c.id, v.column2 FROM (VALUES {}) AS v JOIN credential c ON c.id = v.column1 \
             WHERE TRUE ON CONFLICT (id) DO UPDATE SET used = excluded.used WHERE credential_used.used <= excluded.used",
            pairs(values.len() / 2)
        );
        tx.change(&sql, &values).await?;
    }
    Ok(())
}

/// Credentials that are sealed anew before the next are read.
const RESEAL_AT_ONCE: i64 = 500;

/// Seals every secret anew.
pub(in crate::gateway::store) async fn reseal(tx: &Tx<'_>, from: &Seal, to: &Seal) -> Result<u64, Fail> {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let sql = "SELECT id, version, sealed_secret FROM credential WHERE id > $1 ORDER BY id LIMIT $2";
        let rows = tx.rows(sql, &[after.as_str().into(), RESEAL_AT_ONCE.into()]).await?;
        if rows.is_empty() {
            return Ok(count);
        }
        for mut row in rows {
            let (id, number, old) = (row.text()?, row.int()?, row.bytes()?);
            let plain = from
                .open(&old, place(&id, number))
                .map_err(|e| StoreError::Broken(format!("credential {id}: {e}; mend it before the key is changed")))?;
            let new = to.seal(&plain, place(&id, number))?;
            let sql = "UPDATE credential SET sealed_secret = $1 WHERE id = $2";
            tx.change(sql, &[new.into(), id.as_str().into()]).await?;
            (after, count) = (id, count + 1);
        }
    }
}
