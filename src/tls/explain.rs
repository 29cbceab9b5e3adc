//! What went wrong in a handshake, for people.

/// Server names the certificate must carry and the time by our clock, in one sentence for people, with what to do.
#[must_use]
pub fn explain(error: &rustls::Error, host: &str) -> (String, String) {
    use rustls::CertificateError as C;
    let cure = match error {
        rustls::Error::InvalidCertificate(c) => match c {
            C::UnknownIssuer => {
                "the server's certificate is not signed by an authority we trust: check the CA file, and that this is the right server"
            }
            C::Expired | C::ExpiredContext { .. } => {
                "the server's certificate has expired, or this machine's clock is ahead"
            }
            C::NotValidYet | C::NotValidYetContext { .. } => {
                "this machine's clock is behind: wait for network time or NTP"
            }
            C::NotValidForName | C::NotValidForNameContext { .. } => {
                "the server's certificate is for another name: check the host"
            }
            _ => "look at the server with 'openssl s_client -connect HOST:PORT -servername HOST'",
        },
        e if refuses_our_certificate(e) => {
            "the server refuses our certificate: is its CA registered there, and the device enabled?"
        }
        rustls::Error::AlertReceived(alert) => {
            use rustls::AlertDescription as A;
            match alert {
                A::ProtocolVersion => "the server wants another TLS version: see session.tls",
                A::NoApplicationProtocol => "the server refuses the application protocol (ALPN): check the port",
                A::UnrecognisedName => "the server does not know this host name: check the host",
                _ => "look into the server's log for the reason",
            }
        }
        rustls::Error::InvalidMessage(_) => "this port does not speak TLS: check host and port",
        rustls::Error::FailedToGetCurrentTime => "nobody knows what time it is: wait for network time or NTP",
        _ => "try 'openssl s_client -connect HOST:PORT -servername HOST' for details",
    };
    (format!("TLS with {host}: {error}"), cure.to_owned())
}

/// Whether the far side's TLS alert is about our certificate: then other credentials may help, and waiting will not.
#[must_use]
pub fn refuses_our_certificate(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as A;
    matches!(
        error,
        rustls::Error::AlertReceived(
            A::UnknownCA
                | A::BadCertificate
                | A::CertificateUnknown
                | A::CertificateExpired
                | A::CertificateRevoked
                | A::AccessDenied
                | A::CertificateRequired
                | A::DecryptError
        )
    )
}
