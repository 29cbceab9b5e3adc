//! PostgreSQL as a server: TLS, restarts, a server that hangs, a gateway that hangs.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onyx::clock::Clock;
use onyx::gateway::store::{Store, StoreError, TokenChange};

use crate::certs::Authority;
use crate::postgres::Postgres;
use crate::store::{runtime, settings, subscriber};

#[test]
fn tls_is_verified_and_the_password_is_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(&dir.path().join("ca"));
    let other = Authority::new(&dir.path().join("other"));
    let (certificate, key) = authority.server();
    let server = Postgres::start(Some((&certificate, &key)));
    let database = server.database();
    let url = dir.path().join("url");
    let with = |options: &str, ca: &std::path::Path| {
        onyx::files::write_atomically(&url, server.tcp_url(&database, options).as_bytes(), 0o600).unwrap();
        let text = format!(
            "database_file = 'url'\nkey_file = 'store.key'\nca_file = '{}'\n",
            ca.display()
        );
        settings(dir.path(), &text)
    };
    runtime().block_on(async {
        let clock = Clock::new();
        let right = with("?sslmode=verify-full", &authority.file("root.pem"));
        let store = Store::open(&right, &clock).await.unwrap();
        store.put_subscriber(&subscriber("100001"), TokenChange::Keep).await.unwrap();
        let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'onyx-gateway'";
        assert_eq!(server.sql(&database, encrypted).trim(), "t");
        let e = Store::open(&with("?sslmode=require", &other.file("root.pem")), &clock).await.unwrap_err();
        assert!(matches!(&e, StoreError::Unreachable(why) if why.contains("certificate")), "{e}");
        let wrong = with("?sslmode=require", &authority.file("root.pem"));
        let text = std::fs::read_to_string(&url).unwrap().replace("correct", "SECRET");
        onyx::files::write_atomically(&url, text.as_bytes(), 0o600).unwrap();
        let e = Store::open(&wrong, &clock).await.unwrap_err().to_string();
        assert!(e.contains("password authentication failed") && !e.contains("SECRET"), "{e}");
    });
}

#[test]
fn a_server_that_was_restarted_is_found_again() {
    let server = Postgres::start(None);
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "database = '{}'\nkey_file = 'store.key'\nconnections = 3\n",
        server.url(&server.database())
    );
    runtime().block_on(async {
        let store = Arc::new(Store::open(&settings(dir.path(), &text), &Clock::new()).await.unwrap());
        // All connections are in use once, so that all of them are dead afterwards.
        let many = |first: u32| {
            let store = store.clone();
            async move {
                let tasks: Vec<_> = (first..first + 12)
                    .map(|n| {
                        let store = store.clone();
                        tokio::spawn(async move {
                            store
                                .put_subscriber(&subscriber(&format!("{n}")), TokenChange::Keep)
                                .await
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap().unwrap();
                }
            }
        };
        many(100_000).await;
        for (round, how) in ["fast", "immediate"].into_iter().enumerate() {
            server.restart(how);
            many(200_000 + 100 * u32::try_from(round).unwrap()).await;
        }
        assert_eq!(store.subscribers(None, 100).await.unwrap().items.len(), 36);
        server.stop();
        let e = store.generation().await.unwrap_err();
        assert!(matches!(e, StoreError::Unreachable(_)), "{e}");
        server.again();
        store.generation().await.unwrap();
    });
}

#[test]
fn a_server_that_hangs_costs_the_time_limit_and_no_more() {
    let server = Postgres::start(None);
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "database = '{}'\nkey_file = 'store.key'\nconnections = 2\ntimeout = '1s'\n",
        server.url(&server.database())
    );
    runtime().block_on(async {
        let clock = Clock::new();
        let store = Store::open(&settings(dir.path(), &text), &clock).await.unwrap();
        store.generation().await.unwrap();
        let all = server.processes();
        let signal = |s| all.iter().for_each(|p| kill(Pid::from_raw(*p), s).unwrap());
        signal(Signal::SIGSTOP);
        let before = clock.monotonic();
        let e = store.generation().await.unwrap_err();
        let took = clock.monotonic() - before;
        signal(Signal::SIGCONT);
        assert!(
            matches!(&e, StoreError::Unreachable(why) if why.contains("within 1 s")),
            "{e}"
        );
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_secs(5),
            "{took:?}"
        );
        store.generation().await.unwrap();
    });
}

#[test]
fn who_waits_for_another_writer_hears_of_it_in_time() {
    let server = Postgres::shared();
    let database = server.database();
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "database = '{}'\nkey_file = 'store.key'\ntimeout = '1s'\n",
        server.url(&database)
    );
    runtime().block_on(async {
        let store = Store::open(&settings(dir.path(), &text), &Clock::new()).await.unwrap();
        store.generation().await.unwrap();
        // As a gateway does that froze: the lock of the generation, and then nothing for a while.
        let held = "BEGIN; UPDATE store_state SET generation = generation;\n\\! sleep 2\nCOMMIT;";
        let freeze = std::thread::spawn(move || server.sql(&database, held));
        // Held: told in time, and nothing is lost when the lock is free again.
        let mut refused = 0;
        let mut n = 0;
        while refused == 0 && n < 1_000 {
            n += 1;
            match store
                .put_subscriber(&subscriber(&format!("{}", 100_000 + n)), TokenChange::Keep)
                .await
            {
                Ok(()) => {}
                Err(StoreError::Unreachable(why)) => {
                    assert!(why.contains("not known"), "{why}");
                    refused += 1;
                }
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!(refused, 1);
        freeze.join().unwrap();
        store
            .put_subscriber(&subscriber("200000"), TokenChange::Keep)
            .await
            .unwrap();
    });
}
