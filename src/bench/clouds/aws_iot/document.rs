//! AWS IoT policy documents: read, and asked whether they allow something. No I/O.
//!
//! ```json
//! {"Version": "2012-10-17", "Statement": [
//!   {"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:eu-west-1:123456789012:client/${iot:ClientId}"}]}
//! ```
//!
//! A statement speaks when one of its actions and one of its resources match. A Deny that speaks beats every Allow, and what no Allow
//! speaks for is denied. In actions and resources `*` stands for any characters, `/` among them, and `?` for one; MQTT's `+` and `#` are
//! ordinary characters. A variable `${iot:…}` is replaced by what is known of the connection, and what it is replaced by is taken
//! literally; a statement with a variable that is not known does not speak. `${*}`, `${?}` and `${$}` are those characters themselves.
//!
//! Of conditions there is the one that AWS's guides use with devices, `"Bool": {"iot:Connection.Thing.IsAttached": ["true"]}`; others
//! are refused when a document is read, not passed over.
//! Source: AWS IoT Core developer guide, "AWS IoT Core policies", "policy variables" and "Publish/Subscribe policy examples".

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::bench::clouds::wildcard::{self, Glyph};

/// Longest policy document, in characters without white space (AWS IoT Core quotas, policies).
pub const DOCUMENT_MAX: usize = 2_048;
/// The account in every ARN of the stand-in: the one AWS's own examples use.
pub const ACCOUNT: &str = "123456789012";

/// Why a text is no policy document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not the fields of a policy.
    #[error("this is no AWS IoT policy document: {0}")]
    Shape(String),
    /// Too long.
    #[error("a policy document has at most {DOCUMENT_MAX} characters without white space, this one has {0}")]
    TooLong(usize),
    /// A version that there is not.
    #[error("Version is {0:?}; AWS knows \"2012-10-17\" and \"2008-10-17\"")]
    Version(String),
    /// An action that is none of AWS IoT's.
    #[error("Action {0:?} does not begin with \"iot:\"")]
    Action(String),
    /// A resource that is no ARN.
    #[error("Resource {0:?} is neither \"*\" nor an ARN (arn:aws:iot:REGION:ACCOUNT:KIND/NAME)")]
    Resource(String),
    /// `${` without `}`.
    #[error("{0:?} has \"${{\" without \"}}\"")]
    Variable(String),
    /// A condition that is not simulated.
    #[error("the condition {0} is not simulated: only \"Bool\" of \"iot:Connection.Thing.IsAttached\" is")]
    Condition(String),
}

/// What is known of a connection, for policy variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Variable → value; see [`Context::set`].
    values: BTreeMap<String, String>,
    /// Whether the certificate is attached to the thing that has the client id's name.
    pub attached: bool,
}

impl Context {
    /// Makes a variable known, e.g. `iot:ClientId`.
    pub fn set(&mut self, variable: impl Into<String>, value: impl Into<String>) {
        self.values.insert(variable.into(), value.into());
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(String),
    Any,
    One,
    Variable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<Token>);

impl Pattern {
    fn parse(text: &str) -> Result<Self, DocumentError> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("${") {
                let (name, after) = after
                    .split_once('}')
                    .ok_or_else(|| DocumentError::Variable(text.to_owned()))?;
                tokens.push(match name {
                    "*" | "?" | "$" => Token::Text(name.to_owned()),
                    _ => Token::Variable(name.to_owned()),
                });
                rest = after;
                continue;
            }
            tokens.push(match first {
                '*' => Token::Any,
                '?' => Token::One,
                other => Token::Text(other.to_string()),
            });
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
        Ok(Self(tokens))
    }

    /// With the variables replaced; none when one is not known.
    fn glyphs(&self, context: &Context) -> Option<Vec<Glyph>> {
        let mut out = Vec::new();
        for token in &self.0 {
            match token {
                Token::Any => out.push(Glyph::Any),
                Token::One => out.push(Glyph::One),
                Token::Text(text) => out.extend(text.chars().map(Glyph::Char)),
                Token::Variable(name) => out.extend(context.values.get(name)?.chars().map(Glyph::Char)),
            }
        }
        Some(out)
    }

