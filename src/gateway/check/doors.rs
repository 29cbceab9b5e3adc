//! The files of the doors: certificates and keys of those with TLS, the API's token, and the authority that gives out credentials. Wherever
//! the gateway knows its devices from, a mistake here keeps it from starting or everybody out.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{EXPIRY_WARNING, Finding, Level, finding};
use crate::clock::{Clock, rfc3339};
use crate::files::read_small;
use crate::gateway::book::FILE_MAX;
use crate::gateway::ca::{Place, Who};
use crate::gateway::config::{ApiConfig, AzurePlace, Config, ListenTls, ProvisioningConfig};
use crate::gateway::listener::DoorTls;
use crate::gateway::listener::http::plain_warning;
use crate::gateway::provisioning::Provisioning;
use crate::gateway::subscriber::{TOKEN_MAX, TOKEN_MIN, Token, TokenError};
use crate::tls::{self, Identity, Leaf, Pem};

/// How long a host may take to answer when it is asked to.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);
/// Port of the clouds' MQTT over TLS (IANA: `secure-mqtt`).
const MQTTS: u16 = 8_883;
/// Port of the provisioning service.
const HTTPS: u16 = 443;
/// What to do about a certificate that ends.
const NEW_SERVER: &str =
    "make a new one with 'onyx-gateway ca server', or get one from your authority; a reload takes it";

/// The ids of a door's findings.
struct Ids {
    section: &'static str,
    certificate: &'static str,
    key: &'static str,
    client_ca: &'static str,
}

const LISTEN: Ids = Ids {
    section: "listen.tls",
    certificate: "listen.tls.certificate",
    key: "listen.tls.key",
    client_ca: "listen.tls.client_ca",
};
const PROVISIONING: Ids = Ids {
    section: "provisioning",
    certificate: "provisioning.certificate",
    key: "provisioning.key",
    client_ca: "provisioning.client_ca",
};

/// Looks at all doors. `reach`: hosts that devices are sent to are called as well.
pub(super) fn check(config: &Config, clock: &Clock, reach: bool) -> Vec<Finding> {
    let mut out = Vec::new();
    if let Some(settings) = &config.listen.tls {
        door(&LISTEN, settings, clock, &mut out);
    }
    if let Some(settings) = &config.api {
        api(settings, &mut out);
    }
    if let Some(settings) = &config.provisioning {
        provisioning(settings, clock, &mut out);
        if reach {
            out.extend(hosts(settings).iter().map(|host| called(host)));
        }
    }
    out
}

/// A message that ends in its cure, apart.
fn told(level: Level, id: &'static str, text: &str) -> Finding {
    match text.split_once("; ") {
        Some((message, cure)) => finding(level, id, message).cured(cure),
        None => finding(level, id, text),
    }
}

fn read(id: &'static str, path: &Path, cure: &str, out: &mut Vec<Finding>) -> Option<Zeroizing<Vec<u8>>> {
    match read_small(path, FILE_MAX) {
        Ok(bytes) => Some(Zeroizing::new(bytes)),
        Err(e) => {
            let message = format!("cannot read {}: {e}", path.display());
            out.push(finding(Level::Error, id, message).cured(cure));
            None
        }
    }
}

/// Whether others may read a file that they should not.
fn mode(id: &'static str, path: &Path, out: &mut Vec<Finding>) {
    let Ok(meta) = std::fs::metadata(path) else { return };
    let mode = meta.permissions().mode() & 0o777;
    let shown = path.display();
    out.push(if mode & 0o077 == 0 {
        finding(
            Level::Ok,
            id,
            format!("{shown} is for its owner alone (mode {mode:03o})"),
        )
    } else {
        let message = format!("{shown} may be read by others (mode {mode:03o})");
        finding(Level::Warning, id, message).cured(format!("run 'chmod 600 {shown}'"))
    });
}

