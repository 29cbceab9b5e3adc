use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose};
use std::time::Duration;

use super::signer::SERIAL_BYTES;
use super::validity::BACKDATE;
use super::*;
use crate::tls::{Identity, certificates};
use x509_parser::prelude::FromDer;

const NOW: Duration = Duration::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn leaves_fit_their_keys_and_say_who_they_are() {
    let ca = Authority::generate("Test", NOW, 100 * DAY).unwrap();
    let issued = ca.issue("myClient-1", &Purpose::Device, NOW, DAY).unwrap();
    let id = Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), "test").unwrap();
    assert_eq!(id.leaf.common_name.as_deref(), Some("myClient-1"));
    assert_eq!((id.leaf.not_before, id.leaf.not_after), (NOW - BACKDATE, NOW + DAY));
    assert!(!id.leaf.is_v1);
    assert_eq!(id.chain().len(), 2);
}

#[test]
fn who_it_is_for_is_not_shown_to_logs() {
    let ca = Authority::generate("Test", NOW, DAY).unwrap();
    let purpose = Purpose::Server(vec!["d-295012345678901.example".into()]);
    let issued = ca.issue("myClient-295012345678901", &purpose, NOW, DAY).unwrap();
    let id = Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), "test").unwrap();
    let shown = format!("{id:?} {:?}", id.traits);
    assert!(shown.contains("myClient-") && shown.contains(".example"), "{shown}");
    assert!(!shown.contains("295012345678901"), "{shown}");
}

#[test]
fn another_key_is_noticed() {
    let ca = Authority::generate("Test", NOW, DAY).unwrap();
    let a = ca.issue("a", &Purpose::Device, NOW, DAY).unwrap();
    let b = ca.issue("a", &Purpose::Device, NOW, DAY).unwrap();
    let e = Identity::from_pem(a.chain_pem.as_bytes(), b.key_pem.as_bytes(), "a.pem").unwrap_err();
    assert_eq!(e, crate::tls::TlsError::Mismatch("a.pem".into()));
}

#[test]
fn a_saved_authority_goes_on_where_it_was() {
    let ca = Authority::generate("Test", NOW, 100 * DAY).unwrap();
    let again = Authority::load("Test", &ca.save()).unwrap();
    assert_eq!(again.root_pem(), ca.root_pem());
    let issued = again.issue("d", &Purpose::Device, NOW, DAY).unwrap();
    let chain = certificates(issued.chain_pem.as_bytes(), "x").unwrap();
    let parse = |der| x509_parser::certificate::X509Certificate::from_der(der).unwrap().1;
    let (leaf, intermediate) = (parse(&chain[0]), parse(&chain[1]));
    assert_eq!(leaf.issuer().as_raw(), intermediate.subject().as_raw());
    leaf.verify_signature(Some(intermediate.public_key())).unwrap();
    let mut damaged = ca.save();
    damaged.intermediate_key_pem = String::from("no key").into();
    assert!(Authority::load("Test", &damaged).is_err());
}

#[test]
fn a_request_gets_its_key_and_subject_certified_and_nothing_else() {
    let ca = Authority::generate("Test", NOW, 100 * DAY).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::new(vec!["server.example".into()]).unwrap();
    wish.distinguished_name = rcgen::DistinguishedName::new();
    wish.distinguished_name.push(DnType::CommonName, "thing-1");
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
    let leaf = ca.sign_request(&csr, NOW, DAY).unwrap();
    let id = Identity::from_pem(leaf.as_bytes(), key.serialize_pem().as_bytes(), "test").unwrap();
    assert_eq!(id.leaf.common_name.as_deref(), Some("thing-1"));
    assert_eq!(id.leaf.not_after, NOW + DAY);
    let der = certificates(leaf.as_bytes(), "x").unwrap().remove(0);
    let (_, read) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
    assert!(read.subject_alternative_name().unwrap().is_none() && !read.is_ca());
    let usage = read.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    for bad in ["", "no request", &leaf] {
        assert!(ca.sign_request(bad, NOW, DAY).is_err());
    }
}

#[test]
fn two_issues_never_share_a_serial() {
    let ca = Authority::generate("Test", NOW, DAY).unwrap();
    let serial = |pem: &str| {
        let der = certificates(pem.as_bytes(), "x").unwrap().remove(0);
        x509_parser::certificate::X509Certificate::from_der(&der)
            .unwrap()
            .1
            .raw_serial()
            .to_vec()
    };
    let a = ca.issue("a", &Purpose::Device, NOW, DAY).unwrap();
    let b = ca.issue("a", &Purpose::Device, NOW, DAY).unwrap();
    assert_ne!(serial(&a.leaf_pem), serial(&b.leaf_pem));
    assert_eq!(serial(&a.leaf_pem).len(), SERIAL_BYTES);
}

/// openssl signs requests with SHA-256 whatever the curve: the curve is the key's, not the signature's.
#[test]
fn a_key_keeps_its_curve_whatever_its_request_was_signed_with() {
    let ca = Authority::generate("Test", NOW, 100 * DAY).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for form in ["ec:<(openssl ecparam -name secp384r1)", "rsa:2048", "ed25519"] {
        let make = format!("openssl req -new -sha256 -newkey {form} -nodes -subj /CN=dev -keyout key -out csr");
        let made = std::process::Command::new("bash")
            .args(["-c", &make])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let leaf = ca.sign_request(&read("csr"), NOW, DAY).unwrap();
        let id = Identity::from_pem(leaf.as_bytes(), read("key").as_bytes(), form).unwrap();
        assert_eq!(id.leaf.common_name.as_deref(), Some("dev"));
    }
}
