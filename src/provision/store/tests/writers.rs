//! Two at once: a running agent, and `onyx-agent provision` or `credentials forget` beside it.

use std::thread;

use super::*;

/// How often each of them writes.
const ROUNDS: usize = 12;

/// flock is between open files, so threads stand for processes here; the lock is the only thing that keeps them apart.
#[test]
fn writers_take_turns_and_readers_see_whole_sets() {
    let dir = tempfile::tempdir().unwrap();
    keep(&store(dir.path()), "w0");
    thread::scope(|scope| {
        let writers: Vec<_> = ["w1", "w2"]
            .into_iter()
            .map(|name| {
                let store = store(dir.path());
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        store.stage(&grant(name), NOW).unwrap();
                        store.promote().unwrap();
                    }
                })
            })
            .collect();
        let reader = store(dir.path());
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            // `names` itself looks for mixtures.
            let seen = names(&reader);
            assert!(seen.iter().all(|name| name == "-" || name.starts_with('w')), "{seen:?}");
            assert_ne!(seen[0], "-", "there is always a current set");
        }
    });
    let store = store(dir.path());
    assert_eq!(names(&store)[1], "-");
    assert_eq!(listing(&store).len(), 4, "{:?}", listing(&store));
}

#[test]
fn forgetting_beside_a_writer_leaves_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        let writer = store(dir.path());
        let writing = scope.spawn(move || {
            for _ in 0..ROUNDS {
                writer.stage(&grant("w"), NOW).unwrap();
                writer.promote().unwrap();
            }
        });
        let forgetter = store(dir.path());
        while !writing.is_finished() {
            forgetter.forget().unwrap();
            let seen = names(&forgetter);
            assert!(seen.iter().all(|name| name == "-" || name == "w"), "{seen:?}");
        }
    });
    let store = store(dir.path());
    store.forget().unwrap();
    assert!(!store.directory().exists());
}

#[test]
fn a_lock_that_is_held_is_waited_for_in_vain_only_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    keep(&store, "a");
    let held = crate::files::lock(&store.directory().join(".lock")).unwrap().unwrap();
    let e = store.discard().unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::ResourceBusy);
    assert!(e.to_string().contains("another onyx-agent"), "{e}");
    // Reading needs no lock.
    assert_eq!(names(&store), ["a", "-", "-"]);
    drop(held);
    store.discard().unwrap();
}
