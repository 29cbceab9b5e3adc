//! What becomes of each packet: passed as it is, passed in another form, answered here, held back, or the end. No I/O.
//!
//! A [`Flow`] is one relayed connection's memory. Bytes and `now` go in, a [`Step`] comes out: how many bytes of the front of the input
//! it concerns, what goes on to the other side, what goes back to the sender, and whether that was the end. The pump
//! ([`super::relay`]) does what the steps say and nothing else:
//! - the bytes that steps have for one side are written in the order in which the steps were returned;
//! - a step that took something is followed by another question, with what is left of the input;
//! - after `hold` it is asked again too, with the same input.
//!
//! The body of a PUBLISH never waits here to be whole: its head (topic, identifier, properties) is looked at, then its payload goes on
//! as it comes, in steps of [`Pass::AsIs`]. Packets that need nothing are taken together, as many as the input has. Where one needs a
//! change, the run of small packets around it is written anew, so that one read stays one write.
//!
//! | file | what it decides |
//! |---|---|
//! | [`deal`] | what device, gateway and upstream have agreed on: version, policy, bounds, bucket |
//! | [`super::group::policy`] | the table: what is punished where, and what is done about it |
//! | `publish` | a device's PUBLISH: size, QoS, retain, topic |
//! | `exactly` | QoS 2 over an upstream of QoS 1 |
//! | `subscribe` | filters: rewritten, lowered, refused, cut into parts |
//! | `waiting` | the parts in their order, and what may not overtake them |
//! | [`topics`] | placeholders and the appended IMSI |
//! | `pings` | the gateway's own PINGREQs |
//! | [`bucket`] | messages and bytes a second |
//! | `run` | a step in the making |
//!
//! An acknowledgement for a message that went up only ever comes from upstream. What is answered here is what was not sent: a refused
//! PUBLISH of MQTT 5 (with a failure), a refused filter, the second half of an adapted QoS 2 whose first half upstream acknowledged.
//!
//! Memory: a `Flow` itself is under [`FLOW_MAX`] bytes, its [`Deal`] under 256. On the heap there is, only while it is needed: 4 bytes for each adapted QoS 2
//! message (at most 1,024), SUBSCRIBEs that are being cut and what stands in line behind them (at most 16, together no
//! larger than twice `max_packet`), and bytes for a side that is in the middle of a PUBLISH ([`OWED_MAX`]).
//!
//! **Rates.** Where the bucket is empty, the next packet waits at the front of the input, and everything behind it in TCP. What has begun goes
//! on: the payload of a PUBLISH whose head went up is never held, because nothing else can be said upstream before it ends, no PINGREQ either,
//! and a cloud closes a connection whose next packet is not whole in time. Its bytes are owed and paid before the next packet. A DISCONNECT, and
//! a PINGREQ when none is unanswered, do not wait; for a device that is held the gateway's own PINGREQs go up (`pings`).
//!
//! **Leaving.** When the gateway stops, a flow [leaves](Flow::leave): what the device has begun is finished and its acknowledgements pass, but
//! nothing new is begun; [`Flow::is_settled`] says when upstream has answered everything, and [`Flow::farewell`] is the last word.

pub mod bucket;
pub mod deal;
mod exactly;
mod pings;
mod publish;
mod run;
mod subscribe;
pub mod topics;
mod waiting;

#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

use super::group::policy::Matter;
use super::relay::{End, Side};
use super::rules::{Checker, Direction, Look, Violation, What};
use crate::mqtt::{Level, PacketType, reason, rule};
use deal::{Deal, Offence};
use exactly::Exactly;
use pings::Pings;
use publish::{Fate, Head, PUBCOMP, PUBREC};
use run::{Owed, Run};
use subscribe::Verdict;
use waiting::{Answered, Waiting};

/// Largest [`Flow`], in bytes.
pub const FLOW_MAX: usize = 480;
/// More than so many bytes are not kept for a side in the middle of a PUBLISH: the other side is held.
pub const OWED_MAX: usize = 4 << 10;
/// How long it is held then, before it is looked again.
const OWED_PAUSE: Duration = Duration::from_millis(20);
/// Most remarks that one connection makes to the operator.
const NOTES_MAX: usize = 16;
/// PINGREQ (MQTT 3.1.1 and 5 section 3.12).
const PINGREQ: [u8; 2] = [0xc0, 0];

