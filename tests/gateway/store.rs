//! The store, the same tests over SQLite and PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use onyx::clock::Clock;
use onyx::gateway::Config;
use onyx::gateway::config::{Source, StoreConfig};
use onyx::gateway::store::{
    Fingerprint, GroupRecord, Judge, KeyPlace, Store, StoreError, StoreKey, SubscriberRecord, TokenChange, rekey,
};
use serde_json::json;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use crate::postgres::Postgres;

/// A database and the way to look behind the store's back.
pub struct Ground {
    pub dir: tempfile::TempDir,
    pub settings: StoreConfig,
    database: Option<String>,
}

impl Ground {
    pub fn sqlite() -> Self {
        Self::new(None)
    }

    pub fn postgres() -> Self {
        Self::new(Some(Postgres::shared().database()))
    }

    /// A whole configuration on this store.
    pub fn config_text(&self) -> String {
        let name = match &self.database {
            None => "file = 'store.db'".to_owned(),
            Some(d) => format!("database = '{}'", Postgres::shared().url(d)),
        };
        format!("[store]\n{name}\nkey_file = 'store.key'\n")
    }

    fn new(database: Option<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = match &database {
            None => "file = 'store.db'".to_owned(),
            Some(d) => format!("database = '{}'", Postgres::shared().url(d)),
        };
        let settings = settings(dir.path(), &format!("{name}\nkey_file = 'store.key'\n"));
        Self {
            dir,
            settings,
            database,
        }
    }

    pub fn is_postgres(&self) -> bool {
        self.database.is_some()
    }

    pub async fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.settings, &Clock::new()).await
    }

    /// Runs SQL that the store knows nothing of; the first column of the first row.
    pub fn sql(&self, sql: &str) -> String {
        match &self.database {
            Some(database) => Postgres::shared().sql(database, sql),
            None => {
                let connection = rusqlite::Connection::open(self.dir.path().join("store.db")).unwrap();
                connection.busy_timeout(Duration::from_secs(5)).unwrap();
                if sql.starts_with("SELECT") {
                    let value: rusqlite::types::Value = connection.query_row(sql, [], |r| r.get(0)).unwrap();
                    format!("{value:?}")
                } else {
                    connection.execute_batch(sql).unwrap();
                    String::new()
                }
            }
        }
    }

    /// All that somebody has who stole the database.
    fn loot(&self) -> Vec<u8> {
        match &self.database {
            Some(database) => Postgres::shared().dump(database).into_bytes(),
            None => ["store.db", "store.db-wal"]
                .iter()
                .flat_map(|f| std::fs::read(self.dir.path().join(f)).unwrap_or_default())
                .collect(),
        }
    }
}

