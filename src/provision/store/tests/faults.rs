//! A disk that is full or broken, at every file system call: an error is returned, the old set stays, and no secret is left behind that the
//! disk would have let us remove.

use super::shim::{self, End, SCENARIOS, Scenario, Stage, say};
use super::*;

/// How many of the injected faults have to end in an error, at least: others hit what a write can do without.
const ERRORS_MIN: usize = 20;

/// Sets and temporary links that no role names.
fn leftovers(store: &Store) -> Vec<String> {
    let named: Vec<_> = Role::ALL
        .iter()
        .filter_map(|role| role.read(store.directory()).ok().flatten())
        .map(|name| name.to_string())
        .collect();
    let unnamed = |n: &String| n.starts_with("set-") && !named.contains(n) || n.starts_with('.');
    listing(store).into_iter().filter(unnamed).collect()
}

fn fails_everywhere(scenario: &'static Scenario, action: &str) {
    let stage = Stage::new(scenario);
    let (_, calls) = stage.run(0, "");
    let (mut errors, mut borne) = (0, 0);
    for (n, call) in calls.iter().enumerate() {
        let what = format!("{action} at call {} ({call:?})", n + 1);
        stage.reset();
        let (end, made) = stage.run(n + 1, action);
        // A current set that cannot be read when it is to become the previous is no good one: the last good one stays.
        let unread = call.name == "open" && names(&stage.store()) == [shim::NEW, "-", "oldest"];
        let state = if unread {
            scenario.states.len() - 1
        } else {
            stage.state(&what)
        };
        match end {
            End::Done => {
                borne += 1;
                assert_eq!(state, scenario.states.len() - 1, "{what}: success without the new set");
            }
            End::Failed(why) => {
                errors += 1;
                assert!(why.contains("credentials"), "{what}: the error names no path: {why}");
                assert!(made.len() > n, "{what}");
                // Only the sync after the last rename can fail with the new set in place.
                let promoted = state == scenario.states.len() - 1;
                let last_sync = matches!(call.name.as_str(), "open" | "fsync") && call.path == ".";
                assert!(!promoted || last_sync, "{what}: {why}");
            }
            End::Killed => panic!("{what}: killed by whom?"),
        }
        // Whatever could be removed was removed at once.
        let could_remove =
            action == "enospc+" || !matches!(call.name.as_str(), "unlink" | "rmdir" | "open") && action == "eio";
        if could_remove && stage.store().directory().exists() {
            assert_eq!(leftovers(&stage.store()), [""; 0], "{what}");
        }
        stage.finish(&what);
    }
    say(&format!(
        "{}: {action} at {} calls: {errors} errors with the old set in place, {borne} borne",
        scenario.name,
        calls.len()
    ));
    assert!(errors >= ERRORS_MIN, "{errors} errors in {} calls", calls.len());
}

#[test]
fn one_call_fails() {
    fails_everywhere(&SCENARIOS[1], "eio");
}

#[test]
fn the_disk_is_full_from_here_on() {
    fails_everywhere(&SCENARIOS[1], "enospc+");
}

#[test]
fn the_disk_is_broken_from_here_on() {
    fails_everywhere(&SCENARIOS[1], "eio+");
}
