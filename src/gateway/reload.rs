//! Reading the configuration again without dropping a session: SIGHUP, `systemctl reload`, and `POST /v1/gateway/reload`.

use tokio::sync::{mpsc, oneshot};

/// How many may wait for a reload; more are refused.
const WAITING_MAX: usize = 16;

/// What came of it: a line for people, or every mistake.
pub type Outcome = Result<String, String>;

/// Asks for a reload.
#[derive(Debug, Clone)]
pub struct Reload(mpsc::Sender<oneshot::Sender<Outcome>>);

/// The questions, for the one task that reloads.
#[derive(Debug)]
pub struct Reloads(mpsc::Receiver<oneshot::Sender<Outcome>>);

/// Both ends.
#[must_use]
pub fn channel() -> (Reload, Reloads) {
    let (ask, asked) = mpsc::channel(WAITING_MAX);
    (Reload(ask), Reloads(asked))
}

impl Reload {
    /// Reloads and says what came of it.
    ///
    /// # Errors
    /// Every mistake of the new configuration; the old one stays in force.
    pub async fn now(&self) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let gone = || "the gateway is stopping".to_owned();
        self.0
            .try_send(answer)
            .map_err(|_| "too many reloads at once, or the gateway is stopping".to_owned())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Reloads {
    /// The next question; `None` when nobody can ask any more.
    pub async fn next(&mut self) -> Option<oneshot::Sender<Outcome>> {
        self.0.recv().await
    }
}
