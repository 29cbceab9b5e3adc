//! Commands that only read leave a database as they find it, and say what is to be done when they cannot read it.

use std::path::Path;
use std::process::Command;

use onyx::clock::Clock;
use onyx::gateway::store::{SCHEMA, Store, StoreError, TokenChange};

use crate::store::{Ground, runtime, subscriber};

both!(
    nothing_is_made,
    an_older_schema_stays_as_it_is,
    a_newer_one_is_refused,
    who_reads_cannot_write,
);

const READERS: [&[&str]; 7] = [
    &["subscriber", "list"],
    &["subscriber", "show", "100001"],
    &["group", "list"],
    &["credential", "list"],
    &["export"],
    &["store", "info"],
    &["check"],
];

fn run(ground: &Ground, args: &[&str]) -> (bool, String) {
    let config = ground.dir.path().join("gateway.toml");
    std::fs::write(&config, ground.config_text()).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
        .args(args)
        .arg("--config")
        .arg(&config)
        .current_dir(ground.dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text)
}

/// The readers, each refused with all these words.
fn all_refuse(ground: &Ground, want: &[&str]) {
    for args in READERS {
        let (good, text) = run(ground, args);
        assert!(!good, "{args:?}: {text}");
        for want in want {
            assert!(text.contains(want), "{args:?}: {want:?} is not in {text}");
        }
    }
}

fn files(dir: &Path) -> Vec<String> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .filter(|f| f != "gateway.toml")
        .collect();
    all.sort();
    all
}

async fn nothing_is_made(ground: Ground) {
    let wanted = format!("wants version {SCHEMA}: run 'onyx-gateway store migrate'");
    all_refuse(&ground, &[&wanted, "has changed nothing"]);
    assert_eq!(files(ground.dir.path()), Vec::<String>::new(), "no database, no key");
    if ground.is_postgres() {
        let tables = ground.sql("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'");
        assert_eq!(tables.trim(), "0");
    }
    // The command that was named makes it, and then all of them read.
    let (good, text) = run(&ground, &["store", "migrate"]);
    assert!(good && text.contains(&format!("version {SCHEMA}")), "{text}");
    let (good, text) = run(&ground, &["subscriber", "add", "100001"]);
    assert!(good, "{text}");
    for args in READERS.iter().filter(|a| a[0] != "check") {
        let (good, text) = run(&ground, args);
        assert!(good, "{args:?}: {text}");
    }
    let (_, text) = run(&ground, &["check"]);
    assert!(text.contains("opens with its key"), "{text}");
}

async fn an_older_schema_stays_as_it_is(ground: Ground) {
    let steps = || ground.sql("SELECT COUNT(*) FROM schema_step");
    let store = ground.open().await.unwrap();
    store
        .put_subscriber(&subscriber("100001"), TokenChange::Keep)
        .await
        .unwrap();
    drop(store);
    // As a program left it that did not know the last step.
    ground.sql("DROP TABLE store_change");
    ground.sql(&format!("DELETE FROM schema_step WHERE number = {SCHEMA}"));
    let before = (steps(), files(ground.dir.path()));
    let says = format!("the database's schema is version {}, and onyx-gateway", SCHEMA - 1);
    all_refuse(&ground, &[&says, &format!("wants version {SCHEMA}"), "store migrate"]);
    assert_eq!((steps(), files(ground.dir.path())), before);
    let e = Store::open_to_read(&ground.settings, &Clock::new()).await.unwrap_err();
    assert!(matches!(e, StoreError::Unready(_)), "{e}");
    // Whoever writes takes the step.
    let (good, text) = run(&ground, &["subscriber", "set", "100001", "--name", "new"]);
    assert!(good, "{text}");
    assert_ne!(steps(), before.0);
    let (good, text) = run(&ground, &["subscriber", "list"]);
    assert!(good && text.contains("new"), "{text}");
}

async fn a_newer_one_is_refused(ground: Ground) {
    drop(ground.open().await.unwrap());
    ground.sql(&format!(
        "INSERT INTO schema_step VALUES ({}, 'quantum_sims', 1)",
        SCHEMA + 1
    ));
    all_refuse(
        &ground,
        &[&format!("has step {} (\"quantum_sims\")", SCHEMA + 1), "newer"],
    );
}

async fn who_reads_cannot_write(ground: Ground) {
    let store = ground.open().await.unwrap();
    store
        .put_subscriber(&subscriber("100001"), TokenChange::Keep)
        .await
        .unwrap();
    // While another works with it.
    let reader = Store::open_to_read(&ground.settings, &Clock::new()).await.unwrap();
    let e = reader
        .put_subscriber(&subscriber("100002"), TokenChange::Keep)
        .await
        .unwrap_err();
    assert!(matches!(&e, StoreError::Refused(why) if why.contains("read")), "{e}");
    store
        .put_subscriber(&subscriber("100003"), TokenChange::Keep)
        .await
        .unwrap();
    assert_eq!(reader.subscribers(None, 10).await.unwrap().items.len(), 2);
    // A change of keys that was cut off is read under the key that it is under, and left for who writes.
    drop((store, reader));
    let [key, new] = ["store.key", "store.key.new"].map(|f| ground.dir.path().join(f));
    std::fs::rename(&key, &new).unwrap();
    onyx::files::write_atomically(&key, &[7; 32], 0o600).unwrap();
    let reader = Store::open_to_read(&ground.settings, &Clock::new()).await.unwrap();
    assert_eq!(reader.subscribers(None, 10).await.unwrap().items.len(), 2);
    assert!(new.exists());
    drop(reader);
    std::fs::remove_file(&new).unwrap();
    let e = Store::open_to_read(&ground.settings, &Clock::new()).await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Key(why) if why.contains("is not the key")),
        "{e}"
    );
}
