//! From the configured source to a [`Grant`]: which service is asked, and how long that can take.

use std::time::Duration;

use super::{Asker, Failure, Grant, dps, fleet, krypton};
use crate::config::agent::{AgentConfig, CredentialsConfig};

/// Asks the configured service for credentials. Bounded by [`longest`].
///
/// # Errors
/// [`Failure`]: what happened and what to do.
pub async fn fetch(config: &AgentConfig, asker: Asker<'_>) -> Result<Grant, Failure> {
    match &config.credentials {
        CredentialsConfig::Krypton(krypton) => krypton::provision(krypton, asker).await,
        CredentialsConfig::Dps(dps) => dps::provision(dps, asker).await,
        CredentialsConfig::Fleet(fleet) => fleet::provision(fleet, &config.session, asker).await,
        CredentialsConfig::None | CredentialsConfig::Files(_) => Err(Failure {
            cause: format!("credentials.source = {:?} asks nobody", config.credentials.source()),
            cure: "set credentials.source".to_owned(),
            after: None,
            spent: false,
        }),
    }
}

/// What asks, for people: "asking Krypton at …".
#[must_use]
pub fn describe(config: &AgentConfig) -> String {
    match &config.credentials {
        CredentialsConfig::Krypton(k) => format!("asking Krypton at {}", k.url.host_str().unwrap_or("?")),
        CredentialsConfig::Dps(d) => format!("asking Azure's provisioning service at {}", d.service.host),
        CredentialsConfig::Fleet(f) => format!("asking AWS IoT, template {}", f.template),
        CredentialsConfig::None | CredentialsConfig::Files(_) => "nobody is asked".to_owned(),
    }
}

/// The longest that [`fetch`] can take.
#[must_use]
pub fn longest(config: &CredentialsConfig) -> Duration {
    match config {
        CredentialsConfig::Krypton(k) => krypton::longest(k),
        CredentialsConfig::Dps(d) => dps::longest(d),
        CredentialsConfig::Fleet(f) => fleet::longest(f),
        CredentialsConfig::None | CredentialsConfig::Files(_) => Duration::ZERO,
    }
}
