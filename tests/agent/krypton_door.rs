//! `onyx-agent krypton …` before the bench's Krypton: by which door it asks, and what is right about an answer.

use std::path::PathBuf;

use onyx::bench::clouds::{Cloud, Clouds, Event, What};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use crate::stage::{Bench, IMSI, onyx_agent};

/// Every operation's name.
pub const ALL: [&str; 8] = [
    "azure",
    "aws",
    "cognito-credentials",
    "cognito-token",
    "inventory",
    "arc",
    "metadata",
    "userdata",
];
/// The program's door to the stand-in.
pub struct Door<'a> {
    bench: &'a Bench,
    clouds: &'a Clouds,
    pub sim: bool,
}

impl<'a> Door<'a> {
    pub fn cellular(bench: &'a Bench, clouds: &'a Clouds) -> Self {
        Self {
            bench,
            clouds,
            sim: false,
        }
    }

    pub fn sim(bench: &'a Bench, clouds: &'a Clouds) -> Self {
        Self {
            bench,
            clouds,
            sim: true,
        }
    }

    pub fn endpoint(&self) -> [String; 6] {
        let cloud = if self.sim { Cloud::KryptonSim } else { Cloud::Krypton };
        let at = self.clouds.address(cloud).unwrap();
        let host = &self.clouds.stand_ins().iter().find(|s| s.name == cloud).unwrap().host;
        let ca = self.bench.path("clouds/ca.pem").display().to_string();
        let url = format!("https://{host}:{}", at.port());
        [
            "--url".into(),
            url,
            "--address".into(),
            at.to_string(),
            "--ca-file".into(),
            ca,
        ]
    }

    /// A file that has the modem, and the endpoint if it is the SIM's.
    pub fn config(&self) -> PathBuf {
        let path = |name: &str| self.bench.path(name).display().to_string();
        let [_, url, _, at, _, ca] = self.endpoint();
        let text = format!(
            "client_authname = 'myClient-#{{imsi}}'\nstate_dir = '{}'\nstatus_socket = '{}'\n[modem]\nport = '{}'\n\
             [credentials]\nsource = 'krypton-azure'\nauth = '{}'\nurl = '{url}'\naddress = '{at}'\nca_file = '{ca}'\npoll = '50ms'\n\
             polls_max = 3\n[session]\nto = 'iot-hub'\n",
            path("state"),
            path("agent.sock"),
            path("onyx-at"),
            if self.sim { "sim" } else { "cellular" },
        );
        self.bench.write("krypton.toml", &text)
    }

    /// Asks, with the configuration file if the SIM is needed and with options alone otherwise.
    pub fn ask(&self, operation: &str, more: &[&str]) -> (bool, String, String) {
        let mut args: Vec<String> = vec!["krypton".into(), operation.into()];
        if self.sim {
            args.extend(["--config".into(), self.config().display().to_string()]);
        } else {
            args.extend(self.endpoint());
        }
        args.extend(more.iter().map(|a| (*a).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (output, out, err) = onyx_agent(&args);
        (output.status.success(), out, err)
    }

    pub fn json(&self, operation: &str, more: &[&str]) -> Value {
        let (good, out, err) = self.ask(operation, &[more, &["--json"]].concat());
        assert!(good, "{operation}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// It fails, and says all of this; nothing on standard output, no number of the subscriber.
    pub fn fails(&self, operation: &str, more: &[&str], wants: &[&str]) {
        let (good, out, err) = self.ask(operation, more);
        assert!(!good && out.is_empty(), "{operation} {more:?}: {out}");
        for want in wants {
            assert!(err.contains(want), "{operation}: {want:?} is not in\n{err}");
        }
        assert!(!err.contains("PRIVATE KEY"), "{err}");
    }
}

/// `METHOD path` of everything that was asked at Krypton's doors since the last look.
pub fn asked(events: &mut Receiver<Event>) -> Vec<String> {
    std::iter::from_fn(|| events.try_recv().ok())
        .filter_map(|e| match e.what {
            What::Http { method, path, .. } => Some(format!("{method} {path}")),
            _ => None,
        })
        .collect()
}

pub fn authentications(asked: &[String]) -> usize {
    asked.iter().filter(|a| *a == "POST /v1/keys").count()
}

pub fn is_pem(value: &Value) -> bool {
    value.as_str().is_some_and(|t| t.starts_with("-----BEGIN "))
}

pub fn looks_right(operation: &str, v: &Value) {
    match operation {
        "azure" => {
            assert_eq!(
                (&v["deviceId"], &v["host"]),
                (&json!(format!("myDevice-{IMSI}")), &json!("onyx-hub.azure-devices.net"))
            );
            assert!(is_pem(&v["certificate"]) && is_pem(&v["privateKey"]) && is_pem(&v["rootCaCertificate"]));
        }
        "aws" => {
            assert_eq!(
                (&v["clientId"], &v["region"]),
                (&json!(format!("myThing-{IMSI}")), &json!("ap-northeast-1"))
            );
            assert!(is_pem(&v["certificate"]) && is_pem(&v["privateKey"]) && is_pem(&v["rootCaCertificate"]));
            assert!(v["certificateId"].is_string());
        }
        "cognito-credentials" => {
            assert!(v["accessKeyId"].as_str().unwrap().starts_with("ASIA") && v["expiration"].is_u64());
            assert!(v["secretKey"].is_string() && v["sessionToken"].is_string());
        }
        "cognito-token" => assert_eq!(v["token"].as_str().unwrap().matches('.').count(), 2),
        "inventory" => assert!(v["serverUri"].as_str().unwrap().starts_with("coaps://")),
        "arc" => {
            assert_eq!(v["arcAllowedIPs"], json!(["100.127.0.0/16"]));
            assert!(v["arcServerPeerPublicKey"].is_string() && v["arcClientPeerPrivateKey"].is_string());
        }
        "metadata" => assert_eq!((&v["imsi"], &v["plan"]), (&json!(IMSI), &json!("plan01s"))),
        "userdata" => assert_eq!(v["userdata"], "from the group\n"),
        other => panic!("{other}"),
    }
}