pub fn settings(dir: &std::path::Path, store: &str) -> StoreConfig {
    let config =
        Config::from_text(&dir.join("gateway.toml"), format!("[store]\n{store}")).unwrap_or_else(|e| panic!("{e}"));
    match config.source {
        Source::Store(settings) => settings,
        Source::Files(_) => panic!("a store"),
    }
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub fn subscriber(imsi: &str) -> SubscriberRecord {
    SubscriberRecord {
        imsi: imsi.parse().unwrap(),
        imei: None,
        imei_lock: false,
        iccid: None,
        group: None,
        enabled: true,
        source: None,
        has_token: false,
        certificate: None,
        name: String::new(),
        last_seen: None,
    }
}

pub fn yes() -> Judge {
    Arc::new(|_: &GroupRecord| Ok(()))
}

pub fn set(token: &str) -> TokenChange {
    TokenChange::Set(Zeroizing::new(token.as_bytes().to_vec()))
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// One test for each database.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(#[test] fn $name() { super::runtime().block_on(super::$name(super::Ground::sqlite())); })* }
        mod postgres { $(#[test] fn $name() { super::runtime().block_on(super::$name(super::Ground::postgres())); })* }
    };
}

both!(
    what_is_written_is_read,
    a_fleet_in_pages,
    two_subscribers_share_nothing_that_tells_them_apart,
    groups_are_built_key_by_key,
    credentials_have_versions,
    when_things_were_seen_is_no_change,
    a_stolen_database_gives_no_secrets,
    the_key_is_proved_at_the_start,
    a_new_key_opens_what_the_old_one_sealed,
    a_change_of_keys_that_was_cut_off_is_ended,
    swapped_and_damaged_rows_are_told,
    many_writers_lose_nothing,
    from_every_step_of_the_schema,
    programs_that_start_together_agree,
    from_several_runtimes,
);

async fn what_is_written_is_read(ground: Ground) {
    let store = ground.open().await.unwrap();
    let first = store.generation().await.unwrap();
    let group = "fleet".parse().unwrap();
    store.put_group(&group, "The fleet").await.unwrap();
    let full = SubscriberRecord {
        imei: Some("123456789011111".parse().unwrap()),
        imei_lock: true,
        iccid: Some("8981100000000000000".parse().unwrap()),
        group: Some(group),
        enabled: false,
        source: Some("2001:db8::/32".parse().unwrap()),
        has_token: true,
        certificate: Some(Fingerprint([7; 32])),
        name: "Kühlhaus №1".to_owned(),
        ..subscriber("295012345678901")
    };
    store.put_subscriber(&full, set("a-token-of-the-first")).await.unwrap();
    assert_eq!(store.subscriber(&full.imsi).await.unwrap().as_ref(), Some(&full));
    assert_eq!(store.generation().await.unwrap(), first + 2);
    // Open again, in another process's place: everything is there.
    drop(store);
    let store = ground.open().await.unwrap();
    assert_eq!(store.subscriber(&full.imsi).await.unwrap().as_ref(), Some(&full));
    store.put_subscriber(&full, TokenChange::Keep).await.unwrap();
    assert!(store.subscriber(&full.imsi).await.unwrap().unwrap().has_token);
    store.put_subscriber(&full, TokenChange::Remove).await.unwrap();
    assert!(!store.subscriber(&full.imsi).await.unwrap().unwrap().has_token);
    for source in ["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "::/0", "2001:db8::1"] {
        let record = SubscriberRecord {
            source: Some(source.parse().unwrap()),
            has_token: false,
            ..full.clone()
        };
        store.put_subscriber(&record, TokenChange::Keep).await.unwrap();
        assert_eq!(store.subscriber(&full.imsi).await.unwrap().unwrap(), record, "{source}");
    }
    store.delete_subscriber(&full.imsi).await.unwrap();
    assert_eq!(store.subscriber(&full.imsi).await.unwrap(), None);
    let now = store.generation().await.unwrap();
    let e = store.delete_subscriber(&full.imsi).await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Missing(what) if what.contains("295012345678901")),
        "{e}"
    );
    assert_eq!(store.generation().await.unwrap(), now, "what was refused is no change");
    let nowhere = SubscriberRecord {
        group: Some("nowhere".parse().unwrap()),
        ..full
    };
    let e = store.put_subscriber(&nowhere, TokenChange::Keep).await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Missing(what) if what.contains("group nowhere")),
        "{e}"
    );
}

async fn a_fleet_in_pages(ground: Ground) {
    let store = ground.open().await.unwrap();
    for n in [5, 3, 1, 4, 2] {
        store
            .put_subscriber(&subscriber(&format!("10000{n}")), TokenChange::Keep)
            .await
            .unwrap();
        let id = format!("c-{n}").parse().unwrap();
        store
            .put_credential(&id, "x509", "", secret("{}"), None, true)
            .await
            .unwrap();
    }
    let mut seen = vec![];
    let mut after: Option<String> = None;
    loop {
        let page = store.subscribers(after.as_deref(), 2).await.unwrap();
        assert!(page.items.len() <= 2 && page.damaged.is_empty());
        seen.extend(page.items.into_iter().map(|s| s.imsi.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["100001", "100002", "100003", "100004", "100005"]);
    // By bytes, in either database: capitals before small letters.
    store
        .put_credential(&"Z".parse().unwrap(), "x509", "", secret("{}"), None, true)
        .await
        .unwrap();
    let ids: Vec<_> = store
        .credentials(None, 3)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|c| c.id.as_str().to_owned())
        .collect();
    assert_eq!(ids, ["Z", "c-1", "c-2"]);
    let rest = store.credentials(Some("c-2"), 100).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (3, None));
    let whole = store.snapshot().await.unwrap();
    assert_eq!((whole.subscribers.len(), whole.damaged.len()), (5, 0));
}

