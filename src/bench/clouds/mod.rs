//! The simulated clouds.

/// What `onyx-bench clouds` takes.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the simulated clouds until they are told to stop.
pub async fn run(_args: Args) -> anyhow::Result<()> {
    Ok(())
}
