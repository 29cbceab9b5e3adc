//! `ca show`: what is there, and which file to upload where.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::{Value, json};

use super::place::{Place, Who};
use super::{At, Said};
use crate::clock::{Clock, rfc3339};
use crate::tls::{Leaf, certificates};

/// What `ca show` is told.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    pub(super) at: At,
}

/// One of the two certificates.
struct Seen {
    who: Who,
    leaf: Leaf,
    sha1: String,
    sha256: String,
    key: &'static str,
}

fn hex(algorithm: &'static Algorithm, der: &[u8]) -> String {
    digest(algorithm, der)
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn see(place: &Place, who: Who) -> anyhow::Result<(Seen, Option<String>)> {
    let (pem, leaf) = place.read(who)?;
    let der = certificates(pem.as_bytes(), "it")?
        .into_iter()
        .next()
        .context("no certificate")?;
    let (key, fault) = if place.key(who).exists() {
        match place.signer(who) {
            Ok(_) => ("here", None),
            Err(e) => ("unusable", Some(format!("{e:#}"))),
        }
    } else {
        ("elsewhere", None)
    };
    Ok((
        Seen {
            who,
            leaf,
            sha1: hex(&SHA1_FOR_LEGACY_USE_ONLY, &der).to_ascii_uppercase(),
            sha256: hex(&SHA256, &der),
            key,
        },
        fault,
    ))
}

/// Which file goes where; see the room's notes for the sources.
fn uploads(place: &Place) -> Vec<(&'static str, String, String)> {
    let dir = place.directory().display();
    let intermediate = place.certificate(Who::Intermediate).display().to_string();
    let prove = |code: &str| format!("prove it with: onyx-gateway ca verify-code {code} --dir {dir} --out proof.pem");
    vec![
        (
            "Azure Event Grid",
            intermediate.clone(),
            "namespace, MQTT broker, CA certificates: the one that directly signed the devices; devices may send leaf or chain".to_owned(),
        ),
        (
            "Azure DPS",
            intermediate.clone(),
            format!(
                "certificates, then an enrolment group for it; {} (root.pem works too, with --with root)",
                prove("CODE")
            ),
        ),
        (
            "AWS IoT Core (just-in-time registration)",
            intermediate,
            format!(
                "register-ca-certificate --allow-auto-registration --set-as-active; {}",
                prove("$(aws iot get-registration-code --query registrationCode --output text)")
            ),
        ),
        (
            "a broker of your own",
            place.certificate(Who::Root).display().to_string(),
            "as the CA file for clients".to_owned(),
        ),
    ]
}

pub(super) fn run(c: &Show, clock: &Clock) -> anyhow::Result<Said> {
    let place = Place::open(&c.at.dir)?;
    let now = clock.now().map(|(now, _)| now);
    let (mut text, mut good) = (String::new(), true);
    let mut shown = Vec::new();
    for who in [Who::Root, Who::Intermediate] {
        let (seen, fault) = see(&place, who)?;
        let expired = now.is_some_and(|now| now > seen.leaf.not_after);
        good &= fault.is_none() && !expired;
        text += &words(&place, &seen, now, fault.as_deref());
        shown.push((who.word(), machine(&place, &seen, expired, fault)));
    }
    text += "upload:\n";
    let mut list = Vec::new();
    for (cloud, file, how) in uploads(&place) {
        text += &format!("  {cloud}: {file}\n    {how}\n");
        list.push(json!({"cloud": cloud, "file": file, "how": how}));
    }
    let mut json: serde_json::Map<String, Value> = shown.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    json.insert("directory".into(), json!(c.at.dir));
    json.insert("upload".into(), Value::Array(list));
    Ok(Said {
        text,
        json: Value::Object(json),
        good,
    })
}

fn words(place: &Place, seen: &Seen, now: Option<Duration>, fault: Option<&str>) -> String {
    let leaf = &seen.leaf;
    let left = match now {
        None => "this machine's clock is not plausible".to_owned(),
        Some(now) if now > leaf.not_after => "EXPIRED".to_owned(),
        Some(now) => format!("{} days left", (leaf.not_after - now).as_secs() / 86_400),
    };
    let key = match seen.key {
        "elsewhere" => "not here: kept elsewhere".to_owned(),
        "unusable" => format!("UNUSABLE: {}", fault.unwrap_or_default()),
        _ => place.key(seen.who).display().to_string(),
    };
    format!(
        "{}: {}\n  file      {}\n  valid     {} to {}, {left}\n  key       {key}\n  SHA-1     {} (Azure's thumbprint)\n  \
         SHA-256   {} (AWS's certificate id)\n",
        seen.who.word(),
        leaf.common_name.as_deref().unwrap_or("?"),
        place.certificate(seen.who).display(),
        rfc3339(leaf.not_before),
        rfc3339(leaf.not_after),
        seen.sha1,
        seen.sha256,
    )
}

fn machine(place: &Place, seen: &Seen, expired: bool, fault: Option<String>) -> Value {
    json!({
        "common_name": seen.leaf.common_name,
        "certificate": place.certificate(seen.who),
        "not_before": rfc3339(seen.leaf.not_before),
        "not_after": rfc3339(seen.leaf.not_after),
        "expired": expired,
        "key": seen.key,
        "fault": fault,
        "sha1": seen.sha1,
        "sha256": seen.sha256,
    })
}
