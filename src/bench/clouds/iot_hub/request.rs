//! What a device publishes to `$iothub/…`: requests to its twin and answers to methods, read from the topic. No I/O.

/// Longest request id, in bytes; the documentation has none, Microsoft's Python client sends 36.
pub const RID_MAX: usize = 128;

/// A request to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// The whole twin is wanted.
    TwinGet {
        /// Comes back with the answer.
        rid: &'a str,
    },
    /// Reported properties change.
    TwinReport {
        /// Comes back with the answer.
        rid: &'a str,
    },
    /// A method has run.
    MethodAnswer {
        /// What the device says of it; the caller gets it as it is.
        status: i32,
        /// The one that came with the call.
        rid: &'a str,
    },
}

/// Why a `$iothub/…` topic is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not one of the documented topics.
    #[error("no such request")]
    Unknown,
    /// `?$rid=` is missing, empty or too long.
    #[error("a request ends with ?$rid= and 1 to {RID_MAX} bytes")]
    Rid,
    /// The status of a method's answer.
    #[error("the status of a method's answer is an integer")]
    Status,
}

/// The request id; other parameters may follow it.
fn rid(query: &str) -> Result<&str, RequestError> {
    let parameters = query.strip_prefix('?').ok_or(RequestError::Rid)?;
    let found = parameters.split('&').find_map(|p| p.strip_prefix("$rid="));
    found
        .filter(|r| !r.is_empty() && r.len() <= RID_MAX && !r.contains(['/', '$']))
        .ok_or(RequestError::Rid)
}

impl<'a> Request<'a> {
    /// Reads a topic that begins with `$iothub/`; `None` for any other.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(topic: &'a str) -> Option<Result<Self, RequestError>> {
        let path = topic.strip_prefix("$iothub/")?;
        Some(Self::of(path))
    }

    fn of(path: &'a str) -> Result<Self, RequestError> {
        if let Some(query) = path.strip_prefix("twin/GET/") {
            return Ok(Self::TwinGet { rid: rid(query)? });
        }
        if let Some(query) = path.strip_prefix("twin/PATCH/properties/reported/") {
            return Ok(Self::TwinReport { rid: rid(query)? });
        }
        let answer = path.strip_prefix("methods/res/").ok_or(RequestError::Unknown)?;
        let (status, query) = answer.split_once('/').ok_or(RequestError::Rid)?;
        Ok(Self::MethodAnswer {
            status: status.parse().map_err(|_| RequestError::Status)?,
            rid: rid(query)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_topics_and_no_others() {
        for (topic, want) in [
            ("$iothub/twin/GET/?$rid=1", Ok(Request::TwinGet { rid: "1" })),
            (
                "$iothub/twin/PATCH/properties/reported/?$rid=a-b&$version=3",
                Ok(Request::TwinReport { rid: "a-b" }),
            ),
            (
                "$iothub/methods/res/200/?$rid=1f",
                Ok(Request::MethodAnswer { status: 200, rid: "1f" }),
            ),
            (
                "$iothub/methods/res/-1/?$rid=1f",
                Ok(Request::MethodAnswer { status: -1, rid: "1f" }),
            ),
            ("$iothub/twin/GET/", Err(RequestError::Rid)),
            ("$iothub/twin/GET/?$rid=", Err(RequestError::Rid)),
            ("$iothub/twin/GET/?rid=1", Err(RequestError::Rid)),
            (
                "$iothub/twin/PATCH/properties/desired/?$rid=1",
                Err(RequestError::Unknown),
            ),
            ("$iothub/methods/res/ok/?$rid=1", Err(RequestError::Status)),
            ("$iothub/methods/res/200", Err(RequestError::Rid)),
            ("$iothub/x", Err(RequestError::Unknown)),
        ] {
            assert_eq!(Request::parse(topic), Some(want), "{topic}");
        }
        assert_eq!(Request::parse("devices/d/messages/events/"), None);
        let long = format!("$iothub/twin/GET/?$rid={}", "x".repeat(RID_MAX + 1));
        assert_eq!(Request::parse(&long), Some(Err(RequestError::Rid)));
    }
}
