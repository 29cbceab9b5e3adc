//! Who a device is: the numbers read from the modem, and the names built from them.
//!
//! Parsed once, at the modem (agent) or the subscriber list (gateway); every other room takes these types and never a raw string.
//! `Display` prints the number or name as the standard writes it; `Debug` hides the middle, because these identify a subscriber and
//! logs travel. A log line that must tell devices apart uses [`Imsi::redacted`] and its kin.
//!
//! Names are made from a [`NameTemplate`] with SORACOM Beam's placeholders `#{imsi}` and `#{imei}` (SORACOM Beam documentation,
//! "MQTT entry point"; `#{imei}` is accepted there too), plus `#{iccid}`, which SORACOM calls `#{simId}`. The client id is
//! `<client_authname>-<imei>`, as SORACOM's
//! Event Grid guide builds it.

use std::fmt;
use std::str::FromStr;

/// Why a string is not the identity it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The number has the wrong length.
    #[error("{what} must have {want} digits, this has {got}")]
    Length {
        /// IMSI, IMEI or ICCID.
        what: &'static str,
        /// How many digits the standard asks for.
        want: &'static str,
        /// How many characters came.
        got: usize,
    },
    /// Something that is not a digit.
    #[error("{what} must be digits only, character {position} is not")]
    NotDigits {
        /// IMSI, IMEI or ICCID.
        what: &'static str,
        /// Counted from 1.
        position: usize,
    },
    /// A name that no broker takes.
    #[error("the name {name:?} {problem}")]
    Name {
        /// The name in question.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn digits(what: &'static str, text: &str, min: usize, max: usize, want: &'static str) -> Result<(), IdentityError> {
    if let Some(position) = text.chars().position(|c| !c.is_ascii_digit()) {
        return Err(IdentityError::NotDigits {
            what,
            position: position + 1,
        });
    }
    if !(min..=max).contains(&text.len()) {
        return Err(IdentityError::Length {
            what,
            want,
            got: text.len(),
        });
    }
    Ok(())
}

/// Keeps the first `head` and the last two characters, stars between.
fn mask(text: &str, head: usize) -> String {
    let count = text.chars().count();
    text.chars()
        .enumerate()
        .map(|(i, c)| if i < head || i + 2 >= count { c } else { '*' })
        .collect()
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $what:literal, $min:literal, $max:literal, $want:literal, $head:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The digits, as the standard writes them.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The number with its middle hidden, for logs.
            #[must_use]
            pub fn redacted(&self) -> String {
                mask(&self.0, $head)
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;
            fn from_str(text: &str) -> Result<Self, IdentityError> {
                digits($what, text, $min, $max, $want)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.redacted())
            }
        }
    };
}

number!(
    /// International Mobile Subscriber Identity: mobile country code, network code, subscriber (3GPP TS 23.003 section 2.2: at most 15
    /// digits; country and network code alone are five or six).
    Imsi, "the IMSI", 6, 15, "6 to 15", 5
);
number!(
    /// International Mobile Equipment Identity (3GPP TS 23.003 section 6.2.1): 15 digits. The check digit is not verified, because
    /// 3GPP allows it to be sent as zero and the bench uses invented numbers.
    Imei, "the IMEI", 15, 15, "15", 8
);

/// Integrated Circuit Card Identifier (ITU-T E.118): 18 to 20 digits. Cards with 19 digits may be read with a padding `F`, which is
/// removed here.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Iccid(String);

impl Iccid {
    /// The digits, without padding.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number with its middle hidden, for logs.
    #[must_use]
    pub fn redacted(&self) -> String {
        mask(&self.0, 6)
    }
}

impl FromStr for Iccid {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let text = text.trim_end_matches(['F', 'f']);
        digits("the ICCID", text, 18, 20, "18 to 20")?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Iccid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Iccid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iccid({})", self.redacted())
    }
}

