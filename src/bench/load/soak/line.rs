//! The network between gateway and upstream, which can be cut in three ways:
//!
//! | command | what upstream and gateway see |
//! |---|---|
//! | `reset` | every connection is reset, both ways, at once; new ones go through |
//! | `stall S` | for S seconds not a byte goes through, either way, and nobody is told; new connections are taken and are as silent |
//! | `refuse S` | every connection is reset, and new ones as soon as they are there, for S seconds |

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// Bytes under way in one direction of a connection.
const PIECE: usize = 8 << 10;
/// Pause when no connection can be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// What the line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It passes everything on.
    Open,
    /// It passes nothing on.
    Stalled,
    /// It takes nobody.
    Refused,
}

/// A state, and how often everybody was cut up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Now {
    state: State,
    cuts: u64,
}

/// The line.
#[derive(Debug)]
pub(super) struct Line {
    now: watch::Sender<Now>,
    open: Rc<Cell<u64>>,
    taken: Rc<Cell<u64>>,
    accepting: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Line {
    /// Begins to take connections. Needs a `LocalSet`.
    pub(super) async fn open(at: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(at)
            .await
            .with_context(|| format!("the line cannot listen at {at}"))?;
        let (open, taken) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let now = watch::Sender::new(Now {
            state: State::Open,
            cuts: 0,
        });
        let accepting = tokio::task::spawn_local(accept(listener, to, now.clone(), open.clone(), taken.clone()));
        Ok(Self {
            now,
            open,
            taken,
            accepting: accepting.abort_handle(),
        })
    }

    /// From now on the line does this, and after that time it is open again. Whoever is connected is cut, unless it is stalled.
    pub(super) fn set(&self, state: State, length: Duration) {
        self.now.send_modify(|now| {
            now.state = state;
            now.cuts += u64::from(state != State::Stalled);
        });
        if state != State::Open {
            let now = self.now.clone();
            tokio::task::spawn_local(async move {
                sleep(length).await;
                now.send_modify(|now| now.state = State::Open);
            });
        }
    }

    /// How many connections there are, and were.
    pub(super) fn counts(&self) -> Value {
        json!({"open": self.open.get(), "taken": self.taken.get(), "cuts": self.now.borrow().cuts})
    }
}

async fn accept(
    listener: TcpListener,
    to: SocketAddr,
    now: watch::Sender<Now>,
    open: Rc<Cell<u64>>,
    taken: Rc<Cell<u64>>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        if now.borrow().state == State::Refused {
            reset(&stream);
            continue;
        }
        taken.set(taken.get() + 1);
        open.set(open.get() + 1);
        let (now, open) = (now.subscribe(), open.clone());
        tokio::task::spawn_local(async move {
            pass(stream, to, now).await;
            open.set(open.get() - 1);
        });
    }
}

/// Its end is told by RST, whatever waits in its buffers.
pub(super) fn reset(stream: &TcpStream) {
    // A socket that is gone cannot be reset any more, nor need it be.
    let _ = stream.set_zero_linger();
}

/// One connection, until either end closes it or it is cut.
async fn pass(mut near: TcpStream, to: SocketAddr, mut now: watch::Receiver<Now>) {
    let cuts = now.borrow().cuts;
    let mut far = match TcpStream::connect(to).await {
        Ok(far) => far,
        // Upstream is away: what its own host would say.
        Err(_) => return reset(&near),
    };
    let _ = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
    let is_cut = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let passing = async {
            tokio::join!(
                one_way(near_read, far_write, now.clone()),
                one_way(far_read, near_write, now.clone())
            )
        };
        let mut cut = now.clone();
        tokio::select! {
            _ = passing => false,
            _ = cut.wait_for(|now| now.cuts != cuts) => true,
        }
    };
    if is_cut || now.borrow_and_update().cuts != cuts {
        reset(&near);
        reset(&far);
    }
}

/// Passes bytes on while the line is not stalled; the end of one side is the end of the other.
async fn one_way(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut now: watch::Receiver<Now>) {
    let mut piece = vec![0; PIECE];
    // Errors are ends: the other side hears of it in the same way.
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        if now.wait_for(|now| now.state != State::Stalled).await.is_err() {
            break;
        }
        let Some(bytes) = piece.get(..n) else { break };
        if to.write_all(bytes).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;
    use tokio::time::timeout;

    /// One that answers what it hears, a line before it, and a connection through both.
    async fn set_up() -> (Line, SocketAddr, TcpStream) {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = echo.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::task::spawn_local(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let line = Line::open(at, to).await.unwrap();
        let stream = TcpStream::connect(at).await.unwrap();
        (line, at, stream)
    }

    async fn is_passed_on(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"x").await?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await.map(drop)
    }

    #[tokio::test]
    async fn it_passes_on_stalls_cuts_and_refuses() {
        let tasks = LocalSet::new();
        let all = tasks.run_until(async {
            let (line, at, mut stream) = set_up().await;
            is_passed_on(&mut stream).await.unwrap();

            line.set(State::Stalled, Duration::from_millis(300));
            let began = tokio::time::Instant::now();
            is_passed_on(&mut stream).await.unwrap();
            assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());

            line.set(State::Open, Duration::ZERO);
            let error = is_passed_on(&mut stream).await.unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
                ),
                "{error}"
            );
            let mut stream = TcpStream::connect(at).await.unwrap();
            is_passed_on(&mut stream).await.unwrap();

            line.set(State::Refused, Duration::from_secs(3_600));
            is_passed_on(&mut stream).await.unwrap_err();
            let mut refused = TcpStream::connect(at).await.unwrap();
            is_passed_on(&mut refused).await.unwrap_err();
            assert_eq!(line.counts()["cuts"], 2);
            assert_eq!(line.counts()["taken"], 2);
        });
        timeout(Duration::from_secs(30), all).await.unwrap();
    }
}