async fn two_subscribers_share_nothing_that_tells_them_apart(ground: Ground) {
    let store = ground.open().await.unwrap();
    let with = |imsi, source: &str| SubscriberRecord {
        source: Some(source.parse().unwrap()),
        ..subscriber(imsi)
    };
    store
        .put_subscriber(&with("100001", "10.0.0.0/24"), TokenChange::Keep)
        .await
        .unwrap();
    let conflict = |e: Result<(), StoreError>, what: &str| match e.unwrap_err() {
        StoreError::Conflict(why) => assert!(why.contains(what) && why.contains("100001"), "{why}"),
        other => panic!("{other:?}"),
    };
    conflict(
        store
            .put_subscriber(&with("100002", "10.0.0.0/24"), TokenChange::Keep)
            .await,
        "the source 10.0.0.0/24",
    );
    // Another length is another source, and behind a token it may be the same.
    store
        .put_subscriber(&with("100002", "10.0.0.0/25"), TokenChange::Keep)
        .await
        .unwrap();
    store
        .put_subscriber(&with("100002", "10.0.0.0/24"), set("the token of number two"))
        .await
        .unwrap();
    conflict(
        store
            .put_subscriber(&with("100002", "10.0.0.0/24"), TokenChange::Remove)
            .await,
        "the source",
    );
    store
        .put_subscriber(&subscriber("100001"), set("the token of number one"))
        .await
        .unwrap();
    conflict(
        store
            .put_subscriber(&subscriber("100003"), set("the token of number one"))
            .await,
        "the token",
    );
    let pinned = |imsi| SubscriberRecord {
        certificate: Some(Fingerprint([1; 32])),
        ..subscriber(imsi)
    };
    store
        .put_subscriber(&pinned("100001"), TokenChange::Remove)
        .await
        .unwrap();
    conflict(
        store.put_subscriber(&pinned("100003"), TokenChange::Keep).await,
        "the certificate",
    );
    let e = store
        .put_subscriber(&subscriber("100003"), set("short"))
        .await
        .unwrap_err();
    assert!(matches!(&e, StoreError::Refused(why) if why.contains("5 bytes")), "{e}");
}

async fn groups_are_built_key_by_key(ground: Ground) {
    let store = ground.open().await.unwrap();
    let id = "fleet".parse().unwrap();
    let e = store
        .put_configuration(&id, "SoracomBeam", vec![], yes())
        .await
        .unwrap_err();
    assert!(matches!(e, StoreError::Missing(_)), "{e}");
    let made = store.put_group(&id, "One").await.unwrap();
    assert!(made.configuration.is_empty() && made.created == made.updated && !made.created.is_zero());
    let pair = |k: &str, v| (k.to_owned(), v);
    store
        .put_configuration(
            &id,
            "SoracomBeam",
            vec![pair("a", json!({"x": 1})), pair("b", json!("2"))],
            yes(),
        )
        .await
        .unwrap();
    store
        .put_configuration(&id, "SoracomBeam", vec![pair("b", json!(3))], yes())
        .await
        .unwrap();
    let both = store
        .put_configuration(&id, "OnyxGateway", vec![pair("kind", json!("aws_iot"))], yes())
        .await
        .unwrap();
    assert_eq!(both.configuration["SoracomBeam"]["a"], json!({"x": 1}));
    assert_eq!(both.configuration["SoracomBeam"]["b"], json!(3));
    let no: Judge = Arc::new(|g: &GroupRecord| Err(format!("{} has {}", g.id, g.configuration["SoracomBeam"]["b"])));
    let now = store.generation().await.unwrap();
    let e = store
        .put_configuration(&id, "SoracomBeam", vec![pair("b", json!("bad"))], no)
        .await
        .unwrap_err();
    assert!(
        matches!(&e, StoreError::Refused(why) if why == "fleet has \"bad\""),
        "{e}"
    );
    assert_eq!(store.generation().await.unwrap(), now);
    store.put_group(&id, "Two").await.unwrap();
    let read = store.group(&id).await.unwrap().unwrap();
    assert_eq!((read.name.as_str(), &read.configuration), ("Two", &both.configuration));
    let large = vec![pair("large", json!("x".repeat(300_000)))];
    let e = store
        .put_configuration(&id, "SoracomBeam", large, yes())
        .await
        .unwrap_err();
    assert!(matches!(e, StoreError::Refused(_)), "{e}");
    let e = store.delete_configuration(&id, "SoracomBeam", "c").await.unwrap_err();
    assert!(matches!(e, StoreError::Missing(_)), "{e}");
    let left = store.delete_configuration(&id, "OnyxGateway", "kind").await.unwrap();
    assert_eq!(left.configuration.keys().collect::<Vec<_>>(), ["SoracomBeam"]);
    let member = SubscriberRecord {
        group: Some(id.clone()),
        ..subscriber("100001")
    };
    store.put_subscriber(&member, TokenChange::Keep).await.unwrap();
    let e = store.delete_group(&id).await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Conflict(why) if why.contains("1 subscribers")),
        "{e}"
    );
    store.delete_subscriber(&member.imsi).await.unwrap();
    store.delete_group(&id).await.unwrap();
    assert!(store.groups().await.unwrap().items.is_empty());
    let e = store.put_group(&".none".parse().unwrap(), "").await.unwrap_err();
    assert!(matches!(e, StoreError::Refused(_)), "{e}");
}

