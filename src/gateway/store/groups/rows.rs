//! Groups as rows. The configuration is one sealed value: all of it is read together, and it may hold passwords and keys.

use std::collections::BTreeMap;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::gateway::group::GroupId;
use crate::gateway::store::list::{self, Damaged, Page};
use crate::gateway::store::seal::{Place, Seal};
use crate::gateway::store::tx::{Cell, Fail, Row, Tx};
use crate::gateway::store::{About, GroupRecord, Judge, NAME_MAX, StoreError, millis, raise, raise_sealed, since};

/// Largest configuration of a group, as JSON, in bytes.
pub const CONFIGURATION_MAX: usize = 256 << 10;

/// Namespace, key, value.
pub type Configuration = BTreeMap<String, BTreeMap<String, Value>>;

fn place(id: &str, version: i64) -> Place<'_> {
    Place {
        table: "device_group",
        id,
        version,
    }
}

const COLUMNS: &str = "id, name, version, sealed_configuration, created, updated";

fn record(mut row: Row, seal: &Seal) -> Result<GroupRecord, Damaged> {
    let id = row.first_text().unwrap_or_default();
    let damaged = |e| list::damaged("group", &id, e);
    let mut read = || -> Result<GroupRecord, Fail> {
        let (id, name, version, sealed) = (row.text()?, row.text()?, row.int()?, row.bytes()?);
        let (created, updated) = (since(row.int()?), since(row.int()?));
        let parsed: GroupId = id.parse().map_err(|e| {
            StoreError::Broken(format!(
                "its id is none ({e}): restore the database's backup, or remove the row by hand"
            ))
        })?;
        Ok(GroupRecord {
            id: parsed,
            name,
            configuration: open(&sealed, &id, version, seal).map_err(StoreError::Broken)?,
            created,
            updated,
        })
    };
    read().map_err(damaged)
}

fn open(sealed: &[u8], id: &str, version: i64, seal: &Seal) -> Result<Configuration, String> {
    let plain = seal
        .open(sealed, place(id, version))
        .map_err(|e| format!("its configuration does not open: {e}"))?;
    // The parser's message would show what stands there.
    serde_json::from_slice(&plain)
        .map_err(|e| format!("its configuration is no JSON (line {}): write it again", e.line()))
}

fn sealed(configuration: &Configuration, id: &str, version: i64, seal: &Seal) -> Result<Vec<u8>, Fail> {
    let plain = serde_json::to_vec(configuration)
        .map(Zeroizing::new)
        .map_err(|_| StoreError::Refused("the configuration cannot be written as JSON".to_owned()))?;
    if plain.len() > CONFIGURATION_MAX {
        let size = plain.len();
        return Err(StoreError::Refused(format!(
            "the configuration of group {id} would have {size} bytes; it may have {CONFIGURATION_MAX}: put certificates into credentials"
        ))
        .into());
    }
    Ok(seal.seal(&plain, place(id, version))?)
}

pub(in crate::gateway::store) async fn all(tx: &Tx<'_>, seal: &Seal) -> Result<Page<GroupRecord>, Fail> {
    let sql = format!("SELECT {COLUMNS} FROM device_group ORDER BY id");
    let mut page = Page::default();
    for row in tx.rows(&sql, &[]).await? {
        page.take(record(row, seal));
    }
    Ok(page)
}

pub(super) async fn one(tx: &Tx<'_>, id: &GroupId, seal: &Seal) -> Result<Option<GroupRecord>, Fail> {
    let sql = format!("SELECT {COLUMNS} FROM device_group WHERE id = $1");
    match tx.row(&sql, &[id.as_str().into()]).await? {
        Some(row) => match record(row, seal) {
            Ok(group) => Ok(Some(group)),
            Err(damaged) => Err(StoreError::Broken(damaged.to_string()).into()),
        },
        None => Ok(None),
    }
}

/// Most groups: each is parsed at every change.
const GROUPS_MAX: i64 = 1_000;

/// Whether a group may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It may not.
    New,
    /// It must.
    Old,
    /// Either.
    Either,
}

