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

pub(super) mod apdu;
mod files;
#[cfg(test)]
mod tests;

use apdu::{Apdu, Sw};
use files::{ADF, Contents, DIR_SFI, Directory, File, MF};

use super::identity::{Iccid, Imsi};
use super::scenario::{Unselected, UsimPart};
use crate::bench::subscriber::aka::{Agreed, Autn, Rand};
use crate::bench::subscriber::sqn::Window;
use crate::bench::subscriber::{Secrets, Sim};

/// The basic channel and three more.
pub(super) const CHANNELS: usize = 4;
/// 10 RAND 10 AUTN.
const CHALLENGE: usize = 34;
/// Shortest application identifier that selects anything: the registered part (ISO/IEC 7816-5).
const AID_MIN: usize = 5;

/// What a logical channel stands on.
#[derive(Clone, Debug)]
struct Channel {
    directory: Directory,
    /// Whether the USIM has been selected on it; `7FFF` means the USIM then.
    usim: bool,
    file: Option<File>,
    /// Waits for GET RESPONSE.
    waiting: Vec<u8>,
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
        let free = self.channels.iter().position(Option::is_none)?;
        *self.channels.get_mut(free)? = Some(Channel::START);
        u8::try_from(free).ok()
    }

    /// Whether a channel is there.
    pub(super) fn is_open(&self, number: u8) -> bool {
        self.channels.get(usize::from(number)).is_some_and(Option::is_some)
    }

    fn close_channel(&mut self, number: u8) -> bool {
        let slot = self.channels.get_mut(usize::from(number));
        slot.is_some_and(|slot| slot.take().is_some())
    }

    fn select(&mut self, apdu: &Apdu<'_>, number: u8) -> Outcome {
        let wants_parameters = match apdu.p2 {
            0x00 | 0x04 => true,
            0x0c => false,
            // The next application of that name: there is one only.
            0x02 | 0x06 | 0x0e => return Err(Sw::FILE_NOT_FOUND),
            _ => return Err(Sw::WRONG_P1_P2),
        };
        let Some(channel) = self.channel(number) else {
            return Err(Sw::CHANNEL_NOT_SUPPORTED);
        };
        let mut next = channel.clone();
        match apdu.p1 {
            0x00 => next.step(identifier(apdu.data)?)?,
            0x04 => next.application(apdu.data)?,
            0x08 => {
                next.step(MF)?;
                if apdu.data.is_empty() {
                    return Err(Sw::WRONG_LENGTH);
                }
                for id in apdu.data.chunks(2) {
                    next.step(identifier(id)?)?;
                }
            }
            _ => return Err(Sw::WRONG_P1_P2),
        }
        let (directory, file) = (next.directory, next.file);
        *channel = next;
        if !wants_parameters {
            return Ok(Answer::Done);
        }
        Ok(Answer::Fetch(match file {
            Some(file) => file.parameters(self.contents.of(file).len()),
            None => directory.parameters(),
        }))
    }

    fn read_record(&mut self, apdu: &Apdu<'_>, number: u8) -> Outcome {
        // Absolute: P1 is the record's number.
        if apdu.p2 & 7 != 4 {
            return Err(Sw::WRONG_P1_P2);
        }
        let Some(channel) = self.channel(number) else {
            return Err(Sw::CHANNEL_NOT_SUPPORTED);
        };
        match apdu.p2 >> 3 {
            0 => {}
            DIR_SFI if channel.directory == Directory::Mf => channel.file = Some(File::Dir),
            _ => return Err(Sw::FILE_NOT_FOUND),
        }
        let file = channel.file.ok_or(Sw::NO_FILE_SELECTED)?;
        let record = self.record(file, apdu.p1)?;
        match apdu.expected {
            Some(length) if length == record.len() => Ok(Answer::Now(record)),
            _ => Err(Sw::right_length(record.len())),
        }
    }

    fn record(&self, file: File, number: u8) -> Result<Vec<u8>, Sw> {
        match (file.has_records(), number) {
            (false, _) => Err(Sw::NO_RECORD_FILE),
            (true, 1) => Ok(self.contents.of(file)),
            (true, _) => Err(Sw::RECORD_NOT_FOUND),
        }
    }

    fn read_binary(&mut self, apdu: &Apdu<'_>, number: u8) -> Outcome {
        let channel = self.channel(number).ok_or(Sw::CHANNEL_NOT_SUPPORTED)?;
        let file = channel.file.ok_or(Sw::NO_FILE_SELECTED)?;
        self.bytes(file, apdu.p1, apdu.p2, apdu.expected).map(Answer::Now)
    }

    fn bytes(&self, file: File, p1: u8, p2: u8, expected: Option<usize>) -> Result<Vec<u8>, Sw> {
        if file.has_records() {
            return Err(Sw::NO_RECORD_FILE);
        }
        let content = self.contents.of(file);
        let offset = usize::from(u16::from_be_bytes([p1, p2]));
        let rest = content.get(offset..).filter(|rest| !rest.is_empty());
        let rest = rest.ok_or(Sw::WRONG_OFFSET)?;
        expected
            .and_then(|length| rest.get(..length))
            .map(<[u8]>::to_vec)
            .ok_or(Sw::right_length(rest.len()))
    }

    /// A file as `AT+CRSM` reads it, which leaves all channels as they are: the MF's files and the USIM's.
    pub(super) fn restricted(&self, instruction: u8, id: u16, p1: u8, p2: u8, p3: u8) -> (Vec<u8>, Sw) {
        let found = File::find(Directory::Mf, id).or_else(|| File::find(Directory::Usim, id));
        let length = if p3 == 0 { 256 } else { usize::from(p3) };
        let read = |file: File| match instruction {
            0xb0 => self.bytes(file, p1, p2, Some(length)),
            0xb2 if p2 != 4 => Err(Sw::WRONG_P1_P2),
            0xb2 => {
                let record = self.record(file, p1)?;
                if record.len() == length {
                    Ok(record)
                } else {
                    Err(Sw::right_length(record.len()))
                }
            }
            // What follows a SELECT: the modem has asked with the right length.
            0xc0 => Ok(file.parameters(self.contents.of(file).len())),
            _ => Err(Sw::WRONG_INSTRUCTION),
        };
        match found.ok_or(Sw::FILE_NOT_FOUND).and_then(read) {
            Ok(data) => (data, Sw::OK),
            Err(sw) => (Vec::new(), sw),
        }
    }

    /// EF_DIR's record, for `AT+CUAD`.
    pub(super) fn applications(&self) -> Vec<u8> {
        self.contents.of(File::Dir)
    }

    /// TS 31.102 section 7.1.2.
    fn authenticate(&mut self, apdu: &Apdu<'_>, number: u8) -> Outcome {
        if (apdu.p1, apdu.p2) != (0, 0x81) {
            return Err(Sw::WRONG_P1_P2);
        }
        let current = self.channel(number).map(|channel| channel.directory);
        match self.unselected {
            _ if current == Some(Directory::Usim) => {}
            Unselected::Answer => {}
            Unselected::Conditions => return Err(Sw::CONDITIONS),
            Unselected::Security => return Err(Sw::SECURITY_STATUS),
        }
        let data: &[u8; CHALLENGE] = apdu.data.try_into().map_err(|_| Sw::WRONG_LENGTH)?;
        let (first, second) = data.split_at(CHALLENGE / 2);
        let (rand, autn): (Rand, Autn) = match (first, second) {
            ([16, rand @ ..], [16, autn @ ..]) => (
                rand.try_into().map_err(|_| Sw::WRONG_DATA)?,
                autn.try_into().map_err(|_| Sw::WRONG_DATA)?,
            ),
            _ => return Err(Sw::WRONG_DATA),
        };
        if self.deaf {
            return Err(Sw::INCORRECT_MAC);
        }
        let (sqn, agreed) = self.secrets.meet(&rand, &autn).map_err(|_| Sw::INCORRECT_MAC)?;
        Ok(Answer::Fetch(if self.window.accept(sqn) {
            success(&agreed, self.with_kc)
        } else {
            let auts = self.secrets.auts(&rand, self.window.sqn_ms());
            [&[0xdc, 14][..], &auts].concat()
        }))
    }
}

