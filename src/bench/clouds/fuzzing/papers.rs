//! Files and documents.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::stands::Ground;
use crate::bench::clouds::aws_iot::document::{Context, Document, verdict};
use crate::bench::clouds::aws_iot::template::Template;
use crate::bench::clouds::chain;
use crate::bench::clouds::dps::enrollment::Enrollment;
use crate::bench::clouds::fault::Spec;
use crate::bench::clouds::scenario;
use crate::bench::dongle::scenario as dongle;
use crate::tls::{Leaf, certificates};

/// The first byte says what the rest is.
///
/// # Panics
/// Something is wrong with the code under test.
pub fn papers(data: &[u8]) {
    let [kind, rest @ ..] = data else { return };
    let text = String::from_utf8_lossy(rest);
    match kind {
        b'c' => {
            if let Err(e) = scenario::Scenario::parse(Path::new("scenario.toml"), &text) {
                assert!(!e.to_string().is_empty());
            }
        }
        b'd' => {
            if let Err(e) = dongle::Scenario::parse(&text) {
                assert!(!e.to_string().is_empty());
            }
        }
        b'f' => fault(&text),
        b'p' => policy(&text),
        b't' => template(&text),
        b'x' => path(rest),
        b'r' => request(&text),
        b'm' => {
            for der in certificates(rest, "a file").unwrap_or_default() {
                let _ = Leaf::read(&der, "a certificate");
            }
        }
        b'e' => {
            if let Ok(value) = serde_json::from_str(&text) {
                for individual in [false, true] {
                    let _ = Enrollment::read(&value, individual, "etag".into(), "now");
                }
            }
        }
        _ => {}
    }
}

/// What is understood is written so that it is understood again.
fn fault(text: &str) {
    if let Ok(spec) = text.parse::<Spec>() {
        let written = spec.to_string();
        assert_eq!(written.parse::<Spec>().as_ref(), Ok(&spec), "{text:?} -> {written:?}");
    }
}

fn policy(text: &str) {
    let Ok(document) = Document::parse(text) else { return };
    let mut context = Context::default();
    context.set("iot:Connection.Thing.ThingName", "thing");
    context.set("iot:ClientId", "a*?${b}");
    for resource in ["arn:aws:iot:ap-northeast-1:123456789012:topic/a/b", "", "*"] {
        let _ = verdict([&document].into_iter(), "iot:Publish", resource, &context);
    }
}

/// The parameters follow the template after a NUL, a line each.
fn template(text: &str) {
    let (template, parameters) = text.split_once('\0').unwrap_or((text, ""));
    let Ok(template) = Template::parse(template) else {
        return;
    };
    let given: BTreeMap<_, _> = parameters
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let _ = template.work_out(&given);
}

/// Certificates (DER), each after its length in two bytes; without one, the chain of a device of the bench with the bytes changed that
/// the input names: position (two bytes) and value.
fn path(bytes: &[u8]) {
    let ground = Ground::here();
    let now = ground.clock.system();
    let mut chain = Vec::new();
    let mut rest = bytes;
    while let [high, low, left @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(left.len());
        let (der, left) = left.split_at(length);
        chain.push(CertificateDer::from(der.to_vec()));
        rest = left;
    }
    judge(&chain, &ground.authorities, now);
    let mut own = ground.chains[0].clone();
    for change in bytes.chunks_exact(4) {
        let which = usize::from(change[0]) % own.len();
        let mut der = own[which].to_vec();
        let at = usize::from(u16::from_be_bytes([change[1], change[2]])) % der.len();
        der[at] = change[3];
        own[which] = der.into();
    }
    // What stands in them decides, not what was changed: a signature that still fits is a good one.
    judge(&own, &ground.authorities, now);
    judge(&chain, &chain, now);
}

fn judge(chain: &[CertificateDer<'_>], authorities: &[CertificateDer<'_>], now: Duration) {
    match chain::follow(chain, authorities, now) {
        Ok(path) => {
            assert!(!path.authorities.is_empty() && path.authorities.iter().all(|i| *i < authorities.len()));
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
    for der in chain {
        let _ = Leaf::read(der, "a certificate");
    }
}

fn request(pem: &str) {
    let ground = Ground::here();
    if let Ok(signed) = ground.ca.sign_request(pem) {
        let made = certificates(signed.as_bytes(), "what was signed").expect("what is signed can be read");
        let now = ground.clock.system();
        for der in &made {
            let _ = Leaf::read(der, "what was signed").expect("what is signed can be read");
        }
        assert!(chain::follow(&made, &ground.authorities, now).is_ok());
    }
}
