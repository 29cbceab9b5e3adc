//! What a connection's bytes may do: a state machine between TCP and TLS. Bytes and the time go in, a [`Verdict`] comes out; no I/O.
//!
//! The positions of a handshake are found in the records that go to the client (RFC 8446 section 5.1: one byte of type, two of version,
//! two of length). The record after the server's ChangeCipherSpec, or the first one of application data, is the first protected one: in
//! TLS 1.2 that is Finished, in TLS 1.3 the flight from EncryptedExtensions to Finished.

use std::time::Duration;

use super::wire::{Place, Step, WireFault};

/// Faults that one connection can have at a time; further ones are not taken.
pub(crate) const PLANS_MAX: usize = 16;
/// How much of the server's first flight goes out before a stall at `server-hello`, in bytes: a record's head, version and random of a
/// ServerHello, which is longer than that in every version.
const SERVER_HELLO_PART: u64 = 40;
/// A throttled connection moves this often in a second, so that a slow one is slow and not bursty.
const THROTTLE_STEPS: u32 = 10;
/// Bytes before a record's content (RFC 8446 section 5.1).
const RECORD_HEAD: usize = 5;
/// Content types (RFC 8446 section 5.1, RFC 5246 section 6.2.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const APPLICATION_DATA: u8 = 23;

/// What may happen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This many bytes may pass, at least one.
    Go(usize),
    /// Nothing before that moment.
    Wait(Duration),
    /// Nothing any more; the connection stays open.
    Stall,
    /// The connection ends here.
    Cut,
    /// A fatal alert with this description, then the end.
    Alert(u8),
}

/// Follows TLS records as they go out.
#[derive(Debug, Default)]
struct Records {
    head: [u8; RECORD_HEAD],
    head_len: usize,
    body_left: usize,
    seen_ccs: bool,
    protected: bool,
}

impl Records {
    /// How many of these bytes come before the first protected record. Does not move.
    fn before_protected(&self, bytes: &[u8]) -> usize {
        let mut copy = Self {
            head: self.head,
            ..*self
        };
        copy.advance(bytes)
    }

    /// Moves over the bytes; stops at the first protected record and answers how many came before it.
    fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.protected {
            if self.body_left > 0 {
                let n = self.body_left.min(bytes.len() - at);
                self.body_left -= n;
                at += n;
                continue;
            }
            if self.head_len == 0 && (self.seen_ccs || bytes[at] == APPLICATION_DATA) {
                self.protected = true;
                break;
            }
            self.head[self.head_len] = bytes[at];
            self.head_len += 1;
            at += 1;
            if self.head_len == RECORD_HEAD {
                self.seen_ccs = self.head[0] == CHANGE_CIPHER_SPEC;
                self.body_left = usize::from(u16::from_be_bytes([self.head[3], self.head[4]]));
                self.head_len = 0;
            }
        }
        at
    }
}

/// The state of one connection's byte stream.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    up: u64,
    down: u64,
    plans: Vec<WireFault>,
    records: Records,
    stalled: bool,
    next_up: Duration,
    next_down: Duration,
}

impl Tap {
    /// One more fault for this connection; the answer is whether there was room.
    pub(crate) fn add(&mut self, fault: WireFault) -> bool {
        let room = self.plans.len() < PLANS_MAX;
        if room {
            self.plans.push(fault);
        }
        room
    }

