//! JSON that remembers where everything stands, and collects remarks instead of stopping at the first mistake: what
//! [`crate::config::reader`] is for TOML.
//!
//! serde_json's [`RawValue`] is a piece of the text itself, so its address tells its position. An object is read a level at a time
//! into pairs of raw pieces, which also shows keys that stand there twice. The text may hold secrets: no remark quotes a value unless the
//! schema hands it over.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::reader::near;

/// Most remarks that are kept of one text; a text with more is not a configuration.
pub(in crate::gateway) const REMARKS_MAX: usize = 100;
/// Most characters of a key that a remark repeats.
const SHOWN_MAX: usize = 64;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// It works, perhaps not as meant.
    Warning,
    /// It cannot be used.
    Error,
}

/// Something to say about a place in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// How bad.
    pub grade: Grade,
    /// Line and column, counted from 1, where the text is known.
    pub place: Option<(usize, usize)>,
    /// The way there from the top: `[0].value.useClientCert`.
    pub path: String,
    /// What is so, and what to do.
    pub message: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// What was remarked, while a text is read.
pub(in crate::gateway) struct Notes<'t> {
    text: &'t str,
    /// Whether somebody wrote this text, so that a line and a column help.
    located: bool,
    list: RefCell<Vec<(usize, Remark)>>,
}

impl<'t> Notes<'t> {
    /// For a text that a person wrote.
    pub(in crate::gateway) fn of_text(text: &'t str) -> Self {
        Self {
            text,
            located: true,
            list: RefCell::default(),
        }
    }

    /// For a text that was made from a stored value: positions in it would help nobody.
    pub(in crate::gateway) fn of_value(text: &'t str) -> Self {
        Self {
            located: false,
            ..Self::of_text(text)
        }
    }

    /// The whole text, if it is JSON; if not, that is remarked.
    pub(in crate::gateway) fn top<'n>(&'n self, path: &str) -> Option<Node<'t, 'n>> {
        match serde_json::from_str::<&RawValue>(self.text) {
            Ok(raw) => Some(Node {
                raw: raw.get(),
                path: path.to_owned(),
                notes: self,
            }),
            Err(e) => {
                let at = offset(self.text, e.line(), e.column());
                let text = e.to_string();
                // serde_json ends its sentence with the position, which stands in front here.
                let text = text.split(" at line ").next().unwrap_or(&text);
                self.add(Grade::Error, at, path, format!("this is not JSON: {text}"));
                None
            }
        }
    }

    fn add(&self, grade: Grade, at: usize, path: &str, message: String) {
        let mut list = self.list.borrow_mut();
        if list.len() < REMARKS_MAX {
            let place = self.located.then(|| place(self.text, at));
            let path = path.to_owned();
            list.push((
                at,
                Remark {
                    grade,
                    place,
                    path,
                    message,
                },
            ));
        }
    }

    /// All remarks, in the order of the text.
    pub(in crate::gateway) fn done(self) -> Vec<Remark> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|(at, _)| *at);
        list.into_iter().map(|(_, r)| r).collect()
    }
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// serde_json counts columns in bytes, from 1; the end of the text is past the last.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let mut at = (before + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

struct Pairs<'t>(Vec<(&'t RawValue, &'t RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut list = Vec::new();
                while let Some(pair) = map.next_entry::<&RawValue, &RawValue>().map_err(de::Error::custom)? {
                    list.push(pair);
                }
                Ok(Pairs(list))
            }
        }
        deserializer.deserialize_map(Walk)
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub(in crate::gateway) struct Node<'t, 'n> {
    raw: &'t str,
    path: String,
    notes: &'n Notes<'t>,
}

impl<'t, 'n> Node<'t, 'n> {
    fn at(&self, piece: &str) -> usize {
        (piece.as_ptr() as usize).saturating_sub(self.notes.text.as_ptr() as usize)
    }

    /// Remarks something here.
    pub(in crate::gateway) fn say(&self, grade: Grade, message: impl Into<String>) {
        self.notes.add(grade, self.at(self.raw), &self.path, message.into());
    }

    /// Remarks a mistake here.
    pub(in crate::gateway) fn mistake(&self, message: impl Into<String>) {
        self.say(Grade::Error, message);
    }

