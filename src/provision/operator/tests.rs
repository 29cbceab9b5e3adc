use std::time::Duration;

use super::*;
use crate::cloud::Kind;
use crate::pki::{Authority, Issued, Purpose};
use crate::tls::Repair;

const NOW: Duration = Duration::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn issue(name: &str, valid: Duration) -> Issued {
    let ca = Authority::generate("Test", NOW, 400 * DAY).unwrap();
    ca.issue(name, &Purpose::Device, NOW, valid).unwrap()
}

fn identity(issued: &Issued) -> Identity {
    Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), "d.pem").unwrap()
}

#[test]
fn each_service_compares_names_its_own_way() {
    let device = identity(&issue("myClient-295012345678901", DAY));
    let broker = |to, name| proves(Proof::Broker { to, name }, &device);
    let (right, upper, wrong) = ("myClient-295012345678901", "MYCLIENT-295012345678901", "other");
    assert_eq!(broker(Kind::EventGrid, right), Ok(None));
    assert_eq!(broker(Kind::EventGrid, upper), Ok(None), "Event Grid does not see case");
    let e = broker(Kind::EventGrid, wrong).unwrap_err();
    assert_eq!(
        e.what(),
        "client_authname says \"other\", the certificate proves \"myClient-29501********01\""
    );
    assert!(e.cure().contains("set client_authname"), "{}", e.cure());
    assert_eq!(broker(Kind::IotHub, right), Ok(None));
    assert!(broker(Kind::IotHub, wrong).unwrap().is_some(), "a word, and no more");
    assert_eq!(broker(Kind::AwsIot, wrong), Ok(None));
    let dps = |id| proves(Proof::Registration(id), &device);
    assert!(dps(None).is_ok() && dps(Some("MYclient-295012345678901")).is_ok());
    assert!(
        dps(Some("device1"))
            .unwrap_err()
            .what()
            .contains("registration_id says \"device1\"")
    );
}

#[test]
fn a_name_that_dps_cannot_take_and_none_at_all_are_refused() {
    let e = proves(Proof::Registration(None), &identity(&issue("a device", DAY))).unwrap_err();
    assert!(
        e.what().contains("1 to 64 letters") && e.what().ends_with("\"a device\""),
        "{e}"
    );
    let mut nameless = identity(&issue("x", DAY));
    nameless.leaf.common_name = None;
    let name = "x";
    for proof in [
        Proof::Registration(None),
        Proof::Broker {
            to: Kind::EventGrid,
            name,
        },
    ] {
        assert!(
            proves(proof, &nameless)
                .unwrap_err()
                .what()
                .contains("no common name, or several")
        );
    }
    // Known by another name, or by its thumbprint.
    nameless.traits.names = vec!["X".into()];
    let proof = Proof::Broker {
        to: Kind::EventGrid,
        name,
    };
    assert_eq!(proves(proof, &nameless), Ok(None));
    nameless.traits.names.clear();
    nameless.traits.is_self_signed = true;
    assert!(
        proves(proof, &nameless)
            .unwrap()
            .unwrap()
            .cure
            .contains("Thumbprint Match")
    );
}

#[test]
fn age_is_remarked_in_time_and_expiry_refused() {
    let year = identity(&issue("d", 365 * DAY));
    let at = |identity: &Identity, now| remarks(identity, Some(now), "d.pem");
    assert_eq!(at(&year, NOW + 291 * DAY), []);
    assert!(
        at(&year, NOW + 293 * DAY)[0].found.contains("72 days from now"),
        "past 80 % of its life"
    );
    let month = identity(&issue("d", 30 * DAY));
    assert_eq!(at(&month, NOW + 10 * DAY), []);
    assert!(
        at(&month, NOW + 17 * DAY)[0].cure.contains("--renew"),
        "less than two weeks"
    );
    assert!(
        at(&month, NOW - DAY)[0].found.contains("is not valid before"),
        "a clock is wrong"
    );
    assert_eq!(remarks(&month, None, "d.pem"), [], "nobody knows what time it is");
    let dir = tempfile::tempdir().unwrap();
    let (pem, key) = (dir.path().join("d.pem"), dir.path().join("d.key"));
    let issued = issue("d", DAY);
    std::fs::write(&pem, &issued.chain_pem).unwrap();
    std::fs::write(&key, issued.key_pem.as_str()).unwrap();
    assert!(read_pair(&pem, &key, Some(NOW)).is_ok() && read_pair(&pem, &key, None).is_ok());
    let e = read_pair(&pem, &key, Some(NOW + 2 * DAY)).unwrap_err();
    assert!(
        e.what().contains("d.pem expired on 2027-01-16") && e.cure().contains("nobody renews"),
        "{e}"
    );
}

#[test]
fn repairs_are_remarked() {
    let issued = issue("d", 100 * DAY);
    let (leaf, above) = issued.chain_pem.split_at(issued.leaf_pem.len());
    let text = format!("\u{feff}{above}{leaf}");
    let identity = Identity::from_pem(text.as_bytes(), issued.key_pem.as_bytes(), "d.pem").unwrap();
    assert_eq!(
        identity.repairs,
        [Repair::LeafMoved { stood: 2 }, Repair::ByteOrderMark("d.pem".into())]
    );
    let said = remarks(&identity, Some(NOW), "d.pem");
    assert!(
        said[0]
            .found
            .starts_with("d.pem: the certificate that fits the key was put first"),
        "{said:?}"
    );
}
