//! The gateway: what SORACOM Beam is in the cloud, on a host of your own.
