//! Onyx: telemetry from a Raspberry Pi over a SORACOM Onyx LTE dongle to Azure and AWS.

#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "gateway")]
pub mod gateway;
