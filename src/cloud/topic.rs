//! A topic name to publish to (MQTT 3.1.1 section 4.7), within a broker's limits.

use std::fmt;

use super::Limits;

/// Why a topic cannot be published to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No characters.
    #[error("the topic is empty")]
    Empty,
    /// `+`, `#` or U+0000.
    #[error("the topic {0:?} has '+', '#' or a zero character: these are for subscribing only [MQTT-3.3.2-2]")]
    Wildcard(String),
    /// Too many bytes.
    #[error("the topic has {got} bytes, this broker takes {max}")]
    Long {
        /// Its length in bytes.
        got: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Too many levels.
    #[error("the topic {topic:?} has {got} levels, this broker takes {max}")]
    Deep {
        /// The topic.
        topic: String,
        /// Its levels.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A rule of one cloud.
    #[error("{0}")]
    Rule(String),
}

/// A checked topic name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// Checks a topic name against a broker's limits.
    ///
    /// # Errors
    /// [`TopicError`].
    pub fn new(topic: String, limits: Limits) -> Result<Self, TopicError> {
        if topic.is_empty() {
            return Err(TopicError::Empty);
        }
        if topic.contains(['+', '#', '\0']) {
            return Err(TopicError::Wildcard(topic));
        }
        if topic.len() > limits.topic_max {
            return Err(TopicError::Long {
                got: topic.len(),
                max: limits.topic_max,
            });
        }
        let levels = topic.split('/').count();
        if levels > limits.topic_levels {
            return Err(TopicError::Deep {
                got: levels,
                max: limits.topic_levels,
                topic,
            });
        }
        Ok(Self(topic))
    }

    /// The topic as sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
