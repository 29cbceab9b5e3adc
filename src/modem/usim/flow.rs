//! AUTHENTICATE over a modem: which way, in which order, and what when one is closed.
//!
//! ```text
//!   close what an earlier ask may have left open
//!   AT+CCHO partial AID ──refused──▶ close 1 to 3; if one was open: AT+CCHO again
//!        │                                │refused
//!        │                                ▼
//!        │                   whole AID from AT+CUAD or EF_DIR: AT+CCHO again
//!        ▼ channel                        │refused
//!   AT+CGLA: AUTHENTICATE                 ▼
//!   AT+CCHC, whatever came        AT+CSIM: SELECT MF, SELECT USIM, AUTHENTICATE
//!        │                                ▲
//!        └──AT+CGLA refused, or the card does not allow it on a channel (DETOURS)
//! ```
//!
//! AUTHENTICATE goes with Le first (as measured on an Onyx), and without it when modem or card will not have it. It is never repeated
//! once the card may have worked on it: the same challenge a second time is not fresh any more.
//!
//! A modem that refuses is an answer ([`AkaError::Modem`]); a modem that falls silent, restarts or goes away in the middle is also
//! [`Asked::trouble`], for the ladder. The channel is closed in any case, if there is still a modem to tell; if that fails, the caller
//! keeps what is known ([`LeftOpen`]) and gives it to [`Modem::close_left_open`] when the SIM is ready again.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::apdu::{Bytes, Exchange, Next};
use super::application::{self, USIM};
use super::authenticate::{self, WRONG_LENGTH};
use super::{AkaError, Answer, Challenge};
use crate::modem::CmeError;
use crate::modem::command::Command;
use crate::modem::command::uicc::{Applications, Channel, CloseChannel, OpenChannel, Transmit, Way};
use crate::modem::driver::Modem;
use crate::modem::error::ModemError;

/// A SIM that says "busy" is asked again so often, with this pause: it may be talking to the network.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Status words to AUTHENTICATE on a channel after which the basic channel is worth a try: nothing was computed, and this card or
/// this modem may not support it there (TS 102 221 section 10.2.1.5: channels not supported, security status or conditions of use not
/// satisfied, no file selected, class not supported).
const DETOURS: [u16; 5] = [0x6881, 0x6982, 0x6985, 0x6986, 0x6E00];

/// What came of an ask.
#[derive(Debug)]
pub struct Asked {
    /// For whoever asked.
    pub answer: Result<Answer, AkaError>,
    /// For whoever looks after the modem: it failed in the middle.
    pub trouble: Option<ModemError>,
}

/// What is known of a channel of ours that may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeftOpen {
    /// There is none.
    #[default]
    Nothing,
    /// This one.
    One(Channel),
    /// The modem was asked for one, and what it said to that was not heard.
    Unknown,
}

/// Why there is no answer yet.
enum Stop {
    /// The SIM, or what the modem lets through to it, says no.
    Aka(AkaError),
    /// The modem failed.
    Modem(ModemError),
}

impl From<AkaError> for Stop {
    fn from(e: AkaError) -> Self {
        Self::Aka(e)
    }
}