/// What a subscriber is known by; the values a [`NameTemplate`] is filled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// The SIM.
    pub imsi: Imsi,
    /// The modem, if known (a gateway may know only the SIM).
    pub imei: Option<Imei>,
    /// The card, if known.
    pub iccid: Option<Iccid>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Imsi,
    Imei,
    Iccid,
}

impl Piece {
    fn word(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Imsi => "imsi",
            Self::Imei => "imei",
            Self::Iccid => "iccid",
        }
    }
}

/// As many of a subscriber's numbers as are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbers {
    /// The SIM.
    pub imsi: Option<Imsi>,
    /// The modem.
    pub imei: Option<Imei>,
    /// The card.
    pub iccid: Option<Iccid>,
}

impl Numbers {
    /// With the number that `piece` stands for; `None` if the text is none, or another one is known.
    fn with(&self, piece: &Piece, text: &str) -> Option<Self> {
        fn put<T: FromStr + PartialEq>(slot: &mut Option<T>, text: &str) -> Option<()> {
            let number = text.parse().ok()?;
            match slot {
                Some(known) if *known != number => None,
                _ => {
                    *slot = Some(number);
                    Some(())
                }
            }
        }
        let mut out = self.clone();
        match piece {
            Piece::Text(_) => None,
            Piece::Imsi => put(&mut out.imsi, text),
            Piece::Imei => put(&mut out.imei, text),
            Piece::Iccid => put(&mut out.iccid, text),
        }?;
        Some(out)
    }
}

/// Longest number, an ICCID, in digits.
const NUMBER_MAX: usize = 20;

/// Longest numbers first; every split is tried, and there are few: numbers are short.
fn read(pieces: &[Piece], name: &str, known: &Numbers) -> Option<Numbers> {
    let Some((piece, pieces)) = pieces.split_first() else {
        return name.is_empty().then(|| known.clone());
    };
    if let Piece::Text(text) = piece {
        return read(pieces, name.strip_prefix(text.as_str())?, known);
    }
    let digits = name.bytes().take(NUMBER_MAX).take_while(u8::is_ascii_digit).count();
    (1..=digits).rev().find_map(|length| {
        let (number, rest) = name.split_at(length);
        read(pieces, rest, &known.with(piece, number)?)
    })
}

/// A name with placeholders: `myClient-#{imsi}`. The default is empty and fills to an empty name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameTemplate {
    source: String,
    pieces: Vec<Piece>,
}

/// Why a template cannot be read or filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder nobody knows.
    #[error("unknown placeholder #{{{0}}}; known are #{{imsi}}, #{{imei}} and #{{iccid}} (or #{{simId}}, the same)")]
    Unknown(String),
    /// `#{` without `}`.
    #[error("the placeholder at character {0} is never closed with '}}'")]
    Open(usize),
    /// The subscriber has no such number.
    #[error("the name needs #{{{0}}}, which is not known for this subscriber")]
    Missing(&'static str),
}

impl NameTemplate {
    /// What the user wrote.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The name for this subscriber.
    ///
    /// # Errors
    /// [`TemplateError::Missing`] when the template asks for a number that is not known.
    pub fn fill(&self, who: &Subscriber) -> Result<String, TemplateError> {
        self.fill_known(&Numbers {
            imsi: Some(who.imsi.clone()),
            imei: who.imei.clone(),
            iccid: who.iccid.clone(),
        })
    }

    /// The name for a subscriber of whom only some numbers are known.
    ///
    /// # Errors
    /// [`TemplateError::Missing`] when the template asks for a number that is not known.
    pub fn fill_known(&self, known: &Numbers) -> Result<String, TemplateError> {
        let mut out = String::new();
        for piece in &self.pieces {
            let number = match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Imsi => known.imsi.as_ref().map(Imsi::as_str),
                Piece::Imei => known.imei.as_ref().map(Imei::as_str),
                Piece::Iccid => known.iccid.as_ref().map(Iccid::as_str),
            };
            out.push_str(number.ok_or(TemplateError::Missing(piece.word()))?);
        }
        Ok(out)
    }

    /// The other way round: whose name this could be, given what is known already. `None` if it is nobody's.
    #[must_use]
    pub fn read(&self, name: &str, known: &Numbers) -> Option<Numbers> {
        read(&self.pieces, name, known)
    }

    /// Whether two subscribers get two names: true when any placeholder is used.
    #[must_use]
    pub fn is_individual(&self) -> bool {
        self.pieces.iter().any(|p| !matches!(p, Piece::Text(_)))
    }
}

