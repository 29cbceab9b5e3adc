//! SORACOM Arc: a WireGuard configuration for the SIM. No tunnel is behind it; keys and addresses have the right shape, and the addresses come
//! from the ranges of RFC 5737 and RFC 6598.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Krypton;
use crate::identity::Imsi;

/// WireGuard's usual port; SORACOM's own is not published.
const PORT: u16 = 51_820;

fn key() -> [u8; 32] {
    std::array::from_fn(|_| fastrand::u8(..))
}

impl Krypton {
    /// bootstrapArc.
    pub(super) fn arc(&self, _imsi: &Imsi) -> Value {
        let mut private = key();
        // RFC 7748 section 5: how 32 random bytes become an X25519 key.
        private[0] &= 248;
        private[31] = private[31] & 127 | 64;
        json!({
            "arcServerPeerPublicKey": STANDARD.encode(key()),
            "arcServerEndpoint": format!("198.51.100.1:{PORT}"),
            "arcAllowedIPs": ["100.127.0.0/16"],
            "arcClientPeerPrivateKey": STANDARD.encode(private),
            "arcClientPeerIpAddress": format!("100.64.{}.{}", fastrand::u8(..), fastrand::u8(1..255)),
        })
    }
}