    /// What kind of value it is, for people.
    pub(in crate::gateway) fn kind(&self) -> &'static str {
        match self.raw.bytes().next() {
            Some(b'{') => "an object",
            Some(b'[') => "a list",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            _ => "a number",
        }
    }

    /// Whether it is null.
    pub(in crate::gateway) fn is_null(&self) -> bool {
        self.raw == "null"
    }

    /// Whether it says nothing: null, false, an empty text, list or object.
    pub(in crate::gateway) fn is_off(&self) -> bool {
        let squeezed: String = self.raw.chars().filter(|c| !c.is_whitespace()).take(8).collect();
        matches!(squeezed.as_str(), "null" | "false" | "\"\"" | "{}" | "[]")
    }

    fn wrong(&self, want: &str) {
        self.mistake(format!("must be {want}, not {}", self.kind()));
    }

    fn decode<'a, T: Deserialize<'a>>(&'a self, fits: bool, want: &str) -> Option<T> {
        if !fits {
            self.wrong(want);
            return None;
        }
        match serde_json::from_str(self.raw) {
            Ok(x) => Some(x),
            // A text with half a surrogate pair, a number beyond its type.
            Err(_) => {
                self.mistake(format!("must be {want}"));
                None
            }
        }
    }

    /// A string.
    pub(in crate::gateway) fn text(&self) -> Option<String> {
        self.decode(self.kind() == "a string", "a string")
    }

    /// True or false.
    pub(in crate::gateway) fn boolean(&self) -> Option<bool> {
        self.decode(self.kind() == "true or false", "true or false")
    }

    /// A whole number between two limits.
    pub(in crate::gateway) fn number(&self, limits: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let want = format!("a whole number from {} to {}", limits.start(), limits.end());
        let n = self.decode::<u32>(self.kind() == "a number", &want)?;
        if !limits.contains(&n) {
            self.mistake(format!("{n} must be {want}"));
            return None;
        }
        Some(n)
    }

    /// The items of a list.
    pub(in crate::gateway) fn list(&self) -> Option<Vec<Self>> {
        if self.kind() != "a list" {
            self.wrong("a list");
            return None;
        }
        let items: Vec<&'t RawValue> = serde_json::from_str(self.raw).ok()?;
        let node = |(i, raw): (usize, &'t RawValue)| Node {
            raw: raw.get(),
            path: format!("{}[{i}]", self.path),
            notes: self.notes,
        };
        Some(items.into_iter().enumerate().map(node).collect())
    }

    /// The items of a list about which another reader has said what there is to say.
    pub(in crate::gateway) fn list_quietly(&self) -> Vec<Self> {
        if self.kind() == "a list" {
            self.list().unwrap_or_default()
        } else {
            Vec::new()
        }
    }

    /// `{"key": …, "value": …}`. With `loud`, what is wrong with it is remarked.
    pub(in crate::gateway) fn pair(&self, loud: bool) -> Option<(String, Self)> {
        if !loud && self.kind() != "an object" {
            return None;
        }
        let mut o = self.object()?;
        let (key, value) = (o.get("key"), o.get("value"));
        if loud {
            for (name, there) in [("key", key.is_some()), ("value", value.is_some())] {
                if !there {
                    o.mistake(format!("has no {name:?}: each item is {{\"key\": …, \"value\": …}}"));
                }
            }
            o.finish();
        }
        let key = key.filter(|k| loud || k.kind() == "a string")?.text()?;
        Some((key, value?))
    }

    /// The value itself.
    pub(in crate::gateway) fn value(&self) -> Option<serde_json::Value> {
        self.decode(true, "a value that can be kept")
    }

    /// The keys of an object.
    pub(in crate::gateway) fn object(&self) -> Option<Object<'t, 'n>> {
        if self.kind() != "an object" {
            self.wrong("an object");
            return None;
        }
        let pairs: Pairs<'t> = match serde_json::from_str(self.raw) {
            Ok(pairs) => pairs,
            Err(e) => {
                self.mistake(format!("cannot be read: {e}"));
                return None;
            }
        };
        let mut keys = Vec::new();
        let mut seen = HashSet::new();
        for (key, value) in pairs.0 {
            let node = |path| Node {
                raw: value.get(),
                path,
                notes: self.notes,
            };
            let Ok(name) = serde_json::from_str::<String>(key.get()) else {
                node(self.path.clone()).mistake("a key here is not Unicode");
                continue;
            };
            let path = join(&self.path, &name);
            let at = self.at(key.get());
            if !seen.insert(name.clone()) {
                let message = "stands here twice: only one of them can be meant".to_owned();
                self.notes.add(Grade::Error, at, &path, message);
                continue;
            }
            keys.push((name, at, node(path)));
        }
        Some(Object {
            here: self.clone(),
            keys,
            known: BTreeSet::new(),
        })
    }
}

/// The name of a key in a remark: without the login of one that is a URL.
pub(in crate::gateway) fn named(key: &str) -> String {
    short(&super::group::public::key(key))
}

