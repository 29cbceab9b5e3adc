//! kill -9 before and after every file system call, and in the middle of every write: each role names the old or the new set, whole, and
//! the next writer works.
//!
//! kill -9 leaves what was written in the page cache; a power cut does not. So the order of the syncs is looked at too: when a set gets
//! a name, nothing of it is left to be lost.

use super::shim::{Call, End, PROMOTED, SCENARIOS, STAGED, Scenario, Stage, say};
use super::*;

/// Fewest calls that a stage and a promotion make: four files with three calls each, twice a link, and the directories' syncs.
const CALLS_MIN: usize = 30;
/// Most names in the identity's directory, however often a writer is killed: three roles and one temporary link, three sets with a role, and one without.
const NAMES_MAX: usize = 8;

const ALL: [&str; 3] = ["before", "half", "after"];
/// What is there after a call is what is there before the next one: for the longer scenarios once is enough.
const ONCE: [&str; 2] = ["before", "half"];

fn killed_everywhere(scenario: &'static Scenario, actions: &[&str]) {
    let stage = Stage::new(scenario);
    let (end, calls) = stage.run(0, "");
    assert_eq!(end, End::Done);
    assert_eq!(stage.state("undisturbed"), scenario.states.len() - 1);
    assert!(calls.len() >= CALLS_MIN, "{} calls: {calls:#?}", calls.len());
    syncs_before_names(&calls);
    let mut kills = 0;
    for action in actions {
        let mut reached = 0;
        for (n, call) in calls.iter().enumerate() {
            if *action == "half" && call.name != "write" {
                continue;
            }
            let what = format!("killed {action} call {} ({call:?})", n + 1);
            stage.reset();
            let (end, made) = stage.run(n + 1, action);
            assert_eq!((end, made.len()), (End::Killed, n + 1), "{what}");
            let state = stage.state(&what);
            assert!(state >= reached, "{what}: it went back from {reached} to {state}");
            reached = state;
            kills += 1;
            if *action != "after" {
                // What is there after a call is what is there before the next one, and from there it was finished.
                stage.finish(&what);
            }
        }
    }
    say(&format!(
        "{}: {kills} kills in {} calls, each with a whole old or new set after it",
        scenario.name,
        calls.len()
    ));
    assert!(kills > actions.len() * CALLS_MIN / 2 && kills >= calls.len());
}

#[test]
fn with_nothing_there() {
    killed_everywhere(&SCENARIOS[0], &ALL);
}

#[test]
fn over_good_sets() {
    killed_everywhere(&SCENARIOS[1], &ALL);
}

#[test]
fn over_a_set_of_the_first_release() {
    killed_everywhere(&SCENARIOS[2], &ONCE);
}

#[test]
fn while_plain_keys_are_sealed() {
    killed_everywhere(&SCENARIOS[3], &ONCE);
}

/// The same directory, killed again and again, at a later call each time, without a writer that finishes in between.
#[test]
fn what_kills_leave_does_not_pile_up() {
    let stage = Stage::new(&SCENARIOS[1]);
    let mut most = 0;
    let mut n = 0;
    loop {
        n += 1;
        let (end, _) = stage.run(n, "before");
        let list = listing(&stage.store());
        assert!(list.len() <= NAMES_MAX, "after {n} kills: {list:?}");
        most = most.max(list.len());
        assert!(names(&stage.store()).iter().all(|name| name != "damaged"));
        if end == End::Done {
            break;
        }
    }
    say(&format!(
        "killed {} times in a row: never more than {most} names in the directory",
        n - 1
    ));
    assert!(n > CALLS_MIN);
    stage.finish("after all of them");
}

/// Before the rename that gives a role a set: every file of the set and the set's directory were synced after their last change, and so was
/// the identity's directory after the set was made. Before success is said: so was the identity's directory after the rename.
fn syncs_before_names(calls: &[Call]) {
    let last =
        |upto: usize, name: &str, path: &str| calls[..upto].iter().rposition(|c| c.name == name && c.path == path);
    let mut named = 0;
    for (i, call) in calls.iter().enumerate().filter(|(_, c)| c.name == "rename") {
        assert!(
            Role::ALL.iter().any(|r| r.as_str() == call.second),
            "{call:?} gives no role: only roles are renamed"
        );
        let after = calls[i..].iter().position(|c| c.name == "fsync" && c.path == ".");
        let success = calls[i..]
            .iter()
            .position(|c| c.path.ends_with(STAGED) || c.path.ends_with(PROMOTED));
        assert!(
            after.unwrap() < success.unwrap(),
            "{call:?} is not durable when success is said"
        );
        let Some(link) = last(i, "symlink", &call.path) else {
            // One role takes over from another: the set was durable when that one got it.
            assert_eq!((call.path.as_str(), call.second.as_str()), ("candidate", "current"));
            continue;
        };
        let set = &calls[link].second;
        let Some(made) = last(i, "mkdir", set) else {
            assert_eq!(
                call.second, "previous",
                "only the old current set is older than this run"
            );
            continue;
        };
        named += 1;
        let files: Vec<_> = calls[made..i]
            .iter()
            .filter(|c| c.name == "create" && c.path.starts_with(&format!("{set}/")))
            .collect();
        assert_eq!(files.len(), 4, "{files:?}");
        for file in &files {
            let synced = last(i, "fsync", &file.path).unwrap();
            let written = last(i, "write", &file.path).unwrap();
            assert!(written < synced, "{file:?} has content that is not synced");
            assert!(
                last(i, "chown", &file.path).is_none_or(|c| c < synced),
                "{file:?} changed owner after"
            );
            assert!(
                last(i, "fsync", set).unwrap() > synced,
                "{set} was synced before {file:?}"
            );
        }
        assert!(last(i, "fsync", ".").unwrap() > made, "the name {set} is not synced");
    }
    assert!(named >= 1, "no set was named: {calls:#?}");
}
