//! Subscribers as rows.

use std::net::IpAddr;
use std::time::Duration;

use super::tx::{Cell, Fail, Row, Tx};
use super::{Fingerprint, StoreError, SubscriberRecord, TokenDigest, raise, since};
use crate::gateway::subscriber::Prefix;
use crate::identity::Imsi;

const COLUMNS: &str = "s.imsi, s.imei, s.imei_lock, s.iccid, s.group_id, s.enabled, s.source_address, s.source_length, s.token, \
                       s.certificate, s.name, n.seen, n.gateway";

/// What becomes of a token, with the token already made a digest.
#[derive(Debug, Clone)]
pub(super) enum Digest {
    Keep,
    Remove,
    Set(TokenDigest),
}

fn damaged(imsi: &str, column: &str) -> Fail {
    let imsi = crate::identity::redact_digits(imsi);
    StoreError::Broken(format!(
        "the row of subscriber {imsi} is damaged: its {column} is none; write the subscriber again, or restore the database's backup"
    ))
    .into()
}

fn record(mut row: Row) -> Result<(SubscriberRecord, Option<TokenDigest>), Fail> {
    fn parsed<T: std::str::FromStr>(text: Option<String>, imsi: &str, column: &str) -> Result<Option<T>, Fail> {
        text.map(|t| t.parse().map_err(|_| damaged(imsi, column))).transpose()
    }
    fn hash(bytes: Option<Vec<u8>>, imsi: &str, column: &str) -> Result<Option<[u8; 32]>, Fail> {
        bytes
            .map(|b| b.try_into().map_err(|_| damaged(imsi, column)))
            .transpose()
    }
    let imsi = row.text()?;
    let imei = parsed(row.some_text()?, &imsi, "IMEI")?;
    let imei_lock = row.int()? != 0;
    let iccid = parsed(row.some_text()?, &imsi, "ICCID")?;
    let group = parsed(row.some_text()?, &imsi, "group")?;
    let enabled = row.int()? != 0;
    let source = match (row.some_bytes()?, row.some_int()?) {
        (Some(address), Some(length)) => Some(prefix(&address, length).ok_or_else(|| damaged(&imsi, "source"))?),
        _ => None,
    };
    let token = hash(row.some_bytes()?, &imsi, "token digest")?.map(TokenDigest);
    let certificate = hash(row.some_bytes()?, &imsi, "certificate")?.map(Fingerprint);
    let name = row.text()?;
    let last_seen = match (row.some_int()?, row.some_text()?) {
        (Some(seen), Some(gateway)) => Some((since(seen), gateway)),
        _ => None,
    };
    let record = SubscriberRecord {
        imsi: imsi.parse().map_err(|_| damaged(&imsi, "IMSI"))?,
        imei,
        imei_lock,
        iccid,
        group,
        enabled,
        source,
        has_token: token.is_some(),
        certificate,
        name,
        last_seen,
    };
    Ok((record, token))
}

/// Address and length from the columns.
fn prefix(address: &[u8], length: i64) -> Option<Prefix> {
    let address = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    format!("{address}/{length}").parse().ok()
}

/// And back: equal prefixes have equal columns.
fn columns(prefix: Prefix) -> Result<(Cell, Cell), Fail> {
    let text = prefix.to_string();
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, length.parse().ok()),
        None => (text.as_str(), Some(if text.contains(':') { 128 } else { 32_i64 })),
    };
    match (address.parse(), length) {
        (Ok(IpAddr::V4(a)), Some(length)) => Ok((a.octets().to_vec().into(), length.into())),
        (Ok(IpAddr::V6(a)), Some(length)) => Ok((a.octets().to_vec().into(), length.into())),
        _ => Err(StoreError::Refused(format!("{text} cannot be written as a source")).into()),
    }
}

pub(super) type Digested = (SubscriberRecord, Option<TokenDigest>);

/// Those after an IMSI, as far as they can be read, and what is wrong with the others.
pub(super) async fn page(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Vec<Result<Digested, StoreError>>, Fail> {
    Ok(page_after(tx, after, limit).await?.1)
}

/// The same, with the IMSI to go on from; `None` at the end.
pub(super) async fn page_after(
    tx: &Tx<'_>,
    after: &str,
    limit: i64,
) -> Result<(Option<String>, Vec<Result<Digested, StoreError>>), Fail> {
    let sql = format!(
        "SELECT {COLUMNS} FROM subscriber s LEFT JOIN subscriber_seen n ON n.imsi = s.imsi WHERE s.imsi > $1 ORDER BY s.imsi LIMIT $2"
    );
    let rows = tx.rows(&sql, &[after.into(), limit.into()]).await?;
    let last = rows.last().and_then(Row::first_text);
    Ok((
        last,
        rows.into_iter()
            .map(|row| record(row).map_err(Fail::into_error))
            .collect(),
    ))
}

pub(super) async fn one(tx: &Tx<'_>, imsi: &Imsi) -> Result<Option<SubscriberRecord>, Fail> {
    let sql =
        format!("SELECT {COLUMNS} FROM subscriber s LEFT JOIN subscriber_seen n ON n.imsi = s.imsi WHERE s.imsi = $1");
    let row = tx.row(&sql, &[imsi.as_str().into()]).await?;
    Ok(row.map(record).transpose()?.map(|(record, _)| record))
}

pub(super) async fn put(tx: &Tx<'_>, r: &SubscriberRecord, token: &Digest) -> Result<(), Fail> {
    raise(tx).await?;
    if r.name.chars().count() > super::NAME_MAX {
        return Err(StoreError::Refused(format!("the name has more than {} characters", super::NAME_MAX)).into());
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
    raise(tx).await?;
    match tx
        .change("DELETE FROM subscriber WHERE imsi = $1", &[imsi.as_str().into()])
        .await?
    {
        0 => Err(StoreError::Missing(format!("subscriber {imsi}")).into()),
        _ => Ok(()),
    }
}

/// Rows in one statement.
const AT_ONCE: usize = 100;

/// `($1, $2), ($3, $4), …`, text and number.
pub(super) fn pairs(count: usize) -> String {
    let pair = |n: usize| format!("(${}, CAST(${} AS BIGINT))", 2 * n + 1, 2 * n + 2);
    (0..count).map(pair).collect::<Vec<_>>().join(", ")
}

/// Values for [`pairs`], in the one order in which all gateways write, so that two of them cannot wait for each other.
pub(super) fn in_pairs(mut list: Vec<(String, Duration)>) -> Vec<Vec<Cell>> {
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
            .flat_map(|(id, at)| [Cell::from(id.as_str()), super::millis(*at).into()])
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
