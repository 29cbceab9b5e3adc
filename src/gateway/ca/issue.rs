//! `ca issue` and `ca server`: keys and certificates in files.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::name::{NAME_MAX, all, lines, others_in};
use super::pair::{Done, Order, Pair};
use super::place::{FILE_MAX, Place, Who, take_directory};
use super::{At, Curve, DAYS_MAX, Said, days, now, validity};
use crate::clock::{Clock, rfc3339};
use crate::files::read_small;
use crate::pki::Purpose;

/// A year; the agent and `onyx-gateway check` warn before it is over.
const DAYS: i64 = 365;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Up to so many devices, each has a line of its own.
const LINES_MAX: usize = 20;

/// What `ca issue` is told.
#[derive(Debug, Args)]
pub struct Issue {
    #[command(flatten)]
    pub(super) at: At,
    /// Devices' names, which become their certificates' common names, e.g. myClient-295012345678901
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Take more names from this file, one a line; - is standard input
    #[arg(long, value_name = "LIST")]
    from_file: Option<PathBuf>,
    /// How long the certificates are valid
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
    days: i64,
    /// Where to put the files; without it the directory "devices" of the authority
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The kind of the keys
    #[arg(long, value_enum, default_value_t = Curve::P256)]
    key: Curve,
    /// Make new keys and certificates also where there are some
    #[arg(long)]
    renew: bool,
}

/// What `ca server` is told.
#[derive(Debug, Args)]
pub struct Server {
    #[command(flatten)]
    pub(super) at: At,
    /// Host names and IP addresses that clients connect to; the first one names the files
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// How long the certificate is valid
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
    days: i64,
    /// Where to put the files; without it the directory "servers" of the authority
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The kind of the key
    #[arg(long, value_enum, default_value_t = Curve::P256)]
    key: Curve,
    /// Make a new key and certificate also where there are some
    #[arg(long)]
    renew: bool,
}

fn list(path: &Path) -> anyhow::Result<String> {
    let what = || format!("cannot read the names in {}", path.display());
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .take(FILE_MAX * 16)
            .read_to_string(&mut text)
            .with_context(what)?;
        return Ok(text);
    }
    let bytes = read_small(path, FILE_MAX * 16).with_context(what)?;
    String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("{} is not a text file", path.display()))
}

pub(super) fn devices(c: &Issue, clock: &Clock) -> anyhow::Result<Said> {
    let more = c.from_file.as_deref().map(list).transpose()?.unwrap_or_default();
    let names = all(c.names.iter().map(String::as_str).chain(lines(&more)))?;
    if names.is_empty() {
        bail!("no device is named; write NAME, or --from-file LIST with a name a line");
    }
    let place = Place::open(&c.at.dir)?;
    let signer = place.signer(Who::Intermediate)?;
    let now = now(clock)?;
    let by = place.certificate(Who::Intermediate).display().to_string();
    let (validity, note) = validity(now, days(c.days), signer.validity(), &by)?;
    let out = c.out.clone().unwrap_or_else(|| place.directory().join("devices"));
    let _taken = take_directory(&out)?;
    others_in(&out, &names)?;
    let mut told = clock.monotonic();
    let (mut results, mut tty) = (Vec::new(), false);
    for (n, name) in names.iter().enumerate() {
        let pair = Pair::at(&out, name.as_str());
        let order = Order {
            signer: &signer,
            common_name: name.as_str(),
            purpose: &Purpose::Device,
            validity,
            kind: c.key.into(),
            renew: c.renew,
            now,
        };
        let (done, note) = pair
            .make(&order)
            .with_context(|| format!("stopped at {:?}", name.as_str()))?;
        results.push((name.as_str(), pair, done, note));
        let at = clock.monotonic();
        if at.saturating_sub(told) >= TELL_EVERY {
            told = at;
            tty = std::io::stderr().is_terminal();
            eprint!(
                "{}{} of {}{}",
                if tty { "\r" } else { "" },
                n + 1,
                names.len(),
                if tty { "" } else { "\n" }
            );
        }
    }
    if tty {
        eprintln!();
    }
    let count = |wanted: Done| results.iter().filter(|(_, _, done, _)| *done == wanted).count();
    let mut text = String::new();
    for (name, _, done, note) in &results {
        if results.len() <= LINES_MAX || *done == Done::Unusable {
            let note = note.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
            text += &format!("{:<8} {name}{note}\n", done.word());
        }
    }
    let (issued, renewed, kept, unusable) = (
        count(Done::Issued),
        count(Done::Renewed),
        count(Done::Kept),
        count(Done::Unusable),
    );
    text += &format!(
        "{issued} issued, {renewed} renewed, {kept} kept, {unusable} unusable in {}\n",
        out.display()
    );
    if let Some(note) = note.as_ref().filter(|_| issued + renewed > 0) {
        text += &format!("note: {note}\n");
    }
    let devices: Vec<_> = results
        .iter()
        .map(|(name, pair, done, note)| {
            json!({"name": name, "result": done.word(), "certificate": pair.chain, "leaf": pair.leaf, "key": pair.key, "note": note})
        })
        .collect();
    let json = json!({"issued": issued, "renewed": renewed, "kept": kept, "unusable": unusable,
        "not_after": rfc3339(validity.until), "note": note, "devices": devices});
    Ok(Said {
        text,
        json,
        good: unusable == 0,
    })
}

pub(super) fn server(c: &Server, clock: &Clock) -> anyhow::Result<Said> {
    for name in &c.names {
        let plain = name.strip_prefix("*.").unwrap_or(name);
        if rustls_pki_types::ServerName::try_from(plain).is_err() {
            bail!("{name:?} is neither a host name nor an IP address");
        }
    }
    // It would name the files of another server, see `name::DeviceName`.
    if c.names
        .first()
        .is_some_and(|name| name.to_ascii_lowercase().ends_with(".leaf"))
    {
        bail!("the first name names the files and cannot end with \".leaf\"; name another one first");
    }
    let first = c.names.first().map(String::as_str).unwrap_or_default();
    // The names that count are the alternative ones; a common name has to be short.
    let common_name = if first.len() <= NAME_MAX { first } else { "server" };
    let place = Place::open(&c.at.dir)?;
    let signer = place.signer(Who::Intermediate)?;
    let now = now(clock)?;
    let by = place.certificate(Who::Intermediate).display().to_string();
    let (validity, note) = validity(now, days(c.days), signer.validity(), &by)?;
    let out = c.out.clone().unwrap_or_else(|| place.directory().join("servers"));
    let _taken = take_directory(&out)?;
    let pair = Pair::at(&out, &first.replace('*', "_"));
    let order = Order {
        signer: &signer,
        common_name,
        purpose: &Purpose::Server(c.names.clone()),
        validity,
        kind: c.key.into(),
        renew: c.renew,
        now,
    };
    let (done, said) = pair.make(&order)?;
    let root = place.certificate(Who::Root);
    let mut text = format!(
        "{} {} and {}; clients trust it by {}\n",
        done.word(),
        pair.chain.display(),
        pair.key.display(),
        root.display()
    );
    let note = said.or(note.filter(|_| done != Done::Kept));
    if let Some(note) = &note {
        text += &format!("note: {note}\n");
    }
    let json = json!({"result": done.word(), "names": c.names, "certificate": pair.chain, "leaf": pair.leaf, "key": pair.key,
        "root": root, "not_after": rfc3339(validity.until), "note": note});
    Ok(Said {
        text,
        json,
        good: done != Done::Unusable,
    })
}
