use super::*;

const T: Duration = Duration::from_secs(1_793_491_200);

fn twin() -> Twin {
    Twin::new(T)
}

fn report(t: &mut Twin, patch: &Value) -> Result<u64, HubError> {
    t.report(patch.to_string().as_bytes(), T)
}

#[test]
fn patches_are_merged_and_null_removes() {
    let mut t = twin();
    assert_eq!(report(&mut t, &json!({"a": 1, "b": {"c": 2, "d": [1, 2]}})), Ok(2));
    assert_eq!(
        report(&mut t, &json!({"b": {"c": null, "e": "x"}, "a": {"f": true}})),
        Ok(3)
    );
    assert_eq!(
        t.for_device()["reported"],
        json!({"a": {"f": true}, "b": {"d": [1, 2], "e": "x"}, "$version": 3})
    );
    // A null within a new object leaves nothing behind.
    assert_eq!(report(&mut t, &json!({"a": null, "g": {"h": null}})), Ok(4));
    assert_eq!(
        t.for_device()["reported"],
        json!({"b": {"d": [1, 2], "e": "x"}, "g": {}, "$version": 4})
    );
    assert_eq!(t.for_device()["desired"], json!({"$version": 1}));
}

#[test]
fn metadata_says_when_and_only_to_the_service_side() {
    let mut t = twin();
    report(&mut t, &json!({"a": {"b": 1}})).unwrap();
    t.report(br#"{"a":{"c":2}}"#, T + Duration::from_secs(1)).unwrap();
    let seen = t.for_service();
    assert_eq!(
        seen["properties"]["reported"]["$metadata"],
        json!({
            "$lastUpdated": "2026-11-01T00:00:01Z",
            "a": {
                "$lastUpdated": "2026-11-01T00:00:01Z",
                "b": {"$lastUpdated": "2026-11-01T00:00:00Z"},
                "c": {"$lastUpdated": "2026-11-01T00:00:01Z"},
            },
        })
    );
    assert_eq!((seen["version"].clone(), seen["etag"].clone()), (json!(3), json!("v3")));
    assert!(!t.for_device().to_string().contains("lastUpdated"));
}

#[test]
fn what_the_hub_does_not_take_changes_nothing() {
    let mut deep = json!(1);
    for _ in 0..DEPTH_MAX {
        deep = json!({"a": deep});
    }
    let mut t = twin();
    report(&mut t, &json!({"deep": deep["a"]})).unwrap();
    let before = t.for_device();
    for (bad, says) in [
        (json!({"deep": {"a": deep}}), "nested deeper than 10"),
        (json!({"a.b": 1}), "cannot be a property's name"),
        (json!({"$version": 1}), "cannot be a property's name"),
        (json!({"x": {"": 1}}), "cannot be a property's name"),
        (json!({"x": "y".repeat(4_097)}), "4097 bytes"),
        (json!({"x": 4_503_599_627_370_497_i64}), "not within"),
        (json!({"x": u64::MAX}), "not within"),
        (json!([1]), "no JSON object"),
    ] {
        let e = report(&mut t, &bad).unwrap_err();
        assert!(e.to_string().contains(says) && e.status() == 400, "{bad}: {e}");
    }
    assert!(t.report(b"{", T).unwrap_err().to_string().contains("no JSON"));
    assert!(t.report(&[b'['; 100_000], T).is_err(), "deep nesting is no crash");
    assert_eq!(t.for_device(), before);
}

#[test]
fn a_section_is_bounded_as_the_hub_counts() {
    assert_eq!(
        size(&json!({"ab": "cdé\u{1}", "n": 1.5, "t": true, "z": null, "l": [1, false]})),
        2 + 4 + 9 + 5 + 1 + 13
    );
    let mut t = twin();
    // 8 strings of 4,095 bytes with names of one byte fill the section exactly.
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        report(&mut t, &json!({name: "x".repeat(4_095)})).unwrap();
    }
    let e = report(&mut t, &json!({"i": ""})).unwrap_err();
    assert!(e.to_string().contains("32769 bytes"), "{e}");
    assert_eq!(report(&mut t, &json!({"a": null, "i": ""})), Ok(10));
}

#[test]
fn the_service_side_writes_tags_and_desired_properties() {
    let mut t = twin();
    let patch = json!({"tags": {"site": "a"}, "properties": {"desired": {"n": 5, "gone": null, "$version": 77, "$metadata": {}}}});
    let told = t.update(&patch, T).unwrap().unwrap();
    assert_eq!(
        (told.version, told.notice),
        (2, json!({"n": 5, "gone": null, "$version": 2}))
    );
    assert_eq!(t.for_device()["desired"], json!({"n": 5, "$version": 2}));
    assert_eq!(t.update(&json!({"tags": {"site": null}}), T), Ok(None));
    assert_eq!(t.for_service()["tags"], json!({}));
    for bad in [
        json!([]),
        json!({"properties": 1}),
        json!({"tags": "x"}),
        json!({"properties": {"desired": []}}),
    ] {
        assert!(t.update(&bad, T).is_err(), "{bad}");
    }
    assert!(
        t.update(
            &json!({"tags": {"a": "x".repeat(4_000), "b": "x".repeat(4_000), "c": "x".repeat(400)}}),
            T
        )
        .is_err()
    );
    assert_eq!(t.for_service()["tags"], json!({}));
}
