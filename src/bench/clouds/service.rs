//! All stand-ins together, while they run: watched, disturbed and stopped. How they begin is in [`opening`](super::opening).

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::Flock;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::authority::{AuthorityError, Ca};
use super::aws_iot::{self, Aws};
use super::control::{self, Controls};
use super::dps::Dps;
use super::endpoint::Endpoint;
use super::fault::{Board, KryptonFault, Limited, MqttFault, Spec};
use super::iot_hub;
use super::journal::{Event, Journal, Message};
use super::krypton::Krypton;
use super::opening;
use super::stand_in::{Cloud, Config, Protocol, StandIn};
use super::start_error::StartError;
use crate::clock::Clock;
use crate::pki::Issued;

/// Connections have this long to end after a stop.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The running stand-ins. Dropping them stops them too, without waiting.
#[derive(Debug)]
pub struct Clouds {
    pub(super) directory: PathBuf,
    /// One bench a directory.
    pub(super) _lock: Flock<File>,
    pub(super) ca: Arc<Ca>,
    pub(super) journal: Arc<Journal>,
    pub(super) krypton: Arc<Krypton>,
    pub(super) dps: Arc<Dps>,
    pub(super) aws: Arc<Aws>,
    pub(super) endpoints: BTreeMap<Cloud, Arc<Endpoint>>,
    pub(super) hub: Option<Arc<iot_hub::Hub>>,
    pub(super) stand_ins: Vec<StandIn>,
    pub(super) boards: BTreeMap<Cloud, Arc<Board>>,
    pub(super) clocks: BTreeMap<Cloud, Clock>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) controls: Arc<Controls>,
    pub(super) control: SocketAddr,
}

impl Clouds {
    /// Opens every door and writes what a client needs into the directory.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        opening::open(&config).await
    }

    /// Where everything is written.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The hand on the running stand-ins.
    #[must_use]
    pub fn controls(&self) -> &Arc<Controls> {
        &self.controls
    }

    /// Where the control endpoint answers.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// Puts a fault in force, beside those that are.
    ///
    /// # Errors
    /// A stand-in that does not run; too many faults.
    pub fn put_fault(&self, spec: &Spec) -> Result<Vec<control::Put>, String> {
        self.controls.put(spec)
    }

    /// Every stand-in.
    #[must_use]
    pub fn stand_ins(&self) -> &[StandIn] {
        &self.stand_ins
    }

    /// Where one stand-in listens: its first door.
    #[must_use]
    pub fn address(&self, cloud: Cloud) -> Option<SocketAddr> {
        let found = self.stand_ins.iter().find(|s| s.name == cloud)?;
        Some(SocketAddr::new(found.address, found.port))
    }

    /// Where one door of a stand-in is.
    #[must_use]
    pub fn door(&self, cloud: Cloud, protocol: Protocol) -> Option<SocketAddr> {
        let found = self
            .stand_ins
            .iter()
            .find(|s| s.name == cloud && s.protocol == protocol)?;
        Some(SocketAddr::new(found.address, found.port))
    }

    /// The root that every stand-in's certificate leads to.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.ca.root_pem()
    }

    /// The certificate that signs devices.
    #[must_use]
    pub fn intermediate_pem(&self) -> String {
        self.ca.intermediate_pem()
    }

    /// Credentials for a device of this name, not written anywhere.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn issue_device(&self, name: &str) -> Result<Issued, AuthorityError> {
        self.ca.device(name)
    }

    /// Credentials for a device of this name, in the directory's `devices/NAME.pem` and `devices/NAME.key`.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn write_device(&self, name: &str) -> Result<Issued, AuthorityError> {
        self.ca.write_device(&self.directory, name)
    }

    /// The device provisioning service: enrolments and registrations.
    #[must_use]
    pub fn dps(&self) -> &Arc<Dps> {
        &self.dps
    }

    /// The service side of the IoT hub; always there once the stand-ins run.
    #[must_use]
    pub fn hub(&self) -> Option<&Arc<iot_hub::Hub>> {
        self.hub.as_ref()
    }

    /// The accepted messages still in memory, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.journal.messages()
    }

    /// Everything the stand-ins see from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.journal.subscribe()
    }

    /// Waits until the accepted messages in memory satisfy `enough`; the answer is whether they did before `limit` was over.
    pub async fn wait_for_messages(&self, limit: Duration, enough: impl Fn(&[Message]) -> bool) -> bool {
        let mut events = self.events();
        let wait = async {
            while !enough(&self.messages()) {
                // Having missed some is as good as having seen one.
                if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
                    break;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// The account behind the AWS IoT Core stand-in.
    #[must_use]
    pub fn aws_iot(&self) -> &Arc<Aws> {
        &self.aws
    }

    /// The account's HTTP routes, to be nested into a server; see [`aws_iot::control`].
    pub fn aws_iot_routes(&self) -> axum::Router {
        let endpoint = self.endpoints.get(&Cloud::AwsIot).map(Arc::clone);
        endpoint.map_or_else(axum::Router::new, |e| {
            aws_iot::control::routes(Arc::clone(&self.aws), e)
        })
    }

    /// The application key of a device that Krypton has bootstrapped for Inventory, in base64; both sides must have come to the same.
    #[must_use]
    pub fn inventory_key(&self, psk_id: &str) -> Option<String> {
        self.krypton.inventory_key(psk_id)
    }

    /// What Krypton does wrong from now on.
    pub fn set_krypton_fault(&self, fault: Option<Limited<KryptonFault>>) {
        self.krypton.fault.set(fault);
    }

    /// What an MQTT stand-in does wrong from now on; Krypton has none of these.
    pub fn set_mqtt_fault(&self, cloud: Cloud, fault: Option<Limited<MqttFault>>) {
        if let Some(endpoint) = self.endpoints.get(&cloud) {
            endpoint.fault.set(fault);
        }
    }

    /// Cuts every MQTT connection, as a restarting broker does; with `forget_sessions` subscriptions and queues are gone too.
    pub fn restart_mqtt(&self, forget_sessions: bool) {
        for endpoint in self.endpoints.values() {
            endpoint.restart(forget_sessions);
        }
    }

    /// Ends every connection and closes every door.
    pub async fn stop(self) {
        self.stop.cancel();
        self.journal.register().cut_stalled("the stand-ins stop");
        self.tasks.close();
        let _ = tokio::time::timeout(STOP_MAX, self.tasks.wait()).await;
    }
}

impl Drop for Clouds {
    fn drop(&mut self) {
        self.stop.cancel();
        self.journal.register().cut_stalled("the stand-ins stop");
    }
}
