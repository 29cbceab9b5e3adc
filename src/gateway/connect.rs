//! From the device's CONNECT to the one that upstream gets, or a refusal. No I/O.
//!
//! What is kept: client identifier, clean session, will, keep-alive. What is replaced: the login. SORACOM Beam's rules for it:
//! - `username` configured: that template, filled for the subscriber, and no password; X.509 is the proof.
//! - `pass_login = true` (Beam's `useClientCredentials`): the device's own user name and password.
//! - neither: no login at all.
//!
//! A password that was a token is removed in every case: it is a secret between device and gateway.
//!
//! Beam takes a keep-alive of 0 or 5 to 1,200 s and answers CONNACK 5 to any other; it cuts a connection that was silent for one and a
//! half times the keep-alive, or for 30 minutes when it is 0 (SORACOM Beam documentation, "Limitations").

use std::time::Duration;

use bytes::Bytes;

use super::group::{Group, Login, Names};
use super::refusal::Refusal;
use super::subscriber::By;
use crate::identity::Subscriber;
use crate::mqtt::{Connect, ConnectError, Frame, Level, PacketType};

/// Shortest keep-alive other than 0, in seconds (Beam).
pub const KEEP_ALIVE_MIN: u16 = 5;
/// Longest keep-alive, in seconds (Beam).
pub const KEEP_ALIVE_MAX: u16 = 1_200;
/// Longest silence of a device with keep-alive 0 (Beam).
pub const IDLE_MAX: Duration = Duration::from_secs(30 * 60);

/// Most characters of a foreign protocol's name that are repeated in a log line.
const PROTOCOL_SHOWN: usize = 16;

/// What is to be done for a device that may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The CONNECT for upstream.
    pub connect: Connect,
    /// The names it was made from.
    pub names: Names,
    /// After this long without a byte from the device, it is cut.
    pub idle: Duration,
}

/// Reads the first packet of a device.
///
/// # Errors
/// [`Refusal::Version`] or [`Refusal::Malformed`].
pub fn read(frame: &Frame) -> Result<Connect, Refusal> {
    if frame.packet != PacketType::Connect {
        return Err(Refusal::Malformed(format!(
            "the first packet is {:?}, it must be CONNECT [MQTT-3.1.0-1]",
            frame.packet
        )));
    }
    if frame.flags() != 0 {
        return Err(Refusal::Malformed(
            "CONNECT has reserved header flags set [MQTT-2.2.2-1]".into(),
        ));
    }
    let connect = Connect::decode(frame.body()).map_err(|e| match e {
        ConnectError::Protocol { name, level } => {
            // The name is the device's own text, and may be 64 KiB long.
            let name = name.chars().take(PROTOCOL_SHOWN).collect();
            Refusal::Version(ConnectError::Protocol { name, level }.to_string())
        }
        ConnectError::Malformed(_) => Refusal::Malformed(e.to_string()),
    })?;
    // Until the flow speaks version 5.
    if connect.level == Level::V5 {
        return Err(Refusal::Version("MQTT 5 is not relayed yet; use MQTT 3.1.1".into()));
    }
    Ok(connect)
}

/// Rewrites the CONNECT for a known subscriber.
///
/// # Errors
/// [`Refusal::KeepAlive`], or [`Refusal::Credential`] when a template asks for a number this subscriber does not have.
pub fn plan(device: Connect, who: &Subscriber, by: By, group: &Group) -> Result<Plan, Refusal> {
    let idle = idle(device.keep_alive).ok_or(Refusal::KeepAlive(device.keep_alive))?;
    let names = group.names(who).map_err(Refusal::Credential)?;
    let (username, password) = match &group.login {
        Login::Fixed { .. } => (
            names.username.clone(),
            names.password.as_ref().map(|p| Bytes::copy_from_slice(p.as_bytes())),
        ),
        Login::PassThrough => (device.username, device.password.filter(|_| by != By::Token)),
        Login::None => (None, None),
    };
    Ok(Plan {
        connect: Connect {
            username,
            password,
            ..device
        },
        names,
        idle,
    })
}

