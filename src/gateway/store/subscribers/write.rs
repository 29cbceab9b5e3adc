//! Subscribers as rows, written.

use std::time::Duration;

use super::missing;
use super::rows::{columns, one};
use crate::gateway::store::tx::{Cell, Fail, Tx};
use crate::gateway::store::{
    About, NAME_MAX, StoreError, SubscriberRecord, TokenChange, TokenDigest, TokenKey, millis, raise,
};
use crate::gateway::subscriber::{TOKEN_MAX, TOKEN_MIN};
use crate::identity::Imsi;

/// What becomes of a token, with the token already made a digest.
#[derive(Debug, Clone)]
enum Digest {
    Keep,
    Remove,
    Set(TokenDigest),
}

impl Digest {
    fn of(token: &TokenChange, key: &TokenKey) -> Result<Self, StoreError> {
        Ok(match token {
            TokenChange::Keep => Self::Keep,
            TokenChange::Remove => Self::Remove,
            TokenChange::Set(token) if (TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) => Self::Set(key.digest(token)),
            TokenChange::Set(token) => {
                return Err(StoreError::Refused(format!(
                    "the token has {} bytes; it must have {TOKEN_MIN} to {TOKEN_MAX}: make one with 'openssl rand -hex 16'",
                    token.len()
                )));
            }
        })
    }
}

/// Writes one, whatever was there.
pub(super) async fn put(tx: &Tx<'_>, r: &SubscriberRecord, token: &TokenChange, key: &TokenKey) -> Result<(), Fail> {
    raise(tx, About::Subscriber(&r.imsi)).await?;
    write(tx, r, &Digest::of(token, key)?).await
}

/// What a subscriber becomes, and its token.
type Edited = Result<(SubscriberRecord, TokenChange), StoreError>;

/// Reads one, has it edited, and writes it, with no other writer in between: [`raise`] holds the lock of all changes until the end.
pub(super) async fn edit(
    tx: &Tx<'_>,
    imsi: &Imsi,
    edit: &(dyn Fn(Option<SubscriberRecord>) -> Edited + Send + Sync),
    key: &TokenKey,
) -> Result<(SubscriberRecord, bool), Fail> {
    raise(tx, About::Subscriber(imsi)).await?;
    let old = one(tx, imsi).await?;
    let new = old.is_none();
    let (record, token) = edit(old)?;
    if record.imsi != *imsi {
        return Err(StoreError::Refused("a subscriber's IMSI does not change".to_owned()).into());
    }
    write(tx, &record, &Digest::of(&token, key)?).await?;
    let written = one(tx, imsi).await?.ok_or_else(|| missing(imsi))?;
    Ok((written, new))
}

