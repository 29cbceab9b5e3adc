//! A device's IMSI, name and address, all from its number.

use std::net::Ipv4Addr;

/// Most devices: their numbers are the last two bytes of an address.
pub(super) const DEVICES_MAX: u32 = 60_000;
/// Before the number in an IMSI: MCC 001 and MNC 01, the test network (ITU-T E.212, 3GPP TS 36.508 section 4.4.1.1).
const NETWORK: &str = "00101";

/// `001010000000042`.
pub(super) fn imsi(number: u32) -> String {
    format!("{NETWORK}{number:010}")
}

/// The client identifier, and the common name and file name of the certificate: `dev-001010000000042`.
pub(super) fn name(number: u32) -> String {
    format!("dev-{}", imsi(number))
}

/// Where the device calls from: 127.64.0.0/16 belongs to the load generator. `tests/speed/` knows this rule too.
pub(super) fn source(number: u32) -> Ipv4Addr {
    let [_, _, high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 64, high, low)
}

/// Packet identifiers go round from 1 to 65,535.
pub(super) fn packet_id(n: u32) -> u16 {
    u16::try_from(n % 65_535 + 1).unwrap_or(1)
}

/// Where the device publishes.
pub(super) fn topic(number: u32) -> String {
    format!("b/{number}/up")
}

/// All of [`topic`].
pub(super) const ALL_TOPICS: &str = "b/+/up";
