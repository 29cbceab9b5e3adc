//! The generation, and the note of what each change changed.
//!
//! A gateway with a hundred thousand subscribers must not read all of them because one was changed. Each change notes what it was about, under
//! its own number and a random mark. Who knows generation N, with its mark, reads the notes from N on: if N still has that mark and no number
//! is missing up to the newest, what the notes name is all that is different, and only that is read. Otherwise (an older program wrote without a note,
//! more than [`CHANGES_MAX`] changes were made, a row is damaged, the key is another) everything is read, which is always right. When N has another
//! mark, or none, the store has another history (a backup was brought back, a replica took over that had not heard all): then
//! nothing that is known from before counts, not even that a credential of the same version is the same ([`News::Anew`]).

use std::collections::BTreeSet;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::records::{Changes, Edition, News};
use super::seal::Seal;
use super::tx::{Cell, Fail, Tx};
use super::{StoreError, groups, snapshot, subscribers};
use crate::gateway::credential::CredentialId;
use crate::gateway::group::GroupId;
use crate::identity::Imsi;

/// So many changes are noted, and read at once at most.
const CHANGES_MAX: i64 = 1_000;

/// What a change is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    Subscriber(&'a Imsi),
    Group(&'a GroupId),
    Credential(&'a CredentialId),
    /// Anything.
    All,
}

impl About<'_> {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Subscriber(imsi) => ("subscriber", imsi.as_str()),
            Self::Group(id) => ("group", id.as_str()),
            Self::Credential(id) => ("credential", id.as_str()),
            Self::All => ("all", ""),
        }
    }
}

/// Raises the generation, and keeps other writers out until the transaction ends.
pub(super) async fn raise(tx: &Tx<'_>, about: About<'_>) -> Result<i64, Fail> {
    let row = tx.row(
        "UPDATE store_state SET generation = generation + 1 WHERE one = 1 RETURNING generation",
        &[],
    );
    let number = row.await?.ok_or_else(stateless)?.int()?;
    let mut mark = [0; 8];
    SystemRandom::new()
        .fill(&mut mark)
        .map_err(|_| StoreError::Key("the operating system gives no random numbers".to_owned()))?;
    let (kind, id) = about.words();
    let values = [
        number.into(),
        i64::from_be_bytes(mark).into(),
        kind.into(),
        Cell::from(id),
    ];
    tx.change(
        "INSERT INTO store_change (generation, mark, kind, id) VALUES ($1, $2, $3, $4) ON CONFLICT (generation) DO UPDATE SET \
         mark = excluded.mark, kind = excluded.kind, id = excluded.id",
        &values,
    )
    .await?;
    let old = [number.saturating_sub(CHANGES_MAX).into()];
    tx.change("DELETE FROM store_change WHERE generation < $1", &old)
        .await?;
    Ok(number)
}

/// As [`raise`], for those who seal: a store that got a new key meanwhile takes nothing sealed under the old one, which nobody could open.
pub(super) async fn raise_sealed(tx: &Tx<'_>, about: About<'_>, seal: &Seal) -> Result<i64, Fail> {
    let number = raise(tx, about).await?;
    same_key(tx, seal).await?;
    Ok(number)
}

pub(super) async fn same_key(tx: &Tx<'_>, seal: &Seal) -> Result<(), Fail> {
    let row = tx.row("SELECT key_name FROM store_state WHERE one = 1", &[]).await?;
    if row.ok_or_else(stateless)?.bytes()? == seal.name() {
        return Ok(());
    }
    Err(StoreError::Key(
        "the store has got a new key (store rekey): restart this program, so that it uses it".to_owned(),
    )
    .into())
}

pub(super) fn stateless() -> Fail {
    StoreError::Broken("the database is damaged: store_state is empty; restore it from its backup".to_owned()).into()
}

