//! Serving those who ask the SIM, while the modem is listened to.

use std::time::Duration;

use super::{Climber, QUESTION_MAX};
use crate::agent::fault::Fault;
use crate::identity::redact_digits;
use crate::modem::usim::{AkaError, Answer, Ask, Asked};
use crate::modem::{Modem, ModemError, Port, Urc};

/// The longest that the SIM may take with one question; it takes under a second, but may have to be waited for while it is busy.
const ASK_MAX: Duration = Duration::from_secs(60);

impl Climber {
    /// Reports a fault of the modem or the SIM, answers those who have asked meanwhile, and waits.
    pub(super) async fn failed(&mut self, fault: Fault) {
        let wait = self.report(&fault, Duration::ZERO);
        while let Ok(ask) = self.asks.try_recv() {
            let _ = ask.answer.send(Err(AkaError::Modem(fault.cause.clone())));
        }
        tokio::time::sleep(wait).await;
    }

    /// Waits for the modem to say something by itself, for at most `max`, and serves those who ask the SIM.
    pub(super) async fn listen(&mut self, modem: &mut Modem<Port>, max: Duration) -> Result<Vec<Urc>, ModemError> {
        let until = self.clock.monotonic().saturating_add(max);
        loop {
            let left = until.saturating_sub(self.clock.monotonic());
            let ask = tokio::select! {
                biased; // a modem that chatters must not keep askers waiting
                Some(ask) = self.asks.recv(), if !left.is_zero() => ask,
                heard = modem.listen(left) => return heard,
            };
            self.serve(modem, ask).await?;
            self.pulse.promise(left + QUESTION_MAX);
        }
    }

    /// Has the SIM answer a challenge. An error of the SIM is the asker's affair, one of the modem also ours.
    async fn serve(&mut self, modem: &mut Modem<Port>, ask: Ask) -> Result<(), ModemError> {
        if ask.answer.is_closed() {
            return Ok(()); // nobody waits for it any more
        }
        self.pulse.promise(QUESTION_MAX);
        self.serving.send_replace(true);
        let asking = modem.authenticate(&ask.challenge, &mut self.left_open);
        let asked = match tokio::time::timeout(ASK_MAX, asking).await {
            Ok(asked) => asked,
            Err(_) => Asked {
                answer: Err(AkaError::Late(ASK_MAX)),
                trouble: modem.close_left_open(&mut self.left_open).await.err(),
            },
        };
        self.serving.send_replace(false);
        match &asked.answer {
            Ok(Answer::Keys(_)) => tracing::info!("the SIM has answered a challenge"),
            Ok(Answer::Resync { .. }) => {
                tracing::info!("the SIM wants its sequence number taken up by the home network")
            }
            Err(e) => tracing::warn!(
                "the SIM has not answered a challenge: {}",
                redact_digits(&e.to_string())
            ),
        }
        let _ = ask.answer.send(asked.answer);
        asked.trouble.map_or(Ok(()), Err)
    }
}
