//! The client registry of a namespace: who may connect, and which field of the certificate says that it is they.
//!
//! Sources: Event Grid documentation, mqtt-clients and mqtt-client-certificate-authentication.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::bench::clouds::thumbprint::Thumbprint;

/// Most thumbprints of a client.
pub const THUMBPRINTS_MAX: usize = 2;

/// Which field of the certificate has to be the authentication name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// The subject's common name (Subject Matches Authentication Name, with subjects of a common name alone).
    Subject,
    /// A DNS name of the subject alternative name.
    Dns,
    /// A URI of the subject alternative name.
    Uri,
    /// An address of the subject alternative name.
    Ip,
    /// An e-mail address of the subject alternative name.
    Email,
    /// No field: the certificate itself is known, by its SHA-256, and no authority has to have signed it.
    Thumbprint(Vec<Thumbprint>),
}

/// A registered client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// What CONNECT has as its user name; compared without case.
    pub authentication_name: String,
    /// How its certificate is recognised.
    pub scheme: Scheme,
    /// What groups and templates may refer to.
    pub attributes: BTreeMap<String, String>,
}

impl FromStr for Client {
    type Err = String;

    /// `NAME:SCHEME` or `NAME:thumbprint:SHA256[,SHA256]`, then `;KEY=VALUE` for each attribute.
    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || {
            format!(
                "{text:?} is no client: write NAME:SCHEME with a scheme of subject, dns, uri, ip, email, or \
                 NAME:thumbprint:SHA256[,SHA256], and ;KEY=VALUE for each attribute"
            )
        };
        let mut parts = text.split(';');
        let main = parts.next().unwrap_or_default();
        let (name, scheme) = if let Some((name, prints)) = main.rsplit_once(":thumbprint:") {
            let prints: Vec<_> = prints
                .split(',')
                .map(str::parse)
                .collect::<Result<_, String>>()
                .map_err(|_| usage())?;
            if prints.len() > THUMBPRINTS_MAX {
                return Err(format!("{text:?} has more than {THUMBPRINTS_MAX} thumbprints"));
            }
            (name, Scheme::Thumbprint(prints))
        } else {
            let (name, scheme) = main.rsplit_once(':').ok_or_else(usage)?;
            let scheme = match scheme {
                "subject" => Scheme::Subject,
                "dns" => Scheme::Dns,
                "uri" => Scheme::Uri,
                "ip" => Scheme::Ip,
                "email" => Scheme::Email,
                _ => return Err(usage()),
            };
            (name, scheme)
        };
        let length = name.chars().count();
        if length == 0 || length > super::AUTH_NAME_MAX {
            return Err(format!("{text:?}: a name has 1 to {} characters", super::AUTH_NAME_MAX));
        }
        let attributes = parts
            .map(|pair| pair.split_once('=').filter(|(key, _)| !key.is_empty()))
            .map(|pair| pair.map(|(key, value)| (key.to_owned(), value.to_owned())))
            .collect::<Option<_>>()
            .ok_or_else(usage)?;
        Ok(Self {
            authentication_name: name.to_owned(),
            scheme,
            attributes,
        })
    }
}

impl Client {
    /// Whether a certificate is this client's; otherwise what the certificate says instead.
    ///
    /// # Errors
    /// What was found in place of what was wanted.
    pub fn recognises(&self, leaf: &CertificateDer<'_>, common_name: Option<&str>) -> Result<(), String> {
        let wanted = self.authentication_name.to_lowercase();
        if let Scheme::Thumbprint(known) = &self.scheme {
            let found = Thumbprint::of(leaf);
            return if known.contains(&found) {
                Ok(())
            } else {
                Err(format!("its thumbprint is {found:x}"))
            };
        }
        if self.scheme == Scheme::Subject {
            return match common_name {
                Some(cn) if cn.to_lowercase() == wanted => Ok(()),
                other => Err(format!(
                    "its common name is {other:?}, expected {:?}",
                    self.authentication_name
                )),
            };
        }
        let found = self.alternative_names(leaf)?;
        if found.iter().any(|name| name.to_lowercase() == wanted) {
            return Ok(());
        }
        Err(format!(
            "its subject alternative name has {found:?} of this kind, expected {:?}",
            self.authentication_name
        ))
    }

