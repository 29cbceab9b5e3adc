//! The key service: a SIM proves itself to it over the internet and shares a key with it afterwards. No I/O; time and randomness come from
//! outside.
//!
//! ```text
//! device                                         /v1/keys
//!   {"imsi"}                                 →
//!                                            ←   200 or 401 {"keyId","rand","autn"}
//!   AUTHENTICATE(rand, autn): RES, CK, IK
//!   /v1/keys/{keyId}/verify {"res"|"xres"}   →
//!                                            ←   200; CK is the key named keyId
//!   or AUTS: {"imsi","rand","auts"}          →   (the HSS sets its counter)
//!                                            ←   a new challenge
//! ```
//!
//! Behind it is the virtual HSS: for each subscriber the secrets and the last sequence number given away. Everything is base64 with padding.
//! A challenge waits for [`CHALLENGE_LIFE`], may be answered once, and the table of challenges and keys is bounded: the oldest go first.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::krypton::Denied;
use super::policy::krypton::{
    CHALLENGE, EXHAUSTED, EXPIRED, IMSI, KEY_UNKNOWN, KEY_UNVERIFIED, KEYS_BODY, PLAN, REPLAYED, RESPONSE, RESYNC,
};
use crate::bench::subscriber::aka::{Agreed, Auts, Key, Rand};
use crate::bench::subscriber::{Amf, Secrets, Sim, Sqn};
use crate::identity::Imsi;

/// A challenge is answered within this time. Inferred; see the rule.
pub(crate) const CHALLENGE_LIFE: Duration = Duration::from_secs(300);
/// Challenges and keys kept; the oldest go first.
pub(crate) const KEPT_MAX: usize = 1_000;
/// The plans for which SIM authentication is documented (users.soracom.io, Krypton with Amazon Cognito).
pub const PLANS: [&str; 5] = ["plan01s", "plan01s-LDV", "planP1", "planX3", "plan-K2"];

/// The status of an answer with a challenge: SORACOM's clients take both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChallengeStatus {
    /// 200.
    Ok,
    /// 401: "prove yourself", with the means to.
    #[default]
    Unauthorized,
}

impl ChallengeStatus {
    pub(crate) fn code(self) -> axum::http::StatusCode {
        match self {
            Self::Ok => axum::http::StatusCode::OK,
            Self::Unauthorized => axum::http::StatusCode::UNAUTHORIZED,
        }
    }
}

impl std::str::FromStr for ChallengeStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "200" => Ok(Self::Ok),
            "401" => Ok(Self::Unauthorized),
            _ => Err(format!("{text:?} is neither 200 nor 401")),
        }
    }
}

/// One subscriber at the HSS.
#[derive(Debug)]
struct Account {
    secrets: Secrets,
    amf: Amf,
    /// The last number given away.
    sqn: Sqn,
}

/// A challenge, and the key that comes of it.
#[derive(Debug)]
struct Entry {
    key_id: String,
    imsi: Imsi,
    rand: Rand,
    since: Duration,
    agreed: Agreed,
    verified: bool,
}

/// What has to be new in each challenge.
#[derive(Debug, Clone)]
pub(crate) struct Fresh {
    pub(crate) rand: Rand,
    pub(crate) key_id: String,
}

impl Fresh {
    /// By the bench's generator, which is none for real keys.
    pub(crate) fn random() -> Self {
        Self {
            rand: std::array::from_fn(|_| fastrand::u8(..)),
            key_id: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
        }
    }
}

/// The HSS and the keys it has led to.
#[derive(Debug)]
pub(crate) struct KeyService {
    accounts: BTreeMap<Imsi, Account>,
    plan: String,
    entries: VecDeque<Entry>,
}

#[derive(Deserialize)]
struct Ask {
    imsi: String,
    rand: Option<String>,
    auts: Option<String>,
}

#[derive(Deserialize)]
struct Proof {
    res: Option<String>,
    xres: Option<String>,
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Denied> {
    serde_json::from_slice(body).map_err(|e| Denied::new(&KEYS_BODY, format!("the body is not what is expected: {e}")))
}

fn decode<const N: usize>(field: &str, text: &str) -> Result<[u8; N], Denied> {
    let bytes = STANDARD.decode(text).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        let detail = format!("{field} is not {N} bytes in base64 with padding");
        Denied::new(&KEYS_BODY, detail)
    })
}

impl KeyService {
    /// Subscribers with the secrets of their SIM, all on one plan.
    pub(crate) fn new(subscribers: impl IntoIterator<Item = (Imsi, Sim)>, plan: String) -> Self {
        let account = |sim: Sim| Account {
            secrets: sim.secrets(),
            amf: sim.amf,
            sqn: sim.sqn,
        };
        Self {
            accounts: subscribers
                .into_iter()
                .map(|(imsi, sim)| (imsi, account(sim)))
                .collect(),
            plan,
            entries: VecDeque::new(),
        }
    }

