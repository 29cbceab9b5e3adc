//! The account's registry: authorities, certificates, things, policies and templates. No I/O; the time is an argument.
//!
//! A certificate is known by the SHA-256 of its DER, as AWS names them. What happens when one is presented is in [`admission`].

mod admission;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::document::{ACCOUNT, Context, Document, Verdict, verdict};
use super::reserved::is_thing_name;
use super::template::{Provisioned, Template, TemplateError};
use crate::bench::clouds::policy::Session;
use crate::bench::clouds::thumbprint::Thumbprint;

/// Authorities kept (AWS IoT Core quotas: 10 with the same subject; the bench's own bound).
pub const AUTHORITIES_MAX: usize = 32;
/// Certificates kept; the oldest go first. The bench's own bound, as are the next.
pub const CERTIFICATES_MAX: usize = 1_024;
/// Policies kept.
pub const POLICIES_MAX: usize = 128;
/// Templates kept.
pub const TEMPLATES_MAX: usize = 64;
/// Policies attached to one certificate (AWS IoT Core quotas).
pub const ATTACHED_MAX: usize = 10;

/// The state of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// It lets a device in.
    Active,
    /// It does not.
    Inactive,
    /// It waits for somebody to activate it.
    PendingActivation,
    /// It never will again.
    Revoked,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::PendingActivation => "PENDING_ACTIVATION",
            Self::Revoked => "REVOKED",
        })
    }
}

/// What becomes of an unknown certificate of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// Nothing: it stays unknown.
    Off,
    /// It is ACTIVE from the first connection on. No AWS authority does that: it stands for certificates registered beforehand.
    AtOnce,
    /// Just-in-time registration; activated this long after it was registered, or by hand.
    Jitr {
        /// What a rule with a Lambda function would take.
        activate_after: Option<Duration>,
    },
    /// Just-in-time provisioning by the template of this name.
    Jitp(String),
}

#[derive(Debug, Clone)]
struct AuthorityRecord {
    id: String,
    der: CertificateDer<'static>,
    registration: Registration,
}

/// A certificate of the registry.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// SHA-256 of the DER, hexadecimal.
    pub id: String,
    /// Its state.
    pub status: Status,
    /// Which authority registered it.
    pub authority: Option<String>,
    /// Names of the policies attached.
    pub policies: Vec<String>,
    /// Names of the things attached.
    pub things: Vec<String>,
    /// Its subject, by the names of policy variables (`CommonName`, `Country`, …).
    pub subject: BTreeMap<String, String>,
    /// When it was registered, since the Unix epoch.
    pub registered: Duration,
    /// Validity in seconds since the Unix epoch.
    validity: (i64, i64),
    activate_at: Option<Duration>,
}

