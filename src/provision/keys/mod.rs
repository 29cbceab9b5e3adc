//! SORACOM's Keys API: a SIM proves itself over any line and shares a key with SORACOM afterwards. No I/O: what is to be asked goes out as a
//! [`Step`], what came back goes in.
//!
//! ```text
//! us                                             <endpoint>/v1/keys
//!   {"imsi"}                                 →
//!                                            ←   200 or 401 {"keyId","rand","autn"}
//!   the SIM: AUTHENTICATE(rand, autn)
//!     RES, CK:  /v1/keys/{keyId}/verify {"res"}  →
//!                                            ←   200; CK is the key named keyId
//!     AUTS:     {"imsi","rand","auts"}       →   (the home network takes up the SIM's number)
//!                                            ←   a new challenge; a second AUTS ends it
//! ```
//!
//! Sources: soracom/endorse-client-go `client.go`; soracom-endorse-client-for-java. Everything binary is base64 with padding; the status 401
//! is a normal answer that carries the challenge. CK itself is the key, IK and Kc are not used. A key is kept ([`cache`]) because both
//! of SORACOM's clients do so: the SIM is asked rarely. How long SORACOM keeps one is not published, so a key that is refused is
//! forgotten and another one made, once.

pub mod cache;
#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::krypton::KryptonError;
use super::krypton::operation::{Method, Request};
use super::krypton::reply::Reply;
use super::krypton::secret::Secret;
use super::krypton::segment::Segment;
use crate::digest::sha256;
use crate::identity::Imsi;
use crate::modem::usim::{AkaError, Answer, Challenge};

/// Where challenges are had.
pub const KEYS: &str = "/v1/keys";
/// The one digest that signatures are made with, as the header says it.
pub const DIGEST: &str = "SHA-256";
/// Bytes of an Inventory application key (krypton-client-go, `operations.go`).
const APPLICATION_KEY: usize = 16;

/// A key that a SIM and SORACOM share. `Debug` hides it; it is overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    imsi: Imsi,
    id: Segment,
    ck: Zeroizing<[u8; 16]>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.imsi)
    }
}

impl Key {
    /// A key from its parts.
    #[must_use]
    pub fn new(imsi: Imsi, id: Segment, ck: [u8; 16]) -> Self {
        Self {
            imsi,
            id,
            ck: Zeroizing::new(ck),
        }
    }

