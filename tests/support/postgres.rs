//! Debian's PostgreSQL 15: a cluster of the test's own in a temporary folder, on a loopback port and a Unix socket.
//!
//! It refuses to run as root, so root runs it as the user `postgres`. A shell holds the other end of a pipe of ours: when this process is gone,
//! however it went, the shell stops the server and removes the folder.
#![allow(unreachable_pub, dead_code)] // shared: no test target uses all of it

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The package `postgresql` of Debian 12 has them there.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// The superuser's password on the loopback port.
pub const PASSWORD: &str = "correct horse";

/// A server that runs until it is dropped, or this process ends.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    pub port: u16,
    /// Its end of the pipe is what keeps the server alive.
    keeper: Child,
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn program(name: &str) -> Command {
    let path = format!("{PROGRAMS}/{name}");
    assert!(
        Path::new(&path).exists(),
        "{path} is missing: install the package postgresql (tests/setup does)"
    );
    if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", &path]);
        command
    } else {
        Command::new(path)
    }
}

fn good(what: &str, output: &Output) -> String {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{what}: {text}");
    text
}

impl Postgres {
    /// The one that the tests of this program share, each with a database of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(None))
    }

    /// Starts one; with a certificate and its key, it takes TLS on the port.
    pub fn start(tls: Option<(&Path, &Path)>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("onyx-postgres-")
            .tempdir()
            .unwrap()
            .keep();
        let file = |name: &str, content: &[u8]| {
            onyx::files::write_atomically(&dir.join(name), content, 0o600).unwrap();
        };
        file("password", PASSWORD.as_bytes());
        if let Some((certificate, key)) = tls {
            file("server.pem", &std::fs::read(certificate).unwrap());
            file("server.key", &std::fs::read(key).unwrap());
        }
        if is_root() {
            good(
                "chown",
                &Command::new("chown")
                    .args(["-R", "postgres"])
                    .arg(&dir)
                    .output()
                    .unwrap(),
            );
        }
        let data = dir.join("data");
        let mut initdb = program("initdb");
        initdb
            .arg("-D")
            .arg(&data)
            .args(["-U", "onyx", "-E", "UTF8", "--locale=C", "--no-sync"]);
        initdb
            .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile"])
            .arg(dir.join("password"));
        good("initdb", &initdb.output().unwrap());
        // The shell waits for the end of its input, which is the end of us.
        let stop = format!(
            "cat >/dev/null; {}{PROGRAMS}/pg_ctl -D '{data}' -m immediate -w stop >/dev/null 2>&1; rm -rf '{dir}'",
            if is_root() { "runuser -u postgres -- " } else { "" },
            data = data.display(),
            dir = dir.display()
        );
        let mut keeper = Command::new("setsid");
        keeper
            .args(["sh", "-c", &stop])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let keeper = keeper.spawn().unwrap();
        let mut server = Self { dir, port: 0, keeper };
        let mut said = String::new();
        for _ in 0..5 {
            server.port = free_port();
            let output = server.ctl(&["start", "-o", &server.options(tls.is_some())]);
            said = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() {
                return server;
            }
        }
        let log = std::fs::read_to_string(server.dir.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start: {said}{log}");
    }

    fn options(&self, tls: bool) -> String {
        let mut options = format!(
            "-c unix_socket_directories={} -c listen_addresses=127.0.0.1 -c port={} -c fsync=off -c max_connections=60",
            self.dir.display(),
            self.port
        );
        if tls {
            let at = |name: &str| self.dir.join(name).display().to_string();
            options += &format!(
                " -c ssl=on -c ssl_cert_file={} -c ssl_key_file={}",
                at("server.pem"),
                at("server.key")
            );
        }
        options
    }

    fn ctl(&self, args: &[&str]) -> Output {
        let mut command = program("pg_ctl");
        command
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["-w", "-t", "60", "-l"])
            .arg(self.dir.join("log"));
        command.args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Stops and starts it; `immediate` is a crash, after which it recovers.
    pub fn restart(&self, mode: &str) {
        good("restart", &self.ctl(&["restart", "-m", mode]));
    }

    /// Stops it; [`Self::again`] starts it.
    pub fn stop(&self) {
        good("stop", &self.ctl(&["stop", "-m", "fast"]));
    }

    /// Starts it after [`Self::stop`].
    pub fn again(&self) {
        let tls = self.dir.join("server.key").exists();
        good("start", &self.ctl(&["start", "-o", &self.options(tls)]));
    }

    /// The process ids of the server and all its backends.
    pub fn processes(&self) -> Vec<i32> {
        let pid_file = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let main: i32 = pid_file.lines().next().unwrap().parse().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        std::iter::once(main)
            .chain(children.split_whitespace().map(|p| p.parse().unwrap()))
            .collect()
    }

    /// A new, empty database; its name.
    pub fn database(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("d{}_{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Its URL over the Unix socket, without a password.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgresql://onyx@/{database}?host={}&port={}",
            self.dir.display(),
            self.port
        )
    }

    /// Its URL over TCP, with the password.
    pub fn tcp_url(&self, database: &str, options: &str) -> String {
        let password = PASSWORD.replace(' ', "%20");
        format!(
            "postgresql://onyx:{password}@127.0.0.1:{}/{database}{options}",
            self.port
        )
    }

    /// Runs SQL by the server's own client, and says what it printed.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "onyx",
            "-d",
            database,
            "-p",
        ]);
        psql.arg(self.port.to_string())
            .arg("-h")
            .arg(&self.dir)
            .stdin(Stdio::piped());
        let mut child = psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        good(sql, &child.wait_with_output().unwrap())
    }

    /// The whole database as text.
    pub fn dump(&self, database: &str) -> String {
        let mut dump = program("pg_dump");
        dump.args(["-U", "onyx", "-d", database, "-p"])
            .arg(self.port.to_string())
            .arg("-h")
            .arg(&self.dir);
        good("pg_dump", &dump.output().unwrap())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
