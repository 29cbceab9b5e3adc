//! Subscribers as rows, read.

use std::net::IpAddr;

use crate::gateway::store::list::{self, Damaged, Filter, Named, Page};
use crate::gateway::store::tx::{Cell, Fail, Row, Tx};
use crate::gateway::store::{Fingerprint, NAME_MAX, StoreError, SubscriberRecord, TokenDigest, since};
use crate::gateway::subscriber::Prefix;
use crate::identity::Imsi;

pub(super) const COLUMNS: &str = "s.imsi, s.imei, s.imei_lock, s.iccid, s.group_id, s.enabled, s.source_address, s.source_length, s.token, \
                       s.certificate, s.name, n.seen, n.gateway";

pub(super) const FROM: &str = "FROM subscriber s LEFT JOIN subscriber_seen n ON n.imsi = s.imsi";

/// A subscriber with the digest of its token.
pub(in crate::gateway::store) type Digested = (SubscriberRecord, Option<TokenDigest>);

fn none(column: &str) -> Fail {
    StoreError::Broken(format!(
        "the row is damaged: its {column} is none; remove the subscriber and add it again, or restore the database's backup"
    ))
    .into()
}

fn record(row: Row) -> Result<Digested, Damaged> {
    let imsi = row.first_text().unwrap_or_default();
    columns_of(row).map_err(|e| list::damaged("subscriber", &imsi, e))
}

fn columns_of(mut row: Row) -> Result<Digested, Fail> {
    fn parsed<T: std::str::FromStr>(text: Option<String>, column: &str) -> Result<Option<T>, Fail> {
        text.map(|t| t.parse().map_err(|_| none(column))).transpose()
    }
    fn hash(bytes: Option<Vec<u8>>, column: &str) -> Result<Option<[u8; 32]>, Fail> {
        bytes.map(|b| b.try_into().map_err(|_| none(column))).transpose()
    }
    let imsi = row.text()?.parse().map_err(|_| none("IMSI"))?;
    let imei = parsed(row.some_text()?, "IMEI")?;
    let imei_lock = row.int()? != 0;
    let iccid = parsed(row.some_text()?, "ICCID")?;
    let group = parsed(row.some_text()?, "group")?;
    let enabled = row.int()? != 0;
    let source = match (row.some_bytes()?, row.some_int()?) {
        (Some(address), Some(length)) => Some(prefix(&address, length).ok_or_else(|| none("source"))?),
        _ => None,
    };
    let token = hash(row.some_bytes()?, "token digest")?.map(TokenDigest);
    let certificate = hash(row.some_bytes()?, "certificate")?.map(Fingerprint);
    let name = row.text()?;
    // When it was seen last lets nobody in and keeps nobody out.
    let last_seen = match (row.some_int(), row.some_text()) {
        (Ok(Some(seen)), Ok(Some(gateway))) => Some((since(seen), gateway)),
        _ => None,
    };
    let record = SubscriberRecord {
        imsi,
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
pub(super) fn columns(prefix: Prefix) -> Result<(Cell, Cell), Fail> {
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

/// Those that are wanted, after an IMSI.
pub(in crate::gateway::store) async fn page(
    tx: &Tx<'_>,
    wanted: &Filter,
    after: &str,
    limit: i64,
) -> Result<Page<Digested>, Fail> {
    let mut sql = format!("SELECT {COLUMNS} {FROM} WHERE s.imsi > $1");
    let mut values = vec![Cell::from(after)];
    let mut and = |what: &str, value: Cell| {
        values.push(value);
        sql += &format!(" AND {what} ${}", values.len());
    };
    if let Some(group) = &wanted.group {
        and("s.group_id =", group.as_str().into());
    }
    if let Some(enabled) = wanted.enabled {
        and("s.enabled =", enabled.into());
    }
    // The first condition is the index's, the second one minds the case.
    let (lower, exact) = (lower_name(tx), format!("s.name {}", tx.by_bytes()));
    match &wanted.name {
        None => {}
        Some(Named::Is(name)) => {
            and(&format!("{lower} ="), name.to_ascii_lowercase().as_str().into());
            and(&format!("{exact} ="), name.as_str().into());
        }
        Some(Named::Begins(name)) => {
            for (column, name) in [(&lower, name.to_ascii_lowercase()), (&exact, name.clone())] {
                and(&format!("{column} >="), name.as_str().into());
                and(&format!("{column} <"), after_all(&name));
            }
        }
    }
    values.push(limit.into());
    sql += &format!(" ORDER BY s.imsi LIMIT ${}", values.len());
    let rows = tx.rows(&sql, &values).await?;
    let next = list::next(&rows, after, limit);
    Ok(Page { next, ..read(rows) })
}

/// The expression of the index on names.
pub(super) fn lower_name(tx: &Tx<'_>) -> String {
    format!("lower(s.name {})", tx.by_bytes())
}

/// What comes after all texts that begin so, in the order of their bytes (which is that of their code points).
pub(super) fn after_all(prefix: &str) -> Cell {
    let mut text: Vec<char> = prefix.chars().collect();
    while let Some(last) = text.pop() {
        // Between the two lie the surrogates, which are no characters.
        let next = if last == '\u{D7FF}' {
            Some('\u{E000}')
        } else {
            char::from_u32(u32::from(last).saturating_add(1))
        };
        if let Some(next) = next {
            text.push(next);
            return text.into_iter().collect::<String>().as_str().into();
        }
    }
    // Nothing but the last character there is: whatever begins with it is not longer than a name may be.
    "\u{10FFFF}".repeat(NAME_MAX + 1).as_str().into()
}

pub(super) fn read(rows: Vec<Row>) -> Page<Digested> {
    let mut page = Page::default();
    for row in rows {
        page.take(record(row));
    }
    page
}

pub(super) async fn one(tx: &Tx<'_>, imsi: &Imsi) -> Result<Option<SubscriberRecord>, Fail> {
    let sql = format!("SELECT {COLUMNS} {FROM} WHERE s.imsi = $1");
    match tx.row(&sql, &[imsi.as_str().into()]).await?.map(record) {
        None => Ok(None),
        Some(Ok((record, _))) => Ok(Some(record)),
        Some(Err(damaged)) => Err(StoreError::Broken(damaged.to_string()).into()),
    }
}
