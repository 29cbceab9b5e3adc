//! The host's own measurements, read from Linux's `/proc` and `/sys` (proc(5), Documentation/driver-api/thermal) and `statvfs(3)`.
//!
//! The parsers are functions over text. A measurement that fails leaves its field out; the failure is logged when it begins and when
//! it ends, not each time.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::sample::HostReading;

/// No file read here is longer, in bytes; `/proc/meminfo` is about 1,500.
const FILE_MAX: u64 = 16 * 1024;
/// No more thermal zones than this are looked at; a Pi has one, a laptop about ten.
const ZONES_MAX: u32 = 64;
/// The zone type of a Pi's SoC (bcm2711 and bcm2712 device trees: `cpu-thermal`); others fall back to the first that reads.
const CPU_ZONE: &str = "cpu-thermal";
/// A CPU that still measures is within these bounds, °C; a broken sensor says -273 or 2 million.
const PLAUSIBLE_TEMPERATURE: std::ops::RangeInclusive<f64> = -60.0..=200.0;

/// Reads the host; remembers which measurements fail.
#[derive(Debug)]
pub struct HostSource {
    root: PathBuf,
    disk: PathBuf,
    failing: BTreeSet<&'static str>,
}

impl HostSource {
    /// `root` is where `proc` and `sys` lie (`/` except in tests); `disk` is any path on the file system to watch, taken as it is.
    #[must_use]
    pub fn new(root: &Path, disk: &Path) -> Self {
        Self {
            root: root.to_owned(),
            disk: disk.to_owned(),
            failing: BTreeSet::new(),
        }
    }

    /// Measures now. Blocks for as long as the kernel takes, microseconds usually.
    pub fn read(&mut self) -> HostReading {
        let temperature = cpu_temperature(&self.root);
        let load = self.parse("proc/loadavg", load1);
        let memory = self.parse("proc/meminfo", memory);
        let up = self.parse("proc/uptime", uptime);
        let disk = disk_space(&self.disk);
        let memory = self.note("memory", memory);
        let disk = self.note("disk", disk);
        HostReading {
            cpu_temp_c: self.note("CPU temperature", temperature),
            load1: self.note("load", load),
            mem_avail_kib: memory.and_then(|m| m.available_kib),
            mem_total_kib: memory.map(|m| m.total_kib),
            disk_free_kib: disk.map(|d| d.free_kib),
            disk_total_kib: disk.map(|d| d.total_kib),
            uptime_s: self.note("uptime", up),
        }
    }

    /// The measurements that failed the last time, for the status.
    pub fn failing(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.failing.iter().copied()
    }

    fn parse<T>(&self, path: &str, parser: fn(&str) -> Option<T>) -> Result<T, String> {
        let path = self.root.join(path);
        let text = read_text(&path)?;
        parser(&text).ok_or_else(|| {
            format!(
                "{} says {:?}",
                path.display(),
                text.chars().take(80).collect::<String>()
            )
        })
    }

    fn note<T>(&mut self, what: &'static str, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => {
                if self.failing.remove(what) {
                    tracing::info!("{what} can be measured again");
                }
                Some(value)
            }
            Err(why) => {
                if self.failing.insert(what) {
                    tracing::warn!("{what} cannot be measured and is left out of the samples: {why}");
                }
                None
            }
        }
    }
}

/// Total and available memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// `MemTotal`, KiB.
    pub total_kib: u64,
    /// `MemAvailable`, KiB; kernels before 3.14 do not say.
    pub available_kib: Option<u64>,
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// For unprivileged users, KiB.
    pub free_kib: u64,
    /// KiB.
    pub total_kib: u64,
}

/// The one-minute load of `/proc/loadavg`.
#[must_use]
pub fn load1(text: &str) -> Option<f64> {
    let load: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    (load.is_finite() && load >= 0.0).then_some(load)
}

/// Whole seconds of `/proc/uptime`.
#[must_use]
pub fn uptime(text: &str) -> Option<u64> {
    let (seconds, _) = text.split_ascii_whitespace().next()?.split_once('.')?;
    seconds.parse().ok()
}

/// `MemTotal` and `MemAvailable` of `/proc/meminfo`; its "kB" is KiB.
#[must_use]
pub fn memory(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok())
    };
    Some(Memory {
        total_kib: field("MemTotal")?,
        available_kib: field("MemAvailable"),
    })
}

/// Millidegrees, as `temp` of a thermal zone has them, in °C rounded to a tenth.
#[must_use]
pub fn millidegrees(text: &str) -> Option<f64> {
    let millis: i32 = text.trim().parse().ok()?;
    let tenths = (f64::from(millis) / 100.0).round();
    Some(tenths / 10.0).filter(|t| PLAUSIBLE_TEMPERATURE.contains(t))
}

