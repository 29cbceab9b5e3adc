//! The Event Grid stand-in in MQTT 5, before mosquitto's clients and Eclipse paho.

use std::process::Stdio;

use onyx::bench::clouds::{Cloud, MqttFault, What};
use serde_json::json;
use tokio::process::Command;

use crate::judges;
use crate::tools::{Bench, LIMIT, Lines, command, output, spawn, succeed};

const CLOUD: Cloud = Cloud::EventGrid;

fn client(b: &Bench, program: &str, name: &str) -> Command {
    let mut c = b.mosquitto(program, CLOUD, "127.0.0.1", name);
    c.args(["-u", name, "-V", "5"]);
    c
}

#[tokio::test]
async fn properties_go_from_publisher_to_subscriber_and_not_to_3_1_1() {
    let mut b = Bench::start(|_| {}).await;
    let mut sub = client(&b, "mosquitto_sub", "reader");
    let mut sub = spawn(
        sub.args([
            "-i",
            "r1",
            "-t",
            "exampletopics/+",
            "-q",
            "1",
            "-F",
            "%t %q %C %R %D %P %F %E %p",
        ])
        .stdout(Stdio::piped()),
    );
    let mut old = b.mosquitto("mosquitto_sub", CLOUD, "127.0.0.1", "old");
    old.args([
        "-u",
        "old",
        "-V",
        "311",
        "-i",
        "o1",
        "-t",
        "exampletopics/+",
        "-F",
        "%t %p",
    ]);
    let mut old = spawn(old.stdout(Stdio::piped()));
    let (mut lines, mut old_lines) = (Lines::of(&mut sub), Lines::of(&mut old));
    b.subscribed().await;
    b.subscribed().await;
    let mut c = client(&b, "mosquitto_pub", "writer");
    c.args(["-i", "w", "-t", "exampletopics/a", "-q", "1", "-m", "x"]);
    c.args(["-D", "publish", "content-type", "text/plain"]);
    c.args(["-D", "publish", "response-topic", "exampletopics/r"]);
    c.args(["-D", "publish", "correlation-data", "c7"]);
    c.args(["-D", "publish", "user-property", "k", "v"]);
    c.args(["-D", "publish", "payload-format-indicator", "1"]);
    succeed(c.args(["-D", "publish", "message-expiry-interval", "600"])).await;
    let line = lines.next().await;
    let start = "exampletopics/a 1 text/plain exampletopics/r c7 k:v 1 ";
    let expiry = line.strip_prefix(start).and_then(|l| l.strip_suffix(" x"));
    let seconds: u32 = expiry.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    assert!((540..=600).contains(&seconds), "{line}");
    assert_eq!(old_lines.next().await, "exampletopics/a x");
    // And from 3.1.1 to 5.
    let mut c = b.mosquitto("mosquitto_pub", CLOUD, "127.0.0.1", "writer");
    succeed(c.args([
        "-u",
        "writer",
        "-i",
        "w",
        "-t",
        "exampletopics/a",
        "-q",
        "1",
        "-m",
        "plain",
    ]))
    .await;
    assert!(lines.next().await.ends_with("plain"));
}

