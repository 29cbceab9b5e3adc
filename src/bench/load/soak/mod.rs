//! `onyx-bench load soak`: devices that behave as badly as real ones for as long as they are told, and the books of what became of every message.
//! `tests/soak/run` conducts; the method and what must hold are in `docs/soak.md`.
//!
//! Each device publishes at QoS 1 with a sequence number, keeps what has no PUBACK, and sends it again after its next connect: half of them speak
//! 3.1.1, half 5. A connection's length is drawn from an exponential distribution, and so is the way it ends: DISCONNECT, end of the stream,
//! reset, or silence (the socket stays open and nobody listens to it any more). Behind the gateway a receiver with a persistent session
//! at QoS 1 enters what arrives. Between the gateway and upstream lies a line that can be cut in three ways.
//!
//! | file | subject |
//! |---|---|
//! | this file | arguments, commands on standard input, a line of JSON a moment on standard output |
//! | `books` | what was sent, accepted and received; what was lost, and why something came twice |
//! | `device` | one device over all its connections |
//! | `talk` | packets of both versions that a device writes and reads |
//! | `receiver` | the subscriber upstream |
//! | `line` | the network between gateway and upstream |
//!
//! Commands, one a line: `come N` (a device begins), `gone N` (a device has been removed: it must be refused from now on, and ends), `reset`,
//! `stall SECONDS`, `refuse SECONDS` (what happens to the line), `drain` (nobody publishes anything new; when everything is accepted and has
//! arrived, or nothing moves any more, the result is written). The end of standard input ends it without a result.

mod books;
mod device;
mod line;
mod receiver;
mod talk;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::BufRead;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use self::books::Books;
use self::line::{Line, State};
use super::device::STAMP;
use super::names::DEVICES_MAX;

/// Commands that wait.
const COMMANDS_MAX: usize = 16;
/// In the end, nothing more is expected when nothing came for so long (a device may be waiting to connect again, or for a keep-alive to
/// run out), or when it took so long in all.
const QUIET: Duration = Duration::from_secs(45);
const DRAIN_LIMIT: Duration = Duration::from_secs(180);
/// How often it is looked whether everything has arrived.
const LOOK: Duration = Duration::from_millis(20);

/// What `onyx-bench load soak` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where devices connect
    #[arg(long)]
    to: SocketAddr,
    /// Where the receiver connects: upstream's plain MQTT door
    #[arg(long)]
    listen: SocketAddr,
    /// Where the gateway's connections to upstream arrive
    #[arg(long)]
    line: SocketAddr,
    /// Where they are passed on to: upstream's door with TLS
    #[arg(long)]
    line_to: SocketAddr,
    /// Devices that are there from the beginning
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: u32,
    /// Most devices, with those who come later
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    most: u32,
    /// Messages a second, all devices together
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Mean length of a connection in seconds
    #[arg(long, default_value_t = 30.0)]
    life: f64,
    /// Bytes of payload
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(STAMP as i64..=65_536))]
    payload: u32,
    /// What everything random begins with
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds between two lines of progress
    #[arg(long, default_value_t = 10.0)]
    every: f64,
}

/// What all tasks share.
#[derive(Debug)]
pub(super) struct Soak {
    to: SocketAddr,
    payload: usize,
    life: Duration,
    /// Time between two messages of one device.
    pace: Duration,
    began: Instant,
    books: RefCell<Books>,
    /// Devices that have been removed.
    gone: watch::Sender<Vec<u32>>,
    /// Nothing new is published, and nobody ends a connection.
    drain: watch::Sender<bool>,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<Value> {
    if args.devices > args.most {
        bail!("--devices {} is over --most {}", args.devices, args.most);
    }
    let seconds = |value: f64, name: &'static str| Duration::try_from_secs_f64(value).context(name);
    let soak = Rc::new(Soak {
        to: args.to,
        payload: usize::try_from(args.payload)?,
        life: seconds(args.life, "--life")?,
        pace: Duration::from_secs(1) * args.devices / args.rate,
        began: Instant::now(),
        books: RefCell::new(Books::new(usize::try_from(args.most)?)),
        gone: watch::Sender::new(Vec::new()),
        drain: watch::Sender::new(false),
    });
    let mut random = fastrand::Rng::with_seed(args.seed);
    let line = Line::open(args.line, args.line_to).await?;
    let mut commands = commands();
    // Before the first message: what nobody subscribes to is thrown away.
    let receiver = receiver::open(args.listen).await?;
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    tasks.spawn_local(receiver::serve(receiver, args.listen, soak.clone()));
    let mut devices = HashMap::new();
    let mut come = |number: u32, tasks: &mut JoinSet<_>, seed: u64| -> anyhow::Result<()> {
        if number >= args.most || devices.insert(number, ()).is_some() {
            bail!("device {number} is there already, or beyond --most");
        }
        tasks.spawn_local(device::live(number, soak.clone(), fastrand::Rng::with_seed(seed)));
        Ok(())
    };
    for number in 0..args.devices {
        come(number, &mut tasks, random.u64(..))?;
    }
    let mut tell = interval(seconds(args.every, "--every")?);
    let mut look = interval(LOOK);
    // What was counted last, and when that changed; there once it drains.
    let mut draining: Option<(Instant, (u64, u64), Instant)> = None;
    loop {
        tokio::select! {
            ended = tasks.join_next() => ended.context("no task")???,
            command = commands.recv() => {
                let command = command.context("standard input ended before drain")?;
                let (word, value) = command.split_once(' ').unwrap_or((&command, ""));
                let length = || seconds(value.parse().context("seconds")?, "seconds");
                match word {
                    "come" => come(value.parse()?, &mut tasks, random.u64(..))?,
                    "gone" => {
                        let number = value.parse()?;
                        soak.gone.send_modify(|all| all.push(number));
                    }
                    "reset" => line.set(State::Open, Duration::ZERO),
                    "stall" => line.set(State::Stalled, length()?),
                    "refuse" => line.set(State::Refused, length()?),
                    "drain" => {
                        let now = Instant::now();
                        soak.drain.send_replace(true);
                        draining = Some((now, (0, 0), now));
                    }
                    other => bail!("unknown command {other:?}"),
                }
            }
            _ = tell.tick() => say(&soak, &line)?,
            _ = look.tick(), if draining.is_some() => {
                let Some((since, count, changed)) = &mut draining else { continue };
                let books = soak.books.borrow();
                let now = books.moved();
                if now != *count {
                    (*count, *changed) = (now, Instant::now());
                }
                if books.is_settled() || changed.elapsed() > QUIET || since.elapsed() > DRAIN_LIMIT {
                    let mut result = books.result();
                    result["seconds"] = soak.began.elapsed().as_secs_f64().into();
                    result["drain_seconds"] = since.elapsed().as_secs_f64().into();
                    result["line"] = line.counts();
                    return Ok(json!({"result": result}));
                }
            }
        }
    }
}

/// One line of progress.
fn say(soak: &Soak, line: &Line) -> anyhow::Result<()> {
    let mut counts = soak.books.borrow().progress();
    counts["seconds"] = soak.began.elapsed().as_secs_f64().into();
    counts["line"] = line.counts();
    crate::report::out(&format!("{counts}\n")).context("progress")
}

/// Lines of standard input, read on a thread of their own: the end of the program does not wait for it.
fn commands() -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(COMMANDS_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receive
}
