//! A damaged row hides no other: lists give what can be read and name what cannot, by the store, the command line, the API and `check`.
//! Addresses 127.0.71.0/24.

use std::process::Command;

use onyx::clock::Clock;
use onyx::gateway::Config;
use onyx::gateway::book::Book;
use onyx::gateway::store::{Damaged, Store, TokenChange};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::stage::Running;
use crate::store::{Ground, runtime, subscriber, yes};

both!(lists_name_what_they_cannot_read, operators_see_the_others_and_are_told,);

/// Four subscribers, three groups and three credentials, of which one group, one credential and two subscribers are damaged afterwards.
async fn damaged(ground: &Ground) -> Store {
    let store = ground.open().await.unwrap();
    for n in 1..=4 {
        store
            .put_subscriber(&subscriber(&format!("29501234567890{n}")), TokenChange::Keep)
            .await
            .unwrap();
        if n < 4 {
            let id = format!("g{n}").parse().unwrap();
            store.put_group(&id, "").await.unwrap();
            let pairs = vec![("host".to_owned(), json!("localhost"))];
            store.put_configuration(&id, "Other", pairs, yes()).await.unwrap();
            store
                .put_credential(
                    &format!("c{n}").parse().unwrap(),
                    "x509",
                    "",
                    Zeroizing::new("SECRET".into()),
                    None,
                    true,
                )
                .await
                .unwrap();
        }
    }
    ground.sql("UPDATE subscriber SET imei = 'nonsense-imei' WHERE imsi = '295012345678902'");
    ground.sql("UPDATE subscriber SET imsi = 'nobody' WHERE imsi = '295012345678904'");
    ground.sql("UPDATE device_group SET sealed_configuration = (SELECT sealed_secret FROM credential WHERE id = 'c1') WHERE id = 'g2'");
    ground.sql(
        "UPDATE credential SET sealed_secret = (SELECT sealed_secret FROM credential WHERE id = 'c1') WHERE id = 'c2'",
    );
    ground.sql("UPDATE store_state SET generation = generation + 1");
    store
}

fn names(list: &[Damaged]) -> Vec<String> {
    list.iter().map(|d| format!("{} {}", d.what, d.id)).collect()
}

