//! What somebody or something did to the files.

use std::os::unix::fs::symlink;

use super::*;
use crate::provision::store::manifest::VERSION;
use crate::provision::store::set::{CA, CERTIFICATE, KEY, MANIFEST};

fn current(store: &Store) -> Result<Kept, Unusable> {
    store.read(None).current
}

fn why(store: &Store) -> String {
    match current(store) {
        Err(Unusable::Damaged(why)) => why,
        other => panic!("not damaged: {other:?}"),
    }
}

#[test]
fn every_file_that_is_torn_missing_or_changed_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "good");
    keep(&store, "a");
    for file in [KEY, CERTIFICATE, CA, MANIFEST] {
        let path = store.current().join(file);
        let good = fs::read(&path).unwrap();
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let mut longer = good.clone();
        longer.push(b'\n');
        let damages = [
            &b""[..],
            b"\xff\xfe garbage",
            &good[..middle],
            &flipped,
            &vec![b'x'; 1 << 17],
        ];
        for damage in damages.into_iter().chain((file != MANIFEST).then_some(&longer[..])) {
            fs::write(&path, damage).unwrap();
            let why = why(&store);
            assert!(why.contains(file), "{file}: {why}");
            assert_eq!(names(&store), ["damaged", "-", "good"], "the previous one is visible");
        }
        fs::remove_file(&path).unwrap();
        assert!(why(&store).contains(file));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(why(&store).contains("no regular file"), "{file}: a FIFO never ends");
        fs::remove_file(&path).unwrap();
        fs::write(&path, &good).unwrap();
        assert!(current(&store).is_ok());
    }
}

/// Two whole sets, mixed.
#[test]
fn a_file_of_another_set_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    keep(&store, "b");
    let previous = Role::Previous.path(store.directory());
    for file in [CA, CERTIFICATE, KEY] {
        let path = store.current().join(file);
        let good = fs::read(&path).unwrap();
        fs::copy(previous.join(file), &path).unwrap();
        assert!(why(&store).contains("SHA-256"), "{file}");
        fs::write(&path, good).unwrap();
    }
    // All of them but the manifest: they fit each other, but were not granted with these names.
    for file in [CA, CERTIFICATE, KEY] {
        fs::copy(previous.join(file), store.current().join(file)).unwrap();
    }
    assert!(why(&store).contains("SHA-256"));
}

#[test]
fn a_set_of_another_sim_or_source_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mine = store(dir.path());
    keep(&mine, "a");
    let imsi: Imsi = "295012345678902".parse().unwrap();
    for (source, imsi) in [(SOURCE, imsi), ("krypton-aws", IMSI.parse().unwrap())] {
        let other = Store::new(dir.path(), source, &imsi, None);
        fs::create_dir_all(other.directory()).unwrap();
        symlink("set-1", other.current()).unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-r")
            .args([mine.directory().join("set-1"), other.directory().to_owned()])
            .status();
        assert!(copied.unwrap().success());
        match (source, current(&other)) {
            (SOURCE, Err(Unusable::OtherSim)) => {}
            ("krypton-aws", Err(Unusable::Damaged(why))) if why.contains("krypton-azure") => {}
            (_, other) => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn a_newer_version_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    let path = store.current().join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    for (version, want) in [
        (VERSION + 1, "newer onyx-agent"),
        (u64::MAX, "newer onyx-agent"),
        (0, "never was"),
    ] {
        let other = text.replacen("\"version\": 2", &format!("\"version\": {version}"), 1);
        assert_ne!(other, text);
        fs::write(&path, other).unwrap();
        let why = why(&store);
        assert!(why.contains(want) && why.contains(&version.to_string()), "{why}");
    }
}

#[test]
fn an_edited_manifest_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    let path = store.current().join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("a.example", "b.example"),
        ("\"sealed\": false", "\"sealed\": true"),
        ("1800000000", "1"),
    ] {
        let edited = text.replacen(from, to, 1);
        assert_ne!(edited, text, "{from}");
        fs::write(&path, edited).unwrap();
        assert!(why(&store).contains("changed after it was written"));
    }
}

#[test]
fn a_role_that_is_no_link_to_a_set_is_damaged_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    for round in 0..5 {
        let there = store.current();
        let aside = store.directory().join("aside");
        fs::rename(&there, &aside).unwrap();
        match round {
            0 => symlink("../../etc", &there).unwrap(),
            1 => symlink("set-99", &there).unwrap(),
            2 => fs::write(&there, "set-1").unwrap(),
            3 => symlink("set-01", &there).unwrap(),
            // A backup that followed the links.
            _ => {
                fs::create_dir(&there).unwrap();
                fs::write(there.join(KEY), "copy").unwrap();
            }
        }
        assert_eq!(names(&store)[0], "damaged", "round {round}");
        fs::remove_file(&aside).unwrap();
        let name = format!("again-{round}");
        keep(&store, &name);
        assert_eq!(names(&store)[0], name);
    }
}

#[test]
fn an_unfinished_write_changes_nothing_and_is_removed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    // Killed while writing set 2, and while making a link; a set that lost its role; and what is not ours.
    fs::create_dir(store.directory().join("set-2")).unwrap();
    fs::write(store.directory().join("set-2").join(KEY), "half").unwrap();
    for role in Role::ALL {
        symlink("set-2", store.directory().join(role.temporary())).unwrap();
    }
    fs::create_dir(store.directory().join("set-7")).unwrap();
    fs::write(store.directory().join("note"), "mine").unwrap();
    let before = listing(&store);
    assert_eq!(names(&store), ["a", "-", "-"]);
    assert_eq!(listing(&store), before, "reading removes nothing");
    store.stage(&grant("b"), NOW).unwrap();
    assert_eq!(names(&store), ["a", "b", "-"]);
    assert_eq!(listing(&store), ["candidate", "current", "note", "set-1", "set-2"]);
}

#[test]
fn a_file_in_the_way_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    fs::write(&file, "in the way").unwrap();
    let e = store(dir.path()).stage(&grant("a"), NOW).unwrap_err().to_string();
    assert!(e.contains("credentials"), "{e}");
}
