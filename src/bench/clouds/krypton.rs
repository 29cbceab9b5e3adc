//! SORACOM Krypton's cellular door: what a device asks for over its SIM's own connection, and gets its cloud credentials from.
//!
//! The real service knows the caller by its cellular session; here the source address stands for it ([`Subscribers`]). Paths, fields
//! and statuses are those of SORACOM's clients and guides. The codes in error bodies (`KRY…`) are the bench's own, because no list of
//! them is published; so is the pending status, `assigning`, which is that of Azure's provisioning service behind Krypton.
//!
//! `certificate` holds the leaf and the intermediate. `rootCaCertificate` is the authority of the stand-in brokers. Each AWS bootstrap
//! makes new credentials, as the real one does; an Azure registration keeps what it was assigned.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::authority::{AuthorityError, COMMON_NAME_MAX, Ca};
use super::fault::{KryptonFault, Switch};
use super::stand_in::{Config, Hosts};
use super::subscribers::Subscribers;
use crate::clock::Clock;
use crate::identity::Imsi;
use crate::pki::Issued;

/// Registrations and certificates kept; the oldest go first.
const KEPT_MAX: usize = 1_000;
/// What a pattern writes for the IMSI (Krypton's group configuration).
const IMSI_PLACEHOLDER: &str = "$imsi";
/// Longest IMSI, in digits.
const IMSI_MAX: usize = 15;
/// PEM around something that is no certificate.
const GARBAGE: &str = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";

/// An error answer: `{"code","message"}`, the shape of every SORACOM API.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, code, message }
    }
}

impl From<AuthorityError> for ApiError {
    fn from(e: AuthorityError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "KRY0500", e.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = axum::Json(json!({"code": self.code, "message": self.message}));
        (self.status, body).into_response()
    }
}

/// What a request may say.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    request_parameters: Parameters,
}

/// Parameters that override the group's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Parameters {
    device_id: Option<String>,
    host: Option<String>,
    thing_name: Option<String>,
    skip_certificates: bool,
}

fn parameters(body: &[u8]) -> Result<Parameters, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Parameters::default());
    }
    serde_json::from_slice::<Body>(body)
        .map(|b| b.request_parameters)
        .map_err(|e| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "KRY0400",
                format!("the body is not what is expected: {e}"),
            )
        })
}

#[derive(Debug)]
struct Registration {
    operation_id: String,
    imsi: Imsi,
    device_id: String,
    host: String,
    polls: u32,
    since: Duration,
    assigned: Option<Value>,
}

#[derive(Debug)]
struct Certificate {
    id: String,
    imsi: Imsi,
    pem: String,
}

#[derive(Debug, Default)]
struct State {
    registrations: VecDeque<Registration>,
    certificates: VecDeque<Certificate>,
}

/// Krypton without its HTTP.
#[derive(Debug)]
pub(crate) struct Krypton {
    pub(crate) subscribers: Subscribers,
    pub(crate) fault: Switch<KryptonFault>,
    ca: Arc<Ca>,
    clock: Clock,
    hosts: Hosts,
    device_id_pattern: String,
    thing_name_pattern: String,
    assigning_polls: u32,
    assigning_for: Duration,
    state: Mutex<State>,
}

/// Checks a pattern for names.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    if !pattern.contains(IMSI_PLACEHOLDER) {
        return Err(format!(
            "{pattern:?} has no {IMSI_PLACEHOLDER}: every SIM would get the same name"
        ));
    }
    if pattern.replace(IMSI_PLACEHOLDER, &"0".repeat(IMSI_MAX)).len() > COMMON_NAME_MAX {
        return Err(format!(
            "{pattern:?} gives names longer than {COMMON_NAME_MAX} characters"
        ));
    }
    Ok(())
}

