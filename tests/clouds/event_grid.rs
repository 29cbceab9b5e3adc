//! The Event Grid stand-in.

use std::process::Stdio;

use onyx::bench::clouds::{Cloud, What};
use tokio::process::Command;

use crate::tools::{Bench, LIMIT, Lines, command, fail, output, spawn, succeed};

const CLOUD: Cloud = Cloud::EventGrid;

fn client(b: &Bench, program: &str, name: &str) -> Command {
    let mut c = b.mosquitto(program, CLOUD, "127.0.0.1", name);
    c.args(["-u", name]);
    c
}

#[tokio::test]
async fn messages_go_from_publisher_to_subscriber() {
    let mut b = Bench::start(|_| {}).await;
    let mut sub = client(&b, "mosquitto_sub", "reader");
    let mut sub = spawn(
        sub.args(["-i", "reader-1", "-t", "exampletopics/+", "-q", "1", "-F", "%t %q %p"])
            .stdout(Stdio::piped()),
    );
    let mut lines = Lines::of(&mut sub);
    b.subscribed().await;
    for (qos, text) in [("0", "zero"), ("1", "one")] {
        let mut c = client(&b, "mosquitto_pub", "myClient-295012345678901");
        succeed(c.args(["-i", "s1", "-t", "exampletopics/topic1", "-q", qos, "-m", text])).await;
        assert_eq!(lines.next().await, format!("exampletopics/topic1 {qos} {text}"));
    }
    assert_eq!(b.payloads(CLOUD), ["zero", "one"]);
}

#[tokio::test]
async fn the_name_is_compared_without_case_and_the_leaf_alone_is_enough() {
    let b = Bench::start(|_| {}).await;
    let issued = b.clouds.issue_device("MyClient").unwrap();
    std::fs::write(b.path("leaf.pem"), &issued.leaf_pem).unwrap();
    std::fs::write(b.path("leaf.key"), issued.key_pem.as_bytes()).unwrap();
    let mut c = command("mosquitto_pub");
    c.args(["-h", "localhost", "-p", &b.port(CLOUD), "--cafile", &b.path("ca.pem")]);
    c.args([
        "--cert",
        &b.path("leaf.pem"),
        "--key",
        &b.path("leaf.key"),
        "-u",
        "myclient",
    ]);
    succeed(c.args(["-i", "s", "-t", "exampletopics/a", "-q", "1", "-m", "x"])).await;
    assert_eq!(b.payloads(CLOUD), ["x"]);
}

#[tokio::test]
async fn mistakes_are_refused_as_event_grid_does() {
    let mut b = Bench::start(|_| {}).await;
    // Refused with a CONNACK: mosquitto_pub ends and says so.
    for (more, rule) in [
        (vec!["-i", "s", "-u", "somebody"], "event-grid/user-name"),
        (vec!["-i", "s"], "event-grid/authentication-name"),
    ] {
        let mut c = b.mosquitto("mosquitto_pub", CLOUD, "127.0.0.1", "name");
        let out = output(c.args(more).args(["-t", "exampletopics/a", "-m", "x"])).await;
        assert!(!out.status.success(), "{rule}");
        b.refusal(rule).await;
    }
    // Refused by closing.
    let long = format!("exampletopics/{}", "a".repeat(250));
    for (topic, qos, rule) in [
        ("elsewhere/a", "1", "event-grid/publisher-permission"),
        ("exampletopics/2/3/4/5/6/7/8/9", "1", "event-grid/topic-size"),
        (long.as_str(), "1", "event-grid/topic-size"),
        ("exampletopics/a", "2", "event-grid/qos-2"),
    ] {
        let mut c = client(&b, "mosquitto_pub", "name");
        fail(c.args(["-i", "s", "-t", topic, "-q", qos, "-m", "x"])).await;
        assert_eq!(b.refusal(rule).await, "connection closed");
    }
    // Refused by SUBACK.
    let mut c = client(&b, "mosquitto_sub", "name");
    let out = output(c.args(["-i", "s2", "-t", "#", "-E"])).await;
    assert_eq!(
        b.refusal("event-grid/subscriber-permission").await,
        "SUBACK 128 (failure)"
    );
    let said = String::from_utf8_lossy(&out.stderr).to_lowercase();
    assert!(said.contains("subscription") || !out.status.success(), "{said}");
    assert!(b.payloads(CLOUD).is_empty());
}

#[tokio::test]
async fn an_oversized_packet_is_refused_before_it_is_read() {
    let mut b = Bench::start(|_| {}).await;
    std::fs::write(b.path("big"), vec![b'x'; 512 * 1024]).unwrap();
    let mut c = client(&b, "mosquitto_pub", "name");
    let child = spawn(c.args(["-i", "s", "-t", "exampletopics/a", "-q", "1", "-f", &b.path("big")]));
    b.refusal("mqtt/packet-size").await;
    drop(child);
}

