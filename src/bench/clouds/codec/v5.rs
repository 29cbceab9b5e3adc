//! MQTT 5.

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5;

use super::{
    Hello, Hello5, Malformed, Out, Packet, Properties, Publish, RetainHandling, Wanted, acknowledgement, properties,
};
use crate::mqtt::{Connect, Frame, PacketType, Will};

/// The reserved flag and the flags for will, password and user name in CONNECT (section 3.1.2.3).
const RESERVED: u8 = 0x01;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;
/// Where the flags are in CONNECT's variable header: after the name (6 bytes) and the level.
const FLAGS_AT: usize = 7;
/// Where CONNECT's properties are: after flags and keep-alive.
const PROPERTIES_AT: usize = 10;
/// Receive maximum when nothing is said (section 3.1.2.11.3).
const RECEIVE_MAXIMUM: u16 = u16::MAX;

fn text(bytes: &Bytes) -> Result<String, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::form("a string is not UTF-8"))?;
    if text.contains('\0') {
        return Err(Malformed::form("a string contains U+0000"));
    }
    Ok(text.to_owned())
}

fn packet(frame: Frame) -> Result<v5::Packet, Malformed> {
    v5::Packet::read(&mut BytesMut::from(frame.bytes), None).map_err(Malformed::form)
}

/// What follows a string or binary field at the front.
fn after_field(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    bytes.get(2 + length..)
}

/// Checks what rumqttc does not: flags, both property sections, and that nothing is left over.
fn check_connect(body: &[u8]) -> Result<u8, Malformed> {
    let short = || Malformed::form("it ends too early");
    let flags = *body.get(FLAGS_AT).ok_or_else(short)?;
    if flags & RESERVED != 0 {
        return Err(Malformed::form("the reserved flag is set [MQTT-3.1.2-3]"));
    }
    let rest = properties::check(body.get(PROPERTIES_AT..).ok_or_else(short)?, PacketType::Connect)?;
    let mut rest = after_field(rest).ok_or_else(short)?;
    if flags & 0x04 != 0 {
        rest = properties::check(rest, PacketType::ConnAck)?;
        rest = after_field(rest).and_then(after_field).ok_or_else(short)?;
    }
    for flag in [USER_NAME, PASSWORD] {
        if flags & flag != 0 {
            rest = after_field(rest).ok_or_else(short)?;
        }
    }
    if rest.is_empty() {
        Ok(flags)
    } else {
        Err(Malformed::form("bytes are left over after the last field"))
    }
}

pub(super) fn connect(frame: &Frame) -> Result<Hello, Malformed> {
    let flags = check_connect(frame.body())?;
    let v5::Packet::Connect(c, will, login) = packet(frame.clone())? else {
        return Err(Malformed::form("it is no CONNECT"));
    };
    let p = c.properties.unwrap_or_default();
    if p.receive_maximum == Some(0) || p.max_packet_size == Some(0) {
        return Err(Malformed::protocol(
            "a maximum is 0 [MQTT 5 sections 3.1.2.11.3 and 3.1.2.11.4]",
        ));
    }
    for flag in [p.request_problem_info, p.request_response_info].into_iter().flatten() {
        if flag > 1 {
            return Err(Malformed::protocol(format!("{flag} is neither 0 nor 1")));
        }
    }
    let (username, password) = login.map_or_else(Default::default, |l| (l.username, l.password));
    let mut connect = Connect::new(text(&c.client_id.into())?, c.clean_start, c.keep_alive);
    connect.username = (flags & USER_NAME != 0).then(|| text(&username.into())).transpose()?;
    connect.password = (flags & PASSWORD != 0).then(|| Bytes::from(password));
    let mut five = Hello5 {
        session_expiry: p.session_expiry_interval.unwrap_or(0),
        receive_maximum: p.receive_maximum.unwrap_or(RECEIVE_MAXIMUM),
        packet_maximum: p.max_packet_size,
        user_properties: !p.user_properties.is_empty(),
        authentication: p.authentication_method,
        will_delay: 0,
        will_expiry: None,
        will: Properties::default(),
    };
    if let Some(will) = will {
        connect.will = Some(Will {
            topic: text(&will.topic)?,
            payload: will.message,
            qos: will.qos as u8,
            retain: will.retain,
            properties: bytes::Bytes::new(),
        });
        if let Some(p) = will.properties {
            five.will_delay = p.delay_interval.unwrap_or(0);
            five.will_expiry = p.message_expiry_interval;
            five.will = Properties {
                payload_format: p.payload_format_indicator,
                content_type: p.content_type,
                response_topic: p.response_topic,
                correlation: p.correlation_data,
                user: p.user_properties,
            };
            check_message(
                &five.will,
                &connect.will.as_ref().map(|w| w.payload.clone()).unwrap_or_default(),
            )?;
        }
    }
    Ok(Hello {
        connect,
        five: Some(five),
    })
}

