//! A wire between a program and a server that is cut after so many bytes of each connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

/// Passes bytes both ways between whoever dials `address` and the server behind it.
pub struct Wire {
    pub address: SocketAddr,
    /// Bytes that a connection carries towards the server before it is cut; 0: no limit.
    limit: Arc<AtomicU64>,
    cuts: Arc<AtomicU64>,
    carried: Arc<[AtomicU64; 2]>,
    connections: Arc<AtomicU64>,
}

impl Wire {
    pub fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wire = Self {
            address: listener.local_addr().unwrap(),
            limit: Arc::default(),
            cuts: Arc::default(),
            carried: Arc::default(),
            connections: Arc::default(),
        };
        let (carried, connections) = (wire.carried.clone(), wire.connections.clone());
        let (limit, cuts) = (wire.limit.clone(), wire.cuts.clone());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, SeqCst);
                let Ok(far) = TcpStream::connect(to) else { continue };
                let (mut back_from, mut back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                let (limit, cuts, up) = (limit.clone(), cuts.clone(), carried.clone());
                let down = up.clone();
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(n @ 1..) = back_from.read(&mut bytes) {
                        down[1].fetch_add(n as u64, SeqCst);
                        if back_to.write_all(&bytes[..n]).is_err() {
                            break;
                        }
                    }
                    let _ = back_to.shutdown(Shutdown::Both);
                });
                thread::spawn(move || forward(near, far, &limit, &cuts, &up[0]));
            }
        });
        wire
    }

    /// From now on each connection is cut once it has carried this many bytes towards the server; 0: never.
    pub fn cut_after(&self, bytes: u64) {
        self.limit.store(bytes, SeqCst);
    }

    /// Bytes carried so far: towards the server, and back. TCP's and IP's own are not in it.
    pub fn carried(&self) -> (u64, u64) {
        (self.carried[0].load(SeqCst), self.carried[1].load(SeqCst))
    }

    /// How often somebody dialled.
    #[allow(dead_code)] // shared: not all test targets count
    pub fn connections(&self) -> u64 {
        self.connections.load(SeqCst)
    }

    /// How often something was cut.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(SeqCst)
    }
}

fn forward(mut near: TcpStream, mut far: TcpStream, limit: &AtomicU64, cuts: &AtomicU64, up: &AtomicU64) {
    let mut carried = 0_u64;
    let mut bytes = [0; 512];
    while let Ok(n @ 1..) = near.read(&mut bytes) {
        let limit = limit.load(SeqCst);
        let room = if limit == 0 {
            u64::MAX
        } else {
            limit.saturating_sub(carried)
        };
        let pass = n.min(usize::try_from(room).unwrap_or(usize::MAX));
        if far.write_all(&bytes[..pass]).is_err() {
            break;
        }
        carried += pass as u64;
        up.fetch_add(pass as u64, SeqCst);
        if pass < n {
            cuts.fetch_add(1, SeqCst);
            break;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
}
