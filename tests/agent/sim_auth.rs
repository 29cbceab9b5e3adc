//! The SIM answers challenges through every kind of modem that the bench can be. The challenges, and what a SIM has to answer, come from an
//! independent MILENAGE (tests/judges/milenage.py); whatever happens, no logical channel stays open.

use std::process::Command;
use std::time::Duration;

use onyx::bench::clouds::Cloud;
use onyx::bench::dongle::period::Period;
use onyx::bench::dongle::scenario::{Event, Override, Scenario};
use onyx::bench::dongle::{self, Dongle};
use onyx::bench::subscriber::{TEST_K, TEST_OPC};
use onyx::modem::Modem;
use onyx::modem::command::uicc::OpenChannel;
use onyx::modem::usim::application::USIM;
use onyx::modem::usim::{AkaError, Answer, Asked, Challenge, LeftOpen};
use serde_json::{Value, json};

use crate::commands::absolute;
use crate::mosquitto::Mosquitto;
use crate::stage::{Agent, Bench, Toml, assert_discreet, onyx_agent, rung_of};

/// TS 35.208 test set 1.
const RAND: &str = "23553cbe9637a89d218ae64dae47bf35";
const NO_CHANNEL: &str = "[usim]\nccho = 'error'\n";

fn bytes<const N: usize>(digits: &str) -> [u8; N] {
    assert_eq!(digits.len(), N * 2, "{digits}");
    let byte = |i: usize| u8::from_str_radix(&digits[i * 2..i * 2 + 2], 16).unwrap();
    std::array::from_fn(byte)
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What the other MILENAGE says.
fn judge(mut task: Value) -> Value {
    task["k"] = TEST_K.into();
    task["opc"] = TEST_OPC.into();
    task["rand"] = RAND.into();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judges/aka.py");
    let output = Command::new("python3")
        .args(["-B", script, &task.to_string()])
        .output()
        .expect("python3 is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A challenge with this number, and what the SIM has to answer.
fn challenge(sqn: u64) -> (Challenge, Value) {
    let made = judge(json!({"sqn": format!("{sqn:012x}"), "amf": "8000"}));
    let challenge = Challenge {
        rand: bytes(RAND),
        autn: bytes(made["autn"].as_str().unwrap()),
    };
    (challenge, made)
}

fn assert_keys(asked: &Asked, right: &Value) {
    let Ok(Answer::Keys(keys)) = &asked.answer else {
        panic!("{asked:?}")
    };
    let got = json!({"autn": right["autn"], "res": digits(&keys.res), "ck": digits(&keys.ck), "ik": digits(&keys.ik)});
    assert!(got == *right, "the two MILENAGEs differ");
    assert!(asked.trouble.is_none(), "{asked:?}");
}

/// A dongle whose SIM is ready at once, and a modem at its port that has been configured as the agent does it.
struct Stage {
    dongle: Dongle,
    log: tempfile::NamedTempFile,
}

impl Stage {
    fn start(text: &str) -> Self {
        Self::with(text, |_| {})
    }

    fn with(text: &str, change: impl FnOnce(&mut Scenario)) -> Self {
        let mut scenario = Scenario::parse(text).unwrap();
        scenario.boot_time = Period::default();
        scenario.sim.ready_after = Period::default();
        change(&mut scenario);
        let log = tempfile::NamedTempFile::new().unwrap();
        let config = dongle::Config {
            scenario,
            log: Some(log.path().into()),
            ..dongle::Config::default()
        };
        let dongle = Dongle::start(config).unwrap();
        Self { dongle, log }
    }

    async fn modem(&self) -> Modem<onyx::modem::Port> {
        let mut modem = Modem::open(&self.dongle.path().unwrap()).await.unwrap();
        modem.identify().await.unwrap();
        modem
    }

    /// How often a command that begins so was sent.
    fn sent(&self, command: &str) -> usize {
        let log = std::fs::read_to_string(self.log.path()).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|l| l["command"].as_str().unwrap().starts_with(command))
            .count()
    }
}

/// One ask on a healthy dongle by this scenario.
async fn ask(text: &str, sqn: u64) -> (Stage, Asked, Value) {
    let stage = Stage::start(text);
    let (challenge, right) = challenge(sqn);
    let mut left_open = LeftOpen::Nothing;
    let asked = stage.modem().await.authenticate(&challenge, &mut left_open).await;
    assert_eq!(
        (stage.dongle.open_channels(), left_open),
        (0, LeftOpen::Nothing),
        "{text}"
    );
    (stage, asked, right)
}

#[tokio::test]
async fn every_kind_of_modem_gives_the_keys_of_the_other_milenage() {
    // What the modem is, how often it is asked for a channel, and which commands to the card it sees.
    for (text, ccho, cgla, csim) in [
        ("", 1, 2, 0),
        ("[usim]\nkc = false\n", 1, 2, 0),
        ("[usim]\nccho = 'bare'\n", 1, 2, 0),
        ("[usim]\nget_response = 'fetched'\n", 1, 1, 0),
        ("[usim]\ntoolkit = true\n", 1, 2, 0),
        ("[usim]\nle = 'error'\n", 1, 3, 0),
        ("[usim]\nle = '6700'\n", 1, 3, 0),
        (
            "[usim]\nle = 'error'\nget_response = 'fetched'\ntoolkit = true\n",
            1,
            2,
            0,
        ),
        ("[line]\ncme = 'numeric'\n", 1, 2, 0),
        ("[line]\nchunk = 1\necho = 'never'\n", 1, 2, 0),
        // URCs in the middle of every answer.
        ("[noise]\nurc_inside = '+QIND: PB DONE'\n", 1, 2, 0),
        // The whole identifier, from AT+CUAD, or from EF_DIR (SELECT MF, SELECT EF_DIR and its answer, READ RECORD twice).
        ("[usim]\naid = 'whole'\n", 2, 2, 0),
        ("[usim]\naid = 'whole'\ncuad = 'error'\n", 2, 2, 6),
        (
            "[usim]\naid = 'whole'\ncuad = 'error'\nget_response = 'fetched'\n",
            2,
            1,
            4,
        ),
        // No channels: SELECT MF, SELECT USIM, their answers, AUTHENTICATE and its answer.
        (NO_CHANNEL, 2, 0, 6),
        ("[usim]\nchannels = 0\n", 2, 0, 6),
        ("[usim]\nchannels = 0\nget_response = 'fetched'\n", 2, 0, 3),
        ("[usim]\nchannels = 0\nle = '6700'\nunselected = '6982'\n", 2, 0, 7),
        // A channel that lets nothing through.
        ("[usim]\ncgla = 'refused'\n", 1, 2, 6),
    ] {
        let (stage, asked, right) = ask(text, 1).await;
        assert_keys(&asked, &right);
        let sent = (stage.sent("AT+CCHO="), stage.sent("AT+CGLA="), stage.sent("AT+CSIM="));
        assert_eq!(sent, (ccho, cgla, csim), "{text}");
    }
}

#[tokio::test]
async fn a_number_that_is_not_fresh_gives_an_auts_that_the_other_milenage_believes_and_the_next_one_is_good() {
    for more in ["", "ccho = 'error'\n"] {
        let stage = Stage::start(&format!("[usim]\nsqn_ahead = 40\n{more}"));
        let mut modem = stage.modem().await;
        let mut left_open = LeftOpen::Nothing;
        let (old, _) = challenge(1);
        let asked = modem.authenticate(&old, &mut left_open).await;
        let Ok(Answer::Resync { auts }) = asked.answer else {
            panic!("{asked:?}")
        };
        let told = judge(json!({"auts": digits(&auts)}));
        let sqn = u64::from_str_radix(told["sqn"].as_str().unwrap(), 16).unwrap();
        assert_eq!(sqn >> 5, 40, "SEQ of the SIM, before its IND of 5 bits");
        let (next, right) = challenge(sqn + (1 << 5) + 1);
        assert_keys(&modem.authenticate(&next, &mut left_open).await, &right);
        // Once only.
        let again = modem.authenticate(&next, &mut left_open).await;
        assert!(matches!(again.answer, Ok(Answer::Resync { .. })), "{again:?}");
        assert_eq!((stage.dongle.open_channels(), left_open), (0, LeftOpen::Nothing));
    }
}

#[tokio::test]
async fn refusals_of_the_card_and_of_the_modem() {
    let (_, asked, _) = ask("[usim]\nmac_failure = true\n", 1).await;
    assert_eq!(asked.answer, Err(AkaError::Mac));
    let (stage, asked, _) = ask("[usim]\nccho = 'error'\nmac_failure = true\n", 1).await;
    assert_eq!((asked.answer, stage.sent("AT+CSIM=")), (Err(AkaError::Mac), 5));
    // One wrong bit in AUTN.
    let stage = Stage::start("");
    let (mut wrong, _) = challenge(1);
    wrong.autn[15] ^= 1;
    let asked = stage.modem().await.authenticate(&wrong, &mut LeftOpen::Nothing).await;
    assert_eq!(asked.answer, Err(AkaError::Mac));
    assert_eq!(stage.dongle.open_channels(), 0);
    // Both ways are closed.
    for csim in ["refused", "absent"] {
        for ccho in ["ccho = 'error'", "channels = 0", "cgla = 'refused'"] {
            let (_, asked, _) = ask(&format!("[usim]\n{ccho}\ncsim = '{csim}'\n"), 1).await;
            let Err(AkaError::Modem(why)) = asked.answer else {
                panic!("{asked:?}")
            };
            let way = if ccho.starts_with("cgla") { "AT+CGLA" } else { "AT+CCHO" };
            assert!(
                why.contains("neither way") && why.contains(way) && why.contains("AT+CSIM"),
                "{why}"
            );
            assert!(asked.trouble.is_none(), "a refusal is no trouble of the modem");
        }
    }
}

#[tokio::test]
async fn a_sim_that_is_away_or_locked_is_told_at_once_and_a_busy_one_is_waited_for() {
    for (sim, what) in [
        ("state = 'absent'", "SIM not inserted"),
        ("state = 'failure'", "SIM failure"),
        ("state = 'pin'", "SIM PIN required"),
        ("state = 'puk'", "SIM PUK required"),
    ] {
        let (stage, asked, _) = ask(&format!("[sim]\n{sim}\n"), 1).await;
        let Err(AkaError::Modem(why)) = &asked.answer else {
            panic!("{asked:?}")
        };
        assert!(why.contains(what), "{why}");
        assert_eq!((stage.sent("AT+CCHO="), stage.sent("AT+CSIM=")), (1, 0), "{sim}");
    }
    let stage = Stage::with("", |s| s.sim.ready_after = Period::from_millis(1_500));
    let (challenge, right) = challenge(1);
    let asked = stage
        .modem()
        .await
        .authenticate(&challenge, &mut LeftOpen::Nothing)
        .await;
    assert_keys(&asked, &right);
    assert!(stage.sent("AT+CCHO=") > 1);
    assert_eq!(stage.dongle.open_channels(), 0);
}

#[tokio::test]
async fn channels_that_a_dead_program_left_open_are_closed_when_none_is_free() {
    for channels in 1..=3 {
        let stage = Stage::start(&format!("[usim]\nchannels = {channels}\n"));
        let mut modem = stage.modem().await;
        for _ in 0..channels {
            modem.execute(&OpenChannel(&USIM)).await.unwrap();
        }
        assert_eq!(stage.dongle.open_channels(), channels);
        drop(modem); // and nobody has closed anything
        let (challenge, right) = challenge(1);
        let asked = stage
            .modem()
            .await
            .authenticate(&challenge, &mut LeftOpen::Nothing)
            .await;
        assert_keys(&asked, &right);
        assert_eq!(stage.dongle.open_channels(), 0);
        assert_eq!(
            (stage.sent("AT+CSIM="), stage.sent("AT+CGLA=")),
            (0, 2),
            "the channel was got"
        );
    }
}

/// Another answer, once, to the line that the agent sends.
fn instead(command: &str) -> Override {
    Override {
        command: command.into(),
        answer: String::new(),
        result: "OK".into(),
        raw: None,
        silent: false,
        after: Period::default(),
        times: Some(1),
    }
}

/// The first AUTHENTICATE on channel 1.
fn first_line(challenge: &Challenge) -> String {
    let (rand, autn) = (digits(&challenge.rand), digits(&challenge.autn));
    format!("AT+CGLA=1,80,\"008800812210{rand}10{autn}00\"")
}

#[tokio::test]
async fn nonsense_instead_of_an_answer_is_called_so_and_the_channel_is_closed() {
    let (challenge, _) = challenge(1);
    let keys = "DB08A54211D5E3BA50BF";
    for answer in [
        "+CGLA: 4,\"90\"".to_owned(),
        "+CGLA: 2,\"90\"".to_owned(),
        "+CGLA: 4,\"9000\"".to_owned(),
        "+CGLA: 4,\"90G0\"".to_owned(),
        "+CGLA: x,\"9000\"".to_owned(),
        "+CGLA: 9000".to_owned(),
        format!("+CGLA: 24,\"{keys}9000\""),
        format!("+CGLA: 26,\"{keys}9000\""),
    ] {
        let stage = Stage::with("", |s| {
            let mut other = instead(&first_line(&challenge));
            other.answer.clone_from(&answer);
            s.overrides.push(other);
        });
        let asked = stage
            .modem()
            .await
            .authenticate(&challenge, &mut LeftOpen::Nothing)
            .await;
        let Err(AkaError::Nonsense(why)) = &asked.answer else {
            panic!("{answer}: {asked:?}")
        };
        assert!(!why.contains("A542"), "{why}");
        assert!(asked.trouble.is_none(), "{asked:?}");
        assert_eq!(
            (stage.dongle.open_channels(), stage.sent("AT+CSIM=")),
            (0, 0),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn what_the_card_does_not_allow_on_a_channel_it_may_allow_on_the_basic_one() {
    let (challenge, right) = challenge(1);
    for sw in ["6881", "6982", "6985", "6986", "6E00", "6D00", "6F00", "9300", "6A82"] {
        let stage = Stage::with("", |s| {
            let mut other = instead(&first_line(&challenge));
            other.answer = format!("+CGLA: 4,\"{sw}\"");
            s.overrides.push(other);
        });
        let asked = stage
            .modem()
            .await
            .authenticate(&challenge, &mut LeftOpen::Nothing)
            .await;
        if ["6881", "6982", "6985", "6986", "6E00"].contains(&sw) {
            assert_keys(&asked, &right);
        } else {
            let sw = u16::from_str_radix(sw, 16).unwrap();
            let what = "AUTHENTICATE";
            assert_eq!(asked.answer, Err(AkaError::Status { what, sw }));
        }
        assert_eq!(stage.dongle.open_channels(), 0, "{sw}");
    }
}

#[tokio::test]
async fn a_modem_that_falls_silent_in_the_middle_is_trouble_and_the_channel_is_closed_when_it_speaks_again() {
    let (challenge, right) = challenge(1);
    // No answer to AUTHENTICATE, none to AT+CCHO, one that is garbage.
    let mut rubbish = instead(&first_line(&challenge));
    rubbish.raw = Some("\u{1}\u{2}DB08A54211D5\u{3}\r\n\r\nOK\r\n".into());
    for (fault, cgla) in [
        (
            Override {
                silent: true,
                ..instead(&first_line(&challenge))
            },
            3,
        ),
        (
            Override {
                silent: true,
                ..instead("AT+CCHO=\"A0000000871002\"")
            },
            2,
        ),
        (rubbish, 3),
    ] {
        let stage = Stage::with("", |s| s.overrides.push(fault));
        let mut modem = stage.modem().await;
        let mut left_open = LeftOpen::Nothing;
        let asked = modem.authenticate(&challenge, &mut left_open).await;
        let Err(AkaError::Modem(why)) = &asked.answer else {
            panic!("{asked:?}")
        };
        assert!(!why.contains("A542") && !why.to_lowercase().contains(RAND), "{why}");
        assert!(asked.trouble.is_some(), "{asked:?}");
        modem.close_left_open(&mut left_open).await.unwrap();
        assert_eq!((stage.dongle.open_channels(), left_open), (0, LeftOpen::Nothing));
        // And all is well again.
        assert_keys(&modem.authenticate(&challenge, &mut left_open).await, &right);
        assert_eq!((stage.dongle.open_channels(), stage.sent("AT+CGLA=")), (0, cgla));
    }
}

#[tokio::test]
async fn a_future_that_is_dropped_in_the_middle_leaves_a_note_by_which_the_channel_is_closed() {
    let (challenge, right) = challenge(1);
    let stage = Stage::with("", |s| {
        s.overrides.push(Override {
            silent: true,
            ..instead(&first_line(&challenge))
        });
    });
    let mut modem = stage.modem().await;
    let mut left_open = LeftOpen::Nothing;
    let until_asked = async {
        while stage.sent("AT+CGLA=") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        asked = modem.authenticate(&challenge, &mut left_open) => panic!("{asked:?}"),
        () = until_asked => {}
    }
    assert_eq!(stage.dongle.open_channels(), 1);
    assert!(matches!(left_open, LeftOpen::One(_)), "{left_open:?}");
    let asked = modem.authenticate(&challenge, &mut left_open).await;
    assert_keys(&asked, &right);
    assert_eq!((stage.dongle.open_channels(), left_open), (0, LeftOpen::Nothing));
}

#[tokio::test]
async fn unplugged_or_crashed_in_the_middle() {
    let (challenge, right) = challenge(1);
    for (event, back) in [(Event::Unplug(None), Some(Event::Plug)), (Event::Crash, None)] {
        let mut stage = Stage::with("", |s| {
            s.overrides.push(Override {
                silent: true,
                ..instead(&first_line(&challenge))
            });
        });
        let mut modem = stage.modem().await;
        let mut left_open = LeftOpen::Nothing;
        let pull = async {
            while stage.sent("AT+CGLA=") == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stage.dongle.inject(event.clone()).await.unwrap();
        };
        let (asked, ()) = tokio::join!(modem.authenticate(&challenge, &mut left_open), pull);
        assert!(matches!(asked.answer, Err(AkaError::Modem(_))), "{asked:?}");
        assert!(asked.trouble.is_some(), "{asked:?}");
        drop(modem);
        if let Some(back) = back {
            stage.dongle.inject(back).await.unwrap();
            stage.dongle.wait_plugged(true).await.unwrap();
        }
        let mut modem = stage.modem().await;
        modem.close_left_open(&mut left_open).await.unwrap();
        assert_keys(&modem.authenticate(&challenge, &mut left_open).await, &right);
        assert_eq!((stage.dongle.open_channels(), left_open), (0, LeftOpen::Nothing));
    }
}

/// `network.required = false`: another line carries IP, and a SIM that no network takes stops nothing above it.
#[test]
fn without_the_network_rung_samples_arrive_although_the_sim_never_registers() {
    for network in ["registration = 'none'\n", "registration = 'denied'\n"] {
        let bench = Bench::with(&format!("[network]\n{network}"));
        let mosquitto = Mosquitto::start(bench.dir.path(), None);
        let mut toml = Toml::gateway(mosquitto.plain());
        toml.more = "[network]\nrequired = false\n".into();
        let agent = Agent::start(&bench, &toml, &[]);
        let status = agent.wait_acknowledged(5);
        assert_eq!(rung_of(&status, "delivery")["state"], "up");
        let network = rung_of(&status, "network");
        assert_ne!(network["state"], "up", "it is told as it is: {network}");
        assert_eq!(bench.asked("AT+CFUN=4"), 0, "the radio is left alone");
        agent.terminate();
        agent.wait();
    }
}

#[test]
fn provision_does_not_wait_for_a_network_that_is_not_required() {
    for (required, status) in [(false, 0), (true, 1)] {
        let bench = Bench::with("[network]\nregistration = 'none'\n");
        let clouds = bench.clouds();
        let mut toml = Toml::krypton(&clouds, Cloud::IotHub);
        toml.more = format!("[network]\nrequired = {required}\n");
        let config = absolute(&bench, toml).write(&bench);
        let timeout = if required { "5" } else { "60" };
        let config = config.to_str().unwrap();
        let (output, out, err) = onyx_agent(&["provision", "--timeout", timeout, "--config", config]);
        assert_eq!(output.status.code(), Some(status), "{out}{err}");
        if required {
            assert!(
                err.contains("the network was not reached within 5 s. network: searching"),
                "{err}"
            );
        } else {
            assert!(out.contains("certificate  myDevice-"), "{out}");
        }
        assert_discreet(&err);
    }
}
