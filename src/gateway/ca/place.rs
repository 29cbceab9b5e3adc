//! The authority's directory.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use nix::fcntl::Flock;
use serde_json::json;
use zeroize::Zeroizing;

use super::{At, Curve, DAYS_MAX, Said, days, now};
use crate::clock::{Clock, rfc3339};
use crate::files::{self, PUBLIC, SECRET, read_small, write_atomically};
use crate::pki::{Authority, Plan, Signer};
use crate::tls::{Identity, Leaf, Pem, certificates};

/// Largest file that is read, in bytes.
pub(super) const FILE_MAX: u64 = 1 << 20;
/// A lifetime that most hardware does not reach; the root is what servers trust, and changing it means visiting them.
const ROOT_DAYS: i64 = 7_300;
/// Half of the root's.
const INTERMEDIATE_DAYS: i64 = 3_650;
/// `<name> Intermediate CA` has to fit a common name of 64 characters.
const NAME_MAX: usize = 64 - " Intermediate CA".len();

/// What `ca init` is told.
#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    pub(super) at: At,
    /// The authority's name: its certificates are for "NAME Root CA" and "NAME Intermediate CA"
    #[arg(long, value_name = "NAME")]
    name: String,
    /// How long the root is valid
    #[arg(long, value_name = "N", default_value_t = ROOT_DAYS, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
    days_root: i64,
    /// How long the intermediate is valid, at most as long as the root
    #[arg(long, value_name = "N", default_value_t = INTERMEDIATE_DAYS, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
    days_intermediate: i64,
    /// The kind of both keys
    #[arg(long, value_enum, default_value_t = Curve::P256)]
    key: Curve,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Who {
    /// The root, which signed the intermediate
    Root,
    /// The intermediate, which signs the devices
    Intermediate,
}

impl Who {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
        }
    }
}

/// A directory with an authority.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Looks whether an authority is there.
    ///
    /// # Errors
    /// If not.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let place = Self(directory.to_owned());
        for who in [Who::Root, Who::Intermediate] {
            let path = place.certificate(who);
            // One that may not be looked at is there, and a new authority would be no cure.
            if !path
                .try_exists()
                .with_context(|| format!("cannot look at {}", path.display()))?
            {
                bail!(
                    "{} is not there, so {} holds no authority; make one with 'onyx-gateway ca init --dir {} --name NAME'",
                    path.display(),
                    directory.display(),
                    directory.display()
                );
            }
        }
        Ok(place)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    pub(super) fn certificate(&self, who: Who) -> PathBuf {
        self.0.join(format!("{}.pem", who.word()))
    }

    pub(super) fn key(&self, who: Who) -> PathBuf {
        self.0.join(format!("{}.key", who.word()))
    }

    /// The certificate as PEM and what it says.
    pub(super) fn read(&self, who: Who) -> anyhow::Result<(String, Leaf)> {
        let path = self.certificate(who);
        let what = path.display().to_string();
        let pem = text(&path)?;
        let list = certificates(pem.as_bytes(), &what)?;
        let first = list.first().context("no certificate")?;
        Ok((pem.to_string(), Leaf::read(first, &what)?))
    }

    /// Takes up one of the two for signing; its key must be there and fit.
    ///
    /// # Errors
    /// What is missing or does not fit.
    pub fn signer(&self, who: Who) -> anyhow::Result<Signer> {
        let (certificate, key) = (self.certificate(who), self.key(who));
        if !key
            .try_exists()
            .with_context(|| format!("cannot look at {}", key.display()))?
        {
            bail!(
                "{} is not there, and it signs; bring it back from where it is kept{}",
                key.display(),
                if who == Who::Root {
                    ", or prove the intermediate instead"
                } else {
                    ""
                }
            );
        }
        let (pem, key_pem) = (text(&certificate)?, text(&key)?);
        let (from, key_from) = (certificate.display().to_string(), key.display().to_string());
        let identity = Identity::of(
            Pem {
                text: pem.as_bytes(),
                from: &from,
            },
            Pem {
                text: key_pem.as_bytes(),
                from: &key_from,
            },
        )?;
        // What signs is the first certificate; elsewhere any that fits the key would do.
        if identity.chain().first() != certificates(pem.as_bytes(), &from)?.first() {
            bail!(
                "the first certificate in {from} is not the one that {key_from} belongs to; put that one first, or alone"
            );
        }
        Ok(Signer::load(&from, &pem, &key_pem)?)
    }
}

