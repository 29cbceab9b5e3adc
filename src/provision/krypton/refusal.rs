//! Refusals, explained.
//!
//! SORACOM publishes neither Krypton's statuses nor its codes; only the shape `{"code","message"}` is established (SORACOM's OpenAPI
//! definition, `APICallErrorMessage`). So the status decides what is done (see [`Refusal::is_about_the_key`]), and the words of the
//! message, which we ask for in English, decide only what a person is told. Words that nobody here knows keep the general cure. The words
//! are inferred; the causes are those that a user named (SIM not in a group, no Krypton settings, settings of the cloud's credentials) and
//! those that the bench's stand-in gives.

/// The service says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// What it says.
    pub message: String,
    /// What that means.
    pub why: Why,
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The SIM is in no group.
    Group,
    /// Its group does not use Krypton.
    Disabled,
    /// Its group's Krypton settings have nothing for this service.
    Service,
    /// The request did not come over a SORACOM SIM.
    NotOverSim,
    /// The request's time.
    Clock,
    /// A name among the parameters.
    Name,
    /// Nobody here knows.
    Unknown,
}

/// Words of a message, in small letters, and what they mean. The first row that fits decides.
const WORDS: [(&str, Why); 16] = [
    ("timestamp", Why::Clock),
    ("over a soracom sim", Why::NotOverSim),
    ("soracom air", Why::NotOverSim),
    ("no group", Why::Group),
    ("not in a group", Why::Group),
    ("not in any group", Why::Group),
    ("does not belong to", Why::Group),
    ("not enabled", Why::Disabled),
    ("disabled", Why::Disabled),
    ("has nothing for", Why::Service),
    ("not configured", Why::Service),
    ("no configuration", Why::Service),
    ("credential", Why::Service),
    ("thingname", Why::Name),
    ("deviceid", Why::Name),
    ("endpoint", Why::Name),
];

impl Refusal {
    /// Reads a refusal.
    #[must_use]
    pub fn read(status: u16, message: String) -> Self {
        let words = message.to_lowercase();
        let why = WORDS
            .iter()
            .find(|(part, _)| words.contains(part))
            .map_or(Why::Unknown, |(_, why)| *why);
        Self { status, message, why }
    }

    /// Whether another key could help: 401, unless it is the clock; 403 without a reason that has nothing to do with keys.
    #[must_use]
    pub fn is_about_the_key(&self) -> bool {
        match self.status {
            401 => self.why != Why::Clock,
            403 => self.why == Why::Unknown,
            _ => false,
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> &'static str {
        match self.why {
            Why::Group => {
                "put this SIM into a SIM group (SORACOM User Console), and switch SORACOM Krypton on in that group's settings"
            }
            Why::Disabled => {
                "switch SORACOM Krypton on in the settings of this SIM's group (namespace SoracomKrypton, enabled: true)"
            }
            Why::Service => {
                "add this service to the SORACOM Krypton settings of this SIM's group, with credentials for the cloud that are in SORACOM's \
                 credential store and still valid"
            }
            Why::NotOverSim => {
                "the request did not go out over the SORACOM line: check link.interface and the routes, or use SIM authentication \
                 (credentials.auth = \"sim\")"
            }
            Why::Clock => "set this machine's clock (NTP, or the network's time): signed requests carry the time",
            Why::Name => {
                "check the parameters (credentials.parameters, --parameter, --endpoint): a name is not what the service takes"
            }
            Why::Unknown if self.status == 401 => {
                "is this machine's clock right (signed requests carry the time), and is this SIM in a group whose SORACOM Krypton settings are \
                 enabled?"
            }
            Why::Unknown => {
                "is this SIM in a group whose SORACOM Krypton settings are enabled, with valid Azure or AWS credentials?"
            }
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "(HTTP {}): {}", self.status, self.message)
    }
}
