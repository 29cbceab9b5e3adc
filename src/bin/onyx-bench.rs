//! `onyx-bench`: the simulated dongle and clouds, and the demo.

use clap::{CommandFactory, Parser};
use onyx::bench::{clouds, demo, dongle, load, man};

/// A simulated Onyx dongle, carrier and clouds: try and test Onyx without a SIM or an account.
#[derive(Debug, Parser)]
#[command(name = "onyx-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Everything in one go: dongle, agent, gateway, clouds; ten samples directly, ten through the gateway
    Demo(demo::Args),
    /// A simulated EG25-G on a pseudo-terminal
    Dongle(dongle::Args),
    /// Stand-ins for SORACOM Krypton and the clouds' MQTT endpoints
    Clouds(Box<clouds::Args>),
    /// The load generator of the speed benchmark, tests/speed/run
    #[command(hide = true)]
    Load(load::Args),
    /// Write the programs' man pages, for packagers
    #[command(hide = true)]
    Man(man::Args),
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("onyx-bench: {}", onyx::report::sentence(&e));
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Dongle(args) => dongle::run(args).await,
        Command::Clouds(args) => clouds::run(*args).await,
        Command::Load(args) => tokio::task::spawn_blocking(move || load::run(&args)).await?,
        Command::Man(args) => man::run(&args, Cli::command()),
    }
}
