//! Krypton says no, or something goes wrong on the way to it: the program says what, and what to do, by either door.

use onyx::bench::clouds::{Cloud, Group, KryptonFault};

use crate::krypton_door::{Door, asked, authentications};
use crate::stage::{Bench, onyx_agent};

#[test]
fn the_groups_settings_are_explained() {
    for (group, operation, why, cure) in [
        ("none", "azure", "in no group", "put this SIM into a SIM group"),
        ("disabled", "aws", "not enabled", "enabled: true"),
        ("azure", "aws", "has nothing for", "credential store"),
        ("aws", "cognito-token", "has nothing for", "credential store"),
        ("aws", "arc", "has nothing for", "credential store"),
        ("arc", "inventory", "has nothing for", "credential store"),
    ] {
        let bench = Bench::new();
        let group: Group = group.parse().unwrap();
        let clouds = bench.clouds_with(|c| c.krypton_group = group);
        for door in [Door::cellular(&bench, &clouds), Door::sim(&bench, &clouds)] {
            door.fails(operation, &[], &["Krypton refuses (HTTP 40", why, cure]);
        }
        if operation == "azure" {
            let mut events = clouds.events();
            Door::sim(&bench, &clouds).fails(operation, &[], &[why]);
            assert_eq!(authentications(&asked(&mut events)), 0, "the key is not to blame");
        }
    }
    let bench = Bench::without_dongle();
    let clouds = bench.clouds_with(|c| {
        c.subscribers = onyx::bench::clouds::Subscribers::parse(&["295012345678901@127.0.0.9".into()]).unwrap();
    });
    let wants = [
        "does not come in over a SORACOM SIM",
        "link.interface",
        "auth = \"sim\"",
    ];
    Door::cellular(&bench, &clouds).fails("azure", &[], &wants);
}

#[test]
fn every_fault_of_krypton_has_its_words_and_leaves_no_file() {
    let whole: [(KryptonFault, &[&str]); 8] = [
        (KryptonFault::Http(403), &["(HTTP 403)"]),
        (KryptonFault::Http(404), &["(HTTP 404)"]),
        (KryptonFault::Http(429), &["in trouble (HTTP 429)", "asked again later"]),
        (KryptonFault::Http(503), &["in trouble (HTTP 503)", "asked again later"]),
        (KryptonFault::Html, &["not Krypton's", "begins with", "captive portal"]),
        (KryptonFault::Truncated, &["not Krypton's", "cut off after"]),
        (KryptonFault::Empty, &["not Krypton's", "it is empty"]),
        (KryptonFault::Slow, &["was not reached", "did not answer within"]),
    ];
    let credentials: [(KryptonFault, &[&str]); 4] = [
        (KryptonFault::Expired, &["cannot be used", "expired on"]),
        (KryptonFault::WrongKey, &["cannot be used", "does not fit"]),
        (KryptonFault::GarbageCertificate, &["cannot be used", "damaged"]),
        (KryptonFault::Failed, &["ended as \"failed\"", "enrolment"]),
    ];
    let bench = Bench::new();
    let clouds = bench.clouds();
    let kept = bench.path("kept").display().to_string();
    for door in [Door::cellular(&bench, &clouds), Door::sim(&bench, &clouds)] {
        let put = |fault: Option<KryptonFault>| clouds.set_krypton_fault(fault.map(Into::into));
        for (fault, wants) in whole {
            put(Some(fault));
            door.fails("azure", &["--timeout", "1", "--out", &kept], wants);
        }
        for (fault, wants) in credentials {
            put(Some(fault));
            door.fails("azure", &["--out", &kept], wants);
            if fault != KryptonFault::Failed {
                door.fails("aws", &["--out", &kept], wants);
            }
        }
        if door.sim {
            put(Some(KryptonFault::NeverAssigned));
            door.fails(
                "azure",
                &["--out", &kept],
                &["still \"assigning\" after 3 tries", "Azure is slow"],
            );
        }
        put(None);
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 0);
    }
}

#[test]
fn every_fault_of_the_wire_has_its_words() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let late: [&str; 2] = ["was not reached", "did not answer within"];
    let faults: [(&str, [&str; 2]); 15] = [
        ("refuse-tcp", ["was not reached", "reset"]),
        ("tls-alert-40", ["was not reached", "TLS with"]),
        ("stall@accept", late),
        ("stall@client-hello", late),
        ("stall@server-hello", late),
        ("stall@finished", late),
        ("stall@request", late),
        ("stall@response", late),
        ("stall-down@600", late),
        ("throttle=100", late),
        ("cut-up@100", ["was not reached", "soracom.io: "]),
        ("cert-expired", ["was not reached", "expired"]),
        ("cert-not-yet-valid", ["was not reached", "not valid yet"]),
        ("cert-wrong-name", ["was not reached", "TLS with"]),
        ("cert-unknown-authority", ["was not reached", "credentials.ca_file"]),
    ];
    for (door, cloud) in [
        (Door::cellular(&bench, &clouds), "krypton"),
        (Door::sim(&bench, &clouds), "krypton-sim"),
    ] {
        for (fault, wants) in faults {
            clouds.put_fault(&format!("{cloud}:{fault}").parse().unwrap()).unwrap();
            door.fails("cognito-token", &["--timeout", "1"], &wants);
            clouds.controls().clear(None).unwrap();
        }
        door.json("cognito-token", &[]);
    }
}

#[test]
fn a_clock_that_is_wrong_is_named_and_the_key_is_not_blamed() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let door = Door::sim(&bench, &clouds);
    door.json("arc", &[]);
    let mut events = clouds.events();
    clouds.controls().jump(Some(Cloud::KryptonSim), 400_000).unwrap();
    door.fails(
        "arc",
        &[],
        &["refuses (HTTP 401)", "x-soracom-timestamp", "set this machine's clock"],
    );
    assert_eq!(asked(&mut events).len(), 1);
    clouds.controls().jump(Some(Cloud::KryptonSim), -400_000).unwrap();
    door.json("arc", &[]);
    assert_eq!(asked(&mut events).len(), 1);
}

/// Nothing was granted yet, so nothing granted is to blame.
#[test]
fn an_unusable_file_of_authorities_is_told_as_that() {
    let bench = Bench::without_dongle();
    let file = bench.write("no.pem", "nothing");
    let args = ["krypton", "arc", "--ca-file", file.to_str().unwrap()];
    let (output, _, err) = onyx_agent(&args);
    assert!(!output.status.success());
    assert!(
        err.contains("Krypton is not asked: there is no certificate in credentials.ca_file")
            && !err.contains("granted"),
        "{err}"
    );
}
