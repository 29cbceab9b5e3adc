//! A gateway reads what has changed, and everything where that cannot be told: what it knows is always what the store has.

use std::sync::Arc;

use onyx::clock::Clock;
use onyx::gateway::Config;
use onyx::gateway::book::Book;
use onyx::gateway::credential::CredentialId;
use onyx::gateway::store::{Edition, News, Store, SubscriberRecord, TokenChange};
use onyx::gateway::subscriber::Caller;
use serde_json::json;
use zeroize::Zeroizing;

use crate::certs::{Authority, Kind};
use crate::store::{Ground, runtime, set, subscriber, yes};

both!(
    a_change_is_told_alone,
    what_cannot_be_told_is_read_whole,
    a_gateway_knows_what_the_store_has,
    a_gateway_follows_a_store_that_was_restored,
    so_does_one_beside_many_writers,
);

async fn book(ground: &Ground) -> Book {
    let config = Config::from_text(&ground.dir.path().join("gateway.toml"), ground.config_text()).unwrap();
    Book::open(&config, &Clock::new()).await.unwrap()
}

/// All that a connect may depend on.
async fn known(book: &Book) -> Vec<String> {
    let view = book.view().await;
    let mut all: Vec<String> = view.directory.iter().map(|k| format!("{k:?}")).collect();
    all.extend(view.groups.iter().map(|(id, g)| format!("{id} {g:?}")));
    all.extend(view.broken.iter().map(|(id, why)| format!("{id} {why}")));
    all.sort();
    all
}

async fn edition(store: &Store) -> Edition {
    store.snapshot().await.unwrap().edition
}

/// What a caller from this address is, if anybody.
async fn at(book: &Book, address: &str) -> Option<String> {
    let view = book.view().await;
    let caller = Caller {
        address: address.parse().unwrap(),
        password: None,
        client_id: "x",
        certificate: None,
    };
    view.directory
        .find(&caller)
        .ok()
        .map(|(k, _)| k.subscriber.imsi.to_string())
}

fn from(imsi: &str, source: &str) -> SubscriberRecord {
    SubscriberRecord {
        source: Some(source.parse().unwrap()),
        ..subscriber(imsi)
    }
}

async fn a_change_is_told_alone(ground: Ground) {
    let store = ground.open().await.unwrap();
    for n in 1..=5 {
        store
            .put_subscriber(&subscriber(&format!("10000{n}")), TokenChange::Keep)
            .await
            .unwrap();
    }
    let since = edition(&store).await;
    assert!(since.mark.is_some());
    let told = async |since| match store.news(since, false).await.unwrap() {
        News::Changes(changes) => changes,
        News::All(_) | News::Anew(_) => panic!("everything was read"),
    };
    let nothing = told(since).await;
    assert_eq!((nothing.edition, nothing.about.len()), (since, 0));
    store
        .put_subscriber(&from("100002", "10.0.0.2"), TokenChange::Keep)
        .await
        .unwrap();
    store
        .put_subscriber(&from("100002", "10.0.0.3"), TokenChange::Keep)
        .await
        .unwrap();
    store.delete_subscriber(&"100004".parse().unwrap()).await.unwrap();
    let changes = told(since).await;
    let about: Vec<_> = changes.about.iter().map(|i| i.as_str()).collect();
    assert_eq!(about, ["100002", "100004"]);
    assert_eq!(changes.subscribers.len(), 1);
    assert_eq!(changes.subscribers[0].0.source, Some("10.0.0.3".parse().unwrap()));
    assert_eq!(changes.edition, edition(&store).await);
    assert!(changes.groups.is_none());
    // A group: all groups, and no subscriber.
    store.put_group(&"fleet".parse().unwrap(), "").await.unwrap();
    let of_group = told(changes.edition).await;
    assert_eq!((of_group.about.len(), of_group.groups.unwrap().len()), (0, 1));
}

