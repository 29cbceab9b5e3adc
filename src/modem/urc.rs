//! Unsolicited result codes: what the modem says without being asked.
//!
//! A line that arrives while a command is in flight may be its answer or a code that happened to come just then. [`sort`] decides,
//! knowing what the command [`Expect`]s:
//!
//! - A line that cannot be an answer (`RDY`, `+QIND: …`) is unsolicited.
//! - A line that cannot be a code is the answer.
//! - Where both look alike (`+CPIN: READY`, `+CFUN: 1`), it counts as the answer of the read in flight; if the command then fails, the
//!   dialogue hands such lines on as unsolicited after all.
//! - `+CREG`, `+CGREG`, `+CEREG`: the read form begins with `<n>`, the unsolicited form does not. It is the read form if a read is in
//!   flight and there is a second field that is not quoted (the rule of Zephyr's modem_cellular driver): `+CEREG: 2,1` and
//!   `+CEREG: 2,5,"1E2F",…` against `+CEREG: 5` and `+CEREG: 5,"1E2F",…`.

use crate::identity::redact_digits;

use super::fields::Fields;
use super::registration::{Domain, Registration};

/// What an information line of a command looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No information line, only a result code.
    Nothing,
    /// Lines with this prefix, for example `+CPIN:`.
    Prefix(&'static str),
    /// Bare text (`AT+CIMI`), possibly behind this prefix (`+CGSN:`).
    Bare(&'static str),
    /// The read form of a registration.
    Registration(Domain),
}

/// One unsolicited code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Urc {
    /// `RDY` or `APP RDY`: the modem has just booted.
    Ready,
    /// `POWERED DOWN` or `NORMAL POWER DOWN`.
    PoweredDown,
    /// `+CFUN: n`.
    Functionality(String),
    /// `+CPIN: …`: `READY`, `NOT READY`, `SIM PIN`, `NOT INSERTED`.
    Sim(String),
    /// `+QUSIM: n`: the card's applications are readable.
    Usim(String),
    /// `+QSIMSTAT: <enabled>,<inserted>`.
    SimStatus(String),
    /// `+QIND: …`: `SMS DONE`, `PB DONE`, `"act","LTE"`.
    Indication(String),
    /// A change of registration.
    Registration(Domain, Registration),
    /// `+CGEV: …`, for example `NW DETACH`.
    PacketEvent(String),
    /// `+CTZE: …` or `+CTZV: …`.
    TimeZone(String),
    /// `+CMTI: …`, `+CMT: …` or `+CDSI: …`: a short message.
    Sms(String),
    /// `RING` or `+CRING: …`.
    Ring,
    /// Something else, as sent but for identities, which are hidden.
    Other(String),
}

impl Urc {
    /// The code that this line certainly is, whatever command is in flight; `None` for a line nobody knows.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        match line {
            "RDY" | "APP RDY" => return Some(Self::Ready),
            "POWERED DOWN" | "NORMAL POWER DOWN" => return Some(Self::PoweredDown),
            "RING" => return Some(Self::Ring),
            _ => {}
        }
        let (name, rest) = line.split_once(':')?;
        let rest = rest.trim();
        let owned = || rest.to_owned();
        Some(match name {
            "+CFUN" => Self::Functionality(owned()),
            "+CPIN" => Self::Sim(owned()),
            "+QUSIM" => Self::Usim(owned()),
            "+QSIMSTAT" => Self::SimStatus(owned()),
            "+QIND" => Self::Indication(owned()),
            "+CGEV" => Self::PacketEvent(owned()),
            "+CTZE" | "+CTZV" => Self::TimeZone(owned()),
            "+CMTI" | "+CMT" | "+CDSI" => Self::Sms(owned()),
            "+CRING" => Self::Ring,
            _ => {
                let domain = Domain::of_prefix(name)?;
                // A read form that nobody waits for says nothing certain: its first field is not the status.
                match Registration::from_urc(&Fields::of(rest)).filter(|_| !is_read_form(rest)) {
                    Some(registration) => Self::Registration(domain, registration),
                    None => Self::Other(line.to_owned()),
                }
            }
        })
    }
}

/// Where a line belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is part of the answer.
    Answer,
    /// It came by itself.
    Unsolicited(Urc),
}

/// Decides where a text line belongs; `expect` is `None` while no command is in flight.
#[must_use]
pub fn sort(line: &str, expect: Option<Expect>) -> Place {
    let is_answer = match expect {
        None | Some(Expect::Nothing) => false,
        Some(Expect::Prefix(prefix)) => line.starts_with(prefix),
        Some(Expect::Bare(prefix)) => {
            line.starts_with(prefix) || (!line.starts_with(['+', '^', '$']) && Urc::parse(line).is_none())
        }
        Some(Expect::Registration(domain)) => line
            .strip_prefix(domain.prefix())
            .and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(is_read_form),
    };
    if is_answer {
        Place::Answer
    } else {
        Place::Unsolicited(Urc::parse(line).unwrap_or_else(|| Urc::Other(discreet(line))))
    }
}