/// DB, then RES, CK, IK and perhaps Kc, each with its length.
fn success(agreed: &Agreed, with_kc: bool) -> Vec<u8> {
    let mut data = vec![0xdb, 8];
    data.extend(agreed.res);
    data.push(16);
    data.extend(agreed.ck.iter());
    data.push(16);
    data.extend(agreed.ik.iter());
    if with_kc {
        data.push(8);
        data.extend(agreed.kc().iter());
    }
    data
}

fn identifier(data: &[u8]) -> Result<u16, Sw> {
    let bytes = data.try_into().map_err(|_| Sw::WRONG_LENGTH)?;
    Ok(u16::from_be_bytes(bytes))
}

impl Channel {
    /// Goes to a file of the current directory, to the MF, or to the active application.
    fn step(&mut self, id: u16) -> Result<(), Sw> {
        self.file = None;
        match id {
            MF => self.directory = Directory::Mf,
            ADF if self.usim => self.directory = Directory::Usim,
            _ => self.file = Some(File::find(self.directory, id).ok_or(Sw::FILE_NOT_FOUND)?),
        }
        Ok(())
    }

    fn application(&mut self, name: &[u8]) -> Result<(), Sw> {
        if !(AID_MIN..=files::AID.len()).contains(&name.len()) {
            return Err(Sw::WRONG_LENGTH);
        }
        if !files::AID.starts_with(name) {
            return Err(Sw::FILE_NOT_FOUND);
        }
        self.directory = Directory::Usim;
        self.usim = true;
        self.file = None;
        Ok(())
    }
}
