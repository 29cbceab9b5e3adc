//! Credentials from Krypton: fetched once, kept, fetched again when they cannot be used.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onyx::bench::clouds::{Cloud, Clouds, Event, What};
use onyx::identity::ClientId;
use onyx::pki::{Authority, Issued, Purpose};
use onyx::provision::store::Store;
use onyx::provision::{Grant, Material};
use tokio::sync::broadcast::Receiver;

use crate::seqs::Arrived;
use crate::stage::{Agent, Bench, IMSI, OTHER_IMSI, PATIENCE, Toml};

const N: u64 = 5;

/// How many credentials Krypton was asked for since the last look.
pub fn asked(events: &mut Receiver<Event>) -> usize {
    std::iter::from_fn(|| events.try_recv().ok())
        .filter(|e| matches!(&e.what, What::Http { method, .. } if method == "POST"))
        .count()
}

/// Everything the agent acknowledged so far has arrived: `n` different samples in all.
pub fn assert_arrived(bench: &Bench, clouds: &Clouds, cloud: Cloud, n: u64) -> Arrived {
    let enough = |all: &[_]| Arrived::of_cloud(all, cloud).count() >= n;
    bench.rt.block_on(clouds.wait_for_messages(PATIENCE, enough));
    let arrived = Arrived::of_cloud(&clouds.messages(), cloud);
    assert_eq!(arrived.count(), n);
    arrived
}

fn set(bench: &Bench, source: &str, imsi: &str) -> PathBuf {
    bench.path(&format!("state/credentials/{source}-{imsi}/current"))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Makes `issued` the current set.
fn keep(state: &Path, imsi: &str, issued: &Issued) {
    let store = Store::new(state, "krypton-azure", &imsi.parse().unwrap(), None);
    let grant = Grant {
        host: "onyx-hub.azure-devices.net".into(),
        client_id: ClientId::new("dev".into()).unwrap(),
        material: Material::Issued {
            certificate_pem: issued.chain_pem.clone(),
            private_key_pem: issued.key_pem.clone(),
        },
        root_ca_pem: None,
    };
    store.stage(&grant, Duration::ZERO).unwrap();
    store.promote().unwrap();
}

fn fetched_once(cloud: Cloud, source: &str) {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.assigning_polls = 3);
    let toml = Toml::krypton(&clouds, cloud);
    let mut events = clouds.events();
    Agent::until(&bench, &toml, N).delivers(N);
    assert_eq!(asked(&mut events), 1);
    assert_arrived(&bench, &clouds, cloud, N);
    let set = set(&bench, source, IMSI);
    assert_eq!(mode(&set.join("private.key")), 0o600);
    for directory in [
        &set,
        set.parent().unwrap(),
        &bench.path("state/credentials"),
        &bench.path("state"),
    ] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    // The next start uses what is there.
    Agent::until(&bench, &toml, N).delivers(N);
    assert_eq!(asked(&mut events), 0, "Krypton was asked again");
    assert_arrived(&bench, &clouds, cloud, 2 * N);
}

#[test]
fn azure_registers_polls_and_does_not_ask_again() {
    fetched_once(Cloud::IotHub, "krypton-azure");
}

#[test]
fn aws_bootstraps_and_does_not_ask_again() {
    fetched_once(Cloud::AwsIot, "krypton-aws");
}

#[test]
fn credentials_that_cannot_be_used_are_fetched_again() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    let toml = Toml::krypton(&clouds, Cloud::IotHub);
    let mut events = clouds.events();
    Agent::until(&bench, &toml, N).delivers(N);
    asked(&mut events);
    let time = onyx::clock::Clock::new().now().unwrap().0;
    let day = Duration::from_secs(86_400);
    let old = Authority::generate("Test", time - 9 * day, 20 * day)
        .unwrap()
        .issue("dev", &Purpose::Device, time - 9 * day, day)
        .unwrap();
    let directory = set(&bench, "krypton-azure", IMSI);
    let change = |name: &str, f: &dyn Fn(String) -> String| {
        let path = directory.join(name);
        std::fs::write(&path, f(std::fs::read_to_string(&path).unwrap())).unwrap();
    };
    let damage: [(&str, &dyn Fn()); 5] = [
        ("those on disk are damaged", &|| {
            change("private.key", &|_| "no key at all".into());
        }),
        ("those on disk are damaged", &|| {
            change("certificate.pem", &|pem| pem[..pem.len() / 2].into());
        }),
        ("the certificate expired on", &|| {
            keep(&bench.path("state"), IMSI, &old);
        }),
        ("those on disk belong to another SIM", &|| {
            keep(&bench.path("other"), OTHER_IMSI, &old);
            let other = bench.path(&format!("other/credentials/krypton-azure-{OTHER_IMSI}/current"));
            for file in std::fs::read_dir(other).unwrap().flatten() {
                std::fs::copy(file.path(), directory.join(file.file_name())).unwrap();
            }
        }),
        ("those on disk are damaged", &|| {
            change("manifest.json", &|json| json[..json.len() / 2].into());
        }),
    ];
    for (n, (why, damage)) in damage.iter().enumerate() {
        damage();
        let ended = Agent::until(&bench, &toml, N).delivers(N);
        assert!(ended.log.contains(why), "{why:?} is not in\n{}", ended.log);
        assert_eq!(asked(&mut events), 1, "{n}: {why}");
        assert_arrived(&bench, &clouds, Cloud::IotHub, (n as u64 + 2) * N);
        assert_eq!(mode(&directory.join("private.key")), 0o600);
    }
}

#[test]
fn another_sim_in_the_dongle_gets_credentials_of_its_own_and_the_first_keeps_its() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.device_id_pattern = "dev-$imsi".into());
    let toml = Toml::krypton(&clouds, Cloud::IotHub);
    let mut events = clouds.events();
    Agent::until(&bench, &toml, N).delivers(N);
    bench.unplug();
    bench.plug("", OTHER_IMSI);
    Agent::until(&bench, &toml, N).delivers(N);
    assert_eq!(asked(&mut events), 2);
    assert!(set(&bench, "krypton-azure", OTHER_IMSI).join("private.key").exists());
    bench.unplug();
    bench.plug("", IMSI);
    Agent::until(&bench, &toml, N).delivers(N);
    assert_eq!(asked(&mut events), 0, "the first SIM's are still there");
    assert_arrived(&bench, &clouds, Cloud::IotHub, 3 * N);
}

#[test]
fn killed_at_any_moment_of_provisioning_it_starts_again_and_delivers() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.assigning_polls = 1);
    let toml = Toml::krypton(&clouds, Cloud::IotHub);
    let mut seen = 0;
    for n in 0..12_u64 {
        let agent = Agent::start(&bench, &toml, &[]);
        // The moment is a stimulus and proves nothing: some fall before the fetch, some into it, some after it.
        std::thread::sleep(Duration::from_millis(20 + 35 * n));
        agent.kill();
        let current = set(&bench, "krypton-azure", IMSI);
        if current.exists() {
            seen += 1;
            // What `current` names is whole: key and certificate fit.
            let read = |name: &str| std::fs::read(current.join(name)).unwrap();
            onyx::tls::Identity::from_pem(&read("certificate.pem"), &read("private.key"), "the set").unwrap();
            if n % 2 == 0 {
                std::fs::remove_dir_all(bench.path("state/credentials")).unwrap();
            }
        }
    }
    let agent = Agent::start(&bench, &toml, &[]);
    agent.wait_acknowledged(N);
    let log = agent.log();
    assert!(
        !log.contains("those on disk are damaged"),
        "{seen} sets were seen\n{log}"
    );
}