/// What goes on to the other side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pass {
    /// Nothing.
    #[default]
    Nothing,
    /// The bytes that were taken, as they are.
    AsIs,
    /// These in their place.
    Instead(Bytes),
}

/// What becomes of the front of an input.
#[derive(Debug, Default)]
pub struct Step {
    /// So many bytes of the input are done with; 0 when more must come first (see [`Step::wanted`]).
    pub take: usize,
    /// What goes on to the other side.
    pub pass: Pass,
    /// What goes back to the side the input came from.
    pub back: Option<Bytes>,
    /// Whole packets that these bytes finish.
    pub packets: u64,
    /// With `take` 0: how many bytes the buffer must hold before it is worth asking again.
    pub wanted: usize,
    /// Do not read from this side again before this much time has passed (a token bucket is empty).
    pub hold: Option<Duration>,
    /// Write what this step says, then end.
    pub end: Option<End>,
    /// What the operator should know; each once, and at most [`NOTES_MAX`] on one connection.
    pub note: Option<String>,
}

/// What a connection is held to.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Largest packet, in bytes.
    pub max_packet: usize,
    /// Longest silence of the device.
    pub idle: Duration,
}

/// The rest of a PUBLISH whose head was dealt with.
#[derive(Debug, Clone, Copy, Default)]
struct Body {
    left: usize,
    dropped: bool,
}

/// How far a flow that should end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Leaving {
    #[default]
    No,
    /// The device may finish what it has begun.
    Asked,
    /// It wanted to begin something new, which stays where it is.
    Shut,
}

/// One relayed connection.
#[derive(Debug)]
pub struct Flow {
    terms: Terms,
    deal: Box<Deal>,
    heard: Duration,
    checker_up: Checker,
    checker_down: Checker,
    body_up: Body,
    body_down: Body,
    /// For a side in the middle of a PUBLISH.
    owed_device: Owed,
    owed_upstream: Owed,
    exactly: Exactly,
    waiting: Waiting,
    pings: Option<Pings>,
    noted: Vec<String>,
    leaving: Leaving,
    /// PUBLISHes, SUBSCRIBEs and the rest go up without a look at what is in them.
    any_publish: bool,
    any_subscribe: bool,
    /// The largest PUBLISH, in bytes.
    publish_most: usize,
    /// MQTT 5: PUBLISHes above QoS 0 that upstream has not acknowledged.
    unanswered: u16,
    /// Answers that upstream owes the device: to PUBLISH, PUBREL, SUBSCRIBE and UNSUBSCRIBE.
    awaited: u32,
    /// Messages with QoS 2 of the device that have got their PUBREC, and not their PUBREL: a broker forgets them with the session.
    unreleased: u32,
}

impl Flow {
    /// A connection whose CONNACK has just been passed, to an upstream that takes all of MQTT 3.1.1; `now` is monotonic time.
    #[must_use]
    pub fn new(terms: Terms, now: Duration) -> Self {
        Self::with(terms, Deal::default(), now)
    }

    /// A connection whose CONNACK has just been passed; `now` is monotonic time.
    #[must_use]
    pub fn with(terms: Terms, deal: Deal, now: Duration) -> Self {
        // The bound is ours to keep: a PUBLISH over it may be discarded as it comes, and the connection stays.
        let (checker_up, checker_down) = deal.checkers(usize::MAX);
        Self {
            heard: now,
            checker_up,
            checker_down,
            body_up: Body::default(),
            body_down: Body::default(),
            owed_device: Owed::default(),
            owed_upstream: Owed::default(),
            exactly: Exactly::default(),
            waiting: Waiting::default(),
            pings: deal.keep_alive().map(|seconds| Pings::new(seconds, now)),
            noted: Vec::new(),
            leaving: Leaving::No,
            any_publish: deal.takes_any_publish(),
            any_subscribe: deal.takes_any_subscribe(),
            publish_most: deal.publish_most(terms.max_packet),
            unanswered: 0,
            awaited: 0,
            unreleased: 0,
            terms,
            deal: Box::new(deal),
        }
    }

