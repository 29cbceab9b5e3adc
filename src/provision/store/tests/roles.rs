//! The life of a set, by the roles it takes.

use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};

use super::*;
use crate::provision::store::set::{CA, CERTIFICATE, KEY, MANIFEST};

#[test]
fn a_grant_is_a_candidate_until_it_is_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    assert_eq!(names(&store), ["-", "-", "-"]);
    let kept = store.stage(&grant("a"), NOW).unwrap();
    assert_eq!(kept.fetched, NOW);
    assert_eq!(kept.directory, store.directory().join("set-1"));
    assert_eq!(names(&store), ["-", "a", "-"]);
    store.promote().unwrap();
    assert_eq!(names(&store), ["a", "-", "-"]);
    // Without a candidate nothing changes, however often.
    store.promote().unwrap();
    store.promote().unwrap();
    assert_eq!(names(&store), ["a", "-", "-"]);
    store.stage(&grant("b"), NOW).unwrap();
    assert_eq!(names(&store), ["a", "b", "-"]);
    // A newer grant takes the place of an older candidate.
    store.stage(&grant("c"), NOW).unwrap();
    assert_eq!(names(&store), ["a", "c", "-"]);
    store.promote().unwrap();
    assert_eq!(names(&store), ["c", "-", "a"]);
    keep(&store, "d");
    assert_eq!(names(&store), ["d", "-", "c"]);
    assert_eq!(
        listing(&store).len(),
        4,
        "two sets and two links: {:?}",
        listing(&store)
    );
}

#[test]
fn a_rehearsal_changes_nothing_and_fails_where_a_set_could_not_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    store.stage(&grant("b"), NOW).unwrap();
    let before = listing(&store);
    store.rehearse().unwrap();
    assert_eq!(
        (names(&store), listing(&store)),
        (["a", "b", "-"].map(String::from), before)
    );
    // There is no room for another name.
    symlink("set-18446744073709551615", store.directory().join("previous")).unwrap();
    let e = store.rehearse().unwrap_err();
    assert!(e.to_string().contains("no number left"), "{e}");
}

#[test]
fn a_candidate_is_discarded_and_a_damaged_current_falls_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    store.discard().unwrap();
    assert!(!store.directory().exists(), "to give up nothing makes nothing");
    keep(&store, "a");
    keep(&store, "b");
    store.stage(&grant("c"), NOW).unwrap();
    store.discard().unwrap();
    store.discard().unwrap();
    assert_eq!(names(&store), ["b", "-", "a"]);
    fs::write(store.current().join(KEY), "torn").unwrap();
    assert_eq!(names(&store), ["damaged", "-", "a"]);
    store.fall_back().unwrap();
    assert_eq!(names(&store), ["a", "-", "-"]);
    let e = store.fall_back().unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::InvalidData);
    assert_eq!(names(&store), ["a", "-", "-"], "there is nothing to fall back to");
    assert_eq!(listing(&store).len(), 2);
}

/// The last *good* one: a damaged set does not push it out.
#[test]
fn a_damaged_current_does_not_become_the_previous() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    keep(&store, "b");
    fs::remove_file(store.current().join(CA)).unwrap();
    keep(&store, "c");
    assert_eq!(names(&store), ["c", "-", "a"]);
}

#[test]
fn a_damaged_candidate_is_not_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    let kept = store.stage(&grant("b"), NOW).unwrap();
    fs::write(kept.directory.join(CERTIFICATE), "").unwrap();
    assert_eq!(store.promote().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(names(&store), ["a", "damaged", "-"]);
}

#[test]
fn what_does_not_fit_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    let (mut mixed, other) = (grant("b"), grant("c"));
    mixed.material = match (mixed.material, other.material) {
        (Material::Issued { certificate_pem, .. }, Material::Issued { private_key_pem, .. }) => Material::Issued {
            certificate_pem,
            private_key_pem,
        },
        _ => unreachable!(),
    };
    assert_eq!(store.stage(&mixed, NOW).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(names(&store), ["a", "-", "-"]);
}

