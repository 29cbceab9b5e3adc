//! The task that looks at the counters, the store and the credentials from time to time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::expiry::SCAN_EVERY;
use super::health::StoreState;
use super::{Status, held};
use crate::gateway::book::Book;
use crate::gateway::connection::Shared;
use crate::gateway::history::SAMPLE_EVERY;
use crate::gateway::history::timeline::cut;
use crate::identity::redact_digits;

/// How long the store may take to say its generation before it counts as silent.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
pub(in crate::gateway) async fn watch(shared: Arc<Shared>) {
    let (status, book) = (&shared.status, &shared.book);
    let mut tick = interval(SAMPLE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let credentials = async {
        let mut scan = interval(SCAN_EVERY);
        scan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            scan.tick().await;
            let begun = Instant::now();
            let found = status.expiries.fresh(book, &status.clock, Duration::ZERO).await;
            tracing::debug!(
                credentials = found.all.len(),
                milliseconds = begun.elapsed().as_millis(),
                "credentials looked at"
            );
        }
    };
    let counters = async {
        loop {
            tick.tick().await;
            status.sample();
            status.look_at_store(book).await;
            status.set_slow_addresses(shared.hall.quiet());
            status.set_places(shared.listen.get().max_connections);
            status.subscribers.store(book.view().await.directory.len(), Relaxed);
        }
    };
    tokio::join!(credentials, counters);
}

impl Status {
    async fn look_at_store(&self, book: &Book) {
        let Some(store) = book.store() else { return };
        let asked = timeout(STORE_PATIENCE, store.generation()).await;
        let answer = match asked {
            Ok(Ok(generation)) => Ok(generation),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(format!("no answer within {} s", STORE_PATIENCE.as_secs())),
        };
        let now = self.clock.system();
        let mut state = held(&self.store);
        let state = state.get_or_insert_with(StoreState::default);
        match answer {
            Ok(generation) => {
                if state.silent_since.take().is_some() {
                    info!(generation, "the store answers again");
                }
                state.generation = Some(generation);
            }
            Err(error) => {
                if state.silent_since.is_none() {
                    warn!(
                        "the store does not answer: {}; known devices are let in for store.stale_for",
                        redact_digits(&error)
                    );
                }
                state.errors += 1;
                state.silent_since.get_or_insert(now);
                state.last_error = Some((now, cut(&error).to_owned()));
            }
        }
    }
}
