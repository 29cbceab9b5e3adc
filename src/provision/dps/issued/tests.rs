use std::time::Duration;

use super::*;
use crate::identity::AuthName;
use crate::pki::{Authority, Purpose};
use crate::provision::request::{Kind, Request};
use crate::tls::{Identity, certificates};

const NOW: Duration = Duration::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn id() -> RegistrationId {
    "Dev-1".parse().unwrap()
}

fn request(name: &str) -> Request {
    Request::new(Kind::P384, &AuthName::new(name.into()).unwrap()).unwrap()
}

fn base64(pem: &str) -> Vec<String> {
    let list = certificates(pem.as_bytes(), "test").unwrap();
    list.iter().map(|der| STANDARD.encode(der)).collect()
}

/// Leaf, intermediate, root.
fn issue(request: &Request) -> [String; 3] {
    let ca = Authority::generate("Issuing", NOW, 90 * DAY).unwrap();
    [
        ca.sign_request(&request.pem, NOW, 30 * DAY).unwrap(),
        ca.intermediate_pem(),
        ca.root_pem(),
    ]
}

/// Every order of three.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn every_order_comes_out_leaf_first_and_fits_the_key() {
    let request = request("dev-1");
    let pems = issue(&request);
    for order in ORDERS {
        for as_pem in [false, true] {
            let list: Vec<String> = order
                .iter()
                .map(|i| {
                    if as_pem {
                        pems[*i].clone()
                    } else {
                        base64(&pems[*i]).remove(0)
                    }
                })
                .collect();
            let chain = chain(&list, &request.der, &id()).unwrap();
            let want: Vec<String> = pems.iter().flat_map(|p| base64(p)).collect();
            assert_eq!(base64(&chain), want, "{order:?}");
            let identity = Identity::from_pem(chain.as_bytes(), request.private_key_pem.as_bytes(), "x").unwrap();
            assert_eq!(identity.leaf.common_name.as_deref(), Some("dev-1"));
        }
    }
}

#[test]
fn strangers_are_left_out_and_a_missing_root_does_not_matter() {
    let request = request("dev-1");
    let pems = issue(&request);
    // The same names and other keys: by name alone these would be taken for the issuers.
    let others = Authority::generate("Issuing", NOW, 90 * DAY).unwrap();
    let list = [
        others.root_pem(),
        others.intermediate_pem(),
        pems[1].clone(),
        pems[0].clone(),
    ];
    let chain = chain(&list, &request.der, &id()).unwrap();
    assert_eq!(base64(&chain), [base64(&pems[0]), base64(&pems[1])].concat());
}

#[test]
fn what_is_not_ours_is_refused_with_a_cure() {
    let (mine, other) = (request("dev-1"), request("dev-2"));
    let pems = issue(&mine);
    let leaf = base64(&pems[0]).remove(0);
    let garbage = |text: &str| vec![leaf.clone(), text.to_owned()];
    let rows = [
        (vec![], &mine, IssuedError::Missing),
        (vec![leaf.clone(); CHAIN_MAX + 1], &mine, IssuedError::TooMany(9)),
        (vec![leaf.clone()], &other, IssuedError::NotOurs(1)),
        (vec![base64(&pems[1]).remove(0)], &mine, IssuedError::NotOurs(1)),
        (garbage("?"), &mine, IssuedError::Damaged { index: 2 }),
        (garbage(""), &mine, IssuedError::Damaged { index: 2 }),
        (garbage("AAAA"), &mine, IssuedError::Damaged { index: 2 }),
        (
            garbage("-----BEGIN CERTIFICATE-----\nAAAA"),
            &mine,
            IssuedError::Damaged { index: 2 },
        ),
        (
            vec![leaf[..leaf.len() / 2].to_owned()],
            &mine,
            IssuedError::Damaged { index: 1 },
        ),
    ];
    for (list, request, want) in rows {
        let e = chain(&list, &request.der, &id()).unwrap_err();
        assert_eq!(e, want);
        assert!(e.cure().contains("credentials.csr = false"));
    }
    let e = chain(&[base64(&issue(&other)[0]).remove(0)], &other.der, &id()).unwrap_err();
    assert!(matches!(e, IssuedError::Name { ref found } if found == "dev-2"), "{e}");
    // A certificate of the right name for another key.
    let ca = Authority::generate("Issuing", NOW, 90 * DAY).unwrap();
    let issued = ca.issue("dev-1", &Purpose::Device, NOW, DAY).unwrap();
    let e = chain(&base64(&issued.chain_pem), &mine.der, &id()).unwrap_err();
    assert_eq!(e, IssuedError::NotOurs(2));
}

proptest::proptest! {
    #[test]
    fn any_list_is_survived(list: Vec<String>, bytes: Vec<u8>) {
        let _ = chain(&list, &bytes, &id());
        let _ = chain(&[STANDARD.encode(&bytes)], &bytes, &id());
    }
}
