//! AWS IoT fleet provisioning by claim.

use std::time::Duration;

use super::{Asker, Failure, Grant};
use crate::config::agent::{FleetConfig, SessionConfig};

/// Makes a key, has it certified and the thing made.
///
/// # Errors
/// [`Failure`].
pub async fn provision(_config: &FleetConfig, _session: &SessionConfig, _asker: Asker<'_>) -> Result<Grant, Failure> {
    Err(Failure {
        cause: "not built yet".into(),
        cure: String::new(),
        after: None,
    })
}

/// The longest that [`provision`] can take.
#[must_use]
pub fn longest(config: &FleetConfig) -> Duration {
    config.within * 8
}
