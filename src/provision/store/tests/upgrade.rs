//! Sets of the first release: manifest version 1, and `current` alone.

use std::os::unix::fs::symlink;

use super::*;
use crate::provision::store::set::{CA, CERTIFICATE, KEY, MANIFEST};

/// What the first release wrote for a grant with this name, byte for byte in its format.
pub(super) fn first_release(store: &Store, name: &str) {
    let Grant {
        material: Material::Issued {
            certificate_pem,
            private_key_pem,
        },
        root_ca_pem,
        ..
    } = grant(name)
    else {
        unreachable!()
    };
    let set = store.directory().join("set-1");
    fs::create_dir_all(&set).unwrap();
    fs::write(set.join(KEY), private_key_pem.as_bytes()).unwrap();
    fs::write(set.join(CERTIFICATE), certificate_pem).unwrap();
    fs::write(set.join(CA), root_ca_pem.unwrap()).unwrap();
    let manifest = format!(
        "{{\n  \"version\": 1,\n  \"source\": \"{SOURCE}\",\n  \"imsi\": \"{IMSI}\",\n  \"host\": \"{name}.example\",\n  \
         \"client_id\": \"{name}\",\n  \"fetched\": 1799999999\n}}"
    );
    fs::write(set.join(MANIFEST), manifest).unwrap();
    symlink("set-1", store.current()).unwrap();
}

fn version(store: &Store, role: Role) -> u64 {
    let text = fs::read(role.path(store.directory()).join(MANIFEST)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    json["version"].as_u64().unwrap()
}

#[test]
fn it_loads_as_it_is_and_is_rewritten_by_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    first_release(&store, "old");
    let before = store.read(None).current.unwrap();
    assert_eq!(before.fetched, Duration::from_secs(1_799_999_999));
    assert_eq!(names(&store), ["old", "-", "-"]);
    assert_eq!(version(&store, Role::Current), 1, "reading changes nothing");
    let files = [KEY, CERTIFICATE, CA].map(|f| fs::read(store.current().join(f)).unwrap());
    store.stage(&grant("new"), NOW).unwrap();
    assert_eq!(names(&store), ["old", "new", "-"]);
    assert_eq!(version(&store, Role::Current), 2);
    let after = store.read(None).current.unwrap();
    assert_eq!(after.fetched, before.fetched, "it is as old as it was");
    assert_eq!(
        [KEY, CERTIFICATE, CA].map(|f| fs::read(store.current().join(f)).unwrap()),
        files
    );
    store.promote().unwrap();
    assert_eq!(names(&store), ["new", "-", "old"]);
}

#[test]
fn it_can_be_rewritten_without_another_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    store.upgrade().unwrap();
    assert!(!store.directory().exists(), "nothing to do makes nothing");
    first_release(&store, "old");
    store.upgrade().unwrap();
    assert_eq!((names(&store)[0].as_str(), version(&store, Role::Current)), ("old", 2));
    let list = listing(&store);
    store.upgrade().unwrap();
    assert_eq!(listing(&store), list, "once is enough");
}

#[test]
fn a_damaged_one_is_not_touched_by_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    first_release(&store, "old");
    fs::write(store.current().join(KEY), "no key").unwrap();
    assert_eq!(names(&store)[0], "damaged");
    store.stage(&grant("new"), NOW).unwrap();
    assert_eq!(fs::read_to_string(store.current().join(KEY)).unwrap(), "no key");
    store.promote().unwrap();
    assert_eq!(names(&store), ["new", "-", "-"]);
}