impl FromStr for NameTemplate {
    type Err = TemplateError;
    fn from_str(source: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = source;
        while let Some(at) = rest.find("#{") {
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].to_owned()));
            }
            let offset = source.len() - rest.len() + at;
            let inner = &rest[at + 2..];
            let end = inner.find('}').ok_or(TemplateError::Open(offset + 1))?;
            pieces.push(match &inner[..end] {
                "imsi" => Piece::Imsi,
                "imei" => Piece::Imei,
                "iccid" | "simId" => Piece::Iccid,
                other => return Err(TemplateError::Unknown(other.to_owned())),
            });
            rest = &inner[end + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self {
            source: source.to_owned(),
            pieces,
        })
    }
}

/// The name a client proves with its certificate: Event Grid's "client authentication name", 1 to 128 UTF-8 characters
/// (Microsoft Learn, "Clients" of the Event Grid MQTT broker).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AuthName(String);

impl AuthName {
    /// Checks the name.
    ///
    /// # Errors
    /// Empty, over 128 characters, or with control characters.
    pub fn new(name: String) -> Result<Self, IdentityError> {
        check_name(&name)?;
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AuthName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AuthName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthName({})", redact_digits(&self.0))
    }
}

/// An MQTT client identifier that all three clouds take: 1 to 128 characters, no control characters, no `$` in front (AWS IoT Core
/// quotas; Event Grid takes 1 to 128), no `#`, `+` or `/` (they would break topics that contain it).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientId(String);

impl ClientId {
    /// `<client_authname>-<imei>`.
    ///
    /// # Errors
    /// As [`ClientId::new`].
    pub fn from_parts(name: &AuthName, imei: &Imei) -> Result<Self, IdentityError> {
        Self::new(format!("{name}-{imei}"))
    }

    /// A client id that a cloud has given (a device id, a thing name).
    ///
    /// # Errors
    /// Empty, too long, or with characters that a broker refuses.
    pub fn new(id: String) -> Result<Self, IdentityError> {
        check_name(&id)?;
        if id.starts_with('$') {
            return Err(IdentityError::Name {
                name: redact_digits(&id),
                problem: "starts with '$', which AWS IoT Core reserves",
            });
        }
        Ok(Self(id))
    }

    /// The id as sent in CONNECT.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id with long digit runs hidden, for logs.
    #[must_use]
    pub fn redacted(&self) -> String {
        redact_digits(&self.0)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({})", self.redacted())
    }
}

/// Most characters of a client id or authentication name.
const NAME_MAX: usize = 128;

fn check_name(name: &str) -> Result<(), IdentityError> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.chars().count() > NAME_MAX {
        "is longer than 128 characters"
    } else if name.chars().any(char::is_control) {
        "has control characters"
    } else if name.contains(['/', '+', '#']) {
        "has '/', '+' or '#', which topics and user names cannot carry"
    } else {
        return Ok(());
    };
    Err(IdentityError::Name {
        name: redact_digits(name),
        problem,
    })
}