fn cpu_temperature(root: &Path) -> Result<f64, String> {
    let base = root.join("sys/class/thermal");
    let mut first = None;
    let mut why = format!("{} has no thermal zone", base.display());
    for n in 0..ZONES_MAX {
        let zone = base.join(format!("thermal_zone{n}"));
        if !zone.is_dir() {
            continue; // numbers may have holes after a driver was unloaded
        }
        let is_cpu = read_text(&zone.join("type")).is_ok_and(|t| t.trim() == CPU_ZONE);
        match read_text(&zone.join("temp")) {
            Err(e) => why = e,
            Ok(text) => match millidegrees(&text) {
                None => why = format!("{} says {:?}", zone.join("temp").display(), text.trim()),
                Some(t) if is_cpu => return Ok(t),
                Some(t) => first = first.or(Some(t)),
            },
        }
    }
    first.ok_or(why)
}

/// Room on the file system of `path`.
///
/// # Errors
/// A sentence.
pub fn disk_space(path: &Path) -> Result<DiskSpace, String> {
    let s = nix::sys::statvfs::statvfs(path).map_err(|e| format!("statvfs of {}: {}", path.display(), e.desc()))?;
    // statvfs(3): block counts are in units of f_frsize, not f_bsize; f_bavail leaves out what is reserved for root. The types are
    // 32 bits wide on armv7.
    #[allow(clippy::useless_conversion)]
    let kib = |blocks| {
        u64::try_from(u128::from(u64::from(blocks)) * u128::from(u64::from(s.fragment_size())) / 1024)
            .unwrap_or(u64::MAX)
    };
    Ok(DiskSpace {
        free_kib: kib(s.blocks_available()),
        total_kib: kib(s.blocks()),
    })
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|f| f.take(FILE_MAX).read_to_string(&mut text))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &[u8]) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn parsers_read_what_kernels_write_and_nothing_else() {
        assert_eq!(load1("0.42 0.30 0.25 1/123 4567\n"), Some(0.42));
        assert_eq!(uptime("350735.47 234388.90\n"), Some(350_735));
        let text = "MemTotal:        3884360 kB\nMemFree:          105468 kB\nMemAvailable:    3027192 kB\n";
        assert_eq!(
            memory(text),
            Some(Memory {
                total_kib: 3_884_360,
                available_kib: Some(3_027_192)
            })
        );
        assert_eq!(memory("MemTotal: 1 kB\n").unwrap().available_kib, None);
        assert_eq!(millidegrees("48312\n"), Some(48.3));
        assert_eq!(millidegrees("-5049\n"), Some(-5.0));
        for bad in [
            "",
            " ",
            "\0",
            "nan",
            "-1 0 0",
            "inf",
            "MemTotal: kB",
            "MemTotal: -1 kB",
            "1e400",
            "x.y",
            "999999999",
        ] {
            assert_eq!(load1(bad).filter(|_| bad != "999999999"), None, "{bad:?}");
            assert_eq!(uptime(bad), None, "{bad:?}");
            assert_eq!(memory(bad), None, "{bad:?}");
            assert_eq!(millidegrees(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_cpu_zone_is_preferred_and_a_broken_one_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(cpu_temperature(root).unwrap_err().contains("no thermal zone"));
        put(root, "sys/class/thermal/thermal_zone0/type", b"gpu-thermal\n");
        put(root, "sys/class/thermal/thermal_zone0/temp", b"99000\n");
        assert_eq!(cpu_temperature(root), Ok(99.0));
        put(root, "sys/class/thermal/thermal_zone2/type", b"cpu-thermal\n");
        put(root, "sys/class/thermal/thermal_zone2/temp", b"48300\n");
        assert_eq!(cpu_temperature(root), Ok(48.3));
        put(root, "sys/class/thermal/thermal_zone2/temp", b"\xff\xfe");
        assert_eq!(cpu_temperature(root), Ok(99.0));
    }

    #[test]
    fn a_failure_leaves_its_field_out_and_is_noted_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "proc/loadavg", b"garbage");
        put(root, "proc/uptime", b"12.5 1.0\n");
        let mut source = HostSource::new(root, &root.join("missing"));
        let r = source.read();
        assert_eq!((r.load1, r.uptime_s, r.disk_free_kib), (None, Some(12), None));
        assert_eq!(
            source.failing().collect::<Vec<_>>(),
            ["CPU temperature", "disk", "load", "memory"]
        );
        put(root, "proc/loadavg", b"1.00 1 1 1/1 1\n");
        assert_eq!(source.read().load1, Some(1.0));
        assert!(!source.failing().any(|f| f == "load"));
    }

    #[test]
    fn this_machine_can_be_measured() {
        let dir = tempfile::tempdir().unwrap();
        let r = HostSource::new(Path::new("/"), dir.path()).read();
        assert!(r.load1.is_some() && r.uptime_s.is_some_and(|s| s > 0), "{r:?}");
        assert!(r.mem_avail_kib.unwrap() <= r.mem_total_kib.unwrap(), "{r:?}");
        assert!(r.disk_free_kib.unwrap() <= r.disk_total_kib.unwrap(), "{r:?}");
        // GNU df asks the same question through another path.
        let df = std::process::Command::new("df")
            .args(["-k", "--output=size"])
            .arg(dir.path())
            .output()
            .unwrap();
        let size = String::from_utf8(df.stdout)
            .unwrap()
            .lines()
            .nth(1)
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap();
        assert_eq!(r.disk_total_kib.unwrap(), size);
    }
}
