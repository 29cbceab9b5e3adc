//! A large fleet: what reading it again costs, and what it takes of memory.

use std::time::Duration;

use onyx::clock::Clock;
use onyx::gateway::Config;
use onyx::gateway::book::Book;
use onyx::gateway::store::{Filter, Named, SEARCH_MAX, Store, TokenChange};
use onyx::gateway::subscriber::{By, Caller};

use crate::store::{Ground, runtime, subscriber};

const FLEET: usize = 100_000;

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Half known by its source (10.0.0.0 and on), half by a token.
fn a_fleet(ground: &Ground, numbers: &str, address: &str, digest: &str) {
    ground.sql(&format!(
        "{numbers} INSERT INTO subscriber (imsi, imei_lock, enabled, source_address, source_length, token, name) SELECT \
         CAST(440100000000000 + n AS TEXT), 0, 1, CASE WHEN n % 2 = 0 THEN {address} END, CASE WHEN n % 2 = 0 THEN 32 END, \
         CASE WHEN n % 2 = 1 THEN {digest} END, 'device ' || n FROM fleet; \
         UPDATE store_state SET generation = generation + 1"
    ));
}

/// One page of what an operator looks for, against reading all pages, which is what finding it took before the database did it.
async fn searched(store: &Store, clock: &Clock, what: &str) {
    let mut before = clock.monotonic();
    let mut timed = |name: &str, rows: usize, want: usize| {
        let now = clock.monotonic();
        println!("{what}: {name}: {:?}", now - before);
        assert_eq!(rows, want, "{name}");
        before = clock.monotonic();
    };
    let (mut after, mut count) = (None, 0);
    loop {
        let page = store.subscribers(after.as_deref(), 1_000).await.unwrap();
        (count, after) = (count + page.items.len(), page.next);
        if after.is_none() {
            break;
        }
    }
    timed("all pages of 1,000", count, FLEET + 1);
    // In the middle of the fleet, at its end, nowhere, and everywhere.
    for (name, want) in [
        (Named::Is("device 50000".to_owned()), 1),
        (Named::Begins("device 9999".to_owned()), 11),
        (Named::Begins("nothing".to_owned()), 0),
        (Named::Begins("device".to_owned()), 100),
    ] {
        let label = format!("{name:?}");
        let wanted = Filter {
            name: Some(name),
            ..Filter::default()
        };
        let page = store.find_subscribers(&wanted, None, 100).await.unwrap();
        timed(&label, page.items.len(), want);
    }
    for (typed, want) in [
        ("44010000009999", 10),
        ("DEVICE 9999", 11),
        ("4", SEARCH_MAX),
        ("zzz", 0),
    ] {
        let (page, _) = store.search_subscribers(typed, SEARCH_MAX).await.unwrap();
        timed(&format!("typed {typed:?}"), page.items.len(), want);
    }
    timed("those seen last", store.latest_subscribers(50).await.unwrap().len(), 50);
}

async fn measure(ground: &Ground, what: &str, fill: impl Fn(&Ground)) {
    let store = ground.open().await.unwrap();
    fill(ground);
    let text = ground.config_text();
    let config = Config::from_text(&ground.dir.path().join("gateway.toml"), text).unwrap_or_else(|e| panic!("{e}"));
    let clock = Clock::new();
    let empty = resident();
    let before = clock.monotonic();
    let book = Book::open(&config, &clock).await.unwrap();
    let opened = clock.monotonic() - before;
    let memory = resident().saturating_sub(empty);
    assert_eq!(book.view().await.directory.len(), FLEET);
    // A change, and many who connect at once: one reads it, and none misses it.
    let mut new = subscriber("999999000000001");
    new.source = Some("192.0.2.7".parse().unwrap());
    store.put_subscriber(&new, TokenChange::Keep).await.unwrap();
    let book = std::sync::Arc::new(book);
    let before = clock.monotonic();
    let connects: Vec<_> = (0..50)
        .map(|_| {
            let book = book.clone();
            tokio::spawn(async move {
                let view = book.view().await;
                let caller = Caller {
                    address: "192.0.2.7".parse().unwrap(),
                    password: None,
                    client_id: "x",
                    certificate: None,
                };
                matches!(view.directory.find(&caller), Ok((k, By::Source)) if k.subscriber.imsi.as_str() == "999999000000001")
            })
        })
        .collect();
    for connect in connects {
        assert!(connect.await.unwrap());
    }
    let refreshed = clock.monotonic() - before;
    let before = clock.monotonic();
    for _ in 0..100 {
        book.view().await;
    }
    let question = (clock.monotonic() - before) / 100;
    // The same change, told, and one that cannot be told (made by hand): the one costs what it is about, the other everything.
    let again = async |how: &str| {
        let before = clock.monotonic();
        let view = book.view().await;
        println!("{what}: a change that is {how}: {:?}", clock.monotonic() - before);
        view
    };
    for n in 0..3 {
        new.name = format!("renamed {n}");
        new.enabled = n % 2 == 0;
        store.put_subscriber(&new, TokenChange::Keep).await.unwrap();
        let view = again("told").await;
        assert_eq!(view.directory.len(), FLEET + 1);
        assert_eq!(view.directory.of_imsi(&new.imsi).unwrap().enabled, new.enabled);
    }
    ground.sql("UPDATE store_state SET generation = generation + 1");
    assert_eq!(again("not told").await.directory.len(), FLEET + 1);
    searched(&store, &clock, what).await;
    println!(
        "{what}: {FLEET} subscribers: opened in {opened:?}, read again in {refreshed:?} for 50 connects, {} MiB; a question {question:?}",
        memory / 1_024
    );
    // A debug build on a busy machine; what matters is that it is within the time that such a reading may take (6 x store.timeout).
    assert!(refreshed < Duration::from_secs(30), "{refreshed:?}");
    assert!(memory < 200 * 1_024, "{memory} KiB");
    assert!(question < Duration::from_millis(50), "{question:?}");
}

#[test]
fn sqlite() {
    runtime().block_on(measure(&Ground::sqlite(), "SQLite", |ground| {
        let numbers =
            format!("WITH RECURSIVE fleet (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM fleet WHERE n < {FLEET} - 1)");
        a_fleet(ground, &numbers, "unhex(printf('0A%06X', n))", "randomblob(32)");
    }));
}

#[test]
fn postgres() {
    runtime().block_on(measure(&Ground::postgres(), "PostgreSQL", |ground| {
        let numbers = format!("WITH fleet (n) AS (SELECT generate_series(0, {FLEET} - 1))");
        let address = "decode('0A' || lpad(to_hex(n), 6, '0'), 'hex')";
        a_fleet(ground, &numbers, address, "sha256(convert_to(CAST(n AS TEXT), 'UTF8'))");
    }));
}