impl From<ModemError> for Stop {
    /// A refusal is the modem's answer, anything else its failure.
    fn from(e: ModemError) -> Self {
        match e {
            e @ ModemError::Refused { .. } => Self::Aka(AkaError::Modem(e.to_string())),
            e => Self::Modem(e),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Modem<IO> {
    /// Has the SIM answer a challenge. `left_open` knows of a channel of ours while it is open, also when this future is dropped;
    /// what it knows of before is closed first.
    pub async fn authenticate(&mut self, challenge: &Challenge, left_open: &mut LeftOpen) -> Asked {
        let mut trouble = None;
        let answer = match self.on_any_way(challenge, left_open, &mut trouble).await {
            Ok(answer) => Ok(answer),
            Err(Stop::Aka(e)) => Err(e),
            Err(Stop::Modem(e)) => {
                let told = AkaError::Modem(e.to_string());
                trouble = Some(e);
                Err(told)
            }
        };
        Asked { answer, trouble }
    }

    /// Closes a channel that an ask may have left open. It does not matter when it is not open any more.
    ///
    /// # Errors
    /// A [`ModemError`] that is no refusal.
    pub async fn close_left_open(&mut self, left_open: &mut LeftOpen) -> Result<(), ModemError> {
        match *left_open {
            LeftOpen::Nothing => {}
            LeftOpen::One(channel) => {
                self.close(channel).await?;
            }
            LeftOpen::Unknown => {
                self.close_all().await?;
            }
        }
        *left_open = LeftOpen::Nothing;
        Ok(())
    }

    async fn on_any_way(
        &mut self,
        challenge: &Challenge,
        left_open: &mut LeftOpen,
        trouble: &mut Option<ModemError>,
    ) -> Result<Answer, Stop> {
        self.close_left_open(left_open).await?;
        *left_open = LeftOpen::Unknown;
        let opened = self.channel().await;
        *left_open = match &opened {
            Ok(Ok(channel)) => LeftOpen::One(*channel),
            Err(Stop::Modem(e)) if !is_lost_with_its_channels(e) => LeftOpen::Unknown,
            _ => LeftOpen::Nothing,
        };
        let no_channel = match opened? {
            Ok(channel) => {
                let done = self.ask(Way::Channel(channel), challenge).await;
                let gone = matches!(&done, Err(Stop::Modem(e)) if is_lost_with_its_channels(e));
                if gone {
                    *left_open = LeftOpen::Nothing;
                } else if let Err(e) = self.close_left_open(left_open).await {
                    *trouble = Some(e);
                }
                match done {
                    Err(Stop::Aka(e)) if trouble.is_none() && is_worth_a_detour(&e) => e,
                    done => return done,
                }
            }
            Err(refused) => refused,
        };
        debug!(target: "onyx::modem", "no logical channel to the SIM ({no_channel}): the basic one is used");
        match self.on_the_basic_channel(challenge).await {
            // Both ways are closed: both are told.
            Err(Stop::Aka(AkaError::Modem(basic))) => Err(Stop::Aka(AkaError::Modem(format!(
                "neither way to the SIM is open: {no_channel}; {basic}"
            )))),
            done => done,
        }
    }

    /// Opens a logical channel with the USIM selected, or says why there is none.
    async fn channel(&mut self) -> Result<Result<Channel, AkaError>, Stop> {
        let mut refused = match self.open_channel(&USIM).await? {
            Ok(channel) => return Ok(Ok(channel)),
            Err(refused) => refused,
        };
        let closed = self.close_all().await?;
        if closed > 0 {
            debug!(target: "onyx::modem", closed, "logical channels were left open by a program that ended early");
            refused = match self.open_channel(&USIM).await? {
                Ok(channel) => return Ok(Ok(channel)),
                Err(refused) => refused,
            };
        }
        let Some(whole) = self.whole_identifier().await? else {
            return Ok(Err(refused));
        };
        self.open_channel(&whole).await
    }

    /// Opens a channel; a refusal is told apart from a SIM that is not there.
    async fn open_channel(&mut self, identifier: &[u8]) -> Result<Result<Channel, AkaError>, Stop> {
        match self.patiently(&OpenChannel(identifier)).await {
            Ok(channel) => Ok(Ok(channel)),
            Err(e) if e.refusal().is_some_and(|error| !is_of_the_sim(error)) => Ok(Err(AkaError::Modem(e.to_string()))),
            Err(e) => Err(e.into()),
        }
    }

    /// Closes all channels, whoever opened them; says how many were open.
    async fn close_all(&mut self) -> Result<usize, ModemError> {
        let mut closed = 0;
        for channel in Channel::STANDARD {
            closed += usize::from(self.close(channel).await?);
        }
        Ok(closed)
    }

    /// Closes a channel; says whether it was open.
    async fn close(&mut self, channel: Channel) -> Result<bool, ModemError> {
        match self.execute(&CloseChannel(channel)).await {
            Ok(()) => Ok(true),
            Err(ModemError::Refused { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The USIM's whole identifier, if the modem or the card tells it and it is more than the partial one.
    async fn whole_identifier(&mut self) -> Result<Option<Vec<u8>>, Stop> {
        let told = match self.execute(&Applications).await {
            Ok(records) => application::find_usim(&records).map(<[u8]>::to_vec),
            Err(ModemError::Refused { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let told = match told {
            Some(identifier) => Some(identifier),
            None => match self.read_directory().await {
                Ok(found) => found,
                // A modem without AT+CSIM, or a card that speaks nonsense, tells nothing.
                Err(Stop::Aka(_)) => None,
                Err(e) => return Err(e),
            },
        };
        Ok(told.filter(|identifier| identifier.len() > USIM.len()))
    }

    /// The USIM's identifier from EF_DIR, over the basic channel.
    async fn read_directory(&mut self) -> Result<Option<Vec<u8>>, Stop> {
        self.transmit(Way::Basic, &application::SELECT_MF).await?;
        let (_, sw) = self.transmit(Way::Basic, &application::SELECT_DIR).await?;
        if !super::apdu::is_good(sw) {
            return Ok(None);
        }
        for number in 1..=application::RECORDS_MAX {
            let (record, sw) = self.transmit(Way::Basic, &application::read_record(number)).await?;
            if !super::apdu::is_good(sw) {
                break;
            }
            if let Some(found) = application::find_usim(&record) {
                return Ok(Some(found.to_vec()));
            }
        }
        Ok(None)
    }

    async fn on_the_basic_channel(&mut self, challenge: &Challenge) -> Result<Answer, Stop> {
        // Cards answer this in several ways (with parameters, or that P2 is wrong): what counts is the SELECT after it.
        self.transmit(Way::Basic, &application::SELECT_MF).await?;
        let (_, mut sw) = self.transmit(Way::Basic, &application::select(&USIM)).await?;
        if !super::apdu::is_good(sw) {
            if let Some(whole) = self.whole_identifier().await? {
                (_, sw) = self.transmit(Way::Basic, &application::select(&whole)).await?;
            }
        }
        if !super::apdu::is_good(sw) {
            return Err(AkaError::Status {
                what: "SELECT of the USIM",
                sw,
            }
            .into());
        }
        self.ask(Way::Basic, challenge).await
    }

    /// AUTHENTICATE with Le, or else without.
    async fn ask(&mut self, way: Way, challenge: &Challenge) -> Result<Answer, Stop> {
        let with_le = authenticate::command(challenge, true);
        let (data, sw) = match self.transmit_once(way, &with_le).await? {
            Ok(exchanged) if exchanged.1 != WRONG_LENGTH => exchanged,
            _ => self.transmit(way, &authenticate::command(challenge, false)).await?,
        };
        Ok(authenticate::answer(&data, sw)?)
    }

    /// One command to the card, to its end.
    async fn transmit(&mut self, way: Way, command: &[u8]) -> Result<(Bytes, u16), Stop> {
        Ok(self.transmit_once(way, command).await??)
    }

    /// The same; that the modem refuses the first command line is told apart from all other errors.
    async fn transmit_once(&mut self, way: Way, command: &[u8]) -> Result<Result<(Bytes, u16), ModemError>, Stop> {
        let mut exchange = Exchange::new(command);
        let mut first = true;
        loop {
            let apdu = exchange.command();
            let answer = match self.patiently(&Transmit { way, apdu }).await {
                Err(e) if first && e.refusal().is_some_and(|error| !is_of_the_sim(error)) => return Ok(Err(e)),
                // The card has had the command: no other form and no other way may give it the same one again.
                Err(e) if !first && e.refusal().is_some() => return Err(AkaError::Unfetched(e.to_string()).into()),
                answer => answer??,
            };
            first = false;
            if let Some(sw) = answer.last_chunk::<2>() {
                let sw = u16::from_be_bytes(*sw);
                debug!(target: "onyx::modem", bytes = answer.len() - 2, "the card answers {sw:04X}");
            }
            if let Next::Done { data, sw } = exchange.heard(&answer)? {
                return Ok(Ok((data, sw)));
            }
        }
    }

    /// Asks again while the SIM is busy: then nothing has been done.
    async fn patiently<C: Command>(&mut self, command: &C) -> Result<C::Answer, ModemError> {
        let mut tries = 1;
        loop {
            match self.execute(command).await {
                Err(e) if e.refusal() == Some(&CmeError::SimBusy) && tries < BUSY_TRIES => {
                    tries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                done => return done,
            }
        }
    }
}

/// There is no SIM to ask, whichever way.
fn is_of_the_sim(error: &CmeError) -> bool {
    matches!(
        error,
        CmeError::SimAbsent
            | CmeError::PinRequired
            | CmeError::PukRequired
            | CmeError::SimFailure
            | CmeError::SimBusy
            | CmeError::SimWrong
    )
}

/// A modem that restarted has restarted the card, too, and with it its channels.
fn is_lost_with_its_channels(e: &ModemError) -> bool {
    matches!(e, ModemError::Rebooted)
}

/// Whether the basic channel may do what a logical one did not.
fn is_worth_a_detour(e: &AkaError) -> bool {
    match e {
        AkaError::Modem(_) => true,
        AkaError::Status { sw, .. } => DETOURS.contains(sw),
        _ => false,
    }
}