    /// Looks at the front of what came from the device.
    pub fn up(&mut self, front: &[u8], now: Duration) -> Step {
        self.heard = now;
        if self.owed_device.len() > OWED_MAX {
            return Step {
                hold: Some(OWED_PAUSE),
                ..Step::default()
            };
        }
        let mut run = Run::new(front);
        let mut published = 0;
        let mut quota = None;
        let mut ended = None;
        while !run.rest().is_empty() && run.step.end.is_none() {
            if self.body_up.left > 0 {
                if run.ends_before(self.body_up.left) {
                    break;
                }
                self.body_up = continued(&mut run, self.body_up);
                if self.body_up.left == 0 {
                    finished(&mut run, &mut self.owed_upstream);
                }
                continue;
            }
            let rest = run.rest();
            match self.seen(Direction::Up, rest, &mut run.step) {
                Ok(None) => break,
                Ok(Some(look)) => {
                    if self.leaving != Leaving::No && begins(&look.what) {
                        self.leaving = Leaving::Shut;
                        break;
                    }
                    let publish = matches!(look.what, What::Publish(_));
                    if let Some(bucket) = self.deal.bucket() {
                        match *quota.get_or_insert_with(|| bucket.ask(now)) {
                            Err(_) if self.is_urgent(&look.what) => {}
                            Err(wait) if run.taken() == 0 => return self.held(wait, now),
                            Ok(quota) if !publish || published < quota => {}
                            _ => break,
                        }
                    }
                    published += u64::from(publish);
                    ended = self.device_sent(&look, rest, &mut run).err();
                }
                Err(violation) => ended = Some(End::Violation(Side::Device, violation)),
            }
            if ended.is_some() {
                break;
            }
        }
        if let Some(end) = ended {
            self.goodbye(&end, self.body_down.left == 0, &mut run);
            run.step.end = Some(end);
        }
        let taken = run.taken();
        if let Some(pings) = self.pings.as_mut().filter(|_| taken > 0) {
            pings.sent(now);
        }
        if let Some(bucket) = self.deal.bucket().filter(|_| taken > 0) {
            bucket.charge(now, published, taken as u64);
        }
        let mut step = run.finish();
        if self.body_down.left > 0 {
            if let Some(back) = step.back.take() {
                self.owed_device.push(&back);
            }
        }
        step
    }

    /// Looks at the front of what came from upstream.
    pub fn down(&mut self, front: &[u8], _now: Duration) -> Step {
        let mut run = Run::new(front);
        let mut ended = None;
        while !run.rest().is_empty() && run.step.end.is_none() {
            if self.body_down.left > 0 {
                if run.ends_before(self.body_down.left) {
                    break;
                }
                self.body_down = continued(&mut run, self.body_down);
                if self.body_down.left == 0 {
                    finished(&mut run, &mut self.owed_device);
                }
                continue;
            }
            let rest = run.rest();
            match self.seen(Direction::Down, rest, &mut run.step) {
                Ok(None) => break,
                Ok(Some(look)) => self.upstream_sent(&look, &mut run),
                Err(violation) => {
                    ended = Some(End::Violation(Side::Upstream, violation));
                    break;
                }
            }
        }
        if let Some(end) = ended {
            self.goodbye(&end, self.body_up.left == 0, &mut run);
            run.step.end = Some(end);
        }
        let mut step = run.finish();
        if self.body_up.left > 0 {
            if let Some(back) = step.back.take() {
                self.owed_upstream.push(&back);
            }
        }
        step
    }

