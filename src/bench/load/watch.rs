//! CPU time, memory and the state of the machine, from the kernel.
//!
//! A process's CPU time is its own clock (`clock_getcpuclockid`): nanoseconds, all threads, those that have ended too.

use std::fs;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

/// Processes under one name: `gateway=812+813` (nginx is a master and a worker).
#[derive(Debug, Clone)]
pub(super) struct Watched {
    name: String,
    pids: Vec<Pid>,
}

impl FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not NAME=PID or NAME=PID+PID");
        let (name, pids) = text.split_once('=').ok_or_else(wrong)?;
        let pids = pids
            .split('+')
            .map(|pid| pid.parse().map(Pid::from_raw).map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: name.to_owned(),
            pids,
        })
    }
}

impl Watched {
    /// CPU time of all of them since they began.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let mut sum = Duration::ZERO;
        for pid in &self.pids {
            let time = ClockId::pid_cpu_clock_id(*pid).and_then(clock_gettime);
            let time = time.with_context(|| format!("cannot read the CPU time of {} ({pid})", self.name))?;
            sum += Duration::from(time);
        }
        Ok(sum)
    }

    /// Resident memory of all of them, in bytes. Pages that two of them share count twice.
    pub(super) fn rss(&self) -> anyhow::Result<u64> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.context("the page size")?;
        let mut pages = 0;
        for pid in &self.pids {
            // statm: size, resident, ... in pages (proc(5)).
            let text = fs::read_to_string(format!("/proc/{pid}/statm"))
                .with_context(|| format!("cannot read the memory of {} ({pid})", self.name))?;
            let resident = text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
            pages += resident.context("statm has no second number")?;
        }
        Ok(pages * u64::try_from(page)?)
    }
}

/// All that is watched.
#[derive(Debug)]
pub(super) struct Watch(pub(super) Vec<Watched>);

/// The state at one instant.
#[derive(Debug)]
pub(super) struct Mark {
    at: Instant,
    cpu: Vec<Duration>,
    own: Duration,
    machine: Machine,
}

impl Watch {
    pub(super) fn mark(&self) -> anyhow::Result<Mark> {
        Ok(Mark {
            cpu: self.0.iter().map(Watched::cpu).collect::<Result<_, _>>()?,
            own: own_cpu()?,
            machine: Machine::read()?,
            at: Instant::now(),
        })
    }

    /// What passed between two instants.
    pub(super) fn between(&self, from: &Mark, to: &Mark) -> Value {
        let seconds = (to.at - from.at).as_secs_f64();
        let mut cpu = Map::new();
        let mut ours = (to.own - from.own).as_secs_f64();
        for ((watched, from), to) in self.0.iter().zip(&from.cpu).zip(&to.cpu) {
            let spent = (*to - *from).as_secs_f64();
            ours += spent;
            cpu.insert(watched.name.clone(), spent.into());
        }
        let busy = to.machine.busy - from.machine.busy;
        let stolen = to.machine.stolen - from.machine.stolen;
        json!({
            "seconds": seconds,
            "cpu_seconds": cpu,
            "generator_cpu_seconds": (to.own - from.own).as_secs_f64(),
            "foreign_cores": (busy - ours).max(0.0) / seconds,
            "steal_cores": stolen / seconds,
        })
    }

    pub(super) fn rss(&self) -> anyhow::Result<Value> {
        let mut all = Map::new();
        for watched in &self.0 {
            all.insert(watched.name.clone(), watched.rss()?.into());
        }
        Ok(all.into())
    }
}

fn own_cpu() -> anyhow::Result<Duration> {
    let time: TimeSpec = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(time.into())
}

/// The machine's clocks since it was started, in seconds of one core.
#[derive(Debug)]
struct Machine {
    busy: f64,
    stolen: f64,
}

impl Machine {
    fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let ticks = sysconf(SysconfVar::CLK_TCK)?.context("the length of a tick")?;
        Self::parse(&text, f64::from(u32::try_from(ticks)?))
            .context("/proc/stat does not begin with the sum of all cores")
    }

    /// `cpu user nice system idle iowait irq softirq steal ...` (proc(5)).
    fn parse(text: &str, ticks_per_second: f64) -> Option<Self> {
        let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let times: Vec<f64> = numbers.map_while(|n| n.parse::<f64>().ok()).collect();
        let &[user, nice, system, _idle, _wait, irq, softirq, steal, ..] = times.as_slice() else {
            return None;
        };
        Some(Self {
            busy: (user + nice + system + irq + softirq) / ticks_per_second,
            stolen: steal / ticks_per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_stat_is_read_in_seconds() {
        let m = Machine::parse("cpu  100 50 200 9000 7 25 25 300 0 0\ncpu0 1 2\n", 100.0).unwrap();
        assert_eq!((m.busy, m.stolen), (4.0, 3.0));
        assert!(Machine::parse("cpu  100 50\n", 100.0).is_none());
        assert!(Machine::parse("intr 1\n", 100.0).is_none());
    }

    #[test]
    fn own_work_is_no_foreign_work_and_is_counted_once() {
        let me: Watched = format!("me={}", std::process::id()).parse().unwrap();
        let before = me.cpu().unwrap();
        let mut x = 0_u64;
        while me.cpu().unwrap() - before < Duration::from_millis(20) {
            x = std::hint::black_box(x + 1);
        }
        assert!(x > 0 && me.rss().unwrap() > 100_000);
        assert!("me".parse::<Watched>().is_err() && "me=1+x".parse::<Watched>().is_err());
    }
}
