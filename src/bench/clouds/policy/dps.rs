//! The rule book of Azure's Device Provisioning Service, as a device with an X.509 certificate meets it over HTTPS and MQTT 3.1.1.
//!
//! A broken rule shows in one of three ways. On MQTT, what is wrong with CONNECT is CONNACK 5, and what is no documented topic closes
//! the connection (both inferred: Microsoft's client reports a wrong id scope as "not authorised", the rest is as at IoT Hub). What is
//! wrong with a request is an answer: an HTTP status, or the same status in the response topic, with the same error body
//! ([`Fault`]). A disabled enrolment and a failed allocation are answers too, with status 200.
//!
//! Of the service's error numbers only 401002, 400207, 400208 and 400209 are in Microsoft's sources; the others here are chosen so that
//! number / 1000 is the status, which is all that Microsoft's clients look at.

use std::time::Duration;

use super::{Limits, Look, Peer, Policy, Publication, Refusal, Rule, Session, mqtt};
use crate::bench::clouds::dps::name::RegistrationId;
use crate::mqtt::{Connect, connack};

const MQTT: &str = "DPS documentation, iot-mqtt-connect-to-iot-dps";
const HTTPS: &str = "DPS documentation, iot-dps-https-x509-support and REST reference of register-device";
const X509: &str = "DPS documentation, concepts-x509-attestation";
const QUOTAS: &str = "DPS documentation, about-iot-dps: quotas and limits";
const ISSUANCE_DOC: &str = "DPS documentation, concept-certificate-issuance (preview); the status is inferred";
const TROUBLE: &str = "DPS documentation, how-to-troubleshoot-dps: table of HTTP statuses";

