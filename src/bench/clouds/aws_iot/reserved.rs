//! The topics that begin with `$`: reserved for AWS's services, each with its own meaning.
//! Source: AWS IoT Core developer guide, "Reserved topics". An operation that it does not list "can result in a terminated connection".

use super::shadow::{Key, Operation};

/// Longest name of a thing or shadow, in characters (AWS IoT API reference, CreateThing; Device Shadow quotas: 64 for a shadow).
const THING_MAX: usize = 128;
const SHADOW_MAX: usize = 64;

/// How a provisioning request is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// CBOR, which the stand-in refuses.
    Cbor,
}

/// What a publication to a reserved topic asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// `$aws/things/{thing}/shadow[/name/{name}]/{get|update|delete}`.
    Shadow(Key, Operation),
    /// `$aws/certificates/create/{format}`.
    CreateKeys(Format),
    /// `$aws/certificates/create-from-csr/{format}`.
    CreateFromCsr(Format),
    /// `$aws/provisioning-templates/{name}/provision/{format}`.
    Provision(String, Format),
    /// `$aws/rules/{rule}[/{topic}]`: Basic Ingest, a message that only the rule sees.
    Rule,
    /// A service of AWS's that the stand-in has not: jobs, Device Defender, streams.
    NotSimulated(&'static str),
}

/// Whether `name` can be a thing's.
#[must_use]
pub fn is_thing_name(name: &str) -> bool {
    named(name, THING_MAX)
}

fn named(name: &str, max: usize) -> bool {
    (1..=max).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-".contains(&b))
}

/// What a client asks for by publishing to a topic that begins with `$`; none when no client may.
#[must_use]
pub fn publication(topic: &str) -> Option<Reserved> {
    let levels: Vec<&str> = topic.split('/').collect();
    let format = |word: &str| match word {
        "json" => Some(Format::Json),
        "cbor" => Some(Format::Cbor),
        _ => None,
    };
    match levels.as_slice() {
        ["$aws", "things", thing, rest @ ..] if is_thing_name(thing) => {
            let (name, word) = match rest {
                ["shadow", word] => (None, word),
                ["shadow", "name", name, word] if named(name, SHADOW_MAX) => (Some((*name).to_owned()), word),
                ["jobs", "get" | "start-next"] | ["jobs", _, "get" | "update"] => {
                    return Some(Reserved::NotSimulated("jobs"));
                }
                ["defender", "metrics", _] => return Some(Reserved::NotSimulated("Device Defender")),
                ["streams", _, "get" | "describe", _] => return Some(Reserved::NotSimulated("streams")),
                _ => return None,
            };
            let operation = [Operation::Get, Operation::Update, Operation::Delete];
            let operation = operation.into_iter().find(|o| o.word() == *word)?;
            let thing = (*thing).to_owned();
            Some(Reserved::Shadow(Key { thing, name }, operation))
        }
        ["$aws", "certificates", "create", word] => format(word).map(Reserved::CreateKeys),
        ["$aws", "certificates", "create-from-csr", word] => format(word).map(Reserved::CreateFromCsr),
        ["$aws", "provisioning-templates", name, "provision", word] => {
            format(word).map(|f| Reserved::Provision((*name).to_owned(), f))
        }
        ["$aws", "rules", rule, ..] if !rule.is_empty() => Some(Reserved::Rule),
        _ => None,
    }
}

/// Whether a filter that begins with `$` can be subscribed to: the services' answers and events.
#[must_use]
pub fn subscription(filter: &str) -> bool {
    [
        "$aws/things/",
        "$aws/events/",
        "$aws/certificates/",
        "$aws/provisioning-templates/",
    ]
    .iter()
    .any(|p| filter.starts_with(p))
}

/// The part of a topic that counts for its size: Basic Ingest's first three levels do not (AWS IoT Core quotas).
#[must_use]
pub fn counted(topic: &str) -> &str {
    topic
        .strip_prefix("$aws/rules/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(topic, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listed_topics_and_no_others() {
        let key = |name: Option<&str>| Key {
            thing: "t".into(),
            name: name.map(str::to_owned),
        };
        for (topic, want) in [
            (
                "$aws/things/t/shadow/get",
                Some(Reserved::Shadow(key(None), Operation::Get)),
            ),
            (
                "$aws/things/t/shadow/name/n/delete",
                Some(Reserved::Shadow(key(Some("n")), Operation::Delete)),
            ),
            (
                "$aws/certificates/create/json",
                Some(Reserved::CreateKeys(Format::Json)),
            ),
            (
                "$aws/certificates/create-from-csr/cbor",
                Some(Reserved::CreateFromCsr(Format::Cbor)),
            ),
            (
                "$aws/provisioning-templates/p/provision/json",
                Some(Reserved::Provision("p".into(), Format::Json)),
            ),
            ("$aws/rules/r/a/b", Some(Reserved::Rule)),
            ("$aws/things/t/jobs/get", Some(Reserved::NotSimulated("jobs"))),
            ("$aws/things/t/shadow/get/accepted", None),
            ("$aws/things/t/shadow/upd", None),
            ("$aws/things//shadow/get", None),
            ("$aws/events/presence/connected/t", None),
            ("$SYS/x", None),
            ("$aws", None),
        ] {
            assert_eq!(publication(topic), want, "{topic}");
        }
        assert!(subscription("$aws/things/t/shadow/#") && subscription("$aws/events/presence/+/t"));
        assert!(!subscription("$SYS/#") && !subscription("$share/g/a"));
        assert_eq!(counted("$aws/rules/r/a/b"), "a/b");
        assert_eq!(counted("$aws/rules/r"), "$aws/rules/r");
    }
}