async fn lists_name_what_they_cannot_read(ground: Ground) {
    let store = damaged(&ground).await;
    let page = store.subscribers(None, 10).await.unwrap();
    let read: Vec<_> = page.items.iter().map(|s| s.imsi.as_str()).collect();
    assert_eq!(read, ["295012345678901", "295012345678903"]);
    assert_eq!(
        names(&page.damaged),
        ["subscriber 295012345678902", "subscriber nobody"]
    );
    assert!(
        page.damaged[0].why.contains("IMEI") && page.damaged[1].why.contains("IMSI"),
        "{page:?}"
    );
    assert!(!format!("{page:?}").contains("nonsense-imei"), "{page:?}");
    // Pages of one row go past them, and come to an end.
    let (mut after, mut seen) = (None, vec![]);
    for _ in 0..10 {
        let page = store.subscribers(after.as_deref(), 1).await.unwrap();
        assert!(page.items.len() + page.damaged.len() <= 1);
        seen.extend(page.items.iter().map(|s| s.imsi.to_string()));
        seen.extend(names(&page.damaged));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(
        seen,
        [
            "295012345678901",
            "subscriber 295012345678902",
            "295012345678903",
            "subscriber nobody"
        ]
    );
    assert_eq!(after, None);

    let groups = store.groups().await.unwrap();
    assert_eq!(
        groups.items.iter().map(|g| g.id.as_str()).collect::<Vec<_>>(),
        ["g1", "g3"]
    );
    assert_eq!(names(&groups.damaged), ["group g2"]);
    assert!(groups.damaged[0].why.contains("does not open"), "{groups:?}");
    let e = store.group(&"g2".parse().unwrap()).await.unwrap_err().to_string();
    assert!(e.contains("group g2"), "{e}");

    // A secret that does not open shows when secrets are opened.
    assert_eq!(store.credentials(None, 10).await.unwrap().items.len(), 3);
    let proven = store.proven_credentials(None, 10).await.unwrap();
    assert_eq!(
        (proven.items.len(), names(&proven.damaged)),
        (2, vec!["credential c2".to_owned()])
    );

    // Nobody who can be read is kept out, and no time of a last sight does either.
    store
        .seen(
            &[("295012345678903".parse().unwrap(), std::time::Duration::from_secs(9))],
            "g",
        )
        .await
        .unwrap();
    let whole = store.snapshot().await.unwrap();
    assert_eq!(
        (whole.subscribers.len(), whole.damaged.len(), whole.broken.len()),
        (2, 2, 1)
    );
    let text = ground.config_text();
    let config = Config::from_text(&ground.dir.path().join("gateway.toml"), text).unwrap();
    let book = Book::open(&config, &Clock::new()).await.unwrap();
    let health = book.health().unwrap();
    assert_eq!((health.subscribers, health.damaged.len()), (2, 2));
    let shown = health.json();
    assert_eq!(shown["damaged"], 2);
    assert!(
        shown["damaged_rows"][0].as_str().unwrap().contains("IMEI") && !shown.to_string().contains("295012345678902"),
        "who may ask the status socket is told no numbers: {shown}"
    );

    // What cannot be read can be removed, and is gone from the lists.
    store
        .delete_subscriber(&"295012345678902".parse().unwrap())
        .await
        .unwrap();
    store.delete_credential(&"c2".parse().unwrap()).await.unwrap();
    store.delete_group(&"g2".parse().unwrap()).await.unwrap();
    assert_eq!(
        names(&store.subscribers(None, 10).await.unwrap().damaged),
        ["subscriber nobody"]
    );
    assert!(store.groups().await.unwrap().damaged.is_empty());
    assert!(store.proven_credentials(None, 10).await.unwrap().damaged.is_empty());
}

async fn operators_see_the_others_and_are_told(ground: Ground) {
    drop(damaged(&ground).await);
    let dir = ground.dir.path().to_owned();
    let token = "api-token-0123456789abcdef";
    onyx::files::write_atomically(&dir.join("api.token"), token.as_bytes(), 0o600).unwrap();
    let config = format!(
        "[listen]\naddress = '127.0.71.1:0'\n{}[status]\nsocket = 'status.sock'\n[api]\naddress = '127.0.71.1:0'\ntoken_file = \
         'api.token'\n",
        ground.config_text()
    );
    std::fs::write(dir.join("gateway.toml"), &config).unwrap();
    tokio::task::spawn_blocking(move || {
        let run = |args: &[&str]| {
            let out = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
                .args(args)
                .args(["--config", "gateway.toml"])
                .current_dir(&dir)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
            (out.status.success(), text, out.stdout)
        };
        for (args, there, named, count) in [
            (
                &["subscriber", "list"][..],
                &["295012345678901", "295012345678903"][..],
                &["295012345678902", "nobody"][..],
                2,
            ),
            (&["group", "list"], &["g1", "g3"], &["g2"], 1),
            (&["credential", "list"], &["c1", "c3"], &["c2"], 1),
            (
                &["store", "info"],
                &["2 subscribers, 2 groups, 2 credentials"],
                &[
                    "subscriber 295012345678902",
                    "subscriber nobody",
                    "group g2",
                    "credential c2",
                ],
                4,
            ),
        ] {
            let (good, text, _) = run(args);
            assert!(!good, "a script hears of it: {args:?} {text}");
            for want in there {
                assert!(text.contains(want), "{args:?}: {want:?} is not in {text}");
            }
            for want in named {
                let line = text.lines().find(|l| l.starts_with("DAMAGED") && l.contains(want));
                assert!(line.is_some(), "{args:?}: {want:?} is not named in {text}");
            }
            assert!(text.contains(&format!("{count} damaged")), "{args:?}: {text}");
            assert!(!text.contains("SECRET") && !text.contains("nonsense-imei"), "{text}");
        }
        let (_, text, json) = run(&["subscriber", "list", "--json"]);
        let list: Value = serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(list.as_array().unwrap().len(), 4);
        assert_eq!(
            (&list[2]["imsi"], list[2]["damaged"].is_string()),
            (&json!("295012345678902"), true),
            "{list}"
        );
        let (good, text, _) = run(&["check"]);
        for want in [
            "subscriber 295012345678902",
            "subscriber nobody",
            "group g2",
            "credential c2",
        ] {
            assert!(
                !good
                    && text
                        .lines()
                        .any(|l| l.starts_with("ERROR   damaged:") && l.contains(want)),
                "{want:?} is not in {text}"
            );
        }
        let (good, _, export) = run(&["export"]);
        let export: Value = serde_json::from_slice(&export).unwrap();
        assert!(!good);
        assert_eq!(export["subscribers"].as_array().unwrap().len(), 2);
        assert_eq!(export["damaged"].as_array().unwrap().len(), 4, "{export}");

        // The same by the API of a running gateway.
        let gateway = Running::start(&config, &dir);
        let ask = |path: &str| {
            let out = Command::new("curl")
                .args([
                    "-s",
                    "-i",
                    "--max-time",
                    "20",
                    "-H",
                    &format!("X-Soracom-Token: {token}"),
                ])
                .arg(format!("http://{}{path}", gateway.api.unwrap()))
                .output()
                .unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{path}: {text}");
            (head.to_lowercase(), serde_json::from_str::<Value>(body).unwrap())
        };
        for (path, key, named, count) in [
            ("/v1/subscribers", "imsi", "295012345678902", 2),
            ("/v1/groups", "groupId", "g2", 1),
            ("/v1/credentials", "credentialsId", "c2", 1),
        ] {
            let (head, list) = ask(path);
            let list = list.as_array().unwrap();
            let row = list.iter().find(|i| i[key] == named).unwrap();
            assert!(row["damaged"].as_str().is_some_and(|why| !why.is_empty()), "{row}");
            assert_eq!(
                list.iter().filter(|i| i["damaged"].is_null()).count(),
                2,
                "{path}: {list:?}"
            );
            assert!(head.contains(&format!("x-onyx-damaged: {count}\r")), "{head}");
        }
    })
    .await
    .unwrap();
}
