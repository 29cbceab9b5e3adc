//! AUTHENTICATE in the 3G context (TS 31.102 section 7.1.2).

use super::apdu::{Apdu, Sw};
use super::files::Directory;
use super::{Answer, Outcome, Usim};
use crate::bench::dongle::scenario::Unselected;
use crate::bench::subscriber::aka::{Agreed, Autn, Rand};

/// 10 RAND 10 AUTN.
const CHALLENGE: usize = 34;

impl Usim {
    pub(super) fn authenticate(&mut self, apdu: &Apdu<'_>, number: u8) -> Outcome {
        if (apdu.p1, apdu.p2) != (0, 0x81) {
            return Err(Sw::WRONG_P1_P2);
        }
        let current = self.channel(number).map(|channel| channel.directory);
        match self.unselected {
            _ if current == Some(Directory::Usim) => {}
            Unselected::Answer => {}
            Unselected::Conditions => return Err(Sw::CONDITIONS),
            Unselected::Security => return Err(Sw::SECURITY_STATUS),
        }
        let data: &[u8; CHALLENGE] = apdu.data.try_into().map_err(|_| Sw::WRONG_LENGTH)?;
        let (first, second) = data.split_at(CHALLENGE / 2);
        let (rand, autn): (Rand, Autn) = match (first, second) {
            ([16, rand @ ..], [16, autn @ ..]) => (
                rand.try_into().map_err(|_| Sw::WRONG_DATA)?,
                autn.try_into().map_err(|_| Sw::WRONG_DATA)?,
            ),
            _ => return Err(Sw::WRONG_DATA),
        };
        if self.deaf {
            return Err(Sw::INCORRECT_MAC);
        }
        let (sqn, agreed) = self.secrets.meet(&rand, &autn).map_err(|_| Sw::INCORRECT_MAC)?;
        Ok(Answer::Fetch(if self.window.accept(sqn) {
            success(&agreed, self.with_kc)
        } else {
            let auts = self.secrets.auts(&rand, self.window.sqn_ms());
            [&[0xdc, 14][..], &auts].concat()
        }))
    }
}

/// DB, then RES, CK, IK and perhaps Kc, each with its length.
fn success(agreed: &Agreed, with_kc: bool) -> Vec<u8> {
    let mut data = vec![0xdb, 8];
    data.extend(agreed.res);
    data.push(16);
    data.extend(agreed.ck.iter());
    data.push(16);
    data.extend(agreed.ik.iter());
    if with_kc {
        data.push(8);
        data.extend(agreed.kc().iter());
    }
    data
}
