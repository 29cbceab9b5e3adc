//! Who asks.

use std::path::Path;

use super::seal;
use crate::clock::Clock;
use crate::identity::{AuthName, Subscriber};
use crate::link::Via;
use crate::modem::usim::SimDoor;

/// Who asks for credentials, and by which means.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Whose they are to be.
    pub who: &'a Subscriber,
    /// The name that the certificate is to prove.
    pub auth_name: &'a AuthName,
    /// The way out.
    pub via: &'a Via,
    /// The time.
    pub clock: &'a Clock,
    /// The SIM, for SIM authentication.
    pub sim: &'a SimDoor,
    /// Where keys that are worth keeping are kept.
    pub state_dir: &'a Path,
    /// With what they are encrypted there; `None` keeps them as they are.
    pub seal: Option<&'a seal::Seal>,
}
