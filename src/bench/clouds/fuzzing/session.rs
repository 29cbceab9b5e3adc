//! Devices at a stand-in, from CONNECT to the end: the connection's own code over a pipe, with the broker, the policy and the backend of
//! one cloud behind it.

use std::future::Future;
use std::pin::pin;

use futures_util::future::{Either, select};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::broadcast::error::TryRecvError;

use super::stands::{DEVICES, Ground};
use crate::bench::clouds::aws_iot::document::Document;
use crate::bench::clouds::codec::Version;
use crate::bench::clouds::connection;
use crate::bench::clouds::iot_hub::{Hub, MethodCall, ToDevice};
use crate::bench::clouds::journal::What;
use crate::bench::clouds::stand_in::Cloud;
use crate::mqtt::frame::put_length;
use crate::mqtt::{Connect, PacketType, split_frame};

/// Lines of an input that are looked at.
const LINES_MAX: usize = 64;
/// More than a stand-in ever sends in answer to one input, in bytes.
const ANSWER_MAX: usize = 32 << 20;
/// What the pipe holds, in bytes.
const PIPE: usize = 64 * 1024;
/// Turns that the stand-in gets before its owner interferes.
const TURNS: usize = 8;

/// What a line does.
enum Step<'a> {
    /// Bytes from the device.
    Bytes(Vec<u8>),
    /// The owner does something.
    Owner(u8, &'a str),
}

