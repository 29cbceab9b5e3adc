//! SORACOM Inventory: a pre-shared key for LwM2M. Over the cellular session the key itself is in the answer; at the internet door the two
//! sides derive it from CK and what is in the answer, so that it never travels.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::denied::Denied;
use super::request::Request;
use super::{Caller, Krypton, keep};
use crate::digest::sha256;

/// Length of an application key, in bytes (SORACOM's Go client; the Java client asks for it as `keyLength`).
const KEY_LENGTH: usize = 16;
/// Where LwM2M registration goes; inferred from the name of SORACOM's Japanese endpoint.
const SERVER: &str = "coaps://jp.inventory.soracom.io:5684";

/// A device that Inventory knows. The key is never printed.
pub(super) struct Device {
    psk_id: String,
    key: String,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("psk_id", &self.psk_id)
            .finish_non_exhaustive()
    }
}

/// `SHA-256(nonce || timestamp || CK)`, cut to the length, in base64.
fn application_key(nonce: &[u8], timestamp: &str, ck: &[u8; 16], length: usize) -> Option<String> {
    let hash = sha256(&[nonce, timestamp.as_bytes(), ck]);
    hash.get(..length)
        .filter(|key| !key.is_empty())
        .map(|key| STANDARD.encode(key))
}

impl Krypton {
    /// bootstrapInventoryDevice.
    pub(super) fn inventory(&self, caller: &Caller, request: Request) -> Result<Value, Denied> {
        let length = request.key_length.unwrap_or(KEY_LENGTH);
        // `endpoint` is the device's own name; without one it is its IMSI.
        let endpoint = request.endpoint.unwrap_or_else(|| caller.imsi.to_string());
        super::check_name("endpoint", &endpoint)?;
        let psk_id = format!("{endpoint}-{:08x}", fastrand::u32(..));
        let mut answer = json!({"serverUri": SERVER, "pskId": psk_id});
        let key = match &caller.ck {
            None => {
                let bytes: [u8; KEY_LENGTH] = std::array::from_fn(|_| fastrand::u8(..));
                let key = STANDARD.encode(bytes);
                answer["applicationKey"] = key.clone().into();
                key
            }
            Some(ck) => {
                let nonce: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
                let timestamp = self.clock.system().as_millis().to_string();
                answer["nonce"] = STANDARD.encode(nonce).into();
                answer["timestamp"] = timestamp.clone().into();
                application_key(&nonce, &timestamp, ck, length).ok_or_else(|| {
                    let detail = format!("keyLength is {length}: it must be 1 to 32");
                    Denied::new(&crate::bench::clouds::policy::krypton::BODY, detail)
                })?
            }
        };
        keep(&mut self.state().inventory, Device { psk_id, key });
        Ok(answer)
    }

    /// The application key behind a PSK identity, in base64: what a device must have come to as well.
    pub(crate) fn inventory_key(&self, psk_id: &str) -> Option<String> {
        let state = self.state();
        let found = state.inventory.iter().find(|d| d.psk_id == psk_id);
        found.map(|d| d.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derivation_of_the_facts() {
        let ck: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let nonce = STANDARD.decode("EBESExQVFhcYGRobHB0eHw==").unwrap();
        let key = |length| application_key(&nonce, "1700000000000", &ck, length);
        assert_eq!(key(16).unwrap(), "d5Q8vpeLlo19ZhvH/9MnFg==");
        assert_eq!(STANDARD.decode(key(32).unwrap()).unwrap().len(), 32);
        assert!(key(33).is_none() && key(0).is_none());
    }
}
