//! What fuzzing calls (`tests/fuzz group`, `tests/fuzz proxy`; `tests/fuzz api` is in [`api`]): a group's configuration and the bodies of the API, as bytes, and the first bytes of
//! a connection from a load balancer. Whatever they are, nothing panics, what is not taken is told, and no remark or shown value has a secret in it.
//! Compiled for tests and for `--cfg fuzzing` only; a panic is how a target fails, so assertions are right here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod asked;
mod world;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::io::{AsyncRead, ReadBuf};

pub use api::api;

use super::admin::{credentials, groups, subscribers, transfer};
use super::group::own::{self, Own};
use super::group::{self, GroupFile, beam};
use super::listener::proxy::{FIXED, REST_MAX, SIGNATURE, SIGNATURE_1, Told};
use super::refusal::Refusal;
use super::store::GroupRecord;
use crate::clock::Clock;

/// Most beginnings of one header that are tried.
const CUTS_MAX: usize = 64;

/// The first byte says what the others are: a file, a namespace that is put, a subscriber, a credential, an export.
pub fn group(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match kind % 6 {
        0 => file(text),
        1 => namespace(beam::NAMESPACE, text),
        2 => namespace(own::NAMESPACE, text),
        3 => {
            let mut record = subscribers::blank("295012345678901".parse().unwrap());
            if subscribers::read_into(&mut record, text).is_ok() {
                let shown = subscribers::shown(&record).to_string();
                // What was shown can be put again, and says the same.
                let mut again = subscribers::blank(record.imsi.clone());
                subscribers::read_into(&mut again, &shown).unwrap_or_else(|e| panic!("{e}: {shown}"));
                assert_eq!(subscribers::shown(&again).to_string(), shown);
            }
        }
        4 => {
            if let Err(e) = credentials::Draft::read(text, &Clock::new()) {
                assert!(!e.to_string().is_empty());
            }
        }
        _ => {
            let _ = transfer::Goods::of_export(text, None, &Clock::new());
        }
    }
}

fn file(text: &str) {
    let file = GroupFile {
        id: "g".parse().unwrap(),
        path: PathBuf::from("f"),
        own: Own::default(),
    };
    let judged = file.judge_text(text);
    assert_eq!(
        judged.group.is_some(),
        judged.why_not().is_none(),
        "{:?}",
        judged.remarks
    );
    for remark in &judged.remarks {
        assert!(!remark.message.is_empty() && remark.message.len() < 4_096);
    }
    // What a group says can be written in Beam's words, and is read the same.
    if let Some(group) = judged.group.filter(|g| !matches!(g.proof, group::Proof::Inline(_))) {
        let written = serde_json::json!([{"key": beam::MQTT, "value": beam::written(&group)}]).to_string();
        let again = file.judge_text(&written);
        let again = again.group.unwrap_or_else(|| panic!("{:?}: {written}", again.remarks));
        assert_eq!(format!("{:?}", again.upstream), format!("{:?}", group.upstream));
        assert_eq!(
            format!("{:?}{:?}", again.login, again.proof),
            format!("{:?}{:?}", group.login, group.proof)
        );
    }
}

fn namespace(namespace: &str, text: &str) {
    let Ok(pairs) = groups::pairs(namespace, text) else {
        return;
    };
    let mut keys = BTreeMap::new();
    keys.extend(pairs);
    let record = GroupRecord {
        id: "g".parse().unwrap(),
        name: String::new(),
        configuration: BTreeMap::from([(namespace.to_owned(), keys)]),
        created: Duration::ZERO,
        updated: Duration::ZERO,
    };
    let taken = group::may_be_put(&record).is_ok();
    assert!(!taken || group::judge(&record).why_not().is_none());
    let shown = groups::shown(&record);
    // A key's own name is no secret, and a remark repeats the beginning of what it is about: fewer characters than stand before the secret part
    // of a key in PEM. Whatever stands at a key may be one.
    let mut values = String::new();
    taken_apart(&shown["configuration"], &mut values);
    assert!(!values.contains("PRIVATE KEY"), "{shown}");
}

/// All texts of a value, a line each, without the names of keys.
fn taken_apart(value: &Value, values: &mut String) {
    match value {
        Value::Object(map) => map.values().for_each(|value| taken_apart(value, values)),
        Value::Array(list) => list.iter().for_each(|value| taken_apart(value, values)),
        Value::String(text) => {
            values.push_str(text);
            values.push('\n');
        }
        _ => {}
    }
}

