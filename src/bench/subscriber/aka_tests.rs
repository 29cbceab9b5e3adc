//! MILENAGE against 3GPP TS 35.208, and both sides of the agreement against each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use proptest::prelude::*;

use super::super::sqn::Window;
use super::*;

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().unwrap()
}

/// The published inputs and outputs of one test set.
struct Set {
    k: &'static str,
    opc: &'static str,
    rand: &'static str,
    sqn: &'static str,
    amf: &'static str,
    mac_a: &'static str,
    mac_s: &'static str,
    res: &'static str,
    ck: &'static str,
    ik: &'static str,
    ak: &'static str,
    ak_star: &'static str,
}

/// Test sets 1 to 6 (TS 35.208 section 4.3).
const SETS: [Set; 6] = [
    Set {
        k: "465b5ce8b199b49faa5f0a2ee238a6bc",
        opc: "cd63cb71954a9f4e48a5994e37a02baf",
        rand: "23553cbe9637a89d218ae64dae47bf35",
        sqn: "ff9bb4d0b607",
        amf: "b9b9",
        mac_a: "4a9ffac354dfafb3",
        mac_s: "01cfaf9ec4e871e9",
        res: "a54211d5e3ba50bf",
        ck: "b40ba9a3c58b2a05bbf0d987b21bf8cb",
        ik: "f769bcd751044604127672711c6d3441",
        ak: "aa689c648370",
        ak_star: "451e8beca43b",
    },
    Set {
        k: "0396eb317b6d1c36f19c1c84cd6ffd16",
        opc: "53c15671c60a4b731c55b4a441c0bde2",
        rand: "c00d603103dcee52c4478119494202e8",
        sqn: "fd8eef40df7d",
        amf: "af17",
        mac_a: "5df5b31807e258b0",
        mac_s: "a8c016e51ef4a343",
        res: "d3a628ed988620f0",
        ck: "58c433ff7a7082acd424220f2b67c556",
        ik: "21a8c1f929702adb3e738488b9f5c5da",
        ak: "c47783995f72",
        ak_star: "30f1197061c1",
    },
    Set {
        k: "fec86ba6eb707ed08905757b1bb44b8f",
        opc: "1006020f0a478bf6b699f15c062e42b3",
        rand: "9f7c8d021accf4db213ccff0c7f71a6a",
        sqn: "9d0277595ffc",
        amf: "725c",
        mac_a: "9cabc3e99baf7281",
        mac_s: "95814ba2b3044324",
        res: "8011c48c0c214ed2",
        ck: "5dbdbb2954e8f3cde665b046179a5098",
        ik: "59a92d3b476a0443487055cf88b2307b",
        ak: "33484dc2136b",
        ak_star: "deacdd848cc6",
    },
    Set {
        k: "9e5944aea94b81165c82fbf9f32db751",
        opc: "a64a507ae1a2a98bb88eb4210135dc87",
        rand: "ce83dbc54ac0274a157c17f80d017bd6",
        sqn: "0b604a81eca8",
        amf: "9e09",
        mac_a: "74a58220cba84c49",
        mac_s: "ac2cc74a96871837",
        res: "f365cd683cd92e96",
        ck: "e203edb3971574f5a94b0d61b816345d",
        ik: "0c4524adeac041c4dd830d20854fc46b",
        ak: "f0b9c08ad02e",
        ak_star: "6085a86c6f63",
    },
    Set {
        k: "4ab1deb05ca6ceb051fc98e77d026a84",
        opc: "dcf07cbd51855290b92a07a9891e523e",
        rand: "74b0cd6031a1c8339b2b6ce2b8c4a186",
        sqn: "e880a1b580b6",
        amf: "9f07",
        mac_a: "49e785dd12626ef2",
        mac_s: "9e85790336bb3fa2",
        res: "5860fc1bce351e7e",
        ck: "7657766b373d1c2138f307e3de9242f9",
        ik: "1c42e960d89b8fa99f2744e0708ccb53",
        ak: "31e11a609118",
        ak_star: "fe2555e54aa9",
    },
    Set {
        k: "6c38a116ac280c454f59332ee35c8c4f",
        opc: "3803ef5363b947c6aaa225e58fae3934",
        rand: "ee6466bc96202c5a557abbeff8babf63",
        sqn: "414b98222181",
        amf: "4464",
        mac_a: "078adfb488241a57",
        mac_s: "80246b8d0186bcf1",
        res: "16c8233f05a0ac28",
        ck: "3f8c7587fe8e4b233af676aede30ba3b",
        ik: "a7466cc1e6b2a1337d49d3b66e95d7b4",
        ak: "45b0f69ab06c",
        ak_star: "1f53cd2b1113",
    },
];

