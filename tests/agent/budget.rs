//! What each way to credentials costs: `cargo test --release --test agent budget -- --ignored --nocapture` prints the table of
//! docs/credentials.md. Bytes are what TCP carries: TLS, HTTP and MQTT, both handshakes included; the stand-ins' certificates are EC P-256, so
//! the clouds' RSA chains add about two KiB for each full handshake.

use std::net::SocketAddr;

use onyx::bench::clouds::{Cloud, Protocol};

use crate::stage::{Agent, Bench, Toml, now};
use crate::wire::Wire;
use crate::{dps, fleet, krypton_sim};

/// Lays a counting wire to an address that the configuration names; the port in a URL is the wire's too.
fn through(toml: &mut Toml, at: SocketAddr) -> Wire {
    let wire = Wire::new(at);
    let (old, new) = (format!("'{at}'"), format!("'{}'", wire.address));
    for part in [&mut toml.credentials, &mut toml.session] {
        *part = part.replace(&old, &new);
    }
    wire
}

fn measure(way: &str, bench: &Bench, mut toml: Toml, asked: SocketAddr, broker: SocketAddr) {
    let service = through(&mut toml, asked);
    // Fleet provisioning talks to the broker itself: one wire for both.
    let session = (asked != broker).then(|| through(&mut toml, broker));
    let begin = now();
    let ended = Agent::until(bench, &toml, 1).delivers(1);
    let seconds = begin.elapsed().as_secs_f32();
    assert!(ended.acknowledged == 1 && bench.path("state/credentials").exists());
    let (up, down) = service.carried();
    let at_session = session.map_or_else(
        || "in the same".to_owned(),
        |wire| {
            let (up, down) = wire.carried();
            format!("{up} + {down}")
        },
    );
    println!(
        "| {way} | {up} | {down} | {} | {at_session} | {seconds:.2} s |",
        service.connections()
    );
}

#[test]
#[ignore = "a measurement"]
fn of_each_way() {
    println!(
        "| way | up | down | connections | first session, up + down | bare device to first message |\n|---|---|---|---|---|---|"
    );
    let krypton = |cloud: Cloud, way: &str| {
        let bench = Bench::new();
        let clouds = bench.clouds();
        let toml = Toml::krypton(&clouds, cloud);
        let at = (clouds.address(Cloud::Krypton).unwrap(), clouds.address(cloud).unwrap());
        measure(way, &bench, toml, at.0, at.1);
    };
    krypton(Cloud::IotHub, "Krypton by the line, Azure");
    krypton(Cloud::AwsIot, "Krypton by the line, AWS");
    for (cloud, way) in [
        (Cloud::IotHub, "Krypton by the SIM, Azure"),
        (Cloud::AwsIot, "Krypton by the SIM, AWS"),
    ] {
        let bench = Bench::new();
        let clouds = bench.clouds();
        let toml = krypton_sim::by_sim(&bench, &clouds, cloud, "");
        let at = (
            clouds.address(Cloud::KryptonSim).unwrap(),
            clouds.address(cloud).unwrap(),
        );
        measure(way, &bench, toml, at.0, at.1);
    }
    for (protocol, csr, way) in [
        ("https", false, "DPS, HTTPS"),
        ("mqtt", false, "DPS, MQTT"),
        ("https", true, "DPS issuing (preview), HTTPS"),
        ("mqtt", true, "DPS issuing (preview), MQTT"),
    ] {
        let bench = Bench::new();
        let clouds = dps::clouds_with(&bench, |_| {});
        dps::issues(&clouds);
        let mut toml = dps::toml(&clouds, protocol);
        if csr {
            toml.credentials += "csr = true\n";
        }
        let door = if protocol == "https" {
            Protocol::Https
        } else {
            Protocol::Mqtts
        };
        let at = (
            clouds.door(Cloud::Dps, door).unwrap(),
            clouds.address(Cloud::IotHub).unwrap(),
        );
        measure(way, &bench, toml, at.0, at.1);
    }
    let bench = Bench::new();
    let clouds = fleet::clouds(&bench);
    let at = clouds.door(Cloud::AwsIot, Protocol::Mqtts).unwrap();
    measure(
        "AWS fleet by claim",
        &bench,
        fleet::fleet(&clouds, Protocol::Mqtts),
        at,
        at,
    );
}
