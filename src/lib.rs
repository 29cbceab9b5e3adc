//! Onyx: telemetry from a Raspberry Pi over a SORACOM Onyx LTE dongle to Azure and AWS.
//!
//! The rooms, from the ground up; imports point down only:
//!
//! | room | what it is for |
//! |---|---|
//! | [`identity`], [`backoff`], [`clock`], [`mqtt`] | names and numbers, the retry policy, what time it is, MQTT as bytes |
//! | [`tls`] | the one place that knows rustls |
//! | [`files`], [`control`], [`logging`] | atomic writes, the status socket, log lines |
//! | [`config`] | configuration files, every mistake with line and column |
//! | [`telemetry`] | samples, the host's own measurements, the disk spool that owns acknowledgements |
//! | [`gateway`] | what SORACOM Beam is in the cloud, on a host of your own |
//! | [`bench`] | simulated dongle, carrier and clouds; only programs import it |

pub mod backoff;
pub mod clock;
pub mod config;
pub mod control;
pub mod files;
pub mod identity;
pub mod logging;
pub mod mqtt;
#[cfg(feature = "bench")]
pub mod pki;
#[cfg(feature = "agent")]
pub mod telemetry;
pub mod tls;

#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "gateway")]
pub mod gateway;
