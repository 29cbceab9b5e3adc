//! The signature of the internet door: `base64(SHA-256(body || timestamp || CK))`, a plain hash with the secret at its end.

use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::denied::Denied;
use super::request::Request;
use crate::bench::clouds::keys::KeyService;
use crate::bench::clouds::policy::krypton::{BODY, CLOCK, DIGEST, HEADERS, KEY_UNKNOWN, REPEATED, SIGNATURE};
use crate::bench::subscriber::aka::Key;
use crate::digest::sha256;
use crate::identity::Imsi;

/// The device's clock may be this far off, either way. Inferred; see the rule.
const SKEW_MAX: Duration = Duration::from_secs(300);
/// The one digest.
const ALGORITHM: &str = "SHA-256";

/// What `x-soracom-signature` has to say.
pub(in crate::bench::clouds) fn signature(body: &[u8], timestamp: &str, ck: &[u8; 16]) -> String {
    STANDARD.encode(sha256(&[body, timestamp.as_bytes(), ck]))
}

/// One header, given once.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Denied> {
    let mut all = headers.get_all(name).iter();
    match (all.next().map(|v| v.to_str()), all.next()) {
        (Some(Ok(value)), None) => Ok(value),
        (None, _) => Err(Denied::new(&HEADERS, format!("{name} is missing"))),
        _ => Err(Denied::new(&HEADERS, format!("{name} is there twice, or is no text"))),
    }
}

/// Who has signed this request, and with which key. `now` is the time since 1970.
///
/// # Errors
/// The broken rule.
pub(super) fn check(keys: &KeyService, headers: &HeaderMap, body: &[u8], now: Duration) -> Result<(Imsi, Key), Denied> {
    let timestamp = header(headers, "x-soracom-timestamp")?;
    let algorithm = header(headers, "x-soracom-digest-algorithm")?;
    let given = header(headers, "x-soracom-signature")?;
    if algorithm != ALGORITHM {
        let detail = format!("x-soracom-digest-algorithm is {algorithm:?}, not {ALGORITHM:?}");
        return Err(Denied::new(&DIGEST, detail));
    }
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
    let told = digits
        .then(|| timestamp.parse().ok())
        .flatten()
        .map(Duration::from_millis);
    let told = told.ok_or_else(|| {
        let detail = format!("x-soracom-timestamp is {timestamp:?}, not Unix milliseconds");
        Denied::new(&HEADERS, detail)
    })?;
    if told.abs_diff(now) > SKEW_MAX {
        let detail = format!(
            "x-soracom-timestamp is {timestamp}, {} s away from the server's {}; at most {} s are taken",
            told.abs_diff(now).as_secs(),
            now.as_millis(),
            SKEW_MAX.as_secs()
        );
        return Err(Denied::new(&CLOCK, detail));
    }
    let request = Request::parse(body)?;
    let key_id = match &request.key_id {
        Some(id) if !id.is_empty() => id,
        Some(_) => return Err(Denied::new(&KEY_UNKNOWN, "keyId is empty")),
        None => return Err(Denied::new(&BODY, "the body has no keyId")),
    };
    for (field, said, wanted) in [
        ("algorithm", &request.algorithm, ALGORITHM),
        ("timestamp", &request.timestamp, timestamp),
    ] {
        if let Some(said) = said.as_deref().filter(|said| *said != wanted) {
            let detail = format!("{field} is {said:?} in the body and {wanted:?} in the headers");
            return Err(Denied::new(&REPEATED, detail));
        }
    }
    let (imsi, ck) = keys.key(key_id)?;
    if signature(body, timestamp, &ck) != given {
        let detail = format!(
            "x-soracom-signature is not that of these {} bytes, {timestamp} and the key {key_id:?}",
            body.len()
        );
        return Err(Denied::new(&SIGNATURE, detail));
    }
    Ok((imsi, ck))
}
