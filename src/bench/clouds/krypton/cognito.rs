//! Amazon Cognito: temporary AWS credentials or an OpenID token for the SIM. No AWS is behind them: they have the right shape and are
//! different each time, except for the identity, which stays with the SIM.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::Krypton;
use crate::bench::clouds::uuid;
use crate::digest::sha256;
use crate::identity::Imsi;

/// AWS's default for credentials of an assumed role.
const CREDENTIALS_LIFE: Duration = Duration::from_secs(3_600);
/// How long a Cognito OpenID token is good by default.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

fn random<const N: usize>() -> [u8; N] {
    std::array::from_fn(|_| fastrand::u8(..))
}

impl Krypton {
    /// `{region}:{UUID}`, the same for the same SIM.
    fn identity(&self, imsi: &Imsi) -> String {
        let hash = sha256(&[b"onyx bench identity ", imsi.as_str().as_bytes()]);
        let bits = hash.iter().take(16).fold(0, |bits, b| bits << 8 | u128::from(*b));
        format!("{}:{}", self.region(), uuid::text(bits))
    }

    /// generateAmazonCognitoSessionCredentials. `expiration` is a number of milliseconds, as the Java client's type for it says.
    pub(super) fn session_credentials(&self, imsi: &Imsi) -> Value {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let id: String = random::<16>()
            .iter()
            .filter_map(|b| LETTERS.get(usize::from(*b) % LETTERS.len()))
            .map(|b| char::from(*b))
            .collect();
        let expiration = self.clock.system().saturating_add(CREDENTIALS_LIFE);
        json!({
            "region": self.region(),
            "identityId": self.identity(imsi),
            "credentials": {
                // Temporary keys begin with ASIA (IAM user guide, unique ids).
                "accessKeyId": format!("ASIA{id}"),
                "secretKey": STANDARD.encode(random::<30>()),
                "sessionToken": STANDARD.encode(random::<120>()),
                "expiration": u64::try_from(expiration.as_millis()).unwrap_or(u64::MAX),
            },
        })
    }

    /// generateAmazonCognitoOpenIdToken: a JWT by its form, signed by nobody.
    pub(super) fn open_id_token(&self, imsi: &Imsi) -> Value {
        let identity = self.identity(imsi);
        let now = self.clock.system();
        let header = json!({"alg": "none", "typ": "JWT"});
        let claims = json!({
            "iss": "https://cognito-identity.amazonaws.com",
            "sub": identity,
            "aud": identity.replacen(':', ":pool-", 1),
            "iat": now.as_secs(),
            "exp": now.saturating_add(TOKEN_LIFE).as_secs(),
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        json!({
            "region": self.region(),
            "identityId": identity,
            "token": format!("{}.{}.", part(&header), part(&claims)),
        })
    }
}
