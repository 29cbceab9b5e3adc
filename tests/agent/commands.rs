//! The commands beside `run`: check, modem, provision, status.

use onyx::agent::ladder::Rung;
use onyx::bench::clouds::{Cloud, KryptonFault};
use serde_json::Value;

use crate::krypton::asked;
use crate::mosquitto::Mosquitto;
use crate::stage::{Agent, Bench, IMEI, IMSI, Toml, assert_discreet, onyx_agent};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn check_is_content_with_a_good_file_and_needs_no_modem() {
    let bench = Bench::without_dongle();
    let mut toml = Toml::gateway(([127, 0, 0, 1], 1883).into());
    toml.top = toml
        .top
        .replace("'state'", &format!("'{}'", bench.path("state").display()));
    let config = toml.write(&bench);
    let (output, out, err) = onyx_agent(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert!(out.contains("agent.toml can be read and has no mistakes"), "{out}");
    assert!(
        out.contains("is not there") && out.contains("→ plug the dongle in"),
        "{out}"
    );
    let (output, out, _) = onyx_agent(&["check", "--json", "--config", config.to_str().unwrap()]);
    assert!(output.status.success());
    let v = json(&out);
    assert_eq!(
        (v["ok"].as_bool(), v["mistakes"].as_array().unwrap().len()),
        (Some(true), 0)
    );
    let ids: Vec<_> = v["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["modem.port", "clock", "state_dir"]);
}

#[test]
fn check_names_every_mistake_with_its_place() {
    let bench = Bench::without_dongle();
    let text = "client_authname = 'myClient'\n[modem]\nprot = '/dev/x'\n[credentials]\nsource = 'krypton-azure'\n\
                [session]\nto = 'iot-hub'\nport = 0\n[delivery]\ninterval = '0s'\n";
    let config = bench.write("agent.toml", text);
    let (output, out, err) = onyx_agent(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
    for want in [
        "agent.toml:1:19: client_authname: has no placeholder",
        "agent.toml:3:1: unknown key \"modem.prot\"; did you mean \"port\"?",
        "agent.toml:8:8: session.port: 0 is outside 1 to 65535",
        "agent.toml:10:12: delivery.interval",
    ] {
        assert!(err.contains(want), "{want:?} is not in\n{err}");
    }
    let (output, out, _) = onyx_agent(&["check", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let v = json(&out);
    assert_eq!(
        (v["ok"].as_bool(), v["mistakes"].as_array().unwrap().len()),
        (Some(false), 4)
    );
    assert_eq!(
        (v["mistakes"][1]["line"].as_u64(), v["mistakes"][1]["column"].as_u64()),
        (Some(3), Some(1))
    );
    // `run` says the same and does not start.
    let (output, _, run) = onyx_agent(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(run.contains("agent.toml:8:8"), "{run}");

    for (text, want) in [
        ("[modem\n", "agent.toml:1:"),
        ("a = \u{1}", "agent.toml:1:5"),
        ("", "client_authname"),
    ] {
        let config = bench.write("agent.toml", text);
        let (output, _, err) = onyx_agent(&["check", "--config", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(err.contains(want), "{want:?} is not in\n{err}");
    }
    let (output, _, err) = onyx_agent(&["check", "--config", "/nonexistent/agent.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err.contains("cannot read the configuration /nonexistent/agent.toml"),
        "{err}"
    );
}

#[test]
fn check_looks_into_the_files() {
    let bench = Bench::without_dongle();
    let d = bench.dir.path().display().to_string();
    let text = format!(
        "client_authname = 'a-#{{imsi}}'\nstate_dir = '{d}/state'\n[credentials]\nsource = 'files'\ncertificate = '{d}/c.pem'\nkey = '{d}/k.pem'\n\
         [session]\nto = 'event-grid'\nhost = 'x.example'\nca_file = '{d}/ca.pem'\n"
    );
    let config = bench.write("agent.toml", &text);
    let authority = crate::certs::Authority::new(&bench.path("ca"));
    authority.device(crate::certs::Kind::Ec, "one", "a-295012345678901", bench.dir.path());
    authority.device(crate::certs::Kind::Ec, "two", "a-295012345678902", bench.dir.path());
    let copy = |from: &str, to: &str| {
        std::fs::copy(bench.path(from), bench.path(to)).unwrap();
    };
    copy("one.pem", "c.pem");
    copy("two.key", "k.pem");
    let check = || onyx_agent(&["check", "--config", config.to_str().unwrap()]);
    let (output, out, _) = check();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out.contains("credentials  BAD") && out.contains("does not fit the certificate"),
        "{out}"
    );
    assert!(out.contains("session      BAD") && out.contains("ca.pem"), "{out}");
    copy("one.key", "k.pem");
    copy("ca/root.pem", "ca.pem");
    let (output, out, _) = check();
    assert_eq!(output.status.code(), Some(0), "{out}");
}

#[test]
fn modem_tells_all_that_it_knows() {
    let bench = Bench::new();
    let port = bench.port();
    let (output, out, err) = onyx_agent(&["modem", "--json", "--port", port.to_str().unwrap()]);
    assert!(output.status.success(), "{err}");
    let v = json(&out);
    assert_eq!((v["imsi"].as_str(), v["imei"].as_str()), (Some(IMSI), Some(IMEI)));
    assert!(v["iccid"].as_str().unwrap().starts_with("8942310022000012345"));
    let starts = |key: &str, with: &str| assert!(v[key].as_str().unwrap().starts_with(with), "{v}");
    starts("model", "EG25");
    starts("firmware", "EG25GGBR07A08M2G");
    assert_eq!(
        (v["operator"].as_str(), v["rsrp_dbm"].as_i64()),
        (Some("NTT DOCOMO"), Some(-95))
    );
    assert!(v["registration"].as_str().unwrap().contains("roaming"), "{v}");
    let (output, out, _) = onyx_agent(&["modem", "--port", port.to_str().unwrap()]);
    assert!(output.status.success());
    for want in [IMSI, IMEI, "EG25GGBR07A08M2G", "NTT DOCOMO", "RSRP -95 dBm"] {
        assert!(out.contains(want), "{want} is not in\n{out}");
    }
    assert_discreet(&err);
}

#[test]
fn modem_without_sim_gives_what_there_is() {
    let bench = Bench::with("[sim]\nstate = 'absent'\n");
    let (output, out, err) = onyx_agent(&["modem", "--json", "--port", bench.port().to_str().unwrap()]);
    assert!(output.status.success(), "{err}");
    let v = json(&out);
    for key in [
        "imsi",
        "imei",
        "iccid",
        "model",
        "firmware",
        "registration",
        "operator",
        "rsrp_dbm",
    ] {
        assert!(v.get(key).is_some(), "{key} is missing: {v}");
    }
    assert_eq!(
        (v["imei"].as_str(), &v["imsi"], v["sim"].as_str()),
        (Some(IMEI), &Value::Null, Some("not inserted"))
    );
}

#[test]
fn modem_says_why_it_cannot() {
    let bench = Bench::without_dongle();
    let (output, _, err) = onyx_agent(&["modem", "--port", bench.port().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("cannot open") && err.contains("plug"), "{err}");
    bench.plug("[noise]\ngarbage_only = true\n", IMSI);
    let (output, _, err) = onyx_agent(&["modem", "--port", bench.port().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("AT port"), "{err}");
}

/// Paths are absolute because these commands run where the tests run.
pub fn absolute(bench: &Bench, mut toml: Toml) -> Toml {
    let d = bench.dir.path().display();
    toml.top = toml
        .top
        .replace("= 'state'", &format!("= '{d}/state'"))
        .replace("= 'agent.sock'", &format!("= '{d}/agent.sock'"));
    toml.credentials = toml.credentials.replace("'clouds/", &format!("'{d}/clouds/"));
    toml
}

#[test]
fn modem_beside_a_running_agent_says_that_the_port_is_taken() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let agent = Agent::start(&bench, &Toml::gateway(mosquitto.plain()), &[]);
    agent.wait_acknowledged(2);
    let (output, _, err) = onyx_agent(&["modem", "--port", bench.port().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("cannot open") && err.contains("another program") && err.contains("onyx-agent status"),
        "{err}"
    );
    let before = agent.status().unwrap()["delivery"]["acknowledged"].as_u64().unwrap();
    agent.wait_acknowledged(before + 5);
    assert!(!agent.log().contains("garbage"), "the agent's dialogue was disturbed");
}

#[test]
fn provision_fetches_once_and_again_by_force() {
    let bench = Bench::new();
    let clouds = bench.clouds_with(|c| c.assigning_polls = 1);
    let config = absolute(&bench, Toml::krypton(&clouds, Cloud::IotHub)).write(&bench);
    let config = config.to_str().unwrap();
    let mut events = clouds.events();
    let (output, out, err) = onyx_agent(&["provision", "--json", "--config", config]);
    assert!(output.status.success(), "{err}");
    let v = json(&out);
    let device = format!("myDevice-{IMSI}");
    assert_eq!(
        (v["source"].as_str(), v["client_id"].as_str()),
        (Some("krypton-azure"), Some(device.as_str()))
    );
    assert_eq!(v["common_name"].as_str(), Some(device.as_str()));
    assert_eq!(v["host"].as_str(), Some("onyx-hub.azure-devices.net"));
    assert!(
        std::path::Path::new(v["directory"].as_str().unwrap())
            .join("certificate.pem")
            .exists()
    );
    assert_eq!(asked(&mut events), 1);
    assert_discreet(&err);
    let (output, out, err) = onyx_agent(&["provision", "--config", config]);
    assert!(
        output.status.success() && out.contains("certificate") && out.contains("host "),
        "{out}{err}"
    );
    assert_eq!(asked(&mut events), 0, "they are there already");
    let before = std::fs::read_to_string(bench.path(&format!(
        "state/credentials/krypton-azure-{IMSI}/current/certificate.pem"
    )))
    .unwrap();
    // By force, although Krypton is in trouble at first: an answer with the old ones would be a lie.
    clouds.set_krypton_fault(Some("http-500*1".parse().unwrap()));
    let (output, out, err) = onyx_agent(&["provision", "--force", "--config", config]);
    assert!(output.status.success(), "{err}");
    let read = |role: &str| {
        let set = bench.path(&format!("state/credentials/krypton-azure-{IMSI}/{role}"));
        std::fs::read_to_string(set.join("certificate.pem")).unwrap()
    };
    assert_eq!(read("current"), before, "no connection has proven the new ones");
    assert_ne!(read("candidate"), before, "forced, but nothing was fetched");
    assert!(out.contains("the next session proves them"), "{out}");
    assert_discreet(&err);
}

#[test]
fn provision_gives_up_in_time_and_says_what_stands_in_the_way() {
    let bench = Bench::new();
    let clouds = bench.clouds();
    clouds.set_krypton_fault(Some(KryptonFault::Http(403).into()));
    let config = absolute(&bench, Toml::krypton(&clouds, Cloud::IotHub)).write(&bench);
    let (output, _, err) = onyx_agent(&["provision", "--timeout", "8", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    for want in [
        "no credentials within 8 s",
        "credentials: Krypton refuses (HTTP 403)",
        "Krypton settings are enabled",
    ] {
        assert!(err.contains(want), "{want:?} is not in\n{err}");
    }
    assert_discreet(&err);
}

#[test]
fn status_for_people_shows_the_ladder() {
    let bench = Bench::new();
    let mosquitto = Mosquitto::start(bench.dir.path(), None);
    let agent = Agent::start(&bench, &Toml::gateway(mosquitto.plain()), &[]);
    agent.wait_acknowledged(2);
    let socket = bench.path("agent.sock");
    let (output, out, err) = onyx_agent(&["status", "--socket", socket.to_str().unwrap()]);
    assert!(output.status.success(), "{err}");
    let mut from = 0;
    for rung in Rung::ALL.map(Rung::word) {
        let line = format!("● {rung:<12} up");
        from += out[from..]
            .find(&line)
            .unwrap_or_else(|| panic!("{line:?} is not in its place in\n{out}"));
    }
    assert!(out.contains("IMSI 29501********01"), "{out}");
    assert_discreet(&out);
}

#[test]
fn status_when_nothing_runs_says_so() {
    let bench = Bench::without_dongle();
    let socket = bench.path("agent.sock");
    for more in [None, Some("--json")] {
        let mut args = vec!["status", "--socket", socket.to_str().unwrap()];
        args.extend(more);
        let (output, out, err) = onyx_agent(&args);
        assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
        assert!(err.contains("no onyx-agent is running with the socket"), "{err}");
    }
}

/// What `run` could not use, `check` does not call good.
#[test]
fn check_refuses_what_run_could_not_use() {
    let bench = Bench::new();
    let long = format!("/tmp/{}", "x".repeat(120));
    for (line, want) in [
        (format!("status_socket = '{long}'\n"), "107 bytes"),
        ("[link]\ninterface = ''\n".to_owned(), "no interface name"),
        ("[log]\nfilter = 'nonsense===,,'\n".to_owned(), "cannot be read"),
    ] {
        let text =
            format!("client_authname = 'a-#{{imsi}}'\ncredentials.source = 'none'\nsession.to = 'gateway'\n{line}");
        let path = bench.write("bad.toml", &text);
        let (output, _, err) = onyx_agent(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(err.contains(want), "{want:?} is not in {err}");
    }
    for endless in ["/dev/zero", "/dev/full"] {
        let (output, _, err) = onyx_agent(&["check", "--config", endless]);
        assert_eq!(output.status.code(), Some(1));
        assert!(err.contains("not a regular file"), "{err}");
    }
}
