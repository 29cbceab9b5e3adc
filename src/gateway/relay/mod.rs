//! Both directions of one connection, after both CONNACKs: read, ask the [flow](super::flow), write, nothing kept.
//!
//! What makes this safe is what it does not do. It makes no packet of its own: a PUBACK that reaches a device came from upstream, so
//! an acknowledged message has arrived (a bridge that acknowledges first lost most of them in our measurements). It does not
//! queue: bytes read are written before more are read from that side, so a slow side slows its peer through TCP and nobody else.
//!
//! **Memory.** Bytes are read into a buffer that belongs to the thread ([`READ`]) and written from there. A connection keeps only what
//! could not be written, and the front of a packet that is not complete enough to be judged. So an idle connection holds no buffer; a busy
//! one holds for each direction at most one read (in the clear, or once more encrypted) and what the flow asks to see at once, and of
//! answers to a sender who does not take them at most [`BACK_MAX`] and one step.
//!
//! **Time.** One timer for each connection. It is moved when it fires, or when something earlier comes up; a message moves nothing.
//!
//! **Cost.** A message that comes alone costs one `recv` and one `send`, and so does its acknowledgement; what has come together goes on
//! together. A side that had nothing to read is not asked again before the task is woken anew.
//!
//! **Ends.** What the flow said is written before the end. When a side no longer takes anything (it has reset the connection), what it has
//! sent before is still read: a device's DISCONNECT that lies behind its reset keeps its will from being published. When the device goes
//! without DISCONNECT, upstream sees the connection close without DISCONNECT, and publishes the will.
//!
//! **Orders** ([`Orders`]) end a connection from outside, each with a last word to a device of MQTT 5; one of 3.1.1 sees the connection close.
//! Either way the device has not said DISCONNECT, so upstream is not told DISCONNECT in its stead: to upstream it looks like a device whose
//! line broke, which keeps a persistent session and publishes the will.
//! - [`Order::Drain`]: the device may finish what it has begun (the rest of a PUBLISH, its acknowledgements, its DISCONNECT) and is read no
//!   further than to the first packet that begins something new. Upstream's answers that are outstanding are waited for and delivered; then
//!   the device is told 0x8B, Server shutting down. So an idle device is told at once. What it sent and had no answer for is its to send
//!   again, as after any broken line; what it had an answer for has arrived upstream.
//! - [`Order::Now`]: the same without waiting; what can be passed without waiting still is, and writing has [`FLUSH_MAX`].
//! - [`Order::Leave`]: the subscriber was removed, deactivated, or its lock is on another modem: 0x98, Administrative action, at once.
//!
//! | file | subject |
//! |---|---|
//! | this one | a connection's life: when to read, what is due, why it ended |
//! | `look` | what the flow makes of one read |
//! | `outbox` | what waits to be written to one side |
//! | `order` | that it has to end |

mod look;
mod order;
mod outbox;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::flow::{Flow, Pass, Step};
use super::pace;
use super::rules::Violation;
use super::subscriber::Bar;
use crate::mqtt::reason;
use look::look;
pub use order::{Order, Orders};
use outbox::Outbox;

/// Most bytes read at once; a TLS record is at most as large.
pub const READ: usize = 16 << 10;
/// A sender who does not take its answers is not read while more than this many bytes of them wait.
pub const BACK_MAX: usize = 4 << 10;
/// How long a side may take nothing once the connection has to end at once.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);
/// Reads of one connection before the others of its thread have their turn.
const ROUNDS: usize = 16;

thread_local! {
    /// What was read last on this thread; nobody's once it has been looked at.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// What has passed one way.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Whole packets.
    pub packets: AtomicU64,
    /// Bytes of MQTT, without TLS and TCP.
    pub bytes: AtomicU64,
}

/// Adds to a counter that nobody else adds to, which takes no locked instruction.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed) + more, Relaxed);
}

/// Why a relayed connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The device said DISCONNECT.
    #[error("the device disconnected")]
    Disconnected,
    /// A side closed its connection.
    #[error("{0} closed the connection")]
    Closed(Side),
    /// A side's connection broke.
    #[error("the connection to {0} broke: {1}")]
    Broke(Side, std::io::Error),
    /// A side stopped reading.
    #[error("{0} took nothing for {1} s (listen.write_timeout)")]
    Stalled(Side, u64),
    /// Silence.
    #[error("the device was silent for {0} s, one and a half times its keep-alive")]
    Idle(u64),
    /// A side broke a rule.
    #[error("{0} broke a rule: {1}")]
    Violation(Side, Violation),
    /// The device wants what this connection cannot have.
    #[error("{0}")]
    Policy(super::flow::deal::Offence),
    /// The gateway stops, and all that upstream owed the device has been delivered.
    #[error("the gateway stops; nothing was outstanding")]
    Drained,
    /// The gateway stops, and so many answers of upstream's had not come (0: something else was under way).
    #[error("the gateway stops, and what was under way is cut ({0} answers outstanding)")]
    Cut(u32),
    /// The subscriber may not be connected any more.
    #[error("{0}")]
    Barred(Bar),
}

