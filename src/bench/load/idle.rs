//! Connections that say nothing: what opening one costs, what keeping one costs, and whether all of them still live.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::device::{answer, connect};
use super::names::{self, DEVICES_MAX};
use super::watch::{Watch, Watched};
use crate::mqtt::PacketType;

/// After the last connection, so long passes before memory is read: what handshakes leave behind is gone then.
const SETTLE: Duration = Duration::from_secs(1);
/// A PINGREQ is answered within this, or its connection is dead.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// What `onyx-bench load idle` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where devices connect
    #[arg(long)]
    to: SocketAddr,
    /// How many connections there are at each step, increasing: 1000,5000
    #[arg(long, value_delimiter = ',', required = true, value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    steps: Vec<u32>,
    /// How many devices connect at the same time
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    parallel: u16,
    /// Processes whose CPU time and memory are measured: NAME=PID or NAME=PID+PID
    #[arg(long, value_name = "NAME=PID")]
    watch: Vec<Watched>,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<Value> {
    let watch = Watch(args.watch.clone());
    let before = watch.rss()?;
    let mut open: Vec<TcpStream> = Vec::new();
    let mut steps = Vec::new();
    for &step in &args.steps {
        let first = u32::try_from(open.len())?;
        let from = watch.mark()?;
        open.extend(connect_all(args, first..step).await?);
        let passed = watch.between(&from, &watch.mark()?);
        tokio::time::sleep(SETTLE).await;
        let rss = watch.rss()?;
        let (alive, still_open) = ping(open).await?;
        open = still_open;
        steps.push(json!({"connections": step, "new": step - first, "alive": alive, "rss": rss, "machine": passed}));
    }
    Ok(json!({"rss_before": before, "steps": steps}))
}

async fn connect_all(args: &Args, numbers: std::ops::Range<u32>) -> anyhow::Result<Vec<TcpStream>> {
    let places = Arc::new(Semaphore::new(usize::from(args.parallel)));
    let mut tasks = JoinSet::new();
    for number in numbers {
        let place = places.clone().acquire_owned().await?;
        let to = args.to;
        tasks.spawn_local(async move {
            let stream = connect(to, names::source(number), &names::name(number)).await;
            drop(place);
            stream
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// How many answer.
async fn ping(open: Vec<TcpStream>) -> anyhow::Result<(usize, Vec<TcpStream>)> {
    let mut tasks = JoinSet::new();
    for mut stream in open {
        tasks.spawn_local(async move {
            let work = async {
                stream.write_all(&[0xc0, 0]).await?;
                answer(&mut stream, PacketType::PingResp).await
            };
            let alive = matches!(timeout(PING_LIMIT, work).await, Ok(Ok(_)));
            (alive, stream)
        });
    }
    let mut alive = 0;
    let mut open = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (lives, stream) = done.context("a PINGREQ")?;
        alive += usize::from(lives);
        open.push(stream);
    }
    Ok((alive, open))
}