    /// What SORACOM calls it.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// The headers that sign these very bytes at this time since the Unix epoch: `base64(SHA-256(body || milliseconds || CK))`, a plain hash
    /// with the secret at its end (krypton-client-go; the Java client alike).
    #[must_use]
    pub fn sign(&self, body: &[u8], now: Duration) -> [(&'static str, String); 3] {
        let timestamp = now.as_millis().to_string();
        let signature = STANDARD.encode(sha256(&[body, timestamp.as_bytes(), &*self.ck]));
        [
            ("x-soracom-timestamp", timestamp),
            ("x-soracom-digest-algorithm", DIGEST.to_owned()),
            ("x-soracom-signature", signature),
        ]
    }

    /// Inventory's application key: the first 16 bytes of `SHA-256(nonce || timestamp || CK)`, in base64.
    #[must_use]
    pub fn application_key(&self, nonce: &[u8], timestamp: &str) -> Secret {
        let hash = Zeroizing::new(sha256(&[nonce, timestamp.as_bytes(), &*self.ck]));
        STANDARD.encode(hash.get(..APPLICATION_KEY).unwrap_or_default()).into()
    }
}

/// Why a SIM has no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// SORACOM does not give a challenge for this IMSI.
    #[error("SORACOM's key service gives no challenge for this SIM (HTTP {status}): {message}")]
    NoChallenge {
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// SORACOM does not take AUTS.
    #[error("SORACOM's key service does not follow the SIM's sequence number (HTTP {status}): {message}")]
    NoResync {
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The SIM was not satisfied after a resynchronisation.
    #[error("the SIM and SORACOM stay out of step: the SIM asks for a second resynchronisation")]
    OutOfStep,
    /// RES was wrong, or too late.
    #[error("SORACOM's key service does not take the SIM's answer (HTTP {status}): {message}")]
    Unverified {
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The SIM, or the way to it.
    #[error("SIM authentication failed: {0}")]
    Sim(#[from] AkaError),
}

impl KeysError {
    /// What a person can do.
    #[must_use]
    pub fn cure(&self) -> &'static str {
        match self {
            Self::NoChallenge { .. } => {
                "SIM authentication is for SIMs of the plans plan01s, plan01s-LDV, planP1, planX3 (X3-5MB) and plan-K2 (K2-300MB); others, such \
                 as plan-D, use credentials.auth = \"cellular\". Is it the right endpoint for this SIM (credentials.url: g.api.soracom.io for \
                 global coverage, api.soracom.io for Japan)?"
            }
            Self::NoResync { .. } | Self::OutOfStep | Self::Unverified { .. } => {
                "it is tried again later; if it stays so, use credentials.auth = \"cellular\" and tell SORACOM"
            }
            Self::Sim(e) => e.cure(),
        }
    }
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Ask the key service.
    Ask(Request),
    /// Have the SIM answer.
    Authenticate(Challenge),
    /// It is proved.
    Done(Key),
}

#[derive(Debug)]
enum State {
    /// A challenge was asked for.
    Asked { resync: bool },
    /// The SIM has a challenge.
    Challenged {
        id: Segment,
        challenge: Challenge,
        resync: bool,
    },
    /// RES was sent.
    Proving { key: Key },
}

/// One authentication of one SIM: at most five steps.
#[derive(Debug)]
pub struct Exchange {
    imsi: Imsi,
    state: State,
}

#[derive(Serialize)]
struct Ask<'a> {
    imsi: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rand: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auts: Option<String>,
}

fn request(path: String, body: &impl Serialize) -> Request {
    Request {
        method: Method::Post,
        path,
        // Maps and strings of our own: serialising them cannot fail.
        body: serde_json::to_vec(body).unwrap_or_default(),
        headers: Vec::new(),
    }
}

impl Exchange {
    /// Begins.
    #[must_use]
    pub fn begin(imsi: &Imsi) -> (Self, Step) {
        let exchange = Self {
            imsi: imsi.clone(),
            state: State::Asked { resync: false },
        };
        let step = exchange.ask(None, None);
        (exchange, step)
    }

    fn ask(&self, rand: Option<String>, auts: Option<String>) -> Step {
        let imsi = self.imsi.as_str();
        Step::Ask(request(KEYS.to_owned(), &Ask { imsi, rand, auts }))
    }

    /// The key service has answered.
    ///
    /// # Errors
    /// [`KryptonError`]; it ends here.
    pub fn answered(&mut self, reply: &Reply) -> Result<Step, KryptonError> {
        match &self.state {
            State::Asked { resync } => {
                let resync = *resync;
                let (id, challenge) = challenge(reply, resync)?;
                self.state = State::Challenged { id, challenge, resync };
                Ok(Step::Authenticate(challenge))
            }
            State::Proving { key } => match reply.good() {
                Ok(_) => Ok(Step::Done(key.clone())),
                Err(KryptonError::Refused(r)) => Err(KeysError::Unverified {
                    status: r.status,
                    message: r.message,
                }
                .into()),
                Err(e) => Err(e),
            },
            State::Challenged { challenge, .. } => Ok(Step::Authenticate(*challenge)),
        }
    }

    /// The SIM has answered.
    ///
    /// # Errors
    /// [`KeysError::OutOfStep`]; it ends here.
    pub fn authenticated(&mut self, answer: &Answer) -> Result<Step, KeysError> {
        let State::Challenged { id, challenge, resync } = &self.state else {
            return Err(KeysError::OutOfStep);
        };
        match answer {
            Answer::Keys(keys) => {
                let path = format!("{KEYS}/{id}/verify");
                let res = STANDARD.encode(&keys.res);
                let key = Key::new(self.imsi.clone(), id.clone(), keys.ck);
                self.state = State::Proving { key };
                Ok(Step::Ask(request(path, &serde_json::json!({"res": res}))))
            }
            Answer::Resync { .. } if *resync => Err(KeysError::OutOfStep),
            Answer::Resync { auts } => {
                let rand = STANDARD.encode(challenge.rand);
                self.state = State::Asked { resync: true };
                Ok(self.ask(Some(rand), Some(STANDARD.encode(auts))))
            }
        }
    }
}

/// Takes the challenge out of an answer with status 200 or 401.
fn challenge(reply: &Reply, resync: bool) -> Result<(Segment, Challenge), KryptonError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        key_id: Segment,
        rand: String,
        autn: String,
    }
    let refused = |status, message| {
        KryptonError::from(if resync {
            KeysError::NoResync { status, message }
        } else {
            KeysError::NoChallenge { status, message }
        })
    };
    let told: Result<Told, KryptonError> = if reply.status == 401 {
        // A normal answer, unless it is a refusal by its shape, or no answer of this service at all.
        let alike = Reply {
            status: 200,
            ..reply.clone()
        };
        alike
            .json()
            .map_err(|e| match alike.is_problem() || !alike.is_object() {
                true => refused(401, reply.message()),
                false => e,
            })
    } else {
        reply.json().map_err(|e| match e {
            KryptonError::Refused(r) => refused(r.status, r.message),
            other => other,
        })
    };
    let told = told?;
    let bytes = |name: &str, text: &str| -> Result<[u8; 16], KryptonError> {
        let decoded = STANDARD.decode(text).ok().and_then(|b| b.try_into().ok());
        decoded.ok_or_else(|| KryptonError::Nonsense(format!("{name} is not 16 bytes in base64")))
    };
    let challenge = Challenge {
        rand: bytes("rand", &told.rand)?,
        autn: bytes("autn", &told.autn)?,
    };
    Ok((told.key_id, challenge))
}
