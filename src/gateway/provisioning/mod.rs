//! What SORACOM Krypton answers, from an authority of your own: a device that the gateway knows asks for a key and a certificate, and
//! gets them with the name of the broker they are for. `onyx-agent`, the two `curl` requests of SORACOM's article, and other clients
//! written for Krypton's cellular door work unchanged; only the host is another.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/provisioning/azure/iot/register` | `operationId`, `status` = `assigning` |
//! | `GET /v1/provisioning/azure/iot/registrations/{operationId}` | `assigning`; then `assigned` with `deviceId`, `host`, `certificate`, `privateKey`, `rootCaCertificate`; or `failed` |
//! | `POST /v1/provisioning/aws/iot/bootstrap` | `region`, `host`, `clientId`, `certificateId`, `certificate`, `privateKey`, `rootCaCertificate` |
//! | `POST /v1/provisioning/aws/iot/certificates/{certificateId}` | that certificate as PEM text |
//! | `POST /v1/provisioning/aws/iot/ca_certificate` | the cloud's authority as PEM text |
//!
//! Paths, methods and fields are those of SORACOM's clients (krypton-client-go `operations.go`, the Java client's
//! `ProvisioningApiEndpoint`, SORACOM's article on Krypton and IoT Hub). What Krypton offers besides (Cognito, Inventory, Arc, Air) is
//! SORACOM's own and is refused by name. Errors have SORACOM's shape, `{"code","message"}`.
//!
//! | file | subject |
//! |---|---|
//! | `operation` | operation ids: made by one gateway, understood by every gateway with the same authority |
//! | `issue` | key and certificate, within the authority's life and the subscriber's daily share |
//! | `assign` | where a device of Azure belongs: told, or asked of DPS, once for each registration |
//! | `request`, `denied` | bodies; refusals |
//! | `door` | HTTP: who asks, which path |
//!
//! **Who gets what.** The caller is known as at the MQTT doors: by address, token (`Authorization: Bearer`, or the password of
//! `Basic`) or certificate. The name in the certificate is what the configuration makes of the caller's own numbers; a request that
//! asks for another name, hub or scope is refused, because a certificate under another's name would be another's identity.
//!
//! **Again and again.** An answer may be lost on a bad line. For [`assign::KEPT_FOR`] the same operation id gives the same key and
//! certificate; each AWS bootstrap makes new ones, as Krypton's does. A subscriber gets `provisioning.per_day` certificates a day.

pub mod assign;
pub mod denied;
pub mod door;
pub mod issue;
pub mod operation;
pub mod request;

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::files::read_small;
use crate::identity::Subscriber;
use crate::tls;

use super::config::{AwsProvisioning, AzureProvisioning, ProvisioningConfig};
use assign::Assignments;
use denied::Denied;
use issue::Issuer;
use operation::{OperationId, Registered};
use request::Parameters;

/// Largest file of authorities that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The service.
#[derive(Debug)]
pub struct Provisioning {
    issuer: Arc<Issuer>,
    azure: Option<Azure>,
    aws: Option<Aws>,
    clock: Clock,
}

#[derive(Debug)]
struct Azure {
    config: AzureProvisioning,
    root_ca_pem: Option<String>,
    assignments: Assignments,
}

#[derive(Debug)]
struct Aws {
    config: AwsProvisioning,
    root_ca_pem: Option<String>,
}

fn roots(path: Option<&Path>) -> Result<Option<String>, String> {
    let Some(path) = path else { return Ok(None) };
    let what = path.display().to_string();
    let pem = read_small(path, FILE_MAX).map_err(|e| format!("root_ca_file: cannot read {what}: {e}"))?;
    tls::roots(&pem, &what).map_err(|e| format!("root_ca_file: {e}"))?;
    String::from_utf8(pem)
        .map(Some)
        .map_err(|_| format!("root_ca_file: {what} is not a PEM file"))
}

impl Provisioning {
    /// Loads the authority and what devices are told to trust. Reads files: call it off the async threads.
    ///
    /// # Errors
    /// A sentence naming the key of `[provisioning]`.
    pub fn open(config: &ProvisioningConfig, clock: &Clock) -> Result<Self, String> {
        Self::of(config, Issuer::open(config)?, None, clock)
    }

    /// Reads all of it again (a reload): shares of the day and registrations under way go on.
    ///
    /// # Errors
    /// A sentence naming the key of `[provisioning]`.
    pub fn again(&self, config: &ProvisioningConfig) -> Result<Self, String> {
        let before = self.azure.as_ref().map(|a| &a.assignments);
        Self::of(config, self.issuer.again(config)?, before, &self.clock)
    }