/// A line as the log may have it: subscribers' numbers are hidden, and whatever may be a card's answer, which may hold keys and may come too
/// late, garbled, or without its prefix.
#[must_use]
pub(super) fn discreet(line: &str) -> String {
    let from_card = FROM_CARD.iter().find(|name| line.contains(**name));
    let mut runs = line.split(|c: char| !c.is_ascii_hexdigit());
    match from_card {
        Some(name) => format!("{name}: ****"),
        None if runs.any(|run| run.len() >= DIGITS_MAX) => "****".to_owned(),
        None => redact_digits(line),
    }
}

/// Answers that hold what the card said.
const FROM_CARD: [&str; 3] = ["+CGLA", "+CSIM", "+CRSM"];
/// So many hexadecimal digits in a row are no number that a modem tells (an ICCID has 20), but AUTS has 28, and CK and IK have 32 each.
const DIGITS_MAX: usize = 24;

/// Zephyr's rule, for the text behind `+CEREG:`.
fn is_read_form(rest: &str) -> bool {
    rest.split(',')
        .nth(1)
        .is_some_and(|second| !second.trim_start().starts_with('"'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::modem::registration::RegStatus;

    const EPS: Option<Expect> = Some(Expect::Registration(Domain::Eps));

    #[test]
    fn the_boot_codes_are_known() {
        for (line, want) in [
            ("RDY", Urc::Ready),
            ("APP RDY", Urc::Ready),
            ("+CFUN: 1", Urc::Functionality("1".into())),
            ("+CPIN: NOT READY", Urc::Sim("NOT READY".into())),
            ("+QUSIM: 1", Urc::Usim("1".into())),
            ("+QIND: SMS DONE", Urc::Indication("SMS DONE".into())),
            ("POWERED DOWN", Urc::PoweredDown),
            ("+CGEV: NW DETACH", Urc::PacketEvent("NW DETACH".into())),
            (
                "+CTZE: \"+32\",0,\"2017/11/04,06:51:13\"",
                Urc::TimeZone("\"+32\",0,\"2017/11/04,06:51:13\"".into()),
            ),
            ("+CMTI: \"ME\",1", Urc::Sms("\"ME\",1".into())),
            ("+QSIMSTAT: 1,0", Urc::SimStatus("1,0".into())),
            ("RING", Urc::Ring),
        ] {
            assert_eq!(Urc::parse(line), Some(want.clone()), "{line}");
            assert_eq!(
                sort(line, Some(Expect::Bare("+CGSN:"))),
                Place::Unsolicited(want.clone())
            );
            assert_eq!(sort(line, None), Place::Unsolicited(want));
        }
        assert_eq!(Urc::parse("860000000000001"), None);
    }

    #[test]
    fn registration_reads_and_codes_are_told_apart() {
        for read in [
            "+CEREG: 0,1",
            "+CEREG: 2,1",
            "+CEREG: 2,5,\"1E2F\",\"2B3C4D5\",7",
            "+CEREG:0,5",
            "+CEREG:  0, 4",
        ] {
            assert_eq!(sort(read, EPS), Place::Answer, "{read}");
        }
        for (urc, status) in [
            ("+CEREG: 5", RegStatus::Roaming),
            ("+CEREG:  4", RegStatus::Unknown),
            ("+CEREG: 5,\"1E2F\",\"2B3C4D5\",7", RegStatus::Roaming),
        ] {
            for expect in [
                EPS,
                None,
                Some(Expect::Nothing),
                Some(Expect::Registration(Domain::Packet)),
            ] {
                let Place::Unsolicited(Urc::Registration(Domain::Eps, r)) = sort(urc, expect) else {
                    panic!("{urc} {expect:?}")
                };
                assert_eq!(r.status, status);
            }
        }
        assert_eq!(
            sort("+CREG: 0,1", EPS),
            Place::Unsolicited(Urc::Other("+CREG: 0,1".into())),
            "a read form that nobody asked for"
        );
        let late = "+CEREG: 2,5,\"1E2F\",\"2B3C4D5\",7";
        assert_eq!(sort(late, None), Place::Unsolicited(Urc::Other(late.into())));
    }

    #[test]
    fn what_may_be_keys_is_hidden_and_numbers_are_redacted() {
        for (line, shown) in [
            ("+CGLA: 4,\"6135\"", "+CGLA: ****"),
            ("x+CSIM: 110,\"DB08", "+CSIM: ****"),
            ("DB08A54211D5E3BA50BF10B40BA9A3C58B2A05", "****"),
            ("+QIND: \"act\",\"LTE\"", "+QIND: \"act\",\"LTE\""),
        ] {
            assert_eq!(discreet(line), shown);
        }
        let iccid = discreet("+QCCID: 8981100000000000001F");
        assert!(iccid.starts_with("+QCCID: 89") && !iccid.contains("000000"), "{iccid}");
    }

    #[test]
    fn look_alikes_belong_to_the_read_in_flight() {
        assert_eq!(sort("+CPIN: READY", Some(Expect::Prefix("+CPIN:"))), Place::Answer);
        assert_eq!(
            sort("+CPIN: READY", Some(Expect::Nothing)),
            Place::Unsolicited(Urc::Sim("READY".into()))
        );
        assert_eq!(sort("295050000000001", Some(Expect::Bare("+CIMI:"))), Place::Answer);
        assert_eq!(
            sort("+CIMI: 295050000000001", Some(Expect::Bare("+CIMI:"))),
            Place::Answer
        );
    }
}