    /// `POST /v1/keys`: a challenge for a SIM, perhaps after it has told its own number.
    ///
    /// # Errors
    /// The broken rule.
    pub(crate) fn challenge(&mut self, now: Duration, body: &[u8], fresh: Fresh) -> Result<Value, Denied> {
        let ask: Ask = parse(body)?;
        let unknown = || Denied::new(&IMSI, format!("{:?} is no subscriber of this bench", ask.imsi));
        let imsi: Imsi = ask.imsi.parse().map_err(|_| unknown())?;
        let account = self.accounts.get_mut(&imsi).ok_or_else(unknown)?;
        if !PLANS.contains(&self.plan.as_str()) {
            let detail = format!("the SIM has the plan {:?}, which is none of {PLANS:?}", self.plan);
            return Err(Denied::new(&PLAN, detail));
        }
        match (&ask.rand, &ask.auts) {
            (None, None) => {}
            (Some(rand), Some(auts)) => {
                let (rand, auts): (Rand, Auts) = (decode("rand", rand)?, decode("auts", auts)?);
                let place = self
                    .entries
                    .iter()
                    .position(|e| e.imsi == imsi && e.rand == rand && !e.verified && !e.is_old(now));
                let place = place
                    .ok_or_else(|| Denied::new(&RESYNC, "rand is that of no challenge which this SIM waits with"))?;
                account.sqn = account
                    .secrets
                    .sqn_of(&rand, &auts)
                    .map_err(|_| Denied::new(&RESYNC, "auts was not made by this SIM for this rand (MAC-S)"))?;
                self.entries.remove(place);
            }
            _ => return Err(Denied::new(&KEYS_BODY, "rand and auts come together or not at all")),
        }
        account.sqn = account
            .sqn
            .next()
            .ok_or_else(|| Denied::new(&EXHAUSTED, "the SIM has no sequence number left"))?;
        let (autn, agreed) = account.secrets.challenge(&fresh.rand, account.sqn, account.amf);
        let answer = json!({
            "keyId": fresh.key_id,
            "rand": STANDARD.encode(fresh.rand),
            "autn": STANDARD.encode(autn),
        });
        if self.entries.len() >= KEPT_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            key_id: fresh.key_id,
            imsi,
            rand: fresh.rand,
            since: now,
            agreed,
            verified: false,
        });
        Ok(answer)
    }

    /// `POST /v1/keys/{keyId}/verify`: the SIM's answer.
    ///
    /// # Errors
    /// The broken rule.
    pub(crate) fn verify(&mut self, now: Duration, key_id: &str, body: &[u8]) -> Result<Value, Denied> {
        let proof: Proof = parse(body)?;
        let res: Vec<u8> = match (&proof.res, &proof.xres) {
            (Some(text), None) | (None, Some(text)) => STANDARD
                .decode(text)
                .map_err(|e| Denied::new(&KEYS_BODY, format!("RES is no base64 with padding: {e}")))?,
            _ => return Err(Denied::new(&KEYS_BODY, "either res or xres, and not both")),
        };
        let place = self.entries.iter().position(|e| e.key_id == key_id);
        let place = place.ok_or_else(|| Denied::new(&CHALLENGE, format!("there is no challenge {key_id:?}")))?;
        let Some(entry) = self.entries.get_mut(place) else {
            return Err(Denied::Internal("the table of challenges is broken".into()));
        };
        if entry.verified {
            let detail = format!("{key_id:?} has been verified already: sign with it");
            return Err(Denied::new(&REPLAYED, detail));
        }
        if entry.is_old(now) {
            self.entries.remove(place);
            let detail = format!(
                "{key_id:?} is older than {} s: ask for a new challenge",
                CHALLENGE_LIFE.as_secs()
            );
            return Err(Denied::new(&EXPIRED, detail));
        }
        if res != entry.agreed.res {
            self.entries.remove(place);
            let detail = format!(
                "RES of {} bytes is not what {key_id:?} expects: ask for a new challenge",
                res.len()
            );
            return Err(Denied::new(&RESPONSE, detail));
        }
        entry.verified = true;
        Ok(json!({}))
    }

    /// The SIMs' plan.
    pub(crate) fn plan(&self) -> &str {
        &self.plan
    }

    /// The subscriber and the CK behind a key.
    ///
    /// # Errors
    /// When there is none, or nobody has proved it.
    pub(crate) fn key(&self, key_id: &str) -> Result<(Imsi, Key), Denied> {
        match self.entries.iter().find(|e| e.key_id == key_id) {
            Some(entry) if entry.verified => Ok((entry.imsi.clone(), entry.agreed.ck.clone())),
            Some(_) => Err(Denied::new(
                &KEY_UNVERIFIED,
                format!("the key {key_id:?} waits for /verify"),
            )),
            None => Err(Denied::new(&KEY_UNKNOWN, format!("there is no key {key_id:?}"))),
        }
    }
}

impl Entry {
    fn is_old(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) > CHALLENGE_LIFE
    }
}
