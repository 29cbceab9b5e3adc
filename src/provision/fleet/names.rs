//! The topics of fleet provisioning, and the client id of a connection under a claim certificate.
//! Source of the topics: AWS IoT Core developer guide, "Device provisioning MQTT API" and "Reserved topics".

use crate::identity::{ClientId, Subscriber};

/// Request for a certificate by a signing request, with JSON for a payload.
pub const CREATE: &str = "$aws/certificates/create-from-csr/json";
/// End of the topic of a good answer.
const ACCEPTED: &str = "/accepted";
/// End of the topic of a refusal.
const REFUSED: &str = "/rejected";
/// Begin of every client id of a claim connection: what a claim's policy has to allow, as `client/onyx-claim-*`.
pub const CLIENT_PREFIX: &str = "onyx-claim-";

/// One of the two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// CreateCertificateFromCsr.
    Create,
    /// RegisterThing.
    Provision,
}

/// What an answer says by its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The payload is the result.
    Accepted,
    /// The payload is the reason.
    Refused,
}

/// The topics for one template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    provision: String,
}

impl Topics {
    /// Those of a template, whose name the configuration has checked.
    #[must_use]
    pub fn new(template: &str) -> Self {
        Self {
            provision: format!("$aws/provisioning-templates/{template}/provision/json"),
        }
    }

    /// Where a request is published.
    #[must_use]
    pub fn of(&self, request: Request) -> &str {
        match request {
            Request::Create => CREATE,
            Request::Provision => &self.provision,
        }
    }

    /// Where all answers come: four filters, for one SUBSCRIBE (AWS takes eight).
    #[must_use]
    pub fn answers(&self) -> [String; 4] {
        let on = |request, end| format!("{}{end}", self.of(request));
        [
            on(Request::Create, ACCEPTED),
            on(Request::Create, REFUSED),
            on(Request::Provision, ACCEPTED),
            on(Request::Provision, REFUSED),
        ]
    }

    /// What a message on this topic answers, and how; none if it answers nothing.
    #[must_use]
    pub fn read(&self, topic: &str) -> Option<(Request, Verdict)> {
        let (asked, verdict) = match topic.strip_suffix(ACCEPTED) {
            Some(asked) => (asked, Verdict::Accepted),
            None => (topic.strip_suffix(REFUSED)?, Verdict::Refused),
        };
        [Request::Create, Request::Provision]
            .into_iter()
            .find(|r| self.of(*r) == asked)
            .map(|r| (r, verdict))
    }
}

/// The client id of a claim connection: `onyx-claim-<imei>-<nonce>`, with the IMSI where the IMEI is not known.
///
/// Many devices share one claim certificate, and AWS ends the older of two connections with one client id, so it must differ from
/// device to device. It must not be the thing's name either: AWS takes one CONNECT a second from a client id, and the device connects
/// under the thing's name right after. The nonce keeps a try from meeting its own predecessor, which AWS may still take for connected.
///
/// # Errors
/// None that numbers of a SIM can cause.
pub fn client_id(who: &Subscriber, nonce: u16) -> Result<ClientId, crate::identity::IdentityError> {
    let number = who.imei.as_ref().map_or(who.imsi.as_str(), |i| i.as_str());
    ClientId::new(format!("{CLIENT_PREFIX}{number}-{nonce:04x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_fit_the_broker_and_are_read_back() {
        // The longest name that a template can have.
        let topics = Topics::new(&"t".repeat(36));
        let limits = crate::cloud::aws_iot::LIMITS;
        let answers = topics.answers();
        assert!(answers.len() <= crate::session::conversation::FILTERS_MAX);
        for answer in &answers {
            assert!(answer.len() <= limits.topic_max && answer.split('/').count() <= limits.topic_levels);
        }
        let read = answers.map(|a| topics.read(&a).unwrap());
        assert_eq!(
            read,
            [
                (Request::Create, Verdict::Accepted),
                (Request::Create, Verdict::Refused),
                (Request::Provision, Verdict::Accepted),
                (Request::Provision, Verdict::Refused),
            ]
        );
        for other in ["", CREATE, "$aws/certificates/create/json/accepted", "/accepted"] {
            assert_eq!(topics.read(other), None, "{other}");
        }
        let other = Topics::new("other").answers();
        assert_eq!(topics.read(&other[2]), None, "another template's");
    }

    #[test]
    fn a_client_id_tells_devices_apart() {
        let mut who = Subscriber {
            imsi: "295012345678901".parse().unwrap(),
            imei: Some("123456789011111".parse().unwrap()),
            iccid: None,
        };
        assert_eq!(client_id(&who, 10).unwrap().as_str(), "onyx-claim-123456789011111-000a");
        who.imei = None;
        assert_eq!(
            client_id(&who, 0xffff).unwrap().as_str(),
            "onyx-claim-295012345678901-ffff"
        );
    }
}
