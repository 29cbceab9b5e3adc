//! The CONNECT packet (MQTT 3.1.1 section 3.1), read and written without losing anything: passwords and wills stay bytes.

use bytes::Bytes;

use super::frame::put_length;

/// Protocol level of MQTT 3.1.1.
pub const LEVEL_3_1_1: u8 = 4;
/// Longest string or binary field, in bytes (its length has two bytes).
const FIELD_MAX: usize = 65_535;

/// A will message.
#[derive(Clone, PartialEq, Eq)]
pub struct Will {
    /// Where it is published.
    pub topic: String,
    /// What is published.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether the broker keeps it.
    pub retain: bool,
}

impl std::fmt::Debug for Will {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Will({:?}, {} bytes, QoS {})",
            self.topic,
            self.payload.len(),
            self.qos
        )
    }
}

/// A CONNECT of MQTT 3.1.1.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The client identifier; may be empty with `clean_session`.
    pub client_id: String,
    /// Whether the broker forgets the session.
    pub clean_session: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The will, if any.
    pub will: Option<Will>,
    /// The user name, if any.
    pub username: Option<String>,
    /// The password, if any; never printed.
    pub password: Option<Bytes>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("client_id", &crate::identity::redact_digits(&self.client_id))
            .field("clean_session", &self.clean_session)
            .field("keep_alive", &self.keep_alive)
            .field("will", &self.will)
            .field(
                "username",
                &self.username.as_deref().map(crate::identity::redact_digits),
            )
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish()
    }
}

/// Why a CONNECT cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Another protocol version: the answer is CONNACK 1.
    #[error("protocol {name:?} level {level} is not MQTT 3.1.1; use -V mqttv311 or protocol version 4")]
    Protocol {
        /// The protocol name sent.
        name: String,
        /// The protocol level sent.
        level: u8,
    },
    /// A rule of the specification is broken: the connection is closed without an answer.
    #[error("malformed CONNECT: {0}")]
    Malformed(&'static str),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Result<u8, ConnectError> {
        let (&first, rest) = self
            .0
            .split_first()
            .ok_or(ConnectError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(first)
    }

    fn field(&mut self) -> Result<&'a [u8], ConnectError> {
        let length = usize::from(self.u8()?) << 8 | usize::from(self.u8()?);
        if self.0.len() < length {
            return Err(ConnectError::Malformed("a field is longer than the packet"));
        }
        let (field, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(field)
    }

    fn text(&mut self) -> Result<String, ConnectError> {
        let text = std::str::from_utf8(self.field()?)
            .map_err(|_| ConnectError::Malformed("a string is not UTF-8 [MQTT-1.5.3-1]"))?;
        if text.contains('\0') {
            return Err(ConnectError::Malformed("a string contains U+0000 [MQTT-1.5.3-2]"));
        }
        Ok(text.to_owned())
    }
}

impl Connect {
    /// A CONNECT without will and login.
    #[must_use]
    pub fn new(client_id: impl Into<String>, clean_session: bool, keep_alive: u16) -> Self {
        Self {
            client_id: client_id.into(),
            clean_session,
            keep_alive,
            will: None,
            username: None,
            password: None,
        }
    }

    /// Reads the variable header and payload of a CONNECT.
    ///
    /// # Errors
    /// [`ConnectError::Protocol`] for another version, [`ConnectError::Malformed`] for a broken rule.
    pub fn decode(body: &[u8]) -> Result<Self, ConnectError> {
        let mut r = Reader(body);
        let name = r.text()?;
        let level = r.u8()?;
        if name != "MQTT" || level != LEVEL_3_1_1 {
            return Err(ConnectError::Protocol { name, level });
        }
        let flags = r.u8()?;
        if flags & 0x01 != 0 {
            return Err(ConnectError::Malformed("the reserved flag is set [MQTT-3.1.2-3]"));
        }
        let keep_alive = u16::from(r.u8()?) << 8 | u16::from(r.u8()?);
        let clean_session = flags & 0x02 != 0;
        let client_id = r.text()?;
        let will_qos = (flags >> 3) & 0x03;
        let will = if flags & 0x04 != 0 {
            if will_qos == 3 {
                return Err(ConnectError::Malformed("the will has QoS 3 [MQTT-3.1.2-14]"));
            }
            Some(Will {
                topic: r.text()?,
                payload: Bytes::copy_from_slice(r.field()?),
                qos: will_qos,
                retain: flags & 0x20 != 0,
            })
        } else if will_qos != 0 || flags & 0x20 != 0 {
            return Err(ConnectError::Malformed(
                "will flags without a will [MQTT-3.1.2-13, -15]",
            ));
        } else {
            None
        };
        let username = if flags & 0x80 != 0 { Some(r.text()?) } else { None };
        let password = if flags & 0x40 != 0 {
            if username.is_none() {
                return Err(ConnectError::Malformed(
                    "a password without a user name [MQTT-3.1.2-22]",
                ));
            }
            Some(Bytes::copy_from_slice(r.field()?))
        } else {
            None
        };
        if !r.0.is_empty() {
            return Err(ConnectError::Malformed("bytes are left over after the last field"));
        }
        Ok(Self {
            client_id,
            clean_session,
            keep_alive,
            will,
            username,
            password,
        })
    }

