//! A password with placeholders. As [`NameTemplate`], but nothing of it stays in memory that is not wiped.

use zeroize::Zeroizing;

use crate::identity::{Iccid, Imei, Imsi, NameTemplate, Subscriber, TemplateError};

/// Most bytes that placeholders may add: an ICCID has 20 digits, and its placeholder has more than 6 characters.
const GROWTH: usize = 4;

/// Whether the placeholders can be read.
///
/// # Errors
/// A sentence that does not quote the password.
pub(super) fn check(password: &str) -> Result<(), String> {
    // The parsed template would keep a copy that is not wiped, so only the placeholders are given to it.
    let mut rest = password;
    while let Some(at) = rest.find("#{") {
        let inner = rest.get(at..).unwrap_or_default();
        let end = inner
            .find('}')
            .ok_or("has a placeholder that is never closed with '}'")?;
        let (placeholder, after) = inner.split_at(end + 1);
        if placeholder.parse::<NameTemplate>().is_err() {
            return Err("has an unknown placeholder; known are #{imsi}, #{imei} and #{simId}".to_owned());
        }
        rest = after;
    }
    Ok(())
}

/// Why a password cannot be filled, without a piece of it: what stands between `#{` and `}` may be one.
pub(super) fn explain(error: &TemplateError) -> String {
    match error {
        TemplateError::Missing(_) => format!("password: {error}; add it to the subscriber"),
        TemplateError::Unknown(_) => {
            "password: an unknown placeholder; known are #{imsi}, #{imei} and #{simId}".to_owned()
        }
        TemplateError::Open(_) => "password: a placeholder that is never closed with '}'".to_owned(),
    }
}

/// The password of one subscriber.
///
/// # Errors
/// [`TemplateError::Missing`] when the subscriber has no such number.
pub(super) fn fill(password: &str, who: &Subscriber) -> Result<Zeroizing<String>, TemplateError> {
    // Never grows, so no copy is left behind unwiped.
    let mut out = Zeroizing::new(String::with_capacity(password.len() * GROWTH));
    let mut rest = password;
    while let Some((text, inner)) = rest.split_once("#{") {
        out.push_str(text);
        let (word, after) = inner
            .split_once('}')
            .ok_or(TemplateError::Open(password.len() - inner.len()))?;
        out.push_str(match word {
            "imsi" => Imsi::as_str(&who.imsi),
            "imei" => who
                .imei
                .as_ref()
                .map(Imei::as_str)
                .ok_or(TemplateError::Missing("imei"))?,
            "iccid" | "simId" => {
                let iccid = who.iccid.as_ref().map(Iccid::as_str);
                iccid.ok_or(TemplateError::Missing("iccid"))?
            }
            other => return Err(TemplateError::Unknown(other.to_owned())),
        });
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filled_as_a_name_would_be() {
        let who = Subscriber {
            imsi: "295012345678901".parse().unwrap(),
            imei: None,
            iccid: Some("8942310022000012345".parse().unwrap()),
        };
        for text in [
            "",
            "plain",
            "#{imsi}",
            "a#{simId}b#{imsi}c#",
            "#{iccid}",
            "#{imei}",
            "#{x}",
            "#{imsi",
        ] {
            let name = text.parse::<NameTemplate>();
            assert_eq!(check(text).is_ok(), name.is_ok(), "{text}");
            let name = name.and_then(|t| t.fill(&who)).ok();
            assert_eq!(fill(text, &who).ok().map(|p| p.to_string()), name, "{text}");
        }
    }
}
