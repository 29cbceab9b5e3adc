//! Whatever the host sends and whatever happens: no panic, bounded output, the same answer however the bytes are cut.

use std::time::Duration;

use proptest::prelude::*;

use super::Bench;
use crate::bench::dongle::engine::MAX_OUTPUT;
use crate::bench::dongle::scenario::Event;

fn event() -> impl Strategy<Value = Event> {
    let lasting = prop::option::of((0_u64..20_000).prop_map(Duration::from_millis));
    prop_oneof![
        lasting.clone().prop_map(Event::Silent),
        lasting.clone().prop_map(Event::Garbage),
        lasting.clone().prop_map(Event::LoseNetwork),
        lasting.prop_map(Event::Unplug),
        (0_u64..5_000).prop_map(|ms| Event::Late(Duration::from_millis(ms))),
        any::<i16>().prop_map(Event::Signal),
        Just(Event::Talk),
        Just(Event::FindNetwork),
        Just(Event::Deny("Illegal UE".into())),
        Just(Event::RemoveSim),
        Just(Event::InsertSim),
        Just(Event::Crash),
        Just(Event::Plug),
    ]
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![
        Just("AT+CFUN=1,1\r"),
        Just("AT+CFUN=0\r"),
        Just("AT+CFUN=1\r"),
        Just("AT+QPOWD\r"),
        Just("AT+COPS=?\r"),
        Just("AT+CPIN=\"1234\"\r"),
        Just("AT+CPIN=\"1\"\r"),
        Just("AT+CEREG=2\r"),
        Just("AT+QLTS=2\r"),
        Just("ATV0\r"),
        Just("A/"),
        Just("AT+CGDCONT=1,\"IP\",\"a\"\r"),
        Just("AT+QENG=\"servingcell\"\r"),
        Just("AT+CCLK?\r"),
        Just("AT+CCHO=\"A0000000871002\"\r"),
        Just("AT+CGLA=1,24,\"00A4040407A0000000871002\"\r"),
        Just("AT+CSIM=10,\"00C000003A\"\r"),
        Just("AT+CCHC=1\r"),
        Just("AT"),
        Just("\r"),
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "AT[ -~]{0,40}\r".prop_map(String::into_bytes),
        command.prop_map(|text| text.as_bytes().to_vec()),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    Say(Vec<u8>),
    Wait(u64),
    Happen(Event),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => input().prop_map(Act::Say),
        2 => (0_u64..10_000).prop_map(Act::Wait),
        1 => event().prop_map(Act::Happen),
    ]
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_or_grow(acts in prop::collection::vec(act(), 0..60), pin in any::<bool>()) {
        let mut bench = Bench::cold(if pin { "[sim]\nstate = 'pin'" } else { "" });
        for act in acts {
            match act {
                Act::Say(bytes) => bench.engine.input(bench.now, &bytes),
                Act::Wait(ms) => {
                    bench.now += Duration::from_millis(ms);
                    bench.engine.tick(bench.now);
                }
                Act::Happen(event) => bench.engine.inject(bench.now, event),
            }
            prop_assert!(bench.engine.output().len() <= MAX_OUTPUT);
            // One timer of each kind at most: after a tick none is overdue.
            bench.engine.tick(bench.now);
            prop_assert!(bench.engine.next_wakeup().is_none_or(|due| due > bench.now));
        }
    }

    #[test]
    fn cuts_do_not_matter(pieces in prop::collection::vec(input(), 0..20), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let bytes = pieces.concat();
        let run = |cuts: &[usize]| {
            let mut bench = Bench::warm("");
            let mut from = 0;
            let mut text = String::new();
            for to in cuts.iter().copied().chain([bytes.len()]) {
                bench.engine.input(bench.now, &bytes[from..to]);
                text += &bench.take();
                from = to;
            }
            text + &bench.wait(60_000)
        };
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.sort_unstable();
        prop_assert_eq!(run(&places), run(&[]));
    }
}
