//! The AWS IoT Core stand-in. mosquitto sends SNI for host names only, so `localhost` has it and an address has not.

use std::process::Stdio;

use onyx::bench::clouds::Cloud;

use crate::tools::{Bench, Lines, fail, spawn, succeed};

const CLOUD: Cloud = Cloud::AwsIot;

#[tokio::test]
async fn a_thing_publishes_and_subscribes_whatever_its_user_name() {
    let mut b = Bench::start(|_| {}).await;
    let mut sub = b.mosquitto("mosquitto_sub", CLOUD, "localhost", "thing");
    let mut sub = spawn(
        sub.args(["-i", "thing-reader", "-t", "beamtest", "-q", "1", "-u", "?SDK=x"])
            .stdout(Stdio::piped()),
    );
    let mut lines = Lines::of(&mut sub);
    b.subscribed().await;
    let mut c = b.mosquitto("mosquitto_pub", CLOUD, "localhost", "thing");
    succeed(c.args(["-i", "thing", "-t", "beamtest", "-q", "1", "-m", "hello"])).await;
    assert_eq!(lines.next().await, "hello");
}

#[tokio::test]
async fn mistakes_are_refused_as_aws_does() {
    // Names of their own, because of one CONNECT a second for a client id.
    let mut b = Bench::start(|c| c.aws_topics = vec!["a/#".into()]).await;
    for (host, id, topic, qos, rule, look) in [
        ("127.0.0.1", "thing", "a/b", "1", "aws-iot/sni", "connection closed"),
        (
            "localhost",
            "another",
            "a/b",
            "1",
            "aws-iot/connect-permission",
            "connection closed",
        ),
        (
            "localhost",
            "thing",
            "b",
            "1",
            "aws-iot/publish-permission",
            "connection closed",
        ),
        (
            "localhost",
            "thing-2",
            "a/1/2/3/4/5/6/7/8",
            "1",
            "aws-iot/topic-size",
            "connection closed",
        ),
        ("localhost", "thing-3", "a/b", "2", "aws-iot/qos-2", "no answer"),
    ] {
        let mut c = b.mosquitto("mosquitto_pub", CLOUD, host, "thing");
        c.args(["-i", id, "-t", topic, "-q", qos, "-m", "x"]);
        if look == "no answer" {
            let mut child = spawn(&mut c);
            assert_eq!(b.refusal(rule).await, look, "{rule}");
            assert!(child.try_wait().unwrap().is_none(), "it waits for ever");
        } else {
            fail(&mut c).await;
            assert_eq!(b.refusal(rule).await, look, "{rule}");
        }
    }
    assert!(b.payloads(CLOUD).is_empty());
}

#[tokio::test]
async fn another_host_name_is_not_this_endpoint() {
    let mut b = Bench::start(|c| c.hosts.aws_iot = "own-ats.iot.eu-west-1.amazonaws.com".into()).await;
    b.clouds.write_device("thing").unwrap();
    let connect = format!("127.0.0.1:{}", b.port(CLOUD));
    let mut c = crate::tools::command("openssl");
    c.args([
        "s_client",
        "-connect",
        &connect,
        "-servername",
        "other-ats.iot.eu-west-1.amazonaws.com",
    ]);
    let child = spawn(c.stdout(Stdio::null()).stderr(Stdio::null()));
    b.refusal("aws-iot/sni").await;
    drop(child);
}
