//! Authentication and key agreement: what the HSS makes of K, and what the USIM makes of a challenge (3GPP TS 33.102 section 6.3).
//!
//! AUTN is `SQN xor AK || AMF || MAC-A`; AUTS is `SQN_MS xor AK* || MAC-S`, with an AMF of zeros in MAC-S (section 6.3.3). f1 to f5* are
//! MILENAGE's (TS 35.206), from the crate `milenage`. Its type prints its keys with `Debug` and keeps them after use, so one is made for each
//! computation, inside this file, and never leaves it. What it leaves on the stack is not overwritten: the bench has no real keys.

use std::fmt;

use milenage::Milenage;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::secret::{K, Opc};
use super::sqn::Sqn;

/// A challenge, in bytes.
pub type Rand = [u8; 16];
/// Its proof, in bytes.
pub type Autn = [u8; 16];
/// A USIM's answer to a challenge whose number is not good, in bytes.
pub type Auts = [u8; 14];
/// MILENAGE's RES has 64 bits.
pub type Res = [u8; 8];

/// A session key: never printed, overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; 16]>);

impl From<[u8; 16]> for Key {
    fn from(bytes: [u8; 16]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl std::ops::Deref for Key {
    type Target = [u8; 16];
    fn deref(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

/// Authentication management field (TS 33.102 annex F and H).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Amf(pub [u8; 2]);

impl TryFrom<String> for Amf {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let good = text.len() == 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| u16::from_str_radix(&text, 16).ok())
            .flatten()
            .map(|value| Self(value.to_be_bytes()))
            .ok_or_else(|| format!("{text:?} is no authentication management field: write 4 hexadecimal digits"))
    }
}

/// The AMF in AUTS (TS 33.102 section 6.3.3).
const AMF_RESYNC: [u8; 2] = [0, 0];

/// What both sides know after a challenge was met.
#[derive(Clone)]
pub struct Agreed {
    /// The answer (XRES at the HSS).
    pub res: Res,
    /// The cipher key.
    pub ck: Key,
    /// The integrity key.
    pub ik: Key,
}

impl Agreed {
    /// The key of the second generation, c3 of TS 33.102 section 6.8.1.2: the halves of CK and IK, all together.
    #[must_use]
    pub fn kc(&self) -> Zeroizing<[u8; 8]> {
        let mut kc = [0; 8];
        for (i, byte) in self.ck.iter().chain(self.ik.iter()).enumerate() {
            kc[i % 8] ^= byte;
        }
        Zeroizing::new(kc)
    }
}

impl fmt::Debug for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Agreed(hidden)")
    }
}

/// MAC-A does not fit: another K or OPc, or somebody else's challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacFailure;

/// K and OPc, ready to compute with.
#[derive(Clone, Debug)]
pub struct Secrets {
    k: K,
    opc: Opc,
}

impl Secrets {
    pub(super) fn new(k: K, opc: Opc) -> Self {
        Self { k, opc }
    }

    fn milenage(&self) -> Milenage {
        Milenage::new_with_opc(*self.k.bytes(), *self.opc.bytes())
    }

    fn agreed(&self, rand: &Rand) -> (Agreed, [u8; 6]) {
        let (res, ck, ik, ak) = self.milenage().f2345(rand);
        let agreed = Agreed {
            res,
            ck: ck.into(),
            ik: ik.into(),
        };
        (agreed, ak)
    }

    /// The HSS: a challenge's proof, and what it will lead to.
    #[must_use]
    pub fn challenge(&self, rand: &Rand, sqn: Sqn, amf: Amf) -> (Autn, Agreed) {
        let (agreed, ak) = self.agreed(rand);
        let mut autn = [0; 16];
        autn[..6].copy_from_slice(&xor(sqn.to_bytes(), ak));
        autn[6..8].copy_from_slice(&amf.0);
        autn[8..].copy_from_slice(&self.milenage().f1(rand, &sqn.to_bytes(), &amf.0));
        (autn, agreed)
    }

    /// The USIM: the number in a challenge, and what it leads to if the number is good.
    ///
    /// # Errors
    /// When the challenge was not made with these secrets.
    pub fn meet(&self, rand: &Rand, autn: &Autn) -> Result<(Sqn, Agreed), MacFailure> {
        let (agreed, ak) = self.agreed(rand);
        let [s0, s1, s2, s3, s4, s5, a0, a1, mac @ ..] = *autn;
        let sqn = xor([s0, s1, s2, s3, s4, s5], ak);
        if self.milenage().f1(rand, &sqn, &[a0, a1]) != mac {
            return Err(MacFailure);
        }
        Ok((Sqn::from_bytes(sqn), agreed))
    }

    /// The USIM: "your number is not good, mine is this".
    #[must_use]
    pub fn auts(&self, rand: &Rand, sqn_ms: Sqn) -> Auts {
        let mut milenage = self.milenage();
        let sqn = sqn_ms.to_bytes();
        let mut auts = [0; 14];
        auts[..6].copy_from_slice(&xor(sqn, milenage.f5star(rand)));
        auts[6..].copy_from_slice(&milenage.f1star(rand, &sqn, &AMF_RESYNC));
        auts
    }

    /// The HSS: the USIM's number, if this SIM has said so.
    ///
    /// # Errors
    /// When AUTS was not made with these secrets and this challenge.
    pub fn sqn_of(&self, rand: &Rand, auts: &Auts) -> Result<Sqn, MacFailure> {
        let mut milenage = self.milenage();
        let [s0, s1, s2, s3, s4, s5, mac @ ..] = *auts;
        let sqn = xor([s0, s1, s2, s3, s4, s5], milenage.f5star(rand));
        if milenage.f1star(rand, &sqn, &AMF_RESYNC) != mac {
            return Err(MacFailure);
        }
        Ok(Sqn::from_bytes(sqn))
    }
}

fn xor(mut a: [u8; 6], b: [u8; 6]) -> [u8; 6] {
    for (a, b) in a.iter_mut().zip(b) {
        *a ^= b;
    }
    a
}

#[cfg(test)]
#[path = "aka_tests.rs"]
pub(crate) mod tests;
