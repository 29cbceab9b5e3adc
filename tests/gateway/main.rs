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

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/certs.rs"]
mod certs;
#[path = "../support/judges.rs"]
mod judges;
#[path = "../support/mosquitto.rs"]
mod mosquitto;

mod ca;
mod groups;
mod guide;
mod identity;
mod loss;
mod page;
#[cfg(feature = "bench")]
mod policies;
#[path = "../support/postgres.rs"]
mod postgres;
mod program;
mod refusals;
mod relay;
mod seeing;
mod stage;

mod api;
mod cli;
mod devices;
mod doors;
#[cfg(feature = "bench")]
mod platforms;
mod restart;
#[macro_use]
mod store;
mod store_file;
mod store_fleet;
mod store_server;
mod two_instances;

mod http_doors;
mod leaving;
mod page_store;
mod store_changes;
mod store_damage;
mod store_reading;
mod store_search;
mod store_together;
