//! Data contexts: what is asked for (`AT+CGDCONT`, `AT+QICSGP`) and what there is (`AT+CGACT`, `AT+CGPADDR`).
//!
//! On LTE the first context comes up with the registration. Contexts are kept over restarts, as on the modem.

use std::collections::BTreeMap;

use super::command::{Arg, Extended, Kind, texts};
use super::reply::{Final, Reply};
use super::state::Modem;

/// Contexts are numbered 1 to 16 on this family.
const LAST_CONTEXT: u32 = 16;
/// The address this card gets, from the range facts about SORACOM show.
const ADDRESS: &str = "10.76.51.180";
/// SORACOM's name servers live in 100.127.0.0/16.
const DNS: [&str; 2] = ["100.127.0.53", "100.127.1.53"];
const NO_NETWORK: u16 = 30;
const UNSPECIFIED: u16 = 148;
/// The name of ESM cause 27 in 3GPP TS 24.301 section 9.9.4.4.
pub(super) const UNKNOWN_APN: &str = "Missing or unknown APN";

/// One context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Context {
    kind: String,
    pub(super) apn: String,
    user: String,
    password: String,
    auth: u8,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            kind: "IPV4V6".into(),
            apn: String::new(),
            user: String::new(),
            password: String::new(),
            auth: 0,
        }
    }
}

/// All contexts.
#[derive(Clone, Debug)]
pub(super) struct Pdp {
    contexts: BTreeMap<u32, Context>,
    /// Contexts brought up or down by hand while registered; the rest follows the registration.
    active: BTreeMap<u32, bool>,
}

impl Default for Pdp {
    fn default() -> Self {
        Self {
            contexts: BTreeMap::from([(1, Context::default())]),
            active: BTreeMap::new(),
        }
    }
}

impl Pdp {
    /// The APN of context 1, with which the modem attaches.
    pub(super) fn attach_apn(&self) -> &str {
        self.contexts.get(&1).map_or("", |context| context.apn.as_str())
    }

    /// The registration came or went: hand-made states are gone.
    pub(super) fn registration_changed(&mut self) {
        self.active.clear();
    }

    fn is_active(&self, cid: u32, registered: bool) -> bool {
        registered && self.active.get(&cid).copied().unwrap_or(cid == 1)
    }
}

/// Answers the commands about contexts; `None` for all others.
pub(super) fn answer(modem: &mut Modem, command: &Extended) -> Option<Reply> {
    let registered = modem.registered();
    let reply = match (command.name.as_str(), &command.kind) {
        ("CGDCONT", Kind::Read) => Reply::lines(modem.pdp.contexts.iter().map(|(cid, context)| {
            let zeros = if context.kind == "IPV4V6" {
                vec!["0"; 16].join(".")
            } else {
                "0.0.0.0".to_owned()
            };
            format!(
                "+CGDCONT: {cid},\"{}\",\"{}\",\"{zeros}\",0,0,0,0",
                context.kind, context.apn
            )
        })),
        ("CGDCONT", Kind::Set(args)) => define(&mut modem.pdp, args),
        ("QICSGP", Kind::Set(args)) => settings(&mut modem.pdp, args),
        ("CGACT", Kind::Read) => Reply::lines(
            modem
                .pdp
                .contexts
                .keys()
                .map(|cid| format!("+CGACT: {cid},{}", u8::from(modem.pdp.is_active(*cid, registered)))),
        ),
        ("CGACT", Kind::Set(args)) => activate(modem, args, registered),
        ("CGPADDR", Kind::Run) => Reply::lines(
            modem
                .pdp
                .contexts
                .keys()
                .map(|cid| address(&modem.pdp, *cid, registered)),
        ),
        ("CGPADDR", Kind::Set(args)) => match args.as_slice() {
            [cid] => match known(&modem.pdp, cid) {
                Some(cid) => Reply::line(address(&modem.pdp, cid, registered)),
                None => Reply::error(),
            },
            _ => Reply::error(),
        },
        ("CGCONTRDP", Kind::Run) => Reply::lines(dynamic(&modem.pdp, 1, registered)),
        ("CGCONTRDP", Kind::Set(args)) => match args.as_slice() {
            [cid] => match known(&modem.pdp, cid) {
                Some(cid) => Reply::lines(dynamic(&modem.pdp, cid, registered)),
                None => Reply::error(),
            },
            _ => Reply::error(),
        },
        _ => return None,
    };
    Some(reply)
}

fn number(arg: &Arg) -> Option<u32> {
    arg.number().filter(|cid| (1..=LAST_CONTEXT).contains(cid))
}

