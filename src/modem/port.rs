//! The serial device.
//!
//! What the bench has shown about `option`'s ttyUSB ports, and what is done about it:
//!
//! - Between `open` and raw mode the terminal echoes the modem's boot messages back to it as commands: an echo storm. So: raw at
//!   once (the serial library sets it before anything else), both queues flushed, and the dialogue resynchronises before its first
//!   command.
//! - Two readers of one port each get half of the bytes. So the port is opened exclusively (`TIOCEXCL` and `flock`); the latter also
//!   holds against programs that run as root.
//! - The line settings mean nothing over USB; the speed is any. Modem control lines are left alone: the kernel raises DTR at open, and
//!   a pty has none (`ENOTTY`).
//! - After the device is gone a read gives 0 bytes, for ever, and a write `EIO`: both are [`ModemError::Gone`] in the driver.
//! - `close` of a hung port blocks for up to 30 s (`closing_wait`). So it happens on a thread of its own; until it is through, the lock
//!   refuses the same port to us, too, and [`open`] says so.
//! - Draining (`tcdrain`) would block the runtime's thread, so nothing here flushes after a write.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{sleep, timeout};
use tokio_serial::{ClearBuffer, ErrorKind, SerialPort, SerialPortBuilderExt, SerialStream};

use super::error::ModemError;

/// Over USB any value does; this one is what the modem would use on its UART.
const BAUD: u32 = 115_200;
/// Opening a device takes milliseconds; a driver that takes this long is stuck.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// A port that we closed a moment ago may still be locked: tried again for this long.
const BUSY_MAX: Duration = Duration::from_millis(1_000);
/// Pause between attempts.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// An open serial port that never blocks when dropped.
#[derive(Debug)]
pub struct Port {
    stream: Option<SerialStream>,
}

/// Opens a port: raw, exclusive, both queues empty.
///
/// # Errors
/// [`ModemError::Open`] with advice.
pub async fn open(path: &Path) -> Result<Port, ModemError> {
    let mut waited = Duration::ZERO;
    loop {
        match open_once(path).await {
            Err(e) if e.kind() == ErrorKind::NoDevice && waited < BUSY_MAX => {
                sleep(BUSY_PAUSE).await;
                waited += BUSY_PAUSE;
            }
            Ok(port) => return Ok(port),
            Err(source) => {
                return Err(ModemError::Open {
                    path: path.display().to_string(),
                    advice: advice(source.kind()),
                    source,
                });
            }
        }
    }
}

async fn open_once(path: &Path) -> Result<Port, tokio_serial::Error> {
    let Some(name) = path.to_str().map(str::to_owned) else {
        return Err(tokio_serial::Error::new(
            ErrorKind::InvalidInput,
            "the path is not UTF-8",
        ));
    };
    let opening = tokio::task::spawn_blocking(move || {
        let stream = tokio_serial::new(name, BAUD)
            // Asynchronous reads have no time-out of their own; ours are in the dialogue.
            .timeout(Duration::ZERO)
            .exclusive(true)
            .open_native_async()?;
        let port = Port { stream: Some(stream) };
        if let Some(stream) = &port.stream {
            stream.clear(ClearBuffer::All)?;
        }
        Ok(port)
    });
    match timeout(OPEN_MAX, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(join)) => Err(tokio_serial::Error::new(ErrorKind::Unknown, join.to_string())),
        Err(_) => Err(tokio_serial::Error::new(
            ErrorKind::Io(io::ErrorKind::TimedOut),
            format!("the driver did not open it within {} s", OPEN_MAX.as_secs()),
        )),
    }
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NoDevice => {
            "another program holds it: onyx-agent itself when it runs (ask 'onyx-agent status' then), or ModemManager (stop it, or \
             install the udev rule that keeps it away); a hung port that was just closed is free again after 30 s"
        }
        ErrorKind::Io(io::ErrorKind::PermissionDenied) => {
            "the user must be in the group dialout (or the one of the udev rule)"
        }
        ErrorKind::Io(io::ErrorKind::NotFound) => {
            "the modem is not plugged in, still starting, or has another name: see /dev/serial/by-id"
        }
        ErrorKind::Io(io::ErrorKind::TimedOut) => "the modem or its driver hangs: unplug it, plug it in again",
        _ => "check that this is a serial port and that the modem is plugged in",
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            // If there is no thread to be had, the closure is dropped here, and the port closed, at the price of perhaps blocking.
            let _ = std::thread::Builder::new()
                .name("port-close".to_owned())
                .spawn(move || drop(stream));
        }
    }
}

impl Port {
    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut SerialStream>> {
        self.get_mut()
            .stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Port {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.stream() {
            Ok(stream) => stream.poll_read(cx, buf),
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.stream() {
            Ok(stream) => stream.poll_write(cx, buf),
            Err(e) => Poll::Ready(Err(e)),
        }
    }

    /// Does nothing: draining would block the thread, and every answer proves that the command went out.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
