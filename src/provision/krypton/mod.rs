//! SORACOM Krypton: credentials and tokens for a SIM, by either of its doors.
//!
//! - **Cellular**: `https://krypton.soracom.io:8036`, over the SORACOM line only. The caller is known by its data session, so requests carry
//!   no credentials.
//! - **Internet**: `https://g.api.soracom.io` (global coverage) or `https://api.soracom.io` (Japan), over any line. The SIM proves itself
//!   through the modem ([`super::keys`]), and requests are signed with the key that comes of it.
//!
//! Both have the same operations, in part with other methods and bodies: [`operation`] has the table.
//!
//! | file | what it is |
//! |---|---|
//! | [`operation`], [`segment`] | what can be asked for: paths, bodies, signatures; ids that are safe in a path |
//! | [`reply`], [`refusal`], [`error`] | answers, refusals explained, errors with their cures |
//! | [`answer`], [`fields`], [`secret`] | typed answers; the same as named fields |
//! | [`door`] | HTTPS |
//! | [`caller`] | operations one after the other, with patience, polling and the SIM's key |
//!
//! Sources: SORACOM's article on Krypton and Azure IoT Hub; soracom/krypton-client-go; the result classes of
//! soracom-krypton-client-for-java; soratun. Every AWS bootstrap makes new credentials, so it is called once and the result is kept. Errors
//! have the shape of all SORACOM APIs, `{"code", "message"}`, in English because we ask for it.

pub mod answer;
pub mod caller;
pub mod door;
pub mod error;
pub mod fields;
pub mod operation;
pub mod refusal;
pub mod reply;
pub mod secret;
pub mod segment;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::operator::read_limited;
use super::{Asker, Failure, Grant};
use crate::config::agent::{KryptonAuth, KryptonCloud, KryptonConfig};
use crate::identity::Subscriber;

pub use caller::Caller;
pub use error::KryptonError;
use operation::Parameters;

/// The longest that the SIM is waited for, as [`crate::modem::usim::SimDoor::authenticate`] promises.
const SIM_WITHIN: Duration = Duration::from_secs(240);

/// Gets credentials.
///
/// # Errors
/// [`Failure`].
pub async fn provision(config: &KryptonConfig, asker: Asker<'_>) -> Result<Grant, Failure> {
    let settings = settings(config)?;
    let mut caller = match config.auth {
        KryptonAuth::Cellular => Caller::cellular(settings, asker.via, asker.clock),
        KryptonAuth::Sim => Caller::sim(
            settings,
            asker.via,
            asker.clock,
            &asker.who.imsi,
            asker.sim,
            (asker.state_dir, asker.seal.into()),
        ),
    }?;
    let parameters = parameters(config, asker.who)?;
    let device = match config.cloud {
        KryptonCloud::Azure => caller.azure(parameters, config.patience).await,
        KryptonCloud::Aws => caller.aws(parameters, false, config.patience).await,
    };
    Ok(device.and_then(answer::Device::grant)?)
}

/// How the configured door is asked.
///
/// # Errors
/// When `credentials.ca_file` cannot be read.
pub fn settings(config: &KryptonConfig) -> Result<door::Settings, Failure> {
    let ca_pem = config.ca_file.as_deref().map(read_limited).transpose();
    Ok(door::Settings {
        door: config.auth,
        url: config.url.clone(),
        address: config.address,
        ca_pem: ca_pem.map_err(|e| Failure {
            cause: e.to_string(),
            cure: "check credentials.ca_file".to_owned(),
            after: None,
            spent: false,
        })?,
        within: config.patience.within,
    })
}

/// The configured `requestParameters` for this subscriber.
///
/// # Errors
/// [`KryptonError::Parameter`].
pub fn parameters(config: &KryptonConfig, who: &Subscriber) -> Result<Parameters, KryptonError> {
    let filled = config.parameters.iter().map(|(name, template)| {
        let text = template.fill(who);
        text.map(|text| (name.clone(), text))
            .map_err(|e| KryptonError::Parameter(format!("the parameter {name}: {e}")))
    });
    Parameters::new(filled.collect::<Result<Vec<_>, _>>()?)
}

/// The longest that [`provision`] can take.
#[must_use]
pub fn longest(config: &KryptonConfig) -> Duration {
    let p = config.patience;
    let request = (p.within + caller::PAUSE_MAX) * (caller::BUSY_MAX + 1);
    let pause = caller::PAUSE_MAX.max(p.poll_every);
    let work = match config.cloud {
        // Register, and the questions.
        KryptonCloud::Azure => request + (p.within + pause) * p.polls_max,
        // Bootstrap; certificate and root with some questions each.
        KryptonCloud::Aws => request + (request + pause) * (caller::LOST_MAX + 1) * 2,
    };
    match config.auth {
        KryptonAuth::Cellular => work,
        // One authentication (challenge, resynchronisation, verification), and the request whose kept key was refused.
        KryptonAuth::Sim => work + request * 4 + SIM_WITHIN * 2,
    }
}
