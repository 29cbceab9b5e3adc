#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PublicKeyData, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::{Ordered, Repair, order};

/// Somebody with a name and a key; certificates are made for it by others.
struct Party {
    name: String,
    key: KeyPair,
}

impl Party {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            key: KeyPair::generate().unwrap(),
        }
    }

    fn params(&self, ca: bool, until: i32) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.use_authority_key_identifier_extension = true;
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    fn certify(&self, whom: &Self, ca: bool, until: i32) -> CertificateDer<'static> {
        let key = KeyPair::try_from(self.key.serialized_der()).unwrap();
        let issuer = Issuer::new(self.params(true, 2050), key);
        whom.params(ca, until)
            .signed_by(&whom.key, &issuer)
            .unwrap()
            .der()
            .clone()
    }

    fn public(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }
}

fn chain(list: Vec<CertificateDer<'static>>, of: &Party) -> Ordered {
    order(list, &of.public()).unwrap()
}

/// Root, intermediate, leaf in order, and two strangers, of which one has the intermediate's name.
struct Family {
    device: Party,
    straight: Vec<CertificateDer<'static>>,
    strangers: Vec<CertificateDer<'static>>,
}

fn family() -> Family {
    let (root, intermediate, device) = (Party::new("Root"), Party::new("Intermediate"), Party::new("dev-1"));
    let (other, namesake) = (Party::new("Other"), Party::new("Intermediate"));
    Family {
        straight: vec![
            intermediate.certify(&device, false, 2027),
            root.certify(&intermediate, true, 2030),
            root.certify(&root, true, 2040),
        ],
        strangers: vec![other.certify(&other, true, 2040), root.certify(&namesake, true, 2031)],
        device,
    }
}

#[test]
fn what_is_right_is_left_alone() {
    let f = family();
    for length in 1..=3 {
        let given = f.straight[..length].to_vec();
        let ordered = chain(given.clone(), &f.device);
        assert_eq!(
            (ordered.chain, ordered.repairs),
            (given, vec![]),
            "an incomplete chain is fine"
        );
    }
}

#[test]
fn what_was_done_is_told() {
    let f = family();
    let [leaf, intermediate, root] = [0, 1, 2].map(|i| f.straight[i].clone());
    let told = |list: &[&CertificateDer<'static>]| {
        let ordered = chain(list.iter().map(|d| (*d).clone()).collect(), &f.device);
        ordered.repairs
    };
    assert_eq!(told(&[&intermediate, &leaf]), [Repair::LeafMoved { stood: 2 }]);
    assert_eq!(told(&[&leaf, &root, &intermediate]), [Repair::Reordered]);
    assert_eq!(told(&[&leaf, &leaf, &intermediate, &leaf]), [Repair::Duplicates(2)]);
    let all = told(&[&root, &f.strangers[0], &intermediate, &leaf, &f.strangers[1], &root]);
    assert_eq!(
        all,
        [
            Repair::LeafMoved { stood: 4 },
            Repair::Reordered,
            Repair::Duplicates(1),
            Repair::Unrelated(vec!["CN=Other".into(), "CN=Intermediate".into()]),
        ]
    );
    let text: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert!(
        text[0].contains("number 4") && text[3].contains("CN=Other; CN=Intermediate"),
        "{text:?}"
    );
    assert!(
        order(f.straight.clone(), &Party::new("dev-1").public()).is_none(),
        "no certificate is for this key"
    );
}

#[test]
fn cross_signed_authorities_stay_and_loops_end() {
    let (old, new, device) = (Party::new("Old"), Party::new("New"), Party::new("dev-1"));
    let (leaf, own, cross, above) = (
        new.certify(&device, false, 2027),
        new.certify(&new, true, 2045),
        old.certify(&new, true, 2030),
        old.certify(&old, true, 2035),
    );
    let given = vec![own.clone(), above.clone(), cross.clone(), leaf.clone()];
    let ordered = chain(given, &device);
    assert_eq!(
        ordered.chain,
        [leaf.clone(), cross.clone(), above, own.clone()],
        "the way with more above it goes first"
    );
    assert!(!ordered.repairs.iter().any(|r| matches!(r, Repair::Unrelated(_))));
    // Each vouches for the other.
    let back = new.certify(&old, true, 2030);
    let ordered = chain(vec![back.clone(), cross.clone(), leaf.clone(), own.clone()], &device);
    assert_eq!(ordered.chain, [leaf, cross, back, own]);
}

#[test]
fn of_two_certificates_for_one_key_the_one_that_lasts_is_the_leaf() {
    let (root, device) = (Party::new("Root"), Party::new("dev-1"));
    let (old, new, own) = (
        root.certify(&device, false, 2027),
        root.certify(&device, false, 2028),
        device.certify(&device, false, 2040),
    );
    let ordered = chain(vec![own, old, new.clone()], &device);
    assert_eq!(ordered.chain, [new]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_order_gives_the_same_chain(
        order_of in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle(),
        keep in proptest::collection::vec(any::<bool>(), 9),
    ) {
        // Made once: keys are slow.
        static FAMILY: std::sync::OnceLock<Family> = std::sync::OnceLock::new();
        let f = FAMILY.get_or_init(family);
        // The straight chain twice, the strangers, one of them twice; all of the straight chain is there at least once.
        let pool: Vec<_> = f.straight.iter().chain(&f.straight).chain(&f.strangers).chain(&f.strangers[..1]).cloned().collect();
        let given: Vec<_> = order_of.iter().filter(|i| **i < 3 || keep[**i]).map(|i| pool[*i].clone()).collect();
        let ordered = chain(given.clone(), &f.device);
        prop_assert_eq!(&ordered.chain, &f.straight);
        prop_assert_eq!(ordered.repairs.is_empty(), given == f.straight);
        // What was put right once is right.
        prop_assert!(chain(ordered.chain, &f.device).repairs.is_empty());
    }
}
