//! An authority, a server's certificate and a certificate for each device: EC P-256 throughout.
//!
//! Plain writes, not the careful ones of `onyx-gateway ca`: thousands of files, made anew at will, keys that guard nothing.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::names::{DEVICES_MAX, name};
use crate::clock::Clock;
use crate::pki::{Authority, Issued, Purpose};

/// Longer than any benchmark is kept.
const VALID_FOR: Duration = Duration::from_secs(30 * 86_400);

/// What `onyx-bench load prepare` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the files go: root.pem, clients.pem (what a server trusts), server.pem, server.key and devices/NAME.pem, NAME.key
    #[arg(long)]
    dir: PathBuf,
    /// How many devices
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: u32,
    /// For so many of them, from the first on, another certificate with `-next` behind the name: spares/NAME.pem, NAME.key
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(DEVICES_MAX)))]
    spares: u32,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let (now, _) = Clock::new().now().context("the time is not known")?;
    let authority = Authority::generate("Onyx speed", now, VALID_FOR)?;
    let devices = args.dir.join("devices");
    fs::create_dir_all(&devices).with_context(|| format!("cannot make {}", devices.display()))?;
    write(&args.dir.join("root.pem"), &authority.root_pem())?;
    let clients = authority.intermediate_pem() + &authority.root_pem();
    write(&args.dir.join("clients.pem"), &clients)?;
    let server = Purpose::Server(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
    pair(
        &args.dir,
        "server",
        &authority.issue("localhost", &server, now, VALID_FOR)?,
    )?;
    let spares = args.dir.join("spares");
    fs::create_dir_all(&spares).with_context(|| format!("cannot make {}", spares.display()))?;
    for number in 0..args.spares.min(args.devices) {
        let name = name(number);
        let issued = authority.issue(&format!("{name}-next"), &Purpose::Device, now, VALID_FOR)?;
        pair(&spares, &name, &issued)?;
    }
    for number in 0..args.devices {
        let name = name(number);
        pair(
            &devices,
            &name,
            &authority.issue(&name, &Purpose::Device, now, VALID_FOR)?,
        )?;
    }
    Ok(())
}

fn pair(dir: &Path, name: &str, issued: &Issued) -> anyhow::Result<()> {
    write(&dir.join(format!("{name}.pem")), &issued.chain_pem)?;
    write(&dir.join(format!("{name}.key")), &issued.key_pem)
}

/// All of them may be read by their owner alone: which of them is a key is no question then.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let write = || options.open(path)?.write_all(text.as_bytes());
    write().with_context(|| format!("cannot write {}", path.display()))
}
