use super::*;

fn parse(text: &str) -> Result<AgentConfig, String> {
    AgentConfig::parse(Path::new("agent.toml"), text).map_err(|e| e.to_string())
}

#[test]
fn the_shortest_files_that_work() {
    let c = parse("client_authname='myClient-#{imsi}'\n[credentials]\nsource='krypton-azure'\n[session]\nto='iot-hub'")
        .unwrap();
    assert_eq!(
        (c.session.port, c.session.host, c.network.apn.as_ref().unwrap().name()),
        (8883, None, "soracom.io")
    );
    let c = parse("client_authname='a-#{imsi}'\n[credentials]\nsource='none'\n[session]\nto='gateway'").unwrap();
    assert_eq!(
        (c.session.port, c.session.host.as_deref()),
        (1883, Some("beam.soracom.io"))
    );
    assert_eq!(c.session.keep_alive, 600);
}

#[test]
fn mistakes_name_the_place_and_the_cure() {
    let text = "client_authname='same'\n[modem]\npoll='0s'\n[link]\nkind='ppp3'\n[credentials]\nsource='krypton-aws'\nurl='http://x'\n\
                [session]\nto='iot-hub'\nkeep_alive='20min'\nhost='a:1'\n[delivery]\ntopic='a/+'\nwindow=99\n";
    let e = parse(text).unwrap_err();
    for want in [
        "agent.toml:1:17: client_authname: has no placeholder",
        "agent.toml:3:6: modem.poll",
        "agent.toml:5:6: link.kind: \"ppp3\" is none of \"external\"",
        "agent.toml:8:5: credentials.url: \"http://x\" is not an https address",
        "agent.toml:11:12: session.keep_alive",
        "agent.toml:12:6: session.host: is neither",
        "agent.toml:14:7: delivery.topic: IoT Hub's telemetry topic is fixed",
        "agent.toml:15:8: delivery.window: 99 is outside 1 to 16",
    ] {
        assert!(e.contains(want), "{want:?} is not in\n{e}");
    }
}

const EXAMPLE: &str = include_str!("../../examples/agent.toml");

#[test]
fn the_example_is_valid_and_its_commented_defaults_are_the_real_ones() {
    let plain = parse(EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
    let uncommented = EXAMPLE.replace("\n#: ", "\n");
    assert_ne!(uncommented, EXAMPLE);
    let full = parse(&uncommented).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(format!("{full:#?}"), format!("{plain:#?}"));
    // `Debug` keeps passwords to itself.
    assert_eq!(full.network.apn, plain.network.apn);
}

#[test]
fn each_way_in_the_example_is_a_complete_file() {
    for (letter, source, kind) in [
        ('a', "krypton-azure", Kind::IotHub),
        ('b', "krypton-aws", Kind::AwsIot),
        ('c', "files", Kind::EventGrid),
        ('d', "none", Kind::Gateway),
        ('e', "dps", Kind::IotHub),
        ('f', "aws-fleet", Kind::AwsIot),
    ] {
        let mark = format!("#{letter} ");
        let name = EXAMPLE.lines().filter(|l| l.starts_with("client_authname"));
        let way = EXAMPLE.lines().filter_map(|l| l.strip_prefix(&mark));
        let text: Vec<_> = name.chain(way).collect();
        let c = parse(&text.join("\n")).unwrap_or_else(|e| panic!("({letter}) {e}"));
        assert_eq!((c.credentials.source(), c.session.to), (source, kind));
        assert_eq!(c.delivery.topic, event_grid::DEFAULT_TOPIC);
    }
}

#[test]
fn each_configuration_in_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<_> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|b| b.split("```").next())
        .collect();
    assert!(blocks.len() >= 4, "found only {}", blocks.len());
    for block in blocks {
        parse(block).unwrap_or_else(|e| panic!("{block}\n{e}"));
    }
}

#[test]
fn the_lab_file_of_the_readme_is_valid() {
    let c = parse(include_str!("../../examples/lab-agent.toml")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(c.session.to, Kind::IotHub);
}

/// The schema reads a key by `.text("key")`, `.duration("key", …)` and so on.
#[test]
fn no_key_is_missing_in_the_example() {
    let schema = [include_str!("agent.rs"), include_str!("credentials_schema.rs")];
    let schema = schema.map(|text| text.split("#[cfg(test)]").next().unwrap()).concat();
    let readers = [
        "text",
        "required_text",
        "file",
        "file_template",
        "templates",
        "duration",
        "number",
        "size",
        "boolean",
        "parsed",
        "choice",
    ];
    let mut keys = 0;
    for reader in readers {
        for call in schema.split(&format!(".{reader}(")).skip(1) {
            let Some(key) = call.trim_start().strip_prefix('"').and_then(|c| c.split('"').next()) else {
                continue;
            };
            keys += 1;
            let shown = EXAMPLE.lines().any(|l| {
                l.trim_start_matches("#: ")
                    .trim_start_matches("# ")
                    .starts_with(&format!("{key} = "))
            });
            assert!(shown, "{key} is not in examples/agent.toml");
        }
    }
    assert!(
        keys > 50,
        "found only {keys} keys: does the schema still read them this way?"
    );
}

#[test]
fn sources_and_brokers_must_fit() {
    let head = "client_authname='a-#{imsi}'\n";
    for (rest, want) in [
        (
            "[credentials]\nsource='none'\n[session]\nto='event-grid'\nhost='x.example'",
            "wants a certificate",
        ),
        (
            "[credentials]\nsource='krypton-azure'\n[session]\nto='gateway'",
            "adds the credentials itself",
        ),
        (
            "[credentials]\nsource='krypton-azure'\n[session]\nto='aws-iot'",
            "gives credentials for Azure IoT Hub",
        ),
        (
            "[credentials]\nsource='files'\n[session]\nto='event-grid'\nhost='x.example'",
            "credentials.certificate: is missing",
        ),
        (
            "[credentials]\nsource='files'\ncertificate='a'\nkey='b'\n[session]\nto='event-grid'",
            "session.host: is missing",
        ),
        ("[session]\nto='gateway'", "credentials.source: is missing"),
        (
            "[credentials]\nsource='none'\n[session]\nto='gateway'\npassword_file='p'",
            "set username too",
        ),
    ] {
        let e = parse(&format!("{head}{rest}")).unwrap_err();
        assert!(e.contains(want), "{want:?} is not in\n{e}");
    }
}
