//! Finding subscribers by what somebody types, by when they were last seen, or by name; never by reading all of them. Each statement follows
//! an index (`schema/0003_search.sql`) and ends after as many rows as are wanted.

use std::collections::HashSet;

use super::rows::{COLUMNS, Digested, FROM, after_all, lower_name, read};
use crate::gateway::store::list::Page;
use crate::gateway::store::tx::{Cell, Fail, Tx};
use crate::identity::Imsi;

/// Rows that are read by their keys in one statement.
const AT_ONCE: usize = 100;

/// Those whose IMSI, name (whatever the case of its letters a to z) or SIM id begins so, at most `limit` by each, in this order; and
/// whether there may be more.
pub(super) async fn search(tx: &Tx<'_>, begins: &str, limit: i64) -> Result<(Page<Digested>, bool), Fail> {
    let (mut all, mut more) = (Page::default(), false);
    if begins.is_empty() {
        return Ok((all, more));
    }
    let lower = begins.to_ascii_lowercase();
    let number = begins.bytes().all(|b| b.is_ascii_digit());
    let by_bytes = tx.by_bytes();
    let kinds = [
        (number, "s.imsi".to_owned(), begins),
        (true, lower_name(tx), lower.as_str()),
        (number, format!("s.iccid {by_bytes}"), begins),
    ];
    let mut seen = HashSet::new();
    for (_, column, begins) in kinds.into_iter().filter(|(wanted, ..)| *wanted) {
        let sql = format!(
            "SELECT {COLUMNS} {FROM} WHERE {column} >= $1 AND {column} < $2 ORDER BY {column}, s.imsi LIMIT $3"
        );
        let mut rows = tx.rows(&sql, &[begins.into(), after_all(begins), limit.into()]).await?;
        more |= i64::try_from(rows.len()).is_ok_and(|n| n >= limit);
        rows.retain(|row| seen.insert(row.first_text()));
        let page = read(rows);
        all.items.extend(page.items);
        all.damaged.extend(page.damaged);
    }
    Ok((all, more))
}

/// The IMSIs of those that were seen last, the newest first, and then of those never seen.
pub(super) async fn latest(tx: &Tx<'_>, count: i64) -> Result<Vec<String>, Fail> {
    let mut all = Vec::new();
    for sql in [
        "SELECT imsi FROM subscriber_seen ORDER BY seen DESC, imsi DESC LIMIT $1",
        "SELECT s.imsi FROM subscriber s WHERE NOT EXISTS (SELECT 1 FROM subscriber_seen n WHERE n.imsi = s.imsi) \
         ORDER BY s.imsi LIMIT $1",
    ] {
        let left = count.saturating_sub(i64::try_from(all.len()).unwrap_or(i64::MAX));
        if left > 0 {
            let rows = tx.rows(sql, &[left.into()]).await?;
            all.extend(rows.iter().filter_map(|row| row.first_text()));
        }
    }
    Ok(all)
}

/// Those of these that are there.
pub(in crate::gateway::store) async fn among(tx: &Tx<'_>, imsis: &[Imsi]) -> Result<Page<Digested>, Fail> {
    let mut all = Page::default();
    for part in imsis.chunks(AT_ONCE) {
        let places: Vec<String> = (1..=part.len()).map(|n| format!("${n}")).collect();
        let sql = format!("SELECT {COLUMNS} {FROM} WHERE s.imsi IN ({})", places.join(", "));
        let values: Vec<Cell> = part.iter().map(|imsi| imsi.as_str().into()).collect();
        let page = read(tx.rows(&sql, &values).await?);
        all.items.extend(page.items);
        all.damaged.extend(page.damaged);
    }
    Ok(all)
}
