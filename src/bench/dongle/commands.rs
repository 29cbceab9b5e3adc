//! Who answers which command: the general ones here, the rest by their subject.

use std::time::Duration;

use super::command::{self, Command, Extended, Kind, texts};
use super::reply::{After, Final, Reply};
use super::state::{Modem, Settings};
use super::{clock, pdp, radio, sim, uicc};

/// The model, as `ATI` and `AT+CGMM` tell it: without the `-G` that is printed on the module.
const MODEL: &str = "EG25";
const MAKER: &str = "Quectel";
/// The build that follows the firmware's name in `AT+QGMR`.
const BUILD: &str = "30.203.30.203";
/// How long the simulator looks for networks; a real one takes up to 180 s.
const SCAN_TIME: Duration = Duration::from_secs(2);

/// How long a line takes beyond the usual, and whether a byte cuts it short: only a network scan does.
pub(super) fn takes(line: &str) -> Option<Duration> {
    line.trim().eq_ignore_ascii_case("AT+COPS=?").then_some(SCAN_TIME)
}

/// Answers one command. An unknown one is `ERROR`, whatever `AT+CMEE` says.
pub(super) fn answer(modem: &mut Modem, command: &Command) -> Reply {
    match command {
        Command::Bad => Reply::error(),
        Command::Register => Reply::ok(),
        // PPP is not there yet, and a voice call has nobody to answer it.
        Command::Dial(_) => Reply::end(Final::NoCarrier),
        Command::Basic(name, value) => basic(modem, name, *value),
        Command::Extended(extended) => sim::answer(modem, extended)
            .or_else(|| uicc::answer(modem, extended))
            .or_else(|| radio::answer(modem, extended))
            .or_else(|| pdp::answer(modem, extended))
            .or_else(|| clock::answer(modem, extended))
            .or_else(|| general(modem, extended))
            .unwrap_or_else(Reply::error),
    }
}

fn basic(modem: &mut Modem, name: &str, value: u32) -> Reply {
    match (name, value) {
        ("E", 0 | 1) => modem.settings.echo = value == 1,
        ("Q", 0 | 1) => modem.settings.quiet = value == 1,
        ("V", 0 | 1) => modem.settings.verbose = value == 1,
        ("I", 0) => {
            let revision = format!("Revision: {}", modem.config.firmware);
            return Reply::lines([MAKER.to_owned(), MODEL.to_owned(), revision]);
        }
        ("Z", 0) => modem.load(modem.stored.clone()),
        ("&F", 0) => modem.load(Settings::FACTORY),
        ("&W", 0) => modem.stored = modem.settings_now(),
        ("O", 0) => return Reply::end(Final::NoCarrier),
        // Carrier texts, carrier line, terminal-ready line, hanging up: without data calls they change nothing that can be seen.
        ("X", 0..=4) | ("&C", 0 | 1) | ("&D", 0..=2) | ("H", 0) => {}
        _ => return Reply::error(),
    }
    Reply::ok()
}

fn general(modem: &mut Modem, command: &Extended) -> Option<Reply> {
    let reply = match (command.name.as_str(), &command.kind) {
        ("GMI" | "CGMI", Kind::Run) => Reply::line(MAKER),
        ("GMM" | "CGMM", Kind::Run) => Reply::line(MODEL),
        ("GMR" | "CGMR", Kind::Run) => Reply::line(modem.config.firmware.as_str()),
        ("QGMR", Kind::Run) => Reply::line(format!("{}_{BUILD}", modem.config.firmware)),
        ("CGSN" | "GSN", Kind::Run) => Reply::line(modem.config.imei.as_str()),
        ("CGSN", Kind::Set(args)) => match texts(args).as_slice() {
            ["1"] => Reply::line(format!("+CGSN: {}", modem.config.imei)),
            _ => Reply::error(),
        },
        ("GMI" | "CGMI" | "GMM" | "CGMM" | "GMR" | "CGMR" | "QGMR" | "CGSN" | "GSN", Kind::Test) => Reply::ok(),
        ("CMEE", Kind::Read) => Reply::line(format!("+CMEE: {}", modem.settings.cmee)),
        ("CMEE", Kind::Test) => Reply::line("+CMEE: (0-2)"),
        ("CMEE", Kind::Set(args)) => match args.as_slice() {
            [arg] => match arg.text.parse() {
                Ok(form @ 0..=2) => {
                    modem.settings.cmee = form;
                    Reply::ok()
                }
                _ => Reply::error(),
            },
            _ => Reply::error(),
        },
        ("CFUN", Kind::Read) => Reply::line(format!("+CFUN: {}", modem.cfun)),
        ("CFUN", Kind::Test) => Reply::line("+CFUN: (0,1,4),(0,1)"),
        ("CFUN", Kind::Set(args)) => match texts(args).as_slice() {
            ["0" | "1" | "4", "1"] => Reply::ok().then(After::Reboot),
            [level @ ("0" | "1" | "4")] | [level @ ("0" | "1" | "4"), "0"] => cfun(modem, level),
            _ => Reply::error(),
        },
        ("QURCCFG", Kind::Set(args)) => match texts(args).as_slice() {
            ["urcport"] => Reply::line(format!("+QURCCFG: \"urcport\",\"{}\"", modem.urc_port)),
            ["urcport", port @ ("usbat" | "usbmodem" | "uart1" | "all")] => {
                modem.urc_port = (*port).to_owned();
                Reply::ok()
            }
            _ => Reply::error(),
        },
        ("QCFG", Kind::Set(args)) => match texts(args).as_slice() {
            ["usbnet"] => Reply::line(format!("+QCFG: \"usbnet\",{}", modem.usb_net())),
            ["usbnet", kind] => match kind.parse() {
                Ok(kind) if modem.set_usb_net(kind) => Reply::ok(),
                _ => Reply::error(),
            },
            _ => Reply::error(),
        },
        ("QPOWD", Kind::Run) => Reply::ok().then(After::PowerDown),
        ("QPOWD", Kind::Set(args)) if matches!(texts(args).as_slice(), ["0" | "1"]) => {
            Reply::ok().then(After::PowerDown)
        }
        _ => return None,
    };
    Some(reply)
}

fn cfun(modem: &mut Modem, level: &str) -> Reply {
    let before = modem.cfun;
    modem.cfun = level.parse().unwrap_or(before);
    match (before, modem.cfun) {
        (0, 0) => Reply::ok(),
        (_, 0) => Reply::ok().then(After::SimOff),
        (0, _) => Reply::ok().then(After::SimRestart),
        _ => Reply::ok(),
    }
}

/// Answers a whole line (after `AT`): the information of each command and one result; the first error ends it.
pub(super) fn answer_line(modem: &mut Modem, line: &str) -> Vec<Reply> {
    let mut replies = Vec::new();
    for command in command::parse(line) {
        let reply = answer(modem, &command);
        let stop = reply.result != Final::Ok;
        replies.push(reply);
        if stop {
            break;
        }
    }
    if replies.is_empty() {
        replies.push(Reply::ok());
    }
    replies
}