    /// Bytes so far, from and to the client.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.up, self.down)
    }

    /// Nothing moves any more.
    pub(crate) fn stall(&mut self) {
        self.stalled = true;
    }

    /// Whether nothing moves any more.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// How far this place is away, in bytes of this direction.
    fn left(&self, place: Place, going_up: bool) -> Option<u64> {
        let (limit, count, concerned) = match place {
            Place::Step(_) => return None,
            Place::Up(n) => (n, self.up, going_up),
            Place::Down(n) => (n, self.down, !going_up),
            Place::Both(n) => (n, self.up.saturating_add(self.down), true),
        };
        let left = limit.saturating_sub(count);
        (concerned || left == 0).then_some(left)
    }

    /// What the plans that look at bytes alone allow, for at most `wanted` bytes.
    fn flow(&mut self, now: Duration, going_up: bool, wanted: usize) -> Verdict {
        if self.stalled {
            return Verdict::Stall;
        }
        let mut allowed = wanted.max(1);
        for at in 0..self.plans.len() {
            match self.plans[at] {
                WireFault::Stall(place) | WireFault::Cut(place) => match self.left(place, going_up) {
                    Some(0) if matches!(self.plans[at], WireFault::Cut(_)) => return Verdict::Cut,
                    Some(0) => {
                        self.stalled = true;
                        return Verdict::Stall;
                    }
                    Some(left) => allowed = allowed.min(usize::try_from(left).unwrap_or(usize::MAX)),
                    None => {}
                },
                WireFault::Throttle(rate) => {
                    let next = if going_up { self.next_up } else { self.next_down };
                    if now < next {
                        return Verdict::Wait(next);
                    }
                    allowed = allowed.min((rate / THROTTLE_STEPS).max(1) as usize);
                }
                WireFault::RefuseTcp | WireFault::Alert(_) => {}
            }
        }
        Verdict::Go(allowed)
    }

    fn slow_down(&self) -> Option<u32> {
        let rates = self.plans.iter().filter_map(|p| match p {
            WireFault::Throttle(rate) => Some(*rate),
            _ => None,
        });
        rates.min()
    }

    fn after(&self, now: Duration, bytes: usize) -> Duration {
        self.slow_down().map_or(Duration::ZERO, |rate| {
            now + Duration::from_secs_f64(bytes as f64 / f64::from(rate))
        })
    }

    fn waits_at(&self, step: Step) -> bool {
        self.plans.contains(&WireFault::Stall(Place::Step(step)))
    }

    /// Before at most `room` bytes are read.
    pub(crate) fn before_read(&mut self, now: Duration, room: usize) -> Verdict {
        if self.up == 0 && self.waits_at(Step::Accept) {
            self.stalled = true;
        }
        self.flow(now, true, room)
    }

    /// So many bytes were read.
    pub(crate) fn read(&mut self, now: Duration, bytes: usize) {
        self.up = self.up.saturating_add(bytes as u64);
        self.next_up = self.after(now, bytes);
    }

    /// Before these bytes are written.
    pub(crate) fn before_write(&mut self, now: Duration, bytes: &[u8]) -> Verdict {
        if self.down == 0 {
            if let Some(WireFault::Alert(code)) = self.plans.iter().find(|p| matches!(p, WireFault::Alert(_))) {
                return Verdict::Alert(*code);
            }
            if self.waits_at(Step::ClientHello) {
                self.stalled = true;
            }
        }
        let mut wanted = bytes.len();
        if self.waits_at(Step::ServerHello) {
            let left = SERVER_HELLO_PART.saturating_sub(self.down);
            wanted = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if self.waits_at(Step::Finished) {
            wanted = wanted.min(self.records.before_protected(bytes));
        }
        if wanted == 0 && !bytes.is_empty() {
            self.stalled = true;
        }
        self.flow(now, false, wanted)
    }

    /// These bytes were written.
    pub(crate) fn wrote(&mut self, now: Duration, bytes: &[u8]) {
        self.down = self.down.saturating_add(bytes.len() as u64);
        self.records.advance(bytes);
        self.next_down = self.after(now, bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(1);

    fn tap(faults: &[&str]) -> Tap {
        let mut tap = Tap::default();
        for text in faults {
            assert!(tap.add(WireFault::read(text).unwrap().unwrap()));
        }
        tap
    }

    /// Writes in pieces of every size and answers how much went out before the verdict that is no `Go`.
    fn push(tap: &mut Tap, bytes: &[u8], piece: usize) -> (usize, Option<Verdict>) {
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + piece);
            match tap.before_write(T0, &bytes[at..end]) {
                Verdict::Go(n) => {
                    let n = n.min(end - at);
                    tap.wrote(T0, &bytes[at..at + n]);
                    at += n;
                }
                other => return (at, Some(other)),
            }
        }
        (at, None)
    }

    #[test]
    fn without_faults_everything_passes_and_is_counted() {
        let mut t = tap(&[]);
        assert_eq!(t.before_read(T0, 100), Verdict::Go(100));
        t.read(T0, 70);
        assert_eq!(push(&mut t, &[0; 30], 7), (30, None));
        assert_eq!(t.bytes(), (70, 30));
    }

    #[test]
    fn bytes_are_cut_at_the_very_byte() {
        for piece in 1..12 {
            let mut t = tap(&["cut-down@10"]);
            assert_eq!(push(&mut t, &[9; 30], piece), (10, Some(Verdict::Cut)));
            assert_eq!(t.before_read(T0, 1), Verdict::Cut, "the other direction learns too");
            let mut t = tap(&["stall-up@10"]);
            t.read(T0, 4);
            assert_eq!(t.before_read(T0, 100), Verdict::Go(6));
            assert_eq!(
                push(&mut t, &[9; 30], piece),
                (30, None),
                "nothing stops this direction"
            );
            t.read(T0, 6);
            assert_eq!(t.before_read(T0, 100), Verdict::Stall);
            assert_eq!(push(&mut t, &[9; 30], piece), (0, Some(Verdict::Stall)));
        }
        let mut t = tap(&["cut@10"]);
        t.read(T0, 8);
        assert_eq!(push(&mut t, &[9; 30], 30), (2, Some(Verdict::Cut)));
    }

    #[test]
    fn a_throttle_gives_time_to_every_byte() {
        let mut t = tap(&["throttle=100"]);
        let mut now = T0;
        let mut got = 0;
        while got < 1_000 {
            match t.before_read(now, 4_096) {
                Verdict::Go(n) => {
                    t.read(now, n);
                    got += n;
                }
                Verdict::Wait(then) => {
                    assert!(then > now);
                    now = then;
                }
                other => panic!("{other:?}"),
            }
        }
        let took = (now - T0).as_secs_f64();
        assert!((9.8..=10.1).contains(&took), "{took}");
    }

    #[test]
    fn accept_and_client_hello_come_before_any_byte() {
        let mut t = tap(&["stall@accept"]);
        assert_eq!(t.before_read(T0, 9), Verdict::Stall);
        let mut t = tap(&["stall@client-hello"]);
        assert_eq!(t.before_read(T0, 9), Verdict::Go(9));
        t.read(T0, 9);
        assert_eq!(t.before_write(T0, &[0]), Verdict::Stall);
        assert!(t.is_stalled());
        let mut t = tap(&["tls-alert-40"]);
        t.read(T0, 9);
        assert_eq!(t.before_write(T0, &[0]), Verdict::Alert(40));
    }

    fn record(kind: u8, size: u16) -> Vec<u8> {
        let mut r = vec![kind, 3, 3];
        r.extend(size.to_be_bytes());
        r.extend(std::iter::repeat_n(0xab, usize::from(size)));
        r
    }

    #[test]
    fn the_last_flight_is_withheld_however_it_is_cut_into_writes() {
        let hello = record(22, 90);
        let tls13 = [hello.clone(), record(20, 1), record(23, 900)].concat();
        let tls13_without_ccs = [hello.clone(), record(23, 900)].concat();
        let tls12 = [
            hello.clone(),
            record(22, 700),
            record(22, 4),
            record(20, 1),
            record(22, 40),
        ]
        .concat();
        let (a, b, c) = (95 + 6, 95, 95 + 705 + 9 + 6);
        for (flight, wanted) in [(tls13, a), (tls13_without_ccs, b), (tls12, c)] {
            for piece in 1..flight.len() + 1 {
                let mut t = tap(&["stall@finished"]);
                assert_eq!(push(&mut t, &flight, piece), (wanted, Some(Verdict::Stall)), "{piece}");
                let mut t = tap(&["stall@server-hello"]);
                let (sent, verdict) = push(&mut t, &flight, piece);
                assert_eq!((sent, verdict), (40, Some(Verdict::Stall)));
            }
        }
    }

    #[test]
    fn plans_are_bounded() {
        let mut t = tap(&["throttle=1"; PLANS_MAX]);
        assert!(!t.add(WireFault::Throttle(1)));
    }
}
