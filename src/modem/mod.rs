//! The dongle's AT port: who it is, who the SIM is, whether there is a network and how well it is heard.
//!
//! From the wire up, each file standing on the ones before it:
//!
//! | file | subject | I/O |
//! |---|---|---|
//! | [`at`] | bytes to lines and result codes | none |
//! | [`fields`], [`cme`], [`registration`], [`eg25`] | what is in a line; refusals; registration; the EG25-G's peculiarities | none |
//! | [`urc`] | what comes unasked, told apart from answers | none |
//! | [`command`] | each command: text, time, answer | none |
//! | [`dialogue`] | one command in flight, time-outs, getting in step | none |
//! | [`port`] | the serial device | yes |
//! | [`driver`], [`queries`] | [`Modem`]: the dialogue over a port; the agent's questions | yes |
//! | [`error`] | what went wrong, and what to do about it | none |
//!
//! A failure says what to do about it ([`ModemError::recovery`]); the agent's ladder decides. Nothing here retries a command: some
//! of them (a PIN) must not be sent twice.

pub mod at;
pub mod cme;
pub mod command;
pub mod dialogue;
pub mod driver;
pub mod eg25;
pub mod error;
pub mod fields;
pub mod port;
pub mod queries;
pub mod registration;
pub mod urc;
pub mod usim;

pub use cme::CmeError;
pub use command::context::{Apn, Auth};
pub use command::network::Operator;
pub use command::sim::Pin;
pub use driver::Modem;
pub use error::{ModemError, Recovery};
pub use port::Port;
pub use queries::{Equipment, Signal, SimState};
pub use registration::{Domain, RegStatus, Registration, Technology};
pub use urc::Urc;