    fn matches(&self, text: &str, context: &Context) -> bool {
        self.glyphs(context)
            .is_some_and(|pattern| wildcard::matches(&pattern, text))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    allow: bool,
    actions: Vec<Pattern>,
    resources: Vec<Pattern>,
    attached: Option<bool>,
}

impl Statement {
    fn speaks(&self, action: &str, resource: &str, context: &Context) -> bool {
        self.attached.is_none_or(|wanted| wanted == context.attached)
            && self.actions.iter().any(|a| a.matches(action, context))
            && self.resources.iter().any(|r| r.matches(resource, context))
    }
}

/// What documents say to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An Allow speaks for it and no Deny against it.
    Allowed,
    /// A Deny speaks against it.
    Denied,
    /// No statement speaks for it.
    NotAllowed,
}

/// A policy document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    statements: Vec<Statement>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn list(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDocument {
    #[serde(rename = "Version")]
    version: String,
    #[serde(rename = "Id")]
    _id: Option<String>,
    #[serde(rename = "Statement")]
    statement: OneOrMany<RawStatement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStatement {
    #[serde(rename = "Sid")]
    _sid: Option<String>,
    #[serde(rename = "Effect")]
    effect: Effect,
    #[serde(rename = "Action")]
    action: OneOrMany<String>,
    #[serde(rename = "Resource")]
    resource: OneOrMany<String>,
    #[serde(rename = "Condition")]
    condition: Option<serde_json::Value>,
}

#[derive(Deserialize, PartialEq)]
enum Effect {
    Allow,
    Deny,
}

/// `{"Bool": {"iot:Connection.Thing.IsAttached": "true" | ["true"]}}`.
fn condition(value: &serde_json::Value) -> Option<bool> {
    let only = |v: &serde_json::Value, key: &str| -> Option<serde_json::Value> {
        let map = v.as_object()?;
        (map.len() == 1).then(|| map.get(key).cloned()).flatten()
    };
    let wanted = only(&only(value, "Bool")?, "iot:Connection.Thing.IsAttached")?;
    let wanted = match wanted.as_array().map(Vec::as_slice) {
        Some([one]) => one.clone(),
        Some(_) => return None,
        None => wanted,
    };
    wanted.as_bool().or_else(|| wanted.as_str()?.parse().ok())
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let long = text.chars().filter(|c| !c.is_whitespace()).count();
        if long > DOCUMENT_MAX {
            return Err(DocumentError::TooLong(long));
        }
        let raw: RawDocument = serde_json::from_str(text).map_err(|e| DocumentError::Shape(e.to_string()))?;
        if !["2012-10-17", "2008-10-17"].contains(&raw.version.as_str()) {
            return Err(DocumentError::Version(raw.version));
        }
        let mut statements = Vec::new();
        for s in raw.statement.list() {
            let mut actions = Vec::new();
            for action in s.action.list() {
                if !action.starts_with("iot:") && action != "*" {
                    return Err(DocumentError::Action(action));
                }
                actions.push(Pattern::parse(&action)?);
            }
            let mut resources = Vec::new();
            for resource in s.resource.list() {
                if !resource.starts_with("arn:") && resource != "*" {
                    return Err(DocumentError::Resource(resource));
                }
                resources.push(Pattern::parse(&resource)?);
            }
            let attached = match &s.condition {
                None => None,
                Some(c) => Some(condition(c).ok_or_else(|| DocumentError::Condition(c.to_string()))?),
            };
            statements.push(Statement {
                allow: s.effect == Effect::Allow,
                actions,
                resources,
                attached,
            });
        }
        Ok(Self { statements })
    }
}

/// What several documents, attached to one certificate, say together.
pub fn verdict<'a>(
    documents: impl Iterator<Item = &'a Document>,
    action: &str,
    resource: &str,
    context: &Context,
) -> Verdict {
    let mut allowed = false;
    for statement in documents.flat_map(|d| &d.statements) {
        if statement.speaks(action, resource, context) {
            if !statement.allow {
                return Verdict::Denied;
            }
            allowed = true;
        }
    }
    if allowed { Verdict::Allowed } else { Verdict::NotAllowed }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
