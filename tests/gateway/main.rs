//! The gateway against real peers: Debian's mosquitto as upstream with required client certificates, mosquitto's clients as devices,
//! certificates by the openssl command line. mosquitto's own log is the witness for who arrived as whom.
#![cfg(feature = "gateway")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub
)]

#[path = "../support/certs.rs"]
mod certs;
#[path = "../support/mosquitto.rs"]
mod mosquitto;

mod ca;
mod groups;
mod guide;
mod identity;
mod loss;
mod program;
mod refusals;
mod stage;

mod api;
mod cli;
mod doors;
mod restart;
