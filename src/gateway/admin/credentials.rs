//! Credential sets: `{"type": "x509", "description": "…", "credentials": {"key": PEM, "cert": PEM, "ca": PEM}}`, as SORACOM's
//! `createCredential` takes them.
//!
//! A set is read whole before it is kept: the key must fit the certificate, the chain must lead on, the authorities must be readable.
//! What came in broken is refused with the reason, so that no device finds out. A certificate that has expired is kept with a warning,
//! because a replacement may be tested with it. SORACOM's other types (passwords, keys of other clouds) are refused: nothing here uses them.

use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{AdminError, millis, mistakes};
use crate::clock::Clock;
use crate::gateway::credential::CredentialId;
use crate::gateway::json::{Notes, Object};
use crate::gateway::store::{CredentialSummary, Store};
use crate::tls::{self, Identity};

/// The one type that is of use here.
pub const X509: &str = "x509";

/// A set that was read and found good.
pub struct Draft {
    /// For people.
    pub description: String,
    /// The secret as it is stored.
    secret: Zeroizing<String>,
    /// End of the certificate's validity, Unix time.
    pub not_after: Duration,
    /// The certificate's common name.
    pub common_name: Option<String>,
    /// What is odd about it.
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Draft({:?}, …)", self.description)
    }
}

impl Draft {
    /// Reads a body as SORACOM's API takes it.
    ///
    /// # Errors
    /// Every mistake, with its place in the text.
    pub fn read(body: &str, clock: &Clock) -> Result<Self, AdminError> {
        let notes = Notes::of_text(body);
        let mut parts = None;
        if let Some(mut o) = notes.top("").and_then(|top| top.object()) {
            match o.text("type") {
                Some((kind, node)) if kind != X509 => node.mistake(format!(
                    "{:?} is of no use to this gateway: it takes \"{X509}\"",
                    crate::gateway::json::short(&kind)
                )),
                Some(_) => {}
                None => o.mistake(format!("type is missing: write \"type\": \"{X509}\"")),
            }
            let description = o.text("description").map(|(text, _)| text).unwrap_or_default();
            // The CLI of SORACOM repeats the id in the body; the path names it.
            o.get("credentialsId");
            match o.some("credentials") {
                Some(node) => {
                    if let Some(mut inner) = node.object() {
                        let cert = pem(&mut inner, "cert");
                        let key = pem(&mut inner, "key");
                        for (key, there) in [("cert", cert.is_some()), ("key", key.is_some())] {
                            if !there {
                                inner.mistake(format!("{key} is missing: the PEM text itself, not the name of a file"));
                            }
                        }
                        parts = cert.zip(key).map(|(c, k)| (description, c, k, pem(&mut inner, "ca")));
                        pem(&mut inner, "ca");
                        inner.finish();
                    }
                }
                None => o.mistake("credentials is missing: write {\"key\": PEM, \"cert\": PEM, \"ca\": PEM}"),
            }
            o.finish();
        }
        mistakes(&notes.done())?;
        let Some((description, cert, key, ca)) = parts else {
            return Err(AdminError::wrong("this is no credential set"));
        };
        Self::of(description, &cert, &key, ca.as_ref().map(|t| t.as_str()), clock)
    }

    /// From PEM texts.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of(description: String, cert: &str, key: &str, ca: Option<&str>, clock: &Clock) -> Result<Self, AdminError> {
        let wrong = |e: tls::TlsError| AdminError::wrong(e.to_string());
        let identity = Identity::from_pem(cert.as_bytes(), key.as_bytes(), "credentials.cert and credentials.key");
        let identity = identity.map_err(wrong)?;
        if let Some(ca) = ca {
            tls::roots(ca.as_bytes(), "credentials.ca").map_err(wrong)?;
        }
        let mut warnings: Vec<String> = identity.repairs.iter().map(ToString::to_string).collect();
        let leaf = &identity.leaf;
        if clock.now().is_some_and(|(now, _)| now > leaf.not_after) {
            let until = crate::clock::rfc3339(leaf.not_after);
            warnings.push(format!("the certificate expired at {until}: upstream will refuse it"));
        }
        let secret = match ca {
            Some(ca) => serde_json::to_string(&Secret {
                key,
                cert,
                ca: Some(ca),
            }),
            None => serde_json::to_string(&Secret { key, cert, ca: None }),
        };
        Ok(Self {
            description,
            secret: Zeroizing::new(secret.map_err(|e| AdminError::wrong(e.to_string()))?),
            not_after: leaf.not_after,
            common_name: leaf.common_name.clone(),
            warnings,
        })
    }

    /// Keeps it; `new` refuses an id that is there.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn put(self, store: &Store, id: &CredentialId, new: bool) -> Result<CredentialSummary, AdminError> {
        let (description, until) = (self.description, Some(self.not_after));
        Ok(store
            .put_credential(id, X509, &description, self.secret, until, new)
            .await?)
    }
}

#[derive(serde::Serialize)]
struct Secret<'a> {
    key: &'a str,
    cert: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a str>,
}

fn pem(o: &mut Object<'_, '_>, key: &'static str) -> Option<Zeroizing<String>> {
    let (text, _) = o.text(key)?;
    (!text.is_empty()).then(|| Zeroizing::new(text))
}

/// A set as SORACOM's `CredentialsModel`, without its secret.
#[must_use]
pub fn shown(c: &CredentialSummary) -> Value {
    json!({
        "credentialsId": c.id.as_str(),
        "type": c.kind,
        "description": c.description,
        "createDateTime": millis(c.created),
        "updateDateTime": millis(c.updated),
        "lastUsedDateTime": c.last_used.map(millis),
        "notAfterDateTime": c.not_after.map(millis),
        "credentials": {},
    })
}
