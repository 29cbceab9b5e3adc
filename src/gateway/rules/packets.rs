//! Every packet but PUBLISH, whole (MQTT 3.1.1 and 5, sections 3.4 to 3.15).

use super::{Checker, Direction, Subscribe, What};
use crate::mqtt::properties::{self, Place, Properties, id};
use crate::mqtt::reader::Reader;
use crate::mqtt::rule::{self, Rule, Violation};
use crate::mqtt::{Head, Level, PacketType, reason, text};

/// QoS, No Local, Retain As Published and Retain Handling in the options of a filter (MQTT 5 section 3.8.3.1).
const OPTION_QOS: u8 = 0x03;
const OPTION_NO_LOCAL: u8 = 0x04;
const OPTION_RETAIN_HANDLING: u8 = 0x30;
const OPTION_RESERVED: u8 = 0xc0;

/// The reason codes of PUBACK and PUBREC (MQTT 5 sections 3.4.2.1 and 3.5.2.1).
const RECEIVED: &[u8] = &[
    reason::SUCCESS,
    reason::NO_MATCHING_SUBSCRIBERS,
    reason::UNSPECIFIED,
    reason::IMPLEMENTATION,
    reason::NOT_AUTHORIZED,
    reason::TOPIC_NAME_INVALID,
    reason::PACKET_ID_IN_USE,
    reason::QUOTA_EXCEEDED,
    reason::PAYLOAD_FORMAT_INVALID,
];
/// The reason codes of PUBREL and PUBCOMP (MQTT 5 sections 3.6.2.1 and 3.7.2.1).
const RELEASED: &[u8] = &[reason::SUCCESS, reason::PACKET_ID_NOT_FOUND];
/// The reason codes of DISCONNECT that a client may send (MQTT 5 section 3.14.2.1).
const DISCONNECT: &[u8] = &[
    reason::SUCCESS,
    reason::DISCONNECT_WITH_WILL,
    reason::UNSPECIFIED,
    reason::MALFORMED,
    reason::PROTOCOL_ERROR,
    reason::IMPLEMENTATION,
    reason::TOPIC_NAME_INVALID,
    reason::RECEIVE_MAXIMUM_EXCEEDED,
    reason::TOPIC_ALIAS_INVALID,
    reason::PACKET_TOO_LARGE,
    reason::RATE_TOO_HIGH,
    reason::QUOTA_EXCEEDED,
    reason::ADMINISTRATIVE,
    reason::PAYLOAD_FORMAT_INVALID,
];
/// The reason codes of AUTH that a client may send (MQTT 5 section 3.15.2.1).
const AUTH: &[u8] = &[reason::CONTINUE_AUTHENTICATION, reason::RE_AUTHENTICATE];