/// The first byte says in how many pieces the others arrive, which are what a load balancer sends.
pub fn proxy(data: &[u8]) {
    let Some((&piece, sent)) = data.split_first() else {
        return;
    };
    let whole = entered(sent, sent.len().max(1));
    let (said, read) = entered(sent, 1 + usize::from(piece));
    match (&said, &whole.0) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        // Which of two things is wrong with a start may depend on how much of it is there.
        (Err(one), Err(_)) => assert!(matches!(one, Refusal::Gone) || one.to_string().contains("PROXY")),
        _ => panic!("{said:?} in pieces, {:?} at once", whole.0),
    }
    assert_eq!(said.as_ref().ok(), by_the_book(sent).as_ref());
    if sent.starts_with(&SIGNATURE_1) {
        assert!(said.as_ref().is_err_and(|e| e.to_string().contains("version 1")));
    }
    assert!(read <= FIXED + REST_MAX);
    let Ok(told) = said else { return };
    // What comes after the header is TLS or MQTT, and not one byte of it is gone.
    let length = usize::from(u16::from_be_bytes([sent[14], sent[15]]));
    assert_eq!(read, FIXED + length);
    let mut cuts = (0..read).step_by(1 + read / CUTS_MAX);
    assert!(cuts.all(|cut| entered(&sent[..cut], 7).0.is_err()), "a cut header");
    if let Told::Device(address) = told {
        assert_eq!(entered(&written(address), 3).0.ok(), Some(told));
    }
}

/// What the door makes of these bytes when they come in such pieces, and how many it has read.
fn entered(sent: &[u8], piece: usize) -> (Result<Told, Refusal>, usize) {
    let mut pieces = Pieces { left: sent, piece };
    let told = super::listener::header(&mut pieces).now_or_never();
    (told.expect("bytes that are there"), sent.len() - pieces.left.len())
}

/// Bytes that are there, a piece at a time; then the end.
struct Pieces<'a> {
    left: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let n = self.left.len().min(self.piece).min(into.remaining());
        let (now, later) = self.left.split_at(n);
        into.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

/// Section 2.2 of the specification once more, in the plainest way; `None` is what we do not take.
fn by_the_book(sent: &[u8]) -> Option<Told> {
    let rest = sent.strip_prefix(&SIGNATURE)?;
    let (&[how, family, high, low], rest) = rest.split_first_chunk()?;
    let block = rest.get(..usize::from(high) * 256 + usize::from(low))?;
    if block.len() > REST_MAX {
        return None;
    }
    let size = match (how, family) {
        (0x20, _) => return Some(Told::Itself),
        (0x21, 0x11) => 4,
        (0x21, 0x21) => 16,
        _ => return None,
    };
    let mut fields = block.iter().copied().skip(2 * size + 4);
    while let Some(_kind) = fields.next() {
        let length = usize::from(fields.next()?) * 256 + usize::from(fields.next()?);
        if fields.by_ref().take(length).count() < length {
            return None;
        }
    }
    let port = block.get(2 * size..2 * size + 4)?;
    let ip = match block.get(..size)? {
        &[a, b, c, d] => IpAddr::from([a, b, c, d]),
        six => Ipv6Addr::from(<[u8; 16]>::try_from(six).unwrap()).to_canonical(),
    };
    Some(Told::Device((ip, u16::from(port[0]) * 256 + u16::from(port[1])).into()))
}

/// The header that tells of this address, with a field of two bytes.
fn written(address: SocketAddr) -> Vec<u8> {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
        IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
    };
    let mut block = ip.clone();
    block.extend(&ip);
    block.extend(address.port().to_be_bytes());
    block.extend([0, 1, 0x04, 0, 2, 0, 0]);
    let mut header = SIGNATURE.to_vec();
    header.extend([0x21, family, 0, u8::try_from(block.len()).unwrap()]);
    header.extend(block);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every seed, whole, cut at every position, and with each byte changed into one of what JSON is made of (which one goes round, so
    /// that this stays quick under emulation).
    #[test]
    fn the_seeds_and_what_is_near_them() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/group");
        let mut count = 0;
        for seed in std::fs::read_dir(folder).unwrap().flatten() {
            let bytes = std::fs::read(seed.path()).unwrap();
            count += 1;
            for end in 0..=bytes.len() {
                group(bytes.get(..end).unwrap());
            }
            for at in 0..bytes.len() {
                let all = b"\"{}[],:0t\\ \x00#";
                let mut changed = bytes.clone();
                *changed.get_mut(at).unwrap() = all[at % all.len()];
                group(&changed);
            }
        }
        assert!(count >= 5, "{count} seeds");
    }

    /// The same for what a load balancer sends; each byte becomes what matters in a header.
    #[test]
    fn the_seeds_of_headers_and_what_is_near_them() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/proxy");
        let mut taken = 0;
        for seed in std::fs::read_dir(folder).unwrap().flatten() {
            let bytes = std::fs::read(seed.path()).unwrap();
            taken += usize::from(by_the_book(bytes.get(1..).unwrap()).is_some());
            for end in 0..=bytes.len() {
                proxy(bytes.get(..end).unwrap());
            }
            for at in 0..bytes.len() {
                for byte in [0, 1, 0x0c, 0x10, 0x11, 0x20, 0x21, 0x24, b'P', 0xff] {
                    let mut changed = bytes.clone();
                    *changed.get_mut(at).unwrap() = byte;
                    proxy(&changed);
                }
            }
        }
        assert!(taken >= 4, "{taken} seeds are headers");
    }
}
