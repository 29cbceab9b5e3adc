//! The dongle's AT lines and its card.

use std::time::Duration;

use crate::bench::dongle::Config;
use crate::bench::dongle::engine::{Engine, MAX_OUTPUT};
use crate::bench::dongle::scenario::Scenario;

/// Followed by a byte: so many tenths of a second pass.
const TIME: u8 = 0x00;
/// Followed by a length and that many bytes: an APDU, wrapped as the second byte of all says.
const APDU: u8 = 0x01;
/// The scenarios that the first byte chooses from.
const SCENARIOS: [&str; 4] = [
    "[sim]\nready_after = '0s'",
    "",
    "latency = '100ms'\n[sim]\nready_after = '1s'\n[[event]]\nat = '2s'\naction = 'silent'\nfor = '1s'",
    "[usim]\ncsim = 'refused'",
];
/// The time at the start.
const HOST_TIME: &str = "2026-11-21T12:00:00Z";

/// The first byte chooses a scenario, the second how APDUs are sent; then bytes of the host, with [`TIME`] and [`APDU`] between them.
///
/// # Panics
/// Something is wrong with the code under test.
pub fn modem(data: &[u8]) {
    let [scenario, wrap, rest @ ..] = data else { return };
    let text = SCENARIOS[usize::from(*scenario) % SCENARIOS.len()];
    let scenario = Scenario::parse(text).unwrap_or_default();
    let config = Config {
        scenario,
        ..Config::default()
    };
    let mut engine = Engine::new(config, HOST_TIME.parse().ok());
    let mut now = Duration::from_secs(10);
    engine.tick(now);
    let mut rest = rest;
    while let [first, left @ ..] = rest {
        rest = match (*first, left) {
            (TIME, [tenths, left @ ..]) => {
                now += Duration::from_millis(u64::from(*tenths) * 100);
                engine.tick(now);
                left
            }
            (APDU, [length, left @ ..]) => {
                let (apdu, left) = left.split_at(usize::from(*length).min(left.len()));
                engine.input(now, command(*wrap, apdu).as_bytes());
                now += Duration::from_secs(1);
                engine.tick(now);
                left
            }
            (byte, left) => {
                engine.input(now, &[byte]);
                left
            }
        };
        look(&mut engine);
    }
    // Whatever it was, it comes to an end.
    now += Duration::from_secs(600);
    engine.input(now, b"\r\x1aAT\r");
    engine.tick(now + Duration::from_secs(600));
    look(&mut engine);
}

fn look(engine: &mut Engine) {
    let length = engine.output().len();
    assert!(length <= MAX_OUTPUT, "{length} bytes wait");
    engine.sent(length);
    for record in engine.take_records() {
        assert!(record.command.len() <= MAX_OUTPUT && record.answer.len() <= MAX_OUTPUT);
    }
}

fn command(wrap: u8, apdu: &[u8]) -> String {
    let hex: String = apdu.iter().map(|b| format!("{b:02X}")).collect();
    let digits = hex.len();
    match wrap % 5 {
        0 => format!("AT+CSIM={digits},\"{hex}\"\r"),
        session => format!("AT+CGLA={session},{digits},\"{hex}\"\r"),
    }
}
