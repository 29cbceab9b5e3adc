//! The agent: the only room that knows all rungs.
//!
//! Three tasks run side by side, and none waits for another longer than it must:
//!
//! - [`dongle`] climbs modem, SIM and network, and then reads signal and registration now and then. It says what it knows through a
//!   watch channel ([`dongle::View`]); when the modem falls silent the session above may live on.
//! - [`sampler`] measures and puts samples into the spool, online or not, as soon as the time is known.
//! - [`uplink`] climbs link, clock and credentials (the three in [`ground`]) and session, and then delivers from the spool.
//!
//! Each rung's fault comes here as a value ([`fault::Fault`]) that says what happened, what a person can do, and which recovery makes
//! sense; [`fault`] decides. [`ladder`] keeps what everybody sees: `status`, the log, the service manager's status line.

pub mod check;
pub mod cli;
mod credentials_cli;
mod dongle;
mod fault;
mod ground;
mod inspect;
pub mod ladder;
mod run;
mod sampler;
mod uplink;
mod watchdog;

pub use run::{Outcome, run};
