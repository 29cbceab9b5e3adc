//! Property bags: what a message carries beside its payload, as the tail of its topic. `key=value` pairs joined by `&`, both sides
//! percent-encoded; a key alone is a null value, `key=` an empty one. Keys that begin with `$.` are the system's, however they were
//! encoded: Microsoft's Python and C clients write `%24.ct`, the documentation `$.ct`.

use serde_json::{Map, Value};

/// Longest bag taken, in bytes: what fits into a topic (MQTT 3.1.1 section 1.5.3).
pub const BAG_MAX: usize = 65_535;

/// System keys on the wire and what the service side calls them (azure-iot-sdk for Python, `mqtt_topic_iothub.py`, and the names that
/// `az iot hub monitor-events` prints).
const SYSTEM: [(&str, &str); 11] = [
    ("$.mid", "message_id"),
    ("$.cid", "correlation_id"),
    ("$.uid", "user_id"),
    ("$.to", "to"),
    ("$.ct", "content_type"),
    ("$.ce", "content_encoding"),
    ("$.exp", "absolute_expiry_time"),
    ("$.ctime", "creation_time"),
    ("$.sub", "subject"),
    ("$.on", "output_name"),
    ("$.ifid", "interface_id"),
];

/// The properties of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bag {
    /// By their wire names, e.g. `$.ct`, in the order in which they came.
    pub system: Vec<(String, Option<String>)>,
    /// The sender's own.
    pub application: Vec<(String, Option<String>)>,
}

/// Why a bag cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BagError {
    /// `a&&b`, `=v` or a trailing `&`.
    #[error("a property without a name")]
    Nameless,
    /// A slash starts a new topic level.
    #[error("a slash that is not percent-encoded")]
    Slash,
    /// `%` without two hexadecimal digits after it, or bytes that are no UTF-8.
    #[error("{0:?} is not percent-encoded UTF-8")]
    Encoding(String),
}

impl Bag {
    /// Reads the tail of a topic.
    ///
    /// # Errors
    /// [`BagError`].
    pub fn parse(text: &str) -> Result<Self, BagError> {
        let mut bag = Self::default();
        if text.is_empty() {
            return Ok(bag);
        }
        if text.contains('/') {
            return Err(BagError::Slash);
        }
        for pair in text.split('&') {
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (pair, None),
            };
            if key.is_empty() {
                return Err(BagError::Nameless);
            }
            let key = decode(key)?;
            let value = value.map(decode).transpose()?;
            if key.starts_with("$.") {
                bag.system.push((key, value));
            } else {
                bag.application.push((key, value));
            }
        }
        Ok(bag)
    }

    /// Writes it as the hub does: system properties first, everything but unreserved characters (RFC 3986 section 2.3) encoded.
    #[must_use]
    pub fn write(&self) -> String {
        let mut text = String::new();
        for (key, value) in self.system.iter().chain(&self.application) {
            if !text.is_empty() {
                text.push('&');
            }
            encode(key, &mut text);
            if let Some(value) = value {
                text.push('=');
                encode(value, &mut text);
            }
        }
        text
    }

    /// Names and values, in bytes: what counts towards a message's size.
    #[must_use]
    pub fn size(&self) -> usize {
        let all = self.system.iter().chain(&self.application);
        all.map(|(k, v)| k.len() + v.as_ref().map_or(0, String::len)).sum()
    }

    /// A system property, by its wire name.
    #[must_use]
    pub fn system(&self, key: &str) -> Option<&str> {
        let found = self.system.iter().find(|(k, _)| k == key)?;
        found.1.as_deref()
    }

    /// `{"system": {…}, "application": {…}}` with the service side's names; a repeated name keeps its last value.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let object = |list: &[(String, Option<String>)], name: fn(&str) -> &str| -> Map<String, Value> {
            list.iter()
                .map(|(k, v)| (name(k).to_owned(), v.clone().map_or(Value::Null, Value::String)))
                .collect()
        };
        let mut out = Map::new();
        out.insert("system".into(), object(&self.system, service_name).into());
        out.insert("application".into(), object(&self.application, |k| k).into());
        out.into()
    }
}

fn service_name(wire: &str) -> &str {
    SYSTEM.iter().find(|(w, _)| *w == wire).map_or(wire, |(_, name)| name)
}

/// The wire name of a system property, by the service side's name or by itself.
#[must_use]
pub fn wire_name(name: &str) -> Option<&'static str> {
    let found = SYSTEM.iter().find(|(wire, service)| *service == name || *wire == name);
    found.map(|(wire, _)| *wire)
}

fn decode(text: &str) -> Result<String, BagError> {
    let bad = || BagError::Encoding(text.to_owned());
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or_else(bad);
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high << 4 | low).map_err(|_| bad())?);
    }
    String::from_utf8(out).map_err(|_| bad())
}

fn encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_system_keys_are_one() {
        for text in [
            "$.ct=application%2Fjson&$.ce=utf-8",
            "%24.ct=application%2Fjson&%24.ce=utf-8",
        ] {
            let bag = Bag::parse(text).unwrap();
            assert_eq!(bag.system("$.ct"), Some("application/json"), "{text}");
            assert_eq!(
                bag.to_json(),
                serde_json::json!({"system": {"content_type": "application/json", "content_encoding": "utf-8"}, "application": {}})
            );
        }
    }

    #[test]
    fn the_python_clients_bag_is_read() {
        let bag = Bag::parse("%24.mid=id%201%2F2&a=%E6%97%A5%E6%9C%AC&b%20key=v%26%3D%2B%2F&flag&empty=").unwrap();
        assert_eq!(bag.system("$.mid"), Some("id 1/2"));
        let want = [
            ("a", Some("日本")),
            ("b key", Some("v&=+/")),
            ("flag", None),
            ("empty", Some("")),
        ];
        let want: Vec<_> = want.map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).into();
        assert_eq!(bag.application, want);
        assert_eq!(
            bag.write(),
            "%24.mid=id%201%2F2&a=%E6%97%A5%E6%9C%AC&b%20key=v%26%3D%2B%2F&flag&empty="
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, want) in [
            ("a=1&&b=2", BagError::Nameless),
            ("=1", BagError::Nameless),
            ("a=1&", BagError::Nameless),
            ("a=1/b", BagError::Slash),
            ("a=%2", BagError::Encoding("%2".into())),
            ("a=%zz", BagError::Encoding("%zz".into())),
            ("%ff=1", BagError::Encoding("%ff".into())),
        ] {
            assert_eq!(Bag::parse(text), Err(want), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(pairs in proptest::collection::vec((".{1,8}", proptest::option::of(".{0,8}")), 0..5)) {
            let mut bag = Bag::default();
            for (key, value) in pairs {
                if key.starts_with("$.") { bag.system.push((key, value)) } else { bag.application.push((key, value)) }
            }
            proptest::prop_assert_eq!(Bag::parse(&bag.write()), Ok(bag));
        }
    }
}
