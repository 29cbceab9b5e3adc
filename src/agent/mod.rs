//! The agent: the only room that knows all rungs.
//!
//! Four tasks run side by side, and none waits for another longer than it must:
//!
//! - [`dongle`] climbs modem, SIM and network, and then reads signal and registration now and then. It says what it knows through a
//!   watch channel ([`dongle::View`]); when the modem falls silent the session above may live on.
//! - [`sampler`] measures and puts samples into the spool, online or not, as soon as the time is known.
//! - [`timekeeper`] keeps the clock informed and saves the time; [`retime`] corrects what was measured before it was known.
//! - [`uplink`] climbs link, clock and credentials (the three in [`ground`]) and session, and then delivers from the spool.
//!
//! A command that needs the modem for a minute borrows the first of them through [`card`].
//!
//! Each rung's fault comes here as a value ([`fault::Fault`]) that says what happened, what a person can do, and which recovery makes
//! sense; [`fault`] decides. [`ladder`] keeps what everybody sees: `status`, the log, the service manager's status line.

mod card;
pub mod check;
pub mod cli;
mod credentials_cli;
mod dongle;
mod endpoint;
mod fault;
mod ground;
mod inspect;
mod keeper;
mod krypton_cli;
pub mod ladder;
mod retime;
mod run;
mod sampler;
mod timekeeper;
mod uplink;
mod watchdog;

pub use run::{Outcome, run};
