//! What the AWS stand-in shares with Event Grid's: MQTT 5, kept messages, and rates, which it keeps in its own way.

use std::process::Stdio;

use onyx::bench::clouds::Cloud;

use crate::tools::{Bench, Lines, spawn, succeed};

const CLOUD: Cloud = Cloud::AwsIot;

#[tokio::test]
async fn mqtt_5_and_kept_messages() {
    let b = Bench::start(|_| {}).await;
    let client = |program: &str, name: &str| {
        let mut c = b.mosquitto(program, CLOUD, "localhost", name);
        c.args(["-V", "5", "-i", name]);
        c
    };
    let mut c = client("mosquitto_pub", "writer");
    c.args([
        "-t",
        "a/kept",
        "-q",
        "1",
        "-r",
        "-m",
        "kept",
        "-D",
        "publish",
        "user-property",
        "k",
        "v",
    ]);
    // Unlike Event Grid, AWS does not mind user properties on CONNECT.
    succeed(c.args(["-D", "connect", "user-property", "a", "b"])).await;
    let mut c = client("mosquitto_sub", "reader");
    let said = succeed(c.args(["-t", "a/+", "-C", "1", "-F", "%r %P %p"])).await;
    assert_eq!(said.trim(), "1 k:v kept");
}

#[tokio::test]
async fn more_than_a_hundred_messages_a_second_are_discarded_and_the_connection_stays() {
    let mut b = Bench::start(|_| {}).await;
    let mut c = b.mosquitto("mosquitto_pub", CLOUD, "localhost", "thing");
    c.args(["-i", "thing", "-t", "a", "-q", "0", "-l"]);
    let mut child = spawn(c.stdin(Stdio::piped()));
    let mut sub = b.mosquitto("mosquitto_sub", CLOUD, "localhost", "reader");
    let mut sub = spawn(sub.args(["-i", "reader", "-t", "#"]).stdout(Stdio::piped()));
    let mut lines = Lines::of(&mut sub);
    b.subscribed().await;
    let mut stdin = child.stdin.take().unwrap();
    let flood: String = (0..2_000).map(|i| format!("{i}\n")).collect();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, flood.as_bytes())
        .await
        .unwrap();
    assert_eq!(b.refusal("mqtt/rate").await, "no answer");
    // The same connection goes on: what comes once there is room again is taken.
    let next = async {
        let mut number = 2_000;
        loop {
            let line = format!("{number}\n");
            tokio::io::AsyncWriteExt::write_all(&mut stdin, line.as_bytes())
                .await
                .unwrap();
            number += 1;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let later = async {
        loop {
            let line: u32 = lines.next().await.parse().unwrap();
            if line >= 2_000 {
                return line;
            }
        }
    };
    tokio::select! { () = next => {}, line = later => assert!(line >= 2_000) }
    let taken = b.payloads(CLOUD).len();
    assert!((100..2_000).contains(&taken), "{taken}");
}

#[tokio::test]
async fn more_bytes_than_fit_into_a_second_are_late_and_none_is_lost() {
    let b = Bench::start(|_| {}).await;
    let size = 100 * 1024;
    std::fs::write(b.path("large"), "x".repeat(size)).unwrap();
    let mut c = b.mosquitto("mosquitto_pub", CLOUD, "localhost", "thing");
    c.args([
        "-i",
        "thing",
        "-t",
        "a",
        "-q",
        "1",
        "-f",
        &b.path("large"),
        "--repeat",
        "12",
    ]);
    let before = tokio::time::Instant::now();
    succeed(&mut c).await;
    // 1,200 KiB at 512 KiB a second: the first 512 KiB pass at once, the last piece is taken before its wait.
    let took = before.elapsed().as_secs_f64();
    assert!(took >= 1.0, "{took} s");
    let taken = b.payloads(CLOUD);
    assert!(taken.len() == 12 && taken.iter().all(|p| p.len() == size));
}