    fn alternative_names(&self, leaf: &CertificateDer<'_>) -> Result<Vec<String>, String> {
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|e| format!("it cannot be read: {e}"))?;
        let Ok(Some(names)) = certificate.subject_alternative_name() else {
            return Ok(Vec::new());
        };
        let of_kind = |name: &GeneralName<'_>| match (&self.scheme, name) {
            (Scheme::Dns, GeneralName::DNSName(n))
            | (Scheme::Uri, GeneralName::URI(n))
            | (Scheme::Email, GeneralName::RFC822Name(n)) => Some((*n).to_owned()),
            (Scheme::Ip, GeneralName::IPAddress(bytes)) => {
                let four: Option<[u8; 4]> = (*bytes).try_into().ok();
                let sixteen: Option<[u8; 16]> = (*bytes).try_into().ok();
                four.map(IpAddr::from)
                    .or(sixteen.map(IpAddr::from))
                    .map(|ip| ip.to_string())
            }
            _ => None,
        };
        Ok(names.value.general_names.iter().filter_map(of_kind).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_read_and_mistakes_are_told() {
        let c: Client = "Dev.1:dns;room=a;floor=2".parse().unwrap();
        assert_eq!((c.authentication_name.as_str(), &c.scheme), ("Dev.1", &Scheme::Dns));
        assert_eq!(c.attributes.get("floor").map(String::as_str), Some("2"));
        let print = "ab".repeat(32);
        let c: Client = format!("urn:x:thumbprint:{print},{}", "AB:".repeat(32))
            .parse()
            .unwrap();
        assert_eq!(
            (c.authentication_name.as_str(), &c.scheme),
            ("urn:x", &Scheme::Thumbprint(vec![print.parse().unwrap(); 2]))
        );
        let long = format!("{}:dns", "n".repeat(129));
        let three = format!("n:thumbprint:{print},{print},{print}");
        for bad in [
            "",
            "n",
            "n:",
            "n:sha",
            ":dns",
            "n:thumbprint:12",
            "n:dns;x",
            "n:dns;=1",
            &long,
            &three,
        ] {
            assert!(bad.parse::<Client>().is_err(), "{bad}");
        }
    }

    fn certificate(sans: Vec<rcgen::SanType>) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut p = rcgen::CertificateParams::default();
        p.subject_alt_names = sans;
        p.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn each_scheme_reads_its_own_field() {
        let name = |s: &str| s.try_into().unwrap();
        let leaf = certificate(vec![
            rcgen::SanType::DnsName(name("Dev.example")),
            rcgen::SanType::URI(name("urn:dev:1")),
            rcgen::SanType::Rfc822Name(name("dev@example.com")),
            rcgen::SanType::IpAddress("2001:db8::1".parse().unwrap()),
            rcgen::SanType::IpAddress("192.0.2.7".parse().unwrap()),
        ]);
        let print = format!("{:x}", Thumbprint::of(&leaf));
        let judge = |client: &str| client.parse::<Client>().unwrap().recognises(&leaf, Some("Dev"));
        for good in [
            "dev:subject",
            "DEV.EXAMPLE:dns",
            "urn:dev:1:uri",
            "dev@example.com:email",
            "192.0.2.7:ip",
            "2001:db8::1:ip",
        ] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        assert_eq!(judge(&format!("anything:thumbprint:{print}")), Ok(()));
        for bad in [
            "dev:dns",
            "dev.example:uri",
            "dev@example.com:dns",
            "192.0.2.8:ip",
            "dev.example:subject",
        ] {
            assert!(judge(bad).is_err(), "{bad}");
        }
        let other = judge(&format!("anything:thumbprint:{}", "00".repeat(32))).unwrap_err();
        assert!(other.contains(&print), "{other}");
        // The test vector of FIPS 180-2 appendix B.1.
        assert!(format!("{:x}", Thumbprint::of(b"abc")).starts_with("ba7816bf8f01cfea"));
    }
}
