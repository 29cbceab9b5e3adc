//! Encryption at rest.

use super::*;
use crate::provision::store::set::{CERTIFICATE, KEY, MANIFEST, SEALED};

fn seal(byte: u8) -> Option<Seal> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key"), [byte; 32]).unwrap();
    Some(Seal::from_directory(dir.path(), "key").unwrap())
}

/// Whether a private key in clear is anywhere below.
fn has_clear_key(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).any(|path| {
        if path.is_symlink() {
            false
        } else if path.is_dir() {
            has_clear_key(&path)
        } else {
            let bytes = fs::read(&path).unwrap();
            bytes.windows(11).any(|w| w == b"PRIVATE KEY")
        }
    })
}

fn sealed(kept: Result<Kept, Unusable>) -> String {
    match kept {
        Err(Unusable::Sealed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_key_in_clear_is_ever_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = sealing(dir.path(), seal(1));
    for name in ["a", "b", "c"] {
        let kept = keep(&store, name);
        assert!(kept.directory.join(SEALED).exists() && !kept.directory.join(KEY).exists());
        assert!(!has_clear_key(dir.path()));
    }
    assert_eq!(names(&store), ["c", "-", "b"]);
    // The same key, sealed twice, is never the same bytes.
    keep(&store, "c");
    let of = |role: Role| fs::read(role.path(store.directory()).join(SEALED)).unwrap();
    assert_ne!(of(Role::Current), of(Role::Previous));
}

#[test]
fn switched_on_later_plain_sets_load_and_are_sealed_by_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let plain = store(dir.path());
    keep(&plain, "a");
    keep(&plain, "b");
    plain.stage(&grant("c"), NOW).unwrap();
    let store = sealing(dir.path(), seal(1));
    assert_eq!(names(&store), ["b", "c", "a"]);
    assert!(has_clear_key(dir.path()), "reading changes nothing");
    store.upgrade().unwrap();
    assert_eq!(names(&store), ["b", "c", "a"]);
    assert!(!has_clear_key(dir.path()));
    assert_eq!(listing(&store).len(), 6, "{:?}", listing(&store));
}

#[test]
fn switched_off_or_with_another_key_they_stay_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let right = sealing(dir.path(), seal(1));
    keep(&right, "a");
    keep(&right, "b");
    let off = store(dir.path());
    let why = sealed(off.read(None).current);
    assert!(why.contains("encrypt_with is not set"), "{why}");
    let wrong = sealing(dir.path(), seal(2));
    let why = sealed(wrong.read(None).current);
    assert!(
        why.contains("another key") && why.contains("credentials forget"),
        "{why}"
    );
    assert!(matches!(wrong.granted(Role::Current), Err(Unusable::Sealed(_))));
    // A person can still see whose it is.
    for store in [&off, &wrong] {
        let [(role, current), ..] = store.describe();
        let current = current.unwrap();
        assert_eq!(
            (role, current.client_id.as_str(), current.sealed),
            (Role::Current, "b", true)
        );
        assert_eq!(current.leaf.unwrap().common_name.as_deref(), Some("b"));
        assert!(matches!(current.unusable, Some(Unusable::Sealed(_))));
    }
    // Nor does a write touch them: what was current becomes the previous, and its key opens it still.
    wrong.upgrade().unwrap();
    assert_eq!(names(&right), ["b", "-", "a"]);
    keep(&wrong, "c");
    let previous = right.read(None).previous.unwrap();
    assert_eq!(previous.credentials.client_id.unwrap().as_str(), "b");
    sealed(right.read(None).current);
}

/// A sealed key goes with its place: another set, SIM or source cannot use it.
#[test]
fn a_sealed_key_cannot_be_moved_or_changed() {
    let dir = tempfile::tempdir().unwrap();
    let seal = seal(1);
    let store = sealing(dir.path(), seal.clone());
    let kept = keep(&store, "a");
    let sealed = fs::read(kept.directory.join(SEALED)).unwrap();
    let seal = seal.unwrap();
    let about = format!("{SOURCE}|{IMSI}|set-1|{SEALED}");
    assert!(seal.open(&sealed, &about).is_ok());
    for other in [
        about.replace("set-1", "set-2"),
        about.replace(IMSI, "295012345678902"),
        about.replace("azure", "aws"),
    ] {
        assert!(seal.open(&sealed, &other).is_err(), "{other}");
    }
    for position in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[position] ^= 1;
        assert!(seal.open(&changed, &about).is_err(), "byte {position}");
    }
    for length in 0..sealed.len() {
        assert!(seal.open(&sealed[..length], &about).is_err(), "{length} bytes");
    }
    // The whole set under another name: the manifest fits, the seal does not.
    fs::rename(&kept.directory, store.directory().join("set-5")).unwrap();
    fs::remove_file(store.current()).unwrap();
    std::os::unix::fs::symlink("set-5", store.current()).unwrap();
    assert_eq!(names(&store)[0], "damaged");
    for file in [CERTIFICATE, MANIFEST] {
        assert!(store.current().join(file).exists());
    }
}