/// A small text file; it may be a key.
pub(super) fn text(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let bytes = read_small(path, FILE_MAX).with_context(|| format!("cannot read {}", path.display()))?;
    String::from_utf8(bytes)
        .map(Zeroizing::new)
        .map_err(|_| anyhow::anyhow!("{} is not a PEM file", path.display()))
}

/// Makes a directory that only its owner may enter, with those above it; one that is there stays as it is.
pub(super) fn make_directory(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

/// Makes a directory as [`make_directory`] does, and takes it: two commands that issue into it at once would leave one's key beside the
/// other's certificate.
pub(super) fn take_directory(path: &Path) -> anyhow::Result<Flock<File>> {
    make_directory(path)?;
    let lock = files::lock_directory(path).with_context(|| format!("cannot lock {}", path.display()))?;
    lock.with_context(|| {
        format!(
            "another 'onyx-gateway ca' is writing into {}; try again when it has ended",
            path.display()
        )
    })
}

/// Whether something has this name. A link to nowhere counts: a key may lie on a disk that is not there just now.
pub(super) fn taken(path: &Path) -> bool {
    !matches!(std::fs::symlink_metadata(path), Err(e) if e.kind() == std::io::ErrorKind::NotFound)
}

pub(super) fn write(path: &Path, content: &str, mode: u32) -> anyhow::Result<()> {
    write_atomically(path, content.as_bytes(), mode).with_context(|| format!("cannot write {}", path.display()))
}

pub(super) fn init(c: &Init, clock: &Clock) -> anyhow::Result<Said> {
    let name = c.name.trim();
    if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        bail!(
            "--name {:?} cannot be used; it needs 1 to {NAME_MAX} characters without control characters",
            c.name
        );
    }
    if c.days_intermediate > c.days_root {
        bail!(
            "the intermediate cannot be valid longer ({} days) than the root that signs it ({} days); shorten --days-intermediate",
            c.days_intermediate,
            c.days_root
        );
    }
    let now = now(clock)?;
    make_directory(&c.at.dir)?;
    let lock = files::lock(&c.at.dir.join(".lock")).with_context(|| format!("cannot lock {}", c.at.dir.display()))?;
    let Some(_lock) = lock else {
        bail!("another 'ca init' is at work in {}", c.at.dir.display());
    };
    let place = Place(c.at.dir.clone());
    let who = [Who::Root, Who::Intermediate];
    if let Some(there) = who
        .iter()
        .flat_map(|w| [place.certificate(*w), place.key(*w)])
        .find(|p| p.exists())
    {
        bail!(
            "{} is there already, and an authority is never overwritten, as every device of it would be lost; choose another directory, \
             or move its files away",
            there.display()
        );
    }
    let authority = Authority::plan(&Plan {
        name,
        kind: c.key.into(),
        now,
        root_for: days(c.days_root),
        intermediate_for: days(c.days_intermediate),
    })?;
    let saved = authority.save();
    // Keys first, and the root's certificate last: a directory with all four is whole.
    write(&place.key(Who::Root), &saved.root_key_pem, SECRET)?;
    write(&place.key(Who::Intermediate), &saved.intermediate_key_pem, SECRET)?;
    write(&place.certificate(Who::Intermediate), &saved.intermediate_pem, PUBLIC)?;
    write(&place.certificate(Who::Root), &saved.root_pem, PUBLIC)?;
    let dir = c.at.dir.display();
    let (_, root) = place.read(Who::Root)?;
    let (_, intermediate) = place.read(Who::Intermediate)?;
    let text = format!(
        "made \"{name} Root CA\", valid until {}\nmade \"{name} Intermediate CA\", valid until {}\n\
         next: 'onyx-gateway ca show --dir {dir}' says what to upload where, 'onyx-gateway ca issue --dir {dir} NAME' makes a device\n\
         keep {dir}/root.key in a safe place, away from this machine: no device needs it\n",
        rfc3339(root.not_after),
        rfc3339(intermediate.not_after),
    );
    let files = |w: Who, leaf: &Leaf| {
        json!({"common_name": leaf.common_name, "certificate": place.certificate(w), "key": place.key(w),
               "not_before": rfc3339(leaf.not_before), "not_after": rfc3339(leaf.not_after)})
    };
    let json = json!({"directory": c.at.dir, "root": files(Who::Root, &root), "intermediate": files(Who::Intermediate, &intermediate)});
    Ok(Said { text, json, good: true })
}
