//! `ca sign`: a certificate for a key that a device has made itself.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::name::{DeviceName, others_in};
use super::pair::Pair;
use super::place::{Place, Who, take_directory, taken, text, write};
use super::{At, DAYS_MAX, Said, days, now, validity};
use crate::clock::{Clock, rfc3339};
use crate::files::PUBLIC;
use crate::pki::{Csr, Purpose};

/// What `ca sign` is told.
#[derive(Debug, Args)]
pub struct Sign {
    #[command(flatten)]
    pub(super) at: At,
    /// The request (PKCS #10, PEM)
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// The common name of the certificate, instead of the request's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long the certificate is valid
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
    days: i64,
    /// Where to put the files; without it the directory "devices" of the authority
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace a certificate that is there
    #[arg(long)]
    renew: bool,
}

pub(super) fn run(c: &Sign, clock: &Clock) -> anyhow::Result<Said> {
    let from = c.csr.display();
    let pem = text(&c.csr)?;
    if !pem.contains("CERTIFICATE REQUEST-----") {
        bail!("{from} holds no certificate signing request; it must hold -----BEGIN CERTIFICATE REQUEST-----");
    }
    let request = Csr::from_pem(&pem).with_context(|| {
        format!("the request in {from} cannot be used; it must be PKCS #10 with a good signature by its own key, which may be RSA of at \
             least 2048 bits, P-256, P-384 or Ed25519")
    })?;
    let name = match (&c.name, request.common_name()) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => bail!("the request in {from} has no common name, or several; say --name NAME"),
    };
    let name: DeviceName = name.parse().map_err(|why| anyhow::anyhow!("{why}; say --name NAME"))?;
    let place = Place::open(&c.at.dir)?;
    let signer = place.signer(Who::Intermediate)?;
    let by = place.certificate(Who::Intermediate).display().to_string();
    let (validity, note) = validity(now(clock)?, days(c.days), signer.validity(), &by)?;
    let out = c.out.clone().unwrap_or_else(|| place.directory().join("devices"));
    let _taken = take_directory(&out)?;
    others_in(&out, std::slice::from_ref(&name))?;
    let pair = Pair::at(&out, name.as_str());
    if taken(&pair.chain) && !c.renew {
        bail!("{} is there already; --renew replaces it", pair.chain.display());
    }
    if taken(&pair.key) {
        bail!(
            "{} is there, a key that this request was not made with; choose another --out",
            pair.key.display()
        );
    }
    let mut notes: Vec<String> = note.into_iter().collect();
    if request.asks_for_more() {
        notes.push("the request asks for more than a common name, which was not granted".to_owned());
    }
    let leaf = signer.certify(&request, name.as_str(), &Purpose::Device, validity)?;
    write(&pair.leaf, &leaf, PUBLIC)?;
    write(&pair.chain, &format!("{leaf}{}", signer.pem()), PUBLIC)?;
    let mut text = format!(
        "issued {} for {}; the key stays where it was made\n",
        pair.chain.display(),
        name.as_str()
    );
    for note in &notes {
        text += &format!("note: {note}\n");
    }
    let json = json!({"name": name.as_str(), "certificate": pair.chain, "leaf": pair.leaf, "not_after": rfc3339(validity.until), "notes": notes});
    Ok(Said { text, json, good: true })
}