async fn what_cannot_be_told_is_read_whole(ground: Ground) {
    let store = ground.open().await.unwrap();
    let put = async |n: u32| {
        store
            .put_subscriber(&subscriber(&format!("{n}")), TokenChange::Keep)
            .await
            .unwrap();
    };
    // Everything is read; whether what was known before still says something is another question.
    let whole = async |since, anew: bool, why: &str| {
        let news = store.news(since, false).await.unwrap();
        match (anew, &news) {
            (false, News::All(_)) | (true, News::Anew(_)) => {}
            _ => panic!("{why}: {news:?}"),
        }
    };
    put(100_001).await;
    // Nothing is known of where it came from.
    let since = edition(&store).await;
    whole(Edition { mark: None, ..since }, true, "no mark").await;
    assert!(
        matches!(store.news(since, true).await.unwrap(), News::All(_)),
        "as wanted"
    );
    // An older program, or a hand, changed something and noted nothing: before, between, and at the end.
    ground.sql("UPDATE store_state SET generation = generation + 1");
    whole(since, false, "the newest is not noted").await;
    put(100_002).await;
    whole(since, false, "one between is not noted").await;
    // A backup was brought back and went another way: the same numbers, other marks; or fewer of them.
    let since = edition(&store).await;
    ground.sql("UPDATE store_change SET mark = mark + 1");
    whole(since, true, "another history").await;
    ground.sql("UPDATE store_change SET mark = mark - 1");
    assert!(matches!(store.news(since, false).await.unwrap(), News::Changes(_)));
    ground.sql("UPDATE store_state SET generation = generation - 1");
    whole(since, true, "the number went back").await;
    ground.sql(FORGET);
    whole(since, true, "the past").await;
    put(100_003).await;
    whole(since, true, "the past went another way").await;
    // A damaged row among the changes: reading everything tells of it.
    let since = edition(&store).await;
    put(100_004).await;
    ground.sql("UPDATE subscriber SET imei = 'nonsense' WHERE imsi = '100004'");
    whole(since, false, "a damaged row").await;
    store.delete_subscriber(&"100004".parse().unwrap()).await.unwrap();
    // More than are kept.
    let since = edition(&store).await;
    let first = since.generation + 1;
    ground.sql(&format!("DELETE FROM store_change WHERE generation < {first}"));
    put(100_005).await;
    whole(since, true, "it is not noted any more").await;
}

/// As a backup has it: no note of what came later.
const FORGET: &str = "DELETE FROM store_change WHERE generation > (SELECT generation FROM store_state)";

async fn a_gateway_follows_a_store_that_was_restored(ground: Ground) {
    let store = ground.open().await.unwrap();
    for n in 1..=3 {
        store
            .put_subscriber(&from(&format!("10000{n}"), &format!("10.0.0.{n}")), TokenChange::Keep)
            .await
            .unwrap();
    }
    let id: CredentialId = "c".parse().unwrap();
    let ca = Authority::new(&ground.dir.path().join("ca"));
    ca.device(Kind::Ec, "c", "c", ground.dir.path());
    let pem = |suffix: &str| std::fs::read_to_string(ground.dir.path().join(format!("c.{suffix}"))).unwrap();
    let secret = json!({"cert": pem("pem"), "key": pem("key")}).to_string();
    store
        .put_credential(&id, "x509", "", Zeroizing::new(secret), None, true)
        .await
        .unwrap();
    let book = book(&ground).await;
    let version = async || book.credential(&id).await.unwrap().unwrap().version.clone();
    let here = async |n: u8| at(&book, &format!("10.0.0.{n}")).await.is_some();
    assert_eq!((here(1).await, here(2).await, here(3).await), (true, true, true));
    let first = version().await;
    // What changes here changes no version of what stayed.
    store.delete_subscriber(&"100001".parse().unwrap()).await.unwrap();
    assert!(!here(1).await);
    assert_eq!(version().await, first);
    // A backup from before the last change; nobody has written since.
    ground.sql("UPDATE store_state SET generation = generation - 1");
    ground.sql(FORGET);
    ground.sql("DELETE FROM subscriber WHERE imsi = '100002'");
    assert_eq!((here(2).await, here(3).await), (false, true));
    // The same version may be another state of it now: nothing that goes by versions may take one for the other.
    let second = version().await;
    assert_ne!(second, first);
    // Another history under the same number.
    ground.sql("DELETE FROM subscriber WHERE imsi = '100003'; UPDATE store_change SET mark = mark + 1");
    assert!(!here(3).await);
    assert!(![first, second].contains(&version().await));
}

