use std::path::Path;

use super::*;
use crate::config::agent::AgentConfig;

fn parse(credentials: &str, to: &str) -> Result<AgentConfig, String> {
    let text = format!("client_authname='a-#{{imsi}}'\n[credentials]\n{credentials}\n[session]\n{to}\n");
    AgentConfig::parse(Path::new("agent.toml"), &text).map_err(|e| e.to_string())
}

#[test]
fn the_door_decides_the_default_address() {
    for (auth, want) in [("cellular", KRYPTON_URL), ("sim", SORACOM_API_URL)] {
        let config = parse(&format!("source='krypton-aws'\nauth='{auth}'"), "to='aws-iot'").unwrap();
        let CredentialsConfig::Krypton(k) = config.credentials else {
            panic!()
        };
        assert_eq!(k.url.as_str().trim_end_matches('/'), want);
    }
}

#[test]
fn a_whole_dps_section_and_its_defaults() {
    let least = "source='dps'\nid_scope='0ne00111111'\ncertificate='c.pem'\nkey='/k.pem'";
    let config = parse(least, "to='iot-hub'").unwrap();
    assert_eq!(config.keep, KeepConfig::default());
    let CredentialsConfig::Dps(d) = config.credentials else {
        panic!()
    };
    assert_eq!(
        (d.service.protocol, d.service.host.as_str(), d.service.csr),
        (DpsProtocol::Https, DPS_HOST, false)
    );
    assert!(d.registration_id.is_none());
    let more =
        format!("{least}\nprotocol='mqtt'\ncsr=true\nregistration_id='r-#{{imei}}'\nrenew_at=50\nencrypt_with='k'");
    let config = parse(&more, "to='iot-hub'").unwrap();
    assert_eq!(
        (config.keep.renew_at, config.keep.encrypt_with.as_deref()),
        (50, Some("k"))
    );
}

#[test]
fn a_fleet_asks_for_the_host_and_sends_the_imei_when_nothing_else_is_said() {
    let least = "source='aws-fleet'\ntemplate='T_1-x'\ncertificate='c.pem'\nkey='k.pem'";
    let e = parse(least, "to='aws-iot'").unwrap_err();
    assert!(e.contains("session.host: is missing"), "{e}");
    let to = "to='aws-iot'\nhost='x-ats.iot.eu-west-1.amazonaws.com'";
    let config = parse(least, to).unwrap();
    let CredentialsConfig::Fleet(f) = config.credentials else {
        panic!()
    };
    assert_eq!(f.parameters["SerialNumber"].source(), "#{imei}");
    let config = parse(&format!("{least}\nparameters={{ Line='7', Sim='#{{imsi}}' }}"), to).unwrap();
    let CredentialsConfig::Fleet(f) = config.credentials else {
        panic!()
    };
    assert_eq!(f.parameters.keys().collect::<Vec<_>>(), ["Line", "Sim"]);
}

#[test]
fn every_mistake_is_named() {
    for (section, to, want) in [
        ("source='dps'", "to='iot-hub'", "credentials.id_scope"),
        (
            "source='dps'\nid_scope='a/b'\ncertificate='c'\nkey='k'",
            "to='iot-hub'",
            "letters and digits",
        ),
        (
            "source='dps'\nid_scope='0ne'\ncertificate='c'\nkey='k'",
            "to='aws-iot'",
            "dps gives credentials for",
        ),
        (
            "source='aws-fleet'\ntemplate='a b'\ncertificate='c'\nkey='k'",
            "to='aws-iot'\nhost='h'",
            "provisioning template",
        ),
        (
            "source='krypton-aws'\nparameters={ a = 1 }",
            "to='aws-iot'",
            "credentials.parameters.a must be a string",
        ),
        (
            "source='krypton-aws'\nparameters={ a = '#{imis}' }",
            "to='aws-iot'",
            "credentials.parameters.a",
        ),
        ("source='krypton-aws'\nparameters=7", "to='aws-iot'", "table of texts"),
        (
            "source='krypton-aws'\nencrypt_with='a/b'",
            "to='aws-iot'",
            "systemd credential",
        ),
        ("source='krypton-aws'\nrenew_at=99", "to='aws-iot'", "renew_at"),
        ("source='krypton-aws'\nid_scope='0ne'", "to='aws-iot'", "id_scope"),
        (
            "source='files'\ncertificate='c'\nkey='k'\nrenew_at=50",
            "to='aws-iot'\nhost='h'",
            "renew_at",
        ),
    ] {
        let e = parse(section, to).unwrap_err();
        assert!(e.contains(want), "{section}: {want:?} is not in {e}");
    }
}