impl Checker {
    pub(super) fn whole<'b>(&self, head: Head, packet: &'b [u8]) -> Result<What<'b>, Violation> {
        use PacketType::{Auth, Disconnect, PubAck, PubComp, PubRec, PubRel, SubAck, Subscribe, UnsubAck, Unsubscribe};
        let mut r = Reader(packet.get(head.body_at..).unwrap_or_default());
        match head.packet {
            kind @ (PubAck | PubRec | PubRel | PubComp) => self.acknowledgement(kind, r),
            Subscribe => Ok(What::Subscribe(self.filters(packet.len(), r, true)?)),
            Unsubscribe => Ok(What::Unsubscribe(self.filters(packet.len(), r, false)?)),
            kind @ (SubAck | UnsubAck) => {
                let id = r.two()?;
                if self.level == Level::V5 {
                    section(&mut r)?;
                }
                let codes = r.0;
                Ok(match kind {
                    SubAck => What::SubAck { id, codes },
                    _ => What::UnsubAck { id, codes },
                })
            }
            Disconnect if self.level == Level::V5 => {
                let (reason, properties) = self.coda(r, Place::Disconnect, DISCONNECT, &rule::DISCONNECT_REASON)?;
                if self.is_up() && !self.expires && properties.four(id::SESSION_EXPIRY).is_some_and(|n| n > 0) {
                    return Err((&rule::SESSION_EXPIRY_RAISED).into());
                }
                Ok(What::Disconnect { reason, properties })
            }
            Auth => {
                let (reason, properties) = self.coda(r, Place::Auth, AUTH, &rule::AUTH_REASON)?;
                if self.is_up() && properties.find(id::AUTH_METHOD).is_none() {
                    return Err((&rule::AUTH_METHOD).into());
                }
                Ok(What::Auth { reason, properties })
            }
            kind => {
                // PINGREQ, PINGRESP and 3.1.1's DISCONNECT are nothing but a fixed header.
                if self.is_up() {
                    end(r)?;
                }
                Ok(match kind {
                    PacketType::PingReq => What::PingReq,
                    PacketType::PingResp => What::PingResp,
                    _ => What::Disconnect {
                        reason: None,
                        properties: Properties::default(),
                    },
                })
            }
        }
    }

    fn is_up(&self) -> bool {
        self.direction == Direction::Up
    }

    fn acknowledgement<'b>(&self, kind: PacketType, mut r: Reader<'b>) -> Result<What<'b>, Violation> {
        let id = r.two()?;
        if self.is_up() && id == 0 {
            return Err((&rule::ACK_ID).into());
        }
        let (codes, rule) = match kind {
            PacketType::PubAck => (RECEIVED, &rule::PUBACK_REASON),
            PacketType::PubRec => (RECEIVED, &rule::PUBREC_REASON),
            PacketType::PubRel => (RELEASED, &rule::PUBREL_REASON),
            _ => (RELEASED, &rule::PUBCOMP_REASON),
        };
        let reason = match self.level {
            Level::V3 if self.is_up() => end(r).map(|()| None)?,
            Level::V3 => None,
            Level::V5 => self.coda(r, Place::Ack, codes, rule)?.0,
        };
        Ok(What::Ack { kind, id, reason })
    }

    /// A reason code and properties at the end of a packet of version 5; either may be left out, from the end.
    fn coda<'b>(
        &self,
        mut r: Reader<'b>,
        place: Place,
        codes: &[u8],
        rule: &'static Rule,
    ) -> Result<(Option<u8>, Properties<'b>), Violation> {
        let reason = if r.is_empty() { None } else { Some(r.byte()?) };
        let code = reason.unwrap_or(reason::SUCCESS);
        if self.is_up() && !codes.contains(&code) {
            return Err(rule.found(code));
        }
        if r.is_empty() {
            return Ok((reason, Properties::default()));
        }
        let found = section(&mut r)?;
        if !self.is_up() {
            return Ok((reason, Properties::checked(found)));
        }
        let properties = properties::check(found, place)?;
        end(r)?;
        Ok((reason, properties))
    }

    fn filters<'b>(&self, size: usize, mut r: Reader<'b>, with_options: bool) -> Result<Subscribe<'b>, Violation> {
        let id = r.two()?;
        if id == 0 {
            return Err((&rule::PACKET_ID).into());
        }
        let (place, none) = if with_options {
            (Place::Subscribe, &rule::SUBSCRIBE_EMPTY)
        } else {
            (Place::Unsubscribe, &rule::UNSUBSCRIBE_EMPTY)
        };
        let (mut properties, mut properties_at) = (Properties::default(), size - r.0.len()..size - r.0.len());
        if self.level == Level::V5 {
            let found = section(&mut r)?;
            let end = size - r.0.len();
            properties_at = end - found.len()..end;
            properties = properties::check(found, place)?;
        }
        if r.is_empty() {
            return Err(none.into());
        }
        let filters_at = size - r.0.len();
        let filters = Filters { rest: r, with_options };
        while !r.is_empty() {
            let filter = text::topic_filter(r.field()?, self.level)?;
            if with_options {
                self.check_options(filter, r.byte()?)?;
            }
        }
        Ok(Subscribe {
            id,
            properties,
            properties_at,
            filters,
            filters_at,
        })
    }

    fn check_options(&self, filter: &str, options: u8) -> Result<(), Violation> {
        let reserved = match self.level {
            Level::V3 => !OPTION_QOS,
            Level::V5 => OPTION_RESERVED,
        };
        if options & reserved != 0 {
            return Err(rule::SUBSCRIBE_OPTIONS.found(options));
        }
        if options & OPTION_QOS == OPTION_QOS {
            return Err(rule::SUBSCRIBE_QOS.found(3_u8));
        }
        if options & OPTION_RETAIN_HANDLING == OPTION_RETAIN_HANDLING {
            return Err(rule::RETAIN_HANDLING.found(3_u8));
        }
        if options & OPTION_NO_LOCAL != 0 && filter.starts_with(text::SHARE) {
            return Err((&rule::NO_LOCAL_SHARED).into());
        }
        Ok(())
    }
}

/// Nothing may be left.
fn end(r: Reader<'_>) -> Result<(), Violation> {
    if r.is_empty() {
        return Ok(());
    }
    Err(rule::LEFT_OVER.found(u32::try_from(r.0.len()).unwrap_or(u32::MAX)))
}

/// A section of properties with its length in front.
fn section<'b>(r: &mut Reader<'b>) -> Result<&'b [u8], Violation> {
    let length = r.variable()?;
    r.bytes(length as usize).map_err(|_| (&rule::PROPERTY_LENGTH).into())
}

/// The topic filters of a SUBSCRIBE or UNSUBSCRIBE that was checked, each with its options (0 in UNSUBSCRIBE).
#[derive(Debug, Clone, Copy)]
pub struct Filters<'b> {
    rest: Reader<'b>,
    with_options: bool,
}

impl<'b> Iterator for Filters<'b> {
    type Item = (&'b str, u8);

    fn next(&mut self) -> Option<Self::Item> {
        let filter = self.rest.text().ok()?;
        let options = if self.with_options { self.rest.byte().ok()? } else { 0 };
        Some((filter, options))
    }
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.rest.0, self.with_options) == (other.rest.0, other.with_options)
    }
}

impl Eq for Filters<'_> {}
