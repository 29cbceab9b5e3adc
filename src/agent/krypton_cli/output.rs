//! What becomes of an answer: text without secrets, JSON with everything, or files in a directory.
//!
//! Files never replace others: each is written and synced under another name and then linked to its own, which fails if that is taken. The
//! private key goes first.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::unistd::{AccessFlags, access};
use serde_json::Value;

use crate::clock::rfc3339;
use crate::files::{PUBLIC, SECRET, write_atomically};
use crate::provision::krypton::fields::{CA, CERTIFICATE, Content, Fields, PRIVATE_KEY, USERDATA};
use crate::provision::krypton::reply::BODY_MAX;
use crate::report::out;
use crate::tls::{Leaf, certificates};

/// File of everything that is no file of its own.
const ANSWER: &str = "answer.json";
/// Every file that an answer can become.
const ALL: [&str; 5] = [PRIVATE_KEY, CERTIFICATE, CA, USERDATA, ANSWER];
/// Room for an answer as JSON, in bytes: no escape makes a byte longer than six.
const JSON_MAX: usize = 6 * BODY_MAX;

/// Everything, for scripts.
///
/// # Errors
/// From standard output.
pub(super) fn json(fields: &Fields) -> anyhow::Result<()> {
    let mut line = fields.json(JSON_MAX)?;
    line.push(b'\n');
    Ok(out(std::str::from_utf8(&line)?)?)
}

/// What people may see over each other's shoulders.
///
/// # Errors
/// From standard output.
pub(super) fn text(fields: &Fields) -> anyhow::Result<()> {
    if let [field] = fields.0.as_slice() {
        if let Content::File {
            name: USERDATA, text, ..
        } = &field.content
        {
            return Ok(out(text.reveal())?);
        }
    }
    let hidden = |c: &Content| matches!(c, Content::Secret(_) | Content::File { private: true, .. });
    let mut lines = render(fields);
    if fields.0.iter().any(|f| hidden(&f.content)) {
        lines += "Secrets are not shown, and this answer is kept nowhere: --out DIR writes it into files, --json prints all of it.\n";
    }
    Ok(out(&lines)?)
}

fn render(fields: &Fields) -> String {
    let width = fields.0.iter().map(|f| f.name.len()).max().unwrap_or(0);
    let line = |f: &crate::provision::krypton::fields::Field| {
        let shown = match &f.content {
            Content::Plain(Value::String(text)) => text.clone(),
            Content::Plain(other) => other.to_string(),
            Content::Secret(_) | Content::File { private: true, .. } => "(secret)".to_owned(),
            Content::File { text, .. } => certificate(text.reveal()),
        };
        // What a service says must not steer a terminal.
        let shown: String = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{:<width$}  {shown}\n", f.name)
    };
    fields.0.iter().map(line).collect()
}

/// A certificate in a few words.
fn certificate(pem: &str) -> String {
    let leaf = certificates(pem.as_bytes(), "the answer")
        .ok()
        .and_then(|list| list.into_iter().next())
        .and_then(|der| Leaf::read(&der, "the answer").ok());
    match leaf {
        Some(leaf) => format!(
            "of {}, valid {} to {}",
            leaf.common_name.as_deref().unwrap_or("an unnamed subject"),
            rfc3339(leaf.not_before),
            rfc3339(leaf.not_after)
        ),
        None => format!("PEM, {} bytes", pem.len()),
    }
}

/// Where files go.
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes the directory (for the owner alone) if it is not there, and looks whether anything in it would be in the way.
    ///
    /// # Errors
    /// When it cannot be written to, or has a file that an answer can become.
    pub(super) fn prepare(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("the directory {} cannot be made", path.display()))?;
        access(path, AccessFlags::W_OK | AccessFlags::X_OK)
            .with_context(|| format!("{} cannot be written to; nothing was asked", path.display()))?;
        for name in ALL {
            let file = path.join(name);
            if fs::symlink_metadata(&file).is_ok() {
                bail!(
                    "{} is there already and is not overwritten; nothing was asked. Name another directory, or move the file away",
                    file.display()
                );
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// Writes an answer, and says what became of it.
    ///
    /// # Errors
    /// From the file system, with the file's name.
    pub(super) fn write(&self, fields: &Fields) -> anyhow::Result<()> {
        let mut files = Vec::new();
        for field in &fields.0 {
            if let Content::File { name, text, private } = &field.content {
                files.push((*name, text.reveal().as_bytes(), if *private { SECRET } else { PUBLIC }));
            }
        }
        let rest = fields.without_files();
        let mut answer = rest.json(JSON_MAX)?;
        answer.push(b'\n');
        if !rest.0.is_empty() {
            files.push((ANSWER, &answer, SECRET));
        }
        files.sort_by_key(|(name, ..)| ALL.iter().position(|n| n == name));
        let mut lines = render(fields);
        for (name, content, mode) in files {
            let path = self.0.join(name);
            self.write_new(name, content, mode)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            lines += &format!("wrote {}\n", path.display());
        }
        Ok(out(&lines)?)
    }

    fn write_new(&self, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let fresh = self.0.join(format!(".{name}.{}.new", std::process::id()));
        write_atomically(&fresh, content, mode)?;
        let linked = fs::hard_link(&fresh, self.0.join(name));
        fs::remove_file(&fresh)?;
        linked?;
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let directory = Directory::prepare(&path).unwrap();
        directory.write_new(PRIVATE_KEY, b"first", SECRET).unwrap();
        assert!(directory.write_new(PRIVATE_KEY, b"second", SECRET).is_err());
        assert_eq!(fs::read(path.join(PRIVATE_KEY)).unwrap(), b"first");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        let e = Directory::prepare(&path).err().unwrap().to_string();
        assert!(
            e.contains("private.key is there already") && e.contains("nothing was asked"),
            "{e}"
        );
        // Not even a link to nowhere.
        fs::remove_file(path.join(PRIVATE_KEY)).unwrap();
        std::os::unix::fs::symlink("nowhere", path.join(CA)).unwrap();
        assert!(Directory::prepare(&path).is_err());
    }
}
