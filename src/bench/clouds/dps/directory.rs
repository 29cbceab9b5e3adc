//! Whom the service knows: authorities, enrolment groups, individual enrolments, and which of them decides about a device.
//!
//! An individual enrolment for the registration id decides alone. Without one, the device's chain is followed upward, and the first
//! certificate on it that a group is for decides. That an authority belongs to whoever uploaded it has to be proved: the certificate
//! the group is for, or one above it on the chain that the device sent, has to be verified. (An intermediate that is uploaded with a
//! group needs no proof of its own when the root above it is verified and the device sends the chain up to there.)

use std::collections::BTreeMap;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::{Value, json};

use super::enrollment::{self, Attestation, BadEnrollment, Enrollment, Leaf};
use super::name::RegistrationId;
pub use super::store_error::{Kind, StoreError};
use crate::bench::clouds::chain::{self, ChainError};
use crate::bench::clouds::policy::dps::{self as rules, Fault};
use crate::bench::clouds::thumbprint::Thumbprint;
use crate::tls;

/// Authorities of a service (DPS documentation, quotas).
pub const AUTHORITIES_MAX: usize = 25;
/// Enrolment groups with X.509 (DPS documentation, quotas).
pub const GROUPS_MAX: usize = 100;
/// Individual enrolments; the real service has room for a million.
pub const INDIVIDUALS_MAX: usize = 1_000;
/// Longest name of an authority, group or enrolment, in bytes (a registration id's length).
pub const NAME_MAX: usize = 128;
/// Hexadecimal digits of a verification code (as many as the portal shows).
const CODE_DIGITS: usize = 48;
/// What a device reads when its certificate is not good enough (azure-sdk-for-c's tests).
const INVALID_CERTIFICATE: (u32, &str) = (401_002, "Invalid certificate.");

/// A certificate that signs devices, and what is known of its owner.
#[derive(Debug, Clone)]
struct Authority {
    der: Vec<u8>,
    verified: bool,
    code: Option<String>,
}

/// Whose authority.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// The service's, by name.
    Service(&'a str),
    /// Uploaded with a group.
    Group(&'a str),
}

/// All of it.
#[derive(Debug, Default)]
pub struct Directory {
    authorities: BTreeMap<String, Authority>,
    groups: BTreeMap<String, (Enrollment, Vec<Authority>)>,
    individuals: BTreeMap<String, (String, Enrollment)>,
}

/// The enrolment that decides.
#[derive(Debug)]
pub struct Hit<'a> {
    /// A name for people.
    pub name: String,
    /// What it says.
    pub enrollment: &'a Enrollment,
}

#[derive(Debug, Deserialize)]
struct CertificateBody {
    properties: CertificateProperties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateProperties {
    certificate: String,
    #[serde(default)]
    is_verified: bool,
}

fn invalid(rule: &'static crate::bench::clouds::policy::Rule, detail: impl Into<String>) -> Fault {
    Fault::new(rule, INVALID_CERTIFICATE.0, INVALID_CERTIFICATE.1, detail)
}

fn chain_fault(e: &ChainError) -> Fault {
    invalid(&rules::CERTIFICATE, e.to_string())
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let good = !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    if good {
        Ok(())
    } else {
        Err(BadEnrollment(format!(
            "{name:?} is no name: 1 to {NAME_MAX} letters, digits, '-', '.', '_', ':'"
        ))
        .into())
    }
}

impl Directory {
    /// Uploads an authority, or replaces it: `{"properties":{"certificate":…,"isVerified":…}}`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_certificate(&mut self, name: &str, body: &Value) -> Result<Value, StoreError> {
        check_name(name)?;
        let body = CertificateBody::deserialize(body)
            .map_err(|e| BadEnrollment(format!("the certificate cannot be read: {e}")))?
            .properties;
        if !self.authorities.contains_key(name) && self.authorities.len() >= AUTHORITIES_MAX {
            return Err(StoreError::Full(AUTHORITIES_MAX));
        }
        let authority = Authority {
            der: enrollment::certificate(&body.certificate)?,
            verified: body.is_verified,
            code: None,
        };
        self.authorities.insert(name.to_owned(), authority);
        self.certificate(name)
    }

