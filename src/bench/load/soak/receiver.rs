//! The subscriber upstream: a persistent session at QoS 1, so that what upstream has accepted waits for it over upstream's restarts. A message
//! is entered into the books before it is acknowledged.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{BufMut, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::super::listener::subscribe;
use super::super::names::ALL_TOPICS;
use super::{Soak, talk};
use crate::mqtt::{Level, PacketType, split_frame};

const CLIENT_ID: &str = "soak-receiver";
/// Seconds; it never pings, so there is none.
const KEEP_ALIVE: u16 = 0;
/// Upstream restarts within this, or has failed.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(50);

/// The first connection: makes the session.
pub(super) async fn open(at: SocketAddr) -> anyhow::Result<TcpStream> {
    let (mut stream, is_known) = connect(at).await.context("the receiver cannot connect upstream")?;
    if is_known {
        bail!("upstream has a session of {CLIENT_ID} of an earlier run: give it an empty directory");
    }
    stream.write_all(&subscribe(1)?).await?;
    let answer = talk::next(&mut stream, &mut BytesMut::new()).await?;
    if (answer.packet, answer.body()) != (PacketType::SubAck, &[0, 1, 1]) {
        bail!("upstream does not grant {ALL_TOPICS} at QoS 1: {:?}", answer.body());
    }
    Ok(stream)
}

/// Connects; also whether there was a session.
async fn connect(at: SocketAddr) -> anyhow::Result<(TcpStream, bool)> {
    let mut stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let connect = talk::connect(Level::V3, CLIENT_ID, KEEP_ALIVE)?;
    stream.write_all(&connect).await?;
    // Nothing may be read beyond CONNACK here: what follows is a message.
    let mut answer = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await?;
    match answer {
        [0x20, 2, present, 0] => Ok((stream, present == 1)),
        other => bail!("CONNACK {other:?}"),
    }
}

/// Enters what arrives, over all of upstream's restarts; ends only with an error.
pub(super) async fn serve(mut stream: TcpStream, at: SocketAddr, soak: Rc<Soak>) -> anyhow::Result<()> {
    loop {
        let Err(ended) = take(&mut stream, &soak).await;
        let again = async {
            loop {
                match connect(at).await {
                    Ok(there) => return there,
                    Err(_) => sleep(AGAIN).await,
                }
            }
        };
        let (again, is_known) = timeout(AWAY_MAX, again).await.with_context(|| {
            format!(
                "upstream is away for {} s; it ended with: {ended:#}",
                AWAY_MAX.as_secs()
            )
        })?;
        if !is_known {
            bail!("upstream has forgotten the receiver's session, and with it what it had accepted");
        }
        stream = again;
        soak.books.borrow_mut().event("receiver_connected_again");
    }
}

async fn take(stream: &mut TcpStream, soak: &Soak) -> anyhow::Result<Infallible> {
    let mut buffer = BytesMut::with_capacity(talk::PACKET_MAX);
    let mut acks = BytesMut::new();
    loop {
        let frame = talk::next(stream, &mut buffer).await?;
        let mut next = Some(frame);
        while let Some(frame) = next {
            if frame.packet == PacketType::Publish && frame.publish_qos() == 1 {
                let (id, redelivered, device, n) =
                    talk::arrival(&frame).context("a message that no device of ours sent")?;
                soak.books.borrow_mut().arrived(device, n, redelivered);
                acks.put_slice(&[0x40, 2]);
                acks.put_u16(id);
            } else {
                soak.books
                    .borrow_mut()
                    .wrong(format!("the receiver got {:?}", frame.packet));
            }
            next = split_frame(&mut buffer, talk::PACKET_MAX)?;
        }
        stream.write_all_buf(&mut acks).await?;
    }
}
