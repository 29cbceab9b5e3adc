//! What every packet passes through: one look at the packet at the front of a buffer, by the rules of MQTT 3.1.1 or 5. No I/O.
//!
//! A [`Checker`] is one direction of one connection. Bytes go in where they lie, a [`Look`] comes out that points into them; nothing is
//! copied and, for a good packet, nothing allocated (a device that uses topic aliases above 64 makes its checker remember them once).
//!
//! From a device every MUST about a packet's form is checked, because a cloud answers a broken packet by closing without a word; a
//! [`Violation`] names the rule. From upstream only what would confuse the relay is checked: where packets end, which kinds they are, and
//! the heads that are looked into.
//!
//! A packet is refused as early as possible, by its first byte if that is enough, and always for the same reason however it is cut: the
//! rules are asked in the order of the bytes. A PUBLISH is shown when its head is there, because its payload need not be kept: the caller
//! passes the payload on as it comes and asks again only after it. Every other packet is shown when it is whole, so a buffer holds at most
//! the limit, and a packet that announces more is refused by its length.
//!
//! What a checker remembers: the topic aliases that were set. What it does not know is left to the flow: which packet identifiers are in
//! use, how many messages are unacknowledged ([`rule::RECEIVE_MAXIMUM`]), what upstream grants ([`rule::GRANTED_QOS`],
//! [`rule::GRANTED_RETAIN`]), and whether a payload is the UTF-8 it may be said to be (a receiver may look, MQTT 5 section 3.3.2.3.2).

mod aliases;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod packets;
mod publish;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use crate::mqtt::Violation;
pub use packets::Filters;

use crate::mqtt::properties::id;
use crate::mqtt::rule::{self, Rule};
use crate::mqtt::{ConnAck, Connect, Head, Level, PacketType, Properties, peek_frame};
use aliases::Aliases;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the device to upstream.
    Up,
    /// From upstream to the device.
    Down,
}

/// One direction of a connection, after CONNECT and CONNACK.
#[derive(Debug, Clone)]
pub struct Checker {
    level: Level,
    direction: Direction,
    /// CONNECT had an Authentication Method.
    authentication: bool,
    /// CONNECT had a Session Expiry Interval other than 0.
    expires: bool,
    limit: usize,
    aliases: Aliases,
}

/// A packet at the front of a buffer. All positions count from the packet's first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look<'b> {
    /// Its kind, where its fixed header ends, and its whole size.
    pub head: Head,
    /// What it is.
    pub what: What<'b>,
}

/// What a packet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What<'b> {
    /// A message; its payload may be on its way still.
    Publish(Publish<'b>),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack {
        /// Which of them.
        kind: PacketType,
        /// Packet identifier.
        id: u16,
        /// Version 5's reason code, when it is there; without one it is 0.
        reason: Option<u8>,
    },
    /// SUBSCRIBE.
    Subscribe(Subscribe<'b>),
    /// UNSUBSCRIBE; the filters have no options.
    Unsubscribe(Subscribe<'b>),
    /// SUBACK.
    SubAck {
        /// Packet identifier.
        id: u16,
        /// One for each filter.
        codes: &'b [u8],
    },
    /// UNSUBACK.
    UnsubAck {
        /// Packet identifier.
        id: u16,
        /// One for each filter; none in 3.1.1.
        codes: &'b [u8],
    },
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT. What follows is not MQTT any more.
    Disconnect {
        /// Version 5's reason code, when it is there; without one it is 0.
        reason: Option<u8>,
        /// Version 5's properties.
        properties: Properties<'b>,
    },
    /// AUTH, of version 5.
    Auth {
        /// The reason code, when it is there; without one it is 0.
        reason: Option<u8>,
        /// Its properties.
        properties: Properties<'b>,
    },
}

/// The head of a PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish<'b> {
    /// Sent before.
    pub dup: bool,
    /// 0, 1 or 2.
    pub qos: u8,
    /// To be kept, or was kept.
    pub retain: bool,
    /// Where; empty when [`Publish::alias`] stands for it.
    pub topic: &'b str,
    /// Where the topic is (two bytes of length are before it).
    pub topic_at: Range<usize>,
    /// Packet identifier, above QoS 0.
    pub id: Option<u16>,
    /// Where the packet identifier is, or would be.
    pub id_at: usize,
    /// Version 5's properties.
    pub properties: Properties<'b>,
    /// Where the properties are, without their length; empty for 3.1.1.
    pub properties_at: Range<usize>,
    /// Version 5's topic alias.
    pub alias: Option<u16>,
    /// Where the payload begins. The payload ends at [`Head::size`].
    pub head_size: usize,
}

