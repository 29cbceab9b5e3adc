//! Krypton's answers: parsed without I/O into types, and taken apart again into named fields for those who show or keep them.
//!
//! Field names are those of the result classes of soracom-krypton-client-for-java and of soratun's `ArcSession`; unknown fields are passed
//! over. Secrets are [`Secret`]s, so that no `Debug` shows them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::KryptonError;
use super::reply::{Reply, excerpt};
use super::secret::Secret;
use super::segment::Segment;
use crate::identity::{ClientId, redact_digits};
use crate::provision::keys::Key;
use crate::provision::{Grant, Material};

/// How an Azure registration stands.
#[derive(Debug)]
pub enum Registration {
    /// Not yet; with DPS's word for it. The words for "pending" are not documented, so any success without credentials is pending.
    Pending(String),
    /// Done.
    Assigned(Device),
}

/// A device at Azure or a thing at AWS, with its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// The broker.
    pub host: String,
    /// Azure's device id, AWS's client id, which is the thing's name.
    pub id: String,
    /// AWS's region.
    pub region: Option<String>,
    /// AWS's name for the certificate.
    pub certificate_id: Option<Segment>,
    /// Azure's operation.
    pub operation_id: Option<String>,
    /// Certificate chain, leaf first, as PEM.
    pub certificate: String,
    /// Private key as PEM.
    pub private_key: Secret,
    /// Authority of the broker's certificate as PEM.
    pub root_ca: Option<String>,
}

/// What AWS's bootstrap gives.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Thing {
    host: String,
    client_id: String,
    region: Option<String>,
    /// With `skipCertificates` both are fetched one by one.
    certificate: Option<String>,
    root_ca_certificate: Option<String>,
    /// The certificate's id.
    pub certificate_id: Option<Segment>,
    private_key: Secret,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({}, {})", redact_digits(&self.id), self.host)
    }
}

impl std::fmt::Debug for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Thing({}, {})", redact_digits(&self.client_id), self.host)
    }
}

impl Thing {
    /// Reads the answer to bootstrapAwsIotThing.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub fn read(reply: &Reply) -> Result<Self, KryptonError> {
        let thing: Self = reply.json()?;
        if thing.certificate.is_none() && thing.certificate_id.is_none() {
            return Err(KryptonError::Nonsense(
                "it has neither certificate nor certificateId".to_owned(),
            ));
        }
        Ok(thing)
    }

    /// What must be fetched before it can be used: the certificate under this id.
    #[must_use]
    pub fn lacks(&self) -> Option<&Segment> {
        match self.certificate {
            Some(_) => None,
            None => self.certificate_id.as_ref(),
        }
    }

    /// With what was fetched, certificate and root.
    ///
    /// # Errors
    /// When the certificate is still not there.
    pub fn complete(self, fetched: Option<(String, String)>) -> Result<Device, KryptonError> {
        let (certificate, root_ca) = match fetched {
            Some((certificate, root)) => (Some(certificate), Some(root)),
            None => (self.certificate, self.root_ca_certificate),
        };
        Ok(Device {
            host: self.host,
            id: self.client_id,
            region: self.region,
            certificate_id: self.certificate_id,
            operation_id: None,
            certificate: certificate.ok_or_else(|| KryptonError::Nonsense("it has no certificate".to_owned()))?,
            private_key: self.private_key,
            root_ca,
        })
    }
}

/// Reads the answer to registerAzureIotDevice.
///
/// # Errors
/// [`KryptonError`].
pub fn registered(reply: &Reply) -> Result<Segment, KryptonError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Registered {
        operation_id: String,
    }
    let Registered { operation_id } = reply.json()?;
    Segment::try_from(operation_id).map_err(|e| KryptonError::Nonsense(e.to_string()))
}

/// Reads the answer about an Azure registration, or to Azure's bootstrap.
///
/// # Errors
/// [`KryptonError`].
pub fn registration(reply: &Reply) -> Result<Registration, KryptonError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        status: Option<String>,
        operation_id: Option<String>,
        certificate: Option<String>,
        private_key: Option<Secret>,
        root_ca_certificate: Option<String>,
        device_id: Option<String>,
        host: Option<String>,
    }
    let s: Status = reply.json()?;
    let status = excerpt(s.status.unwrap_or_default().as_bytes());
    match (s.certificate, s.private_key, s.host, s.device_id) {
        (Some(certificate), Some(private_key), Some(host), Some(id)) => Ok(Registration::Assigned(Device {
            host,
            id,
            region: None,
            certificate_id: None,
            operation_id: s.operation_id,
            certificate,
            private_key,
            root_ca: s.root_ca_certificate,
        })),
        _ if matches!(status.as_str(), "failed" | "disabled") => Err(KryptonError::Ended(status)),
        _ if status == "assigned" => Err(KryptonError::Nonsense(
            "it says assigned, but certificate, privateKey, host or deviceId is missing".to_owned(),
        )),
        _ => Ok(Registration::Pending(status)),
    }
}

