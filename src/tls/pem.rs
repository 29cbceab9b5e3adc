//! What lies in a file that should hold a key or certificates: the PEM sections that matter, and names for everything else.
//!
//! Operators bring what their tools made: with Windows' line ends, a byte order mark, `Bag Attributes` of `openssl pkcs12` between the
//! sections, an `EC PARAMETERS` block before the key. All of that is read. What is something else altogether (DER, PKCS#12, a request,
//! a public key, UTF-16) is called by its name, because "no key found" costs an operator an afternoon.

use rustls_pki_types::PrivateKeyDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

const BOM: &[u8] = &[0xef, 0xbb, 0xbf];
/// Both byte orders of UTF-16, which Windows PowerShell's `>` writes.
const UTF16: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];

/// What belongs into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A private key.
    Key,
    /// A certificate.
    Certificate,
}

impl Wanted {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Key => "a private key",
            Self::Certificate => "a certificate",
        }
    }
}

/// What is in the file instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing at all.
    Nothing,
    /// A certificate.
    Certificate,
    /// A private key.
    Key,
    /// Half of a key pair that everybody may know.
    PublicKey,
    /// A signing request (PKCS#10).
    Request,
    /// A revocation list.
    RevocationList,
    /// Certificates as PKCS#7.
    Pkcs7,
    /// A key of OpenSSH's own format.
    OpenSsh,
    /// A key of the Digital Signature Algorithm.
    Dsa,
    /// Parameters of a curve without a key.
    Parameters,
    /// A certificate in OpenSSL's own trusted form.
    Trusted,
    /// A certificate in binary.
    DerCertificate,
    /// A private key in binary.
    DerKey,
    /// A signing request in binary.
    DerRequest,
    /// A PKCS#12 container.
    Pkcs12,
    /// Text of two bytes a character.
    Utf16,
}

impl Found {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Certificate => "a certificate",
            Self::Key => "a private key",
            Self::PublicKey => "a public key",
            Self::Request => "a certificate signing request",
            Self::RevocationList => "a revocation list",
            Self::Pkcs7 => "certificates as PKCS#7",
            Self::OpenSsh => "a key in OpenSSH's own format",
            Self::Dsa => "a DSA key",
            Self::Parameters => "the parameters of a curve without a key",
            Self::Trusted => "a certificate in OpenSSL's own trusted form",
            Self::DerCertificate => "a certificate in binary (DER)",
            Self::DerKey => "a private key in binary (DER)",
            Self::DerRequest => "a signing request in binary (DER)",
            Self::Pkcs12 => "a PKCS#12 container (.p12, .pfx)",
            Self::Utf16 => "text in UTF-16",
        }
    }

    pub(super) fn cure(self, wanted: Wanted, what: &str) -> String {
        match (self, wanted) {
            (Self::Certificate | Self::DerCertificate, Wanted::Key) => {
                "name the file with the key that this certificate was made for".to_owned()
            }
            (Self::Key | Self::DerKey, Wanted::Certificate) => {
                "name the file with the certificate, and keep the key's file private (chmod 600)".to_owned()
            }
            (Self::DerKey, Wanted::Key) => format!("convert it: openssl pkey -inform DER -in {what} -out KEY.pem"),
            (Self::DerCertificate, Wanted::Certificate) => {
                format!("convert it: openssl x509 -inform DER -in {what} -out CERTIFICATE.pem")
            }
            (Self::Trusted, _) => format!("convert it: openssl x509 -in {what} -out CERTIFICATE.pem"),
            (Self::Pkcs12, Wanted::Key) => {
                format!("take the key out: openssl pkcs12 -in {what} -nocerts -nodes -out KEY.pem")
            }
            (Self::Pkcs12, Wanted::Certificate) => {
                format!("take the certificates out: openssl pkcs12 -in {what} -nokeys -out CERTIFICATE.pem")
            }
            (Self::Pkcs7, _) => {
                format!("take the certificates out: openssl pkcs7 -print_certs -in {what} -out CERTIFICATE.pem")
            }
            (Self::Request | Self::DerRequest, Wanted::Certificate) => {
                "put the certificate there that the authority answered to this request".to_owned()
            }
            (Self::OpenSsh, _) => {
                "a key for SSH has no certificate; name the key that the certificate was made for".to_owned()
            }
            (Self::Utf16, _) => {
                format!("write it as plain text: iconv -f UTF-16 -t ASCII {what}, or copy the original file")
            }
            (_, Wanted::Key) => "name the file with the private key as PEM (-----BEGIN PRIVATE KEY-----)".to_owned(),
            (_, Wanted::Certificate) => {
                "name the file with the certificate as PEM (-----BEGIN CERTIFICATE-----)".to_owned()
            }
        }
    }
}

