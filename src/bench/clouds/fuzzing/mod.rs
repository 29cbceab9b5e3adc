//! What fuzzing calls, and a quick seeded run of the same in the unit tests: bytes go in, and whatever they are nothing panics, nothing
//! grows without bound, and what was wrong is in the journal. Compiled for tests and for `tests/fuzz` (`--cfg fuzzing`) only.
//!
//! | entry | what the bytes are |
//! |---|---|
//! | [`packet()`] | an MQTT byte stream of either version, cut anywhere |
//! | [`session()`] | what devices do at a stand-in, a line each: the broker, its policy and its backend |
//! | [`http()`] | HTTP requests at Krypton's doors, at DPS and at the control endpoint |
//! | [`modem()`] | bytes to the dongle, and APDUs for its card |
//! | [`papers()`] | files: scenarios, faults, policy documents, templates, certificates, requests for certificates |
//!
//! A panic is how a fuzzing target fails, so assertions and `expect` are right here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http;
mod modem;
mod packet;
mod papers;
mod session;
mod stands;
#[cfg(test)]
mod tests;

pub use http::http;
pub use modem::modem;
pub use packet::packet;
pub use papers::papers;
pub use session::session;

/// An entry point: any bytes will do.
pub type Target = fn(&[u8]);

/// Every entry point with its name, which is that of the binary and of the directory of its seeds.
pub const TARGETS: [(&str, Target); 5] = [
    ("packet", packet),
    ("session", session),
    ("http", http),
    ("modem", modem),
    ("papers", papers),
];