#[tokio::test]
async fn refusals_look_as_mqtt_5_can_say_them() {
    let mut b = Bench::start(|_| {}).await;
    let long = format!("exampletopics/{}", "a".repeat(250));
    for (topic, rule, look, said) in [
        (
            "elsewhere/a",
            "event-grid/publisher-permission",
            "PUBACK 0x87 (not authorized)",
            "Not authorized",
        ),
        (
            "exampletopics/2/3/4/5/6/7/8/9",
            "event-grid/topic-size",
            "PUBACK 0x90 (topic name invalid)",
            "Topic Name invalid",
        ),
        (
            long.as_str(),
            "event-grid/topic-size",
            "PUBACK 0x90 (topic name invalid)",
            "Topic Name invalid",
        ),
    ] {
        let mut c = client(&b, "mosquitto_pub", "name");
        let out = output(c.args(["-i", "s", "-t", topic, "-q", "1", "-m", "x"])).await;
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(stderr.contains(said), "{stderr}");
        assert_eq!(b.refusal(rule).await, look);
    }
    for (user, rule, look) in [
        ("somebody", "event-grid/user-name", "CONNACK 0x87 (not authorized)"),
        ("", "event-grid/authentication-name", "CONNACK 0x87 (not authorized)"),
    ] {
        let mut c = b.mosquitto("mosquitto_pub", CLOUD, "127.0.0.1", "name");
        c.args(["-V", "5", "-i", "s", "-t", "exampletopics/a", "-m", "x"]);
        if !user.is_empty() {
            c.args(["-u", user]);
        }
        let out = output(&mut c).await;
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && stderr.contains("Not authorized"), "{stderr}");
        assert_eq!(b.refusal(rule).await, look);
    }
    let mut c = client(&b, "mosquitto_sub", "name");
    let out = output(c.args(["-i", "s", "-t", "#", "-E"])).await;
    let said = String::from_utf8_lossy(&out.stderr).to_lowercase();
    assert!(said.contains("denied"), "{said}");
    assert_eq!(
        b.refusal("event-grid/subscriber-permission").await,
        "SUBACK 0x87 (not authorized)"
    );
    let mut c = client(&b, "mosquitto_pub", "name");
    c.args([
        "-i",
        "s",
        "-t",
        "exampletopics/a",
        "-m",
        "x",
        "-D",
        "connect",
        "user-property",
        "a",
        "b",
    ]);
    assert!(!output(&mut c).await.status.success());
    let look = b.refusal("event-grid/user-properties").await;
    assert_eq!(look, "CONNACK 0x83 (implementation specific error)");
    assert!(b.payloads(CLOUD).is_empty());
}

#[tokio::test]
async fn kept_messages_aliases_and_wills_work_with_mosquitto() {
    let mut b = Bench::start(|_| {}).await;
    let mut c = client(&b, "mosquitto_pub", "writer");
    succeed(c.args(["-i", "w", "-t", "exampletopics/kept", "-q", "1", "-r", "-m", "kept"])).await;
    for version in ["5", "311"] {
        let mut c = b.mosquitto("mosquitto_sub", CLOUD, "127.0.0.1", "reader");
        c.args([
            "-u",
            "reader",
            "-V",
            version,
            "-i",
            "r1",
            "-t",
            "exampletopics/#",
            "-C",
            "1",
            "-F",
            "%r %p",
        ]);
        assert_eq!(succeed(&mut c).await.trim(), "1 kept", "{version}");
    }
    // Too large to be kept.
    std::fs::write(b.path("big"), vec![b'x'; 64 * 1024 + 1]).unwrap();
    let mut c = client(&b, "mosquitto_pub", "writer");
    let out = output(c.args([
        "-i",
        "w",
        "-t",
        "exampletopics/kept",
        "-q",
        "1",
        "-r",
        "-f",
        &b.path("big"),
    ]))
    .await;
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("Quota exceeded"),
        "{out:?}"
    );
    assert_eq!(
        b.refusal("event-grid/retained-size").await,
        "PUBACK 0x97 (quota exceeded)"
    );
    // The second message of --repeat goes by its alias alone.
    let mut c = client(&b, "mosquitto_pub", "writer");
    c.args([
        "-i",
        "w",
        "-t",
        "exampletopics/a",
        "-q",
        "1",
        "-m",
        "by alias",
        "-D",
        "publish",
        "topic-alias",
        "10",
    ]);
    succeed(c.args(["--repeat", "2", "--repeat-delay", "0"])).await;
    assert_eq!(b.payloads(CLOUD), ["kept", "by alias", "by alias"]);
    // A will, with a user property, of a device that is killed.
    let mut sub = client(&b, "mosquitto_sub", "reader");
    sub.args(["-i", "r1", "-t", "exampletopics/will", "-F", "%P %p"]);
    let mut sub = spawn(sub.stdout(Stdio::piped()));
    let mut lines = Lines::of(&mut sub);
    b.subscribed().await;
    let mut c = client(&b, "mosquitto_sub", "mortal");
    c.args([
        "-i",
        "m1",
        "-t",
        "exampletopics/x",
        "--will-topic",
        "exampletopics/will",
        "--will-payload",
        "bye",
    ]);
    c.args([
        "-D",
        "will",
        "user-property",
        "k",
        "v",
        "-D",
        "will",
        "will-delay-interval",
        "300",
    ]);
    let mut mortal = spawn(&mut c);
    b.subscribed().await;
    mortal.kill().await.unwrap();
    assert_eq!(
        lines.next().await,
        "k:v bye",
        "its session ends with it, so the will does not wait"
    );
}

