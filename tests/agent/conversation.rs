//! `session::conversation` with a broker of somebody else's: mosquitto, whose refusals and silences are real.

use std::path::{Path, PathBuf};
use std::time::Duration;

use onyx::clock::Clock;
use onyx::link::Via;
use onyx::mqtt::Connect;
use onyx::session::conversation::Conversation;
use onyx::session::{Cause, SessionError, Target};
use onyx::tls::{Client, Identity, Versions};

use crate::certs::{Authority, Kind};
use crate::mosquitto::{self, Mosquitto, Tls};

const WITHIN: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(500);

/// Who says no name may subscribe below `allowed` alone.
const SECURITY: &str = r#"{"clients": [], "anonymousGroup": "all",
    "defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true, "subscribe": false, "unsubscribe": true},
    "groups": [{"groupname": "all", "roles": [{"rolename": "some"}], "clients": []}],
    "roles": [{"rolename": "some", "acls": [{"acltype": "subscribePattern", "topic": "allowed/#", "priority": 0, "allow": true}]}]}"#;

/// A plugin of Debian's mosquitto: below /usr/lib, or in the folder there that is called after the architecture.
fn plugin(name: &str) -> PathBuf {
    let below = |folder: PathBuf| Some(folder.join(name)).filter(|p| p.is_file());
    let folders = std::fs::read_dir("/usr/lib")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    folders
        .chain([PathBuf::from("/usr/lib")])
        .find_map(below)
        .unwrap_or_else(|| panic!("{name} is not installed: apt-get install mosquitto"))
}

fn plain(broker: &Mosquitto) -> Target {
    Target {
        host: "localhost".into(),
        port: broker.plain_port,
        address: Some(broker.plain()),
        tls: None,
        within: WITHIN,
    }
}

async fn open(target: &Target, client_id: &str) -> Result<Conversation, SessionError> {
    Conversation::open(target, &Via::default(), &Connect::new(client_id, true, 1_200)).await
}

#[tokio::test]
async fn questions_are_answered_by_whoever_listens() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(dir.path(), None);
    let mut talk = open(&plain(&broker), "asker").await.unwrap();
    talk.subscribe(&["q/json/accepted", "q/json/rejected"]).await.unwrap();
    talk.subscribe(&["flood"]).await.unwrap();
    // What is published comes back to us, because we subscribed to it: before or after the PUBACK, as the broker likes.
    talk.publish("q/json/accepted", b"first").await.unwrap();
    talk.request("q/json/rejected", b"second").await.unwrap();
    assert_eq!(talk.message(WITHIN).await.unwrap().payload, "first");
    let second = talk
        .answer(WITHIN, |m| m.topic.ends_with("rejected").then_some(m.payload))
        .await
        .unwrap();
    assert_eq!(second, "second");
    let late = talk.message(SHORT).await.unwrap_err();
    assert!(matches!(late, SessionError::Late { within: SHORT, .. }), "{late}");
    // Others speak, and it is not what is waited for.
    let mut other = mosquitto::Client::spawn("mosquitto_pub", broker.plain(), &["-t", "flood", "-q", "1", "-l"]);
    other.write(&"noise\n".repeat(500));
    let said = tokio::task::spawn_blocking(move || other.wait()).await.unwrap();
    assert!(said.status.success(), "{}", said.text);
    talk.request("q/json/accepted", b"third").await.unwrap();
    let third = talk
        .answer(WITHIN, |m| (m.topic == "q/json/accepted").then_some(m.payload))
        .await
        .unwrap();
    assert_eq!(third, "third");
    talk.close().await;
    // mosquitto's word for a client that said goodbye.
    broker.wait_for(&["Received DISCONNECT from asker"]);
}

#[tokio::test]
async fn refusals() {
    let dir = tempfile::tempdir().unwrap();
    // mosquitto's own files of permissions say nothing of subscriptions; its plugin for dynamic security does.
    let security = dir.path().join("security.json");
    std::fs::write(&security, SECURITY).unwrap();
    let more = format!(
        "plugin {}\nplugin_opt_config_file {}\n",
        plugin("mosquitto_dynamic_security.so").display(),
        security.display()
    );
    let broker = Mosquitto::start_with(dir.path(), None, &more);
    // No client id, and yet a session to keep [MQTT-3.1.3-8].
    let nameless = Connect::new("", false, 60);
    let e = Conversation::open(&plain(&broker), &Via::default(), &nameless)
        .await
        .unwrap_err();
    assert!(matches!(e, SessionError::Refused { code: 2, .. }), "{e}");
    let mut talk = open(&plain(&broker), "asker").await.unwrap();
    let e = talk.subscribe(&["allowed/a", "denied/b"]).await.unwrap_err();
    assert!(
        matches!(&e, SessionError::NotAllowed { filter, .. } if filter == "denied/b"),
        "{e}"
    );
}

#[tokio::test]
async fn a_broker_that_goes_away_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Mosquitto::start(dir.path(), None);
    let target = plain(&broker);
    let mut talk = open(&target, "asker").await.unwrap();
    talk.subscribe(&["a"]).await.unwrap();
    broker.stop();
    let e = talk.message(WITHIN).await.unwrap_err();
    assert!(matches!(e, SessionError::Closed { .. }), "{e}");
    talk.close().await;
    let e = open(&target, "asker").await.unwrap_err();
    assert_eq!(e.cause(), Cause::Route, "{e}");
}

fn tls(authority: &Authority, device: &Path, version: Versions) -> std::sync::Arc<rustls::ClientConfig> {
    let read = |suffix: &str| std::fs::read(device.with_extension(suffix)).unwrap();
    let identity = Identity::from_pem(&read("pem"), &read("key"), "device").unwrap();
    let roots = std::fs::read(authority.file("root.pem")).unwrap();
    let client = Client {
        identity: Some(&identity),
        roots: onyx::tls::roots(&roots, "root").unwrap(),
        versions: version,
        alpn: &[],
    };
    client.build(&Clock::new()).unwrap()
}

/// OpenSSL's alert: in TLS 1.2 within the handshake, in TLS 1.3 after we have taken it for done.
#[tokio::test]
async fn a_certificate_that_the_broker_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(&dir.path().join("ca"));
    let stranger = Authority::new(&dir.path().join("stranger"));
    let (certificate, key) = authority.server();
    authority.device(Kind::Ec, "device", "known", &dir.path().join("known"));
    stranger.device(Kind::Ec, "device", "unknown", &dir.path().join("unknown"));
    let broker = Mosquitto::start(
        dir.path(),
        Some(Tls {
            client_ca: authority.file("clients.pem"),
            certificate,
            key,
            version: None,
            identity_as_username: true,
        }),
    );
    for version in [Versions::Only13, Versions::Only12] {
        for (who, known) in [("known", true), ("unknown", false)] {
            let target = Target {
                host: "localhost".into(),
                port: broker.tls_port,
                address: Some((std::net::Ipv4Addr::LOCALHOST, broker.tls_port).into()),
                tls: Some(tls(&authority, &dir.path().join(who).join("device"), version)),
                within: WITHIN,
            };
            let opened = open(&target, who).await;
            if known {
                let mut talk = opened.unwrap();
                talk.subscribe(&["a"]).await.unwrap();
                talk.close().await;
            } else {
                let e = opened.unwrap_err();
                assert_eq!(e.cause(), Cause::Identity, "{version:?}: {e}");
                assert!(e.cure().contains("refuses our certificate"), "{}", e.cure());
            }
        }
    }
}
