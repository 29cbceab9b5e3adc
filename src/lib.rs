//! Onyx: telemetry from a Raspberry Pi over a SORACOM Onyx LTE dongle to Azure and AWS.
//!
//! The rooms, from the ground up; imports point down only:
//!
//! | room | what it is for |
//! |---|---|
//! | [`identity`], [`backoff`], [`clock`], [`mqtt`] | names and numbers, the retry policy, what time it is, MQTT as bytes |
//! | [`files`], `digest`, [`control`], [`logging`], [`report`] | atomic writes, SHA-256, the status socket, log lines, last words |
//! | [`link`], [`tls`], [`pki`] | the way out; the one place that knows rustls; making certificates |
//! | [`modem`] | the EG25-G's AT dialogue |
//! | [`cloud`] | what each broker demands |
//! | [`config`] | configuration files, every mistake with line and column |
//! | [`telemetry`], [`provision`] | samples and their spool; credentials |
//! | [`session`] | the MQTT session |
//! | [`agent`] | the ladder: the only room that knows all rungs |
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
#[cfg(any(feature = "agent", feature = "gateway"))]
pub mod pki;
pub mod report;
pub mod tls;

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(any(feature = "agent", feature = "gateway"))]
pub mod cloud;
#[cfg(feature = "agent")]
mod digest;
#[cfg(feature = "agent")]
pub mod link;
#[cfg(feature = "agent")]
pub mod modem;
#[cfg(feature = "agent")]
pub mod provision;
#[cfg(feature = "agent")]
pub mod session;
#[cfg(feature = "agent")]
pub mod telemetry;

#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "gateway")]
pub mod gateway;
