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

fn place(ca: &Authority) -> Upstream {
    let mut upstream = Group::for_tests("localhost", "x").upstream;
    upstream.trust = Trust::Pem(ca.root_pem().to_owned());
    upstream
}

#[test]
fn the_one_that_was_not_used_for_longest_goes() {
    let ca = Authority::generate("T", NOW, DAY).unwrap();
    let upstream = place(&ca);
    let tickets = Tickets {
        max: 2,
        ..Tickets::new(&Clock::new())
    };
    let [a, b, c] = ["a", "b", "c"].map(|id| credential(&ca, id, 1));
    let of = |c: &Credential| tickets.config(&upstream, Some(c)).unwrap();
    let (first_a, first_b) = (of(&a), of(&b));
    assert!(Arc::ptr_eq(&first_a, &of(&a)));
    let first_c = of(&c);
    assert!(Arc::ptr_eq(&first_a, &of(&a)) && Arc::ptr_eq(&first_c, &of(&c)));
    assert!(!Arc::ptr_eq(&first_b, &of(&b)), "it had to go");
    let kept = tickets.kept();
    assert_eq!((kept.entries.len(), kept.order.len()), (2, 2));
}

#[test]
fn authorities_are_shared_and_read_once() {
    let (ca, other) = (
        Authority::generate("T", NOW, DAY).unwrap(),
        Authority::generate("U", NOW, DAY).unwrap(),
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root.pem");
    std::fs::write(&file, ca.root_pem()).unwrap();
    let mut upstream = place(&ca);
    upstream.trust = Trust::File(file.clone());
    let tickets = Tickets::new(&Clock::new());
    let a = credential(&ca, "a", 1);
    assert!(
        tickets.ready(&upstream, Some(&a)).is_none(),
        "a file is to be read first"
    );
    tickets.config(&upstream, None).unwrap();
    std::fs::remove_file(&file).unwrap();
    let ready = tickets.ready(&upstream, Some(&a)).expect("nothing to read any more");
    assert!(Arc::ptr_eq(&ready, &tickets.config(&upstream, Some(&a)).unwrap()));
    // Private authorities: one place for each set, however many credentials bring it.
    let roots = || tls::roots(other.root_pem().as_bytes(), "other").unwrap();
    for n in 0..20 {
        let private = Credential {
            authorities: Some(roots()),
            ..credential(&ca, &format!("p{n}"), 1)
        };
        tickets.config(&upstream, Some(&private)).unwrap();
    }
    assert_eq!(tickets.kept().places.len(), 2);
    tickets.clear();
    assert!(tickets.config(&upstream, Some(&a)).is_err(), "the file is gone");
}

/// While one connect reads a slow file, others go on.
#[test]
fn nobody_waits_for_anothers_files() {
    let ca = Authority::generate("T", NOW, DAY).unwrap();
    let upstream = place(&ca);
    let slow = Upstream {
        port: 1,
        ..upstream.clone()
    };
    let tickets = Tickets::new(&Clock::new());
    tickets.config(&upstream, None).unwrap();
    let (_, base) = tickets.kept().place(Place::of(&slow, None));
    let reading = base.lock().unwrap();
    let a = credential(&ca, "a", 1);
    assert!(tickets.ready(&upstream, Some(&a)).is_some());
    assert!(tickets.config(&upstream, Some(&a)).is_ok());
    assert!(tickets.ready(&slow, Some(&a)).is_none());
    drop(reading);
    assert!(tickets.config(&slow, Some(&a)).is_ok());
}