/// How long a device with this keep-alive may be silent; `None` when Beam would not take it.
#[must_use]
pub fn idle(keep_alive: u16) -> Option<Duration> {
    match keep_alive {
        0 => Some(IDLE_MAX),
        KEEP_ALIVE_MIN..=KEEP_ALIVE_MAX => Some(Duration::from_millis(u64::from(keep_alive) * 1_500)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Will, split_frame};
    use bytes::{Bytes, BytesMut};

    fn group(username: Option<&str>, pass_login: bool) -> Group {
        let mut g = Group::for_tests("localhost", "myClient-#{imsi}");
        g.login = match username {
            Some(t) => Login::Fixed {
                username: t.parse().unwrap(),
                password: None,
            },
            None if pass_login => Login::PassThrough,
            None => Login::None,
        };
        g
    }

    fn who(imei: Option<&str>) -> Subscriber {
        Subscriber {
            imsi: "295012345678901".parse().unwrap(),
            imei: imei.map(|i| i.parse().unwrap()),
            iccid: None,
        }
    }

    fn device() -> Connect {
        let mut c = Connect::new("myClient-295012345678901-123456789011111", false, 60);
        c.username = Some("x".into());
        c.password = Some(Bytes::from_static(b"secret"));
        c.will = Some(Will {
            topic: "t".into(),
            payload: Bytes::from_static(&[0, 255]),
            qos: 1,
            retain: true,
            properties: bytes::Bytes::new(),
        });
        c
    }

    #[test]
    fn the_login_is_replaced_and_the_rest_kept() {
        let p = plan(
            device(),
            &who(None),
            By::Source,
            &group(Some("myClient-#{imsi}"), false),
        )
        .unwrap();
        let mut want = device();
        want.username = Some("myClient-295012345678901".into());
        want.password = None;
        assert_eq!(p.connect, want);
        assert_eq!(p.names.credential.unwrap().as_str(), "myClient-295012345678901");
        assert_eq!(p.idle, Duration::from_secs(90));
    }

    #[test]
    fn a_login_passes_only_when_asked_and_a_token_never() {
        let login = |by, g: &Group| {
            let c = plan(device(), &who(None), by, g).unwrap().connect;
            (c.username, c.password)
        };
        assert_eq!(login(By::Source, &group(None, false)), (None, None));
        assert_eq!(
            login(By::Source, &group(None, true)),
            (Some("x".into()), Some(Bytes::from_static(b"secret")))
        );
        assert_eq!(login(By::Token, &group(None, true)), (Some("x".into()), None));
        assert_eq!(login(By::Token, &group(None, false)), (None, None));
    }

    #[test]
    fn beams_keep_alive_rule() {
        for (seconds, idle_ms) in [
            (0, Some(1_800_000)),
            (4, None),
            (5, Some(7_500)),
            (1_200, Some(1_800_000)),
            (1_201, None),
        ] {
            assert_eq!(idle(seconds).map(|d| d.as_millis()), idle_ms, "{seconds}");
        }
        let mut c = device();
        c.keep_alive = 3;
        let e = plan(c, &who(None), By::Source, &group(None, false)).unwrap_err();
        assert_eq!((e.code(), e.key()), (Some(5), "keep_alive"));
    }

    #[test]
    fn a_missing_number_is_the_operators_fault() {
        let e = plan(device(), &who(None), By::Source, &group(Some("c-#{imei}"), false)).unwrap_err();
        assert_eq!(e.code(), Some(3));
        assert!(e.to_string().contains("#{imei}"), "{e}");
        assert!(
            plan(
                device(),
                &who(Some("123456789011111")),
                By::Source,
                &group(Some("c-#{imei}"), false)
            )
            .is_ok()
        );
    }

    #[test]
    fn only_a_connect_of_3_1_1_opens_the_door() {
        let frame = |bytes: &[u8]| split_frame(&mut BytesMut::from(bytes), 1024).unwrap().unwrap();
        assert_eq!(read(&frame(b"\xc0\x00")).unwrap_err().code(), None);
        assert_eq!(
            read(&frame(b"\x11\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"))
                .unwrap_err()
                .key(),
            "malformed"
        );
        let five = read(&frame(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00")).unwrap_err();
        assert_eq!((five.code(), five.key()), (Some(1), "version"));
        assert_eq!(read(&frame(&device().encode().unwrap())).unwrap(), device());
    }
}
