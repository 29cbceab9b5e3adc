//! The SIM: waited for, and its PIN entered once.

use std::time::Duration;

use super::{Climber, QUESTION_MAX, Trouble};
use crate::agent::ladder::Rung;
use crate::modem::{CmeError, Modem, ModemError, Pin, Port, SimState};
use crate::provision::operator::read_limited;

/// A SIM may be busy so long after the modem's start; then it is said and tried from the start.
const SIM_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at a busy SIM.
const SIM_EVERY: Duration = Duration::from_secs(1);

impl Climber {
    /// Waits until the SIM is ready, entering the PIN once if it wants one.
    pub(super) async fn sim(&mut self, modem: &mut Modem<Port>) -> Result<(), Trouble> {
        let since = self.clock.monotonic();
        let say = |cause: String, cure: &str| Trouble::Said(cause, cure.to_owned());
        let (mut entered, mut looked, mut switched_on) = (false, false, false);
        loop {
            self.pulse.promise(QUESTION_MAX);
            let patient = self.clock.monotonic().saturating_sub(since) < SIM_WITHIN;
            match modem.sim().await.map_err(Trouble::Modem)? {
                SimState::Ready => return Ok(()),
                // The PIN was taken, but the SIM has not come round to saying so.
                SimState::PinRequired { .. } if entered && patient => tokio::time::sleep(SIM_EVERY).await,
                SimState::Busy if patient => {
                    self.ladder.climbing(Rung::Sim, "the SIM is still starting");
                    tokio::time::sleep(SIM_EVERY).await;
                }
                SimState::Busy => {
                    return Err(say(
                        format!("the SIM is still busy after {} s", SIM_WITHIN.as_secs()),
                        "take it out and in again; if it stays so, try another SIM",
                    ));
                }
                SimState::Absent => {
                    return Err(say(
                        "there is no SIM in the dongle".into(),
                        "put a SIM in, contacts first, until it clicks",
                    ));
                }
                SimState::PinRequired { .. } if entered => {
                    self.pin_refused = true;
                    return Err(say(
                        "the SIM took the PIN and wants it all the same".into(),
                        "try the SIM in a phone, and restart onyx-agent",
                    ));
                }
                SimState::PinRequired { retries_left } => {
                    self.pin(modem, retries_left).await?;
                    entered = true;
                }
                SimState::PukRequired => {
                    return Err(say(
                        "the SIM is locked and wants its PUK".into(),
                        "unlock it in a phone with the PUK from its owner's papers or the SORACOM console",
                    ));
                }
                // A modem that is off (CFUN=0) answers as if the card were broken (CME 13).
                SimState::Failure if !looked => {
                    looked = true;
                    switched_on = modem.radio(true).await.map_err(Trouble::Modem)?;
                }
                SimState::Failure if switched_on && patient => tokio::time::sleep(SIM_EVERY).await,
                SimState::Failure => {
                    return Err(say(
                        "the modem cannot read the SIM".into(),
                        "take it out, clean its contacts, put it back; try another one",
                    ));
                }
                SimState::Other(text) => {
                    return Err(say(
                        format!("the SIM says {text:?}"),
                        "it may be locked to another network or device: try it in a phone",
                    ));
                }
            }
        }
    }

    async fn pin(&mut self, modem: &mut Modem<Port>, left: Option<u8>) -> Result<(), Trouble> {
        // The answer to a try may have been lost; a wrong PIN shows in the attempts that are left.
        let before = std::mem::replace(&mut self.pin_left, left);
        self.pin_refused |= before.zip(left).is_some_and(|(before, now)| now < before);
        let left = left.map_or(String::new(), |n| format!(", {n} attempts left"));
        let Some(path) = &self.config.sim.pin_file else {
            return Err(Trouble::Said(
                format!("the SIM wants its PIN{left}"),
                "write it into a file of mode 0600 and name it under sim.pin_file, or switch the PIN off in a phone"
                    .into(),
            ));
        };
        if self.pin_refused {
            return Err(Trouble::Said(
                format!("the SIM did not take the PIN{left}; it is not tried again"),
                format!(
                    "correct the PIN in {} (sim.pin_file) and restart onyx-agent",
                    path.display()
                ),
            ));
        }
        let text = read_limited(path).map_err(|e| Trouble::Said(e.to_string(), "check sim.pin_file".into()))?;
        let pin: Pin = String::from_utf8_lossy(text.trim_ascii()).parse().map_err(|_| {
            Trouble::Said(
                format!("{} holds no PIN", path.display()),
                "write 4 to 8 digits into it".into(),
            )
        })?;
        self.ladder.climbing(Rung::Sim, "entering the PIN");
        let entered = modem.enter_pin(&pin).await;
        if let Err(ModemError::Refused {
            error: CmeError::IncorrectPassword | CmeError::PukRequired,
            ..
        }) = entered
        {
            self.pin_refused = true;
        }
        entered.map_err(Trouble::Modem)
    }
}
