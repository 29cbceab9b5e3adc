//! A TOML file that remembers where everything stands, and collects mistakes instead of stopping at the first.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::units;
use crate::identity::NameTemplate;

/// Largest configuration file that is read, in bytes; far above any real one.
pub const FILE_MAX: u64 = 1 << 20;

/// One mistake and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read at all.
    #[error("cannot read the configuration {}: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why, by the operating system.
        reason: String,
    },
    /// The mistakes in it, in the order of the file.
    #[error("{}", report(path, mistakes))]
    Mistakes {
        /// Which file.
        path: PathBuf,
        /// At least one.
        mistakes: Vec<Mistake>,
    },
}

fn report(path: &Path, mistakes: &[Mistake]) -> String {
    use fmt::Write as _;
    let mut out = String::new();
    for m in mistakes {
        let _ = writeln!(out, "{}:{}:{}: {}", path.display(), m.line, m.column, m.message);
    }
    let _ = write!(
        out,
        "{} mistake{} in {}: nothing was started",
        mistakes.len(),
        if mistakes.len() == 1 { "" } else { "s" },
        path.display()
    );
    out
}

/// The file being read.
pub struct Reader {
    path: PathBuf,
    text: String,
}

type Found = Rc<RefCell<Vec<(Range<usize>, String)>>>;