fn check_message(p: &Properties, payload: &[u8]) -> Result<(), Malformed> {
    match p.payload_format {
        None | Some(0) => {}
        Some(1) if std::str::from_utf8(payload).is_ok() => {}
        Some(1) => {
            return Err(Malformed::protocol(
                "the payload is not the UTF-8 text it is said to be",
            ));
        }
        Some(other) => {
            return Err(Malformed::protocol(format!(
                "payload format {other} is neither 0 nor 1"
            )));
        }
    }
    match &p.response_topic {
        Some(topic) if !crate::bench::clouds::topic::is_name(topic) => {
            Err(Malformed::protocol(format!("{topic:?} is no response topic")))
        }
        _ => Ok(()),
    }
}

/// Where the properties begin in the variable header of each kind; `None` when the packet ends before them.
fn properties_of(frame: &Frame) -> Option<&[u8]> {
    let body = frame.body();
    let at = match frame.packet {
        PacketType::Publish => 2 + frame.publish_topic()?.len() + if frame.publish_qos() > 0 { 2 } else { 0 },
        PacketType::Subscribe | PacketType::Unsubscribe => 2,
        // Packet identifier and reason; the properties may be left out (section 3.4.2.2.1).
        PacketType::PubAck if body.len() > 3 => 3,
        PacketType::Disconnect if body.len() > 1 => 1,
        _ => return None,
    };
    body.get(at..)
}

pub(super) fn read(frame: Frame) -> Result<Packet, Malformed> {
    let kind = frame.packet;
    match kind {
        PacketType::Publish | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PubAck => {
            if let Some(section) = properties_of(&frame) {
                let left = properties::check(section, kind)?;
                match kind {
                    PacketType::PubAck if !left.is_empty() => {
                        return Err(Malformed::form("bytes are left over after the properties"));
                    }
                    PacketType::Subscribe => check_options(left)?,
                    _ => {}
                }
            }
        }
        PacketType::Disconnect => return disconnect(frame),
        PacketType::PingReq if !frame.body().is_empty() => return Err(Malformed::form("it has a body")),
        PacketType::PingReq => return Ok(Packet::PingReq),
        other => return Ok(Packet::Other(other)),
    }
    Ok(match packet(frame)? {
        v5::Packet::Publish(p) => Packet::Publish(publish(p)?),
        v5::Packet::PubAck(ack) => Packet::PubAck {
            id: ack.pkid,
            reason: if ack.reason == v5::PubAckReason::Success || ack.reason == v5::PubAckReason::NoMatchingSubscribers
            {
                0
            } else {
                crate::bench::clouds::policy::reason::UNSPECIFIED
            },
            user_properties: ack.properties.is_some_and(|p| !p.user_properties.is_empty()),
        },
        v5::Packet::Subscribe(s) => {
            if s.pkid == 0 {
                return Err(Malformed::protocol("packet identifier 0"));
            }
            let (identifier, user_properties) = s
                .properties
                .map_or((None, false), |p| (p.id, !p.user_properties.is_empty()));
            if identifier == Some(0) {
                return Err(Malformed::protocol("subscription identifier 0"));
            }
            let filters = s.filters.into_iter().map(wanted).collect::<Result<_, _>>()?;
            Packet::Subscribe {
                id: s.pkid,
                filters,
                identifier: identifier.is_some(),
                user_properties,
            }
        }
        v5::Packet::Unsubscribe(u) => {
            if u.filters.is_empty() || u.pkid == 0 {
                return Err(Malformed::protocol("an UNSUBSCRIBE without filter or identifier"));
            }
            if u.filters.iter().any(|f| f.contains('\0')) {
                return Err(Malformed::form("a filter contains U+0000"));
            }
            Packet::Unsubscribe {
                id: u.pkid,
                filters: u.filters,
            }
        }
        _ => Packet::Other(kind),
    })
}

/// The reserved bits of each filter's options, which rumqttc reads over.
fn check_options(filters: &[u8]) -> Result<(), Malformed> {
    let mut rest = filters;
    while !rest.is_empty() {
        let options = after_field(rest).and_then(<[u8]>::split_first);
        let (options, left) = options.ok_or_else(|| Malformed::form("it ends too early"))?;
        if options & 0xc0 != 0 {
            return Err(Malformed::form(format!(
                "reserved bits are set in the options {options:#04x} [MQTT-3.8.3-5]"
            )));
        }
        rest = left;
    }
    Ok(())
}

fn wanted(f: v5::Filter) -> Result<Wanted, Malformed> {
    if f.nolocal && f.path.starts_with("$share/") {
        return Err(Malformed::protocol("no-local on a shared subscription [MQTT-3.8.3-4]"));
    }
    Ok(Wanted {
        filter: f.path,
        qos: f.qos as u8,
        no_local: f.nolocal,
        retain_as_published: f.preserve_retain,
        retained: match f.retain_forward_rule {
            v5::RetainForwardRule::OnEverySubscribe => RetainHandling::Always,
            v5::RetainForwardRule::OnNewSubscribe => RetainHandling::WhenNew,
            v5::RetainForwardRule::Never => RetainHandling::Never,
        },
    })
}

