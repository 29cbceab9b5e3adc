//! Azure's Device Provisioning Service.

use std::time::Duration;

use super::{Asker, Failure, Grant};
use crate::config::agent::DpsConfig;

/// Registers the device and waits until it is assigned to a hub.
///
/// # Errors
/// [`Failure`].
pub async fn provision(_config: &DpsConfig, _asker: Asker<'_>) -> Result<Grant, Failure> {
    Err(Failure {
        cause: "not built yet".into(),
        cure: String::new(),
        after: None,
    })
}

/// The longest that [`provision`] can take.
#[must_use]
pub fn longest(config: &DpsConfig) -> Duration {
    (config.patience.within + config.patience.poll_every) * (config.patience.polls_max + 1)
}
