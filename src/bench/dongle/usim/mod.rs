//! The virtual USIM: command APDU in, response APDU out. No I/O and no clock.
//!
//! It is a UICC with one application, on the transport protocol T=0: an answer to a command that brought data has to be fetched with GET
//! RESPONSE (`61xx`), a wrong length is told as `6Cxx`. There is the basic channel and three more (ETSI TS 102 221 section 8.7 allows up to 19;
//! this card has as many as the EG25-G can number in the class byte). A channel that is opened and not closed is gone until the card starts
//! again.
//!
//! | instruction | |
//! |---|---|
//! | A4 SELECT | by file identifier, path from the MF, or application identifier, also partial |
//! | B0 READ BINARY, B2 READ RECORD | |
//! | C0 GET RESPONSE | |
//! | 70 MANAGE CHANNEL | |
//! | 88 AUTHENTICATE | 3G context only (TS 31.102 section 7.1) |
//!
//! AUTHENTICATE needs the USIM's directory to be the current one on its channel (TS 31.102 section 7.1.1). SORACOM's own clients send it
//! without selecting anything, which some modems allow because they have selected the USIM for themselves; the scenario says which kind this is.
//! Which sequence numbers are accepted is in [`crate::bench::subscriber::sqn`].

mod access;
pub(super) mod apdu;
mod authenticate;
mod files;
#[cfg(test)]
mod tests;

use apdu::{Apdu, Sw};
use files::{Contents, Directory, File};

use super::identity::{Iccid, Imsi};
use super::scenario::{Aid, Unselected, UsimPart};
use crate::bench::subscriber::sqn::Window;
use crate::bench::subscriber::{Secrets, Sim};

/// The basic channel and three more.
pub(super) const CHANNELS: usize = 4;

/// What a logical channel stands on.
#[derive(Clone)]
struct Channel {
    directory: Directory,
    /// Whether the USIM has been selected on it; `7FFF` means the USIM then.
    usim: bool,
    file: Option<File>,
    /// Waits for GET RESPONSE; CK and IK may be in it, so it is never printed.
    waiting: Vec<u8>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("directory", &self.directory)
            .field("usim", &self.usim)
            .field("file", &self.file)
            .field("waiting", &format_args!("{} bytes", self.waiting.len()))
            .finish()
    }
}

impl Channel {
    const START: Self = Self {
        directory: Directory::Mf,
        usim: false,
        file: None,
        waiting: Vec::new(),
    };
}

/// The card behind its contacts.
#[derive(Clone, Debug)]
pub(super) struct Usim {
    secrets: Secrets,
    window: Window,
    contents: Contents,
    unselected: Unselected,
    with_kc: bool,
    deaf: bool,
    /// Channels that may be open, with the basic one.
    limit: usize,
    whole_name: bool,
    channels: [Option<Channel>; CHANNELS],
}

type Outcome = Result<Answer, Sw>;

/// What a command leads to.
enum Answer {
    /// Nothing but 9000.
    Done,
    /// Data at once.
    Now(Vec<u8>),
    /// Data that GET RESPONSE fetches.
    Fetch(Vec<u8>),
}

impl Usim {
    pub(super) fn new(sim: &Sim, imsi: &Imsi, iccid: &Iccid, part: &UsimPart) -> Self {
        let ahead = part.sqn_ahead;
        let start = crate::bench::subscriber::Sqn::new(sim.sqn.seq().saturating_add(u64::from(ahead)), sim.sqn.ind());
        let mut usim = Self {
            secrets: sim.secrets(),
            window: Window::new(start.unwrap_or(sim.sqn)),
            contents: Contents::new(imsi, iccid),
            unselected: part.unselected,
            with_kc: part.kc,
            deaf: part.mac_failure,
            limit: CHANNELS.min(usize::from(part.channels) + 1),
            whole_name: part.aid == Aid::Whole,
            channels: [const { None }; CHANNELS],
        };
        usim.reset();
        usim
    }

    /// The card starts again: only the basic channel is there, on the MF. What it has accepted it keeps.
    pub(super) fn reset(&mut self) {
        self.channels = [const { None }; CHANNELS];
        self.channels[0] = Some(Channel::START);
    }

