//! The simulated EG25-G.

/// What `onyx-bench dongle` takes.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the simulated dongle until it is told to stop.
pub async fn run(_args: Args) -> anyhow::Result<()> {
    Ok(())
}