    fn of(
        config: &ProvisioningConfig,
        issuer: Issuer,
        before: Option<&Assignments>,
        clock: &Clock,
    ) -> Result<Self, String> {
        let issuer = Arc::new(issuer);
        let azure = config.azure.as_ref().map(|azure| -> Result<Azure, String> {
            let (place, issuer) = (azure.place.clone(), issuer.clone());
            Ok(Azure {
                root_ca_pem: roots(azure.root_ca_file.as_deref())?,
                assignments: match before {
                    Some(before) => before.again(place, issuer, clock)?,
                    None => Assignments::new(place, issuer, clock)?,
                },
                config: azure.clone(),
            })
        });
        let aws = config.aws.as_ref().map(|aws| -> Result<Aws, String> {
            Ok(Aws {
                root_ca_pem: roots(aws.root_ca_file.as_deref())?,
                config: aws.clone(),
            })
        });
        Ok(Self {
            azure: azure.transpose()?,
            aws: aws.transpose()?,
            issuer,
            clock: clock.clone(),
        })
    }

    /// registerAzureIotDevice.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn register(&self, who: &Subscriber, asked: &Parameters) -> Result<serde_json::Value, Denied> {
        let azure = self.azure.as_ref().ok_or(Denied::NotServed("azure"))?;
        let device_id = name(&azure.config.device_id, who)?;
        asked.only("deviceId", asked.device_id.as_deref(), &device_id)?;
        match &azure.config.place {
            super::config::AzurePlace::Host(host) => asked.only("host", asked.host.as_deref(), host)?,
            super::config::AzurePlace::Dps { service, .. } => {
                asked.only("idScope", asked.id_scope.as_deref(), &service.id_scope)?;
                asked.only("globalEndpoint", asked.global_endpoint.as_deref(), &service.host)?;
            }
        }
        let registered = Registered {
            imsi: who.imsi.clone(),
            device_id,
            at: self.clock.system(),
        };
        let id = self.issuer.seal(&registered)?;
        Ok(serde_json::json!({"operationId": id.as_str(), "status": "assigning"}))
    }

    /// getAzureIotDeviceRegistrationStatus.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn registration(&self, who: &Subscriber, id: &OperationId) -> Result<serde_json::Value, Denied> {
        let azure = self.azure.as_ref().ok_or(Denied::NotServed("azure"))?;
        let registered = self.issuer.unseal(id, self.clock.system())?;
        // Another SIM's registration does not exist for the caller.
        if registered.imsi != who.imsi {
            return Err(Denied::NoOperation);
        }
        let Some(assigned) = azure.assignments.ask(id, &registered).await? else {
            return Ok(serde_json::json!({"operationId": id.as_str(), "status": "assigning"}));
        };
        let mut answer = serde_json::json!({
            "operationId": id.as_str(),
            "status": "assigned",
            "deviceId": assigned.device_id,
            "host": assigned.host,
            "certificate": assigned.issued.chain_pem,
            "privateKey": assigned.issued.key_pem.as_str(),
        });
        put(&mut answer, "rootCaCertificate", azure.root_ca_pem.as_deref());
        Ok(answer)
    }

    /// bootstrapAwsIotThing.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn bootstrap(&self, who: &Subscriber, asked: &Parameters) -> Result<serde_json::Value, Denied> {
        let aws = self.aws.as_ref().ok_or(Denied::NotServed("aws"))?;
        let thing = name(&aws.config.thing_name, who)?;
        asked.only("thingName", asked.thing_name.as_deref(), &thing)?;
        let issued = self.issuer.issue(&who.imsi, &thing, &self.clock)?;
        let id = issue::certificate_id(&issued.leaf_pem).ok_or_else(|| Denied::Here("the new certificate".into()))?;
        let mut answer = serde_json::json!({
            "region": aws.config.region,
            "host": aws.config.host,
            "clientId": thing,
            "certificateId": id,
            "privateKey": issued.key_pem.as_str(),
        });
        if asked.skip_certificates {
            self.issuer.remember(&who.imsi, &id, &issued.chain_pem);
        } else {
            answer["certificate"] = issued.chain_pem.clone().into();
            put(&mut answer, "rootCaCertificate", aws.root_ca_pem.as_deref());
        }
        Ok(answer)
    }

    /// One certificate of the last ones that were made without being sent, as PEM text.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn certificate(&self, who: &Subscriber, id: &str) -> Result<String, Denied> {
        self.aws.as_ref().ok_or(Denied::NotServed("aws"))?;
        self.issuer.remembered(&who.imsi, id).ok_or(Denied::NoCertificate)
    }

    /// The authority of the AWS endpoint, as PEM text.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn aws_root(&self) -> Result<String, Denied> {
        let aws = self.aws.as_ref().ok_or(Denied::NotServed("aws"))?;
        aws.root_ca_pem.clone().ok_or(Denied::NoRoot)
    }
}

fn put(answer: &mut serde_json::Value, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        answer[key] = text.into();
    }
}

fn name(template: &crate::identity::NameTemplate, who: &Subscriber) -> Result<String, Denied> {
    template
        .fill(who)
        .map_err(|e| Denied::Name(format!("{e}; the gateway's operator adds it to the subscriber")))
}