/// How many days are left.
fn left(id: &'static str, what: &str, (from, until): (Duration, Duration), clock: &Clock, cure: &str) -> Finding {
    let end = rfc3339(until);
    match clock.now().map(|(now, _)| now) {
        None => finding(
            Level::Warning,
            id,
            format!("{what} is valid until {end}; whether that is past, nobody can tell"),
        )
        .cured("set this machine's clock"),
        Some(now) if now > until => finding(Level::Error, id, format!("{what} expired at {end}")).cured(cure),
        Some(now) if now < from => {
            let message = format!("{what} is valid from {} only", rfc3339(from));
            finding(Level::Error, id, message).cured("set this machine's clock, or get another one")
        }
        Some(now) => {
            let rest = until - now;
            let message = format!("{what} has {} days left, until {end}", rest.as_secs() / 86_400);
            if rest < EXPIRY_WARNING {
                finding(Level::Warning, id, message).cured(cure)
            } else {
                finding(Level::Ok, id, message)
            }
        }
    }
}

fn door(ids: &Ids, settings: &ListenTls, clock: &Clock, out: &mut Vec<Finding>) {
    let before = out.len();
    let missing =
        "make certificate and key with 'onyx-gateway ca server', or name files that the gateway's user may read";
    let certificate = read(ids.certificate, &settings.certificate, missing, out);
    let key = read(ids.key, &settings.key, missing, out);
    if let (Some(certificate), Some(key)) = (certificate, key) {
        let (shown, key_shown) = (settings.certificate.display(), settings.key.display());
        let (from, key_from) = (shown.to_string(), key_shown.to_string());
        let pem = |text, from| Pem { text, from };
        match Identity::of(pem(&certificate[..], &from), pem(&key[..], &key_from)) {
            Ok(identity) => {
                let message = format!("{shown} and {key_shown} fit each other");
                out.push(finding(Level::Ok, ids.certificate, message));
                let validity = (identity.leaf.not_before, identity.leaf.not_after);
                out.push(left(ids.certificate, &from, validity, clock, NEW_SERVER));
            }
            Err(e) => {
                out.push(finding(Level::Error, ids.certificate, e.to_string()).cured(
                    "name the certificate (then its intermediates) and the key that was made for it, both as PEM",
                ))
            }
        }
        mode(ids.key, &settings.key, out);
    }
    if let Some(path) = &settings.client_ca {
        client_ca(ids.client_ca, path, clock, out);
    }
    // What the start would stumble over besides.
    if out.iter().skip(before).all(|f| f.level != Level::Error) {
        if let Err(why) = DoorTls::read(ids.section, settings, clock) {
            out.push(finding(Level::Error, ids.certificate, why).cured("put it right; the gateway does not start so"));
        }
    }
}

/// The authorities of devices' certificates: all that are there, and the first that ends.
fn client_ca(id: &'static str, path: &Path, clock: &Clock, out: &mut Vec<Finding>) {
    let cure = "name a PEM file with the authorities that signed the devices' certificates";
    let Some(pem) = read(id, path, cure, out) else { return };
    let what = path.display().to_string();
    let leaves = tls::roots(&pem, &what)
        .and_then(|_| tls::certificates(&pem, &what))
        .and_then(|list| {
            list.iter()
                .map(|der| Leaf::read(der, &what))
                .collect::<Result<Vec<_>, _>>()
        });
    let leaves = match leaves {
        Ok(leaves) => leaves,
        Err(e) => return out.push(finding(Level::Error, id, e.to_string()).cured(cure)),
    };
    let Some(first) = leaves.iter().min_by_key(|leaf| leaf.not_after) else {
        return;
    };
    let name = first.common_name.as_deref().unwrap_or("one without a name");
    let text = match leaves.len() {
        1 => format!("the authority {name:?} in {what}"),
        n => format!("of {n} authorities in {what} the first to end, {name:?},"),
    };
    let cure = "add its successor, and issue new certificates to its devices: they are refused when it ends";
    let validity = (first.not_before, first.not_after);
    let mut found = left(id, &text, validity, clock, cure);
    if leaves.len() > 1 && found.level == Level::Error {
        // The others still let their devices in.
        found.level = Level::Warning;
    }
    out.push(found);
}

/// As the start says it.
fn plain(id: &'static str, section: &str, address: SocketAddr, out: &mut Vec<Finding>) {
    out.extend(plain_warning(section, address).map(|why| told(Level::Warning, id, &why)));
}

