//! Whether a certificate proves the name that a service will ask for.
//!
//! | service | what it compares | otherwise |
//! |---|---|---|
//! | Event Grid | the authentication name with the subject's common name, or another name of the certificate, whatever their case | refused |
//! | DPS | the registration id with the common name, whatever their case | refused |
//! | IoT Hub | nothing: the common name is the device id | the hub knows the device by another name |
//! | AWS IoT | nothing: a certificate is registered itself | - |
//!
//! A self-signed certificate can be known to Event Grid by its thumbprint alone (scheme "Thumbprint Match"), so that its name does not
//! matter there.

use super::{FilesError, Remark};
use crate::cloud::Kind;
use crate::identity::redact_digits;
use crate::tls::{Identity, Leaf};

/// What a certificate is to prove.
#[derive(Debug, Clone, Copy)]
pub enum Proof<'a> {
    /// To a broker: the authentication name.
    Broker {
        /// Which.
        to: Kind,
        /// `client_authname` for this SIM.
        name: &'a str,
    },
    /// To DPS: the registration id; `None` takes the common name.
    Registration(Option<&'a str>),
}

/// Longest registration id that a common name can be (Microsoft, "X.509 certificate attestation").
const REGISTRATION_ID_MAX: usize = 64;

/// Compares; a difference that a service minds is an error, one that a person may mind is a remark.
///
/// # Errors
/// [`FilesError::Name`].
pub fn proves(proof: Proof<'_>, identity: &Identity) -> Result<Option<Remark>, FilesError> {
    match proof {
        Proof::Broker {
            to: Kind::EventGrid,
            name,
        } => event_grid(name, identity),
        Proof::Broker { to: Kind::IotHub, name } => Ok(iot_hub(name, &identity.leaf)),
        Proof::Broker {
            to: Kind::AwsIot | Kind::Gateway,
            ..
        } => Ok(None),
        Proof::Registration(id) => dps(id, &identity.leaf).map(|()| None),
    }
}

fn proved(leaf: &Leaf) -> String {
    leaf.common_name.as_ref().map_or_else(
        || "no name (it has no common name, or several)".to_owned(),
        |n| format!("{:?}", redact_digits(n)),
    )
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn event_grid(name: &str, identity: &Identity) -> Result<Option<Remark>, FilesError> {
    let (leaf, traits) = (&identity.leaf, &identity.traits);
    if leaf.common_name.iter().chain(&traits.names).any(|n| same(n, name)) {
        return Ok(None);
    }
    let said = format!("client_authname says {:?}", redact_digits(name));
    if traits.is_self_signed {
        return Ok(Some(Remark::new(
            format!("{said}, the certificate proves {}", proved(leaf)),
            "it is self-signed: Event Grid takes it if the client is registered with the scheme Thumbprint Match",
        )));
    }
    Err(FilesError::Name {
        said,
        proved: proved(leaf),
        cure: "Event Grid refuses the one for the other: have a certificate signed for this name (onyx-gateway ca issue NAME), or set \
               client_authname to the name that the certificate proves"
            .to_owned(),
    })
}

fn iot_hub(name: &str, leaf: &Leaf) -> Option<Remark> {
    let matches = leaf.common_name.as_deref() == Some(name);
    (!matches).then(|| {
        Remark::new(
            format!(
                "client_authname says {:?}, the certificate proves {}",
                redact_digits(name),
                proved(leaf)
            ),
            "the hub knows this device by the certificate's common name; that is fine if it is meant so",
        )
    })
}

fn dps(id: Option<&str>, leaf: &Leaf) -> Result<(), FilesError> {
    let refused = |said: String, cure: &str| {
        Err(FilesError::Name {
            said,
            proved: proved(leaf),
            cure: cure.to_owned(),
        })
    };
    let again = "have a certificate signed whose common name is the registration id (onyx-gateway ca issue NAME)";
    match (&leaf.common_name, id) {
        (None, _) => refused("DPS takes the common name as registration id".to_owned(), again),
        (Some(cn), Some(id)) if !same(cn, id) => refused(
            format!("credentials.registration_id says {:?}", redact_digits(id)),
            "DPS refuses the one for the other: correct credentials.registration_id, or leave it out, and the certificate's name is taken",
        ),
        (Some(cn), _) if !is_registration_id(cn) => refused(
            format!(
                "a registration id has 1 to {REGISTRATION_ID_MAX} letters, digits, '-', '.', '_' and ':', the last a letter, a digit or '-'"
            ),
            again,
        ),
        _ => Ok(()),
    }
}

fn is_registration_id(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    (1..=REGISTRATION_ID_MAX).contains(&text.len())
        && text.bytes().all(good)
        && text
            .bytes()
            .last()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'-')
}
