//! `onyx-agent credentials show|export|forget`: what is on disk, for people and for other programs. Needs no modem and no network.
//!
//! - `show` tells of every identity below the state directory, of all SIMs and sources, whatever the configuration uses now. It never
//!   fails because a set cannot be used: that is what it is there to say.
//! - `export` writes a current set in clear for other programs (mosquitto_pub, openssl). It never replaces a file, and refuses a folder
//!   that other users may write to, where they could put a certificate or authority of their own in the place of ours; the key itself is
//!   0600 wherever it is.
//! - `forget` removes sets and the cached SORACOM key of their SIM. A running agent keeps in memory what it has.
//!
//! Numbers of subscribers are shown in full only with `log.identities`.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::clock::{Clock, rfc3339};
use crate::config::agent::{AgentConfig, DEFAULT_PATH};
use crate::files::{PUBLIC, SECRET};
use crate::identity::{Imsi, redact_digits};
use crate::provision::seal::{Seal, SealError};
use crate::provision::store::{Described, Role, SOURCES, Store};
use crate::provision::{Grant, Material, Unusable};
use crate::report::out;

/// The folder of the sets and of SORACOM's keys, below the state directory.
const CREDENTIALS: &str = "credentials";
/// Most cached keys that one command removes.
const KEYS_MAX: usize = 4096;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what is kept, for every SIM and source: names, validity, and why a set cannot be used
    ///
    /// "current" is the one that is kept: proven by a connection, or the first that there was. "candidate" is newer, and not proven yet.
    /// "previous" is the last good one before the current.
    Show {
        #[command(flatten)]
        config: ConfigFile,
        /// Print one JSON object, for machines
        #[arg(long)]
        json: bool,
    },
    /// Write the current certificate, private key (in clear, mode 0600) and authority into a folder, for other programs
    ///
    /// Files that are there already are not replaced. The folder is made if it is missing, and refused if other users may write to it.
    Export {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        which: Which,
        /// Where certificate.pem, private.key and ca.pem are to be
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Remove credentials and the cached SORACOM key of their SIM; the agent fetches new ones when it needs them
    Forget {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        which: Which,
        /// Of every SIM
        #[arg(long, conflicts_with = "sim")]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// The configuration file, which names the state directory
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// Of this SIM; needed when there are several
    #[arg(long, value_name = "IMSI")]
    sim: Option<Imsi>,
    /// From this source, as credentials.source writes it; needed when there are several
    #[arg(long, value_name = "SOURCE", value_parser = SOURCES)]
    source: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// What happened, to what, and what to do.
pub(super) fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Show { config, json } => show(&Open::new(&config)?, json),
        Command::Export { config, which, out } => export(&Open::new(&config)?, &which, &out),
        Command::Forget {
            config,
            which,
            all,
            yes,
        } => forget(&Open::new(&config)?, &which, all, yes),
    }
}

/// The configuration, and what it says of the sets.
struct Open {
    config: AgentConfig,
    /// `Err` also by hand, where systemd has given us nothing.
    seal: Result<Option<Seal>, SealError>,
}

impl Open {
    fn new(file: &ConfigFile) -> anyhow::Result<Self> {
        let config = AgentConfig::load(&file.config)?;
        let seal = Seal::configured(&config.keep);
        Ok(Self { config, seal })
    }

    fn store(&self, source: &'static str, imsi: &Imsi) -> Store {
        let seal = self.seal.as_ref().ok().cloned().flatten();
        Store::new(&self.config.state_dir, source, imsi, seal)
    }

    /// A text that may hold numbers of subscribers.
    fn shown(&self, text: &str) -> String {
        if self.config.log.identities {
            text.to_owned()
        } else {
            redact_digits(text)
        }
    }

    fn list(&self) -> anyhow::Result<Vec<(&'static str, Imsi)>> {
        let list = Store::list(&self.config.state_dir);
        list.context("the credentials cannot be looked at; run as root or as the service's user")
    }