impl Reader {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`].
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |reason: String| ConfigError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let bytes = crate::files::read_small(path, FILE_MAX).map_err(|e| unreadable(e.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|e| unreadable(format!("it is not UTF-8: {e}")))?;
        Ok(Self::from_text(path, text))
    }

    /// For a text that is already here; `path` is only for messages.
    #[must_use]
    pub fn from_text(path: &Path, text: String) -> Self {
        Self {
            path: path.to_owned(),
            text,
        }
    }

    /// Parses the text and lets `schema` read the top section; unknown keys and all complaints come back as one error.
    ///
    /// # Errors
    /// [`ConfigError::Mistakes`], in the order of the file.
    pub fn read<T>(&self, schema: impl FnOnce(&mut Section<'_, '_>) -> T) -> Result<T, ConfigError> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let found: Found = Rc::default();
        for e in errors {
            found
                .borrow_mut()
                .push((e.span().unwrap_or(0..0), e.message().to_owned()));
        }
        let value = if found.borrow().is_empty() {
            let base = self.path.parent().unwrap_or(Path::new(""));
            let mut top = Section::new(Some(table.get_ref()), 0..0, String::new(), &found, base);
            let value = schema(&mut top);
            top.finish();
            Some(value)
        } else {
            None
        };
        let mut list = found.take();
        match value {
            Some(value) if list.is_empty() => Ok(value),
            _ => {
                list.sort_by_key(|(span, _)| span.start);
                Err(ConfigError::Mistakes {
                    path: self.path.clone(),
                    mistakes: list
                        .into_iter()
                        .map(|(span, message)| self.place(&span, message))
                        .collect(),
                })
            }
        }
    }

    fn place(&self, span: &Range<usize>, message: String) -> Mistake {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Mistake {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }
}

/// One table of the file. Each getter marks its key as known; [`Section::finish`] reports the rest.
pub struct Section<'t, 'i> {
    table: Option<&'t DeTable<'i>>,
    span: Range<usize>,
    name: String,
    known: BTreeSet<&'static str>,
    found: &'t Found,
    /// Relative paths start here: the configuration file's directory.
    base: &'t Path,
}

impl<'t, 'i> Section<'t, 'i> {
    fn new(table: Option<&'t DeTable<'i>>, span: Range<usize>, name: String, found: &'t Found, base: &'t Path) -> Self {
        Self {
            table,
            span,
            name,
            known: BTreeSet::new(),
            found,
            base,
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.known.insert(key);
        self.table?.get(key)
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn complain(&self, span: Range<usize>, message: String) {
        self.found.borrow_mut().push((span, message));
    }

    /// Whether this section has the key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// Whether the key is there and holds true or false.
    #[must_use]
    pub fn is_boolean(&self, key: &str) -> bool {
        let value = self.table.and_then(|t| t.get(key));
        value.is_some_and(|v| v.get_ref().as_bool().is_some())
    }

    /// Reports a mistake at a key (or at the section when the key is not there).
    pub fn mistake(&mut self, key: &str, message: impl Into<String>) {
        let span = self
            .table
            .and_then(|t| t.get(key))
            .map_or(self.span.clone(), Spanned::span);
        self.complain(span, format!("{}: {}", self.path(key), message.into()));
    }

    /// A sub-table; an absent one reads as empty, so that its defaults apply. Call [`Section::finish`] on it.
    pub fn section(&mut self, key: &'static str) -> Section<'t, 'i> {
        let name = self.path(key);
        let value = self.get(key);
        let table = value.and_then(|v| {
            let table = v.get_ref().as_table();
            if table.is_none() {
                self.complain(v.span(), format!("{name} must be a section: write [{name}]"));
            }
            table
        });
        Section::new(table, value.map_or(0..0, Spanned::span), name, self.found, self.base)
    }

    /// An array of tables, `[[key]]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'t, 'i>> {
        let name = self.path(key);
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.complain(
                value.span(),
                format!("{name} must be a list of sections: write [[{name}]]"),
            );
            return Vec::new();
        };
        let mut out = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => out.push(Section::new(
                    Some(table),
                    item.span(),
                    name.clone(),
                    self.found,
                    self.base,
                )),
                None => self.complain(item.span(), format!("{name} must hold sections only: write [[{name}]]")),
            }
        }
        out
    }

    /// A string, or `None` when the key is absent.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(text.to_owned()),
            None => {
                let message = format!(
                    "{} must be a string in quotes, not {}",
                    self.path(key),
                    value.get_ref().type_str()
                );
                self.complain(value.span(), message);
                None
            }
        }
    }

    /// A string that must be there.
    pub fn required_text(&mut self, key: &'static str, example: &str) -> String {
        if !self.has(key) {
            self.known.insert(key);
            self.mistake(key, format!("is missing: write for example {key} = {example:?}"));
        }
        self.text(key).unwrap_or_default()
    }

    /// A string that parses into a type.
    pub fn parsed<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.checked(key, |text| text.parse::<T>().map_err(|e| e.to_string()))
    }

    fn checked<T>(&mut self, key: &'static str, check: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(key)?;
        match check(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.mistake(key, why);
                None
            }
        }
    }

    /// A list of strings that parse into a type; empty when the key is absent.
    pub fn list<T>(&mut self, key: &'static str) -> Vec<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let name = self.path(key);
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.complain(
                value.span(),
                format!("{name} must be a list of strings: write {key} = [\"...\"]"),
            );
            return Vec::new();
        };
        let mut out = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str().map(str::parse::<T>) {
                Some(Ok(x)) => out.push(x),
                Some(Err(e)) => self.complain(item.span(), format!("{name}: {e}")),
                None => self.complain(item.span(), format!("{name} must hold strings only")),
            }
        }
        out
    }

    /// A path; a relative one starts at the configuration file's directory.
    pub fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let base = self.base;
        self.checked(key, |text| {
            if text.is_empty() {
                Err("an empty path names no file".to_owned())
            } else {
                Ok(base.join(text))
            }
        })
    }

    /// A path with placeholders, otherwise as [`Section::file`].
    pub fn file_template(&mut self, key: &'static str) -> Option<NameTemplate> {
        let path = self.file(key)?;
        match path.to_string_lossy().parse() {
            Ok(template) => Some(template),
            Err(e) => {
                self.mistake(key, format!("{e}"));
                None
            }
        }
    }

    /// A table of texts with placeholders, `key = { name = "text" }`; empty when the key is absent.
    pub fn templates(&mut self, key: &'static str) -> BTreeMap<String, NameTemplate> {
        let name = self.path(key);
        let Some(value) = self.get(key) else {
            return BTreeMap::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            self.complain(
                value.span(),
                format!("{name} must be a table of texts: write {key} = {{ name = \"text\" }}"),
            );
            return BTreeMap::new();
        };
        let mut out = BTreeMap::new();
        for (inner, value) in table.iter() {
            let inner = inner.get_ref().to_string();
            match value.get_ref().as_str().map(str::parse) {
                Some(Ok(template)) => {
                    out.insert(inner, template);
                }
                Some(Err(e)) => self.complain(value.span(), format!("{name}.{inner}: {e}")),
                None => self.complain(value.span(), format!("{name}.{inner} must be a string in quotes")),
            }
        }
        out
    }

    /// A duration between two limits, or the default.
    pub fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        limits: std::ops::RangeInclusive<Duration>,
    ) -> Duration {
        let value = self.checked(key, |text| {
            let value = units::duration(text)?;
            if limits.contains(&value) {
                Ok(value)
            } else {
                Err(format!(
                    "{text:?} is outside {:?} to {:?}",
                    limits.start(),
                    limits.end()
                ))
            }
        });
        value.unwrap_or(default)
    }

    /// A size in bytes between two limits, or the default.
    pub fn size(&mut self, key: &'static str, default: u64, limits: std::ops::RangeInclusive<u64>) -> u64 {
        let value = self.checked(key, |text| {
            let value = units::size(text)?;
            if limits.contains(&value) {
                Ok(value)
            } else {
                Err(format!(
                    "{text:?} is outside {} to {} bytes",
                    limits.start(),
                    limits.end()
                ))
            }
        });
        value.unwrap_or(default)
    }

    /// A whole number between two limits, or `None`.
    pub fn number(&mut self, key: &'static str, limits: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.get(key)?;
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|n| i64::from_str_radix(&n.as_str().replace('_', ""), n.radix()).ok());
        match number {
            Some(n) if limits.contains(&n) => Some(n),
            Some(n) => {
                self.mistake(key, format!("{n} is outside {} to {}", limits.start(), limits.end()));
                None
            }
            None => {
                self.mistake(
                    key,
                    format!("must be a whole number, not {}", value.get_ref().type_str()),
                );
                None
            }
        }
    }

    /// A boolean, or the default.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.mistake(
                key,
                format!("must be true or false, not {}", value.get_ref().type_str()),
            );
            default
        })
    }

    /// One of a few words, or the default.
    pub fn choice<T: Copy>(&mut self, key: &'static str, default: T, choices: &[(&str, T)]) -> T {
        let value = self.checked(key, |text| {
            choices
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| {
                    let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
                    format!("{text:?} is none of {}", words.join(", "))
                })
        });
        value.unwrap_or(default)
    }

    /// Reports every key that nobody asked for, with the nearest known one.
    pub fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, _) in table.iter() {
            let name = key.get_ref().as_ref();
            if self.known.contains(name) {
                continue;
            }
            let near = near(name, self.known.iter().copied());
            self.complain(key.span(), format!("unknown key {:?}{near}", self.path(name)));
        }
    }
}

/// Longer names are not compared: nobody meant them.
const NEAR_MAX: usize = 64;

/// "; did you mean …?" for the known name that differs least from this one, if that is little.
pub(crate) fn near<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    if name.len() > NEAR_MAX {
        return String::new();
    }
    known
        .map(|k| (distance(name, k), k))
        .filter(|(d, _)| *d <= 3)
        .min()
        .map_or(String::new(), |(_, k)| format!("; did you mean {k:?}?"))
}

/// Levenshtein distance, for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let next = (diagonal + usize::from(ca != *cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