/// A SUBSCRIBE or UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe<'b> {
    /// Packet identifier.
    pub id: u16,
    /// Version 5's properties.
    pub properties: Properties<'b>,
    /// Where the properties are, without their length; empty for 3.1.1.
    pub properties_at: Range<usize>,
    /// The topic filters, in their order.
    pub filters: Filters<'b>,
    /// Where the first filter's length begins. The last ends at [`Head::size`].
    pub filters_at: usize,
}

/// How far a look got.
enum Progress<T> {
    /// The buffer must hold so many bytes, which is more than it does.
    Needs(usize),
    Done(T),
}

impl Checker {
    /// For 3.1.1, and for a connection of version 5 whose CONNECT and CONNACK had no properties. `limit` bounds a packet, in bytes.
    #[must_use]
    pub fn new(level: Level, direction: Direction, limit: usize) -> Self {
        Self {
            level,
            direction,
            authentication: false,
            expires: false,
            limit,
            aliases: Aliases::new(0),
        }
    }

    /// For what comes from the device: what its CONNECT and the CONNACK that it got settle is taken from them.
    #[must_use]
    pub fn up(connect: &Connect, connack: &ConnAck, limit: usize) -> Self {
        let (asked, granted) = (connect.properties(), connack.properties());
        let most = granted
            .four(id::MAXIMUM_PACKET)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(usize::MAX);
        Self::new(connect.level, Direction::Up, limit.min(most))
            .with_topic_aliases(granted.two(id::TOPIC_ALIAS_MAXIMUM).unwrap_or(0))
            .with_authentication(asked.find(id::AUTH_METHOD).is_some())
            .with_session_expiry(asked.four(id::SESSION_EXPIRY).unwrap_or(0) > 0)
    }

    /// Up to which topic alias the server takes.
    #[must_use]
    pub fn with_topic_aliases(mut self, most: u16) -> Self {
        self.aliases = Aliases::new(most);
        self
    }

    /// Whether CONNECT had an Authentication Method, so that there may be AUTH.
    #[must_use]
    pub fn with_authentication(mut self, had: bool) -> Self {
        self.authentication = had;
        self
    }

    /// Whether CONNECT had a Session Expiry Interval other than 0, so that DISCONNECT may have one.
    #[must_use]
    pub fn with_session_expiry(mut self, had: bool) -> Self {
        self.expires = had;
        self
    }

