//! AWS IoT: a thing with its certificate, all in one answer or, with `skipCertificates`, piece by piece.

use serde_json::{Value, json};

use super::denied::Denied;
use super::request::Request;
use super::{IMSI_PLACEHOLDER, Krypton, check_name, keep};
use crate::bench::clouds::policy::krypton::CERTIFICATE;
use crate::identity::Imsi;

#[derive(Debug)]
pub(super) struct Certificate {
    id: String,
    imsi: Imsi,
    pem: String,
}

impl Krypton {
    /// The region in `{prefix}-ats.iot.{region}.amazonaws.com`.
    pub(super) fn region(&self) -> &str {
        self.hosts.aws_iot.split('.').nth(2).unwrap_or_default()
    }

    /// bootstrapAwsIotThing.
    pub(super) fn bootstrap_aws(&self, imsi: &Imsi, request: Request) -> Result<Value, Denied> {
        let asked = request.parameters();
        let thing = asked
            .thing_name
            .unwrap_or_else(|| self.thing_name_pattern.replace(IMSI_PLACEHOLDER, imsi.as_str()));
        check_name("thingName", &thing)?;
        let issued = self.issue(&thing)?;
        let id: String = (0..4).map(|_| format!("{:016x}", fastrand::u64(..))).collect();
        let mut answer = json!({
            "region": self.region(),
            "host": self.hosts.aws_iot,
            "clientId": thing,
            "certificateId": id,
            "privateKey": issued.key_pem.as_str(),
        });
        if !asked.skip_certificates {
            answer["certificate"] = issued.chain_pem.clone().into();
            answer["rootCaCertificate"] = self.ca.root_pem().into();
        }
        let certificate = Certificate {
            id,
            imsi: imsi.clone(),
            pem: issued.chain_pem.clone(),
        };
        keep(&mut self.state().certificates, certificate);
        Ok(answer)
    }

    /// One certificate as PEM text.
    pub(super) fn certificate(&self, imsi: &Imsi, id: &str) -> Result<String, Denied> {
        let state = self.state();
        let found = state.certificates.iter().find(|c| c.id == id && c.imsi == *imsi);
        found
            .map(|c| c.pem.clone())
            .ok_or_else(|| Denied::new(&CERTIFICATE, format!("there is no certificate {id:?} of this SIM")))
    }
}
