//! Asking a running program what it is doing: a Unix socket that answers every connection with one JSON object and closes.
//!
//! The socket file has mode 0660, so the service's user and group may ask. Nothing is read from the asker.

use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

/// Longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 1 << 20;
/// How long an asker may take to read, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no {program} is running with the socket {}: {source}; start it, or name its configuration with --config", path.display())]
    NotRunning {
        /// Who was asked.
        program: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Somebody listens, but not to us.
    #[error("may not ask {program} at {}: {source}; run as root, as the service's user or in its group", path.display())]
    NotAllowed {
        /// Who was asked.
        program: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The answer is not JSON.
    #[error("the answer from {} cannot be understood: {why}", path.display())]
    BadAnswer {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A listening socket; the file is removed when it is dropped.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Binds the socket, replacing one that nobody answers on.
    ///
    /// # Errors
    /// `AddrInUse` when another program answers there, `AlreadyExists` when something else than a socket has that name; otherwise from
    /// the file system.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another instance already answers on {}", path.display()),
            ));
        }
        match std::fs::symlink_metadata(path) {
            // Left by a killed run.
            Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("{} is there and is no socket", path.display()),
                ));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers for ever, one asker after another, each within a bounded time.
    pub async fn serve(self, answer: impl Fn() -> Value) {
        loop {
            match self.listener.accept().await {
                Ok((mut stream, _)) => {
                    let text = format!("{}\n", answer());
                    let _ = tokio::time::timeout(PATIENCE, async {
                        stream.write_all(text.as_bytes()).await?;
                        stream.shutdown().await
                    })
                    .await;
                }
                // Out of descriptors or the like: do not spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Asks the program behind `path`.
///
/// # Errors
/// [`ControlError`].
pub fn ask(program: &'static str, path: &Path) -> Result<Value, ControlError> {
    let not_running = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            ControlError::NotAllowed { program, path, source }
        } else {
            ControlError::NotRunning { program, path, source }
        }
    };
    let bad = |why: String| ControlError::BadAnswer {
        path: path.to_owned(),
        why,
    };
    let stream = std::os::unix::net::UnixStream::connect(path).map_err(not_running)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(not_running)?;
    let mut text = String::new();
    stream
        .take(ANSWER_MAX)
        .read_to_string(&mut text)
        .map_err(|e| bad(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_question_is_answered_and_a_second_instance_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let e = ask("onyx-test", &path).unwrap_err().to_string();
        assert!(e.contains("no onyx-test is running"), "{e}");
        let socket = StatusSocket::bind(&path).unwrap();
        let task = tokio::spawn(socket.serve(|| serde_json::json!({"a": 1})));
        let p = path.clone();
        let answer = tokio::task::spawn_blocking(move || ask("onyx-test", &p))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer["a"], 1);
        assert_eq!(StatusSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        task.abort();
        let _ = task.await;
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(StatusSocket::bind(&path).is_ok(), "a stale socket is replaced");
        std::fs::write(&path, "somebody's file").unwrap();
        assert_eq!(
            StatusSocket::bind(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(path.exists(), "a file is never removed");
    }
}