#[tokio::test]
async fn a_session_lives_as_long_as_it_says() {
    let mut b = Bench::start(|_| {}).await;
    let args = ["-i", "reader-1", "-c", "-x", "600", "-q", "1", "-t", "exampletopics/#"];
    succeed(client(&b, "mosquitto_sub", "reader").args(args).arg("-E")).await;
    b.event("reader gone", |e| matches!(e.what, What::Disconnected { .. }))
        .await;
    // It is away, and it counts: another session of the same name is one too many, in both versions.
    for (version, look) in [
        ("5", "CONNACK 0x97 (quota exceeded)"),
        ("311", "CONNACK 3 (server unavailable)"),
    ] {
        let mut c = b.mosquitto("mosquitto_sub", CLOUD, "127.0.0.1", "reader");
        c.args([
            "-u",
            "reader",
            "-V",
            version,
            "-i",
            "reader-2",
            "-t",
            "exampletopics/#",
            "-E",
        ]);
        assert!(!output(&mut c).await.status.success());
        assert_eq!(b.refusal("event-grid/sessions").await, look);
    }
    let mut c = client(&b, "mosquitto_pub", "writer");
    c.args(["-i", "w", "-t", "exampletopics/a", "-q", "1", "-m", "for a minute"]);
    succeed(c.args(["-D", "publish", "message-expiry-interval", "60"])).await;
    let said = succeed(client(&b, "mosquitto_sub", "reader").args(args).args(["-C", "1"])).await;
    assert_eq!(said.trim(), "for a minute");
}

#[tokio::test]
async fn a_hundred_messages_wait_and_one_more_ends_the_session() {
    let mut b = Bench::start(|_| {}).await;
    let args = ["-i", "reader-1", "-c", "-x", "600", "-q", "1", "-t", "exampletopics/#"];
    succeed(client(&b, "mosquitto_sub", "reader").args(args).arg("-E")).await;
    b.event("reader gone", |e| matches!(e.what, What::Disconnected { .. }))
        .await;
    let mut c = client(&b, "mosquitto_pub", "writer");
    c.args([
        "-i",
        "w",
        "-t",
        "exampletopics/a",
        "-q",
        "1",
        "-m",
        "x",
        "--repeat",
        "101",
        "--repeat-delay",
        "0",
    ]);
    succeed(&mut c).await;
    assert_eq!(b.refusal("mqtt/queue").await, "connection closed");
    succeed(client(&b, "mosquitto_sub", "reader").args(args).arg("-E")).await;
    b.event(
        "a new session",
        |e| matches!(&e.what, What::Connected { client_id, session_present: false, .. } if client_id == "reader-1"),
    )
    .await;
}

#[tokio::test]
async fn too_many_messages_in_a_second_end_the_connection() {
    let mut b = Bench::start(|c| c.event_grid.publishes_per_second = 5).await;
    let mut c = client(&b, "mosquitto_pub", "name");
    c.args([
        "-i",
        "s",
        "-t",
        "exampletopics/a",
        "-q",
        "0",
        "-m",
        "x",
        "--repeat",
        "200",
        "--repeat-delay",
        "0",
    ]);
    let child = spawn(c.stderr(Stdio::null()));
    assert_eq!(b.refusal("mqtt/rate").await, "DISCONNECT 0x97 (quota exceeded)");
    drop(child);
}