/// The text without a byte order mark and without blanks at either end of a line, as the PEM reader wants it.
pub(super) fn plain(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    for line in text.split(|b| matches!(b, b'\n' | b'\r')).map(<[u8]>::trim_ascii) {
        if !line.is_empty() {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
    out
}

/// Whether text follows the last section, which no reader looks at.
pub(super) fn has_stray_end(plain: &[u8]) -> bool {
    let mut lines = plain.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines.next_back().is_some_and(|last| !last.starts_with(b"-----END "))
}

/// Whether the file begins with a byte order mark.
pub(super) fn has_bom(text: &[u8]) -> bool {
    text.starts_with(BOM)
}

/// The labels of the sections of a [plain] text: `CERTIFICATE` of `-----BEGIN CERTIFICATE-----`.
pub(super) fn labels(plain: &[u8]) -> Vec<&str> {
    let lines = plain.split(|b| *b == b'\n');
    lines
        .filter_map(|l| l.strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----"))
        .filter_map(|label| std::str::from_utf8(label).ok())
        .collect()
}

/// Whether a label is that of a private key that can be read; `ENCRYPTED PRIVATE KEY` is not.
pub(super) fn is_key(label: &str) -> bool {
    matches!(label, "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY")
}

/// Names what is there when it is not what is wanted; `None` if it cannot be told.
pub(super) fn identify(text: &[u8], wanted: Wanted) -> Option<Found> {
    if text.trim_ascii().is_empty() {
        return Some(Found::Nothing);
    }
    if UTF16.iter().any(|bom| text.starts_with(bom)) {
        return Some(Found::Utf16);
    }
    let plain = plain(text);
    let named = labels(&plain).into_iter().filter_map(|label| match label {
        "CERTIFICATE" | "X509 CERTIFICATE" => Some(Found::Certificate),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Some(Found::PublicKey),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Some(Found::Request),
        "X509 CRL" => Some(Found::RevocationList),
        "PKCS7" | "CMS" => Some(Found::Pkcs7),
        "OPENSSH PRIVATE KEY" => Some(Found::OpenSsh),
        "DSA PRIVATE KEY" => Some(Found::Dsa),
        "TRUSTED CERTIFICATE" => Some(Found::Trusted),
        "EC PARAMETERS" => Some(Found::Parameters),
        label if is_key(label) || label == "ENCRYPTED PRIVATE KEY" => Some(Found::Key),
        _ => None,
    });
    let wrong = |found: &Found| {
        !matches!(
            (found, wanted),
            (Found::Key, Wanted::Key) | (Found::Certificate, Wanted::Certificate)
        )
    };
    // Parameters go before a key; alone they are worth naming.
    let (mut parameters, mut first) = (None, None);
    for found in named.filter(wrong) {
        if found == Found::Parameters {
            parameters = Some(found);
        } else {
            first = first.or(Some(found));
        }
    }
    first.or(parameters).or_else(|| binary(text))
}

/// Binary forms.
fn binary(der: &[u8]) -> Option<Found> {
    const SEQUENCE: u8 = 0x30;
    if der.first() != Some(&SEQUENCE) {
        return None;
    }
    if X509Certificate::from_der(der).is_ok() {
        return Some(Found::DerCertificate);
    }
    if X509CertificationRequest::from_der(der).is_ok() {
        return Some(Found::DerRequest);
    }
    // A PFX (RFC 7292 section 4) is version 3 and then a ContentInfo, whose OID begins 1.2.840.113549.1.7.
    const PFX: &[u8] = &[0x02, 0x01, 0x03, SEQUENCE];
    const PKCS7: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];
    let head = der.get(..32.min(der.len())).unwrap_or(der);
    let has = |needle: &[u8]| head.windows(needle.len()).any(|w| w == needle);
    if has(PFX) && has(PKCS7) {
        return Some(Found::Pkcs12);
    }
    PrivateKeyDer::try_from(der).is_ok().then_some(Found::DerKey)
}
