//! Selecting and reading files.

use super::apdu::{Apdu, Sw};
use super::files::{ADF, AID, DIR_SFI, Directory, File, MF};
use super::{Answer, Channel, Outcome, Usim};

/// Shortest application identifier that selects anything: the registered part (ISO/IEC 7816-5).
const AID_MIN: usize = 5;

impl Usim {
    pub(super) fn select(&mut self, apdu: &Apdu<'_>, number: u8) -> Outcome {
        let wants_parameters = match apdu.p2 {
            0x00 | 0x04 => true,
            0x0c => false,
            // The next application of that name: there is one only.
            0x02 | 0x06 | 0x0e => return Err(Sw::FILE_NOT_FOUND),
            _ => return Err(Sw::WRONG_P1_P2),
        };
        if apdu.p1 == 0x04 && self.whole_name && apdu.data != AID {
            return Err(Sw::FILE_NOT_FOUND);
        }
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

    pub(super) fn read_record(&mut self, apdu: &Apdu<'_>, number: u8) -> Outcome {
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

    pub(super) fn read_binary(&mut self, apdu: &Apdu<'_>, number: u8) -> Outcome {
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
    pub(in crate::bench::dongle) fn restricted(
        &self,
        instruction: u8,
        id: u16,
        p1: u8,
        p2: u8,
        p3: u8,
    ) -> (Vec<u8>, Sw) {
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
        if !(AID_MIN..=AID.len()).contains(&name.len()) {
            return Err(Sw::WRONG_LENGTH);
        }
        if !AID.starts_with(name) {
            return Err(Sw::FILE_NOT_FOUND);
        }
        self.directory = Directory::Usim;
        self.usim = true;
        self.file = None;
        Ok(())
    }
}
