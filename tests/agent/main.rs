//! `onyx-agent` against real peers and bad input. Each test runs the real program as a child, with configuration files as a user
//! writes them, on a simulated dongle; the brokers are Debian's mosquitto (its log and `mosquitto_sub` are the witnesses), our own
//! gateway, the cloud stand-ins, and servers that are no brokers at all. Every log that the agent writes in any of them is searched for
//! subscriber identities and keys (see [`program::Agent`]).
//!
//! | file | subject |
//! |---|---|
//! | `mosquitto_direct` | mTLS straight to mosquitto: kinds of certificate, TLS versions, names of the three clouds |
//! | `through` | through `onyx-gateway`, and plain to a broker in Beam's place |
//! | `krypton`, `krypton_faults` | credentials fetched, kept, damaged; Krypton that misbehaves |
//! | `krypton_ways`, `krypton_sim`, `krypton_refusals` | every operation of Krypton by both doors; SIM authentication; refusals and faults |
//! | `krypton_wire` | its bytes, and answers beside the book |
//! | `krypton_door`, `krypton_script` | the command before the bench's Krypton; a server that says what it was told to |
//! | `credentials` | shown, exported, forgotten; encrypted at rest |
//! | `dps`, `dps_faults` | hub and device id from Azure's provisioning service; DPS that refuses and misbehaves |
//! | `dongle_faults`, `sim_faults` | the modem, the SIM and the network misbehave |
//! | `broker_faults` | brokers that refuse, drop, fall silent or are none |
//! | `wire_faults` | the byte stream and TLS misbehave: certificates, stalled handshakes, cuts |
//! | `files` | an operator's files in every form, good and bad |
//! | `loss` | what was accepted arrives: cuts, broker restarts, kill -9 |
//! | `stage`, `toml`, `program`, `seqs` | dongle and clouds; configuration files; the agent as a child; what arrived |
//! | `fleet`, `fleet_faults`, `just_in_time` | AWS: fleet provisioning by claim; just-in-time registration |
//! | `conversation` | short conversations with a real broker |
//! | `sim_auth` | challenges to the SIM through every kind of modem; a SIM without a network |
//! | `clock` | what time it is: wrong clocks at the start, steps of years, NTP, the last confirmed time |
//! | `renewal` | renewed in time, proven before it replaces the old |
//! | `budget` | what each way to credentials costs; a measurement |
//! | `life`, `commands` | start, stop, systemd; check, modem, provision, status |
#![cfg(feature = "bench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "../support/certs.rs"]
mod certs;
#[path = "../support/judges.rs"]
mod judges;
#[path = "../support/mosquitto.rs"]
mod mosquitto;
#[path = "../support/wire.rs"]
mod wire;

mod broker_faults;
mod budget;
mod clock;
mod commands;
mod credentials;
mod dongle_faults;
mod dps;
mod dps_faults;
mod files;
mod krypton;
mod krypton_door;
mod krypton_faults;
mod krypton_refusals;
mod krypton_script;
mod krypton_sim;
mod krypton_ways;
mod krypton_wire;
mod life;
mod loss;
mod mosquitto_direct;
mod program;
mod renewal;
mod seqs;
mod sim_auth;
mod sim_faults;
mod stage;
mod through;
mod toml;
mod wire_faults;

mod conversation;
mod fleet;
mod fleet_faults;
mod just_in_time;