    /// Shows an authority.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn certificate(&self, name: &str) -> Result<Value, StoreError> {
        let a = self
            .authorities
            .get(name)
            .ok_or_else(|| StoreError::NotFound(format!("the certificate {name:?}")))?;
        Ok(json!({
            "name": name,
            "properties": {"isVerified": a.verified, "verificationCode": a.code, "certificate": enrollment::info(&a.der)["info"]},
        }))
    }

    /// Removes an authority that no enrolment needs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_certificate(&mut self, name: &str) -> Result<(), StoreError> {
        let uses = |e: &Enrollment| matches!(&e.attestation, Attestation::References(n) if n.iter().any(|n| n == name));
        if let Some((user, _)) = self.all().find(|(_, e)| uses(e)) {
            return Err(StoreError::Conflict(format!(
                "{user} refers to the certificate {name:?}"
            )));
        }
        self.authorities
            .remove(name)
            .map(drop)
            .ok_or_else(|| StoreError::NotFound(format!("the certificate {name:?}")))
    }

    fn all(&self) -> impl Iterator<Item = (String, &Enrollment)> {
        let groups = self.groups.iter().map(|(n, (e, _))| (format!("the group {n:?}"), e));
        let individuals = self
            .individuals
            .values()
            .map(|(n, e)| (format!("the enrolment {n:?}"), e));
        groups.chain(individuals)
    }

    fn owned(&mut self, owner: Owner<'_>) -> Result<&mut Authority, StoreError> {
        match owner {
            Owner::Service(name) => self
                .authorities
                .get_mut(name)
                .ok_or_else(|| StoreError::NotFound(format!("the certificate {name:?}"))),
            Owner::Group(name) => {
                let missing = || StoreError::NotFound(format!("a certificate of the group {name:?}"));
                let (enrollment, _) = self.groups.get(name).ok_or_else(missing)?;
                match &enrollment.attestation {
                    Attestation::References(names) => {
                        let first = names.first().cloned().ok_or_else(missing)?;
                        self.authorities.get_mut(&first).ok_or_else(missing)
                    }
                    _ => self
                        .groups
                        .get_mut(name)
                        .and_then(|(_, own)| own.first_mut())
                        .ok_or_else(missing),
                }
            }
        }
    }

    /// Makes a verification code for an authority (a group's: its primary certificate).
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn verification_code(&mut self, owner: Owner<'_>, rng: &mut fastrand::Rng) -> Result<String, StoreError> {
        let code: String = (0..CODE_DIGITS).map(|_| rng.digit(16).to_ascii_uppercase()).collect();
        self.owned(owner)?.code = Some(code.clone());
        Ok(code)
    }

    /// Takes a proof of possession: a certificate (PEM or base64) whose common name is the code, signed by the authority's key. `now` is
    /// the time since the Unix epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn verify(&mut self, owner: Owner<'_>, proof: &str, now: Duration) -> Result<(), StoreError> {
        let authority = self.owned(owner)?;
        let code = authority.code.clone().ok_or_else(|| {
            StoreError::Conflict("there is no verification code to prove: ask for one first".to_owned())
        })?;
        let der = CertificateDer::from(enrollment::certificate(proof)?);
        let cn = tls::Leaf::read(&der, "the proof")
            .map_err(|e| BadEnrollment(e.to_string()))?
            .common_name;
        if !cn.as_deref().is_some_and(|cn| cn.eq_ignore_ascii_case(&code)) {
            let why = format!("the common name of the proof is {cn:?}, expected the verification code {code:?}");
            return Err(BadEnrollment(why).into());
        }
        chain::follow(&[der], &[CertificateDer::from(authority.der.clone())], now)
            .map_err(|e| BadEnrollment(format!("the proof is not signed by the authority: {e}")))?;
        authority.verified = true;
        authority.code = None;
        Ok(())
    }

    /// Creates or replaces an enrolment. `if_match` is the etag that it has to have, `verified` vouches for certificates uploaded with a
    /// group.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put(
        &mut self,
        kind: Kind,
        name: &str,
        mut new: Enrollment,
        if_match: Option<&str>,
        verified: bool,
    ) -> Result<Value, StoreError> {
        check_name(name)?;
        let old = self.get(kind, name);
        check_match(old, if_match, kind, name)?;
        if let Some(old) = old {
            new.times[0].clone_from(&old.times[0]);
        }
        self.check_conflicts(kind, name, &new)?;
        let (count, most) = match kind {
            Kind::Group => (self.groups.len(), GROUPS_MAX),
            Kind::Individual => (self.individuals.len(), INDIVIDUALS_MAX),
        };
        if old.is_none() && count >= most {
            return Err(StoreError::Full(most));
        }
        let shown = new.show(kind.key(), name);
        match kind {
            Kind::Group => {
                let before = self.groups.remove(name).map(|(_, own)| own).unwrap_or_default();
                let own = match &new.attestation {
                    Attestation::Signing(list) => list
                        .iter()
                        .map(|der| {
                            let known = before.iter().find(|a| a.der == *der);
                            let mut authority = known.cloned().unwrap_or(Authority {
                                der: der.clone(),
                                verified: false,
                                code: None,
                            });
                            authority.verified |= verified;
                            authority
                        })
                        .collect(),
                    Attestation::Leaves(_) | Attestation::References(_) => Vec::new(),
                };
                self.groups.insert(name.to_owned(), (new, own));
            }
            Kind::Individual => {
                self.individuals
                    .insert(name.to_ascii_lowercase(), (name.to_owned(), new));
            }
        }
        Ok(shown)
    }

    /// Looks an enrolment up.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Enrollment> {
        match kind {
            Kind::Group => self.groups.get(name).map(|(e, _)| e),
            Kind::Individual => self.individuals.get(&name.to_ascii_lowercase()).map(|(_, e)| e),
        }
    }

    /// Removes an enrolment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove(&mut self, kind: Kind, name: &str, if_match: Option<&str>) -> Result<(), StoreError> {
        let old = self.get(kind, name);
        check_match(old, if_match, kind, name)?;
        let gone = match kind {
            Kind::Group => self.groups.remove(name).is_some(),
            Kind::Individual => self.individuals.remove(&name.to_ascii_lowercase()).is_some(),
        };
        if gone {
            Ok(())
        } else {
            Err(StoreError::NotFound(format!("{} {name:?}", kind.key())))
        }
    }

    /// A certificate can be given in one enrolment only (DPS documentation, concepts-x509-attestation).
    fn check_conflicts(&self, kind: Kind, name: &str, new: &Enrollment) -> Result<(), StoreError> {
        if let Attestation::References(names) = &new.attestation {
            if let Some(missing) = names.iter().find(|n| !self.authorities.contains_key(*n)) {
                return Err(StoreError::NotFound(format!("the certificate {missing:?}")));
            }
        }
        let own = match kind {
            Kind::Group => format!("the group {name:?}"),
            Kind::Individual => self
                .individuals
                .get(&name.to_ascii_lowercase())
                .map_or_else(String::new, |(n, _)| format!("the enrolment {n:?}")),
        };
        let uploaded = new.attestation.uploaded();
        for (other, enrollment) in self.all().filter(|(other, _)| *other != own) {
            let same = match (&new.attestation, &enrollment.attestation) {
                (Attestation::References(mine), Attestation::References(theirs)) => {
                    mine.iter().any(|m| theirs.contains(m))
                }
                _ => enrollment
                    .attestation
                    .uploaded()
                    .iter()
                    .any(|der| uploaded.contains(der)),
            };
            if same {
                return Err(StoreError::Conflict(format!("{other} has that certificate already")));
            }
        }
        Ok(())
    }

    /// The authorities an attestation is about: their certificates, and whether each is verified.
    fn authorities_of<'a>(&'a self, attestation: &'a Attestation, own: &'a [Authority]) -> Vec<&'a [u8]> {
        match attestation {
            Attestation::References(names) => names
                .iter()
                .filter_map(|n| self.authorities.get(n))
                .map(|a| a.der.as_slice())
                .collect(),
            Attestation::Signing(list) if own.is_empty() => list.iter().map(Vec::as_slice).collect(),
            Attestation::Signing(_) => own.iter().map(|a| a.der.as_slice()).collect(),
            Attestation::Leaves(_) => Vec::new(),
        }
    }

    fn is_verified(&self, der: &[u8]) -> bool {
        let own = self.groups.values().flat_map(|(_, own)| own);
        self.authorities.values().chain(own).any(|a| a.verified && a.der == der)
    }

    /// Every certificate that anybody registered as an authority, each once.
    fn anchors(&self) -> Vec<CertificateDer<'static>> {
        let mut anchors: Vec<CertificateDer<'static>> = Vec::new();
        let service = self.authorities.values().map(|a| a.der.as_slice());
        let groups = self.groups.values().flat_map(|(_, own)| own).map(|a| a.der.as_slice());
        let individuals = self
            .individuals
            .values()
            .flat_map(|(_, e)| self.authorities_of(&e.attestation, &[]));
        for der in service.chain(groups).chain(individuals) {
            if !anchors.iter().any(|a| a.as_ref() == der) {
                anchors.push(CertificateDer::from(der.to_vec()));
            }
        }
        anchors
    }

    /// The enrolment that decides about a device, which has proved that it has the key of the first of `chain`. `now` is the time since
    /// the Unix epoch.
    ///
    /// # Errors
    /// [`Fault`]: 401002.
    pub fn decide(&self, id: &RegistrationId, chain: &[CertificateDer<'_>], now: Duration) -> Result<Hit<'_>, Fault> {
        let der = chain
            .first()
            .ok_or_else(|| invalid(&rules::CERTIFICATE, "there is no client certificate"))?;
        let leaf =
            tls::Leaf::read(der, "the client certificate").map_err(|e| invalid(&rules::CERTIFICATE, e.to_string()))?;
        match &leaf.common_name {
            Some(cn) if id.is(cn) => {}
            Some(cn) => {
                let detail = format!("the certificate is for {cn:?}, the registration id is {id}");
                return Err(invalid(&rules::COMMON_NAME, detail));
            }
            None => {
                let detail = "the certificate has no common name, or several";
                return Err(invalid(&rules::COMMON_NAME, detail));
            }
        }
        if let Some((name, enrollment)) = self.individuals.get(&id.key()) {
            let hit = Hit {
                name: format!("the enrolment {name:?}"),
                enrollment,
            };
            if let Attestation::Leaves(leaves) = &enrollment.attestation {
                if !(leaf.not_before..=leaf.not_after).contains(&now) {
                    let detail = format!(
                        "the certificate is valid until {}",
                        crate::clock::rfc3339(leaf.not_after)
                    );
                    return Err(invalid(&rules::CERTIFICATE, detail));
                }
                let print = Thumbprint::of(der);
                let known = leaves.iter().any(|l| match l {
                    Leaf::Certificate(known) => known.as_slice() == der.as_ref(),
                    Leaf::Thumbprint(known) => *known == print,
                });
                return if known {
                    Ok(hit)
                } else {
                    Err(invalid(
                        &rules::ENROLLMENT,
                        format!("{} is for another certificate", hit.name),
                    ))
                };
            }
            let wanted = self.authorities_of(&enrollment.attestation, &[]);
            return self
                .lead(chain, now, |der| wanted.contains(&der).then_some(()))
                .map(|()| hit);
        }
        let found = self.lead(chain, now, |der| {
            self.groups
                .iter()
                .find(|(_, (e, own))| self.authorities_of(&e.attestation, own).contains(&der))
        });
        found.map(|(name, (enrollment, _))| Hit {
            name: format!("the group {name:?}"),
            enrollment,
        })
    }

    /// Follows the chain to the first authority that `wanted` has something for, and checks that it or one above it is verified.
    fn lead<T>(
        &self,
        chain: &[CertificateDer<'_>],
        now: Duration,
        wanted: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, Fault> {
        let anchors = self.anchors();
        let path = chain::follow(chain, &anchors, now).map_err(|e| chain_fault(&e))?;
        let path: Vec<&[u8]> = path
            .authorities
            .iter()
            .filter_map(|i| anchors.get(*i))
            .map(AsRef::as_ref)
            .collect();
        let (at, found) = path
            .iter()
            .enumerate()
            .find_map(|(at, der)| wanted(der).map(|t| (at, t)))
            .ok_or_else(|| invalid(&rules::ENROLLMENT, "no enrolment is for an authority of this chain"))?;
        if path.iter().skip(at).any(|der| self.is_verified(der)) {
            Ok(found)
        } else {
            let detail = "neither the authority of the enrolment nor one above it in the chain is verified";
            Err(invalid(&rules::POSSESSION, detail))
        }
    }
}

fn check_match(old: Option<&Enrollment>, if_match: Option<&str>, kind: Kind, name: &str) -> Result<(), StoreError> {
    match (old, if_match) {
        (_, None) | (Some(_), Some("*")) => Ok(()),
        (Some(old), Some(wanted)) if old.etag == wanted.trim_matches('"') => Ok(()),
        (Some(old), Some(_)) => Err(StoreError::Changed(old.etag.clone())),
        (None, Some(_)) => Err(StoreError::NotFound(format!("{} {name:?}", kind.key()))),
    }
}
