//! Debian's mosquitto as the broker, and its clients as devices and witnesses.
//!
//! The broker cannot take port 0, so a port is found, tried, and another one taken if somebody was faster. Its verbose log (`-v`) is
//! captured: it is the witness for who connected as whom. Missing programs fail the test with the name of the package.
#![allow(unreachable_pub, dead_code)] // shared: no test target uses all of it

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything here.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a start on another port is tried.
const STARTS: usize = 5;

/// Files and rules of the listener with TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Authorities for client certificates.
    pub client_ca: PathBuf,
    /// The server's chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// `tlsv1.2` or `tlsv1.3` alone; `None` takes both.
    pub version: Option<&'static str>,
    /// The certificate's common name takes the place of the user name.
    pub identity_as_username: bool,
}

/// A broker that runs until it is dropped.
#[derive(Debug)]
pub struct Mosquitto {
    child: Option<Child>,
    directory: PathBuf,
    tls: Option<Tls>,
    more: String,
    /// Where it takes TLS (if it was given any).
    pub tls_port: u16,
    /// Where it takes plain MQTT: the witnesses' door.
    pub plain_port: u16,
    log: Arc<(Mutex<Vec<String>>, Condvar)>,
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

/// A port nobody listens on at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .expect("a free port on 127.0.0.1")
}

/// Finds a program of Debian, `/usr/sbin` included (it is not in everybody's `PATH`).
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
        .map(|d| d.join(name))
        .find(|p| p.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: apt-get install {package}"))
}

impl Mosquitto {
    /// Starts a broker with a plain listener, and one with TLS if `tls` is given. Its files go into `directory`.
    pub fn start(directory: &Path, tls: Option<Tls>) -> Self {
        Self::start_with(directory, tls, "")
    }

    /// The same with more lines of configuration, for all listeners.
    pub fn start_with(directory: &Path, tls: Option<Tls>, more: &str) -> Self {
        for _ in 0..STARTS {
            let mut broker = Self {
                child: None,
                directory: directory.to_owned(),
                tls: tls.clone(),
                more: more.to_owned(),
                tls_port: free_port(),
                plain_port: free_port(),
                log: Arc::default(),
            };
            if broker.start_again() {
                return broker;
            }
        }
        panic!("mosquitto did not start in {STARTS} attempts");
    }

