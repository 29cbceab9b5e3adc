//! The simulated clouds before judges that are not ours: curl, openssl, mosquitto_pub and mosquitto_sub, with the command lines of the
//! vendors' guides. A missing tool fails the test and names its Debian package.
#![cfg(feature = "bench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod aws_iot;
mod aws_iot_5;
mod aws_iot_account;
mod aws_iot_judges;
mod event_grid;
mod event_grid_5;
mod faults;
mod iot_hub;
#[path = "../support/judges.rs"]
mod judges;
mod judges_installed;
mod krypton;
mod program;
mod tools;
