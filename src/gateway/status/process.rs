//! What the process takes of its machine, as the kernel counts it (`proc(5)`).

use std::time::Duration;

/// All of it; a figure that the kernel does not tell is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Process {
    /// Resident memory, in bytes.
    pub rss: Option<u64>,
    /// Open file descriptors.
    pub fds: Option<u64>,
    /// How many it may open.
    pub fds_max: Option<u64>,
    /// CPU time, user and system.
    pub cpu: Option<Duration>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Fields of `/proc/self/stat` after the name in brackets: utime and stime are fields 14 and 15, and the first after the name is field 3.
const UTIME: usize = 14 - 3;
const STIME: usize = 15 - 3;

impl Process {
    /// As it is now. Reads a few small files of `/proc`, which takes some 50 µs, and more with thousands of descriptors.
    #[must_use]
    pub fn now() -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let fds = std::fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        Self {
            // The descriptor that reads the folder is in it.
            fds: fds.map(|n| n.saturating_sub(1) as u64),
            ..Self::of(&read("stat"), &read("status"), &read("limits"), ticks())
        }
    }

    fn of(stat: &str, status: &str, limits: &str, ticks: Option<u64>) -> Self {
        let stat: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |n: usize| stat.get(n).and_then(|s| s.parse::<u64>().ok());
        let told = |key: &str| status.lines().find_map(|l| l.strip_prefix(key));
        let limit = limits.lines().find_map(|l| l.strip_prefix("Max open files"));
        let first = |line: Option<&str>| line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        let cpu = || {
            let (user, system, ticks) = (field(UTIME)?, field(STIME)?, ticks.filter(|t| *t > 0)?);
            Some(Duration::from_millis((user + system).saturating_mul(1_000) / ticks))
        };
        Self {
            rss: first(told("VmRSS:")).map(|kib| kib << 10),
            fds: None,
            fds_max: first(limit),
            cpu: cpu(),
            threads: first(told("Threads:")),
        }
    }
}

/// Clock ticks a second.
fn ticks() -> Option<u64> {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|n| u64::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat = "4711 (a (strange) name) S 1 4711 4711 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 8 1 2";
        let p = Process::of(
            stat,
            "VmPeak:\t 9 kB\nVmRSS:\t   2048 kB\nThreads:\t3\n",
            "Max open files            1024                 4096                 files\n",
            Some(100),
        );
        assert_eq!(p.cpu, Some(Duration::from_secs(2)));
        assert_eq!((p.rss, p.fds_max, p.threads), (Some(2 << 20), Some(1_024), Some(3)));
        assert_eq!(Process::of("", "", "", None), Process::default());
    }

    #[test]
    fn this_process_lives() {
        let p = Process::now();
        assert!(
            p.rss.unwrap() > 1 << 20 && p.fds.unwrap() >= 3 && p.fds.unwrap() <= p.fds_max.unwrap(),
            "{p:?}"
        );
        assert!(p.threads.unwrap() >= 1 && p.cpu.is_some());
    }
}