pub(super) async fn generation(tx: &Tx<'_>) -> Result<u64, Fail> {
    let row = tx.row("SELECT generation FROM store_state WHERE one = 1", &[]).await?;
    let number = row.ok_or_else(stateless)?.int()?;
    u64::try_from(number).map_err(|_| stateless())
}

/// The newest generation, and its mark if it was noted.
pub(super) async fn edition(tx: &Tx<'_>) -> Result<Edition, Fail> {
    let sql = "SELECT s.generation, c.mark FROM store_state s LEFT JOIN store_change c ON c.generation = s.generation WHERE s.one = 1";
    let mut row = tx.row(sql, &[]).await?.ok_or_else(stateless)?;
    Ok(Edition {
        generation: u64::try_from(row.int()?).map_err(|_| stateless())?,
        mark: row.some_int()?,
    })
}

/// What became of the changes since an edition.
enum Told {
    Changes(Changes),
    /// The edition has stood here; what came after it cannot be told.
    Whole,
    /// Nothing shows that it has.
    Anew,
}

/// What is different since an edition: the changes if they can be told and not the `whole` was asked for, or everything.
pub(super) async fn news(tx: &Tx<'_>, since: Edition, whole: bool, seal: &Seal) -> Result<News, Fail> {
    same_key(tx, seal).await?;
    Ok(match changes(tx, since, seal).await? {
        Told::Changes(changes) if !whole => News::Changes(changes),
        Told::Changes(_) | Told::Whole => News::All(snapshot(tx, seal).await?),
        Told::Anew => News::Anew(snapshot(tx, seal).await?),
    })
}

async fn changes(tx: &Tx<'_>, since: Edition, seal: &Seal) -> Result<Told, Fail> {
    let (Some(mark), Ok(known)) = (since.mark, i64::try_from(since.generation)) else {
        return Ok(Told::Anew);
    };
    let sql = "SELECT generation, mark, kind, id FROM store_change WHERE generation >= $1 ORDER BY generation LIMIT $2";
    let mut rows = tx
        .rows(sql, &[known.into(), (CHANGES_MAX + 1).into()])
        .await?
        .into_iter();
    // The edition itself comes first, and has the mark that it had.
    let first = match rows.next() {
        Some(mut row) => Some((row.int()?, row.int()?)),
        None => None,
    };
    if first != Some((known, mark)) {
        return Ok(Told::Anew);
    }
    let (mut last, mut last_mark) = (known, mark);
    let (mut imsis, mut of_groups) = (BTreeSet::new(), false);
    for mut row in rows {
        let (number, mark, kind, id) = (row.int()?, row.int()?, row.text()?, row.text()?);
        if number != last + 1 {
            return Ok(Told::Whole);
        }
        (last, last_mark) = (number, mark);
        match kind.as_str() {
            "subscriber" => match id.parse::<Imsi>() {
                Ok(imsi) => drop(imsis.insert(imsi)),
                Err(_) => return Ok(Told::Whole),
            },
            "group" => of_groups = true,
            "credential" => {}
            _ => return Ok(Told::Whole),
        }
    }
    let generation = generation(tx).await?;
    // The newest must be the last that was noted.
    match u64::try_from(last) {
        Ok(last) if last == generation => {}
        // Fewer than are noted: the state was set back by hand.
        Ok(last) if last > generation => return Ok(Told::Anew),
        _ => return Ok(Told::Whole),
    }
    let groups = if of_groups {
        Some(groups::all(tx, seal).await?)
    } else {
        None
    };
    let imsis: Vec<Imsi> = imsis.into_iter().collect();
    let page = subscribers::among(tx, &imsis).await?;
    if !page.damaged.is_empty() || groups.as_ref().is_some_and(|g| !g.damaged.is_empty()) {
        return Ok(Told::Whole);
    }
    Ok(Told::Changes(Changes {
        edition: Edition {
            generation,
            mark: Some(last_mark),
        },
        about: imsis,
        subscribers: page.items,
        groups: groups.map(|g| g.items),
    }))
}
