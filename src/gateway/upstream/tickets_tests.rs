#![allow(clippy::unwrap_used)]

use super::*;
use crate::gateway::group::Group;
use crate::pki::{Authority, Purpose};
use crate::tls::Identity;
use std::time::Duration;

const NOW: Duration = crate::clock::FLOOR;
const DAY: Duration = Duration::from_secs(86_400);

fn credential(ca: &Authority, id: &str, version: u8) -> Credential {
    let issued = ca.issue(id, &Purpose::Device, NOW, DAY).unwrap();
    Credential {
        id: id.parse().unwrap(),
        version: Version(vec![version]),
        identity: Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), id).unwrap(),
        authorities: None,
    }
}

#[test]
fn one_configuration_per_upstream_credential_and_version() {
    let ca = Authority::generate("T", NOW, DAY).unwrap();
    let mut upstream = Group::for_tests("localhost", "x").upstream;
    upstream.trust = Trust::Pem(ca.root_pem().to_owned());
    let tickets = Tickets::new(&Clock::new());
    let (a, b) = (credential(&ca, "a", 1), credential(&ca, "b", 1));
    let of = |u: &Upstream, c: &Credential| tickets.config(u, Some(c)).unwrap();
    let first = of(&upstream, &a);
    assert!(
        Arc::ptr_eq(&first, &of(&upstream, &a)),
        "tickets are kept between connects"
    );
    assert!(!Arc::ptr_eq(&first, &of(&upstream, &b)));
    let other = Upstream {
        port: 443,
        ..upstream.clone()
    };
    assert!(!Arc::ptr_eq(&first, &of(&other, &a)), "another upstream");
    let rotated = of(&upstream, &credential(&ca, "a", 2));
    assert!(
        !Arc::ptr_eq(&first, &rotated),
        "a rotated credential has its own tickets"
    );
    assert!(
        !Arc::ptr_eq(&first, &of(&upstream, &a)),
        "what was replaced does not come back"
    );
}
