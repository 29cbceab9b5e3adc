//! Topic spaces and permission bindings: which client may do what where.
//!
//! Sources: Event Grid documentation, mqtt-topic-spaces, mqtt-access-control and mqtt-client-groups.

use std::str::FromStr;

use super::clients::Client;
use crate::bench::clouds::topic;

/// Most templates of a topic space.
pub const TEMPLATES_MAX: usize = 10;
/// The group that every client is in.
const ALL: &str = "$all";
/// What a template writes for the client's authentication name, in the case it is registered with.
const NAME: &str = "client.authenticationName";
/// What a template writes before the name of an attribute.
const ATTRIBUTE: &str = "client.attributes.";

/// A topic space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpace {
    /// What bindings call it.
    pub name: String,
    /// Filters, with variables.
    pub templates: Vec<String>,
}

impl TopicSpace {
    /// A topic space whose templates can be used.
    ///
    /// # Errors
    /// None or more than [`TEMPLATES_MAX`] templates, one that is no filter, an unknown variable.
    pub fn new(name: &str, templates: Vec<String>) -> Result<Self, String> {
        if templates.is_empty() || templates.len() > TEMPLATES_MAX {
            let count = templates.len();
            return Err(format!(
                "topic space {name:?} has {count} templates, 1 to {TEMPLATES_MAX} are allowed"
            ));
        }
        for template in &templates {
            let filled = fill(template, |_| Some("x")).ok_or_else(|| {
                format!("{template:?} has a variable that is neither ${{{NAME}}} nor ${{{ATTRIBUTE}…}}")
            })?;
            if !topic::is_filter(&filled) {
                return Err(format!(
                    "{template:?} is no topic template: wildcards fill whole segments, # the last one"
                ));
            }
            let segments = topic::levels(template);
            if segments > super::SEGMENTS_MAX {
                return Err(format!(
                    "{template:?} has {segments} segments, at most {} are allowed",
                    super::SEGMENTS_MAX
                ));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            templates,
        })
    }
}

impl FromStr for TopicSpace {
    type Err = String;

    /// `NAME=TEMPLATE[,TEMPLATE…]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, templates) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("{text:?} is no topic space: write NAME=TEMPLATE[,TEMPLATE]"))?;
        Self::new(name, templates.split(',').map(str::to_owned).collect())
    }
}

/// Fills in a template's variables; `None` when one has no value.
fn fill<'a>(template: &str, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let (variable, after) = after.split_once('}')?;
        if variable != NAME && variable.strip_prefix(ATTRIBUTE).is_none_or(str::is_empty) {
            return None;
        }
        out.push_str(before);
        out.push_str(value(variable)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// Which clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// `$all`.
    All,
    /// Those whose attribute has this value.
    Attribute(String, String),
    /// One alone, by its authentication name.
    Client(String),
}

/// To do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// To publish.
    Publisher,
    /// To subscribe.
    Subscriber,
}

/// A permission binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Who.
    pub group: Group,
    /// Where.
    pub space: String,
    /// What.
    pub permission: Permission,
}

impl FromStr for Binding {
    type Err = String;

    /// `GROUP:SPACE:publisher` or `GROUP:SPACE:subscriber`; the group is `$all`, `KEY=VALUE` of an attribute, or a client's name.
    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || format!("{text:?} is no binding: write GROUP:SPACE:publisher or GROUP:SPACE:subscriber");
        let mut parts = text.rsplitn(3, ':');
        let permission = match parts.next() {
            Some("publisher") => Permission::Publisher,
            Some("subscriber") => Permission::Subscriber,
            _ => return Err(usage()),
        };
        let space = parts.next().filter(|s| !s.is_empty()).ok_or_else(usage)?;
        let group = parts.next().filter(|g| !g.is_empty()).ok_or_else(usage)?;
        let group = match group.split_once('=') {
            _ if group == ALL => Group::All,
            Some((key, value)) => Group::Attribute(key.to_owned(), value.to_owned()),
            None => Group::Client(group.to_owned()),
        };
        Ok(Self {
            group,
            space: space.to_owned(),
            permission,
        })
    }
}

impl Group {
    fn has(&self, name: &str, client: Option<&Client>) -> bool {
        match self {
            Self::All => true,
            Self::Attribute(key, value) => client.is_some_and(|c| c.attributes.get(key) == Some(value)),
            Self::Client(wanted) => wanted.to_lowercase() == name.to_lowercase(),
        }
    }
}

/// The filters that a client may publish to or subscribe to; `name` is its authentication name in the registered case.
///
/// A variable's value that has a wildcard or a slash would reach beyond its segment: such a template gives nothing (inferred; the service
/// restricts what names and attributes may contain).
pub(super) fn allowed(
    spaces: &[TopicSpace],
    bindings: &[Binding],
    permission: Permission,
    name: &str,
    client: Option<&Client>,
) -> Vec<String> {
    let value = |variable: &str| {
        let value = match variable.strip_prefix(ATTRIBUTE) {
            Some(key) => client?.attributes.get(key)?.as_str(),
            None => name,
        };
        (!value.contains(['+', '#', '/'])).then_some(value)
    };
    spaces
        .iter()
        .filter(|space| {
            bindings
                .iter()
                .any(|b| b.permission == permission && b.space == space.name && b.group.has(name, client))
        })
        .flat_map(|space| &space.templates)
        .filter_map(|template| fill(template, value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists<'a>(permission: Permission, name: &'a str, client: Option<&'a Client>) -> Vec<String> {
        let spaces: Vec<TopicSpace> = [
            "all=a/#,own/${client.authenticationName}/+",
            "room=rooms/${client.attributes.room}/#",
            "one=secret",
        ]
        .iter()
        .map(|s| s.parse().unwrap())
        .collect();
        let bindings: Vec<Binding> = [
            "$all:all:publisher",
            "type=sensor:room:publisher",
            "type=panel:room:subscriber",
            "Boss:one:subscriber",
        ]
        .iter()
        .map(|b| b.parse().unwrap())
        .collect();
        allowed(&spaces, &bindings, permission, name, client)
    }

    #[test]
    fn groups_permissions_and_variables_decide_together() {
        use Permission::{Publisher, Subscriber};
        let sensor: Client = "S1:subject;type=sensor;room=7".parse().unwrap();
        assert_eq!(lists(Publisher, "S1", Some(&sensor)), ["a/#", "own/S1/+", "rooms/7/#"]);
        assert!(lists(Subscriber, "S1", Some(&sensor)).is_empty());
        let panel: Client = "p:subject;type=panel;room=+".parse().unwrap();
        assert!(
            lists(Subscriber, "p", Some(&panel)).is_empty(),
            "a wildcard from an attribute opens nothing"
        );
        let lost: Client = "p:subject;type=sensor".parse().unwrap();
        assert_eq!(
            lists(Publisher, "p", Some(&lost)),
            ["a/#", "own/p/+"],
            "no room, no template"
        );
        assert_eq!(lists(Subscriber, "boss", None), ["secret"]);
    }

    #[test]
    fn mistakes_are_told() {
        let many = format!("s={}", vec!["a"; 11].join(","));
        for bad in [
            "s",
            "=a",
            "s=",
            "s=a#",
            "s=${client.name}",
            "s=${client.attributes.}",
            "s=${x",
            "s=1/2/3/4/5/6/7/8/9",
            &many,
        ] {
            assert!(bad.parse::<TopicSpace>().is_err(), "{bad}");
        }
        for bad in ["", "$all:s", "$all:s:reader", ":s:publisher", "$all::publisher"] {
            assert!(bad.parse::<Binding>().is_err(), "{bad}");
        }
    }
}