async fn credentials_have_versions(ground: Ground) {
    let store = ground.open().await.unwrap();
    let id = "myClient-295012345678901".parse().unwrap();
    assert!(store.credential(&id).await.unwrap().is_none());
    let put = |text: &'static str, new| {
        store.put_credential(&id, "x509", "for A", secret(text), Some(Duration::from_secs(9)), new)
    };
    let first = put("one", true).await.unwrap();
    let e = put("two", true).await.unwrap_err();
    assert!(matches!(e, StoreError::Conflict(_)), "{e}");
    let second = put("two", false).await.unwrap();
    assert_ne!(first.version, second.version);
    assert_eq!(
        (second.not_after, second.kind.as_str()),
        (Some(Duration::from_secs(9)), "x509")
    );
    let read = store.credential(&id).await.unwrap().unwrap();
    assert_eq!((read.secret.as_str(), &read.summary), ("two", &second));
    assert_eq!(
        store.credential_version(&id).await.unwrap(),
        Some(second.version.clone())
    );
    store.delete_credential(&id).await.unwrap();
    // The same content under the same name, after it was gone, is another state: nothing of the old one may be resumed.
    let third = put("two", true).await.unwrap();
    assert_ne!(third.version, second.version);
    assert!(!format!("{read:?}").contains("two"));
}

async fn when_things_were_seen_is_no_change(ground: Ground) {
    let store = ground.open().await.unwrap();
    let ids: Vec<String> = (0..250).map(|n| format!("{}", 100_000 + n)).collect();
    for id in &ids[..3] {
        store.put_subscriber(&subscriber(id), TokenChange::Keep).await.unwrap();
    }
    let credential = "c".parse().unwrap();
    store
        .put_credential(&credential, "x509", "", secret("{}"), None, true)
        .await
        .unwrap();
    let now = store.generation().await.unwrap();
    let at = Duration::from_secs;
    // Most of these have been removed: they are left out, in more than one statement's worth.
    let seen: Vec<_> = ids.iter().map(|i| (i.parse().unwrap(), at(100))).collect();
    store.seen(&seen, "one").await.unwrap();
    store.seen(&[(ids[1].parse().unwrap(), at(99))], "older").await.unwrap();
    store
        .seen(
            &[(ids[2].parse().unwrap(), at(90)), (ids[2].parse().unwrap(), at(101))],
            "two",
        )
        .await
        .unwrap();
    store
        .used(&[(credential.clone(), at(7)), ("gone".parse().unwrap(), at(7))])
        .await
        .unwrap();
    let all = store.subscribers(None, 10).await.unwrap().items;
    let last: Vec<_> = all.iter().map(|s| s.last_seen.clone().unwrap()).collect();
    let want = [(at(100), "one"), (at(100), "one"), (at(101), "two")].map(|(t, g)| (t, g.to_owned()));
    assert_eq!(last, want);
    assert_eq!(
        store.credentials(None, 1).await.unwrap().items[0].last_used,
        Some(at(7))
    );
    assert_eq!(store.generation().await.unwrap(), now);
    // They go with what they are about.
    store.delete_subscriber(&ids[0].parse().unwrap()).await.unwrap();
    store
        .put_subscriber(&subscriber(&ids[0]), TokenChange::Keep)
        .await
        .unwrap();
    assert_eq!(
        store
            .subscriber(&ids[0].parse().unwrap())
            .await
            .unwrap()
            .unwrap()
            .last_seen,
        None
    );
}