async fn write(tx: &Tx<'_>, r: &SubscriberRecord, token: &Digest) -> Result<(), Fail> {
    if r.name.chars().count() > NAME_MAX {
        return Err(StoreError::Refused(format!("the name has more than {} characters", NAME_MAX)).into());
    }
    let imsi = Cell::from(r.imsi.as_str());
    let old = tx
        .row(
            "SELECT token FROM subscriber WHERE imsi = $1",
            std::slice::from_ref(&imsi),
        )
        .await?;
    let kept = old.map(|mut row| row.some_bytes()).transpose()?.flatten();
    let token: Option<Vec<u8>> = match token {
        Digest::Keep => kept,
        Digest::Remove => None,
        Digest::Set(digest) => Some(digest.0.to_vec()),
    };
    if let Some(group) = &r.group {
        let there = tx
            .row("SELECT id FROM device_group WHERE id = $1", &[group.as_str().into()])
            .await?;
        if there.is_none() {
            return Err(StoreError::Missing(format!("group {group}: make it before its subscribers")).into());
        }
    }
    let other = async |sql: &str, values: Vec<Cell>, what: String| match tx.row(sql, &values).await? {
        None => Ok::<(), Fail>(()),
        Some(mut row) => {
            let other = row.text()?;
            Err(StoreError::Conflict(format!(
                "{what} is also subscriber {other}'s: every device needs its own"
            ))
            .into())
        }
    };
    if let Some(token) = &token {
        let sql = "SELECT imsi FROM subscriber WHERE token = $1 AND imsi <> $2";
        other(sql, vec![token.clone().into(), imsi.clone()], "the token".to_owned()).await?;
    }
    let certificate = r.certificate.map(|c| c.0.to_vec());
    if let Some(print) = &certificate {
        let sql = "SELECT imsi FROM subscriber WHERE certificate = $1 AND imsi <> $2";
        other(
            sql,
            vec![print.clone().into(), imsi.clone()],
            "the certificate".to_owned(),
        )
        .await?;
    }
    let (address, length) = r.source.map_or(Ok((Cell::Null, Cell::Null)), columns)?;
    if let (Some(source), None, None) = (&r.source, &token, &certificate) {
        let sql = "SELECT imsi FROM subscriber WHERE source_address = $1 AND source_length = $2 AND token IS NULL AND \
                   certificate IS NULL AND imsi <> $3";
        let values = vec![address.clone(), length.clone(), imsi.clone()];
        other(sql, values, format!("the source {source}")).await?;
    }
    let values = [
        imsi,
        r.imei.as_ref().map(|i| i.as_str()).into(),
        r.imei_lock.into(),
        r.iccid.as_ref().map(|i| i.as_str()).into(),
        r.group.as_ref().map(|g| g.as_str()).into(),
        r.enabled.into(),
        address,
        length,
        token.into(),
        certificate.into(),
        r.name.as_str().into(),
    ];
    tx.change(
        "INSERT INTO subscriber (imsi, imei, imei_lock, iccid, group_id, enabled, source_address, source_length, token, certificate, name) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (imsi) DO UPDATE SET imei = excluded.imei, \
         imei_lock = excluded.imei_lock, iccid = excluded.iccid, group_id = excluded.group_id, enabled = excluded.enabled, \
         source_address = excluded.source_address, source_length = excluded.source_length, token = excluded.token, \
         certificate = excluded.certificate, name = excluded.name",
        &values,
    )
    .await?;
    Ok(())
}

pub(super) async fn delete(tx: &Tx<'_>, imsi: &Imsi) -> Result<(), Fail> {
    raise(tx, About::Subscriber(imsi)).await?;
    match tx
        .change("DELETE FROM subscriber WHERE imsi = $1", &[imsi.as_str().into()])
        .await?
    {
        0 => Err(missing(imsi).into()),
        _ => Ok(()),
    }
}

/// Rows in one statement.
const AT_ONCE: usize = 100;

/// `($1, $2), ($3, $4), …`, text and number.
pub(in crate::gateway::store) fn pairs(count: usize) -> String {
    let pair = |n: usize| format!("(${}, CAST(${} AS BIGINT))", 2 * n + 1, 2 * n + 2);
    (0..count).map(pair).collect::<Vec<_>>().join(", ")
}

/// Values for [`pairs`], in the one order in which all gateways write, so that two of them cannot wait for each other.
pub(in crate::gateway::store) fn in_pairs(mut list: Vec<(String, Duration)>) -> Vec<Vec<Cell>> {
    list.sort();
    list.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            earlier.1 = later.1;
        }
        same
    });
    let cells = |part: &[(String, Duration)]| {
        part.iter()
            .flat_map(|(id, at)| [Cell::from(id.as_str()), millis(*at).into()])
            .collect()
    };
    list.chunks(AT_ONCE).map(cells).collect()
}

pub(super) async fn seen(tx: &Tx<'_>, list: &[(Imsi, Duration)], gateway: &str) -> Result<(), Fail> {
    let list = list.iter().map(|(imsi, at)| (imsi.as_str().to_owned(), *at)).collect();
    for mut values in in_pairs(list) {
        let count = values.len() / 2;
        // Who was removed meanwhile is left out, and a later time of another gateway stays.
        let sql = format!(
            "INSERT INTO subscriber_seen (imsi, seen, gateway) SELECT s.imsi, v.column2, CAST(${} AS TEXT) FROM (VALUES {}) AS v \
             JOIN subscriber s ON s.imsi = v.column1 WHERE TRUE ON CONFLICT (imsi) DO UPDATE SET seen = excluded.seen, \
             gateway = excluded.gateway WHERE subscriber_seen.seen <= excluded.seen",
            values.len() + 1,
            pairs(count)
        );
        // SQLite numbers by first appearance, and the gateway appears first.
        let name = Cell::from(gateway);
        match tx {
            Tx::Sqlite(_) => values.insert(0, name),
            _ => values.push(name),
        }
        tx.change(&sql, &values).await?;
    }
    Ok(())
}
