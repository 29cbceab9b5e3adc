//! The simulated EG25-G.
mod clock;
mod command;
mod commands;
mod config;
mod engine;
mod faults;
mod identity;
mod line;
mod pdp;
mod period;
mod radio;
mod reply;
pub mod scenario;
mod sim;
mod state;

/// What `onyx-bench dongle` takes.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the simulated dongle until it is told to stop.
pub async fn run(_args: Args) -> anyhow::Result<()> {
    Ok(())
}
