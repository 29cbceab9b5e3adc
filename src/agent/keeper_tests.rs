use super::*;
use crate::pki::{Authority, Purpose};
use crate::tls::{self, Identity};

const NOW: Duration = Duration::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// A set that is valid for so long from [`NOW`].
fn kept(life: Duration) -> Result<Kept, Unusable> {
    let ca = Authority::generate("Test", NOW, 900 * DAY).unwrap();
    let issued = ca.issue("dev", &Purpose::Device, NOW, life).unwrap();
    Ok(Kept {
        credentials: Credentials {
            identity: Identity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), "test").unwrap(),
            roots: tls::roots(ca.root_pem().as_bytes(), "test").unwrap(),
            host: None,
            client_id: None,
        },
        fetched: NOW,
        directory: "set-1".into(),
    })
}

fn sets(
    current: Result<Kept, Unusable>,
    candidate: Result<Kept, Unusable>,
    previous: Result<Kept, Unusable>,
) -> Contents {
    Contents {
        current,
        candidate,
        previous,
    }
}

fn absent() -> Result<Kept, Unusable> {
    Err(Unusable::Absent)
}

fn damaged() -> Result<Kept, Unusable> {
    Err(Unusable::Damaged("torn".into()))
}

#[test]
fn what_is_good_is_used_and_what_is_newer_first() {
    let fresh = Trial::default();
    let at = |c: &Contents, now| choose(c, now, &fresh, None);
    let c = sets(kept(2 * DAY), absent(), absent());
    assert_eq!(at(&c, NOW), Step::Use(Which::Current));
    assert!(matches!(at(&c, NOW + 3 * DAY), Step::Fetch(why) if why.contains("expired")));
    let c = sets(kept(2 * DAY), kept(9 * DAY), absent());
    assert_eq!(at(&c, NOW), Step::Use(Which::Candidate));
    assert_eq!(
        at(&c, NOW + 3 * DAY),
        Step::Use(Which::Candidate),
        "the current one expired meanwhile"
    );
    assert!(matches!(at(&c, NOW + 10 * DAY), Step::Fetch(_)));
    assert!(
        matches!(at(&sets(absent(), absent(), absent()), NOW), Step::Fetch(why) if why.contains("none for this SIM"))
    );
    assert_eq!(
        choose(&c, NOW, &fresh, Some("wanted")),
        Step::Fetch("wanted".into()),
        "a wish goes before everything"
    );
}

#[test]
fn damage_falls_back_and_what_cannot_be_opened_blocks() {
    let fresh = Trial::default();
    let at = |c: &Contents| choose(c, NOW, &fresh, None);
    assert_eq!(at(&sets(damaged(), absent(), kept(DAY))), Step::FallBack);
    assert_eq!(at(&sets(damaged(), kept(DAY), kept(DAY))), Step::Use(Which::Candidate));
    assert!(matches!(at(&sets(damaged(), absent(), damaged())), Step::Fetch(why) if why.contains("torn")));
    assert!(
        matches!(at(&sets(Err(Unusable::OtherSim), absent(), kept(DAY))), Step::Fetch(_)),
        "only damage is repaired by going back"
    );
    for closed in [Unusable::Forbidden("no".into()), Unusable::Sealed("key".into())] {
        for c in [
            sets(Err(closed.clone()), absent(), kept(DAY)),
            sets(kept(DAY), Err(closed.clone()), absent()),
        ] {
            assert_eq!(at(&c), Step::Blocked(closed.clone()));
            assert_eq!(
                choose(&c, NOW, &fresh, Some("wanted")),
                Step::Blocked(closed.clone()),
                "others could not be kept either"
            );
        }
    }
}

#[test]
fn a_trial_ends_after_so_many_failures_and_the_two_sets_take_turns() {
    let mut trial = Trial::default();
    let c = sets(kept(9 * DAY), kept(9 * DAY), absent());
    for turn in 0..3 {
        for which in [Which::Candidate, Which::Current] {
            assert_eq!(choose(&c, NOW, &trial, None), Step::Use(which), "turn {turn}");
            for _ in 1..TRIALS_MAX {
                assert!(!trial.failed(which));
                assert_eq!(choose(&c, NOW, &trial, None), Step::Use(which));
            }
            assert!(trial.failed(which), "the last of {TRIALS_MAX}");
            assert_eq!(trial.is_shelved(), which == Which::Candidate);
        }
    }
    // Without a current set the new one is used however often it fails; asking for another is then allowed.
    let alone = sets(absent(), kept(9 * DAY), absent());
    while !trial.failed(Which::Candidate) {}
    assert_eq!(choose(&alone, NOW, &trial, None), Step::Use(Which::Candidate));
    assert!(trial.is_over());
}

#[test]
fn a_first_set_may_be_refused_a_few_times_before_another_is_asked_for() {
    let mut trial = Trial::default();
    for n in 1..=TRIALS_MAX {
        assert!(!trial.is_over());
        assert!(!trial.failed(Which::Current), "there is nothing to turn to");
        assert_eq!(trial.is_over(), n == TRIALS_MAX);
    }
}
