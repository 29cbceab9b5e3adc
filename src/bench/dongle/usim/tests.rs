//! The card, APDU by APDU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use proptest::prelude::*;

use super::*;
use crate::bench::subscriber::aka::tests::hex;
use crate::bench::subscriber::{Amf, Sqn};

/// TS 35.208 test set 1: its SQN xor its AK, its AMF, its MAC-A.
const VECTOR: &str = "00880081 22 10 23553CBE9637A89D218AE64DAE47BF35 10 55F328B43577 B9B9 4A9FFAC354DFAFB3";
/// The same RAND with SQN 1 and AMF 8000, for a card that has accepted nothing yet.
const FIRST: &str = "00880081 22 10 23553CBE9637A89D218AE64DAE47BF35 10 AA689C648371 8000 F48B60145BEACF8E 00";
const ANSWER: &str = "DB08A54211D5E3BA50BF10B40BA9A3C58B2A05BBF0D987B21BF8CB10F769BCD751044604127672711C6D3441";

fn card(change: impl FnOnce(&mut UsimPart), sqn: Sqn) -> Usim {
    let mut part = UsimPart::default();
    change(&mut part);
    let sim = Sim { sqn, ..Sim::default() };
    Usim::new(&sim, &Imsi::default(), &Iccid::default(), &part)
}

/// One exchange, as text: data, a dot, the status word.
fn say(card: &mut Usim, command: &str) -> String {
    let (data, sw) = card.transmit(&hex(command));
    let data: String = data.iter().map(|b| format!("{b:02X}")).collect();
    format!("{data}.{sw}")
}

fn sw(card: &mut Usim, command: &str) -> String {
    say(card, command).rsplit_once('.').unwrap().1.to_owned()
}

const SELECT: &str = "00A4040407A0000000871002";

fn challenge(card: &Usim, sqn: Sqn) -> String {
    let rand = [7; 16];
    let (autn, _) = card.secrets.challenge(&rand, sqn, Amf([0xb9, 0xb9]));
    let autn: String = autn.iter().map(|b| format!("{b:02X}")).collect();
    format!("0088008122 10 {} 10 {autn}", "07".repeat(16))
}

#[test]
fn the_published_challenge_gives_the_published_answer() {
    // The set's number is near the end of the counter: the card's must be within reach of it.
    let before: Sqn = "ff9bb4d0b5e7".parse().unwrap();
    let mut c = card(|p| p.kc = false, before);
    assert_eq!(sw(&mut c, SELECT), "613A");
    assert_eq!(sw(&mut c, VECTOR), "612C");
    assert_eq!(say(&mut c, "00C000002C"), format!("{ANSWER}.9000"));
    let mut c = card(|_| {}, Sqn::default());
    sw(&mut c, SELECT);
    assert_eq!(sw(&mut c, FIRST), "6135");
    let shown = format!("{c:?}");
    // RES in decimal, as `Debug` writes bytes.
    assert!(
        shown.contains("waiting: 53 bytes") && !shown.contains("165, 66, 17"),
        "{shown}"
    );
    assert_eq!(say(&mut c, "00C0000035"), format!("{ANSWER}08EAE4BE823AF9A08B.9000"));
}

#[test]
fn a_number_is_good_once_then_auts_tells_the_cards_own() {
    let mut c = card(|p| p.sqn_ahead = 5, Sqn::default());
    sw(&mut c, SELECT);
    let late = challenge(&c, Sqn::new(3, 3).unwrap());
    assert_eq!(sw(&mut c, &late), "6110");
    let (auts, _) = c.transmit(&hex("00C0000010"));
    assert_eq!(auts[..2], [0xdc, 14]);
    let told = c.secrets.sqn_of(&[7; 16], auts[2..].try_into().unwrap()).unwrap();
    assert_eq!((told.seq(), told.ind()), (5, 0));
    let next = challenge(&c, told.next().unwrap());
    assert_eq!(sw(&mut c, &next), "6135");
    assert_eq!(sw(&mut c, &next), "6110", "replayed");
    // The card keeps its numbers over a restart.
    c.reset();
    sw(&mut c, SELECT);
    assert_eq!(sw(&mut c, &next), "6110");
}