#[tokio::test]
async fn clients_spaces_and_bindings_decide() {
    // A certificate that nobody signed but itself.
    let (own, print) = self_signed("thumb").await;
    let client_line = format!("thumb:thumbprint:{}", print);
    let mut b = Bench::start(|c| {
        c.event_grid.clients = [client_line.as_str(), "named:subject;room=7"]
            .map(|l| l.parse().unwrap())
            .into();
        c.event_grid.spaces = vec![
            "rooms=rooms/${client.attributes.room}/+".parse().unwrap(),
            "all=all/#".parse().unwrap(),
        ];
        c.event_grid.bindings = ["$all:all:publisher", "room=7:rooms:publisher"]
            .map(|l| l.parse().unwrap())
            .into();
    })
    .await;
    let publish = |name: &str, topic: &str| {
        let mut c = client(&b, "mosquitto_pub", name);
        c.args(["-i", name, "-t", topic, "-q", "1", "-m", topic]);
        c
    };
    succeed(&mut publish("named", "rooms/7/a")).await;
    succeed(&mut publish("named", "all/a")).await;
    output(&mut publish("named", "rooms/8/a")).await;
    let other = output(&mut publish("other", "all/a")).await;
    assert!(!other.status.success());
    let by_print = |cert: &str, key: &str, name: &str| {
        let mut c = crate::tools::command("mosquitto_pub");
        c.args([
            "-h",
            "127.0.0.1",
            "-p",
            &b.port(CLOUD),
            "--cafile",
            &b.path("ca.pem"),
            "-V",
            "5",
        ]);
        c.args([
            "--cert",
            cert,
            "--key",
            key,
            "-u",
            name,
            "-i",
            name,
            "-t",
            "all/t",
            "-q",
            "1",
            "-m",
            "by thumbprint",
        ]);
        c
    };
    let path = |file: &str| own.path().join(file).to_str().unwrap().to_owned();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    succeed(&mut by_print(&cert, &key, "thumb")).await;
    // The same certificate as somebody else: its common name is not named's, and nobody registered signed it.
    assert!(!output(&mut by_print(&cert, &key, "named")).await.status.success());
    b.refusal("event-grid/publisher-permission").await;
    b.refusal("event-grid/unknown-client").await;
    b.refusal("event-grid/certificate").await;
    assert_eq!(b.payloads(CLOUD), ["rooms/7/a", "all/a", "by thumbprint"]);
}

/// A self-signed certificate by openssl: the folder of cert.pem and key.pem, and its SHA-256 fingerprint.
async fn self_signed(name: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let subject = format!("/CN={name}");
    let mut c = crate::tools::command("openssl");
    c.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]);
    succeed(c.args([
        "-subj",
        &subject,
        "-keyout",
        &path("key.pem"),
        "-out",
        &path("cert.pem"),
    ]))
    .await;
    let mut c = crate::tools::command("openssl");
    let said = succeed(c.args(["x509", "-in", &path("cert.pem"), "-noout", "-fingerprint", "-sha256"])).await;
    let print = said.trim().rsplit_once('=').unwrap().1.to_owned();
    (dir, print)
}

#[tokio::test]
async fn where_mqtt_5_is_not_spoken_it_is_refused_in_its_own_words() {
    let mut b = Bench::start(|_| {}).await;
    let mut c = b.mosquitto("mosquitto_pub", Cloud::IotHub, "localhost", "name");
    let out = output(c.args(["-V", "5", "-i", "name", "-t", "a", "-m", "x"])).await;
    let said = String::from_utf8_lossy(&out.stderr).to_lowercase();
    assert!(
        !out.status.success() && said.contains("unsupported protocol version"),
        "{said}"
    );
    let look = b.refusal("mqtt/version").await;
    assert_eq!(look, "CONNACK 0x84 (protocol version not supported)");
}

/// What no client of good manners sends: bytes on a TLS connection as "name", after a CONNECT of version 5.
async fn bytes_after_connect(b: &Bench, bytes: &[u8]) -> tokio::process::Child {
    use tokio::io::AsyncWriteExt;
    b.clouds.write_device("name").unwrap();
    let mut c = crate::tools::command("openssl");
    c.args([
        "s_client",
        "-connect",
        &format!("127.0.0.1:{}", b.port(CLOUD)),
        "-quiet",
    ]);
    c.args(["-CAfile", &b.path("ca.pem"), "-cert", &b.path("devices/name.pem")]);
    c.args(["-key", &b.path("devices/name.key")]);
    let mut child = spawn(c.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()));
    let mut all = b"\x10\x14\x00\x04MQTT\x05\x82\x00\x3c\x00\x00\x01s\x00\x04name".to_vec();
    all.extend_from_slice(bytes);
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(&all).await.unwrap();
    stdin.flush().await.unwrap();
    child
}