/// The two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The device.
    Device,
    /// The cloud.
    Upstream,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Device => "the device",
            Self::Upstream => "upstream",
        })
    }
}

/// One side of a connection, and the direction that begins there.
struct Half<'a, S> {
    stream: &'a mut S,
    /// What waits to be written to it.
    out: Outbox,
    /// Read from it and not done with.
    input: Vec<u8>,
    /// The input has not been looked at as it is now.
    unseen: bool,
    /// Worth a look once the input is this long, in bytes.
    wanted: usize,
    /// Not read, nor looked at, before this time.
    held: Option<Duration>,
    /// It had nothing to read, and will wake this task when it has. True until the task is woken.
    dry: bool,
    /// Why nothing more comes from it: `None` inside is the end of the stream.
    over: Option<Option<io::Error>>,
    traffic: &'a Traffic,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Half<'a, S> {
    fn new(stream: &'a mut S, input: Vec<u8>, traffic: &'a Traffic) -> Self {
        Self {
            stream,
            out: Outbox::default(),
            unseen: !input.is_empty(),
            input,
            wanted: 0,
            held: None,
            dry: false,
            over: None,
            traffic,
        }
    }

    /// Writes what waits. A broken stream leaves its error in the outbox.
    fn push(&mut self, cx: &mut Context<'_>, now: Duration) {
        self.out.push(self.stream, cx, now);
    }

    /// Reads what is there; `None` when nothing came.
    fn read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Option<usize> {
        let mut into = ReadBuf::new(scratch);
        self.over = match Pin::new(&mut *self.stream).poll_read(cx, &mut into) {
            Poll::Pending => {
                self.dry = true;
                return None;
            }
            Poll::Ready(Ok(())) if !into.filled().is_empty() => return Some(into.filled().len()),
            Poll::Ready(Ok(())) => Some(None),
            // TLS that ends without a word of it.
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Some(None),
            Poll::Ready(Err(e)) => Some(Some(e)),
        };
        None
    }

    /// Whether its input may be asked for now.
    fn may_read(&self, now: Duration) -> bool {
        let dry = self.dry && !self.unseen;
        !dry && self.over.is_none() && self.held.is_none_or(|until| now >= until) && self.out.backs() <= BACK_MAX
    }

    /// Reads, looks and writes once, from this side to the other. False when there is nothing to do.
    fn pass<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        to: &mut Half<'_, T>,
        cx: &mut Context<'_>,
        now: Duration,
        ask: impl FnMut(&[u8]) -> Step,
        ending: &mut Option<End>,
    ) -> bool {
        if !to.out.is_clear() || !self.may_read(now) {
            return false;
        }
        self.held = None;
        SCRATCH.with_borrow_mut(|scratch| {
            let read = if self.unseen {
                0
            } else {
                match self.read(cx, scratch) {
                    Some(n) => n,
                    None => return false,
                }
            };
            let new = scratch.get(..read).unwrap_or_default();
            let kept = !self.input.is_empty();
            if kept {
                self.input.extend_from_slice(new);
                if self.input.len() < self.wanted {
                    return true;
                }
            }
            let front = if kept { self.input.as_slice() } else { new };
            let looked = look(front, ask);
            to.out.write(to.stream, cx, front, &looked.pieces, now);
            to.out.push(to.stream, cx, now);
            if let Some(back) = looked.back {
                self.out.add_back(&back, now);
            }
            add(&self.traffic.packets, looked.packets);
            add(&self.traffic.bytes, looked.taken as u64);
            if !kept {
                self.input = new.get(looked.taken..).unwrap_or_default().to_vec();
            } else if looked.taken < self.input.len() {
                self.input.drain(..looked.taken);
            } else {
                self.input = Vec::new();
            }
            self.wanted = looked.wanted;
            self.held = looked.hold.map(|time| now + time);
            self.unseen = self.held.is_some() && !self.input.is_empty();
            *ending = looked.end;
            true
        })
    }

    /// Whether the far end has let go, and how.
    fn gone(&mut self, side: Side) -> Option<End> {
        let over = self.over.take()?;
        Some(match self.out.take_error().or(over) {
            Some(e) => End::Broke(side, e),
            None => End::Closed(side),
        })
    }
}

