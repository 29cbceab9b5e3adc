//! The simulated clouds before judges that are not ours: curl, openssl, mosquitto_pub and mosquitto_sub, with the command lines of the
//! vendors' guides. A missing tool fails the test and names its Debian package.
#![cfg(feature = "bench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod aws_iot;
mod bounds;
#[path = "../support/certs.rs"]
mod certs;
mod dps;
mod dps_judges;
mod dps_mqtt;
mod event_grid;
mod faults;
mod hub_service;
mod iot_hub;
mod iot_hub_judge;
#[path = "../support/judges.rs"]
mod judges;
mod judges_installed;
mod krypton;
mod monitor;
mod program;
mod proven;
mod rule_table;
mod tools;
