//! The simulated clouds before judges that are not ours: curl, openssl, mosquitto_pub and mosquitto_sub, with the command lines of the
//! vendors' guides. A missing tool fails the test and names its Debian package.
#![cfg(feature = "bench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod aws_iot;
mod aws_iot_5;
mod aws_iot_account;
mod aws_iot_judges;
mod beam;
mod bounds;
mod ca;
#[path = "../support/certs.rs"]
mod certs;
mod control;
mod dps;
mod dps_csr;
mod dps_judges;
mod dps_mqtt;
mod event_grid;
mod event_grid_5;
mod faults;
mod faults_all;
mod gateway_provisioning;
mod hub_service;
mod iot_hub;
mod iot_hub_judge;
#[path = "../support/judges.rs"]
mod judges;
mod judges_installed;
mod krypton;
mod krypton_sim;
mod monitor;
mod ports;
#[path = "../support/postgres.rs"]
mod postgres;
mod program;
mod proven;
mod rule_table;
mod scenario;
mod stage;
mod tools;
mod view;
