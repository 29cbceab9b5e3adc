//! The stage of every test: an authority, a broker, a gateway between, and devices that speak bytes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use onyx::clock::Clock;
use onyx::gateway::{Config, Gateway, Status};
use onyx::mqtt::{Connect, Frame, PacketType, split_frame};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::certs::{Authority, Kind};
use crate::mosquitto::{Mosquitto, PATIENCE, Tls};

/// The guide's first subscriber, calling from [`A`].
pub const IMSI_A: &str = "295012345678901";
/// The guide's second, calling from [`B`].
pub const IMSI_B: &str = "295012345678902";
/// Known by a token.
pub const IMSI_T: &str = "295012345678903";
/// The token of [`IMSI_T`].
pub const TOKEN: &str = "5f1d7c0b2a9e4c3d8b6a";
/// Source address of [`IMSI_A`].
pub const A: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Source address of [`IMSI_B`], in a /30 of its own.
pub const B: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 22);
/// The guide's first IMEI.
pub const IMEI: &str = "123456789011111";

/// `myClient-<imsi>`.
pub fn name(imsi: &str) -> String {
    format!("myClient-{imsi}")
}

/// The guide's client id.
pub fn client_id(imsi: &str) -> String {
    format!("{}-{IMEI}", name(imsi))
}

/// Authority, broker and folders. Fields are dropped in this order: programs before their folder.
pub struct Stage {
    pub broker: Mosquitto,
    pub authority: Authority,
    pub dir: tempfile::TempDir,
}

impl Stage {
    /// A broker that requires certificates and takes the user name from them, and EC credentials for all three subscribers.
    pub fn new() -> Self {
        Self::with(None, true, Kind::Ec)
    }

    pub fn with(version: Option<&'static str>, identity_as_username: bool, kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&dir.path().join("ca"));
        let (certificate, key) = authority.server();
        let tls = Tls {
            client_ca: authority.file("clients.pem"),
            certificate,
            key,
            version,
            identity_as_username,
        };
        let broker = Mosquitto::start(dir.path(), Some(tls));
        let stage = Self { broker, authority, dir };
        for imsi in [IMSI_A, IMSI_B, IMSI_T] {
            stage
                .authority
                .device(kind, &name(imsi), &name(imsi), &stage.credentials());
        }
        stage
    }

    pub fn credentials(&self) -> PathBuf {
        self.dir.path().join("credentials")
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// A configuration; `extra` is TOML that goes into [upstream].
    pub fn config_text(&self, upstream: SocketAddr, extra: &str) -> String {
        let token = self.path("token");
        onyx::files::write_atomically(&token, format!("{TOKEN}\n").as_bytes(), 0o600).unwrap();
        format!(
            "[listen]\naddress = '127.0.0.1:0'\ndrain_timeout = '0s'\nwrite_timeout = '2s'\nconnect_timeout = '2s'\nmax_packet = '256KiB'\n\
             [upstream]\nhost = 'localhost'\naddress = '{upstream}'\nca_file = 'ca/root.pem'\nconnect_timeout = '3s'\n{extra}\n\
             [device]\nusername = 'myClient-#{{imsi}}'\ncredential = 'myClient-#{{imsi}}'\n\
             [credentials]\nfolder = 'credentials'\n\
             [[subscriber]]\nimsi = '{IMSI_A}'\nimei = '{IMEI}'\nsource = '{A}'\n\
             [[subscriber]]\nimsi = '{IMSI_B}'\nsource = '127.0.0.20/30'\n\
             [[subscriber]]\nimsi = '{IMSI_T}'\ntoken_file = 'token'\n\
             [status]\nsocket = 'status.sock'\n"
        )
    }

    /// Where the broker takes TLS.
    pub fn upstream(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.broker.tls_port).into()
    }

    /// A gateway straight to the broker.
    pub fn gateway(&self) -> Running {
        Running::start(&self.config_text(self.upstream(), ""), self.dir.path())
    }
}

/// A gateway in this process.
pub struct Running {
    pub address: SocketAddr,
    pub tls: Option<SocketAddr>,
    pub api: Option<SocketAddr>,
    pub provisioning: Option<SocketAddr>,
    pub reload: onyx::gateway::reload::Reload,
    pub status: Arc<Status>,
    stop: CancellationToken,
    served: Option<tokio::task::JoinHandle<usize>>,
    runtime: Runtime,
}

