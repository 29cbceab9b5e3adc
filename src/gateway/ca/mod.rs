//! `onyx-gateway ca`: an authority of one's own, for operators without openssl or step.
//!
//! A directory holds a root and the intermediate that it signed, each a certificate (`root.pem`, `intermediate.pem`) and a key
//! (`root.key`, `intermediate.key`, mode 0600). The root signs nothing else, so its key can be taken away to a safe place; the
//! intermediate signs devices and servers. Which file goes where:
//!
//! | cloud | what it wants | source |
//! |---|---|---|
//! | Event Grid | `intermediate.pem`, the one that directly signed the devices | Microsoft, "Client authentication using CA certificate chain" |
//! | DPS | `intermediate.pem` or `root.pem`, verified by a code; devices send leaf and intermediate | Microsoft, "X.509 certificate attestation" |
//! | AWS IoT, just-in-time registration | `intermediate.pem`, with a certificate for the registration code | AWS, "Register your CA certificate"; that it is the direct signer is inferred |
//! | a broker or server of one's own | `root.pem` | |
//!
//! Everything signed is X.509 version 3 with a random serial number, no longer valid than what signed it, and dated by a clock that is
//! plausible. Every file is written whole or not at all; nothing that is there is overwritten unless it is asked for.
//!
//! | file | subject |
//! |---|---|
//! | `place` | the directory: making it, taking it up |
//! | `name` | which names a device may have |
//! | `pair` | a certificate and a key in files: kept, made or renewed |
//! | `issue`, `sign`, `prove`, `show` | the commands |

mod issue;
mod name;
mod pair;
mod place;
mod prove;
mod show;
mod sign;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::clock::{Clock, rfc3339};
use crate::pki::{KeyKind, Validity};

pub use name::DeviceName;
pub use place::{Place, Who};

const DAY: Duration = Duration::from_secs(86_400);
/// Longest validity that can be asked for, in days: a century.
const DAYS_MAX: i64 = 36_500;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a root and an intermediate
    ///
    /// Nothing is overwritten. Keep root.key in a safe place: it is needed again only for 'verify-code --with root'.
    Init(place::Init),
    /// Make keys and certificates for devices
    ///
    /// Each NAME gets NAME.key (mode 0600), NAME.pem (its certificate, then the intermediate: what a device sends) and NAME.leaf.pem (its
    /// certificate alone). What is there already is kept.
    Issue(issue::Issue),
    /// Certify a key that a device has made itself, by its signing request
    ///
    /// The private key never leaves the device. The certificate says the common name and nothing else of the request.
    Sign(sign::Sign),
    /// Make a key and a certificate for a server under these host names and addresses
    Server(issue::Server),
    /// Prove to a cloud that this authority's key is yours
    ///
    /// Azure's DPS shows a verification code beside an uploaded certificate, AWS gives a registration code; both want a certificate whose
    /// common name is that code. It is printed, or written to a file for uploading.
    VerifyCode(prove::VerifyCode),
    /// Show the authority, its fingerprints, and which file to upload where
    Show(show::Show),
}

/// Which authority.
#[derive(Debug, Args)]
struct At {
    /// The authority's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Kinds of key on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Curve {
    /// ECDSA on P-256 with SHA-256
    P256,
    /// ECDSA on P-384 with SHA-384
    P384,
}

impl From<Curve> for KeyKind {
    fn from(curve: Curve) -> Self {
        match curve {
            Curve::P256 => Self::P256,
            Curve::P384 => Self::P384,
        }
    }
}

/// What a command has to say, and whether all went well.
struct Said {
    text: String,
    json: Value,
    good: bool,
}

/// Runs a command; answers whether all went well.
///
/// # Errors
/// What went wrong, and what to do.
pub fn run(command: &Command) -> anyhow::Result<bool> {
    let clock = Clock::new();
    let (json, said) = match command {
        Command::Init(c) => (c.at.json, place::init(c, &clock)?),
        Command::Issue(c) => (c.at.json, issue::devices(c, &clock)?),
        Command::Sign(c) => (c.at.json, sign::run(c, &clock)?),
        Command::Server(c) => (c.at.json, issue::server(c, &clock)?),
        Command::VerifyCode(c) => (c.at.json, prove::run(c, &clock)?),
        Command::Show(c) => (c.at.json, show::run(c, &clock)?),
    };
    crate::report::out(&if json {
        format!("{}\n", serde_json::to_string_pretty(&said.json)?)
    } else {
        said.text
    })?;
    Ok(said.good)
}

/// The time, for signing with.
fn now(clock: &Clock) -> anyhow::Result<Duration> {
    match clock.now() {
        Some((now, _)) => Ok(now),
        None => bail!(
            "this machine's clock says {}, which cannot be; set it (timedatectl set-ntp true): certificates are dated by it",
            rfc3339(clock.system())
        ),
    }
}

fn days(days: i64) -> Duration {
    DAY * u32::try_from(days).unwrap_or(0)
}

/// So long from now, but not longer than the signer is valid; the note says if it was cut.
fn validity(
    now: Duration,
    wanted: Duration,
    signer: Validity,
    file: &str,
) -> anyhow::Result<(Validity, Option<String>)> {
    if now < signer.from {
        bail!(
            "{file} is valid from {} and this machine's clock says {}; set the clock",
            rfc3339(signer.from),
            rfc3339(now)
        );
    }
    let whole = Validity::new(now, wanted);
    let Some(cut) = whole.within(signer).filter(|_| now < signer.until) else {
        bail!(
            "{file} expired on {} and can sign nothing more; make a new authority (ca init in another directory) and upload it",
            rfc3339(signer.until)
        );
    };
    let note = (cut.until < whole.until).then(|| {
        format!(
            "valid until {} only, as {file} is, which signs it: nothing may outlive its issuer",
            rfc3339(cut.until)
        )
    });
    Ok((cut, note))
}
