//! Finding subscribers in a large fleet, by what somebody types, by filter and by when they were seen, page by page.

use std::time::Duration;

use onyx::gateway::store::{Filter, Named, SEARCH_MAX, Store, SubscriberRecord, TokenChange};

use crate::store::{Ground, runtime, subscriber};

both!(
    what_is_typed_is_how_it_begins,
    filters_find_all_pages,
    those_seen_last_come_first,
);

async fn named(store: &Store, imsi: &str, name: &str) {
    let record = SubscriberRecord {
        name: name.to_owned(),
        ..subscriber(imsi)
    };
    store.put_subscriber(&record, TokenChange::Keep).await.unwrap();
}

async fn what_is_typed_is_how_it_begins(ground: Ground) {
    let store = ground.open().await.unwrap();
    named(&store, "295012345678901", "Pump 7, Basel").await;
    named(&store, "295012345678902", "pump 8").await;
    named(&store, "440101234567890", "Über uns").await;
    named(&store, "440101234567891", "295 Main Street").await;
    // A name with what means something to LIKE, and the last that still begins so.
    named(&store, "440101234567892", "100%_full").await;
    named(&store, "440101234567893", "pump\u{10FFFF}").await;
    let card = SubscriberRecord {
        iccid: Some("8942310022000012345".parse().unwrap()),
        ..subscriber("440101234567894")
    };
    store.put_subscriber(&card, TokenChange::Keep).await.unwrap();
    for (typed, want) in [
        ("295012345678901", &["295012345678901"][..]),
        // By IMSI first, then by name.
        ("295", &["295012345678901", "295012345678902", "440101234567891"]),
        ("PUMP", &["295012345678901", "295012345678902", "440101234567893"]),
        ("pump 7,", &["295012345678901"]),
        ("Basel", &[]),
        ("Über", &["440101234567890"]),
        ("100%", &["440101234567892"]),
        ("100_", &[]),
        ("%", &[]),
        ("8942", &["440101234567894"]),
        ("942", &[]),
        ("", &[]),
        ("' OR 1=1", &[]),
    ] {
        let (page, more) = store.search_subscribers(typed, SEARCH_MAX).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|s| s.imsi.as_str()).collect();
        assert_eq!((found.as_slice(), more), (want, false), "{typed:?}");
    }
    let (page, more) = store.search_subscribers("295", 1).await.unwrap();
    assert_eq!(
        (page.items.len(), more),
        (2, true),
        "one by each, and it is said that there are more"
    );
    // A damaged one is named, and hides nobody.
    ground.sql("UPDATE subscriber SET imei = 'nonsense' WHERE imsi = '295012345678902'");
    let (page, _) = store.search_subscribers("pump", SEARCH_MAX).await.unwrap();
    assert_eq!((page.items.len(), page.damaged[0].id.as_str()), (2, "295012345678902"));
}

async fn filters_find_all_pages(ground: Ground) {
    let store = ground.open().await.unwrap();
    for group in ["even", "odd"] {
        store.put_group(&group.parse().unwrap(), "").await.unwrap();
    }
    for n in 0..40 {
        let record = SubscriberRecord {
            group: Some(if n % 2 == 0 { "even" } else { "odd" }.parse().unwrap()),
            enabled: n % 4 != 0,
            name: format!("{} {n}", if n < 30 { "Pump" } else { "pump" }),
            ..subscriber(&format!("1000{n:02}"))
        };
        store.put_subscriber(&record, TokenChange::Keep).await.unwrap();
    }
    let count = async |wanted: Filter| {
        let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = store.find_subscribers(&wanted, after.as_deref(), 7).await.unwrap();
            found.extend(page.items.into_iter().map(|s| s.imsi.to_string()));
            (after, pages) = (page.next, pages + 1);
            if after.is_none() {
                assert!(found.is_sorted(), "{found:?}");
                found.dedup();
                return (found.len(), pages);
            }
        }
    };
    let even = Some("even".parse().unwrap());
    for (wanted, want) in [
        (Filter::default(), (40, 6)),
        (
            Filter {
                group: even.clone(),
                ..Filter::default()
            },
            (20, 3),
        ),
        (
            Filter {
                enabled: Some(false),
                ..Filter::default()
            },
            (10, 2),
        ),
        (
            Filter {
                group: even.clone(),
                enabled: Some(true),
                name: None,
            },
            (10, 2),
        ),
        (
            Filter {
                name: Some(Named::Is("Pump 7".to_owned())),
                ..Filter::default()
            },
            (1, 1),
        ),
        (
            Filter {
                name: Some(Named::Is("pump 7".to_owned())),
                ..Filter::default()
            },
            (0, 1),
        ),
        // SORACOM's prefix search minds the case.
        (
            Filter {
                name: Some(Named::Begins("Pump".to_owned())),
                ..Filter::default()
            },
            (30, 5),
        ),
        (
            Filter {
                name: Some(Named::Begins("pump".to_owned())),
                ..Filter::default()
            },
            (10, 2),
        ),
        (
            Filter {
                group: even,
                enabled: None,
                name: Some(Named::Begins("Pump 1".to_owned())),
            },
            (5, 1),
        ),
        (
            Filter {
                group: Some("none".parse().unwrap()),
                ..Filter::default()
            },
            (0, 1),
        ),
    ] {
        assert_eq!(count(wanted.clone()).await, want, "{wanted:?}");
    }
}

async fn those_seen_last_come_first(ground: Ground) {
    let store = ground.open().await.unwrap();
    for n in 1..=6 {
        store
            .put_subscriber(&subscriber(&format!("10000{n}")), TokenChange::Keep)
            .await
            .unwrap();
    }
    let at = |n: u64| Duration::from_secs(n);
    let seen = [("100002", 20), ("100005", 50), ("100004", 40)];
    let seen: Vec<_> = seen.map(|(i, n)| (i.parse().unwrap(), at(n))).into();
    store.seen(&seen, "g").await.unwrap();
    let latest = async |count| {
        let list = store.latest_subscribers(count).await.unwrap();
        list.iter().map(|i| i.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        latest(10).await,
        ["100005", "100004", "100002", "100001", "100003", "100006"]
    );
    assert_eq!(latest(2).await, ["100005", "100004"]);
    assert_eq!(latest(4).await, ["100005", "100004", "100002", "100001"]);
    assert_eq!(latest(0).await, Vec::<String>::new());
    // By their keys: more than one statement's worth, and those that are not there are left out.
    let many: Vec<_> = (0..250).map(|n| format!("{}", 100_000 + n).parse().unwrap()).collect();
    let among = store.subscribers_among(&many).await.unwrap();
    assert_eq!((among.items.len(), among.damaged.len(), among.next), (6, 0, None));
}