/// CONNECT's client identifier.
pub const CLIENT_ID: Rule = Rule {
    id: "dps/client-id",
    says: "the client id is the registration id",
    source: MQTT,
};
/// CONNECT's user name.
pub const USER_NAME: Rule = Rule {
    id: "dps/user-name",
    says: "the user name is {id scope}/registrations/{registration id}/api-version=… without the /? that IoT Hub wants",
    source: MQTT,
};
/// Another instance's id scope.
pub const ID_SCOPE: Rule = Rule {
    id: "dps/id-scope",
    says: "the id scope is this service's",
    source: "DPS documentation, how-to-troubleshoot-dps (404: the instance does not exist); CONNACK 5 on MQTT is inferred",
};
/// A version that is none.
pub const API_VERSION: Rule = Rule {
    id: "dps/api-version",
    says: "a request names an api-version that this service has",
    source: "REST reference of register-device (required); that others are refused with 400 is inferred",
};
/// A password beside a certificate.
pub const PASSWORD: Rule = Rule {
    id: "dps/password",
    says: "with X.509 there is no password",
    source: MQTT,
};
/// A will.
pub const WILL: Rule = Rule {
    id: "dps/will",
    says: "a device leaves no will: there is no documented topic for one",
    source: "DPS documentation, iot-mqtt-connect-to-iot-dps (only documented topics); inferred for wills",
};
/// A topic that is none of the two.
pub const TOPIC: Rule = Rule {
    id: "dps/topic",
    says: "a device publishes to $dps/registrations/PUT/iotdps-register/?$rid=… and $dps/registrations/GET/iotdps-get-operationstatus/?$rid=…&operationId=… only",
    source: "DPS documentation, iot-mqtt-connect-to-iot-dps; that other topics close the connection is inferred",
};
/// QoS 2.
pub const QOS_2: Rule = Rule {
    id: "dps/qos-2",
    says: "a PUBLISH with QoS 2 closes the connection",
    source: "inferred from IoT Hub, whose MQTT front end this is",
};
/// A filter that is not the one.
pub const FILTER: Rule = Rule {
    id: "dps/filter",
    says: "a device subscribes to $dps/registrations/res/# only",
    source: "DPS documentation, iot-mqtt-connect-to-iot-dps; that other filters close the connection is inferred",
};
/// Too large.
pub const SIZE: Rule = Rule {
    id: "dps/message-size",
    says: "a request has at most 96 KB",
    source: QUOTAS,
};
/// Not a registration id.
pub const REGISTRATION_ID: Rule = Rule {
    id: "dps/registration-id",
    says: "a registration id has 1 to 128 letters, digits and - . _ : and ends with a letter, a digit or -",
    source: X509,
};
/// The certificate is somebody else's.
pub const COMMON_NAME: Rule = Rule {
    id: "dps/common-name",
    says: "the certificate's common name is the registration id, upper and lower case being the same",
    source: X509,
};
/// No certificate, or one that leads nowhere.
pub const CERTIFICATE: Rule = Rule {
    id: "dps/certificate",
    says: "a device shows a certificate that is valid now, with its chain up to a verified authority",
    source: "DPS documentation, concepts-x509-attestation; error 401002 in Microsoft's samples",
};
/// Nobody enrolled this certificate.
pub const ENROLLMENT: Rule = Rule {
    id: "dps/enrollment",
    says: "an individual enrolment for the registration id, or else the group of the nearest authority of the chain, decides",
    source: X509,
};
/// The authority's owner never proved to be its owner.
pub const POSSESSION: Rule = Rule {
    id: "dps/possession",
    says: "an authority counts once a certificate for its verification code, signed by its key, was uploaded",
    source: "DPS documentation, how-to-verify-certificates",
};
/// Enrolled but disabled.
pub const DISABLED: Rule = Rule {
    id: "dps/disabled",
    says: "the enrolment that decides is enabled",
    source: "DPS documentation, how-to-revoke-device-access-portal; answer 200 with status disabled: azure-sdk-for-c's parser tests",
};
/// No hub for it.
pub const ALLOCATION: Rule = Rule {
    id: "dps/allocation",
    says: "the allocation names a linked IoT hub",
    source: "azure-sdk-for-c's parser tests (400207), azure-iot-sdk-c (400208 no hub, 400209 unauthorised hub)",
};
/// Not what a request looks like.
pub const BODY: Rule = Rule {
    id: "dps/body",
    says: "the body is a JSON object whose registrationId, if there, is that of the path or user name",
    source: "REST reference of register-device; 400 for a body that is not valid: how-to-troubleshoot-dps",
};
/// An operation that is none.
pub const OPERATION: Rule = Rule {
    id: "dps/operation",
    says: "a device asks for the operation that its last register request was given",
    source: TROUBLE,
};
/// Asked too often.
pub const POLL_RATE: Rule = Rule {
    id: "dps/poll-rate",
    says: "a device asks for its operation at most 5 times in 10 seconds",
    source: QUOTAS,
};
/// Too many registrations.
pub const REGISTER_RATE: Rule = Rule {
    id: "dps/register-rate",
    says: "a service takes 1,000 registrations a minute",
    source: QUOTAS,
};
/// No such path.
pub const PATH: Rule = Rule {
    id: "dps/path",
    says: "paths are /{id scope}/registrations/{registration id}, and below it /register and /operations/{operation id}",
    source: HTTPS,
};
/// Another method.
pub const METHOD: Rule = Rule {
    id: "dps/method",
    says: "register takes PUT, the status look-up POST, an operation GET",
    source: HTTPS,
};
/// Another kind of body.
pub const MEDIA_TYPE: Rule = Rule {
    id: "dps/media-type",
    says: "a body is application/json, in no Content-Encoding but utf-8",
    source: "DPS documentation, iot-dps-https-x509-support (its own commands send Content-Encoding: utf-8) and how-to-troubleshoot-dps (415)",
};
/// A version of TLS that is not served.
pub const TLS_1_2: Rule = Rule {
    id: "dps/tls-1.2",
    says: "the service speaks TLS 1.2",
    source: "DPS documentation, tls-support",
};
/// A signing request with a version that does not know it.
pub const CSR_VERSION: Rule = Rule {
    id: "dps/csr-version",
    says: "a signing request comes with api-version 2025-07-01-preview",
    source: "azure-sdk-for-c, feature/dps-csr-preview; that older versions refuse it rather than pass over it is inferred",
};
/// Not a signing request.
pub const CSR: Rule = Rule {
    id: "dps/csr",
    says: "csr is base64 of a DER PKCS #10 request, without PEM headers, signed by its own key",
    source: ISSUANCE_DOC,
};
/// Another kind of key.
pub const CSR_KEY: Rule = Rule {
    id: "dps/csr-key",
    says: "the key of a signing request is EC on P-384, and the request is signed with SHA-384",
    source: ISSUANCE_DOC,
};
/// Somebody else's name.
pub const CSR_NAME: Rule = Rule {
    id: "dps/csr-name",
    says: "the common name of a signing request is the registration id",
    source: ISSUANCE_DOC,
};
/// Nobody allowed it.
pub const ISSUANCE: Rule = Rule {
    id: "dps/issuance",
    says: "certificates are issued to devices whose enrolment names a certificate policy",
    source: "DPS documentation, concept-certificate-issuance (preview); that a request without one is refused is inferred",
};