impl Krypton {
    pub(crate) fn new(config: &Config, ca: Arc<Ca>, clock: Clock) -> Self {
        Self {
            subscribers: config.subscribers.clone(),
            fault: Switch::new(config.krypton_fault),
            ca,
            clock,
            hosts: config.hosts.clone(),
            device_id_pattern: config.device_id_pattern.clone(),
            thing_name_pattern: config.thing_name_pattern.clone(),
            assigning_polls: config.assigning_polls,
            assigning_for: config.assigning_for,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// registerAzureIotDevice.
    pub(crate) fn register(&self, imsi: &Imsi, body: &[u8]) -> Result<Value, ApiError> {
        let asked = parameters(body)?;
        let device_id = asked
            .device_id
            .unwrap_or_else(|| self.device_id_pattern.replace(IMSI_PLACEHOLDER, imsi.as_str()));
        check_name("deviceId", &device_id, COMMON_NAME_MAX)?;
        // The shape that Azure's provisioning service gives its operation ids.
        let operation_id = format!(
            "5.{:016x}.{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            fastrand::u64(..),
            fastrand::u32(..),
            fastrand::u16(..),
            fastrand::u16(..),
            fastrand::u16(..),
            fastrand::u64(..) >> 16
        );
        let mut state = self.state();
        if state.registrations.len() >= KEPT_MAX {
            state.registrations.pop_front();
        }
        state.registrations.push_back(Registration {
            operation_id: operation_id.clone(),
            imsi: imsi.clone(),
            device_id,
            host: asked.host.unwrap_or_else(|| self.hosts.iot_hub.clone()),
            polls: 0,
            since: self.clock.monotonic(),
            assigned: None,
        });
        Ok(json!({"operationId": operation_id, "status": "assigning"}))
    }

    /// getAzureIotDeviceRegistrationStatus.
    pub(crate) fn status(&self, imsi: &Imsi, operation_id: &str) -> Result<Value, ApiError> {
        let mut state = self.state();
        let registration = state
            .registrations
            .iter_mut()
            // Another SIM's registration does not exist for the caller.
            .find(|r| r.operation_id == operation_id && r.imsi == *imsi)
            .ok_or_else(|| {
                let message = format!("there is no registration {operation_id:?} of this SIM");
                ApiError::new(StatusCode::NOT_FOUND, "KRY0404", message)
            })?;
        let plain = |status: &str| json!({"operationId": operation_id, "status": status});
        let asked = |f: KryptonFault| matches!(f, KryptonFault::NeverAssigned | KryptonFault::Failed);
        match self.fault.take(asked) {
            Some(KryptonFault::Failed) => return Ok(plain("failed")),
            Some(_) => return Ok(plain("assigning")),
            None => {}
        }
        registration.polls = registration.polls.saturating_add(1);
        let waited = self.clock.monotonic().saturating_sub(registration.since);
        if registration.polls <= self.assigning_polls || waited < self.assigning_for {
            return Ok(plain("assigning"));
        }
        if let Some(assigned) = &registration.assigned {
            return Ok(assigned.clone());
        }
        let issued = self.issue(&registration.device_id)?;
        let assigned = json!({
            "operationId": operation_id,
            "status": "assigned",
            "deviceId": registration.device_id,
            "host": registration.host,
            "certificate": issued.chain_pem,
            "privateKey": issued.key_pem.as_str(),
            "rootCaCertificate": self.ca.root_pem(),
        });
        registration.assigned = Some(assigned.clone());
        Ok(assigned)
    }

    /// bootstrapAwsIotThing.
    pub(crate) fn bootstrap(&self, imsi: &Imsi, body: &[u8]) -> Result<Value, ApiError> {
        let asked = parameters(body)?;
        let thing = asked
            .thing_name
            .unwrap_or_else(|| self.thing_name_pattern.replace(IMSI_PLACEHOLDER, imsi.as_str()));
        // AWS allows 128, but the stand-in puts the name into a certificate.
        check_name("thingName", &thing, COMMON_NAME_MAX)?;
        let issued = self.issue(&thing)?;
        let certificate_id: String = (0..4).map(|_| format!("{:016x}", fastrand::u64(..))).collect();
        let mut state = self.state();
        if state.certificates.len() >= KEPT_MAX {
            state.certificates.pop_front();
        }
        state.certificates.push_back(Certificate {
            id: certificate_id.clone(),
            imsi: imsi.clone(),
            pem: issued.chain_pem.clone(),
        });
        // {prefix}-ats.iot.{region}.amazonaws.com
        let region = self.hosts.aws_iot.split('.').nth(2).unwrap_or_default();
        let mut answer = json!({
            "region": region,
            "host": self.hosts.aws_iot,
            "clientId": thing,
            "certificateId": certificate_id,
            "privateKey": issued.key_pem.as_str(),
        });
        if !asked.skip_certificates {
            answer["certificate"] = issued.chain_pem.into();
            answer["rootCaCertificate"] = self.ca.root_pem().into();
        }
        Ok(answer)
    }

    /// One certificate as PEM text.
    pub(crate) fn certificate(&self, imsi: &Imsi, id: &str) -> Result<String, ApiError> {
        let state = self.state();
        let found = state.certificates.iter().find(|c| c.id == id && c.imsi == *imsi);
        found.map(|c| c.pem.clone()).ok_or_else(|| {
            let message = format!("there is no certificate {id:?} of this SIM");
            ApiError::new(StatusCode::NOT_FOUND, "KRY0404", message)
        })
    }

    /// The brokers' authority as PEM text.
    pub(crate) fn ca_certificate(&self) -> String {
        self.ca.root_pem()
    }

    fn issue(&self, name: &str) -> Result<Issued, ApiError> {
        use KryptonFault::{Expired, GarbageCertificate, WrongKey};
        let asked = |f: KryptonFault| matches!(f, WrongKey | Expired | GarbageCertificate);
        Ok(match self.fault.take(asked) {
            Some(Expired) => self.ca.expired_device(name)?,
            Some(WrongKey) => Issued {
                key_pem: self.ca.device(name)?.key_pem,
                ..self.ca.device(name)?
            },
            Some(_) => Issued {
                chain_pem: GARBAGE.into(),
                leaf_pem: GARBAGE.into(),
                ..self.ca.device(name)?
            },
            None => self.ca.device(name)?,
        })
    }
}

/// Letters, digits, colon, underscore, hyphen and, for device ids, dot (AWS CreateThing; Azure IoT Hub device identity).
fn check_name(field: &str, name: &str, max: usize) -> Result<(), ApiError> {
    let good = !name.is_empty()
        && name.len() <= max
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-.".contains(&b))
        && !name.starts_with('.');
    if good {
        Ok(())
    } else {
        let message = format!("{field} {name:?} is not 1 to {max} letters, digits, ':', '_', '-' or '.'");
        Err(ApiError::new(StatusCode::BAD_REQUEST, "KRY0400", message))
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscribers::DEFAULT_IMSI;
    use super::*;

    fn krypton(change: impl FnOnce(&mut Config)) -> (tempfile::TempDir, Krypton, Imsi) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        change(&mut config);
        let ca = Arc::new(Ca::open(dir.path(), Clock::new()).unwrap());
        let k = Krypton::new(&config, ca, Clock::new());
        (dir, k, DEFAULT_IMSI.parse().unwrap())
    }

    fn operation(answer: &Value) -> String {
        answer["operationId"].as_str().unwrap().to_owned()
    }

    #[test]
    fn assigning_then_assigned_and_stays_so() {
        let (_dir, k, imsi) = krypton(|c| c.assigning_polls = 2);
        let id = operation(&k.register(&imsi, b"").unwrap());
        for _ in 0..2 {
            assert_eq!(k.status(&imsi, &id).unwrap()["status"], "assigning");
        }
        let assigned = k.status(&imsi, &id).unwrap();
        assert_eq!(assigned["status"], "assigned");
        assert_eq!(assigned["deviceId"], format!("myDevice-{DEFAULT_IMSI}"));
        assert_eq!(assigned["host"], "onyx-hub.azure-devices.net");
        assert_eq!(k.status(&imsi, &id).unwrap(), assigned);
        let other: Imsi = "440103123456789".parse().unwrap();
        assert_eq!(k.status(&other, &id).unwrap_err().status, StatusCode::NOT_FOUND);
    }

    #[test]
    fn assigning_for_a_while() {
        let (_dir, k, imsi) = krypton(|c| c.assigning_for = Duration::from_secs(3_600));
        let id = operation(&k.register(&imsi, b"").unwrap());
        assert_eq!(k.status(&imsi, &id).unwrap()["status"], "assigning");
        let k = Krypton {
            assigning_for: Duration::ZERO,
            ..k
        };
        assert_eq!(k.status(&imsi, &id).unwrap()["status"], "assigned");
    }

    #[test]
    fn parameters_override_and_bad_ones_are_named() {
        let (_dir, k, imsi) = krypton(|_| {});
        let body = br#"{"requestParameters":{"deviceId":"dev1","host":"other.azure-devices.net","idScope":"0ne"}}"#;
        let id = operation(&k.register(&imsi, body).unwrap());
        let a = k.status(&imsi, &id).unwrap();
        assert_eq!(
            (&a["deviceId"], &a["host"]),
            (&"dev1".into(), &"other.azure-devices.net".into())
        );
        for bad in [
            &b"{"[..],
            b"[]x",
            br#"{"requestParameters":{"deviceId":"../x"}}"#,
            b"\xff",
        ] {
            assert_eq!(k.register(&imsi, bad).unwrap_err().status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn aws_with_and_without_certificates() {
        let (_dir, k, imsi) = krypton(|_| {});
        let all = k.bootstrap(&imsi, b"{}").unwrap();
        assert_eq!(all["region"], "ap-northeast-1");
        assert_eq!(all["clientId"], format!("myThing-{DEFAULT_IMSI}"));
        assert!(all["certificate"].is_string() && all["rootCaCertificate"].is_string());
        let body = br#"{"requestParameters":{"thingName":"t1","skipCertificates":true}}"#;
        let some = k.bootstrap(&imsi, body).unwrap();
        assert_eq!((&some["clientId"], &some["certificate"]), (&"t1".into(), &Value::Null));
        let pem = k.certificate(&imsi, some["certificateId"].as_str().unwrap()).unwrap();
        crate::tls::Identity::from_pem(pem.as_bytes(), some["privateKey"].as_str().unwrap().as_bytes(), "t1").unwrap();
        assert_eq!(k.certificate(&imsi, "00").unwrap_err().status, StatusCode::NOT_FOUND);
    }

    #[test]
    fn faults_spoil_what_they_say() {
        let (_dir, k, imsi) = krypton(|_| {});
        let read = |v: &Value| {
            let text = |n: &str| v[n].as_str().unwrap().to_owned();
            crate::tls::Identity::from_pem(text("certificate").as_bytes(), text("privateKey").as_bytes(), "k")
        };
        let fetch = |fault: &str| {
            k.fault.set(Some(fault.parse().unwrap()));
            let id = operation(&k.register(&imsi, b"").unwrap());
            k.status(&imsi, &id).unwrap()
        };
        assert!(matches!(
            read(&fetch("wrong-key*1")),
            Err(crate::tls::TlsError::Mismatch(_))
        ));
        assert!(matches!(
            read(&fetch("garbage-cert*1")),
            Err(crate::tls::TlsError::BadCertificate { .. })
        ));
        assert!(read(&fetch("expired*1")).unwrap().leaf.not_after < Clock::new().system());
        assert_eq!(fetch("failed*1")["status"], "failed");
        assert_eq!(fetch("never-assigned*1")["status"], "assigning");
        let id = operation(&k.register(&imsi, b"").unwrap());
        assert!(read(&k.status(&imsi, &id).unwrap()).is_ok(), "the faults are used up");
    }

    #[test]
    fn patterns_need_the_imsi() {
        assert!(check_pattern("myDevice-$imsi").is_ok());
        assert!(check_pattern("myDevice").is_err());
        assert!(check_pattern(&format!("{}$imsi", "x".repeat(50))).is_err());
    }
}
