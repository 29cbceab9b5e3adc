//! The task that owns the AT port, asked through the door while it does everything else that it does. The dongle is the bench's; its SIM is that
//! of TS 35.208 test set 1.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::agent::ladder::State;
use crate::bench::dongle::period::Period;
use crate::bench::dongle::scenario::{Event, Override, Scenario};
use crate::bench::dongle::{self, Dongle as Simulated};
use crate::bench::subscriber::{Amf, Sim, Sqn};
use crate::modem::usim::{AkaError, Answer, Challenge};

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    dongle: Simulated,
    dir: tempfile::TempDir,
    clock: Clock,
}

impl Stage {
    fn start(text: &str) -> Self {
        Self::with(text, |_| {})
    }

    fn with(text: &str, change: impl FnOnce(&mut Scenario)) -> Self {
        let mut scenario = Scenario::parse(text).unwrap();
        scenario.boot_time = Period::default();
        if !text.contains("ready_after") {
            scenario.sim.ready_after = Period::default();
        }
        change(&mut scenario);
        let dir = tempfile::tempdir().unwrap();
        let dongle = Simulated::start(dongle::Config {
            scenario,
            link: Some(dir.path().join("at")),
            log: Some(dir.path().join("log")),
            ..dongle::Config::default()
        })
        .unwrap();
        Self {
            dongle,
            dir,
            clock: Clock::new(),
        }
    }

    fn config(&self) -> Arc<AgentConfig> {
        // A modem that is polled once in an hour: what is answered sooner was not waited for.
        let port = self.dir.path().join("at");
        let text = format!(
            "client_authname = 'a-#{{imsi}}'\ncredentials.source = 'none'\nsession.to = 'gateway'\nsession.host = 'localhost'\n\
             [modem]\nport = '{}'\npoll = '1h'\n",
            port.display()
        );
        Arc::new(AgentConfig::parse(Path::new("agent.toml"), &text).unwrap())
    }

    async fn open(&self, need: Need) -> Card {
        open(self.config(), &self.clock, need, PATIENCE).await.unwrap()
    }

    fn sent(&self, command: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        let command = serde_json::to_string(command).unwrap();
        log.lines()
            .filter(|line| line.contains(command.trim_matches('"')))
            .count()
    }

    async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never {what}");
    }
}

/// The `n`th challenge of the SIM's home network.
fn challenge(n: u64) -> Challenge {
    let rand = [n.to_be_bytes(); 2].concat().try_into().unwrap();
    let (autn, _) = Sim::default()
        .secrets()
        .challenge(&rand, Sqn::new(n, 1).unwrap(), Amf([0x80, 0]));
    Challenge { rand, autn }
}

fn assert_right(challenge: &Challenge, answer: &Result<Answer, AkaError>) {
    let Ok(Answer::Keys(keys)) = answer else {
        panic!("{answer:?}")
    };
    let (_, agreed) = Sim::default().secrets().meet(&challenge.rand, &challenge.autn).unwrap();
    assert!(keys.res == agreed.res && keys.ck == *agreed.ck && keys.ik == *agreed.ik);
}

/// AUTHENTICATE on channel 1, as it is sent.
fn line(challenge: &Challenge) -> String {
    let apdu = crate::modem::usim::authenticate::command(challenge, true);
    format!("AT+CGLA=1,80,\"{}\"", crate::digest::hex(&apdu))
}

/// The modem does not answer this, once.
fn unanswered(command: String) -> Override {
    Override {
        command,
        answer: String::new(),
        result: String::new(),
        raw: None,
        silent: true,
        after: Period::default(),
        times: Some(1),
    }
}

#[tokio::test]
async fn the_sim_answers_while_the_network_is_searched_refused_or_there() {
    for (network, need, state) in [
        ("registration = 'none'", Need::Card, State::Climbing),
        ("registration = 'denied'", Need::Card, State::Down),
        ("register_after = '0s'", Need::Registered, State::Up),
    ] {
        let stage = Stage::start(&format!("[network]\n{network}\n"));
        let card = stage.open(need).await;
        stage
            .until("in that state", || card.ladder.state(Rung::Network) == state)
            .await;
        for n in 1..=3 {
            let asked = challenge(n);
            assert_right(&asked, &card.sim.authenticate(asked).await);
        }
        assert_eq!(card.ladder.state(Rung::Network), state, "undisturbed");
        assert_eq!(stage.dongle.open_channels(), 0);
        card.close().await;
    }
}

#[tokio::test]
async fn asks_during_the_search_do_not_keep_the_network_away() {
    let stage = Stage::start("[network]\nregister_after = '3s'\n");
    let card = stage.open(Need::Card).await;
    assert_ne!(card.ladder.state(Rung::Network), State::Up);
    let mut n = 0;
    while card.ladder.state(Rung::Network) != State::Up {
        n += 1;
        assert!(n < 100_000, "the network is never reached");
        let asked = challenge(n);
        assert_right(&asked, &card.sim.authenticate(asked).await);
    }
    assert!(n > 1, "nothing was asked meanwhile");
}

#[tokio::test]
async fn several_ask_at_once_and_all_are_answered() {
    let stage = Stage::start("");
    let card = stage.open(Need::Card).await;
    // The order in which they come is the order in which they are served: their numbers stay fresh.
    let asks = (1..=8).map(|n| {
        let sim = card.sim.clone();
        async move {
            let asked = challenge(n);
            let answer = sim.authenticate(asked).await;
            assert_right(&asked, &answer);
        }
    });
    futures_util::future::join_all(asks).await;
    assert_eq!(stage.dongle.open_channels(), 0);
}

