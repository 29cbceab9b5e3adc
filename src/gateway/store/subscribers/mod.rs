//! Subscribers: the questions about them. Their SQL is in `rows`, what changes them in `write`.

mod rows;
mod search;
mod write;

use std::sync::Arc;
use std::time::Duration;

pub(super) use rows::page;
pub(super) use search::among;
pub(super) use write::{in_pairs, pairs};

use super::list::page_limit;
use super::{Filter, Page, Store, StoreError, SubscriberRecord, TokenChange};
use crate::identity::Imsi;

/// Most hits of one search, by each of what is searched: IMSI, name, SIM id.
pub const SEARCH_MAX: usize = 1_000;

fn missing(imsi: &Imsi) -> StoreError {
    StoreError::Missing(format!("subscriber {imsi}"))
}

/// All of these give [`StoreError`]: [`StoreError::Unreachable`] while the database is away, and what the method itself says.
#[allow(clippy::missing_errors_doc)]
impl Store {
    /// Subscribers by IMSI, those after the key `after`, at most `limit` and at most [`super::PAGE_MAX`].
    pub async fn subscribers(&self, after: Option<&str>, limit: usize) -> Result<Page<SubscriberRecord>, StoreError> {
        self.find_subscribers(&Filter::default(), after, limit).await
    }

    /// Those that are wanted, in the same pages. The database finds them; no other row is read.
    pub async fn find_subscribers(
        &self,
        wanted: &Filter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<SubscriberRecord>, StoreError> {
        let with = Arc::new((wanted.clone(), after.unwrap_or_default().to_owned()));
        let page = self.owner.glance(move |tx| {
            let with = with.clone();
            Box::pin(async move { rows::page(tx, &with.0, &with.1, page_limit(limit)).await })
        });
        Ok(page.await?.map(|(record, _)| record))
    }

    /// Those whose IMSI, name (whatever the case of its letters a to z) or SIM id begins so, at most `limit` by each; and whether there are more.
    /// The answer is one page.
    pub async fn search_subscribers(
        &self,
        begins: &str,
        limit: usize,
    ) -> Result<(Page<SubscriberRecord>, bool), StoreError> {
        let begins: Arc<str> = begins.into();
        let limit = page_limit(limit.min(SEARCH_MAX));
        let found = self.owner.read_long(1, move |tx| {
            let begins = begins.clone();
            Box::pin(async move { search::search(tx, &begins, limit).await })
        });
        let (page, more) = found.await?;
        Ok((page.map(|(record, _)| record), more))
    }

    /// The first `count`, those seen last first, those never seen at the end. The caller bounds it.
    pub async fn latest_subscribers(&self, count: usize) -> Result<Vec<Imsi>, StoreError> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let list = self
            .owner
            .read_long(1, move |tx| Box::pin(search::latest(tx, count)))
            .await?;
        // What is none is in the lists of damaged rows.
        Ok(list.iter().filter_map(|imsi| imsi.parse().ok()).collect())
    }

    /// Those of these that are there, in no order; one page.
    pub async fn subscribers_among(&self, imsis: &[Imsi]) -> Result<Page<SubscriberRecord>, StoreError> {
        let imsis: Arc<[Imsi]> = imsis.into();
        let found = self.owner.read_long(1, move |tx| {
            let imsis = imsis.clone();
            Box::pin(async move { search::among(tx, &imsis).await })
        });
        Ok(found.await?.map(|(record, _)| record))
    }

    /// One.
    pub async fn subscriber(&self, imsi: &Imsi) -> Result<Option<SubscriberRecord>, StoreError> {
        let imsi = imsi.clone();
        self.owner
            .glance(move |tx| {
                let imsi = imsi.clone();
                Box::pin(async move { rows::one(tx, &imsi).await })
            })
            .await
    }

    /// Writes one as it is told, whatever was there; `has_token` and `last_seen` of the record are not looked at. For imports: whoever
    /// changes something that is there uses [`Self::change_subscriber`].
    ///
    /// # Errors
    /// [`StoreError::Missing`] for its group; [`StoreError::Conflict`] when its source (alone: with neither token nor certificate), token or
    /// certificate is another's; [`StoreError::Refused`] for a token that is too short or too long.
    pub async fn put_subscriber(&self, record: &SubscriberRecord, token: TokenChange) -> Result<(), StoreError> {
        let new = Arc::new((record.clone(), token, self.token_key()));
        self.owner
            .write(move |tx| {
                let new = new.clone();
                Box::pin(async move { write::put(tx, &new.0, &new.1, &new.2).await })
            })
            .await
    }

    /// Changes one that is there: `change` sees it as it is and makes of it what it shall be, with no other writer in between, so nothing that
    /// another changed meanwhile is undone. (It is called on the database's thread, more than once if the database asks for that.)
    /// The answer is the subscriber afterwards.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; what `change` says; those of [`Self::put_subscriber`].
    pub async fn change_subscriber(
        &self,
        imsi: &Imsi,
        change: impl Fn(&mut SubscriberRecord) -> Result<TokenChange, StoreError> + Send + Sync + 'static,
    ) -> Result<SubscriberRecord, StoreError> {
        let who = imsi.clone();
        let edit = move |old: Option<SubscriberRecord>| {
            let mut record = old.ok_or_else(|| missing(&who))?;
            let token = change(&mut record)?;
            Ok((record, token))
        };
        Ok(self.edit_subscriber(imsi, edit).await?.0)
    }

    /// The same of one that may be there or not: `edit` sees which. The answer is the subscriber afterwards, and whether it is new.
    ///
    /// # Errors
    /// What `edit` says; those of [`Self::put_subscriber`].
    pub async fn edit_subscriber(
        &self,
        imsi: &Imsi,
        edit: impl Fn(Option<SubscriberRecord>) -> Result<(SubscriberRecord, TokenChange), StoreError>
        + Send
        + Sync
        + 'static,
    ) -> Result<(SubscriberRecord, bool), StoreError> {
        let with = Arc::new((imsi.clone(), edit, self.token_key()));
        self.owner
            .write(move |tx| {
                let with = with.clone();
                Box::pin(async move { write::edit(tx, &with.0, &with.1, &with.2).await })
            })
            .await
    }

    /// Removes one.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    pub async fn delete_subscriber(&self, imsi: &Imsi) -> Result<(), StoreError> {
        let imsi = imsi.clone();
        self.owner
            .write(move |tx| {
                let imsi = imsi.clone();
                Box::pin(async move { write::delete(tx, &imsi).await })
            })
            .await
    }

    /// Notes when subscribers were connected, many at once. The generation stays, and who is not there any more is left out.
    pub async fn seen(&self, seen: &[(Imsi, Duration)], gateway: &str) -> Result<(), StoreError> {
        let seen = Arc::new((seen.to_vec(), gateway.to_owned()));
        self.owner
            .write(move |tx| {
                let seen = seen.clone();
                Box::pin(async move { write::seen(tx, &seen.0, &seen.1).await })
            })
            .await
    }
}
