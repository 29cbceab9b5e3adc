//! Topics as upstream is to see them: placeholders filled, the IMSI appended.
//!
//! With `placeholders` on, `{{imsi}}`, `{{imei}}` and `{{simId}}` (the ICCID) are replaced in the topics of PUBLISH and of the will and
//! in the filters of SUBSCRIBE and UNSUBSCRIBE; SORACOM Beam documents the option for publishing and for subscribing. Anything else in
//! double braces is left alone (inferred). With `append_imsi`, `/<IMSI>` follows what is published, and the will's topic; not filters,
//! as at Beam.
//!
//! What upstream delivers is not changed: a device that subscribed to `cmd/{{imsi}}` is sent messages on `cmd/295012345678901`, the
//! topic that is in the broker. Beam's documentation speaks of what devices send only. To write placeholders back could not be done
//! rightly anyway: a number may stand in a topic because somebody wrote it there, and a client library matches what arrives with the
//! filter it sent; a filter with a placeholder in place of a wildcard would match neither way. A device that must know the name
//! subscribes with `+` at its place.
//!
//! MQTT 5: a PUBLISH that establishes a topic alias is rewritten, one that uses the alias alone has no topic to rewrite, and upstream
//! resolves it to the rewritten one.

use crate::gateway::group::Topics;
use crate::identity::Subscriber;

/// A placeholder whose number nobody has entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the topic has {placeholder}, and this subscriber has no {number}: add its {number} to the subscriber")]
pub struct Missing {
    /// As it stands in the topic.
    pub placeholder: &'static str,
    /// The word for the number.
    pub number: &'static str,
}

/// The changes for one subscriber.
#[derive(Debug, Clone)]
pub struct Rewrite {
    topics: Topics,
    who: Subscriber,
}

impl Rewrite {
    /// The changes of a group for one subscriber; `None` when nothing is to be changed.
    #[must_use]
    pub fn new(topics: Topics, who: &Subscriber) -> Option<Self> {
        (topics != Topics::default()).then(|| Self {
            topics,
            who: who.clone(),
        })
    }

    /// The topic of a PUBLISH or a will; `None` when it stays.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn published(&self, topic: &[u8]) -> Result<Option<Vec<u8>>, Missing> {
        let mut filled = self.filter(topic)?;
        if self.topics.append_imsi {
            let out = filled.get_or_insert_with(|| topic.to_vec());
            out.push(b'/');
            out.extend_from_slice(self.who.imsi.as_str().as_bytes());
        }
        Ok(filled)
    }

    /// A filter of SUBSCRIBE or UNSUBSCRIBE; `None` when it stays.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn filter(&self, text: &[u8]) -> Result<Option<Vec<u8>>, Missing> {
        if !self.topics.placeholders {
            return Ok(None);
        }
        let mut out: Option<Vec<u8>> = None;
        let mut copied = 0;
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|r| !r.is_empty()) {
            let Some((name, number)) = self.placeholder(rest)? else {
                at += 1;
                continue;
            };
            let out = out.get_or_insert_with(Vec::new);
            out.extend_from_slice(text.get(copied..at).unwrap_or(&[]));
            out.extend_from_slice(number.as_bytes());
            at += name.len();
            copied = at;
        }
        if let Some(out) = &mut out {
            out.extend_from_slice(text.get(copied..).unwrap_or(&[]));
        }
        Ok(out)
    }

    fn placeholder(&self, rest: &[u8]) -> Result<Option<(&'static str, &str)>, Missing> {
        if !rest.starts_with(b"{{") {
            return Ok(None);
        }
        let Subscriber { imsi, imei, iccid } = &self.who;
        let all = [
            ("{{imsi}}", "IMSI", Some(imsi.as_str())),
            ("{{imei}}", "IMEI", imei.as_ref().map(|n| n.as_str())),
            ("{{simId}}", "ICCID", iccid.as_ref().map(|n| n.as_str())),
        ];
        let found = all.into_iter().find(|(name, ..)| rest.starts_with(name.as_bytes()));
        let Some((placeholder, number, value)) = found else {
            return Ok(None);
        };
        value
            .map(|v| Some((placeholder, v)))
            .ok_or(Missing { placeholder, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewrite(append_imsi: bool, placeholders: bool) -> Rewrite {
        let who = Subscriber {
            imsi: "295012345678901".parse().unwrap(),
            imei: None,
            iccid: Some("8981100000000000001".parse().unwrap()),
        };
        let topics = Topics {
            append_imsi,
            placeholders,
        };
        Rewrite::new(topics, &who).unwrap()
    }

    fn text(out: Result<Option<Vec<u8>>, Missing>) -> Option<String> {
        out.unwrap().map(|b| String::from_utf8(b).unwrap())
    }

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        let r = rewrite(false, true);
        for (topic, want) in [
            ("a/b", None),
            ("{{imsi}}", Some("295012345678901")),
            (
                "d/{{imsi}}/{{simId}}/x",
                Some("d/295012345678901/8981100000000000001/x"),
            ),
            ("{{{imsi}}}", Some("{295012345678901}")),
            ("{{imsi}}{{imsi}}", Some("295012345678901295012345678901")),
            ("{{IMSI}}/{{msisdn}}/{{", None),
        ] {
            assert_eq!(text(r.published(topic.as_bytes())).as_deref(), want, "{topic}");
            assert_eq!(text(r.filter(topic.as_bytes())).as_deref(), want, "{topic}");
        }
        let e = r.published(b"x/{{imei}}").unwrap_err().to_string();
        assert!(e.contains("{{imei}}") && e.contains("add its IMEI"), "{e}");
    }

    #[test]
    fn the_imsi_follows_what_is_published_and_no_filter() {
        let r = rewrite(true, false);
        assert_eq!(
            text(r.published(b"t/{{imsi}}")).as_deref(),
            Some("t/{{imsi}}/295012345678901")
        );
        assert_eq!(text(r.filter(b"t/{{imsi}}")), None);
        let both = rewrite(true, true);
        assert_eq!(
            text(both.published(b"{{simId}}")).as_deref(),
            Some("8981100000000000001/295012345678901")
        );
        assert!(Rewrite::new(Topics::default(), &both.who).is_none());
        assert!(!format!("{both:?}").contains("295012345678901"));
    }

    proptest! {
        #[test]
        fn it_is_what_the_standard_library_would_replace(topic in "([a-z/{}]|\\{\\{imsi\\}\\}|\\{\\{simId\\}\\}){0,12}") {
            let want = topic.replace("{{imsi}}", "295012345678901").replace("{{simId}}", "8981100000000000001");
            let got = text(rewrite(false, true).filter(topic.as_bytes())).unwrap_or_else(|| topic.clone());
            prop_assert_eq!(got, want);
        }
    }
}
