//! Commands for the card, one at a time: the bytes of `AT+CGLA` and `AT+CSIM`, and what a status word asks the host to do next. No I/O.
//!
//! ```text
//!   command ──▶ … 61xx ──▶ GET RESPONSE xx ──▶ data … 9000     xx bytes wait on the card (00: 256)
//!           ──▶ … 6Cxx ──▶ the same command with Le = xx       the length was wrong, nothing was done
//!           ──▶ data … 9000                                    the modem's firmware fetched by itself, or there was nothing to fetch
//!           ──▶ … 91xx                                         as 9000; a SIM toolkit command waits, which is the modem's affair
//!           ──▶ … anything else                                the card's refusal
//! ```
//!
//! Section numbers are those of ETSI TS 102 221. A card that goes on asking ends at [`ROUNDS_MAX`].

use zeroize::Zeroizing;

use super::AkaError;

/// Bytes from the card; wiped when dropped, for they may be keys.
pub type Bytes = Zeroizing<Vec<u8>>;

/// Status word of success (section 10.2.1.1).
pub const OK: u16 = 0x9000;
/// SW1 of success with a SIM toolkit command waiting (section 10.2.1.1).
const OK_TOOLKIT: u8 = 0x91;
/// SW1: data wait (section 10.2.1.1).
const WAITING: u8 = 0x61;
/// SW1: wrong Le, SW2 has the right one (section 10.2.1.5).
const OTHER_LENGTH: u8 = 0x6C;
/// Instruction of GET RESPONSE (section 12.1.1).
const GET_RESPONSE: u8 = 0xC0;

/// Class, instruction, P1, P2.
const HEADER: usize = 4;
/// Data of one answer at most, in bytes (short Le), and its status word.
const ANSWER_MAX: usize = 256 + 2;
/// Commands that the card may ask for after the first one; a long answer takes one per 256 bytes, a wrong length one.
pub const ROUNDS_MAX: u8 = 6;

/// Reads what follows `+CGLA:` or `+CSIM:`: a length in hexadecimal digits, and as many digits, in quotes or not.
///
/// # Errors
/// [`AkaError::Nonsense`], which repeats none of the digits.
pub fn decode(text: &str) -> Result<Bytes, AkaError> {
    let nonsense = |why: String| AkaError::Nonsense(why);
    let (length, digits) = text
        .split_once(',')
        .ok_or_else(|| nonsense("there is no comma between length and data".into()))?;
    let digits = digits.trim().trim_matches('"');
    let length: usize = length
        .trim()
        .parse()
        .map_err(|_| nonsense("the length of the data is no number".into()))?;
    if length != digits.len() {
        let got = digits.len();
        return Err(nonsense(format!("{length} digits are announced and {got} came")));
    }
    if length % 2 != 0 || !(2 * 2..=2 * ANSWER_MAX).contains(&length) {
        return Err(nonsense(format!("{length} digits are no answer of a card")));
    }
    // Of one size from the start: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length / 2));
    for pair in digits.as_bytes().chunks_exact(2) {
        let mut byte = 0;
        for digit in pair {
            let value = char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
            byte =
                byte << 4 | value.ok_or_else(|| nonsense("there is something else than hexadecimal digits".into()))?;
        }
        bytes.push(byte);
    }
    Ok(bytes)
}

/// Whether a status word means that all is well.
#[must_use]
pub fn is_good(sw: u16) -> bool {
    let [sw1, _] = sw.to_be_bytes();
    sw == OK || sw1 == OK_TOOLKIT
}

/// What to do after an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this.
    Send(Bytes),
    /// The command is over.
    Done {
        /// All data that came.
        data: Bytes,
        /// The last status word: neither 61xx nor 6Cxx.
        sw: u16,
    },
}

/// One command on its way through the rounds above.
#[derive(Debug)]
pub struct Exchange {
    /// What was sent last.
    sent: Bytes,
    data: Bytes,
    rounds: u8,
}

impl Exchange {
    /// Begins with a command, which the caller sends.
    #[must_use]
    pub fn new(command: &[u8]) -> Self {
        Self {
            sent: Zeroizing::new(command.to_vec()),
            data: Zeroizing::new(Vec::with_capacity(ANSWER_MAX)),
            rounds: 0,
        }
    }

    /// The command to send now.
    #[must_use]
    pub fn command(&self) -> &[u8] {
        &self.sent
    }

    /// The card's answer to it.
    ///
    /// # Errors
    /// [`AkaError::Nonsense`] when it has no status word or the card never comes to an end.
    pub fn heard(&mut self, answer: &[u8]) -> Result<Next, AkaError> {
        let Some((data, [sw1, sw2])) = answer.split_last_chunk::<2>().filter(|_| answer.len() <= ANSWER_MAX) else {
            let length = answer.len();
            return Err(AkaError::Nonsense(format!("{length} bytes are no answer of a card")));
        };
        let next = match *sw1 {
            WAITING => {
                let class = self.sent.first().copied().unwrap_or_default();
                self.data.extend_from_slice(data);
                vec![class, GET_RESPONSE, 0, 0, *sw2]
            }
            OTHER_LENGTH => with_length(&self.sent, *sw2),
            _ => {
                self.data.extend_from_slice(data);
                return Ok(Next::Done {
                    data: std::mem::take(&mut self.data),
                    sw: u16::from_be_bytes([*sw1, *sw2]),
                });
            }
        };
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err(AkaError::Nonsense(format!(
                "the card asks for a {}th command to end the first one",
                self.rounds
            )));
        }
        self.sent = Zeroizing::new(next);
        Ok(Next::Send(self.sent.clone()))
    }
}

/// The same command with another Le: header (and Le), or header, Lc, data (and Le).
fn with_length(command: &[u8], length: u8) -> Vec<u8> {
    let without = match command.get(HEADER) {
        Some(lc) if command.len() > HEADER + 1 => HEADER + 1 + usize::from(*lc),
        _ => HEADER,
    };
    let mut command = command.get(..without).unwrap_or(command).to_vec();
    command.push(length);
    command
}

#[cfg(test)]
#[path = "apdu_tests.rs"]
mod tests;
