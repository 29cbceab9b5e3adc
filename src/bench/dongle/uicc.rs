//! The way to the card for a host that speaks APDUs: `AT+CSIM` on the basic channel, `AT+CCHO`, `AT+CGLA` and `AT+CCHC` on logical ones,
//! `AT+CRSM` for files, `AT+CUAD` for the list of applications (3GPP TS 27.007 sections 8.17, 8.18 and 8.43 to 8.46).
//!
//! Commands and answers are pairs of hexadecimal digits after their number. A card that is away, busy or locked is told as in `sim`. A length
//! that does not fit its digits is CME 50, a channel that is not open CME 21; both are choices, as Quectel's manual names no codes here.
//! `AT+CCHO` for which there is no channel or no application is plain `ERROR`, as an EC20 was seen to answer.

use super::command::{Arg, Extended, Kind, texts};
use super::reply::Reply;
use super::scenario::{Ccho, Cgla, Csim, Cuad, GetResponse, Le, UsimPart};
use super::state::Modem;
use super::usim::Usim;
use super::usim::apdu::Sw;
use crate::digest::{hex, unhex};

const NOT_ALLOWED: u16 = 3;
const INVALID_INDEX: u16 = 21;
const INCORRECT_PARAMETERS: u16 = 50;
/// A command APDU has at least this many bytes.
const HEADER: usize = 4;
/// The longest command APDU with short lengths, in bytes: header, Lc, 255 bytes, Le.
const COMMAND_MAX: usize = 261;
/// How the answer to an AUTHENTICATE that went well begins, after its length (TS 31.102 section 7.1.2.1).
const SUCCESS: &str = ",\"DB";
/// Instruction of AUTHENTICATE.
const AUTHENTICATE: u8 = 0x88;
/// Modem and card speak of 61xx with this high byte.
const WAITING: u16 = 0x6100;

/// Answers the card's APDU commands; `None` for all others.
pub(super) fn answer(modem: &mut Modem, command: &Extended) -> Option<Reply> {
    let name = command.name.as_str();
    if !matches!(name, "CSIM" | "CCHO" | "CGLA" | "CCHC" | "CUAD" | "CRSM") {
        return None;
    }
    let part = modem.config.scenario.usim;
    if command.kind == Kind::Test {
        let absent = name == "CSIM" && part.csim == Csim::Absent;
        return Some(if absent { Reply::error() } else { Reply::ok() });
    }
    if let Err(code) = modem.sim.ready(modem.sim_powered()) {
        return Some(Reply::cme(code));
    }
    let usim = &mut modem.sim.usim;
    Some(match (name, &command.kind) {
        ("CSIM", Kind::Set(_)) if part.csim == Csim::Refused => Reply::cme(NOT_ALLOWED),
        ("CSIM", _) if part.csim == Csim::Absent => Reply::error(),
        ("CSIM", Kind::Set(args)) => csim(usim, args, &part).into(),
        ("CCHO", Kind::Set(_)) if part.ccho == Ccho::Error => Reply::error(),
        ("CCHO", Kind::Set(args)) => match open(usim, args) {
            Some(channel) if part.ccho == Ccho::Bare => Reply::line(channel.to_string()),
            Some(channel) => Reply::line(format!("+CCHO: {channel}")),
            None => Reply::error(),
        },
        ("CGLA", Kind::Set(_)) if part.cgla == Cgla::Refused => Reply::cme(NOT_ALLOWED),
        ("CGLA", Kind::Set(args)) => cgla(usim, args, &part).into(),
        ("CCHC", Kind::Set(args)) => cchc(usim, args).into(),
        ("CUAD", Kind::Run) if part.cuad == Cuad::Ok => {
            let list = hex(&usim.applications());
            Reply::line(format!("+CUAD: {},\"{list}\"", list.len()))
        }
        ("CRSM", Kind::Set(args)) => crsm(usim, args).into(),
        _ => Reply::error(),
    })
}

/// A length in hexadecimal digits and as many digits.
fn command(length: &str, digits: &str) -> Option<Vec<u8>> {
    let right = length.parse() == Ok(digits.len());
    let bytes = right.then(|| unhex(digits)).flatten()?;
    (HEADER..=COMMAND_MAX).contains(&bytes.len()).then_some(bytes)
}

/// Sends a command to the card; the modem fetches what waits if it is of that kind. `None` for a command that the modem will not have.
fn exchange(usim: &mut Usim, bytes: &[u8], part: &UsimPart) -> Option<String> {
    if let [_, AUTHENTICATE, _, _, length, rest @ ..] = bytes {
        if rest.len() > usize::from(*length) {
            match part.le {
                Le::Any => {}
                Le::Error => return None,
                Le::WrongLength => return Some(Sw::WRONG_LENGTH.to_string()),
            }
        }
    }
    let (mut data, mut sw) = usim.transmit(bytes);
    if part.get_response == GetResponse::Fetched && sw.0 & 0xff00 == WAITING {
        let class = bytes.first().copied().unwrap_or_default();
        let [_, length] = sw.0.to_be_bytes();
        (data, sw) = usim.transmit(&[class, 0xc0, 0, 0, length]);
    }
    if part.toolkit && sw == Sw::OK {
        sw = Sw::OK_TOOLKIT;
    }
    Some(format!("{}{sw}", hex(&data)))
}