    /// When [`Flow::due`] wants to be asked, in monotonic time. Ask again after each step.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        let idle = self.heard + self.terms.idle;
        match &self.pings {
            // In the middle of a PUBLISH nothing else can be said.
            Some(pings) if self.body_up.left == 0 => idle.min(pings.deadline()),
            _ => idle,
        }
    }

    /// What is due at `now`: the end of a device that was silent for too long (in MQTT 5 `back` tells it so), or a PINGREQ of our own
    /// (`pass` goes upstream, `take` is 0).
    pub fn due(&mut self, now: Duration) -> Step {
        let mut step = Step::default();
        if now >= self.heard + self.terms.idle {
            if self.deal.is_five() && self.body_down.left == 0 {
                step.back = Some(Bytes::copy_from_slice(&disconnect(reason::KEEP_ALIVE_TIMEOUT)));
            }
            step.end = Some(End::Idle(self.terms.idle.as_secs()));
        } else if self.body_up.left == 0 && self.pings.as_mut().is_some_and(|p| p.due(now)) {
            step.pass = Pass::Instead(Bytes::from_static(&PINGREQ));
        }
        step
    }

    /// Begins nothing new from now on.
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Asked;
        }
    }

    /// Whether [`Flow::up`] takes nothing more: the device has finished what it had begun, and wants to begin something new.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.leaving == Leaving::Shut
    }

    /// How many answers upstream owes the device.
    #[must_use]
    pub fn awaited(&self) -> u32 {
        self.awaited
    }

    /// Whether both sides are between packets, upstream owes the device no answer, and the device, as far as it is listened to, has released
    /// what it has to.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let between = self.body_up.left == 0 && self.body_down.left == 0;
        let released = self.unreleased == 0 || self.is_shut();
        between && released && self.awaited == 0 && self.owed_device.len() == 0 && self.owed_upstream.len() == 0
    }

    /// The last word to the device: in MQTT 5 a DISCONNECT with this reason, unless it is in the middle of a PUBLISH.
    #[must_use]
    pub fn farewell(&self, reason: u8) -> Option<Bytes> {
        let may_speak = self.deal.is_five() && self.body_down.left == 0;
        may_speak.then(|| Bytes::copy_from_slice(&disconnect(reason)))
    }

    /// Whether a packet goes up although the bucket is empty.
    fn is_urgent(&self, what: &What<'_>) -> bool {
        match what {
            What::Disconnect { .. } => true,
            What::PingReq => self.pings.as_ref().is_some_and(Pings::is_quiet),
            _ => false,
        }
    }

    /// A step that only waits. The device is not silent meanwhile: it is not listened to.
    fn held(&mut self, wait: Duration, now: Duration) -> Step {
        self.heard = now + wait;
        Step {
            hold: Some(wait),
            ..Step::default()
        }
    }

    /// One look at the next packet; `None` when more of it must come.
    fn seen<'b>(
        &mut self,
        direction: Direction,
        rest: &'b [u8],
        step: &mut Step,
    ) -> Result<Option<Look<'b>>, Violation> {
        let most = self.terms.max_packet;
        let checker = match direction {
            Direction::Up => &mut self.checker_up,
            Direction::Down => &mut self.checker_down,
        };
        let too_large = |size: usize, packet: Option<PacketType>| {
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let v = rule::PACKET_SIZE.above(number(size), number(most));
            Violation {
                level: self.deal.level(),
                packet,
                ..v
            }
        };
        match checker.look(rest)? {
            Some(look) => {
                // What a device publishes is judged with its policy; what upstream delivers is only passed on, not kept.
                let kept = look.head.packet != PacketType::Publish;
                if kept && look.head.size > most {
                    return Err(too_large(look.head.size, Some(look.head.packet)));
                }
                Ok(Some(look))
            }
            None => {
                let wanted = checker.wanted(rest);
                if wanted > most {
                    return Err(too_large(wanted, None));
                }
                step.wanted = wanted;
                Ok(None)
            }
        }
    }

    fn device_sent(&mut self, look: &Look<'_>, rest: &[u8], run: &mut Run<'_>) -> Result<(), End> {
        let size = look.head.size;
        match &look.what {
            What::Publish(publish) => {
                let head = Head::of(look, publish, rest);
                let fate = if self.any_publish && size <= self.publish_most {
                    Fate::AsIs
                } else {
                    let mut note = None;
                    let fate = publish::publish(&self.deal, &mut self.exactly, &head, self.terms.max_packet, &mut note);
                    self.note(note, run);
                    fate?
                };
                let dropped = matches!(fate, Fate::Drop(..));
                if publish.qos > 0 && !dropped {
                    self.awaited = self.awaited.saturating_add(1);
                }
                if self.deal.is_five() && publish.qos > 0 && !dropped {
                    self.unanswered = self.unanswered.saturating_add(1);
                    let most = self.deal.receive_maximum();
                    if self.unanswered > most {
                        let v = rule::RECEIVE_MAXIMUM.above(self.unanswered, most);
                        return Err(End::Violation(
                            Side::Device,
                            v.in_packet(Level::V5, PacketType::Publish),
                        ));
                    }
                }
                match fate {
                    Fate::AsIs => run.pass(head.size),
                    Fate::Head(bytes) => run.instead(head.size, &bytes),
                    Fate::Drop(answer, length) => {
                        run.instead(head.size, &[]);
                        if let Some(answer) = answer {
                            run.back(answer.get(..length).unwrap_or(&[]));
                        }
                    }
                }
                self.body_up = Body {
                    left: head.payload,
                    dropped,
                };
                if head.payload == 0 {
                    run.step.packets += 1;
                }
                return Ok(());
            }
            What::Ack {
                kind: PacketType::PubRel,
                id,
                ..
            } if self.adapts_qos2() => {
                if !self.exactly.release(*id) {
                    let why = "PUBREL for a message whose PUBREC has not come".to_owned();
                    return Err(Offence::new(Matter::PublishQos2, reason::PROTOCOL_ERROR, why).into());
                }
                run.instead(size, &[]);
                run.back(&acknowledgement(PUBCOMP, *id));
            }
            What::Subscribe(s) if !self.any_subscribe => {
                self.in_line(s.id)?;
                let mut note = None;
                let verdict = subscribe::subscribe(&self.deal, body(look, rest), &mut note);
                self.note(note, run);
                self.subscription(s.id, verdict?, rest.get(..size).unwrap_or(rest), run)?;
            }
            What::Unsubscribe(u) if self.deal.rewrite().is_some() || !self.waiting.is_empty() => {
                self.in_line(u.id)?;
                let verdict = subscribe::unsubscribe(&self.deal, body(look, rest))?;
                self.subscription(u.id, verdict, rest.get(..size).unwrap_or(rest), run)?;
            }
            What::PingReq => {
                if self.pings.as_mut().is_some_and(|p| !p.ask(false)) {
                    let why = format!(
                        "more than {} PINGREQs that upstream has not answered",
                        pings::UNANSWERED_MAX
                    );
                    return Err(Offence::new(Matter::KeepAlive, reason::RATE_TOO_HIGH, why).into());
                }
                run.pass(size);
            }
            What::Disconnect { .. } => {
                run.pass(size);
                run.step.end = Some(End::Disconnected);
            }
            What::Ack {
                kind: PacketType::PubRel,
                ..
            } => {
                self.unreleased = self.unreleased.saturating_sub(1);
                self.awaited = self.awaited.saturating_add(1);
                run.pass(size);
            }
            What::Subscribe(_) | What::Unsubscribe(_) => {
                self.awaited = self.awaited.saturating_add(1);
                run.pass(size);
            }
            _ => run.pass(size),
        }
        run.step.packets += 1;
        Ok(())
    }

    /// An identifier whose SUBSCRIBE waits may not be used again.
    fn in_line(&self, id: u16) -> Result<(), Offence> {
        if !self.waiting.has(id) {
            return Ok(());
        }
        let why = format!("packet identifier {id} is that of a SUBSCRIBE without its SUBACK");
        Err(Offence::new(Matter::ManyFilters, reason::PACKET_ID_IN_USE, why))
    }

    fn subscription(&mut self, id: u16, verdict: Verdict, packet: &[u8], run: &mut Run<'_>) -> Result<(), Offence> {
        let (changed, pending) = match verdict {
            Verdict::Answered(bytes) => {
                run.instead(packet.len(), &[]);
                run.back(&bytes);
                return Ok(());
            }
            Verdict::AsIs => (None, None),
            Verdict::Instead(bytes) => (Some(bytes), None),
            Verdict::Parts(first, pending) => (Some(first), Some(pending)),
        };
        let goes = changed.as_deref().unwrap_or(packet);
        let most = 2 * self.terms.max_packet;
        let now = self.waiting.add(id, goes, pending, most).map_err(|count| {
            let why = format!("{count} SUBSCRIBEs are waiting for upstream already");
            Offence::new(Matter::ManyFilters, reason::QUOTA_EXCEEDED, why)
        })?;
        self.awaited = self.awaited.saturating_add(1);
        match changed {
            _ if !now => run.instead(packet.len(), &[]),
            Some(bytes) => run.instead(packet.len(), &bytes),
            None => run.pass(packet.len()),
        }
        Ok(())
    }

    fn upstream_sent(&mut self, look: &Look<'_>, run: &mut Run<'_>) {
        let size = look.head.size;
        match &look.what {
            What::Publish(publish) => {
                run.pass(publish.head_size);
                self.body_down = Body {
                    left: size.saturating_sub(publish.head_size),
                    dropped: false,
                };
                if self.body_down.left == 0 {
                    run.step.packets += 1;
                }
                return;
            }
            What::Ack { kind, reason: code, .. } if self.deal.is_five() => {
                self.settle(*kind);
                let failed = code.is_some_and(|c| c >= reason::UNSPECIFIED);
                self.received(*kind, failed);
                if matches!(kind, PacketType::PubAck | PacketType::PubComp) || (*kind == PacketType::PubRec && failed) {
                    self.unanswered = self.unanswered.saturating_sub(1);
                }
                run.pass(size);
            }
            What::Ack {
                kind: PacketType::PubAck,
                id,
                ..
            } if self.adapts_qos2() && self.exactly.acknowledged(*id) => {
                self.settle(PacketType::PubAck);
                run.instead(size, &acknowledgement(PUBREC, *id));
            }
            What::Ack { kind, .. } => {
                self.settle(*kind);
                self.received(*kind, false);
                run.pass(size);
            }
            What::PingResp if self.pings.as_mut().is_some_and(Pings::answered) => run.instead(size, &[]),
            What::SubAck { id, codes } => match self.waiting.answered(*id, codes) {
                Answered::Up(packets) => {
                    run.instead(size, &[]);
                    run.back(&packets);
                }
                Answered::Other => {
                    self.settle(PacketType::SubAck);
                    run.pass(size);
                }
                Answered::Down(suback) => {
                    self.settle(PacketType::SubAck);
                    run.instead(size, &suback);
                }
            },
            What::UnsubAck { .. } => {
                self.settle(PacketType::UnsubAck);
                run.pass(size);
            }
            What::Disconnect { .. } => {
                run.pass(size);
                run.step.end = Some(End::Closed(Side::Upstream));
            }
            _ => run.pass(size),
        }
        run.step.packets += 1;
    }

    /// Upstream has given one of the answers it owed.
    fn settle(&mut self, answer: PacketType) {
        // PUBREL is no answer to something of the device's.
        if answer != PacketType::PubRel {
            self.awaited = self.awaited.saturating_sub(1);
        }
    }

    /// Upstream has, with PUBREC, what the device has yet to release.
    fn received(&mut self, answer: PacketType, failed: bool) {
        if answer == PacketType::PubRec && !failed {
            self.unreleased = self.unreleased.saturating_add(1);
        }
    }

    /// Whether this connection turns QoS 2 into QoS 1. In MQTT 5 Maximum QoS says so beforehand.
    fn adapts_qos2(&self) -> bool {
        !self.deal.is_five() && self.deal.publish_qos() == 1
    }

    fn note(&mut self, note: Option<String>, run: &mut Run<'_>) {
        // Each is said once, and one connection has only so much to say.
        if let Some(note) = note.filter(|n| self.noted.len() < NOTES_MAX && !self.noted.contains(n)) {
            self.noted.push(note.clone());
            run.step.note = Some(note);
        }
    }

    /// MQTT 5: says why to the side that did it, unless it is in the middle of a PUBLISH.
    fn goodbye(&self, end: &End, may_speak: bool, run: &mut Run<'_>) {
        if !self.deal.is_five() || !may_speak {
            return;
        }
        match end {
            End::Policy(offence) => run.back(&disconnect(offence.reason)),
            End::Violation(_, violation) => run.back(&disconnect(violation.reason())),
            _ => {}
        }
    }
}

