//! Strings, topic names and topic filters (MQTT 3.1.1 and 5: sections 1.5 and 4.7; 5 section 4.8.2).

use super::Level;
use super::rule::{self, Violation};

/// How a shared subscription begins (MQTT 5 section 4.8.2).
pub const SHARE: &str = "$share/";

/// A string of the specification: UTF-8, no surrogates (which UTF-8 cannot hold in Rust's eyes either), no U+0000.
///
/// # Errors
/// [`rule::TEXT`], [`rule::NUL`].
pub fn text(bytes: &[u8]) -> Result<&str, Violation> {
    let text = std::str::from_utf8(bytes).map_err(|_| &rule::TEXT)?;
    if bytes.contains(&0) {
        return Err((&rule::NUL).into());
    }
    Ok(text)
}

/// A topic name, which may be empty here: whether it may be is the packet's affair.
///
/// # Errors
/// [`rule::TEXT`], [`rule::NUL`], [`rule::TOPIC_WILDCARD`].
pub fn topic_name(bytes: &[u8]) -> Result<&str, Violation> {
    let text = text(bytes)?;
    if has_wildcards(text) {
        return Err((&rule::TOPIC_WILDCARD).into());
    }
    Ok(text)
}

/// Whether there is a `+` or a `#` anywhere.
#[must_use]
pub fn has_wildcards(text: &str) -> bool {
    text.bytes().any(|b| matches!(b, b'#' | b'+'))
}

/// A topic filter: wildcards where they belong, and in version 5 the form of a shared subscription.
///
/// # Errors
/// [`rule::TEXT`], [`rule::NUL`], [`rule::FILTER_EMPTY`], [`rule::FILTER_HASH`], [`rule::FILTER_PLUS`], [`rule::SHARE_NAME`],
/// [`rule::SHARE_FORM`].
pub fn topic_filter(bytes: &[u8], level: Level) -> Result<&str, Violation> {
    let whole = text(bytes)?;
    let plain = match (level, whole.strip_prefix(SHARE)) {
        (Level::V5, Some(shared)) => {
            let (name, filter) = shared.split_once('/').unwrap_or((shared, ""));
            if name.is_empty() {
                return Err((&rule::SHARE_NAME).into());
            }
            if filter.is_empty() || has_wildcards(name) {
                return Err((&rule::SHARE_FORM).into());
            }
            filter
        }
        _ => whole,
    };
    if plain.is_empty() {
        return Err((&rule::FILTER_EMPTY).into());
    }
    let mut levels = plain.split('/').peekable();
    while let Some(part) = levels.next() {
        if part.contains('#') && (part.len() > 1 || levels.peek().is_some()) {
            return Err((&rule::FILTER_HASH).into());
        }
        if part.contains('+') && part.len() > 1 {
            return Err((&rule::FILTER_PLUS).into());
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        assert_eq!(text("ä\u{feff}\u{10ffff}".as_bytes()), Ok("ä\u{feff}\u{10ffff}"));
        assert_eq!(text(b"\xed\xa0\x80").unwrap_err().id(), "text", "U+D800");
        assert_eq!(text(b"\xc0\x80").unwrap_err().id(), "text", "U+0000 in two bytes");
        assert_eq!(text(b"a\0").unwrap_err().id(), "nul");
    }

    #[test]
    fn filters_that_are_good_in_both_versions() {
        for filter in [
            "#",
            "+",
            "/",
            "//",
            "a/#",
            "/#",
            "+/+",
            "+/a/+/#",
            "/+",
            "$SYS/#",
            "a b",
            "$share",
            "$sharea/b",
        ] {
            for level in [Level::V3, Level::V5] {
                assert_eq!(topic_filter(filter.as_bytes(), level), Ok(filter));
            }
        }
    }

    #[test]
    fn filters_that_break_a_rule() {
        for (filter, id) in [
            ("", "filter-empty"),
            ("a#", "filter-hash"),
            ("#a", "filter-hash"),
            ("a/#/b", "filter-hash"),
            ("#/", "filter-hash"),
            ("##", "filter-hash"),
            ("a+", "filter-plus"),
            ("a/+b/c", "filter-plus"),
            ("++", "filter-plus"),
        ] {
            for level in [Level::V3, Level::V5] {
                assert_eq!(topic_filter(filter.as_bytes(), level).unwrap_err().id(), id, "{filter}");
            }
        }
    }

    #[test]
    fn shared_subscriptions_are_version_5s() {
        for (filter, id) in [
            ("$share/", "share-name"),
            ("$share//a", "share-name"),
            ("$share/a", "share-form"),
            ("$share/a/", "share-form"),
            ("$share/+/a", "share-form"),
            ("$share/a#/a", "share-form"),
            ("$share/g/a#", "filter-hash"),
        ] {
            assert_eq!(
                topic_filter(filter.as_bytes(), Level::V5).unwrap_err().id(),
                id,
                "{filter}"
            );
        }
        assert!(topic_filter(b"$share/", Level::V3).is_ok(), "a topic like any other");
        for good in ["$share/g/a", "$share/g/#", "$share/g//", "$share/g/+/a"] {
            assert_eq!(topic_filter(good.as_bytes(), Level::V5), Ok(good));
        }
    }
}
