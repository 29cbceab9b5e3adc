//! The order of fleet provisioning, without I/O: what to do next, and what an answer means.
//!
//! | state | does | until |
//! |---|---|---|
//! | begin | subscribes to all four answers in one packet, before anything is asked: AWS drops an answer that nobody subscribed to | SUBACK |
//! | creating | sends the signing request | a certificate, which must fit our key |
//! | provisioning | sends the ownership token and the template's parameters | a thing |
//!
//! Answers that come twice, late, or to something else are passed over: AWS may deliver a QoS 1 message again.
//! A certificate whose key is not ours is refused before a thing is made for it.
//!
//! What is lost when the device dies between the two requests: a certificate that nobody owns, which AWS deletes after an hour when its
//! token runs out. Nothing is kept for that case; the next start begins anew with another key.

use std::collections::BTreeMap;

use serde_json::Value;
use zeroize::Zeroizing;

use super::names::{Request, Topics, Verdict};
use super::payload::{self, Created, Registered};
use super::refusal::Refusal;
use crate::provision::request::Request as SigningRequest;
use crate::tls::Identity;

/// Something to publish.
pub struct Publication {
    /// Which request it is.
    pub request: Request,
    /// Where.
    pub topic: String,
    /// What; it may hold the ownership token.
    pub payload: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Publication({:?}, {} bytes)", self.request, self.payload.len())
    }
}

/// A device with a certificate of its own.
pub struct Provisioned {
    /// The certificate's id at AWS.
    pub certificate_id: String,
    /// The certificate.
    pub certificate_pem: String,
    /// Its key, made here; never printed.
    pub private_key_pem: Zeroizing<String>,
    /// The thing, if the template makes one.
    pub thing_name: Option<String>,
    /// The template's words for the device.
    pub device_configuration: BTreeMap<String, Value>,
}

impl std::fmt::Debug for Provisioned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provisioned({})", self.certificate_id)
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Next {
    /// Publish this and wait for messages.
    Publish(Publication),
    /// It is done.
    Done(Provisioned),
}

/// Why it ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// AWS says no.
    #[error("{0}")]
    Refused(Refusal),
    /// AWS says yes, in words that nobody understands.
    #[error("AWS IoT's answer to {0:?} cannot be used: {1}")]
    Unusable(Request, String),
    /// We cannot even ask.
    #[error("{0}")]
    Internal(String),
}

enum State {
    Begin,
    Creating,
    Provisioning(Created),
    Done,
}

/// The conversation of one device.
pub struct Machine {
    topics: Topics,
    request: SigningRequest,
    parameters: BTreeMap<String, String>,
    state: State,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Machine({:?})", self.topics)
    }
}

impl Machine {
    /// A device with a key and nothing else.
    #[must_use]
    pub fn new(topics: Topics, request: SigningRequest, parameters: BTreeMap<String, String>) -> Self {
        Self {
            topics,
            request,
            parameters,
            state: State::Begin,
        }
    }

    /// What to subscribe to, before anything else.
    #[must_use]
    pub fn filters(&self) -> [String; 4] {
        self.topics.answers()
    }

    /// The subscriptions are granted: the first request.
    ///
    /// # Errors
    /// [`FleetError::Internal`].
    pub fn subscribed(&mut self) -> Result<Publication, FleetError> {
        let payload = payload::create(&self.request.pem).map_err(FleetError::Internal)?;
        self.state = State::Creating;
        Ok(self.publication(Request::Create, payload))
    }

    fn publication(&self, request: Request, payload: Zeroizing<Vec<u8>>) -> Publication {
        Publication {
            request,
            topic: self.topics.of(request).to_owned(),
            payload,
        }
    }

    /// A message came. None: it is no answer to what was asked.
    ///
    /// # Errors
    /// [`FleetError`]: it is over.
    pub fn received(&mut self, topic: &str, payload: &[u8]) -> Result<Option<Next>, FleetError> {
        let asked = match self.state {
            State::Creating => Request::Create,
            State::Provisioning(_) => Request::Provision,
            State::Begin | State::Done => return Ok(None),
        };
        match self.topics.read(topic) {
            Some((request, verdict)) if request == asked => match verdict {
                Verdict::Accepted => self.accepted(payload).map(Some),
                Verdict::Refused => Err(FleetError::Refused(Refusal::read(asked, payload, self.secret()))),
            },
            _ => Ok(None),
        }
    }

    fn secret(&self) -> Option<&str> {
        match &self.state {
            State::Provisioning(created) => Some(created.certificate_ownership_token.as_str()),
            _ => None,
        }
    }

    fn accepted(&mut self, payload: &[u8]) -> Result<Next, FleetError> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Provisioning(created) => {
                let registered: Registered =
                    payload::read(payload).map_err(|why| FleetError::Unusable(Request::Provision, why))?;
                Ok(Next::Done(Provisioned {
                    certificate_id: created.certificate_id,
                    certificate_pem: created.certificate_pem,
                    private_key_pem: self.request.private_key_pem.clone(),
                    thing_name: registered.thing_name.filter(|n| !n.is_empty()),
                    device_configuration: registered.device_configuration.unwrap_or_default(),
                }))
            }
            _ => {
                let unusable = |why| FleetError::Unusable(Request::Create, why);
                let created: Created = payload::read(payload).map_err(unusable)?;
                if created.certificate_ownership_token.is_empty() {
                    return Err(unusable("the ownership token is empty".to_owned()));
                }
                let key = self.request.private_key_pem.as_bytes();
                Identity::from_pem(created.certificate_pem.as_bytes(), key, "the new certificate")
                    .map_err(|e| unusable(e.to_string()))?;
                let body = payload::provision(&created.certificate_ownership_token, &self.parameters)
                    .map_err(FleetError::Internal)?;
                self.state = State::Provisioning(created);
                Ok(Next::Publish(self.publication(Request::Provision, body)))
            }
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