impl From<Offence> for End {
    fn from(offence: Offence) -> Self {
        Self::Policy(offence)
    }
}

/// Whether a packet begins something that upstream answers. AUTH too: who authenticates anew goes on.
fn begins(what: &What<'_>) -> bool {
    matches!(
        what,
        What::Publish(_) | What::Subscribe(_) | What::Unsubscribe(_) | What::Auth { .. }
    )
}

/// The rest of a PUBLISH, as far as it has come.
fn continued(run: &mut Run<'_>, body: Body) -> Body {
    let length = body.left.min(run.rest().len());
    if body.dropped {
        run.instead(length, &[]);
    } else {
        run.pass(length);
    }
    Body {
        left: body.left - length,
        ..body
    }
}

/// A PUBLISH has ended: what waited for that follows it.
fn finished(run: &mut Run<'_>, owed: &mut Owed) {
    run.step.packets += 1;
    if let Some(bytes) = owed.take() {
        run.instead(0, &bytes);
    }
}

fn body<'b>(look: &Look<'_>, rest: &'b [u8]) -> &'b [u8] {
    rest.get(look.head.body_at..look.head.size).unwrap_or(&[])
}

/// PUBREC or PUBCOMP without a reason.
fn acknowledgement(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

/// DISCONNECT of MQTT 5 with a reason and no properties.
fn disconnect(code: u8) -> [u8; 3] {
    [0xe0, 1, code]
}
