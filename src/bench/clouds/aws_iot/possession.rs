//! The proof that whoever registers an authority has its key: a certificate whose common name is the account's registration code, signed
//! by that authority (AWS, "Register your CA certificate"). Without a proof an authority is registered as in AWS's mode `SNI_ONLY`; in
//! mode `DEFAULT` the proof is asked for.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use crate::bench::clouds::chain;
use crate::tls;

/// Hexadecimal digits of a registration code.
const CODE_DIGITS: usize = 64;

/// How an authority is registered (`certificateMode` of AWS's API).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// With a proof.
    Default,
    /// Without.
    #[default]
    SniOnly,
}

/// A new registration code.
#[must_use]
pub fn code() -> String {
    (0..CODE_DIGITS).map(|_| fastrand::digit(16)).collect()
}

/// Checks the proof, if there is one or has to be one. `now` is the time since the Unix epoch.
///
/// # Errors
/// What is wrong with it.
pub fn check(
    mode: Mode,
    proof: Option<&str>,
    authority: &CertificateDer<'static>,
    code: &str,
    now: Duration,
) -> Result<(), String> {
    let Some(pem) = proof else {
        return match mode {
            Mode::SniOnly => Ok(()),
            Mode::Default => Err("certificateMode DEFAULT needs a verificationCertificate".to_owned()),
        };
    };
    let list = tls::certificates(pem.as_bytes(), "verificationCertificate").map_err(|e| e.to_string())?;
    let der = list.into_iter().next().ok_or("verificationCertificate is empty")?;
    let cn = tls::Leaf::read(&der, "verificationCertificate")
        .map_err(|e| e.to_string())?
        .common_name;
    if cn.as_deref() != Some(code) {
        return Err(format!(
            "the common name of the proof is {cn:?}, expected the registration code {code:?}"
        ));
    }
    chain::follow(&[der], std::slice::from_ref(authority), now)
        .map(|_| ())
        .map_err(|e| format!("the proof is not signed by the authority: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    #[test]
    fn only_the_key_of_the_authority_proves_it() {
        let now = crate::clock::FLOOR;
        let day = Duration::from_secs(86_400);
        let issue = |ca: &Authority, name: &str| {
            let kind = crate::pki::Purpose::Proof;
            ca.issue(name, &kind, now, day).unwrap().leaf_pem
        };
        let (ca, other) = (
            Authority::generate("A", now, day).unwrap(),
            Authority::generate("A", now, day).unwrap(),
        );
        let der = tls::certificates(ca.intermediate_pem().as_bytes(), "x")
            .unwrap()
            .remove(0);
        let code = code();
        assert_eq!(code.len(), 64);
        let says = |mode, proof: Option<&str>| check(mode, proof, &der, &code, now);
        assert_eq!(says(Mode::SniOnly, None), Ok(()));
        assert!(
            says(Mode::Default, None)
                .unwrap_err()
                .contains("needs a verificationCertificate")
        );
        assert_eq!(says(Mode::Default, Some(&issue(&ca, &code))), Ok(()));
        assert!(says(Mode::Default, Some(&issue(&ca, "x"))).unwrap_err().contains(&code));
        assert!(
            says(Mode::SniOnly, Some(&issue(&other, &code)))
                .unwrap_err()
                .contains("not signed by the authority")
        );
        assert!(says(Mode::Default, Some("x")).is_err());
    }
}