#[test]
fn a_challenge_of_somebody_else_is_9862() {
    let mut c = card(|_| {}, Sqn::default());
    sw(&mut c, SELECT);
    let good = challenge(&c, Sqn::new(1, 1).unwrap());
    assert_eq!(sw(&mut c, &format!("{}00", &good[..good.len() - 2])), "9862");
    assert_eq!(sw(&mut c, &good), "6135");
    let mut c = card(|p| p.mac_failure = true, Sqn::default());
    sw(&mut c, SELECT);
    assert_eq!(sw(&mut c, &good), "9862");
}

#[test]
fn authenticate_needs_the_usim_selected_unless_the_modem_has_done_so() {
    for (unselected, wanted) in [
        (Unselected::Conditions, "6985"),
        (Unselected::Security, "6982"),
        (Unselected::Answer, "6135"),
    ] {
        let mut c = card(|p| p.unselected = unselected, Sqn::default());
        let first = challenge(&c, Sqn::new(1, 1).unwrap());
        assert_eq!(sw(&mut c, &first), wanted);
    }
    // Going back to the MF leaves the USIM.
    let mut c = card(|_| {}, Sqn::default());
    let first = challenge(&c, Sqn::new(1, 1).unwrap());
    sw(&mut c, SELECT);
    assert_eq!(sw(&mut c, "00A4000C023F00"), "9000");
    assert_eq!(sw(&mut c, &first), "6985");
    assert_eq!(sw(&mut c, "00A4000C027FFF"), "9000");
    assert_eq!(sw(&mut c, &first), "6135");
}

#[test]
fn malformed_authenticate() {
    let mut c = card(|_| {}, Sqn::default());
    sw(&mut c, SELECT);
    let good = challenge(&c, Sqn::new(1, 1).unwrap());
    for (command, wanted) in [
        (good.replacen("0081", "0080", 1), "6A86"),
        (good.replacen("0081", "0181", 1), "6A86"),
        (format!("0088008111 10{}", "07".repeat(16)), "6700"),
        (good.replacen("22 10", "22 0F", 1), "6A80"),
        (good.replacen("0088", "0087", 1), "6D00"),
        (good.replacen("0088", "A088", 1), "6E00"),
        (good.replacen("0088", "0288", 1), "6881"),
        (format!("{good}00"), "6135"),
    ] {
        assert_eq!(sw(&mut c, &command), wanted, "{command}");
    }
}

#[test]
fn get_response_is_for_the_next_command_only_and_wants_the_right_length() {
    let mut c = card(|_| {}, Sqn::default());
    assert_eq!(sw(&mut c, "00C0000010"), "6985", "nothing waits");
    assert_eq!(sw(&mut c, SELECT), "613A");
    assert_eq!(sw(&mut c, "00C0000010"), "6C3A");
    assert_eq!(sw(&mut c, "00C0000000"), "6C3A");
    let parameters = say(&mut c, "00C000003A");
    assert!(
        parameters.starts_with("6238") && parameters.contains("8410A0000000871002FF86FFFF89FFFFFFFF"),
        "{parameters}"
    );
    assert_eq!(sw(&mut c, "00C000003A"), "6985", "it has been fetched");
    sw(&mut c, SELECT);
    assert_eq!(sw(&mut c, "00A4000C026FAD"), "9000");
    assert_eq!(sw(&mut c, "00C000003A"), "6985", "another command came between");
    sw(&mut c, SELECT);
    assert_eq!(sw(&mut c, "00C001003A"), "6B00");
    assert_eq!(sw(&mut c, "00C00000"), "6700");
}

#[test]
fn ef_dir_as_in_the_ec20_log() {
    let mut c = card(|_| {}, Sqn::default());
    assert_eq!(sw(&mut c, "00B2010400"), "6986", "no file is selected");
    assert_eq!(&sw(&mut c, "00A40004023F0000")[..2], "61");
    assert_eq!(sw(&mut c, "00A40004022F0000"), "6121");
    assert_eq!(say(&mut c, "00C0000021").len(), 0x21 * 2 + 5);
    assert_eq!(sw(&mut c, "00B2010400"), "6C1A");
    let record = "61184F10A0000000871002FF86FFFF89FFFFFFFF50045553494D.9000";
    assert_eq!(say(&mut c, "00B201041A"), record);
    assert_eq!(sw(&mut c, "00B202041A"), "6A83");
    assert_eq!(sw(&mut c, "00B201021A"), "6A86");
    assert_eq!(sw(&mut c, "00B0000000"), "6981");
    // By short identifier, and by path.
    c.reset();
    assert_eq!(say(&mut c, "00B201F41A"), record);
    assert_eq!(sw(&mut c, "00A40804022F00"), "6121");
}

