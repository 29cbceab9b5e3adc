//! Where the USIM is on the card: its identifier, and how EF_DIR tells it (ETSI TS 102 221 section 13.1). No I/O.
//!
//! The partial identifier names every USIM and is enough for the SIM of an Onyx (measured). A card with more than one, or a modem that
//! wants all sixteen bytes, needs the whole of it: from `AT+CUAD`, or else from EF_DIR itself.

/// RID of 3GPP and the code of the USIM (TS 101 220 annex E).
pub const USIM: [u8; 7] = [0xA0, 0x00, 0x00, 0x00, 0x87, 0x10, 0x02];

/// An application template, and an application identifier in it.
const TEMPLATE: u8 = 0x61;
const IDENTIFIER: u8 = 0x4F;
/// Identifiers have 5 to 16 bytes (ISO/IEC 7816-5).
const IDENTIFIER_MAX: usize = 16;

/// SELECT of the MF (TS 102 221 section 11.1.1).
pub const SELECT_MF: [u8; 7] = [0x00, 0xA4, 0x00, 0x00, 0x02, 0x3F, 0x00];
/// SELECT of EF_DIR below the MF, giving its parameters.
pub const SELECT_DIR: [u8; 7] = [0x00, 0xA4, 0x00, 0x04, 0x02, 0x2F, 0x00];
/// EF_DIR's records that are looked at; cards have one to three applications.
pub const RECORDS_MAX: u8 = 8;

/// SELECT by identifier, giving the parameters.
#[must_use]
pub fn select(identifier: &[u8]) -> Vec<u8> {
    let identifier = identifier.get(..IDENTIFIER_MAX).unwrap_or(identifier);
    let length = u8::try_from(identifier.len()).unwrap_or_default();
    [&[0x00, 0xA4, 0x04, 0x04, length], identifier].concat()
}

/// READ RECORD number `number`, whatever its length.
#[must_use]
pub fn read_record(number: u8) -> [u8; 5] {
    [0x00, 0xB2, number, 0x04, 0x00]
}

/// The identifier of the first USIM in one or more records; unused bytes (FF) and what is unknown are passed over.
#[must_use]
pub fn find_usim(mut records: &[u8]) -> Option<&[u8]> {
    while let Some((&first, rest)) = records.split_first() {
        if first != TEMPLATE {
            records = rest;
            continue;
        }
        let (&length, rest) = rest.split_first()?;
        let template = rest.get(..usize::from(length)).unwrap_or(rest);
        if let Some(found) = identifier(template).filter(|found| found.starts_with(&USIM)) {
            return Some(found);
        }
        records = rest.get(usize::from(length)..).unwrap_or_default();
    }
    None
}

fn identifier(mut template: &[u8]) -> Option<&[u8]> {
    while let [tag, length, rest @ ..] = template {
        let (value, behind) = rest.split_at_checked(usize::from(*length))?;
        if *tag == IDENTIFIER {
            return Some(value).filter(|value| value.len() <= IDENTIFIER_MAX);
        }
        template = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::digest::unhex;
    use proptest::prelude::*;

    #[test]
    fn the_usim_is_found_among_others() {
        let isim = "61124F10A0000000871004FF86FFFF89FFFFFFFF";
        let usim = "61184F10A0000000871002FF86FFFF89FFFFFFFF50045553494D";
        let want = unhex("A0000000871002FF86FFFF89FFFFFFFF").unwrap();
        for (records, found) in [
            (usim.to_owned(), true),
            (format!("{isim}{usim}"), true),
            (format!("{isim}FFFFFFFF{usim}FFFF"), true),
            (isim.to_owned(), false),
            ("FFFFFFFF".to_owned(), false),
            (String::new(), false),
        ] {
            let bytes = unhex(&records).unwrap();
            assert_eq!(find_usim(&bytes), found.then_some(want.as_slice()), "{records}");
        }
        // As Quectel's EC20 tells it.
        let short = unhex("61094F07A0000000871002").unwrap();
        assert_eq!(find_usim(&short), Some(&USIM[..]));
        let label_first = unhex("610F5004555349 4D4F07A0000000871002".replace(' ', "").as_str()).unwrap();
        assert_eq!(find_usim(&label_first), Some(&USIM[..]));
    }

    #[test]
    fn a_cut_record_gives_nothing() {
        let whole = unhex("61184F10A0000000871002FF86FFFF89FFFFFFFF50045553494D").unwrap();
        for end in 0..20 {
            assert_eq!(find_usim(&whole[..end]), None, "{end}");
        }
    }

    #[test]
    fn commands() {
        assert_eq!(select(&USIM), unhex("00A4040407A0000000871002").unwrap());
        assert_eq!(read_record(1).to_vec(), unhex("00B2010400").unwrap());
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(found) = find_usim(&bytes) {
                prop_assert!(found.starts_with(&USIM) && found.len() <= IDENTIFIER_MAX);
            }
        }

        #[test]
        fn nor_do_templates(lengths in prop::collection::vec((0..4_u8, any::<u8>()), 0..40)) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|(t, l)| [[0x61, 0x4F, 0x50, 0xA0][usize::from(*t)], *l]).collect();
            let _ = find_usim(&bytes);
        }
    }
}
