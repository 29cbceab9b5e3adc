//! Several people and programs change one subscriber, or make one group, at the same time: nothing that one of them did is undone by another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use onyx::gateway::admin::{self, AdminError, subscribers};
use onyx::gateway::group::GroupId;
use onyx::gateway::store::{Store, StoreError, TokenChange};
use onyx::identity::Imsi;
use zeroize::Zeroizing;

use crate::store::{Ground, runtime, subscriber};

both!(
    a_deactivation_is_undone_by_nobody,
    who_comes_second_sees_what_the_first_one_did,
    one_of_many_makes_it,
    what_is_refused_changes_nothing,
);

const ROUNDS: usize = 12;

async fn a_deactivation_is_undone_by_nobody(ground: Ground) {
    // Two programs: a gateway and a command line, say.
    let stores = [ground.open().await.unwrap(), ground.open().await.unwrap()].map(Arc::new);
    let imsi: Imsi = "295012345678901".parse().unwrap();
    stores[0]
        .put_subscriber(&subscriber(imsi.as_str()), TokenChange::Keep)
        .await
        .unwrap();
    let first = stores[0].generation().await.unwrap();
    stores[0].put_group(&"fleet".parse().unwrap(), "").await.unwrap();
    let mut writers = vec![];
    for n in 0..4 {
        let (store, imsi) = (stores[n % 2].clone(), imsi.clone());
        writers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                match n {
                    // The API's PUT names one key, as 'subscriber set --name' does: the others stay.
                    0 => {
                        let body = format!(r#"{{"tags": {{"name": "name {round}"}}}}"#);
                        let put = subscribers::put_body(&store, &imsi, Zeroizing::new(body))
                            .await
                            .unwrap();
                        assert!(!put.1, "it was there before");
                    }
                    1 => {
                        subscribers::change(&store, &imsi, move |record| {
                            record.iccid = format!("89811000000000000{round:02}").parse().ok();
                            Ok(TokenChange::Keep)
                        })
                        .await
                        .unwrap();
                    }
                    2 => drop(subscribers::new_token(&store, &imsi).await.unwrap()),
                    _ => {
                        let group = "fleet".parse::<GroupId>().unwrap();
                        subscribers::change(&store, &imsi, move |record| {
                            record.group = Some(group.clone());
                            Ok(TokenChange::Keep)
                        })
                        .await
                        .unwrap();
                    }
                }
            }
        }));
    }
    // In the middle of it: the operator switches a stolen device off.
    subscribers::change(&stores[1], &imsi, |record| {
        record.enabled = false;
        Ok(TokenChange::Keep)
    })
    .await
    .unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    let end = stores[1].subscriber(&imsi).await.unwrap().unwrap();
    assert!(!end.enabled, "it is on again: {end:?}");
    assert_eq!(end.name, format!("name {}", ROUNDS - 1));
    assert_eq!(
        end.iccid.unwrap().as_str(),
        format!("89811000000000000{:02}", ROUNDS - 1)
    );
    assert_eq!(end.group.unwrap().as_str(), "fleet");
    assert!(end.has_token);
    let changes = 1 + 1 + 4 * ROUNDS as u64;
    assert_eq!(stores[0].generation().await.unwrap(), first + changes);
}

async fn who_comes_second_sees_what_the_first_one_did(ground: Ground) {
    let [one, two] = [ground.open().await.unwrap(), ground.open().await.unwrap()].map(Arc::new);
    let imsi: Imsi = "295012345678902".parse().unwrap();
    one.put_subscriber(&subscriber(imsi.as_str()), TokenChange::Keep)
        .await
        .unwrap();
    // The first one is held up between its reading and its writing, until the second one has been asked for.
    let (reading, has_read) = tokio::sync::oneshot::channel();
    let (go, may_write) = std::sync::mpsc::channel::<()>();
    let (reading, may_write) = (std::sync::Mutex::new(Some(reading)), std::sync::Mutex::new(may_write));
    let done = Arc::new(AtomicBool::new(false));
    let (second_is_done, seen) = (done.clone(), Arc::new(AtomicBool::new(false)));
    let saw = seen.clone();
    let who = imsi.clone();
    let slow = tokio::spawn(async move {
        one.change_subscriber(&who, move |record| {
            if let Some(reading) = reading.lock().unwrap().take() {
                reading.send(()).unwrap();
                may_write.lock().unwrap().recv().unwrap();
                saw.store(second_is_done.load(SeqCst), SeqCst);
            }
            record.enabled = false;
            Ok(TokenChange::Keep)
        })
        .await
    });
    has_read.await.unwrap();
    let who = imsi.clone();
    let second = tokio::spawn(async move {
        let changed = two
            .change_subscriber(&who, |record| {
                record.name = format!("was {}", if record.enabled { "on" } else { "off" });
                Ok(TokenChange::Keep)
            })
            .await;
        done.store(true, SeqCst);
        changed
    });
    go.send(()).unwrap();
    assert!(!slow.await.unwrap().unwrap().enabled);
    let end = second.await.unwrap().unwrap();
    assert!(
        !seen.load(SeqCst),
        "nobody writes between another's reading and writing"
    );
    assert_eq!((end.name.as_str(), end.enabled), ("was off", false));
}