async fn a_gateway_knows_what_the_store_has(ground: Ground) {
    let store = ground.open().await.unwrap();
    let group = "fleet".parse().unwrap();
    store.put_group(&group, "").await.unwrap();
    store
        .put_subscriber(&from("100001", "10.0.0.1"), TokenChange::Keep)
        .await
        .unwrap();
    let old = book(&ground).await;
    let same = async || assert_eq!(known(&old).await, known(&book(&ground).await).await);
    assert_eq!(at(&old, "10.0.0.1").await.as_deref(), Some("100001"));
    // Added, changed, switched off, given away, removed: each is known at the next connect.
    store
        .put_subscriber(&from("100002", "10.0.0.2"), TokenChange::Keep)
        .await
        .unwrap();
    assert_eq!(at(&old, "10.0.0.2").await.as_deref(), Some("100002"));
    same().await;
    store
        .put_subscriber(&from("100001", "10.0.0.9"), set("the token of number one"))
        .await
        .unwrap();
    assert_eq!((at(&old, "10.0.0.1").await, at(&old, "10.0.0.9").await), (None, None));
    store
        .put_subscriber(&from("100003", "10.0.0.1"), TokenChange::Keep)
        .await
        .unwrap();
    assert_eq!(at(&old, "10.0.0.1").await.as_deref(), Some("100003"));
    same().await;
    let third = "100003".parse().unwrap();
    let off = store.change_subscriber(&third, |record| {
        record.enabled = false;
        Ok(TokenChange::Keep)
    });
    off.await.unwrap();
    assert_eq!(at(&old, "10.0.0.1").await, None);
    store.delete_subscriber(&"100002".parse().unwrap()).await.unwrap();
    assert_eq!(at(&old, "10.0.0.2").await, None);
    same().await;
    // Groups come, change and go.
    let before = old.view().await;
    assert!(before.group(&group).is_none() && before.why_no_group(&group).contains("MQTT"));
    let entry = vec![(
        "mqtt://beam.soracom.io:1883".to_owned(),
        json!({"destination": "mqtts://localhost:8883"}),
    )];
    store
        .put_configuration(&group, "SoracomBeam", entry, yes())
        .await
        .unwrap();
    assert!(old.view().await.group(&group).is_some());
    same().await;
    store.delete_group(&group).await.unwrap();
    assert!(old.view().await.group(&group).is_none());
    same().await;
    // What was damaged and is mended is not told as damaged any more.
    ground.sql("UPDATE subscriber SET imei = 'nonsense' WHERE imsi = '100003'; UPDATE store_state SET generation = generation + 1");
    old.view().await;
    assert_eq!(old.health().unwrap().damaged.len(), 1);
    store
        .put_subscriber(&from("100003", "10.0.0.1"), TokenChange::Keep)
        .await
        .unwrap();
    assert_eq!(at(&old, "10.0.0.1").await.as_deref(), Some("100003"));
    assert_eq!(old.health().unwrap().damaged.len(), 0);
    same().await;
}

async fn so_does_one_beside_many_writers(ground: Ground) {
    let store = Arc::new(ground.open().await.unwrap());
    let other = Arc::new(ground.open().await.unwrap());
    let old = Arc::new(book(&ground).await);
    let writers: Vec<_> = (0..4_u32)
        .map(|n| {
            let (store, old) = (if n % 2 == 0 { store.clone() } else { other.clone() }, old.clone());
            tokio::spawn(async move {
                for round in 0..10_u32 {
                    let imsi = format!("{}", 100_000 + n * 100 + round % 4);
                    let source = format!("10.0.{n}.{round}");
                    store
                        .put_subscriber(&from(&imsi, &source), TokenChange::Keep)
                        .await
                        .unwrap();
                    // Whoever comes after a change finds it, whatever else is being written.
                    assert_eq!(at(&old, &source).await.as_deref(), Some(imsi.as_str()));
                    if round % 3 == 0 {
                        store.delete_subscriber(&imsi.parse().unwrap()).await.unwrap();
                        assert_eq!(at(&old, &source).await, None);
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(known(&old).await, known(&book(&ground).await).await);
}
