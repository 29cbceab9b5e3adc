//! `onyx-bench load`: the load generator of the speed benchmark (`tests/speed/run`; method and figures are in `docs/speed.md`).
//!
//! It plays devices that publish through a gateway and the one who listens behind it, in one process and by one clock, so that the
//! time from a device to upstream is a subtraction. Everything runs on one thread: what it costs is one number, said with every result,
//! and a measurement in which the generator was the bottleneck shows itself. Each device calls from a loopback address of its own,
//! because that is how gateways tell devices apart.
//!
//! The machine's state is part of a result: CPU time of the watched processes, memory, and what other programs and the hypervisor took
//! meanwhile are read at the same instants at which counting begins and ends.
//!
//! | file | subject |
//! |---|---|
//! | `names` | a device's IMSI, name and address |
//! | `prepare` | an authority and a certificate for each device |
//! | `device` | one publisher's connection |
//! | `ledger` | what was sent, acknowledged and arrived, by sequence number, and how long it took |
//! | `listener` | the subscriber upstream |
//! | `watch` | CPU time, memory, the machine |
//! | `flow` | messages: a window of unacknowledged ones, or a rate; a stall of upstream |
//! | `idle` | connections that say nothing |
//! | `soak` | another load for another proof: devices that come, go and break off, and the books of every message |

mod device;
mod flow;
mod idle;
mod ledger;
mod listener;
mod names;
mod prepare;
mod soak;
mod watch;

use anyhow::Context;
use clap::Subcommand;

/// What `onyx-bench load` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an authority, a server's certificate and an EC certificate for each device
    Prepare(prepare::Args),
    /// Publish at QoS 1 and count what is acknowledged and what arrives upstream; one JSON object on standard output
    Flow(flow::Args),
    /// Open connections that stay silent; one JSON object on standard output
    Idle(idle::Args),
    /// Devices that come, go and break off, for `tests/soak/run`; commands on standard input, JSON lines on standard output
    Soak(soak::Args),
}

/// Runs the generator. It blocks its thread: call it from one that may be blocked.
///
/// # Errors
/// What keeps a measurement from being one: a device that is refused or cut, a process that cannot be watched.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let result = match &args.command {
        Command::Prepare(args) => return prepare::run(args),
        Command::Flow(args) => on_one_thread(flow::run(args))?,
        Command::Idle(args) => on_one_thread(idle::run(args))?,
        Command::Soak(args) => on_one_thread(soak::run(args))?,
    };
    crate::report::out(&format!("{result}\n")).context("the result")
}

fn on_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}