/// Every rule.
pub static RULES: [&Rule; 30] = [
    &CLIENT_ID,
    &USER_NAME,
    &ID_SCOPE,
    &API_VERSION,
    &PASSWORD,
    &WILL,
    &TOPIC,
    &QOS_2,
    &FILTER,
    &SIZE,
    &REGISTRATION_ID,
    &COMMON_NAME,
    &CERTIFICATE,
    &ENROLLMENT,
    &POSSESSION,
    &DISABLED,
    &ALLOCATION,
    &BODY,
    &OPERATION,
    &POLL_RATE,
    &REGISTER_RATE,
    &PATH,
    &METHOD,
    &MEDIA_TYPE,
    &TLS_1_2,
    &CSR_VERSION,
    &CSR,
    &CSR_KEY,
    &CSR_NAME,
    &ISSUANCE,
];

/// Versions of the device API; `2019-03-31` is that of Microsoft's Python and Node clients, `2021-06-01` of the C client and
/// iot-identity-service, `2021-10-01` of the REST reference, [`PREVIEW`] that which issues certificates.
pub const API_VERSIONS: [&str; 4] = ["2019-03-31", "2021-06-01", "2021-10-01", PREVIEW];
/// The version that takes signing requests (azure-sdk-for-c, feature/dps-csr-preview).
pub const PREVIEW: &str = "2025-07-01-preview";
/// Largest request body, in bytes ([`QUOTAS`] say 96 KB).
pub const BODY_MAX: usize = 96 * 1024;
/// Where answers come (exact string of [`MQTT`]).
pub const ANSWERS: &str = "$dps/registrations/res/#";
/// Where a device registers; a request id follows.
pub const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?";
/// Where a device polls; a request id and the operation id follow.
pub const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?";
/// Room for fixed header and topic beside the body, in bytes (a topic has at most 65,535).
const HEADER_ROOM: usize = 64 * 1024 + 16;
/// No number is published; IoT Hub's cap.
const SILENCE_MAX: Duration = Duration::from_secs(1_767);
/// Answers that may wait for a device: one for each request it may make in a while.
const QUEUE: usize = 16;

/// A request that is refused with an answer, on either protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {message}: {}", refusal.detail)]
pub struct Fault {
    /// The rule, with [`Look::Answer`].
    pub refusal: Refusal,
    /// The service's error number; a thousandth of it is the status.
    pub code: u32,
    /// What the device reads.
    pub message: &'static str,
    /// When to come again, in seconds.
    pub retry_after: Option<u64>,
}

impl Fault {
    /// Rule `rule` is broken by `detail`.
    pub fn new(rule: &'static Rule, code: u32, message: &'static str, detail: impl Into<String>) -> Self {
        let status = u16::try_from(code / 1_000).unwrap_or(500);
        Self {
            refusal: Refusal::new(rule, Look::Answer(status), detail),
            code,
            message,
            retry_after: None,
        }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        u16::try_from(self.code / 1_000).unwrap_or(500)
    }
}

/// What a failed handshake has broken: most often the client did not offer TLS 1.2.
pub(crate) fn handshake(error: &std::io::Error) -> &'static Rule {
    use rustls::PeerIncompatible::{Tls12NotOffered, Tls12NotOfferedOrEnabled};
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::PeerIncompatible(Tls12NotOffered | Tls12NotOfferedOrEnabled)) => &TLS_1_2,
        _ => &mqtt::TLS,
    }
}

/// Whether the service has this version of its device API.
///
/// # Errors
/// [`API_VERSION`] is broken.
pub fn api_version(version: Option<&str>) -> Result<(), String> {
    match version {
        Some(v) if API_VERSIONS.contains(&v) => Ok(()),
        Some(v) => Err(format!("the api-version is {v:?}, expected one of {API_VERSIONS:?}")),
        None => Err(format!("there is no api-version, expected one of {API_VERSIONS:?}")),
    }
}

/// The MQTT side of one service.
#[derive(Debug, Clone)]
pub struct Mqtt {
    id_scope: String,
}

impl Mqtt {
    /// `id_scope` is the service's, e.g. `0ne00111111`.
    #[must_use]
    pub fn new(id_scope: String) -> Self {
        Self { id_scope }
    }

