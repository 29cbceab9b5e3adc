//! Socket settings, and closing so that the last bytes arrive.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the other side may take to close after us.
const CLOSING: Duration = Duration::from_secs(2);

/// No delay for small packets, and an end to connections whose other side has vanished: what was sent must be acknowledged by its TCP
/// within `patience` (`TCP_USER_TIMEOUT`, tcp(7)). A socket that refuses works without.
pub(super) fn tune(stream: &TcpStream, patience: Duration) {
    let _ = stream.set_nodelay(true);
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    let _ = nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::TcpUserTimeout, &millis);
}

/// Says that nothing more comes and reads what is still on its way: closing a socket with unread bytes makes the kernel send a reset,
/// which can destroy the last packets before the other side has read them.
pub(super) async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let _ = tokio::time::timeout(CLOSING, async {
        stream.shutdown().await?;
        let mut sink = [0_u8; 1_024];
        while stream.read(&mut sink).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}
