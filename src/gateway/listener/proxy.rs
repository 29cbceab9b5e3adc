//! The PROXY protocol, version 2: how a load balancer tells whose connection it passes on. No I/O.
//!
//! Source of every number: "The PROXY protocol, versions 1 & 2" (haproxy, doc/proxy-protocol.txt), section 2.2.
//!
//! The header comes before anything else, before TLS too: 12 bytes of signature, version and command, family and transport, the length of
//! the rest, addresses, and type-length-value fields (TLV), which are walked to see that they end where they should and are otherwise
//! skipped: none of them says who a device is.
//!
//! | what comes | what it means here |
//! |---|---|
//! | PROXY, TCP over IPv4 or IPv6 | the device's address is the header's source |
//! | LOCAL | the load balancer itself calls (a health check): its own address counts, as the specification demands |
//! | PROXY without an address (UNSPEC), UNIX sockets, datagrams | refused: nobody could be known by it, and the proxy's own address would be a lie |
//! | version 1 (text) | refused by name: its address may come in pieces, and nobody needs it |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first bytes of a header of version 2.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of a header of version 1.
pub const SIGNATURE_1: [u8; 6] = *b"PROXY ";
/// Signature, version and command, family and transport, length.
pub const FIXED: usize = 16;
/// Longest rest of a header that is taken, in bytes. Addresses take 36; the rest is for TLVs, of which a certificate's is the longest.
pub const REST_MAX: usize = 4_096;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The connection is this device's.
    Device(SocketAddr),
    /// The load balancer itself calls.
    Itself,
}

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The first bytes are something else.
    #[error(
        "a trusted proxy (listen.proxies) sent no PROXY header: let it send version 2 (haproxy: send-proxy-v2), or take it off the list"
    )]
    Missing,
    /// Version 1.
    #[error("a PROXY header of version 1: let the proxy send version 2 (haproxy: send-proxy-v2)")]
    Version1,
    /// Another version.
    #[error("a PROXY header of version {0}: only version 2 is taken")]
    Version(u8),
    /// Neither LOCAL nor PROXY.
    #[error("a PROXY header with the unknown command {0}")]
    Command(u8),
    /// No TCP over IP.
    #[error(
        "a PROXY header without an IP address (family and transport {0:#04x}): it must pass on TCP over IPv4 or IPv6"
    )]
    Family(u8),
    /// Longer than [`REST_MAX`].
    #[error("a PROXY header of {0} bytes: at most {REST_MAX} are taken")]
    Long(usize),
    /// Addresses or TLVs that do not fit in.
    #[error("a PROXY header whose fields do not end where it ends")]
    Cut,
}

/// The fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    command: u8,
    family: u8,
    /// How many bytes follow.
    pub rest: usize,
}

/// Reads the fixed part.
///
/// # Errors
/// [`ProxyError`].
pub fn fixed(bytes: &[u8; FIXED]) -> Result<Fixed, ProxyError> {
    if bytes.starts_with(&SIGNATURE_1) {
        return Err(ProxyError::Version1);
    }
    let Some(&[version, family, high, low]) = bytes.strip_prefix(&SIGNATURE) else {
        return Err(ProxyError::Missing);
    };
    if version >> 4 != 2 {
        return Err(ProxyError::Version(version >> 4));
    }
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest > REST_MAX {
        return Err(ProxyError::Long(rest));
    }
    match version & 0x0f {
        command @ (0 | 1) => Ok(Fixed { command, family, rest }),
        other => Err(ProxyError::Command(other)),
    }
}

/// Reads the rest; `rest` has as many bytes as [`Fixed::rest`] says.
///
/// # Errors
/// [`ProxyError`].
pub fn told(fixed: Fixed, rest: &[u8]) -> Result<Told, ProxyError> {
    if fixed.command == 0 {
        // LOCAL: the block is discarded whatever it says.
        return Ok(Told::Itself);
    }
    let (address, tlvs) = match fixed.family {
        0x11 => {
            let (block, tlvs) = rest.split_first_chunk::<12>().ok_or(ProxyError::Cut)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *block;
            (address(Ipv4Addr::new(a, b, c, d).into(), [high, low]), tlvs)
        }
        0x21 => {
            let (block, tlvs) = rest.split_first_chunk::<36>().ok_or(ProxyError::Cut)?;
            let (source, ports) = block.split_first_chunk::<16>().ok_or(ProxyError::Cut)?;
            let port = ports
                .get(16..18)
                .and_then(|p| p.try_into().ok())
                .ok_or(ProxyError::Cut)?;
            (address(Ipv6Addr::from(*source).into(), port), tlvs)
        }
        other => return Err(ProxyError::Family(other)),
    };
    walk(tlvs)?;
    Ok(Told::Device(address))
}