/// How a connection is relayed.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The zero of the flow's time.
    pub epoch: Instant,
    /// Longest time a side may take nothing while something waits for it. (What has been encrypted, one read at most, has to be taken
    /// whole within this time.)
    pub write_timeout: Duration,
}

/// Who decides what becomes of packets: a [`Flow`].
pub trait Judge {
    /// [`Flow::leave`].
    fn leave(&mut self);
    /// [`Flow::is_shut`].
    fn is_shut(&self) -> bool;
    /// [`Flow::is_settled`].
    fn is_settled(&self) -> bool;
    /// [`Flow::awaited`].
    fn awaited(&self) -> u32;
    /// [`Flow::farewell`].
    fn farewell(&self, reason: u8) -> Option<Bytes>;
    /// [`Flow::up`].
    fn up(&mut self, front: &[u8], now: Duration) -> Step;
    /// [`Flow::down`].
    fn down(&mut self, front: &[u8], now: Duration) -> Step;
    /// [`Flow::deadline`].
    fn deadline(&self) -> Duration;
    /// [`Flow::due`].
    fn due(&mut self, now: Duration) -> Step;
}

impl Judge for Flow {
    fn leave(&mut self) {
        Self::leave(self);
    }

    fn is_shut(&self) -> bool {
        Self::is_shut(self)
    }

    fn is_settled(&self) -> bool {
        Self::is_settled(self)
    }

    fn awaited(&self) -> u32 {
        Self::awaited(self)
    }

    fn farewell(&self, reason: u8) -> Option<Bytes> {
        Self::farewell(self, reason)
    }

    fn up(&mut self, front: &[u8], now: Duration) -> Step {
        Self::up(self, front, now)
    }

    fn down(&mut self, front: &[u8], now: Duration) -> Step {
        Self::down(self, front, now)
    }

    fn deadline(&self) -> Duration {
        Self::deadline(self)
    }

    fn due(&mut self, now: Duration) -> Step {
        Self::due(self, now)
    }
}

struct Relay<'a, D, U, F> {
    device: Half<'a, D>,
    upstream: Half<'a, U>,
    flow: F,
    bounds: Bounds,
    ending: Option<End>,
    orders: &'a Orders,
    /// Whom an order wakes.
    listens: Option<Waker>,
    /// The timer will wake this task.
    armed: bool,
    /// The order that is being carried out.
    order: Option<Order>,
}

/// Relays until one side ends or it is told to; then both can be closed. The buffers hold what was read of either side already.
pub async fn relay<D, U, F>(
    (device, from_device): (&mut D, Vec<u8>),
    (upstream, from_upstream): (&mut U, Vec<u8>),
    flow: F,
    bounds: Bounds,
    (up, down): (&Traffic, &Traffic),
    orders: &Orders,
) -> End
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    F: Judge,
{
    let mut relay = Relay {
        device: Half::new(device, from_device, up),
        upstream: Half::new(upstream, from_upstream, down),
        flow,
        bounds,
        ending: None,
        orders,
        listens: None,
        armed: false,
        order: None,
    };
    let mut alarm = pin!(sleep_until(bounds.epoch + relay.flow.deadline()));
    poll_fn(|cx| relay.poll(cx, alarm.as_mut())).await
}