async fn a_stolen_database_gives_no_secrets(ground: Ground) {
    let store = ground.open().await.unwrap();
    store
        .put_subscriber(&subscriber("100001"), set("SECRET-the-token"))
        .await
        .unwrap();
    let id = "fleet".parse().unwrap();
    store.put_group(&id, "shown").await.unwrap();
    let pairs = vec![("password".to_owned(), json!("SECRET-the-password"))];
    store.put_configuration(&id, "SoracomBeam", pairs, yes()).await.unwrap();
    store
        .put_credential(&"c".parse().unwrap(), "x509", "", secret("SECRET-the-key"), None, true)
        .await
        .unwrap();
    let loot = ground.loot();
    let has = |what: &[u8]| loot.windows(what.len()).any(|w| w == what);
    assert!(has(b"100001") && has(b"shown"), "this is the database");
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    assert!(!has(b"SECRET") && !has(hex("SECRET").as_bytes()));
    let plain = ring::digest::digest(&ring::digest::SHA256, b"SECRET-the-token");
    let plain_hex: String = plain.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert!(
        !has(plain.as_ref()) && !has(plain_hex.as_bytes()),
        "nobody can try tokens without the key"
    );
    let key = std::fs::read(ground.dir.path().join("store.key")).unwrap();
    let key_hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
    assert!(!has(&key) && !has(key_hex.as_bytes()));
}

async fn the_key_is_proved_at_the_start(ground: Ground) {
    drop(ground.open().await.unwrap());
    let key = ground.dir.path().join("store.key");
    let right = std::fs::read(&key).unwrap();
    onyx::files::write_atomically(&key, &[9; 32], 0o600).unwrap();
    let e = ground.open().await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Key(why) if why.contains("is not the key of this database")),
        "{e}"
    );
    std::fs::remove_file(&key).unwrap();
    let e = ground.open().await.unwrap_err();
    assert!(matches!(&e, StoreError::Key(why) if why.contains("is missing")), "{e}");
    assert!(!key.exists(), "no new key for an old database");
    onyx::files::write_atomically(&key, &right, 0o644).unwrap();
    let e = ground.open().await.unwrap_err();
    assert!(matches!(&e, StoreError::Key(why) if why.contains("chmod 600")), "{e}");
    onyx::files::write_atomically(&key, &right, 0o600).unwrap();
    ground.open().await.unwrap();
}

async fn filled(ground: &Ground) -> Store {
    let store = ground.open().await.unwrap();
    store
        .put_subscriber(&subscriber("100001"), set("the token of number one"))
        .await
        .unwrap();
    let id = "fleet".parse().unwrap();
    store.put_group(&id, "").await.unwrap();
    store
        .put_configuration(&id, "SoracomBeam", vec![("a".into(), json!(1))], yes())
        .await
        .unwrap();
    for n in 0..3 {
        let id = format!("c-{n}").parse().unwrap();
        store
            .put_credential(&id, "x509", "", secret(&format!("secret {n}")), None, true)
            .await
            .unwrap();
    }
    store
}

async fn all_is_well(store: &Store) {
    let whole = store.snapshot().await.unwrap();
    let digest = store.token_key().digest(b"the token of number one");
    assert_eq!(
        whole.subscribers[0].1.as_ref(),
        Some(&digest),
        "tokens stay what they were"
    );
    assert_eq!(whole.groups[0].configuration["SoracomBeam"]["a"], json!(1));
    for n in 0..3 {
        let read = store
            .credential(&format!("c-{n}").parse().unwrap())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(*read.secret, format!("secret {n}"));
    }
}

async fn a_new_key_opens_what_the_old_one_sealed(ground: Ground) {
    let old_program = filled(&ground).await;
    let key = ground.dir.path().join("store.key");
    let old = std::fs::read(&key).unwrap();
    assert_eq!(rekey(&ground.settings, &Clock::new(), None).await.unwrap(), 3);
    assert_ne!(std::fs::read(&key).unwrap(), old);
    assert!(!ground.dir.path().join("store.key.new").exists());
    all_is_well(&ground.open().await.unwrap()).await;
    // A program from before says what it needs.
    let e = old_program
        .credential(&"c-0".parse().unwrap())
        .await
        .unwrap_err()
        .to_string();
    assert!(e.contains("sealed under another store.key"), "{e}");
    onyx::files::write_atomically(&key, &old, 0o600).unwrap();
    assert!(matches!(ground.open().await.unwrap_err(), StoreError::Key(_)));
    let e = rekey(&ground.settings, &Clock::new(), Some(StoreKey::random().unwrap()))
        .await
        .unwrap_err();
    assert!(matches!(e, StoreError::Key(_)), "{e}");
}

