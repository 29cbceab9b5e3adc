//! Whose SIM a caller of Krypton has. On the real network the cellular session tells; here the source address does.

use std::net::IpAddr;
use std::str::FromStr;

use crate::identity::Imsi;

/// The subscriber of a bench without further options: invented, with the country code of the SIM in the Krypton article.
pub const DEFAULT_IMSI: &str = "295012345678901";

/// Who calls: which source address is which SIM.
#[derive(Debug, Clone)]
pub struct Subscribers {
    by_source: Vec<(IpAddr, Imsi)>,
    everybody_else: Option<Imsi>,
}

impl Default for Subscribers {
    fn default() -> Self {
        Self {
            by_source: Vec::new(),
            everybody_else: DEFAULT_IMSI.parse().ok(),
        }
    }
}

impl Subscribers {
    /// One SIM for everybody.
    #[must_use]
    pub fn everybody(imsi: Imsi) -> Self {
        Self {
            by_source: Vec::new(),
            everybody_else: Some(imsi),
        }
    }

    /// From `IMSI@SOURCE-ADDRESS`, or `IMSI` for everybody else.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn parse(list: &[String]) -> Result<Self, String> {
        let mut subscribers = Self {
            by_source: Vec::new(),
            everybody_else: None,
        };
        for text in list {
            let (imsi, source) = text
                .split_once('@')
                .map_or((text.as_str(), None), |(i, s)| (i, Some(s)));
            let imsi = Imsi::from_str(imsi).map_err(|e| e.to_string())?;
            match source {
                None => subscribers.everybody_else = Some(imsi),
                Some(source) => {
                    let address = source
                        .parse()
                        .map_err(|_| format!("{source:?} is no IP address: write IMSI@127.0.0.9"))?;
                    subscribers.by_source.push((address, imsi));
                }
            }
        }
        Ok(subscribers)
    }

    /// Every SIM.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Imsi> {
        self.by_source.iter().map(|(_, imsi)| imsi).chain(&self.everybody_else)
    }

    /// The SIM behind an address.
    #[must_use]
    pub fn find(&self, source: IpAddr) -> Option<&Imsi> {
        self.by_source
            .iter()
            .find(|(address, _)| *address == source)
            .map(|(_, imsi)| imsi)
            .or(self.everybody_else.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_known_by_their_address() {
        let s = Subscribers::parse(&["440103123456789@127.0.0.9".into()]).unwrap();
        assert_eq!(
            s.find("127.0.0.9".parse().unwrap()).unwrap().as_str(),
            "440103123456789"
        );
        assert!(s.find("127.0.0.1".parse().unwrap()).is_none());
        let s = Subscribers::parse(&["295012345678901".into(), "440103123456789@127.0.0.9".into()]).unwrap();
        assert_eq!(
            s.find("127.0.0.1".parse().unwrap()).unwrap().as_str(),
            "295012345678901"
        );
        assert!(Subscribers::parse(&["29501@nowhere".into()]).is_err());
        assert!(Subscribers::parse(&["x".into()]).is_err());
    }
}
