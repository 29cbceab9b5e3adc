//! The vendors' clients are there, load, and have the versions that tests/judges pins.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::judges;

/// Name and version, as the packages' owners spell them.
type Versions = BTreeMap<String, String>;

fn versions(from: &Value) -> Versions {
    serde_json::from_value(from.clone()).unwrap()
}

fn pinned(requirements: &str) -> Versions {
    let pinned = requirements.lines().filter_map(|line| line.split_once("=="));
    pinned
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect()
}

#[tokio::test]
async fn aiomqtt_has_its_pinned_version_and_its_own_paho() {
    let script = "import aiomqtt, json, paho.mqtt\nfrom importlib.metadata import version\n\
                  print(json.dumps({'aiomqtt': version('aiomqtt'), 'paho-mqtt': paho.mqtt.__version__}))";
    let printed = judges::run(judges::python_with_aiomqtt().args(["-c", script])).await;
    assert_eq!(versions(&printed[0]), pinned(include_str!("../judges/aiomqtt.txt")));
}

#[tokio::test]
async fn the_python_clients_have_their_pinned_versions() {
    let pinned = pinned(include_str!("../judges/requirements.txt"));
    assert_eq!(pinned["azure-iot-device"], "2.14.0");
    assert_eq!(pinned["awsiotsdk"], "1.31.0");

    let printed = judges::run(judges::python().arg(judges::script("versions.py"))).await;
    let mut installed = versions(&printed[0]);
    // What a new virtual environment has by itself.
    installed.retain(|name, _| !["pip", "setuptools"].contains(&name.as_str()));
    assert_eq!(installed, pinned);
}

#[tokio::test]
async fn the_node_clients_have_their_pinned_versions() {
    let package: Value = serde_json::from_str(include_str!("../judges/package.json")).unwrap();
    let pinned = versions(&package["dependencies"]);
    assert_eq!(pinned["azure-iot-provisioning-device-http"], "1.9.1");

    let mut judge = judges::node();
    judge
        .arg(judges::script("versions.js"))
        .arg(judges::script("package.json"));
    assert_eq!(versions(&judges::run(&mut judge).await[0]), pinned);
}

#[tokio::test]
#[should_panic(expected = "the name on the wire is wrong")]
async fn what_a_failing_judge_says_is_shown() {
    let script = "import sys; print('{}'); sys.exit('the name on the wire is wrong')";
    judges::run(judges::python().args(["-c", script])).await;
}

#[tokio::test]
#[should_panic(expected = "not a line of JSON")]
async fn a_judge_speaks_json() {
    judges::run(judges::node().args(["-e", "console.log('all is well')"])).await;
}
