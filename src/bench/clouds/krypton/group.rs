//! The SIM's group, as far as Krypton looks at it: the configuration namespace `SoracomKrypton`, and what it can lack.

use std::str::FromStr;

use super::denied::Denied;
use super::operation::Service;
use crate::bench::clouds::policy::krypton::{DISABLED, GROUP, SERVICE};

/// What the group of the SIM allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// The SIM is in no group.
    None,
    /// It is in one that does not use Krypton.
    Disabled,
    /// It is in one that uses Krypton for these.
    Enabled(Vec<Service>),
}

impl Default for Group {
    fn default() -> Self {
        Self::Enabled(Service::ALL.to_vec())
    }
}

impl FromStr for Group {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "none" => Self::None,
            "disabled" => Self::Disabled,
            "all" => Self::default(),
            list => Self::Enabled(list.split(',').map(str::parse).collect::<Result<_, _>>()?),
        })
    }
}

impl Group {
    /// Its id in the subscriber's metadata.
    pub(super) fn id(&self) -> Option<&'static str> {
        (*self != Self::None).then_some("00000000-0000-4000-8000-000000000001")
    }

    /// Whether a service may be used; `None` is one that needs no configuration.
    ///
    /// # Errors
    /// The broken rule.
    pub(super) fn allows(&self, service: Option<Service>) -> Result<(), Denied> {
        let Some(service) = service else {
            return Ok(());
        };
        match self {
            Self::None => Err(Denied::new(&GROUP, "the SIM is in no group")),
            Self::Disabled => Err(Denied::new(
                &DISABLED,
                "the group's SoracomKrypton configuration is not enabled",
            )),
            Self::Enabled(list) if list.contains(&service) => Ok(()),
            Self::Enabled(_) => {
                let detail = format!(
                    "the group's SoracomKrypton configuration has nothing for {}",
                    service.as_str()
                );
                Err(Denied::new(&SERVICE, detail))
            }
        }
    }
}