/// Why something cannot be registered or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// There is no such thing.
    #[error("there is no {0} {1:?}")]
    Unknown(&'static str, String),
    /// No room.
    #[error("{1} {0} are kept already")]
    Full(&'static str, usize),
    /// Not X.509.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// Working out a template failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// The account.
#[derive(Debug)]
pub struct Registry {
    region: String,
    authorities: Vec<AuthorityRecord>,
    certificates: HashMap<String, Certificate>,
    order: VecDeque<String>,
    policies: BTreeMap<String, (String, Document)>,
    templates: BTreeMap<String, (String, Template)>,
    /// Policies of a certificate that registers without a template.
    defaults: Vec<String>,
}

/// The id that AWS gives a certificate.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    format!("{:x}", Thumbprint::of(der))
}

/// The subject by the names of policy variables (developer guide, "X.509 certificate AWS IoT Core policy variables").
fn subject(certificate: &X509Certificate<'_>) -> BTreeMap<String, String> {
    const NAMES: [(&str, &str); 9] = [
        ("2.5.4.3", "CommonName"),
        ("2.5.4.6", "Country"),
        ("2.5.4.10", "Organization"),
        ("2.5.4.11", "OrganizationalUnit"),
        ("2.5.4.8", "State"),
        ("2.5.4.5", "SerialNumber"),
        ("2.5.4.46", "DistinguishedNameQualifier"),
        ("2.5.4.12", "Title"),
        ("2.5.4.4", "Surname"),
    ];
    let mut out = BTreeMap::new();
    for attribute in certificate.subject().iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let name = NAMES.iter().find(|(o, _)| *o == oid);
        if let (Some((_, name)), Ok(value)) = (name, attribute.as_str()) {
            out.entry((*name).to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    out
}

fn read(der: &[u8]) -> Result<X509Certificate<'_>, RegistryError> {
    X509Certificate::from_der(der)
        .map(|(_, c)| c)
        .map_err(|e| RegistryError::Unreadable(e.to_string()))
}

impl Registry {
    /// An empty account in the region of the endpoint `{prefix}-ats.iot.{region}.amazonaws.com`.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self {
            region: host.split('.').nth(2).unwrap_or_default().to_owned(),
            authorities: Vec::new(),
            certificates: HashMap::new(),
            order: VecDeque::new(),
            policies: BTreeMap::new(),
            templates: BTreeMap::new(),
            defaults: Vec::new(),
        }
    }

    /// The ARN of something of this account.
    #[must_use]
    pub fn arn(&self, kind: &str, name: &str) -> String {
        format!("arn:aws:iot:{}:{ACCOUNT}:{kind}/{name}", self.region)
    }

    /// Registers an authority, or changes what becomes of its certificates; answers its id.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn add_authority(
        &mut self,
        der: CertificateDer<'static>,
        registration: Registration,
    ) -> Result<String, RegistryError> {
        read(&der)?;
        if let Registration::Jitp(template) = &registration {
            self.template(template)?;
        }
        let id = fingerprint(&der);
        if let Some(known) = self.authorities.iter_mut().find(|a| a.id == id) {
            known.registration = registration;
            return Ok(id);
        }
        if self.authorities.len() >= AUTHORITIES_MAX {
            return Err(RegistryError::Full("authorities", AUTHORITIES_MAX));
        }
        self.authorities.push(AuthorityRecord {
            id: id.clone(),
            der,
            registration,
        });
        Ok(id)
    }

    /// Authorities and what becomes of their certificates.
    pub fn authorities(&self) -> impl Iterator<Item = (&str, &Registration)> {
        self.authorities.iter().map(|a| (a.id.as_str(), &a.registration))
    }

    /// Makes or replaces a policy.
    ///
    /// # Errors
    /// [`RegistryError::Full`].
    pub fn put_policy(&mut self, name: &str, text: String, document: Document) -> Result<(), RegistryError> {
        if !self.policies.contains_key(name) && self.policies.len() >= POLICIES_MAX {
            return Err(RegistryError::Full("policies", POLICIES_MAX));
        }
        self.policies.insert(name.to_owned(), (text, document));
        Ok(())
    }

    /// A policy's text.
    #[must_use]
    pub fn policy_text(&self, name: &str) -> Option<&str> {
        self.policies.get(name).map(|(text, _)| text.as_str())
    }

    /// Names of all policies.
    pub fn policy_names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// Which policies a certificate gets that registers without a template.
    pub fn set_defaults(&mut self, names: Vec<String>) {
        self.defaults = names;
    }

    /// Makes or replaces a template.
    ///
    /// # Errors
    /// [`RegistryError::Full`].
    pub fn put_template(&mut self, name: &str, text: String, template: Template) -> Result<(), RegistryError> {
        if !self.templates.contains_key(name) && self.templates.len() >= TEMPLATES_MAX {
            return Err(RegistryError::Full("templates", TEMPLATES_MAX));
        }
        self.templates.insert(name.to_owned(), (text, template));
        Ok(())
    }

    /// A template's text.
    #[must_use]
    pub fn template_text(&self, name: &str) -> Option<&str> {
        self.templates.get(name).map(|(text, _)| text.as_str())
    }

    fn template(&self, name: &str) -> Result<&Template, RegistryError> {
        let found = self.templates.get(name).map(|(_, t)| t);
        found.ok_or_else(|| RegistryError::Unknown("template", name.to_owned()))
    }

    /// Registers a certificate; answers its id. One that is known stays as it is.
    ///
    /// # Errors
    /// [`RegistryError::Unreadable`].
    pub fn register(
        &mut self,
        der: &[u8],
        status: Status,
        authority: Option<String>,
        wall: Duration,
    ) -> Result<String, RegistryError> {
        let certificate = read(der)?;
        let id = fingerprint(der);
        if self.certificates.contains_key(&id) {
            return Ok(id);
        }
        if self.order.len() >= CERTIFICATES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.certificates.remove(&oldest);
            }
        }
        let validity = certificate.validity();
        self.order.push_back(id.clone());
        self.certificates.insert(
            id.clone(),
            Certificate {
                id: id.clone(),
                status,
                authority,
                policies: Vec::new(),
                things: Vec::new(),
                subject: subject(&certificate),
                registered: wall,
                validity: (validity.not_before.timestamp(), validity.not_after.timestamp()),
                activate_at: None,
            },
        );
        Ok(id)
    }

    /// A certificate.
    #[must_use]
    pub fn certificate(&self, id: &str) -> Option<&Certificate> {
        self.certificates.get(id)
    }

    /// Every certificate, oldest first.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.order.iter().filter_map(|id| self.certificates.get(id))
    }

    /// Forgets a certificate.
    pub fn remove(&mut self, id: &str) {
        self.certificates.remove(id);
        self.order.retain(|o| o != id);
    }

    fn change(&mut self, id: &str) -> Result<&mut Certificate, RegistryError> {
        let found = self.certificates.get_mut(id);
        found.ok_or_else(|| RegistryError::Unknown("certificate", id.to_owned()))
    }

    /// Changes a certificate's state.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn set_status(&mut self, id: &str, status: Status) -> Result<(), RegistryError> {
        self.change(id)?.status = status;
        Ok(())
    }

    /// Attaches policies, in place of those that were.
    ///
    /// # Errors
    /// [`RegistryError`], also for a policy that there is not.
    pub fn attach_policies(&mut self, id: &str, names: Vec<String>) -> Result<(), RegistryError> {
        if names.len() > ATTACHED_MAX {
            return Err(RegistryError::Full("policies of one certificate", ATTACHED_MAX));
        }
        if let Some(unknown) = names.iter().find(|n| !self.policies.contains_key(*n)) {
            return Err(RegistryError::Unknown("policy", unknown.clone()));
        }
        self.change(id)?.policies = names;
        Ok(())
    }

    /// Attaches a thing, in place of those that were.
    ///
    /// # Errors
    /// [`RegistryError`], also for a name that no thing can have.
    pub fn attach_thing(&mut self, id: &str, thing: &str) -> Result<(), RegistryError> {
        if !is_thing_name(thing) {
            return Err(TemplateError::Thing(thing.to_owned()).into());
        }
        self.change(id)?.things = vec![thing.to_owned()];
        Ok(())
    }

    /// ACTIVE, with the default policies and the thing of its common name.
    fn activate(&mut self, id: &str) {
        let defaults = self.defaults.clone();
        if let Some(c) = self.certificates.get_mut(id) {
            c.status = Status::Active;
            c.activate_at = None;
            if c.policies.is_empty() {
                c.policies = defaults;
            }
            if c.things.is_empty() {
                c.things = c
                    .subject
                    .get("CommonName")
                    .filter(|n| is_thing_name(n))
                    .cloned()
                    .into_iter()
                    .collect();
            }
        }
    }

    /// Provisions a certificate by a template.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn provision(
        &mut self,
        template: &str,
        id: &str,
        mut parameters: BTreeMap<String, String>,
    ) -> Result<Provisioned, RegistryError> {
        let certificate = self.change(id)?;
        parameters.insert("AWS::IoT::Certificate::Id".into(), id.to_owned());
        for (name, value) in &certificate.subject {
            let name = if name == "State" { "StateName" } else { name };
            parameters.insert(format!("AWS::IoT::Certificate::{name}"), value.clone());
        }
        let done = self.template(template)?.work_out(&parameters)?;
        let mut names = done.policies.clone();
        for (index, (text, document)) in done.documents.iter().enumerate() {
            let name = format!("{template}-{}-{index}", id.get(..8).unwrap_or(id));
            self.put_policy(&name, text.clone(), document.clone())?;
            names.push(name);
        }
        self.attach_policies(id, names)?;
        if let Some(thing) = &done.thing {
            self.attach_thing(id, thing)?;
        }
        self.set_status(id, if done.active { Status::Active } else { Status::Inactive })?;
        Ok(done)
    }

    /// What the policies of a session's certificate say.
    #[must_use]
    pub fn verdict(&self, session: &Session, action: &str, kind: &str, name: &str) -> Verdict {
        let Some(certificate) = self
            .certificates
            .get(&session.owner)
            .filter(|c| c.status == Status::Active)
        else {
            return Verdict::NotAllowed;
        };
        let mut context = Context::default();
        context.set("iot:ClientId", &session.client_id);
        for (name, value) in &certificate.subject {
            context.set(format!("iot:Certificate.Subject.{name}"), value);
        }
        // A thing's name is the client id's, and the certificate must be attached to it.
        if certificate.things.contains(&session.client_id) {
            context.attached = true;
            context.set("iot:Connection.Thing.ThingName", &session.client_id);
        }
        let documents = certificate
            .policies
            .iter()
            .filter_map(|p| self.policies.get(p))
            .map(|(_, d)| d);
        verdict(documents, action, &self.arn(kind, name), &context)
    }

    /// The names of a session's policies, for people.
    #[must_use]
    pub fn policies_of(&self, session: &Session) -> String {
        let found = self.certificates.get(&session.owner);
        found.map_or_else(String::new, |c| c.policies.join(", "))
    }
}