#[test]
fn selecting_what_is_there_and_what_is_not() {
    let mut c = card(|_| {}, Sqn::default());
    for (command, wanted) in [
        ("00A40004026F07", "6A82"),
        ("00A4000C027FFF", "6A82"),
        ("00A404040CA0000000871004FF86FFFF89", "6A82"),
        ("00A4040404A0000000", "6700"),
        ("00A4040607A0000000871002", "6A82"),
        ("00A4040007A0000000871002", "613A"),
        ("00A4040010A0000000871002FF86FFFF89FFFFFFFF", "613A"),
        ("00A4040C07A0000000871002", "9000"),
        ("00A4000C026F07", "9000"),
        ("00B0000000", "6C09"),
        ("00A4000C022F00", "6A82"),
        ("00A4080C047FFF6FAD", "9000"),
        ("00A4080C037FFF6F", "6700"),
        ("00A4050C022F00", "6A86"),
        ("00A4000102 2F00", "6A86"),
    ] {
        assert_eq!(sw(&mut c, command), wanted, "{command}");
    }
    assert_eq!(sw(&mut c, "00A4080C047FFF6F07"), "9000");
    assert_eq!(say(&mut c, "00B0000009"), "082959103254769810.9000");
    assert_eq!(say(&mut c, "00B0000702"), "9810.9000");
    assert_eq!(sw(&mut c, "00B000090 1"), "6B00");
}

#[test]
fn channels_are_apart_and_leak() {
    let mut c = card(|_| {}, Sqn::default());
    for number in 1..=3 {
        assert_eq!(say(&mut c, "0070000001"), format!("0{number}.9000"));
    }
    assert_eq!(sw(&mut c, "0070000001"), "6A81", "none is left");
    assert_eq!(sw(&mut c, "01A4040407A0000000871002"), "613A");
    let first = challenge(&c, Sqn::new(1, 1).unwrap());
    assert_eq!(sw(&mut c, &first), "6985", "the basic channel is where it was");
    let on_one = first.replacen("00", "01", 1);
    assert_eq!(sw(&mut c, &on_one), "6135");
    assert_eq!(sw(&mut c, "00C0000035"), "6985", "it waits on channel 1");
    assert_eq!(sw(&mut c, "01C0000035"), "9000");
    assert_eq!(sw(&mut c, "00708002"), "9000");
    assert_eq!(sw(&mut c, "00708002"), "6881");
    assert_eq!(sw(&mut c, "00708000"), "6A86");
    assert_eq!(sw(&mut c, "0070000002"), "6C01");
    assert_eq!(say(&mut c, "0070000001"), "02.9000");
    c.reset();
    assert_eq!(sw(&mut c, "01A4000C023F00"), "6881");
    assert_eq!(say(&mut c, "0070000001"), "01.9000");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(commands in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let mut c = card(|_| {}, Sqn::default());
        for command in commands {
            let (data, _) = c.transmit(&command);
            prop_assert!(data.len() <= 256);
        }
    }

    #[test]
    fn nor_do_almost_right_ones(
        picks in prop::collection::vec((0..8_usize, any::<prop::sample::Index>(), any::<u8>()), 0..40)
    ) {
        let mut c = card(|_| {}, Sqn::default());
        for (pick, place, value) in picks {
            let right = ["0070000001", SELECT, "00B201F41A", "00C0000035", "00708001", "00A4080C047FFF6F07", "00B0000009", VECTOR];
            let mut bytes = hex(right[pick]);
            let place = place.index(bytes.len() + 4);
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            } else {
                bytes.truncate(place % 7);
            }
            c.transmit(&bytes);
        }
    }
}
