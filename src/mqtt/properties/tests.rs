use proptest::prelude::*;

use super::*;

const PLACES: [Place; 10] = [
    Place::Connect,
    Place::Will,
    Place::ConnAck,
    Place::Publish,
    Place::Delivery,
    Place::Ack,
    Place::Subscribe,
    Place::Unsubscribe,
    Place::Disconnect,
    Place::Auth,
];

/// A good value of each identifier.
fn good(identifier: u8) -> Option<Value<'static>> {
    Some(match form(identifier)?.0 {
        Form::Byte => Value::Byte(1),
        Form::Two => Value::Two(7),
        Form::Four => Value::Four(7),
        Form::Variable => Value::Variable(300),
        Form::Text => Value::Text("a"),
        Form::Binary => Value::Binary(&[0, 0xff]),
        Form::Pair => Value::Pair("k", "v"),
    })
}

fn section(all: &[(u8, Value<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, value) in all {
        put(&mut out, *id, *value).unwrap();
    }
    out
}

/// Table 2-4, column by column: how many properties each packet may have, and which.
#[test]
fn every_property_passes_where_it_belongs_and_nowhere_else() {
    let of = |place| {
        (0..=255)
            .filter(|id| form(*id).is_some_and(|(_, places)| places.contains(&place)))
            .collect::<Vec<u8>>()
    };
    assert_eq!(of(Place::Connect), [17, 21, 22, 23, 25, 33, 34, 38, 39]);
    assert_eq!(of(Place::Will), [1, 2, 3, 8, 9, 24, 38]);
    assert_eq!(
        of(Place::ConnAck),
        [17, 18, 19, 21, 22, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42]
    );
    assert_eq!(of(Place::Delivery), [1, 2, 3, 8, 9, 11, 35, 38]);
    assert_eq!(of(Place::Publish), of(Place::Delivery), "11 has a rule of its own");
    assert_eq!(of(Place::Ack), [31, 38]);
    assert_eq!(of(Place::Subscribe), [11, 38]);
    assert_eq!(of(Place::Unsubscribe), [38]);
    assert_eq!(of(Place::Disconnect), [17, 28, 31, 38]);
    assert_eq!(of(Place::Auth), [21, 22, 31, 38]);
    for place in PLACES {
        for identifier in 0..=255_u8 {
            let Some(value) = good(identifier) else {
                assert_eq!(check(&[identifier, 0, 0], place).unwrap_err().id(), "property-unknown");
                continue;
            };
            let said = check(&section(&[(identifier, value)]), place)
                .map(|_| ())
                .map_err(|v| v.id());
            let want = match (of(place).contains(&identifier), identifier, place) {
                (false, ..) => Err("property-place"),
                (_, id::SUBSCRIPTION_IDENTIFIER, Place::Publish) => Err("identifier-up"),
                (_, id::AUTH_DATA, _) => Err("auth-data"),
                _ => Ok(()),
            };
            assert_eq!(said, want, "{identifier} in {place:?}");
            let twice = section(&[
                (id::AUTH_METHOD, Value::Text("m")),
                (identifier, value),
                (identifier, value),
            ]);
            if want == Ok(()) && place != Place::Auth && place != Place::Connect && place != Place::ConnAck {
                let twice = &twice[4..];
                let may = identifier == id::USER || (identifier == 11 && place == Place::Delivery);
                assert_eq!(check(twice, place).is_ok(), may, "{identifier} twice in {place:?}");
            }
        }
    }
}

#[test]
fn values_have_their_rules() {
    for (place, bytes, id) in [
        (Place::Publish, &b"\x01\x02"[..], "payload-format"),
        (Place::Will, b"\x01\x02", "payload-format"),
        (Place::Publish, b"\x23\x00\x00", "alias-zero"),
        (Place::Publish, b"\x08\x00\x01+", "response-topic"),
        (Place::Publish, b"\x03\x00\x01\xff", "text"),
        (Place::Publish, b"\x26\x00\x01k\x00\x01\x00", "nul"),
        (Place::Publish, b"\x26\x00\x01k", "property-value"),
        (Place::Subscribe, b"\x0b\x00", "identifier-zero"),
        (Place::Subscribe, b"\x0b\x81\x00", "length-form"),
        (Place::Subscribe, b"\x0b\xff\xff\xff\xff\x01", "remaining-length"),
        (Place::Connect, b"\x19\x07", "request-response"),
        (Place::Connect, b"\x17\x07", "request-problem"),
        (Place::Connect, b"\x16\x00\x00", "auth-data"),
        (Place::Connect, b"\x11\x00\x00\x00", "property-value"),
    ] {
        assert_eq!(check(bytes, place).unwrap_err().id(), id, "{bytes:02x?}");
    }
    assert!(check(b"\x09\x00\x02\xff\x00\x08\x00\x00", Place::Publish).is_ok());
    assert!(
        walk(b"\x0b\x01\x0b\x02\x23\x00\x00").is_ok(),
        "a walk asks for no rule of values"
    );
    assert!(walk(b"\x7f").is_err());
}

#[test]
fn a_section_can_be_asked_and_thinned() {
    let all = [
        (id::SESSION_EXPIRY, Value::Four(60)),
        (id::USER, Value::Pair("a", "1")),
        (id::AUTH_METHOD, Value::Text("m")),
        (id::USER, Value::Pair("b", "2")),
        (id::RECEIVE_MAXIMUM, Value::Two(9)),
    ];
    let bytes = section(&all);
    let p = check(&bytes, Place::Connect).unwrap();
    assert_eq!(p.iter().map(|p| (p.id, p.value)).collect::<Vec<_>>(), all);
    assert_eq!(
        (p.four(17), p.two(33), p.text(21), p.byte(23)),
        (Some(60), Some(9), Some("m"), None)
    );
    assert_eq!(p.two(id::SESSION_EXPIRY), None, "it has four bytes");
    assert_eq!(p.without(&[id::USER, id::AUTH_METHOD]), section(&[all[0], all[4]]));
    assert_eq!(p.without(&[]), bytes);
    let long = "x".repeat(65_536);
    assert_eq!(
        put(&mut Vec::new(), id::AUTH_METHOD, Value::Text(&long))
            .unwrap_err()
            .id(),
        "field-size"
    );
}

proptest! {
    #[test]
    fn any_section_is_survived_and_walked_to_its_end(bytes: Vec<u8>, place in 0..PLACES.len()) {
        if let Ok(p) = check(&bytes, PLACES[place]) {
            let all: Vec<_> = p.iter().collect();
            prop_assert_eq!(all.last().map_or(0, |p| p.at.end), bytes.len());
            let again: Vec<_> = all.iter().map(|p| (p.id, p.value)).collect();
            prop_assert_eq!(section(&again), bytes);
        }
    }
}
