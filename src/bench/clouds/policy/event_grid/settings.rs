//! How a namespace is set up.

use std::time::Duration;

use super::clients::{Client, Scheme};
use super::spaces::{Binding, Group, Permission, TopicSpace};
use super::{PUBLISHES_PER_SECOND, SESSION_EXPIRY, SESSIONS};

/// Longest session expiry that a namespace can be set to.
pub const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(8 * 3_600);
/// The topic space that there is when none is configured.
const DEFAULT_SPACE: &str = "default";

/// How a namespace is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Sessions of an authentication name, connected or away.
    pub sessions_per_name: usize,
    /// Messages of a session in a second.
    pub publishes_per_second: u32,
    /// Longest session expiry, and that of persistent sessions in 3.1.1; at most [`SESSION_EXPIRY_MAX`].
    pub session_expiry: Duration,
    /// Who may connect; empty admits every certificate of the authority under its common name.
    pub clients: Vec<Client>,
    /// Where there is something; empty has one space of the templates in `Config::topic_templates`.
    pub spaces: Vec<TopicSpace>,
    /// Who may do what where; empty lets everybody do everything in every space.
    pub bindings: Vec<Binding>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions_per_name: SESSIONS,
            publishes_per_second: PUBLISHES_PER_SECOND,
            session_expiry: SESSION_EXPIRY,
            clients: Vec::new(),
            spaces: Vec::new(),
            bindings: Vec::new(),
        }
    }
}

impl Settings {
    /// Whether a client is known by its thumbprint: TLS has to take any certificate then.
    #[must_use]
    pub fn has_thumbprint(&self) -> bool {
        self.clients.iter().any(|c| matches!(c.scheme, Scheme::Thumbprint(_)))
    }

    /// Checks what fits together, and fills in what was left open.
    pub(super) fn complete(&mut self, templates: Vec<String>) -> Result<(), String> {
        if self.spaces.is_empty() {
            self.spaces.push(TopicSpace::new(DEFAULT_SPACE, templates)?);
        }
        if self.session_expiry > SESSION_EXPIRY_MAX {
            let asked = self.session_expiry.as_secs();
            return Err(format!(
                "a session expires after at most {} s, not {asked}",
                SESSION_EXPIRY_MAX.as_secs()
            ));
        }
        if let Some(lost) = self
            .bindings
            .iter()
            .find(|b| self.spaces.iter().all(|s| s.name != b.space))
        {
            let names: Vec<_> = self.spaces.iter().map(|s| s.name.as_str()).collect();
            return Err(format!(
                "a binding names topic space {:?}, there are {names:?}",
                lost.space
            ));
        }
        if self.bindings.is_empty() {
            for space in &self.spaces {
                self.bindings.extend(
                    [Permission::Publisher, Permission::Subscriber].map(|permission| Binding {
                        group: Group::All,
                        space: space.name.clone(),
                        permission,
                    }),
                );
            }
        }
        Ok(())
    }
}