#[tokio::test]
async fn a_modem_that_falls_silent_in_an_ask_is_a_fault_of_its_rung_and_the_channel_is_closed_without_another_ask() {
    let first = challenge(1);
    let stage = Stage::with("", |s| s.overrides.push(unanswered(line(&first))));
    let card = stage.open(Need::Registered).await;
    let mut changes = card.ladder.watch();
    let fell = async {
        while card.ladder.state(Rung::Modem) != State::Down {
            changes.changed().await.unwrap();
        }
        card.ladder.to_json()[0]["why"].to_string()
    };
    let (answer, why) = tokio::join!(card.sim.authenticate(first), fell);
    let Err(AkaError::Modem(told)) = answer else {
        panic!("{answer:?}")
    };
    for text in [&told, &why] {
        assert!(text.contains("did not answer AT+CGLA=1"), "{text}");
        assert!(!text.contains(&crate::digest::hex(&first.rand)), "{text}");
    }
    stage
        .until("up again", || card.ladder.state(Rung::Sim) == State::Up)
        .await;
    assert_eq!(stage.dongle.open_channels(), 0);
    // The SIM has taken the number of the first; the next one is fresh.
    let second = challenge(2);
    assert_right(&second, &card.sim.authenticate(second).await);
    assert_eq!(stage.dongle.open_channels(), 0);
}

#[tokio::test]
async fn unplugged_in_an_ask_and_asked_while_it_is_away() {
    let first = challenge(1);
    let mut stage = Stage::with("", |s| s.overrides.push(unanswered(line(&first))));
    let card = stage.open(Need::Card).await;
    let pull = async {
        stage.until("asked", || stage.sent("AT+CGLA=1,80") > 0).await;
        stage.dongle.inject(Event::Unplug(None)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(card.sim.authenticate(first), pull);
    assert!(
        matches!(&answer, Err(AkaError::Modem(why)) if why.contains("gone")),
        "{answer:?}"
    );
    let answer = card.sim.authenticate(challenge(2)).await;
    assert!(
        matches!(&answer, Err(AkaError::Modem(why)) if why.contains("cannot open")),
        "{answer:?}"
    );
    assert_eq!(card.ladder.state(Rung::Modem), State::Down);
    stage.dongle.inject(Event::Plug).await.unwrap();
    stage.dongle.wait_plugged(true).await.unwrap();
    stage
        .until("up again", || card.ladder.state(Rung::Sim) == State::Up)
        .await;
    let third = challenge(3);
    assert_right(&third, &card.sim.authenticate(third).await);
    assert_eq!(stage.dongle.open_channels(), 0);
}

#[tokio::test]
async fn an_asker_who_has_gone_costs_the_sim_nothing() {
    let stage = Stage::start("latency = '300ms'\n");
    let card = stage.open(Need::Card).await;
    let asked = challenge(1);
    // The first is being served; the second gives up before its turn.
    let (answer, ()) = tokio::join!(card.sim.authenticate(asked), async {
        stage.until("asked", || stage.sent("AT+CCHO") > 0).await;
        let given_up = tokio::time::timeout(Duration::from_millis(50), card.sim.authenticate(challenge(9))).await;
        assert!(given_up.is_err());
    });
    assert_right(&asked, &answer);
    let next = challenge(2);
    assert_right(&next, &card.sim.authenticate(next).await);
    assert_eq!(stage.sent("AT+CCHO"), 2);
}

#[tokio::test]
async fn what_is_asked_is_finished_before_the_port_is_let_go() {
    let stage = Stage::start("latency = '100ms'\n");
    let card = stage.open(Need::Card).await;
    let (sim, asked) = (card.sim.clone(), challenge(1));
    let asking = tokio::spawn(async move { sim.authenticate(asked).await });
    stage
        .until("a channel is open", || stage.dongle.open_channels() == 1)
        .await;
    card.close().await;
    assert_eq!(stage.dongle.open_channels(), 0);
    assert_right(&asked, &asking.await.unwrap());
    // And the port is free.
    let mut modem = crate::modem::Modem::open(&stage.dir.path().join("at")).await.unwrap();
    modem.identify().await.unwrap();
}

#[tokio::test]
async fn a_door_whose_card_was_dropped_says_nobody() {
    let stage = Stage::start("");
    let card = stage.open(Need::Card).await;
    let sim = card.sim.clone();
    drop(card);
    assert_eq!(sim.authenticate(challenge(1)).await, Err(AkaError::Nobody));
}

#[tokio::test]
async fn what_stands_in_the_way_is_named_with_rung_cause_and_cure() {
    let within = Duration::from_millis(2_500);
    for (scenario, need, wants) in [
        (
            "[sim]\nstate = 'absent'\n",
            Need::Card,
            [
                "the SIM was not reached within 2 s",
                "sim: there is no SIM",
                "put a SIM in",
            ],
        ),
        (
            "[network]\nregistration = 'denied'\n",
            Need::Registered,
            [
                "the network was not reached",
                "network: the network refuses this SIM",
                "SORACOM console",
            ],
        ),
        (
            "[[event]]\nat = '0s'\ndo = 'unplug'\n",
            Need::Card,
            ["the SIM was not reached", "modem: cannot open", "plugged in"],
        ),
    ] {
        let stage = Stage::start(scenario);
        let why = open(stage.config(), &stage.clock, need, within)
            .await
            .unwrap_err()
            .to_string();
        for want in wants {
            assert!(why.contains(want), "{want:?} is not in {why}");
        }
    }
}