#[test]
fn the_published_test_sets() {
    for set in &SETS {
        let secrets = Secrets::new(set.k.parse().unwrap(), set.opc.parse().unwrap());
        let rand = bytes(set.rand);
        let sqn: [u8; 6] = bytes(set.sqn);
        let mut m = secrets.milenage();
        assert_eq!(m.f1(&rand, &sqn, &bytes(set.amf)), bytes(set.mac_a), "f1");
        assert_eq!(m.f1star(&rand, &sqn, &bytes(set.amf)), bytes(set.mac_s), "f1*");
        let (agreed, ak) = secrets.agreed(&rand);
        assert_eq!(agreed.res, bytes(set.res), "f2");
        assert_eq!(*agreed.ck, bytes(set.ck), "f3");
        assert_eq!(*agreed.ik, bytes(set.ik), "f4");
        assert_eq!(ak, bytes(set.ak), "f5");
        assert_eq!(m.f5star(&rand), bytes(set.ak_star), "f5*");
        // AUTN is put together from the same pieces.
        let (autn, _) = secrets.challenge(&rand, Sqn::from_bytes(sqn), Amf(bytes(set.amf)));
        let wanted = [xor(sqn, ak).to_vec(), hex(set.amf), hex(set.mac_a)].concat();
        assert_eq!(autn[..], wanted[..]);
        assert_eq!(secrets.meet(&rand, &autn).unwrap().0.to_bytes(), sqn);
    }
}

fn secrets() -> impl Strategy<Value = Secrets> {
    (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(k, opc)| Secrets::new(K::from_bytes(k), Opc::from_bytes(opc)))
}

proptest! {
    #[test]
    fn both_sides_agree(s in secrets(), rand: [u8; 16], sqn: [u8; 6], amf: [u8; 2]) {
        let (autn, hss) = s.challenge(&rand, Sqn::from_bytes(sqn), Amf(amf));
        let (read, usim) = s.meet(&rand, &autn).unwrap();
        prop_assert_eq!(read.to_bytes(), sqn);
        prop_assert_eq!((hss.res, &hss.ck, &hss.ik), (usim.res, &usim.ck, &usim.ik));
        prop_assert_eq!(hss.kc(), usim.kc());
        let auts = s.auts(&rand, Sqn::from_bytes(sqn));
        prop_assert_eq!(s.sqn_of(&rand, &auts).unwrap().to_bytes(), sqn);
    }

    #[test]
    fn a_changed_bit_or_another_key_is_noticed(s in secrets(), other in secrets(), rand: [u8; 16], sqn: [u8; 6], bit in 0..128_usize) {
        let (mut autn, _) = s.challenge(&rand, Sqn::from_bytes(sqn), Amf([0; 2]));
        prop_assert!(other.meet(&rand, &autn).is_err());
        autn[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(s.meet(&rand, &autn).is_err());
        let mut auts = s.auts(&rand, Sqn::from_bytes(sqn));
        prop_assert!(other.sqn_of(&rand, &auts).is_err());
        let bit = bit % 112;
        auts[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(s.sqn_of(&rand, &auts).is_err());
    }

    #[test]
    fn a_hss_behind_its_card_catches_up_by_auts(s in secrets(), rand: [u8; 16], card in 1..1_u64 << 40, hss in 0..1_u64 << 40) {
        let mut window = Window::new(Sqn::new(card, 3).unwrap());
        let mut sqn = Sqn::new(hss.min(card - 1), 9).unwrap();
        let (autn, _) = s.challenge(&rand, sqn, Amf([0; 2]));
        let (told, _) = s.meet(&rand, &autn).unwrap();
        prop_assert!(!window.accept(told));
        sqn = s.sqn_of(&rand, &s.auts(&rand, window.sqn_ms())).unwrap().next().unwrap();
        let (autn, _) = s.challenge(&rand, sqn, Amf([0; 2]));
        prop_assert!(window.accept(s.meet(&rand, &autn).unwrap().0));
    }
}