impl<D, U, F> Relay<'_, D, U, F>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    F: Judge,
{
    fn now(&self) -> Duration {
        self.bounds.epoch.elapsed()
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>) -> Poll<End> {
        pace::turn();
        if !self.listens.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.orders.wake(cx.waker());
            self.listens = Some(cx.waker().clone());
            self.armed = false;
        }
        (self.device.dry, self.upstream.dry) = (false, false);
        loop {
            let now = self.now();
            let order = self.orders.standing();
            if order != self.order {
                self.order = order;
                self.flow.leave();
                if order != Some(Order::Drain) {
                    self.bounds.write_timeout = self.bounds.write_timeout.min(FLUSH_MAX);
                }
            }
            let all = self.rounds(cx, now);
            if order.is_some() && self.ending.is_none() {
                self.obey(cx, now, all);
            }
            if !all {
                // The others of this thread first.
                cx.waker().wake_by_ref();
            }
            if let Some(end) = self.finished() {
                return Poll::Ready(end);
            }
            let at = self.bounds.epoch + self.deadline(now);
            if alarm.is_elapsed() || at < alarm.deadline() {
                alarm.as_mut().reset(at);
                self.armed = false;
            }
            if self.armed {
                return Poll::Pending;
            }
            if alarm.as_mut().poll(cx).is_pending() {
                self.armed = true;
                return Poll::Pending;
            }
            self.due(self.now());
        }
    }

    /// Ends as ordered, if it is time. `all` that could be passed without waiting has been, or there may be more.
    fn obey(&mut self, cx: &mut Context<'_>, now: Duration, all: bool) {
        let settled = all && self.flow.is_settled();
        let (end, word) = match self.order {
            None => return,
            Some(Order::Leave(bar)) => (End::Barred(bar), reason::ADMINISTRATIVE),
            Some(Order::Drain | Order::Now) if settled => (End::Drained, reason::SHUTTING_DOWN),
            Some(Order::Now) => (End::Cut(self.flow.awaited()), reason::SHUTTING_DOWN),
            // A device that takes nothing any more, and is no longer read, would not be missed.
            Some(Order::Drain) if self.flow.is_shut() && self.device.out.is_broken() => {
                (End::Cut(self.flow.awaited()), reason::SHUTTING_DOWN)
            }
            Some(Order::Drain) => return,
        };
        if let Some(bytes) = self.flow.farewell(word) {
            self.device.out.add(&bytes, now);
            self.device.push(cx, now);
        }
        self.ending = Some(end);
    }

    /// Passes what there is; false when there may be more.
    fn rounds(&mut self, cx: &mut Context<'_>, now: Duration) -> bool {
        for _ in 0..ROUNDS {
            self.device.push(cx, now);
            self.upstream.push(cx, now);
            if self.ending.is_some() {
                return true;
            }
            let (device, upstream, flow) = (&mut self.device, &mut self.upstream, &mut self.flow);
            let mut busy =
                !flow.is_shut() && device.pass(upstream, cx, now, |front| flow.up(front, now), &mut self.ending);
            if self.ending.is_none() {
                busy |= upstream.pass(device, cx, now, |front| flow.down(front, now), &mut self.ending);
            }
            if self.ending.is_none() {
                self.ending = device.gone(Side::Device).or_else(|| upstream.gone(Side::Upstream));
            }
            if !busy && self.ending.is_none() {
                // An answer to the sender may have come up in the last pass.
                self.device.push(cx, now);
                self.upstream.push(cx, now);
                return true;
            }
        }
        false
    }

    /// The end, once everything that still can be written has been.
    fn finished(&mut self) -> Option<End> {
        let without = match self.ending.as_ref()? {
            End::Closed(side) | End::Broke(side, _) => Some(*side),
            _ => None,
        };
        let device = without == Some(Side::Device) || self.device.out.is_done();
        let upstream = without == Some(Side::Upstream) || self.upstream.out.is_done();
        if device && upstream { self.ending.take() } else { None }
    }

    /// Whether the device is not listened to because of something else than its own silence. (A pause that the flow has ordered is in
    /// its deadline, and its own PINGREQs are due in it.)
    fn deaf(&self) -> bool {
        !self.upstream.out.is_clear() || self.device.out.backs() > BACK_MAX || self.flow.is_shut()
    }

    /// When something will be due, if nothing happens. Only what [`Self::due`] would do something about: a time that has passed and that
    /// nobody acts on would wake this task for ever.
    fn deadline(&self, now: Duration) -> Duration {
        let ending = self.ending.is_some();
        let stall = |out: &Outbox| {
            let owes = out.owes_since().filter(|_| !(ending && out.is_done()));
            owes.map(|since| since + self.bounds.write_timeout)
        };
        let flow = (!ending && !self.deaf()).then(|| self.flow.deadline());
        let holds = [self.device.held, self.upstream.held]
            .into_iter()
            .flatten()
            .filter(|h| *h > now);
        [stall(&self.device.out), stall(&self.upstream.out), flow]
            .into_iter()
            .flatten()
            .chain(holds)
            .min()
            .unwrap_or(now + self.bounds.write_timeout)
    }

    /// Does what is due.
    fn due(&mut self, now: Duration) {
        let patience = self.bounds.write_timeout;
        let ending = self.ending.is_some();
        for (side, out) in [
            (Side::Device, &mut self.device.out),
            (Side::Upstream, &mut self.upstream.out),
        ] {
            if ending && out.is_done() {
                continue;
            }
            if out.owes_since().is_some_and(|since| now >= since + patience) {
                let end = match out.give_up() {
                    Some(e) => End::Broke(side, e),
                    None => End::Stalled(side, patience.as_secs()),
                };
                self.ending.get_or_insert(end);
            }
        }
        if self.ending.is_none() && !self.deaf() && now >= self.flow.deadline() {
            let step = self.flow.due(now);
            if let Pass::Instead(bytes) = &step.pass {
                self.upstream.out.add(bytes, now);
            }
            if let Some(bytes) = &step.back {
                self.device.out.add(bytes, now);
            }
            self.ending = step.end;
        }
    }
}

#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;
