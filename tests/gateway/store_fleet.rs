//! A large fleet: what reading it again costs, and what it takes of memory.

use std::time::Duration;

use onyx::clock::Clock;
use onyx::gateway::Config;
use onyx::gateway::book::Book;
use onyx::gateway::store::TokenChange;
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