fn api(settings: &ApiConfig, out: &mut Vec<Finding>) {
    let id = "api.token_file";
    let path = settings.token_file.display();
    let make = format!("make one: (umask 077; openssl rand -hex 32 > {path})");
    out.push(match Token::read(&settings.token_file) {
        Ok(_) => finding(
            Level::Ok,
            id,
            format!("{path} is there, for its owner alone, and long enough"),
        ),
        Err(TokenError::Unreadable { source, .. }) => {
            finding(Level::Error, id, format!("cannot read {path}: {source}")).cured(make)
        }
        Err(TokenError::Exposed { mode, .. }) => {
            let message = format!("{path} may be read by others (mode {mode:03o})");
            finding(Level::Error, id, message).cured(format!("run 'chmod 600 {path}'; if others have read it, {make}"))
        }
        Err(TokenError::Size { size, .. }) => {
            let message = format!("the token in {path} has {size} bytes; it must have {TOKEN_MIN} to {TOKEN_MAX}");
            finding(Level::Error, id, message).cured(make)
        }
        Err(e @ TokenError::Twice { .. }) => finding(Level::Error, id, e.to_string()).cured(make),
    });
    plain("api.address", "api", settings.address, out);
}

fn provisioning(settings: &ProvisioningConfig, clock: &Clock, out: &mut Vec<Finding>) {
    match &settings.tls {
        Some(tls) => door(&PROVISIONING, tls, clock, out),
        None => plain("provisioning.address", "provisioning", settings.address, out),
    }
    let id = "provisioning.ca";
    let signer = Place::open(&settings.ca).and_then(|place| place.signer(Who::Intermediate));
    let signer = match signer {
        Ok(signer) => signer,
        Err(e) => return out.push(told(Level::Error, id, &format!("{e:#}"))),
    };
    let shown = settings.ca.join("intermediate.pem").display().to_string();
    out.push(finding(Level::Ok, id, format!("{shown} and its key fit each other")));
    let validity = signer.validity();
    let cure = "make a new authority ('onyx-gateway ca init' in a new folder), and register it with the cloud before this one ends";
    out.push(left(id, &shown, (validity.from, validity.until), clock, cure));
    mode(id, &settings.ca.join("intermediate.key"), out);
    // What devices are told to trust, and the authorities of DPS.
    if let Err(why) = Provisioning::open(settings, clock) {
        out.push(finding(Level::Error, "provisioning", why).cured("name a PEM file, or remove the key"));
    }
}

/// Where devices, or the gateway for them, will call.
fn hosts(settings: &ProvisioningConfig) -> Vec<String> {
    let azure = settings.azure.as_ref().map(|azure| match &azure.place {
        AzurePlace::Host(host) => format!("{host}:{MQTTS}"),
        AzurePlace::Dps { service, .. } => match service.address {
            Some(address) => address.to_string(),
            None => format!("{}:{HTTPS}", service.host),
        },
    });
    let aws = settings.aws.as_ref().map(|aws| format!("{}:{MQTTS}", aws.host));
    azure.into_iter().chain(aws).collect()
}

/// Whether somebody takes a connection there.
fn called(host: &str) -> Finding {
    let id = "provisioning.reach";
    let (tell, told) = mpsc::channel();
    let target = host.to_owned();
    // A resolver that hangs has no time limit of its own; its thread ends with this program.
    std::thread::spawn(move || {
        let answered = target.to_socket_addrs().and_then(|list| {
            let mut last = std::io::Error::other("the name has no address");
            for address in list {
                match TcpStream::connect_timeout(&address, REACH_TIMEOUT) {
                    Ok(_) => return Ok(address),
                    Err(e) => last = e,
                }
            }
            Err(last)
        });
        let _ = tell.send(answered);
    });
    let cure = "see DNS, routes and firewalls, and whether the name is right";
    match told.recv_timeout(2 * REACH_TIMEOUT) {
        Ok(Ok(address)) => finding(Level::Ok, id, format!("{host} answers, at {address}")),
        Ok(Err(e)) => finding(Level::Error, id, format!("{host} cannot be reached: {e}")).cured(cure),
        Err(_) => {
            let message = format!("{host} did not answer within {} s", 2 * REACH_TIMEOUT.as_secs());
            finding(Level::Error, id, message).cured(cure)
        }
    }
}
