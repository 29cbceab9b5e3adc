//! A listener that can misbehave before anybody above it knows of the connection, and that can be shut for a while: then the port is
//! really closed, and whoever dials is refused by TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::fault::{Board, WireFault};
use super::journal::{Journal, What};
use super::policy::{Look, Refusal, mqtt};
use super::stand_in::{Cloud, Protocol};
use super::visit::{Entry, Visit};
use super::wardrobe::Wardrobe;

/// A port that somebody else took while it was shut is asked for again this often.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);
/// And so many times; the door stays shut after that.
const REOPEN_TRIES: u32 = 100;

/// A door before TLS.
#[derive(Debug)]
pub(crate) struct Gate {
    listener: Option<TcpListener>,
    address: SocketAddr,
    cloud: Cloud,
    protocol: Protocol,
    door: usize,
    board: Arc<Board>,
    shut: watch::Receiver<Option<Instant>>,
    wardrobe: Option<Arc<Wardrobe>>,
    journal: Arc<Journal>,
}

/// What a gate is made for.
pub(crate) struct Place {
    pub(crate) cloud: Cloud,
    pub(crate) protocol: Protocol,
    pub(crate) board: Arc<Board>,
    pub(crate) wardrobe: Option<Arc<Wardrobe>>,
    pub(crate) journal: Arc<Journal>,
}

impl Gate {
    pub(crate) fn new(listener: TcpListener, place: Place) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let Place {
            cloud,
            protocol,
            board,
            wardrobe,
            journal,
        } = place;
        Ok(Self {
            door: journal.register().door(cloud, protocol, address),
            listener: Some(listener),
            address,
            cloud,
            protocol,
            shut: board.shut(),
            board,
            wardrobe,
            journal,
        })
    }

    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    pub(crate) async fn accept(&mut self) -> std::io::Result<(TcpStream, Arc<Visit>)> {
        loop {
            let until = *self.shut.borrow_and_update();
            if let Some(until) = until.filter(|u| *u > Instant::now()) {
                self.listener = None;
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    _ = self.shut.changed() => {}
                }
                continue;
            }
            let listener = match self.listener.take() {
                Some(listener) => listener,
                None => self.reopen().await?,
            };
            let listener = self.listener.insert(listener);
            let (stream, peer) = tokio::select! {
                _ = self.shut.changed() => continue,
                accepted = listener.accept() => accepted?,
            };
            let _ = stream.set_nodelay(true);
            let entry = Entry {
                cloud: self.cloud,
                protocol: self.protocol,
                door: self.door,
                board: &self.board,
                wardrobe: self.wardrobe.as_ref(),
                journal: &self.journal,
            };
            let visit = Visit::open(&entry, peer);
            if !visit.is_refused() {
                return Ok((stream, visit));
            }
            let refusal = Refusal::new(&mqtt::FAULT, Look::Close, WireFault::RefuseTcp.to_string());
            let told = async { self.journal.refused(self.cloud, &refusal, None, &peer.to_string()) };
            Arc::clone(&visit).within(told).await;
            // RST instead of FIN.
            let _ = stream.set_zero_linger();
        }
    }

    async fn reopen(&self) -> std::io::Result<TcpListener> {
        let mut tries = 0;
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return Ok(listener),
                Err(e) if tries >= REOPEN_TRIES => {
                    let text = format!("{} cannot be opened again: {e}; the door stays shut", self.address);
                    self.journal.record(self.cloud, What::Note { text });
                    return std::future::pending().await;
                }
                Err(_) => {
                    tries += 1;
                    tokio::time::sleep(REOPEN_PAUSE).await;
                }
            }
        }
    }
}
