//! Whether a client goes on that has proved to have the key of its certificate; asked when the TLS handshake is over. A certificate that
//! is not known yet is looked at when it first appears:
//!
//! | its authority was registered | first connection | later |
//! |---|---|---|
//! | [`Registration::AtOnce`] (the bench's own) | let in, ACTIVE, the thing of its common name and the default policies | the same |
//! | [`Registration::Jitr`] | registered PENDING_ACTIVATION, event, ended | let in once somebody, or the stand-in's own rule, has activated it |
//! | [`Registration::Jitp`] | registered, provisioned by a template, ended (inferred) | let in |
//! | [`Registration::Off`], or not at all | ended | ended |
//!
//! The authority has to be the one that signed the leaf; presenting it is not needed. An expired leaf is refused, a leaf of X.509
//! version 1 is taken: both inferred.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde_json::json;

use super::{Registration, Registry, Status, fingerprint};
use crate::bench::clouds::aws_iot::document::ACCOUNT;
use crate::bench::clouds::backend::{Act, Now};
use crate::bench::clouds::chain::{self, ChainError};
use crate::bench::clouds::policy::aws_iot::{CERTIFICATE, JITR, STATUS, VALIDITY};
use crate::bench::clouds::policy::{Look, Refusal};

impl Registry {
    fn registered_event(&self, id: &str, now: Now) -> Option<Act> {
        let c = self.certificates.get(id)?;
        let authority = c.authority.as_ref()?;
        let event = json!({
            "certificateId": id,
            "caCertificateId": authority,
            "timestamp": now.wall.as_millis().try_into().unwrap_or(u64::MAX),
            "certificateStatus": c.status,
            "awsAccountId": ACCOUNT,
            "certificateRegistrationTimestamp": c.registered.as_millis().to_string(),
        });
        Some(Act::Publish {
            topic: format!("$aws/events/certificates/registered/{authority}").into(),
            payload: event.to_string().into(),
            qos: 1,
        })
    }

    /// A client has proved that it has the key of the first of `chain`: whether it may go on.
    pub fn greet(&mut self, chain: &[CertificateDer<'_>], now: Now) -> (Vec<Act>, Result<(), Refusal>) {
        let refuse = |rule, detail: String| Err(Refusal::new(rule, Look::Close, detail));
        let Some(leaf) = chain.first() else {
            return (
                Vec::new(),
                refuse(&CERTIFICATE, "there is no client certificate".into()),
            );
        };
        let id = fingerprint(leaf);
        if !self.certificates.contains_key(&id) {
            return self.first_sight(leaf, now);
        }
        if self
            .certificates
            .get(&id)
            .is_some_and(|c| c.activate_at.is_some_and(|t| t <= now.monotonic))
        {
            self.activate(&id);
        }
        let Some(c) = self.certificates.get(&id) else {
            return (Vec::new(), Ok(()));
        };
        let second = i64::try_from(now.wall.as_secs()).unwrap_or(i64::MAX);
        if !(c.validity.0..=c.validity.1).contains(&second) {
            let text = |t: i64| crate::clock::rfc3339(Duration::from_secs(u64::try_from(t).unwrap_or(0)));
            let detail = format!("it is valid from {} to {} only", text(c.validity.0), text(c.validity.1));
            return (Vec::new(), refuse(&VALIDITY, detail));
        }
        match c.status {
            Status::Active => (Vec::new(), Ok(())),
            // Published again whenever such a certificate is presented (developer guide, just-in-time registration).
            Status::PendingActivation => {
                let event = self.registered_event(&id, now).into_iter().collect();
                (
                    event,
                    refuse(&STATUS, format!("certificate {id} is PENDING_ACTIVATION")),
                )
            }
            status => (Vec::new(), refuse(&STATUS, format!("certificate {id} is {status}"))),
        }
    }

    fn first_sight(&mut self, leaf: &CertificateDer<'_>, now: Now) -> (Vec<Act>, Result<(), Refusal>) {
        let refuse = |rule, detail: String| (Vec::new(), Err(Refusal::new(rule, Look::Close, detail)));
        let ders: Vec<_> = self.authorities.iter().map(|a| a.der.clone()).collect();
        let path = match chain::follow(std::slice::from_ref(leaf), &ders, now.wall) {
            Ok(path) => path,
            Err(e @ ChainError::Time { .. }) => return refuse(&VALIDITY, e.to_string()),
            Err(e) => return refuse(&CERTIFICATE, e.to_string()),
        };
        let Some(authority) = path.authorities.first().and_then(|i| self.authorities.get(*i)).cloned() else {
            return refuse(&CERTIFICATE, "its authority is not registered".into());
        };
        if authority.registration == Registration::Off {
            let detail = format!("authority {} has no automatic registration", authority.id);
            return refuse(&CERTIFICATE, detail);
        }
        let registered = self.register(leaf, Status::PendingActivation, Some(authority.id.clone()), now.wall);
        let id = match registered {
            Ok(id) => id,
            Err(e) => return refuse(&CERTIFICATE, e.to_string()),
        };
        if authority.registration == Registration::AtOnce {
            self.activate(&id);
            return (Vec::new(), Ok(()));
        }
        let mut acts: Vec<_> = self.registered_event(&id, now).into_iter().collect();
        match authority.registration {
            Registration::Jitr { activate_after } => {
                if let Some(c) = self.certificates.get_mut(&id) {
                    c.activate_at = activate_after.map(|d| now.monotonic + d);
                }
            }
            Registration::Jitp(template) => {
                if let Err(e) = self.provision(&template, &id, BTreeMap::new()) {
                    acts.push(Act::Note(format!("just-in-time provisioning of {id} failed: {e}")));
                }
            }
            Registration::Off | Registration::AtOnce => {}
        }
        let detail = format!("certificate {id} was not known: it is registered now, connect again");
        (acts, Err(Refusal::new(&JITR, Look::Close, detail)))
    }
}