pub(super) async fn put(
    tx: &Tx<'_>,
    (id, name): (&GroupId, &str),
    wanted: Wanted,
    now: std::time::Duration,
    seal: &Seal,
) -> Result<GroupRecord, Fail> {
    let version = raise_sealed(tx, About::Group(id), seal).await?;
    if id.as_str().starts_with('.') {
        return Err(StoreError::Refused(format!("a group's name does not begin with '.': {id}")).into());
    }
    if name.chars().count() > NAME_MAX {
        return Err(StoreError::Refused(format!("the name has more than {} characters", NAME_MAX)).into());
    }
    if wanted == Wanted::New {
        let key = [Cell::from(id.as_str())];
        let there = tx.row("SELECT id FROM device_group WHERE id = $1", &key).await?;
        if there.is_some() {
            return Err(StoreError::Conflict(format!("there is a group {id} already")).into());
        }
    }
    let renamed = "UPDATE device_group SET name = $1, updated = $2 WHERE id = $3";
    let values = [name.into(), millis(now).into(), id.as_str().into()];
    if tx.change(renamed, &values).await? == 0 {
        if wanted == Wanted::Old {
            return Err(missing(id));
        }
        let count = tx.row("SELECT COUNT(*) FROM device_group", &[]).await?;
        if count
            .map(|mut row| row.int())
            .transpose()?
            .is_some_and(|n| n >= GROUPS_MAX)
        {
            return Err(StoreError::Conflict(format!("there are {GROUPS_MAX} groups, and no more fit")).into());
        }
        let values = [
            id.as_str().into(),
            name.into(),
            version.into(),
            sealed(&Configuration::new(), id.as_str(), version, seal)?.into(),
            Cell::from(millis(now)),
            millis(now).into(),
        ];
        tx.change(
            "INSERT INTO device_group (id, name, version, sealed_configuration, created, updated) VALUES ($1, $2, $3, $4, $5, $6)",
            &values,
        )
        .await?;
    }
    one(tx, id, seal).await?.ok_or_else(|| missing(id))
}

fn missing(id: &GroupId) -> Fail {
    StoreError::Missing(format!("group {id}")).into()
}

pub(super) async fn delete(tx: &Tx<'_>, id: &GroupId) -> Result<(), Fail> {
    raise(tx, About::Group(id)).await?;
    let key = || [Cell::from(id.as_str())];
    let users = tx
        .row("SELECT COUNT(*) FROM subscriber WHERE group_id = $1", &key())
        .await?;
    let users = users.map(|mut row| row.int()).transpose()?.unwrap_or(0);
    if users > 0 {
        return Err(StoreError::Conflict(format!(
            "group {id} has {users} subscribers: put them into another group, or remove them, first"
        ))
        .into());
    }
    match tx.change("DELETE FROM device_group WHERE id = $1", &key()).await? {
        0 => Err(missing(id)),
        _ => Ok(()),
    }
}

/// Changes a configuration: read, judged and written with no other writer in between.
pub(super) async fn change(
    tx: &Tx<'_>,
    id: &GroupId,
    now: std::time::Duration,
    seal: &Seal,
    judge: Option<&Judge>,
    edit: &(dyn Fn(&mut Configuration) -> Result<(), StoreError> + Send + Sync),
) -> Result<GroupRecord, Fail> {
    let version = raise_sealed(tx, About::Group(id), seal).await?;
    let mut record = one(tx, id, seal).await?.ok_or_else(|| missing(id))?;
    edit(&mut record.configuration)?;
    record.updated = since(millis(now));
    if let Some(judge) = judge {
        judge(&record).map_err(StoreError::Refused)?;
    }
    let values = [
        version.into(),
        sealed(&record.configuration, id.as_str(), version, seal)?.into(),
        Cell::from(millis(now)),
        id.as_str().into(),
    ];
    tx.change(
        "UPDATE device_group SET version = $1, sealed_configuration = $2, updated = $3 WHERE id = $4",
        &values,
    )
    .await?;
    Ok(record)
}

/// Seals every configuration anew.
pub(in crate::gateway::store) async fn reseal(tx: &Tx<'_>, from: &Seal, to: &Seal) -> Result<(), Fail> {
    let rows = tx
        .rows(
            "SELECT id, version, sealed_configuration FROM device_group ORDER BY id",
            &[],
        )
        .await?;
    for mut row in rows {
        let (id, version, old) = (row.text()?, row.int()?, row.bytes()?);
        let plain = from
            .open(&old, place(&id, version))
            .map_err(|e| StoreError::Broken(format!("group {id}: {e}; mend it before the key is changed")))?;
        let new = to.seal(&plain, place(&id, version))?;
        tx.change(
            "UPDATE device_group SET sealed_configuration = $1 WHERE id = $2",
            &[new.into(), id.as_str().into()],
        )
        .await?;
    }
    Ok(())
}