fn csim(usim: &mut Usim, args: &[Arg], part: &UsimPart) -> Result<Reply, u16> {
    let bytes = match texts(args).as_slice() {
        [length, digits] => command(length, digits).ok_or(INCORRECT_PARAMETERS)?,
        _ => return Err(INCORRECT_PARAMETERS),
    };
    Ok(match exchange(usim, &bytes, part) {
        Some(answer) => Reply::line(format!("+CSIM: {},\"{answer}\"", answer.len())),
        None => Reply::error(),
    })
}

/// Opens a channel and selects an application on it; closes it again when there is no such application.
fn open(usim: &mut Usim, args: &[Arg]) -> Option<u8> {
    let name = match texts(args).as_slice() {
        [digits] => unhex(digits)?,
        _ => return None,
    };
    let (opened, sw) = usim.transmit(&[0x00, 0x70, 0x00, 0x00, 0x01]);
    let [channel] = opened[..] else {
        return None;
    };
    let length = u8::try_from(name.len()).ok();
    let selected = length.map_or(Sw::WRONG_LENGTH, |length| {
        let select = [&[channel, 0xa4, 0x04, 0x00, length][..], &name].concat();
        usim.transmit(&select).1
    });
    let good = sw == Sw::OK && (selected == Sw::OK || selected.0 & 0xff00 == WAITING);
    if !good {
        usim.transmit(&[0x00, 0x70, 0x80, channel]);
        return None;
    }
    Some(channel)
}

/// The modem writes the channel into the class byte, whatever the host has put there.
fn cgla(usim: &mut Usim, args: &[Arg], part: &UsimPart) -> Result<Reply, u16> {
    let (session, mut bytes) = match texts(args).as_slice() {
        [session, length, digits] => (*session, command(length, digits).ok_or(INCORRECT_PARAMETERS)?),
        _ => return Err(INCORRECT_PARAMETERS),
    };
    let channel = opened(usim, session)?;
    if let Some(class) = bytes.first_mut() {
        *class = *class & !3 | channel;
    }
    Ok(match exchange(usim, &bytes, part) {
        Some(answer) => Reply::line(format!("+CGLA: {},\"{answer}\"", answer.len())),
        None => Reply::error(),
    })
}

fn cchc(usim: &mut Usim, args: &[Arg]) -> Result<Reply, u16> {
    let channel = match texts(args).as_slice() {
        [session] => opened(usim, session)?,
        _ => return Err(INCORRECT_PARAMETERS),
    };
    match usim.transmit(&[0x00, 0x70, 0x80, channel]).1 {
        Sw::OK => Ok(Reply::ok()),
        _ => Err(INVALID_INDEX),
    }
}

/// The channel behind a session id; the basic one is nobody's session.
fn opened(usim: &Usim, session: &str) -> Result<u8, u16> {
    let channel = session.parse().map_err(|_| INCORRECT_PARAMETERS)?;
    if channel != 0 && usim.is_open(channel) {
        Ok(channel)
    } else {
        Err(INVALID_INDEX)
    }
}

/// `AT+CRSM=<instruction>,<file>[,<P1>,<P2>,<P3>]`, all in decimal.
fn crsm(usim: &Usim, args: &[Arg]) -> Result<Reply, u16> {
    let number = |text: &str| text.parse::<u16>().ok();
    let byte = |text: &str| text.parse::<u8>().ok();
    let read = || match texts(args).as_slice() {
        [instruction, file] => Some((byte(instruction)?, number(file)?, [0; 3])),
        [instruction, file, p1, p2, p3] => Some((byte(instruction)?, number(file)?, [byte(p1)?, byte(p2)?, byte(p3)?])),
        _ => None,
    };
    let (instruction, file, [p1, p2, p3]) = read().ok_or(INCORRECT_PARAMETERS)?;
    let (data, sw) = usim.restricted(instruction, file, p1, p2, p3);
    let [sw1, sw2] = sw.0.to_be_bytes();
    Ok(Reply::line(if data.is_empty() {
        format!("+CRSM: {sw1},{sw2}")
    } else {
        format!("+CRSM: {sw1},{sw2},\"{}\"", hex(&data))
    }))
}

/// An answer as the log may have it: without the RES, CK and IK that AUTHENTICATE gave.
pub(super) fn without_keys(answer: &str) -> String {
    let line = |line: &str| {
        let data = ["+CSIM: ", "+CGLA: "].iter().any(|name| line.starts_with(name));
        match line.split_once(SUCCESS).filter(|_| data) {
            Some((head, rest)) => {
                let end = if rest.ends_with('\r') { "\r" } else { "" };
                format!("{head}{SUCCESS} (RES, CK and IK are not logged)\"{end}")
            }
            None => line.to_owned(),
        }
    };
    answer.split('\n').map(line).collect::<Vec<_>>().join("\n")
}