/// The first byte chooses the cloud (`e`, `h`, `a`, `d`, `b`); then lines:
///
/// | line | what |
/// |---|---|
/// | `C` version device clean | a new connection: `4` or `5`, `0` or `1`, `c` or anything else; without one, what follows is at version 4 |
/// | `X` bytes | a new connection that says this, and then what follows |
/// | `p` flags topic TAB payload | PUBLISH; the flags are the low four bits of the character |
/// | `P` flags topic TAB properties TAB payload | the same with properties (version 5) |
/// | `s` options filter TAB filter … | SUBSCRIBE |
/// | `u` filter TAB filter … | UNSUBSCRIBE |
/// | `k` number | PUBACK |
/// | `g`, `q` | PINGREQ, DISCONNECT |
/// | `x` bytes | anything |
/// | `t` JSON, `m` name TAB JSON, `c` text | the hub's owner: desired properties, a method, a message |
/// | `o` JSON | AWS: another policy document |
///
/// # Panics
/// Something is wrong with the code under test.
pub fn session(data: &[u8]) {
    let [cloud, rest @ ..] = data else { return };
    let ground = Ground::here();
    let (mut hub, mut aws) = (None, None);
    let endpoint = match cloud {
        b'e' => ground.event_grid(),
        b'h' => {
            let (endpoint, own) = ground.hub();
            hub = Some(own);
            endpoint
        }
        b'a' => {
            let (endpoint, own) = ground.aws();
            aws = Some(own);
            endpoint
        }
        b'd' => ground.dps().0,
        _ => ground.beam(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut lines = rest
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .take(LINES_MAX)
        .peekable();
    while lines.peek().is_some() {
        let mut version = Version::V4;
        let mut device = 0;
        let mut steps = Vec::new();
        match lines.peek() {
            Some([b'C', how @ ..]) => {
                if how.first() == Some(&b'5') && endpoint.policy.five().is_some() {
                    version = Version::V5;
                }
                device = usize::from(how.get(1) == Some(&b'1'));
                steps.push(Step::Bytes(hello(
                    &ground,
                    endpoint.cloud,
                    version,
                    device,
                    how.get(2) == Some(&b'c'),
                )));
                lines.next();
            }
            Some([b'X', bytes @ ..]) => {
                steps.push(Step::Bytes(bytes.to_vec()));
                lines.next();
            }
            _ => steps.push(Step::Bytes(hello(&ground, endpoint.cloud, version, device, true))),
        }
        let mut id = 0;
        while let Some(line) = lines.next_if(|l| !matches!(l.first(), Some(b'C' | b'X'))) {
            id += 1;
            steps.extend(step(version, id, line));
        }
        let owner = |what: u8, text: &str| match (what, &hub, &aws) {
            (b'o', _, Some(aws)) => {
                if let Ok(document) = Document::parse(text) {
                    aws.registry(|r| {
                        let names: Vec<_> = r.policy_names().map(str::to_owned).collect();
                        for name in names {
                            let _ = r.put_policy(&name, text.to_owned(), document.clone());
                        }
                    });
                }
            }
            (_, Some(hub), _) => hub_owner(hub, what, DEVICES[device], text),
            _ => {}
        };
        let mut events = ground.journal.subscribe();
        let peer = ground.peer(device);
        runtime.block_on(async {
            let (mine, theirs) = duplex(PIPE);
            let served = connection::talk(&endpoint, Box::new(theirs), &peer);
            let answer = both(served, play(mine, &steps, owner)).await;
            well_formed(&answer);
        });
        // What ended the connection is written down.
        let mut ended = false;
        loop {
            match events.try_recv() {
                Ok(event) => ended |= matches!(event.what, What::Refused { .. } | What::Disconnected { .. }),
                Err(TryRecvError::Lagged(_)) => ended = true,
                Err(_) => break,
            }
        }
        assert!(ended, "the journal does not say how the connection ended");
    }
}

/// Serves until the device has its answer; a will that waits for its time is not waited for.
async fn both<T>(serving: impl Future<Output = ()>, device: impl Future<Output = T>) -> T {
    match select(pin!(serving), pin!(device)).await {
        Either::Left(((), device)) => device.await,
        Either::Right((answer, _)) => answer,
    }
}

async fn play(stream: DuplexStream, steps: &[Step<'_>], owner: impl Fn(u8, &str)) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let say = async {
        for step in steps {
            match step {
                Step::Bytes(bytes) => {
                    if write.write_all(bytes).await.is_err() {
                        break;
                    }
                }
                Step::Owner(what, text) => {
                    for _ in 0..TURNS {
                        tokio::task::yield_now().await;
                    }
                    owner(*what, text);
                }
            }
        }
        let _ = write.shutdown().await;
    };
    let hear = async {
        let mut answer = Vec::new();
        let _ = (&mut read).take(ANSWER_MAX as u64).read_to_end(&mut answer).await;
        answer
    };
    tokio::join!(say, hear).1
}

fn well_formed(answer: &[u8]) {
    assert!(answer.len() < ANSWER_MAX, "{} bytes", answer.len());
    let mut buffer = bytes::BytesMut::from(answer);
    while let Some(frame) = split_frame(&mut buffer, usize::MAX).expect("packets") {
        let servers = [
            PacketType::ConnAck,
            PacketType::Publish,
            PacketType::PubAck,
            PacketType::SubAck,
            PacketType::UnsubAck,
            PacketType::PingResp,
            PacketType::Disconnect,
        ];
        assert!(servers.contains(&frame.packet), "a stand-in sends {:?}", frame.packet);
        if frame.packet == PacketType::Publish {
            let topic = frame.publish_topic().expect("a topic");
            let topic = std::str::from_utf8(topic).expect("a topic is text");
            assert!(crate::bench::clouds::topic::is_name(topic), "{topic:?} is no topic");
            assert_eq!(frame.publish_qos() > 0, frame.packet_id().is_some_and(|id| id > 0));
        }
    }
    assert!(buffer.is_empty(), "half a packet was sent: {buffer:?}");
}

fn hub_owner(hub: &std::sync::Arc<Hub>, what: u8, device: &'static str, text: &str) {
    match what {
        b't' => {
            if let Ok(patch) = serde_json::from_str::<Value>(text) {
                let _ = hub.update_twin(device, &patch);
            }
        }
        b'c' => {
            let _ = hub.send(device, ToDevice::new(text.as_bytes().to_vec()));
        }
        _ => {
            let (name, payload) = text.split_once('\t').unwrap_or((text, "null"));
            if let Ok(payload) = serde_json::from_str(payload) {
                let (hub, call) = (std::sync::Arc::clone(hub), MethodCall::new(name, payload));
                tokio::spawn(async move {
                    let _ = hub.call(device, call).await;
                });
            }
        }
    }
}

fn packet(first: u8, body: &[u8]) -> Step<'static> {
    let mut bytes = vec![first];
    put_length(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    Step::Bytes(bytes)
}

/// A string or binary field; what does not fit is cut.
fn field(body: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    body.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
    body.extend_from_slice(bytes);
}

/// The CONNECT that this cloud takes from that device.
fn hello(ground: &Ground, cloud: Cloud, version: Version, device: usize, clean: bool) -> Vec<u8> {
    let name = DEVICES[device];
    let user = match cloud {
        Cloud::IotHub => format!("{}/{name}/?api-version=2021-04-12", ground.config.hosts.iot_hub),
        Cloud::Dps => format!(
            "{}/registrations/{name}/api-version=2019-03-31",
            ground.config.dps.id_scope
        ),
        _ => name.to_owned(),
    };
    if version == Version::V4 {
        let mut connect = Connect::new(name, clean, 60);
        connect.username = Some(user);
        return connect.encode().expect("a CONNECT");
    }
    let mut body = Vec::new();
    field(&mut body, b"MQTT");
    body.extend_from_slice(&[5, 0x80 | u8::from(clean) << 1, 0, 60]);
    // Session expiry (section 3.1.2.11.2).
    let expiry: &[u8] = if clean { &[0] } else { &[5, 0x11, 0, 0, 0x0e, 0x10] };
    body.extend_from_slice(expiry);
    field(&mut body, name.as_bytes());
    field(&mut body, user.as_bytes());
    let Step::Bytes(bytes) = packet(0x10, &body) else {
        return Vec::new();
    };
    bytes
}

fn step(version: Version, id: u16, line: &[u8]) -> Option<Step<'_>> {
    let five = version == Version::V5;
    let (what, rest) = line.split_first()?;
    let parts = |bytes: &'_ [u8]| bytes.split(|b| *b == b'\t').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut body = Vec::new();
    Some(match what {
        b'p' | b'P' => {
            let (flags, rest) = rest.split_first()?;
            let mut parts = rest.splitn(if *what == b'P' { 3 } else { 2 }, |b| *b == b'\t');
            field(&mut body, parts.next()?);
            if flags & 0x06 != 0 {
                body.extend_from_slice(&id.to_be_bytes());
            }
            let properties = if *what == b'P' {
                parts.next().unwrap_or_default()
            } else {
                &[]
            };
            if five {
                put_length(&mut body, properties.len());
                body.extend_from_slice(properties);
            }
            body.extend_from_slice(parts.next().unwrap_or_default());
            packet(0x30 | flags & 0x0f, &body)
        }
        b's' => {
            let (options, rest) = rest.split_first()?;
            body.extend_from_slice(&id.to_be_bytes());
            if five {
                body.push(0);
            }
            for filter in parts(rest) {
                field(&mut body, &filter);
                body.push(options & 0x0f);
            }
            packet(0x82, &body)
        }
        b'u' => {
            body.extend_from_slice(&id.to_be_bytes());
            if five {
                body.push(0);
            }
            parts(rest).iter().for_each(|filter| field(&mut body, filter));
            packet(0xa2, &body)
        }
        b'k' => {
            let id: u16 = std::str::from_utf8(rest).ok()?.parse().ok()?;
            packet(0x40, &id.to_be_bytes())
        }
        b'g' => packet(0xc0, &[]),
        b'q' => packet(0xe0, &[]),
        b'x' => Step::Bytes(rest.to_vec()),
        b't' | b'm' | b'c' | b'o' => Step::Owner(*what, std::str::from_utf8(rest).ok()?),
        _ => return None,
    })
}
