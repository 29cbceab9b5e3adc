//! Which names a device may have: those that every cloud takes, because a certificate outlives the choice of one.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, bail};

/// Longest common name, in characters (ub-common-name of RFC 5280 appendix A; DPS says the same).
pub(super) const NAME_MAX: usize = 64;
/// Most names that are taken at once.
pub(super) const NAMES_MAX: usize = 100_000;

/// A device's name: 1 to 64 letters, digits, `-`, `.`, `_` and `:`, the last one a letter, a digit or `-` (DPS's registration id,
/// Microsoft, "X.509 certificate attestation"). Event Grid's authentication names, IoT Hub's device ids and MQTT client ids may be all
/// of these. It names files too, so it does not begin with a dot, and not end with `.leaf`: the chain of `x.leaf` would be where the leaf of
/// `x` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceName(String);

impl DeviceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let odd = |c: &char| !c.is_ascii_alphanumeric() && !"-._:".contains(*c);
        let problem = if text.is_empty() {
            "is empty".to_owned()
        } else if let Some(c) = text.chars().find(odd) {
            format!(
                "has {c:?}: a device's name is of letters, digits, '-', '.', '_' and ':' (DPS's rule for registration ids)"
            )
        } else if text.len() > NAME_MAX {
            format!("has {} characters: a common name has at most {NAME_MAX}", text.len())
        } else if text.starts_with('.') {
            "begins with '.', which hides its files".to_owned()
        } else if text.to_ascii_lowercase().ends_with(".leaf") {
            "ends with \".leaf\", and NAME.leaf.pem is where the certificate of another device is".to_owned()
        } else if text.ends_with(['.', '_', ':']) {
            "ends with '.', '_' or ':', and DPS wants a letter, a digit or '-' there".to_owned()
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(format!("the name {text:?} {problem}"))
    }
}

/// The names of a list: one a line; blank lines do not count, nor what follows a `#` at the beginning of a line or after a blank (one
/// within a name is a mistake, as in a pattern that nobody has filled in).
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let comment = |line: &str| {
        let mut marks = line.match_indices('#').map(|(at, _)| at);
        marks.find(|at| line[..*at].chars().next_back().is_none_or(char::is_whitespace))
    };
    text.lines()
        .map(move |line| line[..comment(line).unwrap_or(line.len())].trim())
        .filter(|line| !line.is_empty())
}

/// Looks whether one of the names was issued before in other letters.
pub(super) fn others_in(directory: &Path, names: &[DeviceName]) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot look into {}", directory.display()))?;
    let there: HashMap<String, String> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let name = file.to_str()?.strip_suffix(".pem")?;
            Some((name.to_ascii_lowercase(), name.to_owned()))
        })
        .collect();
    for name in names.iter().map(DeviceName::as_str) {
        if let Some(other) = there.get(&name.to_ascii_lowercase()).filter(|other| *other != name) {
            let exact = directory.join(format!("{name}.pem"));
            if !exact.exists() {
                bail!(
                    "nothing was issued: {other:?} is in {} already and differs from {name:?} in case only, which DPS and Event Grid do not \
                     see; write the name as it is there, or move its files away",
                    directory.display()
                );
            }
        }
    }
    Ok(())
}

/// All names, each once, or all that is wrong with them.
pub(super) fn all<'a>(given: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<DeviceName>> {
    /// Most mistakes that are told at once.
    const TOLD_MAX: usize = 20;
    let mut names = Vec::new();
    let mut mistakes = Vec::new();
    let mut known: HashMap<String, String> = HashMap::new();
    for text in given {
        match text.parse::<DeviceName>() {
            Err(why) => mistakes.push(why),
            Ok(name) => match known.insert(text.to_ascii_lowercase(), text.to_owned()) {
                None => names.push(name),
                Some(same) if same == text => {}
                Some(other) => mistakes.push(format!(
                    "the names {other:?} and {text:?} differ in case only, which DPS and Event Grid do not see"
                )),
            },
        }
        if names.len() > NAMES_MAX {
            bail!("there are more than {NAMES_MAX} names; issue them in portions");
        }
    }
    if mistakes.is_empty() {
        return Ok(names);
    }
    let more = mistakes.len().saturating_sub(TOLD_MAX);
    mistakes.truncate(TOLD_MAX);
    let rest = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    bail!("nothing was issued: {}{rest}", mistakes.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_every_cloud_takes() {
        for good in ["a", "myClient-295012345678901", "a.b_c:d-", &"x".repeat(64)] {
            assert!(good.parse::<DeviceName>().is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "empty"),
            ("a b", "has ' '"),
            ("gerät", "has 'ä'"),
            ("../x", "has '/'"),
            ("a\nb", "has '\\n'"),
            (".x", "hides"),
            ("x.leaf", "another device"),
            ("x.", "ends with"),
            (&"x".repeat(65), "65 characters"),
        ] {
            let e = bad.parse::<DeviceName>().unwrap_err();
            assert!(e.contains(why), "{e}");
        }
    }

    #[test]
    fn every_mistake_is_told_and_no_name_counts_twice() {
        let list = "# fleet\n dev-1 \n\ndev-2 # garden\r\ndev-1\t#\n#";
        assert_eq!(lines("my-#{imsi}").collect::<Vec<_>>(), ["my-#{imsi}"]);
        let names = all(lines(list)).unwrap();
        assert_eq!(
            names.iter().map(DeviceName::as_str).collect::<Vec<_>>(),
            ["dev-1", "dev-2"]
        );
        let e = all(["ok", "a b", "OK", "c/d"].into_iter()).unwrap_err().to_string();
        for want in [
            "\"a b\"",
            "\"ok\" and \"OK\" differ in case",
            "\"c/d\"",
            "nothing was issued",
        ] {
            assert!(e.contains(want), "{e}");
        }
        let many: Vec<String> = (0..50).map(|n| format!("{n} ")).collect();
        assert!(
            all(many.iter().map(String::as_str))
                .unwrap_err()
                .to_string()
                .ends_with("and 30 more")
        );
    }
}
