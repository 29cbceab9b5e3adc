//! The APN: which door to the packet network, and as whom.
//!
//! Quectel keeps APN, user, password and kind of authentication in `AT+QICSGP`; the modem writes them to its flash, so they are written
//! only when they differ.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::modem::fields::Fields;
use crate::modem::urc::Expect;

use super::{Command, ParseError};

/// The context of PPP and ECM on this modem.
pub const CONTEXT_ID: u8 = 1;

/// Longest APN (3GPP TS 23.003 section 9.1: 100 octets).
const APN_MAX: usize = 100;
/// Longest user name and password (Quectel's manual, `AT+QICSGP`: 127 bytes).
const SECRET_MAX: usize = 127;

/// How we prove who we are to the packet gateway (`<authentication>` of `AT+QICSGP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// 0.
    None,
    /// 1.
    Pap,
    /// 2.
    Chap,
    /// 3: PAP or CHAP, as the network likes.
    Both,
}

impl Auth {
    fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Pap => 1,
            Self::Chap => 2,
            Self::Both => 3,
        }
    }

    fn from_number(n: u8) -> Option<Self> {
        [Self::None, Self::Pap, Self::Chap, Self::Both]
            .into_iter()
            .find(|a| a.number() == n)
    }
}

/// An access point name with its credentials. The password is never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Apn {
    name: String,
    user: String,
    password: String,
    #[zeroize(skip)]
    auth: Auth,
}

/// Why something cannot be an APN, its user or its password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {what} must be 1 to {max} printable ASCII characters without '\"'")]
pub struct ApnError {
    what: &'static str,
    max: usize,
}

impl Apn {
    /// An APN.
    ///
    /// # Errors
    /// Empty or too long, or characters that an AT command cannot carry. User and password may be empty only with [`Auth::None`].
    pub fn new(name: &str, user: &str, password: &str, auth: Auth) -> Result<Self, ApnError> {
        let may_be_empty = auth == Auth::None;
        check("APN", name, APN_MAX, false)?;
        check("APN's user name", user, SECRET_MAX, may_be_empty)?;
        check("APN's password", password, SECRET_MAX, may_be_empty)?;
        Ok(Self {
            name: name.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            auth,
        })
    }

    /// The APN's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn check(what: &'static str, text: &str, max: usize, may_be_empty: bool) -> Result<(), ApnError> {
    let ok = (may_be_empty || !text.is_empty())
        && text.len() <= max
        && text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"');
    if ok { Ok(()) } else { Err(ApnError { what, max }) }
}

impl fmt::Debug for Apn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Apn({}, {}, ****, {:?})", self.name, self.user, self.auth)
    }
}

/// `AT+QICSGP=1`: what the modem has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadContext;

/// What the modem has; nothing of it has to be valid.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredContext {
    apn: String,
    user: String,
    password: String,
    auth: Option<Auth>,
}

impl StoredContext {
    /// The stored APN's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.apn
    }

    /// Whether it is this APN. APNs have no upper and lower case (3GPP TS 23.003 section 9.1).
    #[must_use]
    pub fn is(&self, apn: &Apn) -> bool {
        self.password == apn.password && self.is_but_for_password(apn)
    }

    /// As [`Self::is`], for firmware that does not tell the password.
    #[must_use]
    pub fn is_but_for_password(&self, apn: &Apn) -> bool {
        self.apn.eq_ignore_ascii_case(&apn.name) && self.user == apn.user && self.auth == Some(apn.auth)
    }
}

impl fmt::Debug for StoredContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredContext({}, {}, ****, {:?})", self.apn, self.user, self.auth)
    }
}

impl Command for ReadContext {
    type Answer = StoredContext;
    fn line(&self) -> String {
        format!("AT+QICSGP={CONTEXT_ID}")
    }
    fn expect(&self) -> Expect {
        Expect::Prefix("+QICSGP:")
    }
    fn parse(&self, lines: &[String]) -> Result<StoredContext, ParseError> {
        let f = Fields::behind("+QICSGP:", lines).ok_or(ParseError)?;
        let text = |i| f.raw(i).unwrap_or_default().to_owned();
        Ok(StoredContext {
            apn: text(1),
            user: text(2),
            password: text(3),
            auth: f.number(4).and_then(Auth::from_number),
        })
    }
    fn answer_is_secret(&self) -> bool {
        true
    }
}

/// `AT+QICSGP=1,1,"apn","user","password",auth`: an IPv4 context.
#[derive(Debug, Clone, Copy)]
pub struct WriteContext<'a>(pub &'a Apn);

impl Command for WriteContext<'_> {
    type Answer = ();
    fn line(&self) -> String {
        let Apn {
            name,
            user,
            password,
            auth,
        } = self.0;
        format!(
            "AT+QICSGP={CONTEXT_ID},1,\"{name}\",\"{user}\",\"{password}\",{}",
            auth.number()
        )
    }
    fn expect(&self) -> Expect {
        Expect::Nothing
    }
    fn parse(&self, _: &[String]) -> Result<(), ParseError> {
        Ok(())
    }
    fn shown(&self) -> String {
        format!(
            "AT+QICSGP={CONTEXT_ID},1,\"{}\",\"{}\",\"****\",{}",
            self.0.name,
            self.0.user,
            self.0.auth.number()
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn what_is_sent_and_what_is_shown() {
        let apn = Apn::new("soracom.io", "sora", "secret", Auth::Pap).unwrap();
        assert_eq!(
            WriteContext(&apn).line(),
            "AT+QICSGP=1,1,\"soracom.io\",\"sora\",\"secret\",1"
        );
        assert!(!WriteContext(&apn).shown().contains("secret") && !format!("{apn:?}").contains("secret"));
    }

    #[test]
    fn stored_contexts_compare() {
        let apn = Apn::new("soracom.io", "sora", "sora", Auth::Both).unwrap();
        let read = |line: &str| ReadContext.parse(&[line.to_owned()]).unwrap();
        assert!(read("+QICSGP: 1,\"SORACOM.io\",\"sora\",\"sora\",3").is(&apn));
        assert!(!read("+QICSGP: 1,\"soracom.io\",\"sora\",\"sora\",1").is(&apn));
        assert!(!read("+QICSGP: 1,\"\",\"\",\"\",0").is(&apn));
        let hidden = read("+QICSGP: 1,\"soracom.io\",\"sora\",\"\",3");
        assert!(!hidden.is(&apn) && hidden.is_but_for_password(&apn));
        assert!(!format!("{hidden:?}").contains("password"));
    }

    #[test]
    fn nothing_can_break_out_of_the_quotes() {
        for bad in ["", "a\"b", "a\rb", "ä", &"x".repeat(101)] {
            assert!(Apn::new(bad, "u", "p", Auth::Pap).is_err(), "{bad:?}");
        }
        assert!(Apn::new("a", "", "", Auth::Pap).is_err());
        assert!(Apn::new("a", "", "", Auth::None).is_ok());
    }
}