#[tokio::test]
async fn the_same_client_id_takes_over_and_a_foreign_one_does_not() {
    let mut b = Bench::start(|_| {}).await;
    let subscribe = |b: &Bench, name: &str| {
        let mut c = client(b, "mosquitto_sub", name);
        c.args(["-i", "session", "-t", "exampletopics/#"]).stdout(Stdio::null());
        spawn(&mut c)
    };
    let first = subscribe(&b, "name");
    b.subscribed().await;
    let second = subscribe(&b, "name");
    let event = b
        .event("take-over", |e| matches!(e.what, What::Disconnected { .. }))
        .await;
    assert!(event.to_string().contains("taken over"), "{event}");
    // Both would go on throwing each other out; one is enough.
    drop(first);
    let mut c = client(&b, "mosquitto_pub", "stranger");
    let out = output(c.args(["-i", "session", "-t", "exampletopics/a", "-m", "x"])).await;
    assert!(!out.status.success());
    assert!(b.refusal("event-grid/foreign-session").await.starts_with("CONNACK 5"));
    drop(second);
}

#[tokio::test]
async fn a_persistent_session_gets_what_came_while_it_was_away() {
    let mut b = Bench::start(|_| {}).await;
    let args = ["-i", "reader-1", "-c", "-q", "1", "-t", "exampletopics/#"];
    // -E ends after SUBACK.
    succeed(client(&b, "mosquitto_sub", "reader").args(args).arg("-E")).await;
    b.event("reader gone", |e| matches!(e.what, What::Disconnected { .. }))
        .await;
    let mut c = client(&b, "mosquitto_pub", "writer");
    succeed(c.args(["-i", "w", "-t", "exampletopics/a", "-q", "1", "-m", "kept"])).await;
    let said = succeed(client(&b, "mosquitto_sub", "reader").args(args).args(["-C", "1"])).await;
    assert_eq!(said.trim(), "kept");
    b.clouds.restart_mqtt(true);
    let mut sub = client(&b, "mosquitto_sub", "reader");
    let sub = spawn(
        sub.args(["-i", "reader-1", "-c", "-t", "exampletopics/#"])
            .stdout(Stdio::null()),
    );
    let back = b.event(
        "reader back",
        |e| matches!(&e.what, What::Connected { client_id, session_present: false, .. } if client_id == "reader-1"),
    );
    back.await;
    drop(sub);
}

#[tokio::test]
async fn without_a_client_certificate_there_is_no_connection() {
    let mut b = Bench::start(|_| {}).await;
    let connect = format!("127.0.0.1:{}", b.port(CLOUD));
    for version in ["-tls1_2", "-tls1_3"] {
        let mut c = command("openssl");
        c.args([
            "s_client",
            "-connect",
            &connect,
            "-CAfile",
            &b.path("ca.pem"),
            "-quiet",
            version,
        ]);
        let out = output(&mut c).await;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            said.contains("alert") && said.to_lowercase().contains("certificate"),
            "{version}: {said}"
        );
        b.refusal("tls/handshake").await;
    }
    // A certificate of somebody else's authority.
    let other = Bench::start(|_| {}).await;
    let stranger = other.clouds.write_device("name").unwrap();
    drop(stranger);
    let mut c = command("mosquitto_pub");
    c.args(["-h", "127.0.0.1", "-p", &b.port(CLOUD), "--cafile", &b.path("ca.pem")]);
    c.args([
        "--cert",
        &other.path("devices/name.pem"),
        "--key",
        &other.path("devices/name.key"),
    ]);
    let child = spawn(c.args(["-u", "name", "-i", "s", "-t", "exampletopics/a", "-m", "x"]));
    b.refusal("tls/handshake").await;
    drop(child);
}

