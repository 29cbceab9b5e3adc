//! Answers as named fields, in SORACOM's names: what a program shows, prints as JSON or writes into files, without knowing each answer.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::answer::{ArcSession, CognitoCredentials, CognitoToken, Device, Inventory, Metadata, Userdata};
use super::secret::Secret;

/// A field's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// What anybody may see.
    Plain(Value),
    /// What is shown only to those who ask for it.
    Secret(Secret),
    /// A text that is a file of its own.
    File {
        /// The file's name.
        name: &'static str,
        /// The text.
        text: Secret,
        /// Whether only its owner may read it.
        private: bool,
    },
}

/// A field of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// SORACOM's name for it.
    pub name: Cow<'static, str>,
    /// What it holds.
    pub content: Content,
}

/// An answer, taken apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields(pub Vec<Field>);

/// File of a certificate chain.
pub const CERTIFICATE: &str = "certificate.pem";
/// File of a private key.
pub const PRIVATE_KEY: &str = "private.key";
/// File of the broker's authority.
pub const CA: &str = "ca.pem";
/// File of userdata.
pub const USERDATA: &str = "userdata";

impl Fields {
    fn plain(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        let content = Content::Plain(value.into());
        self.0.push(Field {
            name: name.into(),
            content,
        });
        self
    }

    fn maybe(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.plain(name, value),
            None => self,
        }
    }

    fn secret(mut self, name: &'static str, secret: Secret) -> Self {
        let content = Content::Secret(secret);
        self.0.push(Field {
            name: name.into(),
            content,
        });
        self
    }

    fn file(mut self, field: &'static str, name: &'static str, text: Secret, private: bool) -> Self {
        let content = Content::File { name, text, private };
        self.0.push(Field {
            name: field.into(),
            content,
        });
        self
    }

    /// As one JSON object, secrets included. `room` is the most that it can take, in bytes: the buffer never grows, so that no copy of a
    /// secret stays behind.
    ///
    /// # Errors
    /// Never, for what the answers hold.
    pub fn json(&self, room: usize) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *out, self)?;
        Ok(out)
    }

    /// Those that are no files.
    #[must_use]
    pub fn without_files(&self) -> Self {
        let rest = self.0.iter().filter(|f| !matches!(f.content, Content::File { .. }));
        Self(rest.cloned().collect())
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for field in &self.0 {
            match &field.content {
                Content::Plain(value) => map.serialize_entry(&field.name, value)?,
                Content::Secret(text) | Content::File { text, .. } => map.serialize_entry(&field.name, text)?,
            }
        }
        map.end()
    }
}

impl Device {
    /// Azure's names.
    #[must_use]
    pub fn azure(self) -> Fields {
        Fields::default()
            .plain("deviceId", self.id)
            .plain("host", self.host)
            .maybe("operationId", self.operation_id)
            .credentials(self.certificate, self.private_key, self.root_ca)
    }

    /// AWS's names.
    #[must_use]
    pub fn aws(self) -> Fields {
        Fields::default()
            .plain("clientId", self.id)
            .plain("host", self.host)
            .maybe("region", self.region)
            .maybe("certificateId", self.certificate_id.map(String::from))
            .credentials(self.certificate, self.private_key, self.root_ca)
    }
}

impl Fields {
    fn credentials(self, certificate: String, private_key: Secret, root_ca: Option<String>) -> Self {
        let fields = self.file("certificate", CERTIFICATE, certificate.into(), false).file(
            "privateKey",
            PRIVATE_KEY,
            private_key,
            true,
        );
        match root_ca {
            Some(pem) => fields.file("rootCaCertificate", CA, pem.into(), false),
            None => fields,
        }
    }
}

impl From<CognitoCredentials> for Fields {
    fn from(c: CognitoCredentials) -> Self {
        Self::default()
            .plain("region", c.region)
            .plain("identityId", c.identity_id)
            .plain("accessKeyId", c.credentials.access_key_id)
            .secret("secretKey", c.credentials.secret_key)
            .secret("sessionToken", c.credentials.session_token)
            .plain("expiration", json!(c.credentials.expiration))
    }
}

impl From<CognitoToken> for Fields {
    fn from(t: CognitoToken) -> Self {
        Self::default()
            .plain("region", t.region)
            .plain("identityId", t.identity_id)
            .secret("token", t.token)
    }
}

impl From<Inventory> for Fields {
    fn from(i: Inventory) -> Self {
        Self::default()
            .plain("serverUri", i.server_uri)
            .plain("pskId", i.psk_id)
            .secret("applicationKey", i.application_key)
    }
}

impl From<ArcSession> for Fields {
    fn from(a: ArcSession) -> Self {
        Self::default()
            .plain("arcServerPeerPublicKey", a.arc_server_peer_public_key)
            .plain("arcServerEndpoint", a.arc_server_endpoint)
            .plain("arcAllowedIPs", a.arc_allowed_ips)
            .secret("arcClientPeerPrivateKey", a.arc_client_peer_private_key)
            .plain("arcClientPeerIpAddress", a.arc_client_peer_ip_address)
    }
}

impl From<Metadata> for Fields {
    fn from(m: Metadata) -> Self {
        let field = |(name, value): (String, Value)| Field {
            name: name.into(),
            content: Content::Plain(value),
        };
        Self(m.0.into_iter().map(field).collect())
    }
}

impl From<Userdata> for Fields {
    fn from(u: Userdata) -> Self {
        Self::default().file("userdata", USERDATA, u.0.into(), false)
    }
}
