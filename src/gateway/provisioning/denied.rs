//! What a request is refused with.

use serde_json::json;

/// Why there is nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody knows the caller.
    #[error("no subscriber of this gateway calls from this address, or with this token or certificate")]
    Unknown,
    /// Its modem cannot be looked at.
    #[error(
        "this subscriber is locked to its modem, which cannot be looked at here: issue its certificate with 'onyx-gateway ca issue'"
    )]
    Imei,
    /// It calls through a load balancer, whose address says nothing about it.
    #[error(
        "this request comes from a load balancer (listen.proxies), whose address tells nobody who asks: show a token or a \
         certificate; a subscriber that must call from its own address has to call this door directly"
    )]
    Proxied,
    /// Too many wrong guesses came from its address.
    #[error("too many unknown devices ask from this address: it is not heard for a while")]
    Guessing,
    /// It may not connect.
    #[error("this subscriber, or its group, is disabled at the gateway")]
    Disabled,
    /// The gateway does not do this cloud.
    #[error("this gateway provisions no devices for {0}: its configuration has no section [provisioning.{0}]")]
    NotServed(&'static str),
    /// Krypton has it, this has not.
    #[error("{0} is SORACOM's own service: this gateway provisions for Azure IoT and AWS IoT")]
    NotHere(String),
    /// No such path, or another method.
    #[error("there is no {0}")]
    NoPath(String),
    /// The body cannot be read.
    #[error("the body is not what is expected: {0}")]
    Body(String),
    /// Asked for something else than the configuration gives.
    #[error("{key} must be {want:?} for this subscriber, or be left out; asked for was {got:?}")]
    NotYours {
        /// Which parameter.
        key: &'static str,
        /// What it must be.
        want: String,
        /// What it was.
        got: String,
    },
    /// The name cannot be made.
    #[error("{0}")]
    Name(String),
    /// The id was not made by this authority, for this caller, or not lately.
    #[error("there is no such operation of this subscriber: register again")]
    NoOperation,
    /// Not made here, not for this caller, or forgotten.
    #[error("there is no such certificate of this subscriber: bootstrap again")]
    NoCertificate,
    /// The operator did not say whom to trust.
    #[error("this gateway has no authority to tell: provisioning.aws.root_ca_file is not set")]
    NoRoot,
    /// Enough for today.
    #[error(
        "this subscriber got {0} certificates within a day (provisioning.per_day): keep the last one, or ask again tomorrow"
    )]
    TooMany(u32),
    /// Too much at once.
    #[error("the gateway is too busy, or its database is away: ask again in some seconds")]
    Busy,
    /// The cloud's provisioning service refuses.
    #[error("the provisioning service did not assign the device: {0}")]
    Refused(String),
    /// Our own trouble.
    #[error("the gateway cannot make credentials now: {0}")]
    Here(String),
}

impl Denied {
    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Unknown | Self::Proxied => 401,
            Self::Disabled | Self::Imei => 403,
            Self::NotServed(_) | Self::NotHere(_) | Self::NoPath(_) => 404,
            Self::NoOperation | Self::NoCertificate | Self::NoRoot => 404,
            Self::Body(_) | Self::NotYours { .. } | Self::Name(_) => 400,
            Self::TooMany(_) | Self::Guessing => 429,
            Self::Busy => 503,
            Self::Refused(_) => 502,
            Self::Here(_) => 500,
        }
    }

    /// Seconds after which it is worth asking again.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TooMany(_) => Some(3_600),
            Self::Busy => Some(5),
            Self::Guessing => Some(60),
            _ => None,
        }
    }

    /// A code in the shape of SORACOM's; the number is the HTTP status. SORACOM publishes none for Krypton.
    #[must_use]
    pub fn code(&self) -> String {
        format!("ONX{:04}", self.status())
    }

    /// The body: `{"code","message"}`, as all of SORACOM's APIs have it.
    #[must_use]
    pub fn body(&self) -> serde_json::Value {
        json!({"code": self.code(), "message": self.to_string()})
    }
}
