//! Who may no longer be connected is told to leave: SORACOM Beam ends the session of a SIM that is deactivated, and so does this.
//!
//! A subscriber that was removed, deactivated, or locked to another modem than the one that is connected is cut off
//! ([`Directory::bars`]): [`Order::Leave`]. Everything else that changes counts at the device's next connect and cuts nobody off: a rotated
//! credential, another token, address, pinned certificate or group, and a group that was changed, disabled, or broken.
//!
//! When: at once after a reload (SIGHUP or the API's), and every [`LOOK_EVERY`] when the book has another list of subscribers than at the last
//! look. With a store, looking is one small question, which a connect asks too; so a quiet gateway notices what another one, or the
//! command line, has written. While the store does not answer nobody is cut off, for nobody knows.
//!
//! A device that is on its way in while the list changes is looked at once more when it is through (`connection`): its identity stands
//! in its [`Connection`] before it asks for the newest list, and here the newest list is there before the connections are looked at. So one
//! of both sees the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use super::connection::Shared;
use super::relay::Order;
use super::status::Connection;
use super::subscriber::Directory;

/// How often the book is asked whether it has changed, beside the questions that connects ask. Inferred: SORACOM does not say how soon a
/// deactivated SIM's Beam session ends.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Tells everybody to leave who may not be connected by this list; how many those are.
pub(super) fn sweep(shared: &Shared, directory: &Directory) -> usize {
    let open = shared.status.connections();
    let left = open.iter().filter(|c| judge(c, directory)).count();
    if left > 0 {
        info!("{left} open connections are ended: their subscribers may no longer be connected");
    }
    left
}

/// Tells one to leave if it has to; whether it has.
pub(super) fn judge(connection: &Connection, directory: &Directory) -> bool {
    let bar = connection.barred(directory);
    if let Some(bar) = bar {
        connection.orders.give(Order::Leave(bar));
    }
    bar.is_some()
}

/// Looks until it is dropped.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut seen = shared.book.latest().directory.clone();
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let view = shared.book.view().await;
        if !Arc::ptr_eq(&seen, &view.directory) {
            seen = view.directory.clone();
            sweep(&shared, &seen);
        }
    }
}
