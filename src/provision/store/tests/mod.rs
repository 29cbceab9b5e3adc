//! | file | subject |
//! |---|---|
//! | `roles` | stage, promote, discard, fall back, forget, list |
//! | `damage` | what is missing, torn, swapped, edited, of a newer version, another's |
//! | `upgrade` | sets of the first release |
//! | `sealed` | encryption at rest: switched on, off, another key |
//! | `writers` | two processes at once |
//! | `kill`, `faults` | killed, out of room or broken at every file system call (`shim`: how that is done) |

mod damage;
mod roles;
mod sealed;
mod upgrade;
mod writers;

// Where the tests run as armv7 code under an emulator, the machine's own compiler makes no library for them.
#[cfg(all(target_env = "gnu", not(target_arch = "arm")))]
mod faults;
#[cfg(all(target_env = "gnu", not(target_arch = "arm")))]
mod kill;
#[cfg(all(target_env = "gnu", not(target_arch = "arm")))]
mod shim;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::identity::ClientId;
use crate::pki::{Authority, Purpose};

pub(super) const NOW: Duration = Duration::from_secs(1_800_000_000);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
pub(super) const IMSI: &str = "295012345678901";
pub(super) const SOURCE: &str = "krypton-azure";

/// A grant whose client id is `name`, with a key and an authority of its own; made once for each name.
pub(super) fn grant(name: &str) -> Grant {
    static MADE: Mutex<BTreeMap<String, Grant>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap();
    made.entry(name.to_owned()).or_insert_with(|| make(name)).clone()
}

fn make(name: &str) -> Grant {
    let ca = Authority::generate(name, NOW, 9 * DAY).unwrap();
    let issued = ca.issue(name, &Purpose::Device, NOW, DAY).unwrap();
    Grant {
        host: format!("{name}.example"),
        client_id: ClientId::new(name.into()).unwrap(),
        material: Material::Issued {
            certificate_pem: issued.chain_pem.clone(),
            private_key_pem: issued.key_pem.clone(),
        },
        root_ca_pem: Some(ca.root_pem()),
    }
}

/// A key and a certificate as an operator has them.
pub(super) fn own(name: &str) -> Identity {
    grant(name).check("own").unwrap().identity
}

/// A grant to the operator's files.
pub(super) fn assigned(own: &Identity, client: &str) -> Grant {
    Grant {
        host: format!("{client}.example"),
        client_id: ClientId::new(client.into()).unwrap(),
        material: Material::Files { identity: own.clone() },
        root_ca_pem: Some(Authority::generate("Hub", NOW, 9 * DAY).unwrap().root_pem()),
    }
}

pub(super) fn store(dir: &Path) -> Store {
    sealing(dir, None)
}

pub(super) fn sealing(dir: &Path, seal: Option<Seal>) -> Store {
    Store::new(dir, SOURCE, &IMSI.parse().unwrap(), seal)
}

/// Stages and promotes.
pub(super) fn keep(store: &Store, name: &str) -> Kept {
    let kept = store.stage(&grant(name), NOW).unwrap();
    store.promote().unwrap();
    kept
}

/// The client ids of current, candidate and previous; what cannot be used is said in a word.
pub(super) fn names(store: &Store) -> [String; 3] {
    let c = store.read(None);
    [c.current, c.candidate, c.previous].map(|kept| match kept {
        Ok(kept) => {
            let name = kept.credentials.client_id.unwrap().to_string();
            // The parts are of one grant.
            assert_eq!(kept.credentials.host.unwrap(), format!("{name}.example"));
            assert_eq!(
                kept.credentials.identity.leaf.common_name.as_deref(),
                Some(name.as_str())
            );
            name
        }
        Err(Unusable::Absent) => "-".to_owned(),
        Err(Unusable::Damaged(_)) => "damaged".to_owned(),
        Err(e) => e.to_string(),
    })
}

/// Everything in the identity's directory but the lock file, sorted.
pub(super) fn listing(store: &Store) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(store.directory())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n != ".lock")
        .collect();
    names.sort_unstable();
    names
}