impl Running {
    pub fn start(config: &str, dir: &Path) -> Self {
        // Several gateways may run on one stage, each with its own status socket.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let config = config.replace("status.sock", &format!("status-{}.sock", NEXT.fetch_add(1, Relaxed)));
        let path = dir.join("gateway.toml");
        let config = Config::from_text(&path, config).unwrap_or_else(|e| panic!("{e}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let gateway = runtime
            .block_on(Gateway::bind(config, &Clock::new()))
            .unwrap()
            .from_file(path);
        let (tls, api, reload) = (gateway.tls_addr(), gateway.api_addr(), gateway.reloader());
        let provisioning = gateway.provisioning_addr();
        let (address, status, stop) = (gateway.local_addr(), gateway.status(), CancellationToken::new());
        let served = runtime.spawn(gateway.serve(stop.clone()));
        Self {
            address,
            tls,
            api,
            provisioning,
            reload,
            status,
            stop,
            served: Some(served),
            runtime,
        }
    }

    /// Stops it; how many connections were closed.
    pub fn stop(&mut self) -> usize {
        self.stop.cancel();
        self.runtime.block_on(self.served.take().unwrap()).unwrap()
    }

    /// Reads `gateway.toml` again.
    pub fn reload(&self) -> Result<String, String> {
        self.runtime.block_on(self.reload.now())
    }

    /// Waits until the status says so.
    pub fn wait_until(&self, what: &str, enough: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        self.runtime.block_on(async {
            let wait = async {
                loop {
                    let answer = self.status.json();
                    if enough(&answer) {
                        return answer;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, wait)
                .await
                .unwrap_or_else(|_| panic!("never {what}: {:#}", self.status.json()))
        })
    }

    /// A device that calls from `source`.
    pub fn dial(&self, source: Ipv4Addr) -> TcpStream {
        dial(self.address, source)
    }

    /// A connected device.
    pub fn device(&self, source: Ipv4Addr, connect: &Connect) -> Device {
        Device::connected(self.dial(source), connect)
    }
}

/// Calls `address` from `source`.
pub fn dial(address: SocketAddr, source: Ipv4Addr) -> TcpStream {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    use std::os::fd::AsRawFd;
    let SocketAddr::V4(to) = address else {
        panic!("{address} is not IPv4");
    };
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let [a, b, c, d] = source.octets();
    bind(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).unwrap();
    connect(socket.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A device that speaks bytes.
pub struct Device {
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Device {
    /// Not connected yet.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Says CONNECT and is taken.
    pub fn connected(stream: TcpStream, connect: &Connect) -> Self {
        let mut device = Self::new(stream);
        device.send(&connect.encode().unwrap());
        let answer = device.next().expect("a CONNACK");
        assert_eq!((answer.packet, answer.body()), (PacketType::ConnAck, &[0, 0][..]));
        device
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Publishes at QoS 1; false when the connection is gone.
    pub fn publish(&mut self, id: u16, dup: bool, topic: &str, payload: &[u8]) -> bool {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(&id.to_be_bytes());
        body.extend_from_slice(payload);
        assert!(body.len() < 128);
        let mut packet = vec![if dup { 0x3a } else { 0x32 }, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        self.stream.write_all(&packet).is_ok()
    }

    /// The next packet, or `None` when the connection was closed.
    pub fn next(&mut self) -> Option<Frame> {
        self.next_up_to(1 << 20)
    }

    /// The same for packets of at most `limit` bytes.
    pub fn next_up_to(&mut self, limit: usize) -> Option<Frame> {
        loop {
            if let Some(frame) = split_frame(&mut self.buffer, limit).unwrap() {
                return Some(frame);
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&bytes[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came within {PATIENCE:?}"),
                Err(_) => return None,
            }
        }
    }
}

/// A wire that can be cut: passes bytes both ways to `to`.
pub struct Wire {
    pub address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    pub fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let list = open.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(to) else { continue };
                list.lock()
                    .unwrap()
                    .extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { address, open }
    }

    /// Cuts every connection that is open now; new ones pass.
    pub fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