    /// Starts it on the same ports after [`Mosquitto::stop`]; false if a port was taken meanwhile.
    pub fn start_again(&mut self) -> bool {
        let conf = self.directory.join("mosquitto.conf");
        std::fs::write(&conf, self.configuration()).expect("mosquitto.conf");
        let mut child = Command::new(program("mosquitto", "mosquitto"))
            .args(["-v", "-c"])
            .arg(&conf)
            .env("OPENSSL_CONF", self.openssl_conf())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr"));
        let from = self.log().len();
        let log = self.log.clone();
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                log.0.lock().unwrap().push(line);
                log.1.notify_all();
            }
        });
        self.child = Some(child);
        let begin = now();
        while begin.elapsed() < PATIENCE {
            if let Ok(Some(_)) = self.child.as_mut().expect("child").try_wait() {
                let log = self.log()[from..].join("\n");
                assert!(
                    log.contains("Address already in use"),
                    "mosquitto ended at once:\n{log}"
                );
                self.child = None;
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.plain_port)).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("mosquitto does not listen:\n{}", self.log().join("\n"));
    }

    fn configuration(&self) -> String {
        // 'user root' where the tests run as root: it must read keys of mode 0600. Otherwise it is ignored.
        let mut conf = format!(
            "user root\npersistence false\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
             {}listener {} 127.0.0.1\n",
            self.more, self.plain_port
        );
        if let Some(tls) = &self.tls {
            conf += &format!(
                "listener {} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
                 use_identity_as_username {}\n",
                self.tls_port,
                tls.client_ca.display(),
                tls.certificate.display(),
                tls.key.display(),
                tls.identity_as_username,
            );
            if let Some(version) = tls.version {
                // This is the lowest version; the highest is set by `openssl_conf`.
                conf += &format!("tls_version {version}\n");
            }
        }
        conf
    }

    /// mosquitto knows a lowest version only; OpenSSL's own configuration knows a highest.
    fn openssl_conf(&self) -> PathBuf {
        let highest = match self.tls.as_ref().and_then(|t| t.version) {
            Some("tlsv1.2") => "MaxProtocol = TLSv1.2\n",
            _ => "",
        };
        let path = self.directory.join("openssl.cnf");
        let text = format!(
            "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = all\n[all]\nMinProtocol = TLSv1.2\n{highest}"
        );
        std::fs::write(&path, text).expect("openssl.cnf");
        path
    }

    /// Kills it; clients see their connections break.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Its plain address.
    pub fn plain(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.plain_port).into()
    }

    /// All log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.0.lock().unwrap().clone()
    }

    /// Waits for a log line that contains all of `parts`, and returns it.
    pub fn wait_for(&self, parts: &[&str]) -> String {
        let fits = |l: &&String| parts.iter().all(|p| l.contains(p));
        let deadline = now() + PATIENCE;
        let mut log = self.log.0.lock().unwrap();
        loop {
            if let Some(line) = log.iter().find(fits) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(now());
            assert!(
                !left.is_zero(),
                "no line with {parts:?} in mosquitto's log:\n{}",
                log.join("\n")
            );
            log = self.log.1.wait_timeout(log, left).unwrap().0;
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a client program said.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output and error together.
    pub text: String,
}

/// Runs `mosquitto_pub` or `mosquitto_sub` to its end, within [`PATIENCE`].
pub fn client(name: &str, address: SocketAddr, args: &[&str]) -> Said {
    let client = Client::spawn(name, address, args);
    client.wait()
}

/// A running client program.
#[derive(Debug)]
pub struct Client {
    child: Child,
    output: Arc<(Mutex<String>, Condvar)>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Client {
    /// Starts `mosquitto_pub` or `mosquitto_sub` against `address`.
    pub fn spawn(name: &str, address: SocketAddr, args: &[&str]) -> Self {
        // Into a pipe the clients write whole blocks, and a witness must speak at once: stdbuf (coreutils) makes them write lines.
        let mut child = Command::new(program("stdbuf", "coreutils"))
            .arg("-oL")
            .arg(program(name, "mosquitto-clients"))
            .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let output: Arc<(Mutex<String>, Condvar)> = Arc::default();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("stdout")),
            Box::new(child.stderr.take().expect("stderr")),
        ];
        let readers = streams
            .into_iter()
            .map(|stream| {
                let output = output.clone();
                thread::spawn(move || {
                    for line in BufReader::new(stream).lines().map_while(Result::ok) {
                        let mut text = output.0.lock().unwrap();
                        text.push_str(&line);
                        text.push('\n');
                        output.1.notify_all();
                    }
                })
            })
            .collect();
        Self { child, output, readers }
    }

    /// Writes to its standard input (`mosquitto_pub -l`).
    pub fn write(&mut self, text: &str) {
        let mut stdin = self.child.stdin.as_ref().expect("stdin");
        stdin.write_all(text.as_bytes()).expect("the client reads");
    }

    /// What it has said so far.
    pub fn text(&self) -> String {
        self.output.0.lock().unwrap().clone()
    }

    /// Waits until what it has said satisfies `enough`.
    pub fn wait_until(&self, enough: impl Fn(&str) -> bool) -> String {
        let deadline = now() + PATIENCE;
        let mut text = self.output.0.lock().unwrap();
        loop {
            if enough(&text) {
                return text.clone();
            }
            let left = deadline.saturating_duration_since(now());
            assert!(!left.is_zero(), "the client has said only:\n{text}");
            text = self.output.1.wait_timeout(text, left).unwrap().0;
        }
    }

    /// Closes its input and waits for its end.
    pub fn wait(mut self) -> Said {
        drop(self.child.stdin.take());
        let begin = now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "the client does not end; it said:\n{}",
                self.text()
            );
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Said {
            status,
            text: self.text(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
