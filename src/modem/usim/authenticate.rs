//! AUTHENTICATE in the 3G context (TS 31.102 section 7.1): the command's bytes, and the answer's. No I/O.
//!
//! ```text
//!   00 88 00 81 22 | 10 RAND | 10 AUTN | [00]        39 bytes, 40 with Le
//!   DB | n RES | 10 CK | 10 IK | [08 Kc]             genuine and fresh; n is 4 to 16
//!   DC | 0E AUTS                                     genuine, not fresh
//! ```

use super::apdu::{self, Bytes};
use super::{AkaError, Answer, Challenge, Keys};

/// CLA, INS, P1, P2 (3G context), Lc: two values of 16 bytes, each behind its length.
const HEADER: [u8; 5] = [0x00, 0x88, 0x00, 0x81, 0x22];
/// Length of RAND, AUTN, CK and IK, in bytes.
const LONG: u8 = 16;
/// Length of Kc, in bytes.
const KC: usize = 8;
/// Tag of a successful authentication.
const SUCCESS: u8 = 0xDB;
/// Tag of a sequence number that is not fresh.
const RESYNC: u8 = 0xDC;
/// Length of AUTS, in bytes.
const AUTS: u8 = 14;
/// RES has between 32 and 128 bits (TS 33.102 section 6.3.7).
const RES: std::ops::RangeInclusive<usize> = 4..=16;

/// "Authentication error, incorrect MAC" (TS 31.102 section 7.3.1).
const INCORRECT_MAC: u16 = 0x9862;
/// Wrong length, without the right one (TS 102 221 section 10.2.1.5).
pub const WRONG_LENGTH: u16 = 0x6700;

/// The command. With Le it is complete; but there is firmware that takes it only without (SORACOM's Java client tries both).
#[must_use]
pub fn command(challenge: &Challenge, with_le: bool) -> Bytes {
    let mut bytes = HEADER.to_vec();
    for value in [&challenge.rand, &challenge.autn] {
        bytes.push(LONG);
        bytes.extend_from_slice(value);
    }
    if with_le {
        bytes.push(0);
    }
    bytes.into()
}

/// What the card has answered.
///
/// # Errors
/// [`AkaError::Mac`], [`AkaError::Status`] or [`AkaError::Nonsense`].
pub fn answer(data: &[u8], sw: u16) -> Result<Answer, AkaError> {
    if sw == INCORRECT_MAC {
        return Err(AkaError::Mac);
    }
    if !apdu::is_good(sw) {
        return Err(AkaError::Status {
            what: "AUTHENTICATE",
            sw,
        });
    }
    let length = data.len();
    parse(data).ok_or_else(|| AkaError::Nonsense(format!("the {length} bytes are no answer to AUTHENTICATE")))
}

fn parse(data: &[u8]) -> Option<Answer> {
    match data.split_first()? {
        (&SUCCESS, mut rest) => {
            let res = value(&mut rest).filter(|res| RES.contains(&res.len()))?;
            let ck = value(&mut rest)?.try_into().ok()?;
            let ik = value(&mut rest)?.try_into().ok()?;
            let good = rest.is_empty() || value(&mut rest).is_some_and(|kc| kc.len() == KC) && rest.is_empty();
            good.then(|| {
                Answer::Keys(Keys {
                    res: res.to_vec(),
                    ck,
                    ik,
                })
            })
        }
        (&RESYNC, [AUTS, auts @ ..]) => Some(Answer::Resync {
            auts: auts.try_into().ok()?,
        }),
        _ => None,
    }
}

/// A value behind its length.
fn value<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first()?;
    let (value, behind) = behind.split_at_checked((*length).into())?;
    *rest = behind;
    Some(value)
}

#[cfg(test)]
#[path = "authenticate_tests.rs"]
mod tests;