fn publish(p: v5::Publish) -> Result<Publish, Malformed> {
    let topic = text(&p.topic)?;
    let more = p.properties.unwrap_or_default();
    if topic.is_empty() && more.topic_alias.is_none() {
        return Err(Malformed::protocol("a PUBLISH with neither topic nor alias"));
    }
    let properties = Properties {
        payload_format: more.payload_format_indicator,
        content_type: more.content_type,
        response_topic: more.response_topic,
        correlation: more.correlation_data.map(|c| Bytes::copy_from_slice(&c)),
        user: more.user_properties,
    };
    check_message(&properties, &p.payload)?;
    Ok(Publish {
        dup: p.dup,
        qos: p.qos as u8,
        retain: p.retain,
        topic,
        id: p.pkid,
        payload: p.payload,
        alias: more.topic_alias,
        expiry: more.message_expiry_interval,
        properties,
    })
}

fn disconnect(frame: Frame) -> Result<Packet, Malformed> {
    let body = frame.body();
    let reason = body.first().copied().unwrap_or(0);
    if body.len() < 2 {
        return Ok(Packet::Disconnect {
            reason,
            expiry: None,
            user_properties: false,
        });
    }
    let left = properties::check(&body[1..], PacketType::Disconnect)?;
    if !left.is_empty() {
        return Err(Malformed::form("bytes are left over after the properties"));
    }
    let v5::Packet::Disconnect(d) = packet(frame)? else {
        return Err(Malformed::form("it is no DISCONNECT"));
    };
    let p = d.properties;
    Ok(Packet::Disconnect {
        reason,
        expiry: p.as_ref().and_then(|p| p.session_expiry_interval),
        user_properties: p.is_some_and(|p| !p.user_properties.is_empty()),
    })
}

pub(super) fn write(out: &Out, bytes: &mut BytesMut) -> Result<(), Malformed> {
    match out {
        Out::Welcome { present, terms } => {
            let yes = |available: bool| if available { None } else { Some(0) };
            let properties = terms.map(|t| v5::ConnAckProperties {
                session_expiry_interval: t.session_expiry,
                receive_max: Some(t.receive_maximum),
                max_qos: Some(1),
                retain_available: yes(t.retain),
                max_packet_size: Some(t.packet_maximum),
                assigned_client_identifier: None,
                topic_alias_max: (t.topic_alias_maximum > 0).then_some(t.topic_alias_maximum),
                reason_string: None,
                user_properties: Vec::new(),
                wildcard_subscription_available: None,
                subscription_identifiers_available: yes(t.identifiers),
                shared_subscription_available: yes(t.shared),
                server_keep_alive: t.keep_alive,
                response_information: None,
                server_reference: None,
                authentication_method: None,
                authentication_data: None,
            });
            let packet = v5::ConnAck {
                session_present: *present,
                code: v5::ConnectReturnCode::Success,
                properties,
            };
            packet.write(bytes).map_err(Malformed::form)?;
        }
        Out::Refused(reason) => bytes.extend_from_slice(&[0x20, 0x03, 0x00, *reason, 0x00]),
        Out::Publish(p) => {
            let more = v5::PublishProperties {
                payload_format_indicator: p.properties.payload_format,
                message_expiry_interval: p.expiry,
                topic_alias: p.alias,
                response_topic: p.properties.response_topic.clone(),
                correlation_data: p.properties.correlation.clone(),
                user_properties: p.properties.user.clone(),
                subscription_identifiers: Vec::new(),
                content_type: p.properties.content_type.clone(),
            };
            let qos = if p.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            let publish = v5::Publish {
                dup: p.dup,
                qos,
                retain: p.retain,
                topic: Bytes::copy_from_slice(p.topic.as_bytes()),
                pkid: p.id,
                payload: p.payload.clone(),
                properties: (more != v5::PublishProperties::default()).then_some(more),
            };
            publish.write(bytes).map_err(Malformed::form)?;
        }
        Out::PubAck(id, 0) => acknowledgement(bytes, 0x40, *id, &[]),
        Out::PubAck(id, reason) => acknowledgement(bytes, 0x40, *id, &[&[*reason, 0x00]]),
        Out::SubAck(id, codes) => acknowledgement(bytes, 0x90, *id, &[&[0x00], codes]),
        Out::UnsubAck(id, codes) => acknowledgement(bytes, 0xb0, *id, &[&[0x00], codes]),
        Out::Disconnect(reason) => bytes.extend_from_slice(&[0xe0, 0x02, *reason, 0x00]),
        Out::PingResp => {}
    }
    Ok(())
}