impl Device {
    /// As credentials: the key fits the certificate, the names can be used.
    ///
    /// # Errors
    /// [`KryptonError`], naming the part.
    pub fn grant(self) -> Result<Grant, KryptonError> {
        if rustls_pki_types::ServerName::try_from(self.host.as_str()).is_err() {
            return Err(KryptonError::Nonsense(format!(
                "the host {:?} is no host name",
                excerpt(self.host.as_bytes())
            )));
        }
        let client_id = ClientId::new(self.id).map_err(|e| KryptonError::Nonsense(e.to_string()))?;
        let grant = Grant {
            host: self.host,
            client_id,
            material: Material::Issued {
                certificate_pem: self.certificate,
                private_key_pem: self.private_key.into_inner(),
            },
            root_ca_pem: self.root_ca.filter(|pem| !pem.trim().is_empty()),
        };
        grant.check("Krypton's answer")?;
        Ok(grant)
    }
}

/// Temporary AWS credentials, from Amazon Cognito.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CognitoCredentials {
    /// AWS's region.
    pub region: String,
    /// Cognito's identity of this SIM.
    pub identity_id: String,
    /// The credentials.
    pub credentials: SessionCredentials,
}

/// The inner part of [`CognitoCredentials`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCredentials {
    /// `ASIA…`.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_key: Secret,
    /// The session's token.
    pub session_token: Secret,
    /// When they end.
    pub expiration: Expiration,
}

/// When credentials end: the Java client's type is a number of milliseconds, a user saw a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Expiration {
    /// Unix milliseconds.
    Milliseconds(u64),
    /// RFC 3339, presumably.
    Text(String),
}

/// An OpenID token, from Amazon Cognito.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CognitoToken {
    /// AWS's region.
    pub region: String,
    /// The token, a JWT.
    pub token: Secret,
    /// Cognito's identity of this SIM.
    pub identity_id: String,
}

/// A pre-shared key for SORACOM Inventory (LwM2M).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Where LwM2M registration goes.
    pub server_uri: String,
    /// The key's name.
    pub psk_id: String,
    /// The key, in base64.
    pub application_key: Secret,
}

impl Inventory {
    /// Reads the answer. The application key is in it, or is derived from its nonce and CK.
    ///
    /// # Errors
    /// [`KryptonError`]; also when there is a nonce and no `key` (at the cellular door).
    pub fn read(reply: &Reply, key: Option<&Key>) -> Result<Self, KryptonError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Told {
            server_uri: String,
            psk_id: String,
            application_key: Option<Secret>,
            nonce: Option<String>,
            timestamp: Option<String>,
        }
        let told: Told = reply.json()?;
        let nonsense = |what: &str| Err(KryptonError::Nonsense(what.to_owned()));
        let application_key = match (told.application_key, told.nonce, told.timestamp, key) {
            (Some(told), ..) => told,
            (None, Some(nonce), Some(timestamp), Some(key)) => match STANDARD.decode(nonce) {
                Ok(nonce) => key.application_key(&nonce, &timestamp),
                Err(_) => return nonsense("the nonce is no base64"),
            },
            (None, Some(_), Some(_), None) => {
                return nonsense("it has a nonce to derive the key with, which only SIM authentication can do");
            }
            _ => return nonsense("it has neither applicationKey nor nonce and timestamp"),
        };
        Ok(Self {
            server_uri: told.server_uri,
            psk_id: told.psk_id,
            application_key,
        })
    }
}

/// A WireGuard configuration for SORACOM Arc.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArcSession {
    /// The server's public key.
    pub arc_server_peer_public_key: String,
    /// The server, `host:port`.
    pub arc_server_endpoint: String,
    /// What is routed through the tunnel.
    #[serde(rename = "arcAllowedIPs")]
    pub arc_allowed_ips: Vec<String>,
    /// Our private key.
    pub arc_client_peer_private_key: Secret,
    /// Our address in the tunnel.
    pub arc_client_peer_ip_address: String,
}

/// What SORACOM Air knows about the SIM, as it says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata(pub serde_json::Map<String, Value>);

impl Metadata {
    /// Reads the answer.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub fn read(reply: &Reply) -> Result<Self, KryptonError> {
        reply.json().map(Self)
    }
}

/// The text that the SIM's group has for its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Userdata(pub String);

impl Userdata {
    /// Reads the answer, which may be empty.
    ///
    /// # Errors
    /// [`KryptonError`].
    pub fn read(reply: &Reply) -> Result<Self, KryptonError> {
        match std::str::from_utf8(reply.good()?) {
            Ok(text) => Ok(Self(text.to_owned())),
            Err(_) => Err(KryptonError::Nonsense("the userdata is no UTF-8 text".to_owned())),
        }
    }
}
