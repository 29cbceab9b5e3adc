//! The names in an identity's directory: sets (`set-7`), and the roles that name them (links).

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const SET: &str = "set-";

/// The name of a set. Numbers only grow while the set before is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(u64);

impl Name {
    /// The one after the highest that is there.
    ///
    /// # Errors
    /// When the numbers are used up, which takes somebody who writes the last one by hand.
    pub(super) fn after(highest: Option<Self>) -> io::Result<Self> {
        highest
            .map_or(0, |n| n.0)
            .checked_add(1)
            .map(Self)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there is no number left for another set"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SET}{}", self.0)
    }
}

impl FromStr for Name {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.strip_prefix(SET).ok_or(())?;
        let name = Self(digits.parse().map_err(|_| ())?);
        // One spelling only: not "set-07", not "set-+7".
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

/// What a set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Proven by a connection.
    Current,
    /// Granted, durable, not proven yet.
    Candidate,
    /// The last good one before the current.
    Previous,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Current, Self::Candidate, Self::Previous];

    /// The link's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Candidate => "candidate",
            Self::Previous => "previous",
        }
    }

    pub(super) fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.as_str())
    }

    /// The name under which a new link is made.
    pub(super) fn temporary(self) -> String {
        format!(".{}.tmp", self.as_str())
    }

    /// The set it names; `None` if it names none.
    ///
    /// # Errors
    /// `InvalidData` if it is no link to a set; otherwise from the file system.
    pub(super) fn read(self, directory: &Path) -> io::Result<Option<Name>> {
        let path = self.path(directory);
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{} {what}", self.as_str()));
        match fs::read_link(&path) {
            Ok(target) => match target.to_str().and_then(|t| t.parse().ok()) {
                Some(name) => Ok(Some(name)),
                None => Err(wrong(format!("names {}, which is no set", target.display()))),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            // EINVAL: there is something, but no link (readlink(2)).
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Err(wrong("is no link".to_owned())),
            Err(e) => Err(e),
        }
    }
}
