//! `ca verify-code`: the proof that an authority's key is at hand.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::name::NAME_MAX;
use super::place::{Place, Who, taken, write};
use super::{At, Said, days, now, validity};
use crate::clock::{Clock, rfc3339};
use crate::files::PUBLIC;
use crate::pki::{KeyKind, Purpose};

/// It is uploaded at once, and its key is thrown away.
const DAYS: i64 = 30;

/// What `ca verify-code` is told.
#[derive(Debug, Args)]
pub struct VerifyCode {
    /// The code, as the portal shows it
    #[arg(value_name = "CODE")]
    code: String,
    #[command(flatten)]
    pub(super) at: At,
    /// Whose key is proved: that of the certificate that was uploaded
    #[arg(long, value_enum, default_value_t = Who::Intermediate)]
    with: Who,
    /// Write the certificate there instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(c: &VerifyCode, clock: &Clock) -> anyhow::Result<Said> {
    // Copying from a web page brings blanks along.
    let code = c.code.trim();
    if code.is_empty() || code.len() > NAME_MAX || !code.chars().all(|c| c.is_ascii_graphic()) {
        bail!(
            "{code:?} cannot be a verification code; it has 1 to {NAME_MAX} letters and digits: copy it from the page of the uploaded \
             certificate (DPS), or take 'aws iot get-registration-code'"
        );
    }
    if let Some(path) = c.out.as_ref().filter(|path| taken(path)) {
        bail!(
            "{} is there already and is not replaced; name another file with --out",
            path.display()
        );
    }
    let place = Place::open(&c.at.dir)?;
    let signer = place.signer(c.with)?;
    let by = place.certificate(c.with);
    let (validity, _) = validity(now(clock)?, days(DAYS), signer.validity(), &by.display().to_string())?;
    let proof = signer.issue(code, &Purpose::Proof, validity, KeyKind::P256)?.leaf_pem;
    let text = match &c.out {
        None => proof.clone(),
        Some(path) => {
            write(path, &proof, PUBLIC)?;
            format!(
                "wrote {}: upload it where {} waits to be verified\n",
                path.display(),
                by.display()
            )
        }
    };
    let json = json!({"code": code, "signed_by": by, "certificate": proof, "file": c.out, "not_after": rfc3339(validity.until)});
    Ok(Said { text, json, good: true })
}