fn known(pdp: &Pdp, arg: &Arg) -> Option<u32> {
    number(arg).filter(|cid| pdp.contexts.contains_key(cid))
}

fn define(pdp: &mut Pdp, args: &[Arg]) -> Reply {
    let Some((Some(cid), rest)) = args.split_first().map(|(cid, rest)| (number(cid), rest)) else {
        return Reply::error();
    };
    match texts(rest).as_slice() {
        [] => {
            pdp.contexts.remove(&cid);
            Reply::ok()
        }
        [kind @ ("IP" | "IPV6" | "IPV4V6" | "PPP"), more @ ..] => {
            let context = pdp.contexts.entry(cid).or_default();
            context.kind = (*kind).to_owned();
            context.apn = more.first().copied().unwrap_or_default().to_owned();
            Reply::ok()
        }
        _ => Reply::error(),
    }
}

fn settings(pdp: &mut Pdp, args: &[Arg]) -> Reply {
    let Some((Some(cid), rest)) = args.split_first().map(|(cid, rest)| (number(cid), rest)) else {
        return Reply::error();
    };
    let kind = |code: &str| match code {
        "1" => Some("IP"),
        "2" => Some("IPV6"),
        "3" => Some("IPV4V6"),
        _ => None,
    };
    let (user, password, auth, code, apn) = match texts(rest).as_slice() {
        [] => {
            let context = pdp.contexts.get(&cid).cloned().unwrap_or_default();
            let code = match context.kind.as_str() {
                "IP" => 1,
                "IPV6" => 2,
                _ => 3,
            };
            return Reply::line(format!(
                "+QICSGP: {code},\"{}\",\"{}\",\"{}\",{}",
                context.apn, context.user, context.password, context.auth
            ));
        }
        [code, apn] => (String::new(), String::new(), 0, *code, *apn),
        [code, apn, user, password] => ((*user).to_owned(), (*password).to_owned(), 0, *code, *apn),
        [code, apn, user, password, auth @ ("0" | "1" | "2" | "3")] => (
            (*user).to_owned(),
            (*password).to_owned(),
            auth.parse().unwrap_or(0),
            *code,
            *apn,
        ),
        _ => return Reply::error(),
    };
    let Some(kind) = kind(code) else {
        return Reply::error();
    };
    pdp.contexts.insert(
        cid,
        Context {
            kind: kind.to_owned(),
            apn: apn.to_owned(),
            user,
            password,
            auth,
        },
    );
    Reply::ok()
}

fn activate(modem: &mut Modem, args: &[Arg], registered: bool) -> Reply {
    let (state, cids) = match args.split_first() {
        Some((state, cids)) => (state.text.as_str(), cids),
        None => return Reply::error(),
    };
    let on = match state {
        "0" => false,
        "1" => true,
        _ => return Reply::error(),
    };
    let cids: Option<Vec<u32>> = cids.iter().map(|cid| known(&modem.pdp, cid)).collect();
    let Some(cids) = cids else {
        return Reply::error();
    };
    if on && !registered {
        return Reply::cme(NO_NETWORK);
    }
    let cids = if cids.is_empty() {
        modem.pdp.contexts.keys().copied().collect()
    } else {
        cids
    };
    let required = modem.config.scenario.network.required_apn.clone();
    for cid in cids {
        let right = modem
            .pdp
            .contexts
            .get(&cid)
            .is_some_and(|c| required.as_ref().is_none_or(|apn| *apn == c.apn));
        if on && !right {
            modem.radio.last_failure = Some(UNKNOWN_APN.to_owned());
            return Reply::end(Final::Cme(UNSPECIFIED));
        }
        if registered {
            modem.pdp.active.insert(cid, on);
        }
    }
    Reply::ok()
}

fn address(pdp: &Pdp, cid: u32, registered: bool) -> String {
    let address = if pdp.is_active(cid, registered) {
        ADDRESS
    } else {
        "0.0.0.0"
    };
    format!("+CGPADDR: {cid},\"{address}\"")
}

fn dynamic(pdp: &Pdp, cid: u32, registered: bool) -> Option<String> {
    let context = pdp.contexts.get(&cid)?;
    // 5 is the first EPS bearer (3GPP TS 24.007 section 11.2.3.1.5).
    pdp.is_active(cid, registered).then(|| {
        format!(
            "+CGCONTRDP: {cid},5,\"{}\",\"{ADDRESS}\",\"\",\"{}\",\"{}\"",
            context.apn, DNS[0], DNS[1]
        )
    })
}