async fn one_of_many_makes_it(ground: Ground) {
    let stores = [ground.open().await.unwrap(), ground.open().await.unwrap()].map(Arc::new);
    let group: GroupId = "fleet".parse().unwrap();
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            let (store, group) = (stores[n % 2].clone(), group.clone());
            tokio::spawn(async move {
                let record = subscriber("295012345678903");
                let made = admin::groups::make(&store, &group, &format!("of {n}")).await;
                (made, subscribers::add(&store, record).await)
            })
        })
        .collect();
    let (mut groups, mut added) = (vec![], 0);
    for task in tasks {
        let (made, one) = task.await.unwrap();
        match made {
            Ok(record) => groups.push(record.name),
            Err(e) => assert!(
                matches!(&e, AdminError::Store(StoreError::Conflict(why)) if why.contains("already")),
                "{e}"
            ),
        }
        match one {
            Ok(_) => added += 1,
            Err(e) => assert!(
                matches!(&e, AdminError::Store(StoreError::Conflict(why)) if why.contains("already")),
                "{e}"
            ),
        }
    }
    assert_eq!((groups.len(), added), (1, 1));
    assert_eq!(stores[0].group(&group).await.unwrap().unwrap().name, groups[0]);
    // Who renames one that another has removed does not bring it back.
    stores[0].delete_group(&group).await.unwrap();
    let e = stores[1].rename_group(&group, "again").await.unwrap_err();
    assert!(matches!(e, StoreError::Missing(_)), "{e}");
    assert!(stores[0].groups().await.unwrap().items.is_empty());
}

async fn what_is_refused_changes_nothing(ground: Ground) {
    let store: Store = ground.open().await.unwrap();
    let imsi: Imsi = "295012345678904".parse().unwrap();
    let gone = subscribers::change(&store, &imsi, |_| Ok(TokenChange::Keep))
        .await
        .unwrap_err();
    assert!(
        matches!(&gone, AdminError::Store(StoreError::Missing(what)) if what.contains(imsi.as_str())),
        "{gone}"
    );
    store
        .put_subscriber(&subscriber(imsi.as_str()), TokenChange::Keep)
        .await
        .unwrap();
    let (before, record) = (
        store.generation().await.unwrap(),
        store.subscriber(&imsi).await.unwrap().unwrap(),
    );
    for (body, want) in [
        (r#"{"status": "asleep"}"#, "neither"),
        (r#"{"groupId": "nowhere"}"#, "groupId: there is no group nowhere"),
        (r#"{"imeiLock": {}}"#, "which modem?"),
        (r#"{"token": "short"}"#, "must have"),
    ] {
        let e = subscribers::put_body(&store, &imsi, Zeroizing::new(body.to_owned()))
            .await
            .unwrap_err();
        assert!(
            matches!(&e, AdminError::Wrong(why) if why.contains(want)),
            "{body}: {e}"
        );
    }
    let other = imsi.clone();
    let e = store
        .edit_subscriber(&other, |_| Ok((subscriber("295012345678905"), TokenChange::Keep)))
        .await
        .unwrap_err();
    assert!(matches!(e, StoreError::Refused(_)), "{e}");
    assert_eq!(store.generation().await.unwrap(), before);
    assert_eq!(store.subscriber(&imsi).await.unwrap().unwrap(), record);
}