#[tokio::test]
async fn bad_manners_are_refused_with_their_reason() {
    let mut b = Bench::start(|_| {}).await;
    for (bytes, rule, look) in [
        (
            &b"\x40\x04\x00\x07\x80\x00"[..],
            "mqtt/negative-puback",
            "DISCONNECT 0x83 (implementation specific error)",
        ),
        (
            b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01",
            "mqtt/session-expiry",
            "DISCONNECT 0x82 (protocol error)",
        ),
        (
            b"\x30\x04\x00\x01a\x7f",
            "mqtt/malformed",
            "DISCONNECT 0x81 (malformed packet)",
        ),
        // An AUTH that nobody asked for (MQTT 5.0 section 4.12).
        (b"\xf0\x00", "mqtt/malformed", "DISCONNECT 0x82 (protocol error)"),
        (
            b"\x30\xff\xff\xff\x7f",
            "mqtt/packet-size",
            "DISCONNECT 0x95 (packet too large)",
        ),
    ] {
        let child = bytes_after_connect(&b, bytes).await;
        assert_eq!(b.refusal(rule).await, look);
        drop(child);
    }
    // Sixteen messages may be without acknowledgement.
    b.clouds.set_mqtt_fault(CLOUD, Some(MqttFault::NoPuback.into()));
    let messages: Vec<u8> = (1..=17)
        .flat_map(|id| [b"\x32\x15\x00\x0fexampletopics/a\x00".to_vec(), vec![id, 0, b'x']].concat())
        .collect();
    let child = bytes_after_connect(&b, &messages).await;
    assert_eq!(
        b.refusal("mqtt/receive-maximum").await,
        "DISCONNECT 0x93 (receive maximum exceeded)"
    );
    drop(child);
}

#[tokio::test]
async fn paho_finds_mqtt_5_as_it_is_written() {
    let mut b = Bench::start(|_| {}).await;
    b.clouds.write_device("one").unwrap();
    b.clouds.write_device("two").unwrap();
    let mut judge = judges::python();
    judge.arg(judges::script("event_grid_5.py"));
    judge.args(["127.0.0.1", &b.port(CLOUD), &b.path("ca.pem"), &b.path("devices")]);
    let found = judges::run(&mut judge).await;
    let expected = [
        (
            "terms",
            json!({"code": 0, "SessionExpiryInterval": 3600, "ReceiveMaximum": 16, "MaximumQoS": 1, "MaximumPacketSize": 524_288,
                "TopicAliasMaximum": 10, "SubscriptionIdentifierAvailable": 0, "SharedSubscriptionAvailable": 0, "ServerKeepAlive": 1160}),
        ),
        ("user properties on CONNECT", json!(0x83)),
        ("enhanced authentication", json!(0x8c)),
        ("another's name", json!(0x87)),
        ("a long will delay", json!(0x83)),
        ("alias over the maximum", json!(0x94)),
        ("an unknown alias", json!(0x82)),
        ("QoS 2", json!(0x9b)),
        ("not allowed at QoS 0", json!(0x87)),
        ("subscription identifier", json!(0xa1)),
        ("shared subscription", json!(0x9e)),
        ("taken over", json!(0x8e)),
        ("a stranger", json!(0x87)),
        ("one session more", json!(0x97)),
        ("user properties on SUBSCRIBE", json!([0x83])),
        ("a filter that is not allowed", json!([0x87])),
        ("no local, nothing kept", json!([1])),
        ("first message", json!("foreign")),
        ("kept", json!(["old", true])),
        (
            "by alias",
            json!(["exampletopics/long", "2", {"PayloadFormatIndicator": 1, "MessageExpiryInterval": 100, "ContentType": "text/plain",
                "ResponseTopic": "exampletopics/r", "CorrelationData": "01", "UserProperty": [["k", "v"]]}]),
        ),
        ("session present", json!([0, 1, 0])),
        ("will", json!(["bye", [["k", "v"]]])),
        ("delayed wills", json!(["sooner", "last"])),
    ];
    for ((question, answer), got) in expected.iter().zip(&found) {
        assert_eq!(got, &json!({"question": question, "answer": answer}));
    }
    assert_eq!(found.len(), expected.len());
    for rule in [
        "event-grid/user-properties",
        "mqtt/authentication-method",
        "event-grid/publisher-permission",
        "mqtt/will-delay",
        "mqtt/topic-alias",
        "mqtt/topic-alias",
        "event-grid/qos-2",
        "event-grid/publisher-permission",
        "mqtt/subscription-identifier",
        "mqtt/shared-subscription",
        "event-grid/foreign-session",
        "event-grid/sessions",
        "event-grid/user-properties",
        "event-grid/subscriber-permission",
    ] {
        b.refusal(rule).await;
    }
}