/// A text for people, not for ever.
pub(in crate::gateway) fn short(key: &str) -> String {
    let mut short: String = key.chars().take(SHOWN_MAX).collect();
    if short.len() < key.len() {
        short.push('…');
    }
    short.escape_debug().to_string()
}

fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'));
    match (path.is_empty(), plain && key.len() <= SHOWN_MAX) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[\"{}\"]", named(key)),
    }
}

/// An object whose keys are asked for one by one; [`Object::finish`] names those that nobody asked for.
pub(in crate::gateway) struct Object<'t, 'n> {
    here: Node<'t, 'n>,
    keys: Vec<(String, usize, Node<'t, 'n>)>,
    known: BTreeSet<&'static str>,
}

impl<'t, 'n> Object<'t, 'n> {
    /// A key's value, also if it is null.
    pub(in crate::gateway) fn get(&mut self, key: &'static str) -> Option<Node<'t, 'n>> {
        self.known.insert(key);
        self.keys.iter().find(|(k, _, _)| k == key).map(|(_, _, n)| n.clone())
    }

    /// A key's value; null counts as absent, as SORACOM's console may write it.
    pub(in crate::gateway) fn some(&mut self, key: &'static str) -> Option<Node<'t, 'n>> {
        self.get(key).filter(|n| !n.is_null())
    }

    /// True or false, or the default.
    pub(in crate::gateway) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        self.some(key).and_then(|n| n.boolean()).unwrap_or(default)
    }

    /// A text, with its place.
    pub(in crate::gateway) fn text(&mut self, key: &'static str) -> Option<(String, Node<'t, 'n>)> {
        let node = self.some(key)?;
        Some((node.text()?, node))
    }

    /// All keys with their values.
    pub(in crate::gateway) fn each(&self) -> impl Iterator<Item = (&str, &Node<'t, 'n>)> {
        self.keys.iter().map(|(k, _, n)| (k.as_str(), n))
    }

    /// Remarks a mistake at the object.
    pub(in crate::gateway) fn mistake(&self, message: impl Into<String>) {
        self.here.mistake(message);
    }

    /// Names every key that nobody asked for, with the nearest known one.
    pub(in crate::gateway) fn finish(self) {
        for (name, at, node) in &self.keys {
            if !self.known.contains(name.as_str()) {
                let near = near(name, self.known.iter().copied());
                let message = format!("unknown key {:?}{near}", named(name));
                self.here.notes.add(Grade::Error, *at, &node.path, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, read: impl FnOnce(Node<'_, '_>)) -> Vec<String> {
        let notes = Notes::of_text(text);
        if let Some(top) = notes.top("") {
            read(top);
        }
        notes.done().iter().map(Remark::to_string).collect()
    }

    #[test]
    fn everything_has_a_place_a_path_and_a_reason() {
        let text = "{\n  \"a\": 1,\n  \"é\\u0041\": 2, \"b c\": {\"naem\": true},\n  \"a\": 3, \"l\": [true, \"x\"]}";
        let list = said(text, |top| {
            let mut o = top.object().unwrap();
            assert_eq!(o.get("a").unwrap().number(2..=5), None);
            let mut inner = o.get("b c").unwrap().object().unwrap();
            inner.text("name");
            inner.finish();
            for item in o.get("l").unwrap().list().unwrap() {
                item.boolean();
            }
            o.finish();
        });
        assert_eq!(
            list,
            [
                "2:8: a: 1 must be a whole number from 2 to 5",
                "3:3: [\"éA\"]: unknown key \"éA\"; did you mean \"a\"?",
                "3:25: [\"b c\"].naem: unknown key \"naem\"; did you mean \"name\"?",
                "4:3: a: stands here twice: only one of them can be meant",
                "4:23: l[1]: must be true or false, not a string",
            ]
        );
    }

    #[test]
    fn what_is_no_json_says_where() {
        assert_eq!(said("{\"a\": }", |_| ()), ["1:7: this is not JSON: expected value"]);
        assert_eq!(
            said("[1,\n 2", |_| ()),
            ["2:2: this is not JSON: EOF while parsing a list"]
        );
        assert_eq!(said("", |_| ()).len(), 1);
        assert_eq!(said(&"[".repeat(100_000), |_| ()).len(), 1);
    }

    #[test]
    fn the_number_of_remarks_is_bounded() {
        let text: String = (0..10_000).map(|i| format!("\"k{i}\":{i},")).collect();
        let list = said(&format!("{{{text}\"z\":1}}"), |top| top.object().unwrap().finish());
        assert_eq!(list.len(), REMARKS_MAX);
    }
}
