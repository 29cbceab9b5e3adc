//! What the agent asks the modem, in its own terms: one method per question, each of them one or a few commands.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, info};

use crate::identity::{Imei, Subscriber};

use super::cme::CmeError;
use super::command::context::{Apn, CONTEXT_ID, ReadContext, WriteContext};
use super::command::equipment::{
    EchoOff, Firmware, Functionality, Identification, ReadFunctionality, Restart, SerialNumber, SetFunctionality,
    VerboseErrors,
};
use super::command::network::{
    AnnounceRegistration, LastFailure, Operator, ReadOperator, ReadRegistration, ReadServingCell, SignalQuality,
};
use super::command::sim::{CardNumber, EnterPin, Lock, Pin, PinRetries, ReadLock, SubscriberIdentity};
use super::command::time::{ClockKeeping, KeepClock, NetworkTime, ReadClock, ReadClockKeeping};
use super::driver::Modem;
use super::eg25::CellState;
use super::error::ModemError;
use super::registration::{Domain, Registration, Technology};

/// A modem that is just booting may say `RDY` while it is being configured: configured from the start again this often.
const CONFIGURE_TRIES: u32 = 3;

/// Never the card's last attempt: the next one would need the PUK.
const PIN_RETRIES_MIN: u8 = 2;

/// What the modem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equipment {
    /// `Quectel`.
    pub manufacturer: String,
    /// `EG25-G`.
    pub model: String,
    /// Firmware with sub-version.
    pub firmware: String,
    /// Serial number.
    pub imei: Imei,
}

/// What the SIM is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SimState {
    /// Ready.
    Ready,
    /// Still starting.
    Busy,
    /// There is none.
    Absent,
    /// It wants its PIN.
    PinRequired {
        /// Attempts left, if the modem says.
        retries_left: Option<u8>,
    },
    /// It is locked.
    PukRequired,
    /// It does not work, or is not meant for this modem.
    Failure,
    /// Something else, in the modem's words.
    Other(String),
}

impl std::fmt::Display for SimState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Busy => f.write_str("busy, still starting"),
            Self::Absent => f.write_str("not inserted"),
            Self::PinRequired { retries_left: Some(n) } => write!(f, "PIN required, {n} attempts left"),
            Self::PinRequired { retries_left: None } => f.write_str("PIN required"),
            Self::PukRequired => f.write_str("locked, PUK required"),
            Self::Failure => f.write_str("failure"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// How well the network is heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signal {
    /// What the receiver is doing, if known.
    pub state: Option<CellState>,
    /// Radio technology.
    pub technology: Option<Technology>,
    /// Country and network code.
    pub network: Option<String>,
    /// LTE band number.
    pub band: Option<u16>,
    /// Cell identity.
    pub cell_id: Option<u32>,
    /// Reference signal received power in dBm.
    pub rsrp_dbm: Option<i16>,
    /// Reference signal received quality in dB.
    pub rsrq_db: Option<i16>,
    /// Received signal strength in dBm.
    pub rssi_dbm: Option<i16>,
    /// Signal to interference and noise ratio in dB.
    pub sinr_db: Option<i16>,
}