fn address(ip: IpAddr, port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(port))
}

/// Type (one byte), length (two), value, until the end.
fn walk(mut tlvs: &[u8]) -> Result<(), ProxyError> {
    while !tlvs.is_empty() {
        let (&[_, high, low], rest) = tlvs.split_first_chunk::<3>().ok_or(ProxyError::Cut)?;
        tlvs = rest
            .get(usize::from(u16::from_be_bytes([high, low]))..)
            .ok_or(ProxyError::Cut)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Told, ProxyError> {
        let head = fixed(bytes[..FIXED].try_into().unwrap())?;
        told(head, bytes.get(FIXED..FIXED + head.rest).ok_or(ProxyError::Cut)?)
    }

    fn header(version: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    const FOUR: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x07, 0x5b];

    #[test]
    fn addresses_of_both_families() {
        assert_eq!(
            read(&header(0x21, 0x11, &FOUR)),
            Ok(Told::Device("192.0.2.7:4660".parse().unwrap()))
        );
        let mut six = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets().to_vec();
        six.extend([0; 16]);
        six.extend([0x12, 0x34, 0, 1]);
        assert_eq!(
            read(&header(0x21, 0x21, &six)),
            Ok(Told::Device("[2001:db8::7]:4660".parse().unwrap()))
        );
        // IPv4 in IPv6 clothes is IPv4.
        six[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(
            read(&header(0x21, 0x21, &six)),
            Ok(Told::Device("192.0.2.7:4660".parse().unwrap()))
        );
    }

    #[test]
    fn health_checks_are_the_proxys_own() {
        for family in [0x00, 0x11, 0xff] {
            assert_eq!(read(&header(0x20, family, &[])), Ok(Told::Itself));
            assert_eq!(read(&header(0x20, family, &[1, 2])), Ok(Told::Itself));
        }
    }

    #[test]
    fn fields_are_skipped_within_bounds() {
        let with = |tlvs: &[u8]| read(&header(0x21, 0x11, &[&FOUR, tlvs].concat()));
        assert!(with(&[0x04, 0, 3, 1, 2, 3, 0x20, 0, 0]).is_ok());
        for cut in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0xff, 0xff, 1], &[4, 0, 1, 9, 4]] {
            assert_eq!(with(cut), Err(ProxyError::Cut), "{cut:02x?}");
        }
        assert_eq!(read(&header(0x21, 0x11, &FOUR[..11])), Err(ProxyError::Cut));
        assert_eq!(read(&header(0x21, 0x21, &FOUR)), Err(ProxyError::Cut));
    }

    #[test]
    fn what_is_refused_is_named() {
        for (bytes, want) in [
            (header(0x31, 0x11, &FOUR), ProxyError::Version(3)),
            (header(0x11, 0x11, &FOUR), ProxyError::Version(1)),
            (header(0x22, 0x11, &FOUR), ProxyError::Command(2)),
            (header(0x21, 0x00, &FOUR), ProxyError::Family(0)),
            (header(0x21, 0x12, &FOUR), ProxyError::Family(0x12)),
            (header(0x21, 0x31, &[0; 216]), ProxyError::Family(0x31)),
            (header(0x21, 0x11, &[0; REST_MAX + 1]), ProxyError::Long(REST_MAX + 1)),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(), ProxyError::Version1),
            (
                b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x...".to_vec(),
                ProxyError::Missing,
            ),
        ] {
            assert_eq!(read(&bytes), Err(want));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(version: u8, family: u8, rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&header(version, family, &rest));
        }

        #[test]
        fn no_sixteen_bytes_make_it_panic(bytes: [u8; FIXED]) {
            prop_assert!(fixed(&bytes).is_err());
        }
    }
}
