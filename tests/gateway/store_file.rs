//! SQLite's file: its mode and place, damage, a full disk, a program that is killed in the middle of a write.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use onyx::clock::Clock;
use onyx::gateway::store::{Store, StoreError, TokenChange};
use zeroize::Zeroizing;

use crate::store::{Ground, runtime, settings, subscriber};

/// Tells the helpers below, which run in processes of their own, where to work.
const FOLDER: &str = "ONYX_TEST_STORE_FOLDER";

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_file_is_for_its_owner_alone() {
    runtime().block_on(async {
        let ground = Ground::sqlite();
        let store = ground.open().await.unwrap();
        store
            .put_subscriber(&subscriber("100001"), TokenChange::Keep)
            .await
            .unwrap();
        for file in ["store.db", "store.db-wal", "store.db-shm", "store.key"] {
            assert_eq!(mode(&ground.dir.path().join(file)), 0o600, "{file}");
        }
        drop(store);
        let file = ground.dir.path().join("store.db");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        let e = ground.open().await.unwrap_err().to_string();
        assert!(e.contains("chmod 600"), "{e}");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::set_permissions(ground.dir.path(), PermissionsExt::from_mode(0o770)).unwrap();
        let e = ground.open().await.unwrap_err().to_string();
        assert!(e.contains("chmod go-w"), "{e}");
        std::fs::set_permissions(ground.dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let elsewhere = ground.dir.path().join("link.db");
        std::os::unix::fs::symlink(&file, &elsewhere).unwrap();
        let e = Store::open(
            &settings(ground.dir.path(), "file = 'link.db'\nkey_file = 'store.key'\n"),
            &Clock::new(),
        )
        .await;
        assert!(e.unwrap_err().to_string().contains("not a regular file"));
        let nowhere = settings(ground.dir.path(), "file = 'no/store.db'\nkey_file = 'store.key'\n");
        let e = Store::open(&nowhere, &Clock::new()).await.unwrap_err().to_string();
        assert!(e.contains("folder") && e.contains("No such file"), "{e}");
    });
}

#[test]
fn a_damaged_file_is_told_and_left_as_it_is() {
    runtime().block_on(async {
        let ground = Ground::sqlite();
        let store = ground.open().await.unwrap();
        for n in 0..200 {
            store
                .put_subscriber(&subscriber(&format!("{}", 100_000 + n)), TokenChange::Keep)
                .await
                .unwrap();
        }
        drop(store);
        ground.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        let file = ground.dir.path().join("store.db");
        let good = std::fs::read(&file).unwrap();
        let no_database = b"this is no database".repeat(1_000);
        let mut middle = good.clone();
        for byte in middle.iter_mut().skip(8 * 1_024).step_by(7) {
            *byte ^= 0x5a;
        }
        for (what, bytes) in [
            ("another file", &no_database),
            ("overwritten pages", &middle),
            ("half of it", &good[..good.len() / 2].to_vec()),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let e = ground.open().await.unwrap_err();
            assert!(
                matches!(&e, StoreError::Broken(why) if why.contains("damaged") && why.contains("backup")),
                "{what}: {e}"
            );
            assert_eq!(&std::fs::read(&file).unwrap(), bytes, "{what}: nobody wrote to it");
        }
        std::fs::write(&file, &good).unwrap();
        assert_eq!(
            ground
                .open()
                .await
                .unwrap()
                .subscribers(None, 1_000)
                .await
                .unwrap()
                .items
                .len(),
            200
        );
    });
}

/// A test of this file as a program of its own.
fn helper(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", &format!("store_file::{name}")]);
    command.env(FOLDER, folder);
    command
}

fn folder() -> PathBuf {
    std::env::var_os(FOLDER).expect("run by another test").into()
}

#[test]
#[ignore = "run by what_was_answered_survives_a_kill"]
fn writes_until_it_is_killed() {
    let folder = folder();
    runtime().block_on(async {
        let store = Store::open(
            &settings(&folder, "file = 'store.db'\nkey_file = 'store.key'\n"),
            &Clock::new(),
        )
        .await
        .unwrap();
        let start = store.generation().await.unwrap();
        for n in start.. {
            let id = format!("c-{n}").parse().unwrap();
            let secret = Zeroizing::new(format!("{n}").repeat(500));
            store.put_credential(&id, "x509", "", secret, None, true).await.unwrap();
            println!("\nwrote c-{n}");
        }
    });
}

#[test]
fn what_was_answered_survives_a_kill() {
    let ground = Ground::sqlite();
    let mut wrote = vec![];
    for round in 0..4 {
        let mut child = helper("writes_until_it_is_killed", ground.dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut some = 0;
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some(id) = line.strip_prefix("wrote ") {
                wrote.push(id.to_owned());
                some += 1;
                if some == 7 + round * 5 {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(some >= 7 + round * 5, "round {round}: {some}");
    }
    runtime().block_on(async {
        let store = ground.open().await.unwrap();
        for id in &wrote {
            let read = store
                .credential(&id.parse().unwrap())
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("{id} was answered and is lost"));
            assert_eq!(*read.secret, id[2..].repeat(500));
        }
        let all = store.credentials(None, 10_000).await.unwrap().items.len();
        assert!(
            all >= wrote.len() && all <= wrote.len() + 4,
            "at most one each round was cut off: {all} of {}",
            wrote.len()
        );
    });
}

#[test]
#[ignore = "run by a_full_disk_changes_nothing, in a file system of its own"]
fn fills_the_disk() {
    let folder = folder();
    runtime().block_on(async {
        let filler = folder.join("filler");
        std::fs::write(&filler, vec![0; 512 << 10]).unwrap();
        let settings = settings(&folder, "file = 'store.db'\nkey_file = 'store.key'\n");
        let store = Store::open(&settings, &Clock::new()).await.unwrap();
        let (mut fits, mut refused) = (0_u64, None);
        while refused.is_none() && fits < 10_000 {
            let id = format!("c-{fits}").parse().unwrap();
            match store
                .put_credential(&id, "x509", "", Zeroizing::new("x".repeat(20_000)), None, true)
                .await
            {
                Ok(_) => fits += 1,
                Err(e) => refused = Some(e),
            }
        }
        let refused = refused.expect("the disk is full at some time");
        assert!(
            matches!(&refused, StoreError::Broken(why) if why.contains("disk of the database is full")),
            "{refused}"
        );
        // Nothing of the refused change is there, everything before it is, and it can be read.
        let there = store.generation().await.unwrap();
        assert_eq!(store.credentials(None, 10_000).await.unwrap().items.len() as u64, fits);
        assert!(store.credential(&"c-0".parse().unwrap()).await.unwrap().is_some());
        // With room again, it goes on without being opened again.
        std::fs::remove_file(&filler).unwrap();
        store
            .put_credential(
                &"after".parse().unwrap(),
                "x509",
                "",
                Zeroizing::new("y".to_owned()),
                None,
                true,
            )
            .await
            .unwrap();
        assert_eq!(store.generation().await.unwrap(), there + 1);
        drop(store);
        let again = Store::open(&settings, &Clock::new()).await.unwrap();
        assert_eq!(
            again.credentials(None, 10_000).await.unwrap().items.len() as u64,
            fits + 1
        );
        println!("\nall as it should be");
    });
}

#[test]
fn a_full_disk_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let inner = helper("fills_the_disk", dir.path());
    let mut command = Command::new("unshare");
    command.args([
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs -o size=2m,mode=700 none \"$0\" && exec \"$@\"",
    ]);
    command
        .arg(dir.path())
        .arg(inner.get_program())
        .args(inner.get_args())
        .env(FOLDER, dir.path());
    let output = command.output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && text.contains("all as it should be"),
        "{text}"
    );
}