/// Stops a process where it is; it neither ends nor reads.
async fn freeze(child: &tokio::process::Child) {
    let pid = child.id().unwrap().to_string();
    succeed(command("kill").args(["-STOP", &pid])).await;
}

#[tokio::test]
async fn an_overflow_is_of_the_session_that_it_ends_and_not_of_the_publisher() {
    let mut b = Bench::start(|_| {}).await;
    let args = ["-i", "r", "-c", "-x", "600", "-q", "1", "-t", "exampletopics/#"];
    let flood = async |b: &Bench, id: &str| {
        let mut c = client(b, "mosquitto_pub", "writer");
        // More than are in flight and in the queue together.
        c.args([
            "-i",
            id,
            "-t",
            "exampletopics/a",
            "-q",
            "1",
            "-m",
            "x",
            "--repeat",
            "200",
        ]);
        succeed(&mut c).await;
    };
    // One that is connected and takes nothing.
    let mut sub = spawn(client(&b, "mosquitto_sub", "reader").args(args).stdout(Stdio::null()));
    let connected = b.event("connected", |e| matches!(e.what, What::Connected { .. })).await;
    b.subscribed().await;
    freeze(&sub).await;
    flood(&b, "w").await;
    let is_overflow = |e: &onyx::bench::clouds::Event| matches!(&e.what, What::Refused { rule: "mqtt/queue", client_id: Some(id), .. } if id == "r");
    let overflow = b.event("overflow", is_overflow).await;
    assert!(
        overflow.connection.is_some() && overflow.connection == connected.connection,
        "{overflow:?}"
    );
    let (What::Connected { peer: own, .. }, What::Refused { peer, .. }) = (connected.what, overflow.what) else {
        unreachable!()
    };
    assert_eq!(own, peer);
    sub.kill().await.unwrap();
    // One that is away: no connection's doing.
    b.event(
        "reader gone",
        |e| matches!(&e.what, What::Closed { client_id: Some(id), .. } if id == "r"),
    )
    .await;
    succeed(client(&b, "mosquitto_sub", "reader").args(args).arg("-E")).await;
    flood(&b, "w").await;
    assert_eq!(b.event("overflow", is_overflow).await.connection, None);
}

#[tokio::test]
async fn silence_ends_with_the_reason() {
    let mut b = Bench::start(|_| {}).await;
    b.clouds.write_device("name").unwrap();
    let mut c = command("openssl");
    c.args([
        "s_client",
        "-quiet",
        "-connect",
        &format!("127.0.0.1:{}", b.port(CLOUD)),
    ]);
    c.args(["-CAfile", &b.path("ca.pem"), "-cert", &b.path("devices/name.pem")]);
    c.args(["-key", &b.path("devices/name.key")]);
    let mut child = spawn(c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()));
    // CONNECT: version 5, user name and clean start, keep-alive of one second, no properties, client id "s", user name "name".
    let hello = b"\x10\x14\x00\x04MQTT\x05\x82\x00\x01\x00\x00\x01s\x00\x04name";
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, hello).await.unwrap();
    let answered = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let answer = answered.expect("the connection was not ended").unwrap().stdout;
    assert_eq!(answer.first(), Some(&0x20), "CONNACK: {answer:x?}");
    assert!(answer.ends_with(&[0xe0, 0x02, 0x8d, 0x00]), "{answer:x?}");
    assert_eq!(
        b.refusal("mqtt/keep-alive").await,
        "DISCONNECT 0x8D (keep alive timeout)"
    );
    drop(stdin);
}
