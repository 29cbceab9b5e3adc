//! Addresses and ranges of them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::gateway::json::short;

/// An address or a range of them: `10.8.0.2`, `10.8.0.0/24`, `2001:db8::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

impl Prefix {
    /// Whether the address lies in the range. IPv4 addresses in IPv6 clothes (`::ffff:10.0.0.1`) count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.length) == self.address
    }
}

pub(super) const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

pub(super) fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}

impl FromStr for Prefix {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown = short(text);
            format!("\"{shown}\" is not an IP address or prefix: write for example \"10.8.0.2\" or \"10.8.0.0/24\"")
        };
        let (address, length) = match text.split_once('/') {
            Some((a, l)) => (a, Some(l)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| wrong())?.to_canonical();
        let length = match length {
            None => width(address),
            Some(l) => l
                .parse::<u8>()
                .ok()
                .filter(|l| *l <= width(address))
                .ok_or_else(wrong)?,
        };
        let base = masked(address, length);
        if base != address {
            return Err(format!(
                "\"{}\" has bits after its prefix: write \"{base}/{length}\" for the range or \"{address}\" for the one address",
                short(text)
            ));
        }
        Ok(Self { address, length })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == width(self.address) {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefixes_say_what_is_wrong() {
        for (text, why) in [
            ("10.0.0.5/24", "10.0.0.0/24"),
            ("10.0.0.0/33", "not an IP"),
            ("beam", "not an IP"),
            ("10.0.0.0/", "not an IP"),
        ] {
            let e = text.parse::<Prefix>().unwrap_err();
            assert!(e.contains(why), "{e}");
        }
        let holds = |p: &str, a: &str| p.parse::<Prefix>().unwrap().contains(a.parse().unwrap());
        assert!(holds("0.0.0.0/0", "1.2.3.4"));
        assert!(holds("::/0", "2001:db8::1"));
        assert_eq!("10.0.0.0/8".parse::<Prefix>().unwrap().to_string(), "10.0.0.0/8");
    }

    proptest! {
        #[test]
        fn a_prefix_holds_what_shares_its_bits(a: u32, b: u32, length in 0_u8..=32) {
            let p = Prefix { address: masked(IpAddr::V4(a.into()), length), length };
            let same = length == 0 || a >> (32 - length) == b >> (32 - length);
            prop_assert_eq!(p.contains(IpAddr::V4(b.into())), same);
        }
    }
}
