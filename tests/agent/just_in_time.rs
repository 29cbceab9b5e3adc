//! Just-in-time registration at AWS IoT: the first connection of an operator's certificate ends, a later one is let in.

use onyx::bench::clouds::aws_iot::registry::{Registration, Status};
use onyx::bench::clouds::{Cloud, Clouds, What};
use onyx::clock::Clock;
use onyx::tls::{Clients, Identity, Server, Versions};

use crate::certs::{Authority, Kind};
use crate::krypton::assert_arrived;
use crate::stage::{Agent, Bench, Toml, auth_name};

const N: u64 = 3;

/// A device of the operator's own authority; clouds where that authority is registered.
fn stage(kind: Kind, registration: Registration) -> (Bench, Clouds, Toml) {
    let bench = Bench::new();
    let authority = Authority::new(&bench.path("ca"));
    authority.device(kind, "device", &auth_name(), bench.dir.path());
    let clouds = bench.clouds();
    // AWS wants the certificate that has signed the device's.
    let signer = match kind {
        Kind::V1 => "v1root.pem",
        _ => "intermediate.pem",
    };
    let pem = std::fs::read(authority.file(signer)).unwrap();
    let der = onyx::tls::certificates(&pem, signer).unwrap().remove(0);
    clouds
        .aws_iot()
        .registry(|r| r.add_authority(der, registration))
        .unwrap();
    let mut toml = Toml::stand_in(&clouds, Cloud::AwsIot);
    toml.credentials = "source = 'files'\ncertificate = 'device.pem'\nkey = 'device.key'\n".into();
    // AWS takes one CONNECT a second from a client id.
    toml.session = toml
        .session
        .replace("retry_min = '50ms'", "retry_min = '2s'")
        .replace("retry_max = '1s'", "retry_max = '3s'");
    (bench, clouds, toml)
}

fn at_once() -> Registration {
    Registration::Jitr {
        activate_after: Some(std::time::Duration::ZERO),
    }
}

fn registers(kind: Kind) {
    let (bench, clouds, toml) = stage(kind, at_once());
    let mut events = clouds.events();
    let ended = Agent::until(&bench, &toml, N).delivers(N);
    assert_arrived(&bench, &clouds, Cloud::AwsIot, N);
    let seen: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).map(|e| e.what).collect();
    let first = |w: &&What| matches!(w, What::Refused { rule, .. } if *rule == "aws-iot/first-connection");
    assert_eq!(seen.iter().filter(first).count(), 1, "{seen:#?}");
    let host = |s: &Option<String>| s.as_deref().is_some_and(|s| s.ends_with(".amazonaws.com"));
    let let_in = |w: &&What| matches!(w, What::Connected { cn, sni, .. } if *cn == auth_name() && host(sni));
    assert_eq!(seen.iter().filter(let_in).count(), 1, "{seen:#?}");
    let down: Vec<_> = ended
        .log
        .lines()
        .filter(|l| l.contains("first connection is expected to fail"))
        .collect();
    assert_eq!(down.len(), 1, "{}", ended.log);
    assert!(down[0].contains("session"), "{down:?}");
}

#[test]
fn the_second_connection_is_let_in() {
    registers(Kind::Ec);
}

#[test]
fn also_with_a_certificate_of_version_1() {
    registers(Kind::V1);
}

/// Nobody activates it for a while: the agent goes on trying, and comes up soon after somebody has.
#[test]
fn a_certificate_that_is_activated_by_hand() {
    let (bench, clouds, toml) = stage(Kind::Rsa, Registration::Jitr { activate_after: None });
    let agent = Agent::until(&bench, &toml, N);
    agent.wait_down_times(
        "session",
        &["closed the connection before it worked"],
        &[
            "just-in-time registration: first connection is expected to fail",
            "tried again soon",
            "ACTIVE",
        ],
        3,
    );
    clouds.aws_iot().registry(|r| {
        let of = r.certificates().find(|c| c.status == Status::PendingActivation);
        let id = of.unwrap().id.clone();
        r.attach_policies(&id, vec!["onyx-bench-certificate".into(), "onyx-bench-topics-0".into()])
            .unwrap();
        r.set_status(&id, Status::Active).unwrap();
    });
    agent.delivers(N);
    assert_arrived(&bench, &clouds, Cloud::AwsIot, N);
}

/// An authority in the file goes over the line with the certificate: AWS may want it, and at a first connection of an older account does.
#[test]
fn the_authority_in_the_file_is_shown() {
    let bench = Bench::new();
    let authority = Authority::new(&bench.path("ca"));
    authority.device(Kind::Ec, "device", &auth_name(), bench.dir.path());
    let read = |name: &str| std::fs::read_to_string(name).unwrap();
    let file = |name: &str| authority.file(name).to_str().unwrap().to_owned();
    let device = bench.path("device.pem");
    let whole = read(device.to_str().unwrap()) + &read(&file("root.pem"));
    std::fs::write(&device, &whole).unwrap();
    let (chain, key) = authority.server();
    let server = Identity::from_pem(&std::fs::read(chain).unwrap(), &std::fs::read(key).unwrap(), "server").unwrap();
    let config = Server {
        identity: &server,
        clients: Clients::Proven,
        versions: Versions::Both,
        alpn: &[],
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(config.build(&Clock::new()).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let toml = Toml::files("aws-iot", listener.local_addr().unwrap());
    let mut toml = toml;
    toml.delivery += "topic = 'exampletopics/topic1'\n";
    let agent = Agent::start(&bench, &toml, &[]);
    let shown = bench.rt.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        let state = stream.get_ref().1;
        assert_eq!(state.server_name(), Some("localhost"));
        state.peer_certificates().unwrap().to_vec()
    });
    drop(agent);
    assert_eq!(shown, onyx::tls::certificates(whole.as_bytes(), "the file").unwrap());
    assert_eq!(shown.len(), 3, "leaf, intermediate, root");
}
