//! Five makers' MQTT clients as devices: what each sees through the gateway is what it sees at the broker itself, at both levels of
//! MQTT, and the broker knows it by its own certificate. What a device does is in tests/judges/device_lines.py.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::judges;
use crate::stage::{A, B, IMSI_A, IMSI_B, IMSI_T, Stage, TOKEN, name};

/// The scripts' `MESSAGES`.
const MESSAGES: u64 = 20;
/// The scripts' `KEEP_ALIVE`.
const KEEP_ALIVE: u16 = 5;

/// One maker's client.
struct Client {
    /// Python or Node.
    program: fn() -> Command,
    script: &'static str,
    /// What its first line has to say, and where its version is pinned.
    package: &'static str,
    pinned: &'static str,
    /// How the gateway knows it: by an address, if the client can choose one, or by the token.
    source: Option<Ipv4Addr>,
    imsi: &'static str,
    /// The highest QoS that it has.
    most: u64,
    /// What it calls CONNACK's Maximum Packet Size, if it shows CONNACK's properties.
    limit: Option<&'static str>,
}

impl Client {
    /// Runs it at `door`; what it printed.
    async fn run(&self, door: SocketAddr, level: u8, id: &str) -> Vec<Value> {
        let mut judge = (self.program)();
        judge
            .arg(judges::script(self.script))
            .args([door.ip().to_string(), door.port().to_string(), level.to_string()])
            .args([id, if self.source.is_some() { "" } else { TOKEN }])
            .arg(self.source.map(|s| s.to_string()).unwrap_or_default());
        judges::run(&mut judge).await
    }

    fn version(&self) -> String {
        if self.pinned.starts_with('{') {
            let package: Value = serde_json::from_str(self.pinned).unwrap();
            return package["dependencies"][self.package].as_str().unwrap().to_owned();
        }
        let mut pinned = self.pinned.lines().filter_map(|l| l.split_once("=="));
        pinned.find(|(n, _)| *n == self.package).unwrap().1.to_owned()
    }

    /// What a device has to see that was promised nothing else than MQTT.
    fn check(&self, level: u8, lines: &[Value]) {
        let of = |what: &str| {
            let mut found = lines.iter().filter(|l| l["what"] == what);
            let line = found.next().unwrap_or_else(|| panic!("no {what:?} in {lines:#?}"));
            assert!(found.next().is_none(), "{what:?} twice in {lines:#?}");
            line
        };
        assert_eq!(
            (&of("client")["client"], &of("client")["version"]),
            (&json!(self.package), &json!(self.version()))
        );
        assert_eq!(of("granted")["granted"], json!([[1], [self.most]]));
        let numbered: Vec<_> = lines.iter().filter(|l| l["subscription"].is_string()).collect();
        let subscriptions = ["one", "two"].into_iter().zip([1, self.most]);
        let wanted: Vec<_> = subscriptions
            .flat_map(|(topic, granted)| {
                (0..=self.most).map(move |published| (topic, published, published.min(granted)))
            })
            .collect();
        assert_eq!(numbered.len(), wanted.len(), "{lines:#?}");
        for (line, (topic, published, qos)) in numbered.into_iter().zip(wanted) {
            assert_eq!(
                (&line["subscription"], &line["published"]),
                (&json!(topic), &json!(published))
            );
            // No line broke: at QoS 1, too, nothing comes twice. mosquitto drops no QoS 0 here, its queues have no limit.
            assert_eq!(line["numbers"], json!((0..MESSAGES).collect::<Vec<_>>()), "{line}");
            assert_eq!(line["qos"], json!([qos]), "{line}");
            let properties = line["properties"].as_array().unwrap();
            assert_eq!(properties.len(), 1, "{line}");
            let properties = properties[0].as_str().unwrap();
            for mine in ["text/plain", "unit", "C"] {
                assert_eq!(properties.contains(&format!("\"{mine}\"")), level == 5, "{line}");
            }
        }
        let message = |payload, retain| (json!(payload), json!(1), json!(retain));
        let seen = |l: &Value| (l["payload"].clone(), l["qos"].clone(), l["retain"].clone());
        assert_eq!(seen(of("retained")), message("kept", true));
        assert_eq!(seen(of("will")), message("gone", false));
        of("answered ping");
        of("ended");
    }