    fn user_name(&self, name: &str, client_id: &str) -> Result<(), Refusal> {
        let refuse = |rule, detail: String| Refusal::new(rule, Look::ConnAck(connack::NOT_AUTHORIZED), detail);
        let mut parts = name.splitn(4, '/');
        let (scope, kind, id, query) = (parts.next(), parts.next(), parts.next(), parts.next());
        let query = query.and_then(|q| q.strip_prefix("api-version=")?.split('&').next());
        match (scope, kind, id, query) {
            (Some(scope), Some("registrations"), Some(id), Some(version)) if id.eq_ignore_ascii_case(client_id) => {
                if scope != self.id_scope {
                    let detail = format!("the id scope is {scope:?}, expected {:?}", self.id_scope);
                    return Err(refuse(&ID_SCOPE, detail));
                }
                api_version(Some(version)).map_err(|detail| refuse(&API_VERSION, detail))
            }
            _ => Err(refuse(
                &USER_NAME,
                format!(
                    "the user name is {name:?}, expected \"{}/registrations/{client_id}/api-version=2019-03-31\"",
                    self.id_scope
                ),
            )),
        }
    }
}

impl Policy for Mqtt {
    fn rules(&self) -> &'static [&'static Rule] {
        &RULES
    }

    fn handshake(&self, error: &std::io::Error) -> &'static Rule {
        handshake(error)
    }

    fn limits(&self) -> Limits {
        Limits {
            packet: BODY_MAX + HEADER_ROOM,
            in_flight: QUEUE,
            queue: QUEUE,
            // There are no persistent sessions, whatever CleanSession says ([`MQTT`]).
            session_expiry: Duration::ZERO,
            hash_covers_parent: true,
            foreign_take_over: true,
        }
    }

    fn connect(&self, peer: &Peer, connect: &Connect) -> Result<Session, Refusal> {
        let refuse = |rule, detail: String| Refusal::new(rule, Look::ConnAck(connack::NOT_AUTHORIZED), detail);
        let id: RegistrationId = connect
            .client_id
            .parse()
            .map_err(|e| refuse(&REGISTRATION_ID, format!("the client id: {e}")))?;
        let name = connect.username.as_deref().unwrap_or_default();
        let named = name.split('/').nth(2).unwrap_or(&connect.client_id);
        if !id.is(named) {
            let detail = format!("the client id is {id}, the user name is for {named:?}");
            return Err(refuse(&CLIENT_ID, detail));
        }
        self.user_name(name, &connect.client_id)?;
        if connect.password.as_ref().is_some_and(|p| !p.is_empty()) {
            return Err(refuse(&PASSWORD, "a password was sent".into()));
        }
        if let Some(will) = &connect.will {
            return Err(refuse(&WILL, format!("a will for {:?}", will.topic)));
        }
        if peer.chain.is_empty() {
            return Err(refuse(&CERTIFICATE, "there is no client certificate".into()));
        }
        let cn = peer
            .cn
            .as_deref()
            .ok_or_else(|| refuse(&COMMON_NAME, "the certificate has no common name, or several".into()))?;
        if !id.is(cn) {
            let detail = format!("the certificate is for {cn:?}, the registration id is {id}");
            return Err(refuse(&COMMON_NAME, detail));
        }
        Ok(Session {
            api_version: name
                .split_once("api-version=")
                .map(|(_, v)| v.split('&').next().unwrap_or_default().to_owned()),
            client_id: connect.client_id.clone(),
            owner: cn.to_owned(),
            cn: cn.to_owned(),
        })
    }

    fn silence_allowed(&self, keep_alive: u16) -> Duration {
        match keep_alive {
            0 => SILENCE_MAX,
            seconds => super::one_and_a_half(seconds).min(SILENCE_MAX),
        }
    }

    fn publish(&self, _session: &Session, p: Publication<'_>) -> Result<(), Refusal> {
        let close = |rule, detail: String| Err(Refusal::new(rule, Look::Close, detail));
        if p.qos > 1 {
            return close(&QOS_2, "a PUBLISH with QoS 2".into());
        }
        if !p.topic.starts_with(REGISTER) && !p.topic.starts_with(POLL) {
            return close(&TOPIC, format!("the topic is {:?}", p.topic));
        }
        if p.payload > BODY_MAX {
            return close(&SIZE, format!("{} bytes, at most {BODY_MAX} are taken", p.payload));
        }
        Ok(())
    }

    fn subscribe(&self, _session: &Session, filter: &str, qos: u8, _held: usize) -> Result<u8, Refusal> {
        if filter != ANSWERS {
            let detail = format!("{filter:?}, expected {ANSWERS:?}");
            return Err(Refusal::new(&FILTER, Look::Close, detail));
        }
        Ok(qos.min(1)) // QoS 2 is granted as QoS 1
    }
}
