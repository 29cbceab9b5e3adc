//! One device over all its connections: it publishes at QoS 1, keeps what has no PUBACK, and sends that again after its next connect, first and in
//! order; with DUP when upstream still has its session, as new messages when it has none.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::super::names::{self, packet_id};
use super::Soak;
use super::line::reset;
use super::talk::{self, Heard};
use crate::mqtt::{Level, connack};

/// CONNACK comes within this, or the device breaks off. Longer than the line ever stalls.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Something is heard within this, a PINGRESP at least, or the device breaks off and connects again. Longer than the line ever stalls.
const HEAR_LIMIT: Duration = Duration::from_secs(20);
/// What cannot be written within this is broken.
const WRITE_LIMIT: Duration = Duration::from_secs(20);
/// Seconds. Small, so that connections left in silence run out during a soak.
const KEEP_ALIVE: u16 = 10;
/// How often a device that says nothing else pings.
const PING_EVERY: Duration = Duration::from_secs(4);
/// At most so many messages have no PUBACK: under mosquitto's Receive Maximum of 20.
const WINDOW: usize = 10;
/// Shortest and longest pause before a device connects again; it doubles while it fails.
const PAUSE_LEAST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(2);
/// How long an abandoned socket stays open: over the gateway's cut at 1.5 keep-alives.
const SILENCE: Duration = Duration::from_secs(20);
/// A device that was removed is refused within this: the gateway looks at its store every 2 s.
const REMOVED_LIMIT: Duration = Duration::from_secs(15);

/// One device.
struct Device {
    number: u32,
    level: Level,
    topic: String,
    soak: Rc<Soak>,
    random: fastrand::Rng,
    next: u32,
    /// What has no PUBACK, oldest first.
    unacked: VecDeque<u32>,
    gone: watch::Receiver<Vec<u32>>,
    drain: watch::Receiver<bool>,
}

/// How a connection ended.
enum End {
    /// As the device wanted it.
    Own,
    /// Refused, with CONNACK's code.
    Refused(u8),
}

/// Nothing came from the gateway for [`HEAR_LIMIT`].
#[derive(Debug, thiserror::Error)]
#[error("silence")]
struct Silence;

/// Plays a device until it has been removed; an error is the end of the soak.
pub(super) async fn live(number: u32, soak: Rc<Soak>, random: fastrand::Rng) -> anyhow::Result<()> {
    let mut device = Device {
        number,
        level: if number % 2 == 0 { Level::V3 } else { Level::V5 },
        topic: names::topic(number),
        random,
        next: 0,
        unacked: VecDeque::new(),
        gone: soak.gone.subscribe(),
        drain: soak.drain.subscribe(),
        soak,
    };
    let mut failures = 0;
    let mut removed_since: Option<Instant> = None;
    loop {
        let end = device.connection().await;
        let is_gone = device.gone.borrow().contains(&number);
        removed_since = removed_since.or(is_gone.then(Instant::now));
        let name = match &end {
            Ok(End::Own) => "",
            Ok(End::Refused(code)) => &format!("refused_{code}"),
            Err(e) => &format!("ended_by_{}", cause(e)),
        };
        if !name.is_empty() {
            device.soak.books.borrow_mut().event(name);
        }
        if let Some(since) = removed_since {
            let is_refused = matches!(end, Ok(End::Refused(connack::NOT_AUTHORIZED)));
            if is_refused || since.elapsed() > REMOVED_LIMIT {
                let mut books = device.soak.books.borrow_mut();
                books.given_up(u64::try_from(device.unacked.len())?);
                if is_refused {
                    books.event("removed_and_refused");
                } else {
                    books.wrong(format!("device {number} was removed and is still let in"));
                }
                return Ok(());
            }
        }
        failures = if matches!(end, Ok(End::Own)) { 0 } else { failures + 1 };
        let pause = PAUSE_MOST.min(PAUSE_LEAST * 2_u32.pow(failures.min(8)));
        sleep(pause.mul_f64(0.5 + device.random.f64() / 2.0)).await;
    }
}

/// One word for a count.
fn cause(error: &anyhow::Error) -> &'static str {
    if error.is::<tokio::time::error::Elapsed>() || error.is::<Silence>() {
        return "silence";
    }
    match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "refusal",
        Some(_) => "reset",
        None => "close",
    }
}

