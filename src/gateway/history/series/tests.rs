use super::*;
use proptest::prelude::*;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn totals(up_bytes: u64, open: usize) -> Totals {
    Totals {
        up_bytes,
        open,
        ..Totals::default()
    }
}

/// 100 bytes a second, sampled every 10 s and 3 ms late, from `from` to `to` seconds.
fn steady(series: &mut Series, from: u64, to: u64) {
    for s in (from..=to).step_by(10) {
        series.sample(seconds(s) + Duration::from_millis(3), &totals(s * 100, 5));
    }
}

#[test]
fn three_simulated_weeks_leave_what_was_promised_and_no_more() {
    let mut series = Series::default();
    steady(&mut series, 0, 21 * 86_400);
    for range in Range::ALL {
        let answer = series.answer(range);
        assert_eq!(answer.slots.len(), range.slots(), "{range:?}");
        let step = range.step().as_secs();
        assert_eq!(answer.first, seconds(21 * 86_400 - range.slots() as u64 * step));
        for slot in &answer.slots {
            assert_eq!((slot.up_bytes, slot.open), (100 * step, 5), "{range:?}");
            assert_eq!(u64::from(slot.covered_ms), step * 1_000);
        }
    }
    // The bound is about the rings as they are, not as they were meant: VecDeque rounds its capacity up.
    let bytes: usize = series
        .rings
        .iter()
        .map(|r| r.slots.capacity() * size_of::<Slot>())
        .sum();
    assert!(bytes <= 2 * MEMORY_MAX, "{bytes}");
}

#[test]
fn a_pause_is_a_gap_and_not_a_spike() {
    let mut series = Series::default();
    steady(&mut series, 0, 600);
    // The machine slept for a month; 7 bytes came in the meantime.
    let later = 600 + 30 * 86_400;
    series.sample(seconds(later), &totals(60_007, 5));
    steady(&mut series, later + 10, later + 60);
    for range in Range::ALL {
        let answer = series.answer(range);
        assert!(answer.slots.len() <= range.slots());
        assert_eq!(
            answer.first + range.step() * u32::try_from(answer.slots.len()).unwrap(),
            seconds((later + 60).div_ceil(range.step().as_secs()) * range.step().as_secs()),
            "{range:?} ends now"
        );
    }
    let hour = series.answer(Range::Hour);
    assert!(hour.slots.iter().any(|s| s.covered_ms == 0), "nobody watched");
}

#[test]
fn readers_may_come_between_samples() {
    let (mut often, mut seldom) = (Series::default(), Series::default());
    for s in 0..=7_200 {
        often.sample(seconds(s), &totals(s * 3, 1));
    }
    for s in (0..=7_200).step_by(10) {
        seldom.sample(seconds(s), &totals(s * 3, 1));
    }
    for range in Range::ALL {
        assert_eq!(often.answer(range), seldom.answer(range));
    }
    often.sample(seconds(7_200), &totals(99_999, 1));
    assert_eq!(
        often.answer(Range::Hour),
        seldom.answer(Range::Hour),
        "no time has passed"
    );
}

#[test]
fn refusals_stay_apart_by_reason_and_the_most_open_is_kept() {
    let mut series = Series::default();
    let mut now = Totals::default();
    series.sample(seconds(0), &now);
    now.refused[5] = 3;
    now.open = 9;
    series.sample(seconds(4), &now);
    now.refused[1] = 1;
    now.open = 2;
    series.sample(seconds(8), &now);
    let slot = series.answer(Range::Day).slots[0];
    assert_eq!(
        (slot.refused[5], slot.refused[1], slot.open, slot.covered_ms),
        (3, 1, 9, 8_000)
    );
    assert!(series.answer(Range::Hour).slots.len() == 1);
}

#[test]
fn words_are_unique() {
    for range in Range::ALL {
        assert_eq!(Range::of_word(range.word()), Some(range));
    }
    assert_eq!(Range::of_word("week"), None);
}

proptest! {
    #[test]
    fn nothing_is_lost_while_the_ring_holds_it(steps in proptest::collection::vec((1_u64..30_000, 0_u64..1_000_000), 1..100)) {
        let mut series = Series::default();
        let (mut now, mut bytes) = (Duration::ZERO, 0);
        series.sample(now, &totals(0, 0));
        for (milliseconds, more) in steps {
            now += Duration::from_millis(milliseconds);
            bytes += more;
            series.sample(now, &totals(bytes, 0));
        }
        for range in Range::ALL {
            let slots = series.answer(range).slots;
            prop_assert!(slots.len() <= range.slots());
            prop_assert_eq!(slots.iter().map(|s| s.up_bytes).sum::<u64>(), bytes);
            prop_assert_eq!(slots.iter().map(|s| u128::from(s.covered_ms)).sum::<u128>(), now.as_millis());
        }
    }
}