    /// Answers one command.
    pub(super) fn transmit(&mut self, bytes: &[u8]) -> (Vec<u8>, Sw) {
        match self.answer(bytes) {
            Ok((data, sw)) => (data, sw),
            Err(sw) => (Vec::new(), sw),
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, Sw), Sw> {
        let apdu = Apdu::parse(bytes)?;
        let number = apdu.channel()?;
        let waiting = match self.channel(number) {
            Some(channel) => std::mem::take(&mut channel.waiting),
            None => return Err(Sw::CHANNEL_NOT_SUPPORTED),
        };
        let answer = match apdu.instruction {
            0xc0 => return self.get_response(&apdu, number, waiting),
            0x70 => self.manage_channel(&apdu),
            0xa4 => self.select(&apdu, number),
            0xb0 => self.read_binary(&apdu, number),
            0xb2 => self.read_record(&apdu, number),
            0x88 => self.authenticate(&apdu, number),
            _ => Err(Sw::WRONG_INSTRUCTION),
        }?;
        Ok(match answer {
            Answer::Done => (Vec::new(), Sw::OK),
            Answer::Now(data) => (data, Sw::OK),
            Answer::Fetch(data) => {
                let sw = Sw::waiting(data.len());
                if let Some(channel) = self.channel(number) {
                    channel.waiting = data;
                }
                (Vec::new(), sw)
            }
        })
    }

    fn channel(&mut self, number: u8) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number))?.as_mut()
    }

    /// What waits is given whole, to who asks for its length, in the command right after.
    fn get_response(&mut self, apdu: &Apdu<'_>, number: u8, waiting: Vec<u8>) -> Result<(Vec<u8>, Sw), Sw> {
        if (apdu.p1, apdu.p2) != (0, 0) {
            return Err(Sw::WRONG_OFFSET);
        }
        if !apdu.data.is_empty() {
            return Err(Sw::WRONG_LENGTH);
        }
        let Some(expected) = apdu.expected else {
            return Err(Sw::WRONG_LENGTH);
        };
        if waiting.is_empty() {
            return Err(Sw::CONDITIONS);
        }
        if expected == waiting.len() {
            return Ok((waiting, Sw::OK));
        }
        let right = Sw::right_length(waiting.len());
        if let Some(channel) = self.channel(number) {
            channel.waiting = waiting;
        }
        Err(right)
    }

    /// TS 102 221 section 11.1.17.
    fn manage_channel(&mut self, apdu: &Apdu<'_>) -> Outcome {
        if !apdu.data.is_empty() {
            return Err(Sw::WRONG_LENGTH);
        }
        match (apdu.p1, apdu.p2) {
            (0x00, 0) => {
                // The card chooses a channel and tells which.
                if apdu.expected.is_some_and(|length| length != 1) {
                    return Err(Sw::right_length(1));
                }
                let number = self.open_channel().ok_or(Sw::NOT_SUPPORTED)?;
                Ok(Answer::Now(vec![number]))
            }
            (0x80, number @ 1..=3) if self.close_channel(number) => Ok(Answer::Done),
            (0x80, 1..=3) => Err(Sw::CHANNEL_NOT_SUPPORTED),
            _ => Err(Sw::WRONG_P1_P2),
        }
    }

    /// The lowest free channel, now open; `None` when there is none left.
    fn open_channel(&mut self) -> Option<u8> {
        let free = self.channels.iter().take(self.limit).position(Option::is_none)?;
        *self.channels.get_mut(free)? = Some(Channel::START);
        u8::try_from(free).ok()
    }

    /// Whether a channel is there.
    pub(super) fn is_open(&self, number: u8) -> bool {
        self.channels.get(usize::from(number)).is_some_and(Option::is_some)
    }

    /// How many logical channels are open; the basic one is not counted.
    pub(super) fn open_channels(&self) -> usize {
        self.channels.iter().skip(1).flatten().count()
    }

    fn close_channel(&mut self, number: u8) -> bool {
        let slot = self.channels.get_mut(usize::from(number));
        slot.is_some_and(|slot| slot.take().is_some())
    }

    /// EF_DIR's record, for `AT+CUAD`.
    pub(super) fn applications(&self) -> Vec<u8> {
        self.contents.of(File::Dir)
    }
}