impl Device {
    /// From connecting to the end.
    async fn connection(&mut self) -> anyhow::Result<End> {
        let source: Ipv4Addr = names::source(self.number);
        let mut buffer = BytesMut::new();
        let open = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((source, 0).into())?;
            let mut stream = socket.connect(self.soak.to).await?;
            stream.set_nodelay(true)?;
            let name = names::name(self.number);
            stream.write_all(&talk::connect(self.level, &name, KEEP_ALIVE)?).await?;
            let answer = talk::connack(&mut stream, &mut buffer, self.level).await?;
            anyhow::Ok((stream, answer))
        };
        let (mut stream, answer) = timeout(CONNECT_LIMIT, open).await??;
        if !answer.is_accepted() {
            // 3.1.1's code for 5's reason: one count for both.
            let code = match self.level {
                Level::V3 => answer.code,
                Level::V5 => connack::code_for(answer.code),
            };
            return Ok(End::Refused(code));
        }
        let session = if answer.session_present {
            "connected"
        } else {
            "connected_anew"
        };
        {
            let mut books = self.soak.books.borrow_mut();
            books.event(session);
            books.connected(true);
        }
        let done = self.talk(&mut stream, &mut buffer, answer.session_present).await;
        self.soak.books.borrow_mut().connected(false);
        done?;
        self.leave(stream).await;
        Ok(End::Own)
    }

    /// Publishes and hears until the connection's time is over.
    async fn talk(&mut self, stream: &mut TcpStream, buffer: &mut BytesMut, has_session: bool) -> anyhow::Result<()> {
        for n in &self.unacked {
            self.soak.books.borrow_mut().sent_again(self.number, *n);
            let packet = talk::publish(self.level, &self.topic, self.number, *n, has_session, self.soak.payload);
            timeout(WRITE_LIMIT, stream.write_all(&packet)).await??;
        }
        // Exponential: at any moment it is as likely to end as at any other.
        let life = self.soak.life.mul_f64(-(1.0 - self.random.f64()).ln());
        let end = sleep(life);
        tokio::pin!(end);
        // The devices' beats are not in step.
        sleep(self.soak.pace.mul_f64(self.random.f64())).await;
        let mut beat = interval(self.soak.pace);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ping = interval(PING_EVERY);
        let mut heard_at = Instant::now();
        let (mut gone, mut drain) = (self.gone.clone(), self.drain.clone());
        let number = self.number;
        loop {
            let draining = *drain.borrow_and_update();
            tokio::select! {
                frame = talk::next(stream, buffer) => {
                    heard_at = Instant::now();
                    self.hear(talk::heard(self.level, &frame?)?)?;
                }
                _ = beat.tick(), if !draining => {
                    if self.unacked.len() >= WINDOW {
                        self.soak.books.borrow_mut().held_back();
                        continue;
                    }
                    let n = self.next;
                    self.next += 1;
                    self.unacked.push_back(n);
                    self.soak.books.borrow_mut().sent();
                    let packet = talk::publish(self.level, &self.topic, number, n, false, self.soak.payload);
                    timeout(WRITE_LIMIT, stream.write_all(&packet)).await??;
                }
                _ = ping.tick() => {
                    // Every PINGREQ is answered: silence is a dead connection, whatever waits.
                    if heard_at.elapsed() > HEAR_LIMIT {
                        bail!(Silence);
                    }
                    timeout(WRITE_LIMIT, stream.write_all(&talk::PING)).await??;
                }
                () = &mut end, if !draining => return Ok(()),
                done = gone.wait_for(|all| all.contains(&number)) => return done.map(drop).context("the soak is over"),
                done = drain.changed() => done.context("the soak is over")?,
            }
        }
    }

    fn hear(&mut self, heard: Heard) -> anyhow::Result<()> {
        let (id, reason) = match heard {
            Heard::Pong => return Ok(()),
            Heard::Farewell(reason) => {
                self.soak.books.borrow_mut().event(&format!("farewell_{reason:#04x}"));
                bail!("closed with {reason:#04x}");
            }
            Heard::Accepted(id) => (id, None),
            Heard::Refused(id, reason) => (id, Some(reason)),
        };
        let mut books = self.soak.books.borrow_mut();
        let at = self.unacked.iter().position(|n| packet_id(*n) == id);
        let Some(n) = at.and_then(|at| self.unacked.remove(at)) else {
            books.wrong(format!(
                "device {} got a PUBACK for {id}, which it did not send",
                self.number
            ));
            return Ok(());
        };
        match reason {
            None => books.accepted(self.number, n),
            Some(reason) => {
                books.given_up(1);
                books.wrong(format!(
                    "device {}: message {n} was refused with {reason:#04x}",
                    self.number
                ));
            }
        }
        Ok(())
    }

    /// Ends a connection in one of four ways.
    async fn leave(&mut self, mut stream: TcpStream) {
        let way = match self.random.u8(..4) {
            0 => {
                // It may be broken by now; then it is another kind of end.
                let _ = timeout(WRITE_LIMIT, stream.write_all(&talk::DISCONNECT)).await;
                "left_by_disconnect"
            }
            1 => "left_by_end_of_stream",
            2 => {
                reset(&stream);
                "left_by_reset"
            }
            _ => {
                tokio::task::spawn_local(async move {
                    sleep(SILENCE).await;
                    drop(stream);
                });
                // Some come back when the gateway has noticed, some before.
                let pause = self.random.f64();
                sleep(SILENCE.min(self.soak.life).mul_f64(pause * pause)).await;
                "left_in_silence"
            }
        };
        self.soak.books.borrow_mut().event(way);
    }
}