    /// Both levels, each through the gateway and at the broker, all at once.
    fn judge(&self) {
        let stage = Stage::new();
        let gateway = stage.gateway();
        let (near, far) = (gateway.address, stage.broker.plain());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (through_4, alone_4, through_5, alone_5) = runtime.block_on(async {
            tokio::join!(
                self.run(near, 4, "through-4"),
                self.run(far, 4, "alone-4"),
                self.run(near, 5, "through-5"),
                self.run(far, 5, "alone-5"),
            )
        });
        for (level, through, alone) in [(4, through_4, alone_4), (5, through_5, alone_5)] {
            self.check(level, &through);
            let through = without_limit(through, self.limit.filter(|_| level == 5));
            assert_eq!(through.len(), alone.len(), "{through:#?}\n{alone:#?}");
            for (gateway, broker) in through.iter().zip(&alone) {
                assert_eq!(
                    gateway, broker,
                    "{} at level {level}: gateway and broker differ",
                    self.package
                );
            }
            let (id, user) = (format!("through-{level}"), name(self.imsi));
            // Certificate, level and keep-alive as mosquitto has them, for the device and the one that is to die.
            for who in [id.clone(), format!("{id}-will")] {
                stage.broker.wait_for(&[
                    "New client connected",
                    &format!(
                        " as {who} (p{}, c1, k{KEEP_ALIVE}, u'{user}')",
                        if level == 5 { 5 } else { 2 }
                    ),
                ]);
            }
            for said in [
                "Received PINGREQ from ",
                "Sending PINGRESP to ",
                "Received DISCONNECT from ",
            ] {
                stage.broker.wait_for(&[&format!("{said}{id}")]);
            }
            let log = stage.broker.log();
            let goodbye = format!("Received DISCONNECT from {id}-will");
            assert!(
                !log.iter().any(|l| l.contains(&goodbye)),
                "a destroyed socket says no DISCONNECT"
            );
        }
        gateway.wait_until("all are gone", |s| s["open"] == 0 && s["relayed"] == 4);
    }
}

/// The stage's `max_packet`: the one thing that the gateway says of itself at MQTT 5, where mosquitto has no limit. Taken out of a
/// device's lines, after it was found there.
const PACKET_MAX: u64 = 256 << 10;

fn without_limit(mut lines: Vec<Value>, key: Option<&str>) -> Vec<Value> {
    let Some(key) = key else { return lines };
    let connected = lines.iter_mut().find(|l| l["what"] == "connected").expect("a CONNACK");
    let said = connected["properties"].as_object_mut().and_then(|p| p.remove(key));
    let said = said.unwrap_or_else(|| panic!("the gateway did not say how large a packet may be: {connected}"));
    // gmqtt has a list of values for each property.
    assert!(said == PACKET_MAX || said == json!([PACKET_MAX]), "{said}");
    lines
}

const REQUIREMENTS: &str = include_str!("../judges/requirements.txt");

#[test]
fn eclipse_paho() {
    let client = Client {
        program: judges::python,
        script: "device_paho.py",
        package: "paho-mqtt",
        pinned: REQUIREMENTS,
        source: Some(A),
        imsi: IMSI_A,
        most: 2,
        limit: Some("MaximumPacketSize"),
    };
    client.judge();
}

#[test]
fn gmqtt() {
    let client = Client {
        program: judges::python,
        script: "device_gmqtt.py",
        package: "gmqtt",
        pinned: REQUIREMENTS,
        source: None,
        imsi: IMSI_T,
        most: 2,
        limit: Some("maximum_packet_size"),
    };
    client.judge();
}

#[test]
fn aiomqtt() {
    let client = Client {
        program: judges::python_with_aiomqtt,
        script: "device_aiomqtt.py",
        package: "aiomqtt",
        pinned: include_str!("../judges/aiomqtt.txt"),
        source: Some(B),
        imsi: IMSI_B,
        most: 2,
        limit: None,
    };
    client.judge();
}

/// Neither of its clients has QoS 2.
#[test]
fn awscrt() {
    let client = Client {
        program: judges::python,
        script: "device_awscrt.py",
        package: "awscrt",
        pinned: REQUIREMENTS,
        source: None,
        imsi: IMSI_T,
        most: 1,
        limit: Some("maximum_packet_size"),
    };
    client.judge();
}

#[test]
fn mqtt_js() {
    let client = Client {
        program: judges::node,
        script: "device_mqtt.js",
        package: "mqtt",
        pinned: include_str!("../judges/package.json"),
        source: None,
        imsi: IMSI_T,
        most: 2,
        limit: Some("maximumPacketSize"),
    };
    client.judge();
}