/// DPS without a signing request: the operator's key and certificate stay where they are.
#[test]
fn a_set_for_the_operators_files_goes_with_them_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let (mine, other) = (own("mine"), own("other"));
    let kept = store.stage(&assigned(&mine, "device"), NOW).unwrap();
    store.promote().unwrap();
    assert_eq!(kept.credentials.identity.leaf, mine.leaf);
    assert!(!kept.directory.join(KEY).exists() && !kept.directory.join(CERTIFICATE).exists());
    let current = store.read(Some(&mine)).current.unwrap();
    assert_eq!(current.credentials.client_id.unwrap().as_str(), "device");
    assert_eq!(current.credentials.host.as_deref(), Some("device.example"));
    for wrong in [Some(&other), None] {
        assert_eq!(store.read(wrong).current.unwrap_err(), Unusable::OtherCertificate);
    }
    // The next assignment does not take it for damaged.
    store.stage(&assigned(&other, "device-2"), NOW).unwrap();
    store.promote().unwrap();
    let contents = store.read(Some(&other));
    assert_eq!(
        contents.current.unwrap().credentials.client_id.unwrap().as_str(),
        "device-2"
    );
    assert_eq!(contents.previous.unwrap_err(), Unusable::OtherCertificate);
    assert!(store.read(Some(&mine)).previous.is_ok());
}

#[test]
fn expiry_is_the_callers_question() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    let credentials = store.read(None).current.unwrap().credentials;
    assert!(credentials.check_time(NOW).is_ok());
    assert_eq!(
        credentials.check_time(NOW + 2 * DAY),
        Err(Unusable::Expired { since: NOW + DAY })
    );
}

#[test]
fn nobody_else_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let kept = keep(&store, "a");
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&kept.directory.join(KEY)), 0o600);
    assert_eq!(mode(&kept.directory.join(MANIFEST)), 0o600);
    for directory in [&kept.directory, store.directory(), &dir.path().join("credentials")] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
}

/// Only root can show it; CI runs as root, and for others there is nothing to hand over.
#[test]
fn what_root_provisions_belongs_to_the_owner_of_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let me = nix::unistd::geteuid().as_raw();
    let owner = if me == 0 { 12_345 } else { me };
    lchown(dir.path(), Some(owner), None).unwrap();
    // A state directory that is not there yet, too.
    let store = store(&dir.path().join("state"));
    for name in ["a", "b", "c"] {
        keep(&store, name);
    }
    store.stage(&grant("d"), NOW).unwrap();
    let mut seen = 0;
    let mut look = vec![dir.path().join("state")];
    while let Some(path) = look.pop() {
        let there = fs::symlink_metadata(&path).unwrap();
        assert_eq!(there.uid(), owner, "{}", path.display());
        if there.is_dir() {
            look.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        seen += 1;
    }
    // Three directories, the lock, three links, three sets of four files.
    assert_eq!(seen, 3 + 1 + 3 + 3 * 5);
}

#[test]
fn each_identity_is_apart_listed_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Store::list(dir.path()).unwrap(), []);
    let other: Imsi = "295012345678902".parse().unwrap();
    let stores = [
        store(dir.path()),
        Store::new(dir.path(), SOURCE, &other, None),
        Store::new(dir.path(), "aws-fleet", &other, None),
    ];
    for (store, name) in stores.iter().zip(["a", "b", "c"]) {
        keep(store, name);
        store.stage(&grant(name), NOW).unwrap();
    }
    for (store, name) in stores.iter().zip(["a", "b", "c"]) {
        assert_eq!(names(store), [name, name, "-"]);
    }
    let beside = dir.path().join("credentials");
    fs::create_dir(beside.join("somebody-else")).unwrap();
    fs::create_dir(beside.join("krypton-azure-12")).unwrap();
    let mine: Imsi = IMSI.parse().unwrap();
    let all = [("aws-fleet", other.clone()), (SOURCE, mine), (SOURCE, other)];
    assert_eq!(Store::list(dir.path()).unwrap(), all);
    stores[0].forget().unwrap();
    stores[0].forget().unwrap();
    assert!(!stores[0].directory().exists());
    assert_eq!(names(&stores[0]), ["-", "-", "-"]);
    assert_eq!(names(&stores[1]), ["b", "b", "-"]);
    // What is not ours keeps the directory, and nothing else.
    fs::write(stores[1].directory().join("note"), "mine").unwrap();
    stores[1].forget().unwrap();
    assert_eq!(listing(&stores[1]), ["note"]);
    keep(&stores[1], "again");
    assert_eq!(names(&stores[1]), ["again", "-", "-"]);
}
