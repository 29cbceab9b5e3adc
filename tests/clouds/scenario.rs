//! Scenario files with the program itself.

use crate::stage::{DEVICE, Stage, said};
use crate::tools::{command, fail, output, succeed};

async fn with(text: &str) -> Stage {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Stage::start(&["--scenario", file.path().to_str().unwrap()]).await
}

#[tokio::test]
async fn events_bring_faults_and_end_them() {
    let mut stage = with(&format!(
        "[[event]]\nwhen = {{ messages = 2, client = '{DEVICE}' }}\ncloud = 'event-grid'\nfault = 'refuse-3'\n\
         [[event]]\nwhen = {{ refusals = 2 }}\nclear = 'refuse-3'\n"
    ))
    .await;
    for _ in 0..2 {
        succeed(&mut stage.publisher()).await;
    }
    stage.until("/faults", |v| v["event-grid"].is_array()).await;
    for _ in 0..2 {
        fail(&mut stage.publisher()).await;
        stage.refused("event-grid").await;
    }
    stage.until("/faults", |v| v.get("event-grid").is_none()).await;
    succeed(&mut stage.publisher()).await;
}

#[tokio::test]
async fn time_brings_restarts_clocks_and_cuts() {
    let mut stage = with(&format!(
        "[[event]]\nat = '1ms'\ncloud = 'iot-hub'\nclock = '+400d'\n\
         [[event]]\nwhen = {{ subscribes = 1 }}\nclient = '{DEVICE}'\ncut = true\n\
         [[event]]\nwhen = {{ closes = 1, client = '{DEVICE}' }}\ncloud = 'event-grid'\nrestart = 'forget-sessions'\nclosed_for = '1h'\n"
    ))
    .await;
    stage.until("/status", |v| v["clocks"][0]["cloud"] == "iot-hub").await;
    let _subscriber = crate::tools::spawn(&mut stage.mosquitto("mosquitto_sub"));
    let closed = stage.closed("event-grid").await;
    assert_eq!(
        (&closed["client_id"], &closed["why"]),
        (&DEVICE.into(), &"cut by hand".into())
    );
    let restarts = |e: &serde_json::Value| e["event"] == "note" && e["text"].as_str().unwrap().starts_with("restarts");
    stage.event(restarts).await;
    loop {
        let out = output(&mut stage.publisher()).await;
        assert!(!out.status.success());
        if said(&out).to_lowercase().contains("refused") {
            break;
        }
    }
}

#[tokio::test]
async fn mistakes_come_all_at_once_with_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    std::fs::write(
        &file,
        "[[event]]\nat = 'soon'\nfault = 'explode'\n[[event]]\nat = '1s'\n",
    )
    .unwrap();
    let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
    c.args(["clouds", "--dir"]).arg(dir.path()).arg("--scenario").arg(&file);
    let out = output(&mut c).await;
    let text = said(&out);
    assert!(!out.status.success());
    for place in ["wrong.toml:2:6", "wrong.toml:3:9", "wrong.toml:4:1", "3 mistakes"] {
        assert!(text.contains(place), "{place}: {text}");
    }
    let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
    let help = succeed(c.args(["clouds", "--help"])).await;
    assert!(
        help.contains("SCENARIO FILE") && help.contains("stall@client-hello"),
        "{help}"
    );
}