    /// The whole packet, fixed header included.
    ///
    /// # Errors
    /// [`ConnectError::Malformed`] when a field is over 65,535 bytes.
    pub fn encode(&self) -> Result<Vec<u8>, ConnectError> {
        let mut flags = if self.clean_session { 0x02 } else { 0 };
        let mut payload = Vec::with_capacity(128);
        put_field(&mut payload, self.client_id.as_bytes())?;
        if let Some(will) = &self.will {
            flags |= 0x04 | (will.qos & 0x03) << 3 | if will.retain { 0x20 } else { 0 };
            put_field(&mut payload, will.topic.as_bytes())?;
            put_field(&mut payload, &will.payload)?;
        }
        if let Some(username) = &self.username {
            flags |= 0x80;
            put_field(&mut payload, username.as_bytes())?;
        }
        if let Some(password) = &self.password {
            flags |= 0x40;
            put_field(&mut payload, password)?;
        }
        let mut out = vec![0x10];
        put_length(&mut out, 10 + payload.len());
        out.extend_from_slice(b"\x00\x04MQTT");
        out.extend_from_slice(&[LEVEL_3_1_1, flags]);
        out.extend_from_slice(&self.keep_alive.to_be_bytes());
        out.extend_from_slice(&payload);
        Ok(out)
    }
}

fn put_field(out: &mut Vec<u8>, field: &[u8]) -> Result<(), ConnectError> {
    let length = u16::try_from(field.len()).map_err(|_| ConnectError::Malformed("a field is over 65,535 bytes"))?;
    debug_assert!(field.len() <= FIELD_MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn body(packet: &[u8]) -> Bytes {
        let f = crate::mqtt::split_frame(&mut BytesMut::from(packet), 1 << 20)
            .unwrap()
            .unwrap();
        f.bytes.slice(f.body_at..)
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut c = Connect::new("id", true, 60);
        c.username = Some("u".into());
        c.password = Some(Bytes::from_static(&[0xff, 0x00]));
        let bytes = c.encode().unwrap();
        assert_eq!(
            bytes,
            b"\x10\x15\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x01u\x00\x02\xff\x00"
        );
        assert_eq!(Connect::decode(&body(&bytes)).unwrap(), c);
        assert!(!format!("{c:?}").contains("255"));
    }

    #[test]
    fn other_versions_and_broken_rules_are_told_apart() {
        assert!(matches!(
            Connect::decode(b"\x00\x04MQTT\x05\x02\x00\x3c"),
            Err(ConnectError::Protocol { level: 5, .. })
        ));
        assert!(matches!(
            Connect::decode(b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a"),
            Err(ConnectError::Protocol { level: 3, .. })
        ));
        for (bytes, why) in [
            (&b"\x00\x04MQTT\x04\x03\x00\x3c\x00\x01a"[..], "reserved"),
            (b"\x00\x04MQTT\x04\x42\x00\x3c\x00\x01a\x00\x01p", "without a user name"),
            (b"\x00\x04MQTT\x04\x0a\x00\x3c\x00\x01a", "without a will"),
            (b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x09a", "longer"),
            (b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01az", "left over"),
            (b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\x00", "U+0000"),
        ] {
            let e = Connect::decode(bytes).unwrap_err().to_string();
            assert!(e.contains(why), "{e} should say {why}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            client_id in "[a-zA-Z0-9-]{0,40}", clean: bool, keep_alive: u16,
            login in proptest::option::of(("[^\0]{0,20}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)))),
            will in proptest::option::of(("[a-z/]{1,20}", proptest::collection::vec(any::<u8>(), 0..20), 0u8..3, any::<bool>())),
        ) {
            let mut c = Connect::new(client_id, clean, keep_alive);
            if let Some((u, p)) = login { c.username = Some(u); c.password = p.map(Bytes::from); }
            c.will = will.map(|(topic, payload, qos, retain)| Will { topic, payload: payload.into(), qos, retain });
            prop_assert_eq!(Connect::decode(&body(&c.encode().unwrap())).unwrap(), c);
        }

        #[test]
        fn any_body_is_survived(bytes: Vec<u8>) { let _ = Connect::decode(&bytes); }

        /// rumqttc's decoder is the oracle for what it can represent.
        #[test]
        fn rumqttc_reads_what_we_write(client_id in "[a-zA-Z0-9-]{1,40}", keep_alive: u16, user in proptest::option::of("[a-z]{1,9}")) {
            let mut c = Connect::new(client_id, true, keep_alive);
            c.username = user;
            let mut bytes = BytesMut::from(&c.encode().unwrap()[..]);
            let rumqttc::mqttbytes::v4::Packet::Connect(theirs) = rumqttc::mqttbytes::v4::Packet::read(&mut bytes, 1 << 20).unwrap() else { panic!("not a CONNECT") };
            prop_assert_eq!(&theirs.client_id, &c.client_id);
            prop_assert_eq!(theirs.keep_alive, c.keep_alive);
            prop_assert_eq!(theirs.login.map(|l| l.username), c.username);
        }
    }
}