#[tokio::test]
async fn junk_is_survived() {
    use tokio::io::AsyncWriteExt;
    let mut b = Bench::start(|_| {}).await;
    for cloud in [Cloud::Krypton, CLOUD] {
        let mut tcp = tokio::net::TcpStream::connect(b.clouds.address(cloud).unwrap())
            .await
            .unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        b.refusal(if cloud == CLOUD {
            "tls/handshake"
        } else {
            "tls/server-only"
        })
        .await;
    }
    b.clouds.write_device("name").unwrap();
    let connect = format!("127.0.0.1:{}", b.port(CLOUD));
    for (bytes, rule) in [
        (&b"\x00\x00"[..], "mqtt/malformed"),
        (b"\xf0\x00", "mqtt/connect-first"),
        (b"\xc0\x00", "mqtt/connect-first"),
        (b"\x10\xff\xff\xff\xff", "mqtt/malformed"),
        (b"\x10\xff\xff\xff\x7f", "mqtt/packet-size"),
        (b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00", "mqtt/malformed"),
        // CONNECT as "s" with user "name", then PUBLISH to a wildcard, SUBSCRIBE to a bad filter, a second CONNECT, PUBREL.
        (b"\x10\x13\x00\x04MQTT\x04\x82\x00\x3c\x00\x01s\x00\x04name\x30\x05\x00\x03a/#", "mqtt/topic"),
        (b"\x10\x13\x00\x04MQTT\x04\x82\x00\x3c\x00\x01s\x00\x04name\x82\x07\x00\x01\x00\x02a#\x00", "mqtt/topic"),
        (b"\x10\x13\x00\x04MQTT\x04\x82\x00\x3c\x00\x01s\x00\x04name\x10\x13\x00\x04MQTT\x04\x82\x00\x3c\x00\x01s\x00\x04name", "mqtt/malformed"),
        (b"\x10\x13\x00\x04MQTT\x04\x82\x00\x3c\x00\x01s\x00\x04name\x62\x02\x00\x01", "mqtt/malformed"),
    ] {
        std::fs::write(b.path("junk"), bytes).unwrap();
        let mut c = command("openssl");
        c.args(["s_client", "-connect", &connect, "-CAfile", &b.path("ca.pem"), "-quiet"]);
        c.args([
            "-cert",
            &b.path("devices/name.pem"),
            "-key",
            &b.path("devices/name.key"),
        ]);
        let mut child = spawn(c.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(bytes).await.unwrap();
        stdin.flush().await.unwrap();
        b.refusal(rule).await;
        drop((stdin, child));
    }
    succeed(client(&b, "mosquitto_pub", "name").args(["-i", "s", "-t", "exampletopics/a", "-q", "1", "-m", "x"])).await;
    assert!(b.clouds.wait_for_messages(LIMIT, |m| m.len() == 1).await);
}

#[tokio::test]
async fn a_client_that_falls_silent_is_let_go() {
    let mut b = Bench::start(|_| {}).await;
    let mut c = client(&b, "mosquitto_sub", "name");
    // Five seconds is the least that mosquitto_sub takes.
    let child = spawn(c.args(["-i", "s", "-k", "5", "-t", "exampletopics/#"]));
    b.subscribed().await;
    let id = child.id().unwrap().to_string();
    succeed(command("kill").args(["-STOP", &id])).await;
    assert_eq!(b.refusal("mqtt/keep-alive").await, "connection closed");
    drop(child);
}

/// A device whose RSA-2048 certificate openssl makes under the bench's intermediate, with a subject and extensions of the caller's.
async fn openssl_device(b: &Bench, subject: &str, extensions: &str) -> Command {
    let (key, csr, pem) = (b.path("rsa.key"), b.path("rsa.csr"), b.path("rsa.pem"));
    let mut c = command("openssl");
    c.args([
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", &key, "-out", &csr,
    ]);
    succeed(&mut c).await;
    let mut c = command("openssl");
    c.args([
        "x509",
        "-req",
        "-in",
        &csr,
        "-CA",
        &b.path("intermediate.pem"),
        "-CAkey",
        &b.path("intermediate.key"),
    ]);
    c.args(["-set_serial", "7", "-days", "1", "-out", &pem]);
    std::fs::write(b.path("ext"), extensions).unwrap();
    c.args(["-extfile", &b.path("ext")]);
    succeed(&mut c).await;
    let mut c = command("mosquitto_pub");
    c.args([
        "-h",
        "127.0.0.1",
        "-p",
        &b.port(CLOUD),
        "--cafile",
        &b.path("ca.pem"),
        "--cert",
        &pem,
        "--key",
        &key,
    ]);
    c.args(["-u", "rsa", "-i", "s", "-t", "exampletopics/a", "-q", "1", "-m", "x"]);
    c
}

#[tokio::test]
async fn certificates_made_by_openssl_are_judged_too() {
    let mut b = Bench::start(|_| {}).await;
    let v3 = "extendedKeyUsage = clientAuth\n";
    succeed(&mut openssl_device(&b, "/CN=rsa", v3).await).await;
    fail(&mut openssl_device(&b, "/O=nobody", v3).await).await;
    b.refusal("tls/common-name").await;
    fail(&mut openssl_device(&b, "/CN=rsa", "extendedKeyUsage = serverAuth\n").await).await;
    b.refusal("tls/handshake").await;
    assert_eq!(b.payloads(CLOUD), ["x"]);
}