/// `Ok(None)` when the modem answered but did not know.
fn if_known<T>(answer: Result<T, ModemError>) -> Result<Option<T>, ModemError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_no_answer() => {
            debug!(target: "onyx::modem", "{e}");
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Modem<IO> {
    /// Configures the modem (no echo, errors as text, changes of registration announced, its clock kept) and says what it is. To be
    /// called first, and after [`ModemError::Rebooted`].
    ///
    /// # Errors
    /// Any [`ModemError`].
    pub async fn identify(&mut self) -> Result<Equipment, ModemError> {
        let mut tries = 1;
        loop {
            self.forget_reboot();
            match self.configure_and_identify().await {
                Err(ModemError::Rebooted) if tries < CONFIGURE_TRIES => tries += 1,
                done => return done,
            }
        }
    }

    async fn configure_and_identify(&mut self) -> Result<Equipment, ModemError> {
        self.execute(&EchoOff).await?;
        self.execute(&VerboseErrors).await?;
        if_known(self.execute(&AnnounceRegistration).await)?;
        // Kept in flash, so written only if it is off.
        if if_known(self.execute(&ReadClockKeeping).await)? == Some(ClockKeeping::Off) {
            if_known(self.execute(&KeepClock).await)?;
        }
        self.configured = true;
        let product = self.execute(&Identification).await?;
        let firmware = if_known(self.execute(&Firmware).await)?
            .or(product.revision)
            .unwrap_or_default();
        let imei = self.execute(&SerialNumber).await?;
        self.imei = Some(imei.clone());
        Ok(Equipment {
            manufacturer: product.manufacturer,
            model: product.model,
            firmware,
            imei,
        })
    }

    /// What the SIM is doing.
    ///
    /// # Errors
    /// Any [`ModemError`] but `Refused`, which is part of the answer here.
    pub async fn sim(&mut self) -> Result<SimState, ModemError> {
        Ok(match self.execute(&ReadLock).await {
            Ok(Lock::Ready) => SimState::Ready,
            Ok(Lock::NotReady) => SimState::Busy,
            Ok(Lock::NotInserted) => SimState::Absent,
            Ok(Lock::Puk) => SimState::PukRequired,
            Ok(Lock::Other(text)) => SimState::Other(text),
            Ok(Lock::Pin) => self.pin_required().await?,
            Err(ModemError::Refused { error, .. }) => match error {
                CmeError::SimAbsent => SimState::Absent,
                CmeError::SimBusy => SimState::Busy,
                CmeError::PinRequired => self.pin_required().await?,
                CmeError::PukRequired => SimState::PukRequired,
                CmeError::SimFailure | CmeError::SimWrong => SimState::Failure,
                other => SimState::Other(other.to_string()),
            },
            Err(e) => return Err(e),
        })
    }

    async fn pin_required(&mut self) -> Result<SimState, ModemError> {
        let retries_left = if_known(self.execute(&PinRetries).await)?;
        Ok(SimState::PinRequired { retries_left })
    }

    /// Enters the PIN, once, and only if a wrong one would not be the last: 2 or more attempts must be left.
    ///
    /// # Errors
    /// [`ModemError::PinGuarded`] when it was not tried; [`ModemError::Refused`] with [`CmeError::IncorrectPassword`] when it is wrong
    /// (do not try it again); any other [`ModemError`].
    pub async fn enter_pin(&mut self, pin: &Pin) -> Result<(), ModemError> {
        let left = if_known(self.execute(&PinRetries).await)?;
        match left {
            Some(n) if n >= PIN_RETRIES_MIN => self.execute(&EnterPin(pin)).await,
            _ => Err(ModemError::PinGuarded { left }),
        }
    }

    /// Who the SIM is, in which modem.
    ///
    /// # Errors
    /// Any [`ModemError`].
    pub async fn subscriber(&mut self) -> Result<Subscriber, ModemError> {
        let imsi = self.execute(&SubscriberIdentity).await?;
        let iccid = if_known(self.execute(&CardNumber).await)?;
        let imei = match self.imei.clone() {
            Some(imei) => imei,
            None => self.execute(&SerialNumber).await?,
        };
        Ok(Subscriber {
            imsi,
            imei: Some(imei),
            iccid,
        })
    }

    /// Whether the network has let us in: on LTE, or else on 3G or 2G.
    ///
    /// # Errors
    /// Any [`ModemError`].
    pub async fn registration(&mut self) -> Result<Registration, ModemError> {
        let eps = self.execute(&ReadRegistration(Domain::Eps)).await?;
        if eps.status.is_registered() {
            return Ok(eps);
        }
        let packet = if_known(self.execute(&ReadRegistration(Domain::Packet)).await)?;
        Ok(packet.filter(|r| r.status.is_registered()).unwrap_or(eps))
    }

    /// The network we are on, if on one and the modem can name it.
    ///
    /// # Errors
    /// Any [`ModemError`].
    pub async fn operator(&mut self) -> Result<Option<Operator>, ModemError> {
        Ok(if_known(self.execute(&ReadOperator).await)?.flatten())
    }

    /// How well the network is heard: from `AT+QENG`, and from `AT+CSQ` what that does not say.
    ///
    /// # Errors
    /// Any [`ModemError`].
    pub async fn signal(&mut self) -> Result<Signal, ModemError> {
        let mut signal = match if_known(self.execute(&ReadServingCell).await)? {
            Some(cell) => Signal {
                state: Some(cell.state),
                technology: cell.technology,
                network: cell.network,
                band: cell.band,
                cell_id: cell.cell_id,
                rsrp_dbm: cell.rsrp_dbm,
                rsrq_db: cell.rsrq_db,
                rssi_dbm: cell.rssi_dbm,
                sinr_db: cell.sinr_db,
            },
            None => Signal::default(),
        };
        if signal.rssi_dbm.is_none() {
            signal.rssi_dbm = if_known(self.execute(&SignalQuality).await)?.flatten();
        }
        Ok(signal)
    }

    /// The network's time since the Unix epoch, if it ever said it; see [`super::command::time`].
    ///
    /// # Errors
    /// Any [`ModemError`].
    pub async fn network_time(&mut self) -> Result<Option<Duration>, ModemError> {
        if let Some(time) = if_known(self.execute(&NetworkTime).await)?.flatten() {
            return Ok(Some(time));
        }
        let Some(reading) = if_known(self.execute(&ReadClock).await)?.flatten() else {
            return Ok(None);
        };
        Ok(match if_known(self.execute(&ReadClockKeeping).await)? {
            Some(ClockKeeping::Utc) => Some(reading.as_written),
            // The standard (3GPP TS 27.007 section 8.15) has local time in the clock.
            Some(ClockKeeping::Local) | None => reading.as_local(),
            Some(ClockKeeping::Off) => None,
        })
    }

    /// Makes this the APN of the modem's first context; says whether it had to be written. It takes effect at the next connection.
    ///
    /// # Errors
    /// [`ModemError::NotKept`], or any other [`ModemError`].
    pub async fn set_apn(&mut self, apn: &Apn) -> Result<bool, ModemError> {
        let before = if_known(self.execute(&ReadContext).await)?;
        if before.is_some_and(|stored| stored.is(apn)) {
            return Ok(false);
        }
        self.execute(&WriteContext(apn)).await?;
        let after = self.execute(&ReadContext).await?;
        if !after.is_but_for_password(apn) {
            return Err(ModemError::NotKept {
                setting: format!("the APN {} of context {CONTEXT_ID}", apn.name()),
            });
        }
        info!(target: "onyx::modem", apn = apn.name(), "the modem has a new APN");
        Ok(true)
    }

    /// Radio on, or off with the SIM still powered. Nothing is sent when it is so already; says whether something was.
    ///
    /// # Errors
    /// Any [`ModemError`].
    pub async fn radio(&mut self, on: bool) -> Result<bool, ModemError> {
        let want = if on {
            Functionality::Full
        } else {
            Functionality::Airplane
        };
        if if_known(self.execute(&ReadFunctionality).await)? == Some(want) {
            return Ok(false);
        }
        self.execute(&SetFunctionality(want)).await.map(|()| true)
    }

    /// Restarts the modem. The port will be gone soon after; the `RDY` that follows is no surprise.
    ///
    /// # Errors
    /// Any [`ModemError`].
    pub async fn restart(&mut self) -> Result<(), ModemError> {
        let done = self.execute(&Restart).await;
        self.forget_reboot();
        done
    }

    /// Why the last connection or registration failed, in the modem's words.
    ///
    /// # Errors
    /// Any [`ModemError`].
    pub async fn last_failure(&mut self) -> Result<String, ModemError> {
        self.execute(&LastFailure).await
    }
}

#[cfg(test)]
#[path = "queries_tests.rs"]
mod tests;
