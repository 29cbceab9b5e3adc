use super::*;
use crate::gateway::refusal::Refusal;
use crate::gateway::relay::{End, Side};
use crate::identity::Imsi;

fn status() -> Arc<Status> {
    let status = Status::new(Clock::new(), ([127, 0, 0, 1], 1883).into(), "h:8883".into(), 3);
    Arc::new(status.with_places(100))
}

fn who(n: usize, group: &str) -> Who {
    let imsi: Imsi = format!("{}", 295_010_000_000_000_u64 + n as u64).parse().unwrap();
    Who {
        imsi: imsi.redacted(),
        client_id: "c".into(),
        credential: "c".into(),
        upstream: "TLS 1.3".into(),
        group: group.into(),
        subscriber: Some(imsi),
        client: Some("c".into()),
        used: None,
        modem: None,
    }
}

const FULL: Handshake = Handshake::Tls {
    version: Tls::V13,
    resumed: false,
    took: Duration::from_millis(8),
};

#[test]
fn connections_come_and_go_and_refusals_add_up() {
    let status = status();
    let listed = status.list(([127, 0, 0, 9], 4711).into());
    listed.connection.set(who(1, "default"));
    listed.connection.up.bytes.fetch_add(7, Relaxed);
    status.turned_away_early([10, 0, 0, 1].into(), &Refusal::Unknown);
    let answer = status.json();
    assert_eq!(answer["connections"][0]["up"]["bytes"], 7);
    assert_eq!(answer["refused"]["unknown_device"], 1);
    let text = text(&answer);
    for want in [
        "127.0.0.1:1883",
        "29501********01 c from 127.0.0.9:4711",
        "refused, unknown_device: 1",
        "group default: 1 open, 0 relayed, 0 refused; up 0 packets 7 bytes",
    ] {
        assert!(text.contains(want), "{want:?} is not in\n{text}");
    }
    drop(listed);
    assert_eq!(status.open(), 0);
}

#[test]
fn what_a_connection_did_stays_counted_when_it_is_gone() {
    let status = status();
    for n in 0..3 {
        let listed = status.list(([127, 0, 0, 9], 4711).into());
        let (connection, who) = (&listed.connection, who(n, if n == 0 { "a" } else { "b" }));
        connection.set(who.clone());
        status.connected(connection, &FULL);
        connection.up.packets.fetch_add(2, Relaxed);
        connection.down.bytes.fetch_add(10, Relaxed);
        let open = status.counts();
        assert_eq!((open.open, open.relaying, open.up.packets), (1, 1, 2 * (n as u64 + 1)));
        status.ended(connection, &End::Closed(Side::Device));
    }
    let counts = status.counts();
    assert_eq!((counts.accepted, counts.open, counts.relayed), (3, 0, 3));
    assert_eq!((counts.up.packets, counts.down.bytes), (6, 30));
    assert_eq!(
        counts.groups["b"],
        ledger::Tally {
            relayed: 2,
            up: ledger::Way { packets: 4, bytes: 0 },
            down: ledger::Way { packets: 0, bytes: 20 },
            ..Default::default()
        }
    );
    assert_eq!(counts.ended[ends::index("device_closed").unwrap()], 3);
    assert_eq!(counts.handshakes.counts(), (3, 0));
    let device = status.history().device(&who(0, "a").subscriber.unwrap()).unwrap();
    assert_eq!(device.events.len(), 2);
}

#[test]
fn groups_without_number_are_counted_together() {
    let status = status();
    for n in 0..ledger::GROUPS_MAX + 50 {
        let listed = status.list(([127, 0, 0, 9], 4711).into());
        let who = who(n, &format!("g{n}"));
        listed.connection.set(who.clone());
        status.connected(&listed.connection, &FULL);
    }
    let groups = status.counts().groups;
    assert_eq!(groups.len(), ledger::GROUPS_MAX + 1);
    assert_eq!(groups[ledger::OTHER_GROUPS].relayed, 50);
}

#[test]
fn the_answer_is_bounded_whatever_devices_call_themselves() {
    let status = status();
    let mut open = Vec::new();
    for n in 0..answer::LISTED_MAX + 500 {
        let listed = status.list(([127, 0, 0, 9], 4711).into());
        let mut who = who(n, &"g".repeat(64));
        who.client_id = "\u{1}".escape_debug().to_string().repeat(200);
        who.credential = "ü".repeat(128);
        listed.connection.set(who);
        open.push(listed);
    }
    let answer = status.json();
    assert!(answer.to_string().len() < 1 << 20, "{}", answer.to_string().len());
    assert_eq!(answer["open"], answer::LISTED_MAX + 500);
    let listed = answer["connections"].as_array().unwrap().len();
    assert!(listed > 100 && text(&answer).contains(&format!("and {} more", answer::LISTED_MAX + 500 - listed)));
    assert!(!answer.to_string().contains("295010000"), "numbers are redacted");
}

#[test]
fn refusals_are_told_and_noted_where_they_belong() {
    let status = status();
    let listed = status.list(([127, 0, 0, 9], 4711).into());
    status.turned_away(&listed.connection, &who(1, "a"), &Refusal::Tls("no".into()), Some(0));
    status.turned_away(&listed.connection, &Who::default(), &Refusal::Unknown, Some(0));
    status.turned_away(&listed.connection, &Who::default(), &Refusal::Gone, Some(0));
    assert_eq!(
        (
            status.refused("upstream_tls"),
            status.refused("unknown_device"),
            status.refused("gone")
        ),
        (1, 1, 1)
    );
    assert_eq!(status.history().strangers().len(), 1);
    assert_eq!(
        status
            .history()
            .device(&who(1, "a").subscriber.unwrap())
            .unwrap()
            .events
            .len(),
        1
    );
    status.sample();
    std::thread::sleep(Duration::from_millis(2));
    status.turned_away_early([10, 0, 0, 1].into(), &Refusal::Tls("again".into()));
    let answer = status.json();
    let health = answer["health"][0]["text"].as_str().unwrap();
    assert!(
        health.starts_with("refused 1 times in 10 min, upstream tls"),
        "{health}"
    );
}