    /// Which version it goes by.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Looks at the one packet at the front. `None`: more bytes must come first, see [`Checker::wanted`]. A PUBLISH is shown as soon
    /// as its head is there; the caller then passes [`Head::size`] bytes on before it asks again. Every other packet is shown whole.
    ///
    /// To look at the same packet twice does no harm, but that of setting its topic alias once more.
    ///
    /// # Errors
    /// The rule that the packet breaks. The stream cannot be followed any further.
    pub fn look<'b>(&mut self, front: &'b [u8]) -> Result<Option<Look<'b>>, Violation> {
        let Progress::Done(look) = self.see(front)? else {
            return Ok(None);
        };
        if let (Direction::Up, What::Publish(publish)) = (self.direction, &look.what) {
            self.aliases
                .note(publish.alias, publish.topic.is_empty())
                .map_err(|v| v.in_packet(self.level, PacketType::Publish))?;
        }
        Ok(Some(look))
    }

    /// How many bytes the buffer must hold before [`Checker::look`] can say more: always more than it holds, and at most the packet. 0
    /// when there is something to be said now.
    #[must_use]
    pub fn wanted(&self, front: &[u8]) -> usize {
        match self.see(front) {
            Ok(Progress::Needs(wanted)) => wanted,
            _ => 0,
        }
    }

    fn see<'b>(&self, front: &'b [u8]) -> Result<Progress<Look<'b>>, Violation> {
        let Some(&first) = front.first() else {
            return Ok(Progress::Needs(2));
        };
        // The first byte alone: no body need come for a packet that may not.
        let packet = match PacketType::of(first) {
            Some(PacketType::Auth) if self.level == Level::V3 => {
                return Err(self.stream(rule::PACKET_TYPE.found(15_u8)));
            }
            Some(packet) => packet,
            None => return Err(self.stream(rule::PACKET_TYPE.found(first >> 4))),
        };
        let named = |v: Violation| v.in_packet(self.level, packet);
        self.may_pass(packet).map_err(|rule| named(rule.into()))?;
        self.check_flags(packet, first & 0x0f).map_err(named)?;
        let Some(head) = peek_frame(front, self.limit).map_err(|e| named(e.into()))? else {
            return Ok(Progress::Needs(front.len() + 1));
        };
        // 3.1.1 does not ask for the shortest form.
        let last = front.get(head.body_at - 1);
        if self.level == Level::V5 && self.direction == Direction::Up && head.body_at > 2 && last == Some(&0) {
            return Err(named((&rule::LENGTH_FORM).into()));
        }
        let what = if packet == PacketType::Publish {
            match publish::see(front, head, self.level, self.direction).map_err(named)? {
                Progress::Needs(wanted) => return Ok(Progress::Needs(wanted)),
                Progress::Done(publish) => What::Publish(publish),
            }
        } else {
            let Some(whole) = front.get(..head.size) else {
                return Ok(Progress::Needs(head.size));
            };
            self.whole(head, whole).map_err(named)?
        };
        Ok(Progress::Done(Look { head, what }))
    }

    /// A violation before the kind of packet is known.
    fn stream(&self, v: Violation) -> Violation {
        Violation { level: self.level, ..v }
    }

    fn may_pass(&self, packet: PacketType) -> Result<(), &'static Rule> {
        use PacketType::{
            Auth, ConnAck, Connect, Disconnect, PingReq, PingResp, PubAck, PubComp, PubRec, PubRel, Publish, SubAck,
            Subscribe, UnsubAck, Unsubscribe,
        };
        match (self.direction, packet) {
            (_, Publish | PubAck | PubRec | PubRel | PubComp)
            | (Direction::Up, Subscribe | Unsubscribe | PingReq | Disconnect)
            | (Direction::Down, SubAck | UnsubAck | PingResp) => Ok(()),
            (Direction::Down, Disconnect) if self.level == Level::V5 => Ok(()),
            (_, Auth) if self.authentication || self.direction == Direction::Down => Ok(()),
            (_, Auth) => Err(&rule::AUTH_UNASKED),
            (Direction::Up, Connect) => Err(&rule::CONNECT_AGAIN),
            (Direction::Down, ConnAck) => Err(&rule::CONNACK_AGAIN),
            (Direction::Up, ConnAck | SubAck | UnsubAck | PingResp)
            | (Direction::Down, Connect | Subscribe | Unsubscribe | PingReq | Disconnect) => Err(&rule::SENDER),
        }
    }

    fn check_flags(&self, packet: PacketType, flags: u8) -> Result<(), Violation> {
        let (rule, want) = match packet {
            PacketType::Publish if flags & 0x06 == 0x06 => return Err(rule::QOS.found(3_u8)),
            PacketType::Publish if flags & 0x0e == 0x08 && self.direction == Direction::Up => {
                return Err((&rule::DUP).into());
            }
            PacketType::Publish => return Ok(()),
            PacketType::PubRel => (&rule::PUBREL_FLAGS, 0x02),
            PacketType::Subscribe => (&rule::SUBSCRIBE_FLAGS, 0x02),
            PacketType::Unsubscribe => (&rule::UNSUBSCRIBE_FLAGS, 0x02),
            _ => (&rule::FLAGS, 0),
        };
        if self.direction == Direction::Up && flags != want {
            return Err(rule.found(flags));
        }
        Ok(())
    }
}
