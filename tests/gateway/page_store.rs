//! The admin page's data when subscribers are in a store, SQLite or PostgreSQL: real devices through a real gateway, and a fleet beside them.
//! Sources are 127.0.0.11 and 127.0.0.22, as on every stage.

use std::net::SocketAddr;
use std::process::Command;

use onyx::gateway::store::{SubscriberRecord, TokenChange};
use onyx::mqtt::Connect;
use serde_json::{Value, json};

use crate::seeing::{TOKEN, ask};
use crate::stage::{A, B, IMSI_A, IMSI_B, IMSI_T, Running, Stage, client_id, name};
use crate::store::{Ground, runtime, subscriber};

both!(the_page_shows_devices_of_a_store);

const FLEET: usize = 120;

fn get(api: SocketAddr, path: &str, want: u16) -> Value {
    let bearer = format!("Bearer {TOKEN}");
    let (status, _, body) = ask(api, &format!("/v1/gateway/{path}"), &[("Authorization", &bearer)]);
    assert_eq!(status, want, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
}

fn imsis(answer: &Value) -> Vec<&str> {
    let list = answer["devices"].as_array().unwrap();
    list.iter().map(|d| d["imsi"].as_str().unwrap()).collect()
}

/// A gateway in files moves into the store, and the fleet is added to it.
async fn filled(stage: &Stage, ground: &Ground) -> String {
    let dir = ground.dir.path();
    let token = dir.join("api.token");
    onyx::files::write_atomically(&token, TOKEN.as_bytes(), 0o600).unwrap();
    let config = format!(
        "[listen]\naddress = '127.0.0.1:0'\n{}[status]\nsocket = 'status.sock'\n[api]\naddress = '127.0.0.1:0'\ntoken_file = 'api.token'\n",
        ground.config_text()
    );
    std::fs::write(dir.join("gateway.toml"), &config).unwrap();
    std::fs::write(stage.path("old.toml"), stage.config_text(stage.upstream(), "")).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_onyx-gateway"))
        .arg("import")
        .arg(stage.path("old.toml"))
        .arg("--config")
        .arg(dir.join("gateway.toml"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let store = ground.open().await.unwrap();
    for n in 0..FLEET {
        let record = SubscriberRecord {
            name: format!("Pump {n:03}"),
            enabled: n > 0,
            iccid: format!("8942310022000{n:06}").parse().ok(),
            ..subscriber(&format!("4401000000{n:05}"))
        };
        store.put_subscriber(&record, TokenChange::Keep).await.unwrap();
    }
    let seen: Vec<_> = (0..5_u64)
        .map(|n| {
            let imsi = format!("4401000000{n:05}").parse().unwrap();
            (imsi, std::time::Duration::from_secs(1_700_000_000 + n))
        })
        .collect();
    store.seen(&seen, "another gateway").await.unwrap();
    config
}

async fn the_page_shows_devices_of_a_store(ground: Ground) {
    let stage = tokio::task::block_in_place(Stage::new);
    let config = filled(&stage, &ground).await;
    tokio::task::block_in_place(|| looks(&ground, &config));
}

fn looks(ground: &Ground, config: &str) {
    let gateway = Running::start(config, ground.dir.path());
    let api = gateway.api.unwrap();
    let all = FLEET + 3;
    let mut device = gateway.device(A, &Connect::new(client_id(IMSI_A), true, 60));
    assert!(device.publish(1, false, "t", b"0123456789"));
    assert!(device.next().is_some());

    let status = get(api, "status", 200);
    assert_eq!(
        (&status["open"], &status["store"]["errors"]),
        (&json!(1), &json!(0)),
        "{status:#}"
    );
    // Who is online comes first, then who was seen last, then the others by IMSI; each page follows the one before.
    let first = get(api, "devices?limit=10", 200);
    assert_eq!(
        (&first["total"], &first["online"]),
        (&json!(all), &json!(1)),
        "{first:#}"
    );
    assert_eq!(first["problem"], Value::Null);
    let line = &first["devices"][0];
    assert_eq!(
        (&line["imsi"], &line["online"], &line["client_id"], &line["credential"]),
        (
            &json!(IMSI_A),
            &json!(true),
            &json!(client_id(IMSI_A)),
            &json!(name(IMSI_A))
        )
    );
    let fleet = |n: usize| format!("4401000000{n:05}");
    let mut want = vec![IMSI_A.to_owned()];
    want.extend((0..5).rev().map(fleet));
    want.extend([IMSI_B, IMSI_T].map(str::to_owned));
    want.extend((5..FLEET).map(fleet));
    let mut shown = Vec::new();
    for offset in (0..all).step_by(10) {
        let page = get(api, &format!("devices?limit=10&offset={offset}"), 200);
        shown.extend(imsis(&page).into_iter().map(str::to_owned));
        assert_eq!(page["total"], json!(all));
    }
    assert_eq!(shown, want);
    let seen = &first["devices"][1];
    assert_eq!(
        (&seen["last_gateway"], &seen["last_seen"]),
        (&json!("another gateway"), &json!(1_700_000_004.0))
    );

    // By state.
    let online = get(api, "devices?state=online", 200);
    assert_eq!((imsis(&online), &online["total"]), (vec![IMSI_A], &json!(1)));
    let offline = get(api, "devices?state=offline&limit=3", 200);
    assert_eq!(
        (imsis(&offline)[0], &offline["total"], &offline["online"]),
        (fleet(4).as_str(), &json!(all - 1), &json!(0))
    );

    // What is typed: how an IMSI, name or SIM id begins, or words about who is online.
    for (typed, found) in [
        (IMSI_B, vec![IMSI_B.to_owned()]),
        ("PUMP%200", (0..100).map(fleet).collect()),
        ("pump%20119", vec![fleet(119)]),
        ("8942310022000000007", vec![fleet(7)]),
        ("myclient%20127.0.0.11", vec![IMSI_A.to_owned()]),
        ("no%20such", vec![]),
    ] {
        let page = get(api, &format!("devices?limit=500&q={typed}"), 200);
        let mut got = imsis(&page);
        got.sort_unstable();
        assert_eq!(
            (got, &page["total"]),
            (found.iter().map(String::as_str).collect(), &json!(found.len())),
            "{typed}"
        );
    }
    let page = get(api, "devices?q=pump&limit=3&offset=118", 200);
    assert_eq!((imsis(&page).len(), &page["total"]), (2, &json!(FLEET)));
    let page = get(api, "devices?q=295&state=online", 200);
    assert_eq!(imsis(&page), [IMSI_A]);
    let refused = get(api, "devices?offset=10001", 400);
    assert!(refused["message"].as_str().unwrap().contains("search"), "{refused}");

    // One device, with its timeline; a stranger is none.
    let one = get(api, &format!("device/{IMSI_A}"), 200);
    assert_eq!((&one["online"], &one["connections"]), (&json!(true), &json!(1)));
    assert_eq!(one["events"][0]["what"], "connected", "{one:#}");
    let off = get(api, &format!("device/{}", fleet(0)), 200);
    assert_eq!((&off["enabled"], &off["name"]), (&json!(false), &json!("Pump 000")));
    get(api, "device/999999999999999", 404);

    // A change by another program, and a device that comes: both are there at the next question.
    runtime().block_on(async {
        let store = ground.open().await.unwrap();
        let imsi = IMSI_B.parse().unwrap();
        let changed = store.change_subscriber(&imsi, |record| {
            record.name = "Renamed".to_owned();
            Ok(TokenChange::Keep)
        });
        changed.await.unwrap();
    });
    let other = gateway.device(B, &Connect::new("second", true, 60));
    let page = get(api, "devices?limit=2", 200);
    let mut got = imsis(&page);
    got.sort_unstable();
    assert_eq!((got, &page["online"]), (vec![IMSI_A, IMSI_B], &json!(2)));
    assert_eq!(imsis(&get(api, "devices?q=renamed", 200)), [IMSI_B]);
    drop(other);

    let history = get(api, "history?range=hour", 200);
    assert!(!history["points"].as_array().unwrap().is_empty());
    // Certificates of the store, which end in 20 days.
    let certificates = get(api, "certificates", 200);
    assert_eq!(
        (&certificates["total"], &certificates["problem"]),
        (&json!(3), &Value::Null),
        "{certificates:#}"
    );
    assert_eq!(certificates["certificates"][0]["class"], "7-29");

    // A damaged row hides no other, and the page says that it is there.
    ground.sql(&format!(
        "UPDATE subscriber SET imei = 'nonsense' WHERE imsi = '{}'",
        fleet(3)
    ));
    let page = get(api, "devices?limit=10", 200);
    assert_eq!(imsis(&page).len(), 9);
    assert!(page["problem"].as_str().unwrap().contains(&fleet(3)), "{page:#}");
    drop(device);
}