async fn a_change_of_keys_that_was_cut_off_is_ended(ground: Ground) {
    drop(filled(&ground).await);
    let [key, new] = ["store.key", "store.key.new"].map(|f| ground.dir.path().join(f));
    // Cut off before the database was changed: the new key stays beside and is not used.
    KeyPlace::File(new.clone()).make().unwrap();
    let beside = std::fs::read(&new).unwrap();
    all_is_well(&ground.open().await.unwrap()).await;
    assert!(new.exists());
    // The next change takes that one.
    let old = std::fs::read(&key).unwrap();
    rekey(&ground.settings, &Clock::new(), None).await.unwrap();
    assert_eq!(std::fs::read(&key).unwrap(), beside);
    // Cut off after the database was changed and before the file was.
    std::fs::rename(&key, &new).unwrap();
    onyx::files::write_atomically(&key, &old, 0o600).unwrap();
    all_is_well(&ground.open().await.unwrap()).await;
    assert_eq!(std::fs::read(&key).unwrap(), beside);
    assert!(!new.exists());
}

async fn swapped_and_damaged_rows_are_told(ground: Ground) {
    let store = filled(&ground).await;
    let read = |n: u8| {
        let id = format!("c-{n}").parse().unwrap();
        let store = &store;
        async move {
            store
                .credential(&id)
                .await
                .map(|c| c.unwrap().secret.to_string())
                .map_err(|e| e.to_string())
        }
    };
    // Another's secret.
    ground.sql("UPDATE credential SET sealed_secret = (SELECT sealed_secret FROM credential WHERE id = 'c-1') WHERE id = 'c-0'");
    let e = read(0).await.unwrap_err();
    assert!(e.contains("credential c-0") && e.contains("not what was sealed"), "{e}");
    assert_eq!(read(1).await.unwrap(), "secret 1");
    // Its version as well.
    ground.sql("UPDATE credential SET version = (SELECT version FROM credential WHERE id = 'c-1') WHERE id = 'c-0'");
    assert!(read(0).await.is_err());
    // An old secret brought back into a newer row.
    ground.sql("CREATE TABLE old AS SELECT sealed_secret FROM credential WHERE id = 'c-2'");
    store
        .put_credential(&"c-2".parse().unwrap(), "x509", "", secret("new"), None, false)
        .await
        .unwrap();
    ground.sql("UPDATE credential SET sealed_secret = (SELECT sealed_secret FROM old) WHERE id = 'c-2'");
    assert!(read(2).await.is_err());
    // A damaged group is out, and only that.
    store.put_group(&"other".parse().unwrap(), "").await.unwrap();
    ground.sql("UPDATE device_group SET sealed_configuration = (SELECT sealed_configuration FROM device_group WHERE id = 'other') WHERE id = 'fleet'");
    ground.sql("UPDATE subscriber SET imei = 'nonsense'");
    store
        .put_subscriber(&subscriber("100002"), TokenChange::Keep)
        .await
        .unwrap();
    let whole = store.snapshot().await.unwrap();
    assert_eq!((whole.groups.len(), whole.groups[0].id.as_str()), (1, "other"));
    assert_eq!(whole.broken[0].0.as_str(), "fleet");
    assert!(whole.broken[0].1.contains("does not open"), "{:?}", whole.broken);
    assert_eq!(
        (whole.subscribers.len(), whole.subscribers[0].0.imsi.as_str()),
        (1, "100002")
    );
    assert!(
        whole.damaged[0].why.contains("IMEI") && !whole.damaged[0].to_string().contains("nonsense"),
        "{:?}",
        whole.damaged
    );
    // Writing it again mends it.
    store
        .put_credential(&"c-0".parse().unwrap(), "x509", "", secret("mended"), None, false)
        .await
        .unwrap();
    assert_eq!(read(0).await.unwrap(), "mended");
}