    /// The identities that a command line means.
    fn meant(&self, which: &Which) -> anyhow::Result<Vec<(&'static str, Imsi)>> {
        let mut list = self.list()?;
        list.retain(|(source, imsi)| {
            which.sim.as_ref().is_none_or(|sim| sim == imsi) && which.source.as_ref().is_none_or(|s| s == source)
        });
        Ok(list)
    }

    fn names(&self, list: &[(&'static str, Imsi)]) -> String {
        let names = list
            .iter()
            .map(|(source, imsi)| format!("{source} of {}", self.shown(imsi.as_str())));
        names.collect::<Vec<_>>().join(", ")
    }

    /// Why a set cannot be used; a key that only systemd could give is a better reason than "there is none".
    fn why(&self, unusable: &Unusable) -> String {
        match (unusable, &self.seal) {
            (Unusable::Sealed(_), Err(e)) => format!("it is encrypted, and {e}; {}", e.cure()),
            (e, _) => self.shown(&e.to_string()),
        }
    }
}

fn show(open: &Open, as_json: bool) -> anyhow::Result<ExitCode> {
    let now = Clock::new().now().map(|(time, _)| time);
    let identities: Vec<Value> = open
        .list()?
        .into_iter()
        .map(|(source, imsi)| {
            let roles: serde_json::Map<_, _> = open
                .store(source, &imsi)
                .describe()
                .into_iter()
                .map(|(role, set)| (role.as_str().to_owned(), describe(open, set, now)))
                .collect();
            json!({"source": source, "imsi": open.shown(imsi.as_str()), "roles": roles})
        })
        .collect();
    let value = json!({
        "state_dir": open.config.state_dir,
        "source": open.config.credentials.source(),
        "identities": identities,
    });
    out(&if as_json { format!("{value}\n") } else { render(&value) })?;
    Ok(ExitCode::SUCCESS)
}

fn describe(open: &Open, set: Result<Described, Unusable>, now: Option<std::time::Duration>) -> Value {
    let set = match set {
        Ok(set) => set,
        Err(Unusable::Absent) => return Value::Null,
        Err(e) => return json!({"usable": false, "why": open.why(&e)}),
    };
    let expired = set.leaf.as_ref().and_then(|leaf| {
        let since = leaf.not_after;
        now.filter(|now| *now > since).map(|_| Unusable::Expired { since })
    });
    let unusable = set.unusable.as_ref().or(expired.as_ref());
    let leaf = set.leaf.as_ref();
    json!({
        "usable": unusable.is_none(),
        "why": unusable.map(|e| open.why(e)),
        "host": set.host,
        "client_id": open.shown(&set.client_id),
        "common_name": leaf.and_then(|l| l.common_name.as_deref()).map(|cn| open.shown(cn)),
        "not_before": leaf.map(|l| rfc3339(l.not_before)),
        "not_after": leaf.map(|l| rfc3339(l.not_after)),
        "fetched": rfc3339(set.fetched),
        "sealed": set.sealed,
        "key_mode": set.key_mode.map(|mode| format!("{mode:04o}")),
        "operators_files": set.operators_files,
        "directory": open.shown(&set.directory.display().to_string()),
    })
}

fn render(v: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or("unknown").to_owned();
    let identities = v["identities"].as_array().map_or(&[][..], Vec::as_slice);
    if identities.is_empty() {
        return format!("no credentials are kept below {}\n", text(&v["state_dir"]));
    }
    let mut page = String::new();
    for identity in identities {
        let _ = writeln!(page, "{} of SIM {}", text(&identity["source"]), text(&identity["imsi"]));
        for role in Role::ALL {
            let set = &identity["roles"][role.as_str()];
            if set.is_null() {
                let _ = writeln!(page, "  {:<10} none", role.as_str());
                continue;
            }
            if set["host"].is_null() {
                let _ = writeln!(page, "  {:<10} NOT USABLE: {}", role.as_str(), text(&set["why"]));
                continue;
            }
            let _ = writeln!(
                page,
                "  {:<10} {} at {}",
                role.as_str(),
                text(&set["client_id"]),
                text(&set["host"])
            );
            let certificate = if set["operators_files"] == true {
                "the operator's files".to_owned()
            } else {
                let (from, to) = (text(&set["not_before"]), text(&set["not_after"]));
                format!("{}, valid {from} to {to}", text(&set["common_name"]))
            };
            let key = match (set["operators_files"] == true, set["sealed"] == true) {
                (true, _) => "in the operator's files",
                (_, true) => "encrypted",
                _ => match set["key_mode"].as_str() {
                    None => "in clear",
                    Some("0600" | "0400") => "in clear, readable by its owner only",
                    Some(_) => "in clear, and OTHER USERS MAY READ IT: chmod 600 private.key",
                },
            };
            for (what, value) in [
                ("certificate", certificate),
                ("key", key.to_owned()),
                ("fetched", text(&set["fetched"])),
                ("files", text(&set["directory"])),
            ] {
                let _ = writeln!(page, "  {:<10} {what:<12} {value}", "");
            }
            if let Some(why) = set["why"].as_str() {
                let _ = writeln!(page, "  {:<10} NOT USABLE: {why}", "");
            }
        }
    }
    page
}

fn export(open: &Open, which: &Which, folder: &Path) -> anyhow::Result<ExitCode> {
    let meant = open.meant(which)?;
    let (source, imsi) = match meant.as_slice() {
        [one] => one,
        [] => bail!("no such credentials are kept; 'onyx-agent credentials show' lists what there is"),
        several => bail!(
            "several are kept ({}): name one with --sim and --source",
            open.names(several)
        ),
    };
    let Grant {
        host,
        client_id,
        material,
        root_ca_pem,
    } = open.store(source, imsi).granted(Role::Current).map_err(|e| match e {
        Unusable::Absent => anyhow::anyhow!("no current set is kept: a candidate has to be proven by a connection, so start the agent and let it connect"),
        Unusable::OtherCertificate => anyhow::anyhow!(
            "key and certificate are the operator's own files (credentials.certificate and credentials.key): use those"
        ),
        e => anyhow::anyhow!("the current set cannot be used: {}", open.why(&e)),
    })?;
    let Material::Issued {
        certificate_pem,
        private_key_pem,
    } = material
    else {
        bail!("key and certificate are the operator's own files: use those");
    };
    private_folder(folder)?;
    let mut files = vec![
        ("certificate.pem", certificate_pem.as_bytes(), PUBLIC),
        ("private.key", private_key_pem.as_bytes(), SECRET),
    ];
    files.extend(root_ca_pem.as_deref().map(|pem| ("ca.pem", pem.as_bytes(), PUBLIC)));
    write_all_or_none(folder, &files)?;
    let ca = match root_ca_pem {
        Some(_) => "--cafile ca.pem",
        None => "--capath /etc/ssl/certs",
    };
    out(&format!(
        "{} in {}\nhost       {host}\nclient id  {}\nfor example: mosquitto_pub -h {host} -p 8883 {ca} --cert certificate.pem --key \
         private.key -i {client_id} …\nprivate.key is in clear: remove it when it is no longer needed\n",
        files.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", "),
        folder.display(),
        client_id.as_str(),
        client_id = client_id.as_str(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the folder, or looks whether it is safe to put a key there.
fn private_folder(folder: &Path) -> anyhow::Result<()> {
    match fs::metadata(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make {}", folder.display())),
        Err(e) => Err(e).with_context(|| format!("cannot look at {}", folder.display())),
        Ok(there) if !there.is_dir() => bail!("{} is no folder: name another with --out", folder.display()),
        Ok(there) if there.mode() & 0o022 != 0 => bail!(
            "other users may write to {}, and could put other files in the place of these: name a folder of your own with --out, or one that is \
             not there yet",
            folder.display()
        ),
        Ok(_) => Ok(()),
    }
}

/// Writes new files, synced. None of them stays when one cannot be written.
fn write_all_or_none(folder: &Path, files: &[(&str, &[u8], u32)]) -> anyhow::Result<()> {
    for (name, ..) in files {
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            bail!(
                "{} is there already and is not replaced: remove it, or name another folder with --out",
                path.display()
            );
        }
    }
    let mut made: Vec<PathBuf> = Vec::new();
    for (name, content, mode) in files {
        let path = folder.join(name);
        let opened = OpenOptions::new().write(true).create_new(true).mode(*mode).open(&path);
        let written = opened.and_then(|mut file| {
            made.push(path.clone());
            file.write_all(content)?;
            file.sync_all()
        });
        if let Err(e) = written {
            for path in &made {
                let _ = fs::remove_file(path);
            }
            return Err(e).with_context(|| format!("cannot write {}", path.display()));
        }
    }
    Ok(())
}

fn forget(open: &Open, which: &Which, all: bool, yes: bool) -> anyhow::Result<ExitCode> {
    let meant = open.meant(which)?;
    let keys = match &which.source {
        // SORACOM's key belongs to the SIM, and only Krypton uses it.
        Some(source) if !source.starts_with("krypton-") => Vec::new(),
        _ => keys(open, which.sim.as_ref())?,
    };
    let sims: std::collections::BTreeSet<&Imsi> = meant
        .iter()
        .map(|(_, imsi)| imsi)
        .chain(keys.iter().map(|(imsi, _)| imsi))
        .collect();
    if !all && which.sim.is_none() && sims.len() > 1 {
        bail!(
            "several SIMs have some ({}): name one with --sim, or all with --all",
            open.names(&meant)
        );
    }
    if meant.is_empty() && keys.is_empty() {
        out("there is nothing to forget\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut what: Vec<_> = meant
        .iter()
        .map(|(source, imsi)| format!("{source} of {}", open.shown(imsi.as_str())))
        .collect();
    what.extend(
        keys.iter()
            .map(|(imsi, _)| format!("SORACOM key of {}", open.shown(imsi.as_str()))),
    );
    let what = what.join(", ");
    if !yes && !agreed(&what)? {
        out("nothing was removed\n")?;
        return Ok(ExitCode::FAILURE);
    }
    for (source, imsi) in &meant {
        let forgotten = open.store(source, imsi).forget();
        forgotten.map_err(|e| anyhow::anyhow!("cannot be removed: {}", open.shown(&e.to_string())))?;
    }
    for (_, path) in &keys {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                bail!("cannot be removed: {}: {e}", open.shown(&path.display().to_string()))
            }
            _ => {}
        }
    }
    let mut text = format!("removed: {what}\n");
    if UnixStream::connect(&open.config.status_socket).is_ok() {
        text += "onyx-agent is running and keeps them in memory until it is restarted: systemctl restart onyx-agent\n";
    }
    out(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// SORACOM's keys on disk, of one SIM or of all.
fn keys(open: &Open, sim: Option<&Imsi>) -> anyhow::Result<Vec<(Imsi, PathBuf)>> {
    let folder = open.config.state_dir.join(CREDENTIALS);
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot look at {}", folder.display()))?,
    };
    let keys = entries.take(KEYS_MAX).flatten().filter_map(|entry| {
        let name = entry.file_name();
        let imsi: Imsi = name
            .to_str()?
            .strip_prefix("soracom-key-")?
            .strip_suffix(".json")?
            .parse()
            .ok()?;
        sim.is_none_or(|sim| *sim == imsi).then(|| (imsi, entry.path()))
    });
    Ok(keys.collect())
}

/// Asks on the terminal.
fn agreed(what: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!("there is no terminal to ask on: say --yes to remove {what}");
    }
    eprint!("Remove {what}? Services may count and limit new ones. [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
