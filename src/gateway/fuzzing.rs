//! What fuzzing calls (`tests/fuzz group`): a group's configuration and the bodies of the API, as bytes. Whatever they are, nothing panics,
//! what is not taken is told, and no remark or shown value has a secret in it. Compiled for tests and for `--cfg fuzzing` only; a panic is how a target
//! fails, so assertions are right here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::admin::{credentials, groups, subscribers, transfer};
use super::group::own::{self, Own};
use super::group::{self, GroupFile, beam};
use super::store::GroupRecord;
use crate::clock::Clock;

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
    assert!(
        !shown.to_string().contains("PRIVATE KEY") || !text.contains("PRIVATE KEY"),
        "{shown}"
    );
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
}