async fn many_writers_lose_nothing(ground: Ground) {
    // Two programs, each with several writers that read, judge and write one configuration.
    let stores = [
        Arc::new(ground.open().await.unwrap()),
        Arc::new(ground.open().await.unwrap()),
    ];
    let id = "fleet".parse().unwrap();
    stores[0].put_group(&id, "").await.unwrap();
    let first = stores[0].generation().await.unwrap();
    let mut writers = vec![];
    for n in 0..8 {
        let store = stores[n % 2].clone();
        let id = id.clone();
        writers.push(tokio::spawn(async move {
            for round in 0..5 {
                let pairs = vec![(format!("{n}-{round}"), json!(round))];
                store.put_configuration(&id, "SoracomBeam", pairs, yes()).await.unwrap();
                store
                    .seen(&[("100001".parse().unwrap(), Duration::from_secs(1))], "x")
                    .await
                    .unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let read = stores[1].group(&id).await.unwrap().unwrap();
    assert_eq!(read.configuration["SoracomBeam"].len(), 40);
    assert_eq!(stores[0].generation().await.unwrap(), first + 40);
}

/// What older programs made: each step and the note of it.
const STEPS: [(&str, &str); 4] = [
    (
        "devices",
        include_str!("../../src/gateway/store/schema/0001_devices.sql"),
    ),
    (
        "last_seen",
        include_str!("../../src/gateway/store/schema/0002_last_seen.sql"),
    ),
    ("search", include_str!("../../src/gateway/store/schema/0003_search.sql")),
    (
        "changes",
        include_str!("../../src/gateway/store/schema/0004_changes.sql"),
    ),
];

async fn from_every_step_of_the_schema(ground: Ground) {
    // Step 1 by an older program, with content.
    ground
        .sql("CREATE TABLE schema_step (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, done BIGINT NOT NULL)");
    let c = if ground.database.is_some() {
        "COLLATE \"C\""
    } else {
        "COLLATE BINARY"
    };
    ground.sql(&STEPS[0].1.replace("COLLATE BINARY", c));
    ground.sql("INSERT INTO schema_step VALUES (1, 'devices', 1)");
    ground.sql("INSERT INTO subscriber (imsi, imei_lock, enabled, name) VALUES ('100001', 0, 1, 'old')");
    if ground.database.is_none() {
        std::fs::set_permissions(
            ground.dir.path().join("store.db"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
    }
    let store = ground.open().await.unwrap();
    assert_eq!(
        store
            .subscriber(&"100001".parse().unwrap())
            .await
            .unwrap()
            .unwrap()
            .name,
        "old"
    );
    store
        .seen(&[("100001".parse().unwrap(), Duration::from_secs(5))], "g")
        .await
        .unwrap();
    let count = ground.sql("SELECT COUNT(*) FROM schema_step");
    assert!(count.contains(&STEPS.len().to_string()), "{count}");
    drop(store);
    // A newer program was here.
    ground.sql(&format!(
        "INSERT INTO schema_step VALUES ({}, 'quantum_sims', 1)",
        STEPS.len() + 1
    ));
    let e = ground.open().await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Broken(why) if why.contains("\"quantum_sims\"") && why.contains("newer")),
        "{e}"
    );
}

async fn programs_that_start_together_agree(ground: Ground) {
    let ground = Arc::new(ground);
    let starts: Vec<_> = (0..6)
        .map(|n| {
            let ground = ground.clone();
            tokio::spawn(async move {
                let store = ground.open().await.unwrap();
                store
                    .put_subscriber(&subscriber(&format!("10000{n}")), TokenChange::Keep)
                    .await
                    .unwrap();
                store.token_key().digest(b"the same").0
            })
        })
        .collect();
    let mut digests = vec![];
    for start in starts {
        digests.push(start.await.unwrap());
    }
    assert!(digests.iter().all(|d| *d == digests[0]), "one store, one key");
    assert_eq!(
        ground
            .open()
            .await
            .unwrap()
            .subscribers(None, 10)
            .await
            .unwrap()
            .items
            .len(),
        6
    );
}

async fn from_several_runtimes(ground: Ground) {
    let store = Arc::new(ground.open().await.unwrap());
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let store = store.clone();
            std::thread::spawn(move || {
                let one = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                one.block_on(async {
                    for k in 0..10 {
                        let imsi = format!("1000{n}{k}");
                        store
                            .put_subscriber(&subscriber(&imsi), TokenChange::Keep)
                            .await
                            .unwrap();
                        assert!(store.subscriber(&imsi.parse().unwrap()).await.unwrap().is_some());
                    }
                });
                // The runtime ends here; what others ask goes on.
            })
        })
        .collect();
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|t| t.join().unwrap()))
        .await
        .unwrap();
    assert_eq!(store.subscribers(None, 100).await.unwrap().items.len(), 30);
}
