//! The network: waited for, and what is known of it told.

use std::time::Duration;

use super::{Climber, QUESTION_MAX, Trouble, on};
use crate::agent::ladder::Rung;
use crate::clock;
use crate::modem::{Modem, ModemError, Port, RegStatus, Registration, Signal, Urc};
use crate::telemetry::sample::ModemReading;

/// A network is searched so long before the rung is reported down; the modem goes on searching.
const REGISTER_WITHIN: Duration = Duration::from_secs(180);
/// Pause between two looks at the registration while searching; a change is announced by the modem itself.
const REGISTER_EVERY: Duration = Duration::from_secs(2);
/// A network that refuses the SIM is left alone for at least so long; the modem itself announces a change of mind.
const DENIED_PAUSE: Duration = Duration::from_secs(60);

impl Climber {
    /// Waits until a network lets us in.
    pub(super) async fn register(&mut self, modem: &mut Modem<Port>) -> Result<Registration, (Rung, Trouble)> {
        let mut since = self.clock.monotonic();
        loop {
            self.pulse.promise(QUESTION_MAX);
            let r = modem.registration().await.map_err(on(Rung::Network))?;
            let waited = self.clock.monotonic().saturating_sub(since);
            match r.status {
                status if status.is_registered() => return Ok(r),
                status if status == RegStatus::Denied || waited >= REGISTER_WITHIN => {
                    let fault = self.refused(modem, status).await.into_fault(Rung::Network);
                    let at_least = if status == RegStatus::Denied {
                        DENIED_PAUSE
                    } else {
                        Duration::ZERO
                    };
                    let wait = self.report(&fault, at_least);
                    self.wait_for_change(modem, wait).await?;
                    since = self.clock.monotonic();
                }
                _ => {
                    let reading = modem.signal().await.map_err(on(Rung::Network))?;
                    let heard = reading.rsrp_dbm.or(reading.rssi_dbm);
                    self.ladder.climbing(
                        Rung::Network,
                        match heard {
                            Some(_) => "searching: the radio hears something",
                            None => "searching: the radio hears nothing yet",
                        },
                    );
                    self.listen(modem, REGISTER_EVERY).await.map_err(on(Rung::Modem))?;
                }
            }
        }
    }

    /// Waits, but not longer than until the modem announces a change of its registration.
    async fn wait_for_change(&mut self, modem: &mut Modem<Port>, wait: Duration) -> Result<(), (Rung, Trouble)> {
        let until = self.clock.monotonic().saturating_add(wait);
        loop {
            let left = until.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return Ok(());
            }
            let heard = self.listen(modem, left).await.map_err(on(Rung::Modem))?;
            if heard.iter().any(|urc| matches!(urc, Urc::Registration(..))) {
                return Ok(());
            }
        }
    }

    /// What to say when the network does not have us.
    pub(super) async fn refused(&mut self, modem: &mut Modem<Port>, status: RegStatus) -> Trouble {
        let reason = match modem.last_failure().await {
            Ok(text) => format!("; the modem's reason: {text}"),
            Err(_) => String::new(),
        };
        match status {
            RegStatus::Denied => Trouble::Said(
                format!("the network refuses this SIM{reason}"),
                "is the SIM active in the SORACOM console, and the APN right (soracom.io, or du.soracom.io for plan-DU)? The modem goes on trying by itself".into(),
            ),
            other => Trouble::Said(
                format!("not registered ({other}){reason}"),
                "check the antenna and the place; the log says whether the radio hears something. The modem goes on searching".into(),
            ),
        }
    }

    /// Registered: says so, with signal, and asks the network for the time.
    pub(super) async fn registered(
        &mut self,
        modem: &mut Modem<Port>,
        registration: &Registration,
    ) -> Result<(), ModemError> {
        let operator = modem.operator().await?;
        let signal = modem.signal().await?;
        if let Some(time) = modem.network_time().await? {
            if !self.clock.heard_network(time) {
                tracing::debug!(
                    "the modem says {}, which cannot be: no network time yet",
                    clock::rfc3339(time)
                );
            }
        }
        let reading = reading(&signal, operator.as_ref().map(|o| o.name.as_str()), registration);
        let why = format!(
            "{}{}{}",
            registration.status,
            reading.operator.as_ref().map_or(String::new(), |o| format!(", {o}")),
            reading.technology.as_ref().map_or(String::new(), |t| format!(", {t}")),
        );
        self.ladder.up(Rung::Network, &why);
        self.view.send_modify(|view| {
            view.registered = true;
            view.reading = Some(reading);
        });
        Ok(())
    }
}

/// The modem's signal as a sample carries it.
pub(in crate::agent) fn reading(signal: &Signal, operator: Option<&str>, registration: &Registration) -> ModemReading {
    ModemReading {
        rsrp_dbm: signal.rsrp_dbm,
        rsrq_db: signal.rsrq_db,
        rssi_dbm: signal.rssi_dbm,
        sinr_db: signal.sinr_db.map(f32::from),
        band: signal.band,
        operator: operator.map(str::to_owned),
        technology: signal.technology.or(registration.technology).map(|t| t.to_string()),
    }
}