/// Hides every run of twelve or more digits (an IMSI, IMEI or ICCID) but for its first five and last two: for log lines that quote names or answers.
#[must_use]
pub fn redact_digits(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_digit() {
            run.push(c);
            continue;
        }
        if run.len() >= 12 {
            out.push_str(&mask(&run, 5));
        } else {
            out.push_str(&run);
        }
        run.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Subscriber {
        Subscriber {
            imsi: "295012345678901".parse().unwrap(),
            imei: Some("123456789011111".parse().unwrap()),
            iccid: None,
        }
    }

    #[test]
    fn numbers_check_their_length_and_digits() {
        assert!("295012345678901".parse::<Imsi>().is_ok());
        assert!(matches!(
            "2950123456789012".parse::<Imsi>(),
            Err(IdentityError::Length { got: 16, .. })
        ));
        assert!(matches!(
            "29501x".parse::<Imsi>(),
            Err(IdentityError::NotDigits { position: 6, .. })
        ));
        assert!("12345678901111".parse::<Imei>().is_err());
        assert_eq!(
            "8942310022000012345F".parse::<Iccid>().unwrap().as_str(),
            "8942310022000012345"
        );
        assert!("".parse::<Imsi>().is_err());
    }

    #[test]
    fn debug_hides_and_display_shows() {
        let imsi: Imsi = "295012345678901".parse().unwrap();
        assert_eq!(format!("{imsi:?}"), "Imsi(29501********01)");
        assert_eq!(imsi.to_string(), "295012345678901");
        let id = ClientId::new("myClient-295012345678901-123456789011111".into()).unwrap();
        assert_eq!(format!("{id:?}"), "ClientId(myClient-29501********01-12345********11)");
    }

    #[test]
    fn templates_fill_and_say_what_is_wrong() {
        let t: NameTemplate = "myClient-#{imsi}".parse().unwrap();
        assert_eq!(t.fill(&who()).unwrap(), "myClient-295012345678901");
        assert!(t.is_individual());
        assert_eq!(
            "a#{imei}b".parse::<NameTemplate>().unwrap().fill(&who()).unwrap(),
            "a123456789011111b"
        );
        assert_eq!(
            "x-#{imis}".parse::<NameTemplate>(),
            Err(TemplateError::Unknown("imis".into()))
        );
        assert_eq!("x-#{imsi".parse::<NameTemplate>(), Err(TemplateError::Open(3)));
        assert_eq!(
            "#{iccid}".parse::<NameTemplate>().unwrap().fill(&who()),
            Err(TemplateError::Missing("iccid"))
        );
        assert!(!"plain".parse::<NameTemplate>().unwrap().is_individual());
    }

    #[test]
    fn templates_read_what_they_fill() {
        let t: NameTemplate = "a-#{imsi}.#{imei}-#{imsi}.pem".parse().unwrap();
        let name = t.fill(&who()).unwrap();
        let read = t.read(&name, &Numbers::default()).unwrap();
        assert_eq!((read.imsi.clone(), read.imei.clone()), (Some(who().imsi), who().imei));
        assert_eq!(t.fill_known(&read).unwrap(), name);
        assert!(
            t.read(&name.replacen("2950", "2951", 1), &Numbers::default()).is_none(),
            "two SIMs"
        );
        assert!(t.read("a-.pem", &Numbers::default()).is_none());
        // Numbers side by side: 15 digits and 15 digits.
        let t: NameTemplate = "#{imsi}#{imei}".parse().unwrap();
        let read = t.read("295012345678901123456789011111", &Numbers::default()).unwrap();
        assert_eq!(read.imei, who().imei);
        let other = Numbers {
            imsi: Some("295012345678902".parse().unwrap()),
            ..Numbers::default()
        };
        assert!(t.read("295012345678901123456789011111", &other).is_none());
        assert_eq!("x".parse::<NameTemplate>().unwrap().read("x", &other), Some(other));
    }

    #[test]
    fn client_ids_are_what_every_cloud_takes() {
        let name = AuthName::new("myClient-295012345678901".into()).unwrap();
        let id = ClientId::from_parts(&name, &"123456789011111".parse().unwrap()).unwrap();
        assert_eq!(id.as_str(), "myClient-295012345678901-123456789011111");
        for bad in ["", "$aws", "a/b", "a+b", "a#b", "a\nb", &"x".repeat(129)] {
            assert!(ClientId::new(bad.into()).is_err(), "{bad:?}");
        }
    }
}
