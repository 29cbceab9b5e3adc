//! `onyx-agent check`: looks at everything that can be looked at without a modem and without the network.
//!
//! A check is a value: which rung it belongs to, what was looked at, a verdict, and what to do. It is printed as text or JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::ladder::Rung;
use crate::clock::{Clock, rfc3339};
use crate::config::agent::{AgentConfig, CredentialsConfig};
use crate::identity::{NameTemplate, redact_digits};
use crate::provision::operator::read_limited;
use crate::tls;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, but look at it.
    Note,
    /// It will not work.
    Bad,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Which rung needs it.
    pub rung: &'static str,
    /// Stable name, for scripts.
    pub id: &'static str,
    /// What was found.
    pub verdict: Verdict,
    /// In words.
    pub found: String,
    /// What to do; empty when good.
    pub cure: String,
}

fn check(rung: Rung, id: &'static str, verdict: Verdict, found: impl Into<String>, cure: impl Into<String>) -> Check {
    Check {
        rung: rung.word(),
        id,
        verdict,
        found: found.into(),
        cure: cure.into(),
    }
}

/// All checks of a configuration, in the order of the rungs.
#[must_use]
pub fn all(config: &AgentConfig, clock: &Clock) -> Vec<Check> {
    let mut checks = vec![port(&config.modem.port)];
    if let Some(path) = &config.sim.pin_file {
        checks.push(secret(Rung::Sim, "sim.pin_file", path));
    }
    if let Some(interface) = &config.link.interface {
        let there = Path::new("/sys/class/net").join(interface).exists();
        checks.push(if there {
            check(
                Rung::Link,
                "link.interface",
                Verdict::Good,
                format!("the interface {interface} is there"),
                "",
            )
        } else {
            check(
                Rung::Link,
                "link.interface",
                Verdict::Note,
                format!("there is no network interface {interface} now"),
                "it may come with the dongle; 'ip link' lists those that are there",
            )
        });
    }
    checks.push(time(clock));
    checks.extend(credentials(config, clock));
    if let Some(path) = &config.session.ca_file {
        checks.push(authorities(Rung::Session, "session.ca_file", path));
    }
    if let Some(path) = &config.session.password_file {
        checks.push(secret(Rung::Session, "session.password_file", path));
    }
    checks.push(directory(&config.state_dir));
    checks
}

/// A serial port that is not there is only a note: the dongle may be unplugged, and this check promises to need none.
fn port(path: &Path) -> Check {
    let found = path.display();
    if !path.exists() {
        return check(
            Rung::Modem,
            "modem.port",
            Verdict::Note,
            format!("{found} is not there"),
            "plug the dongle in; install systemd/70-onyx.rules, which makes /dev/onyx-at, or name the port of USB interface 2",
        );
    }
    if access(path, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
        return check(
            Rung::Modem,
            "modem.port",
            Verdict::Bad,
            format!("{found} may not be opened by this user"),
            "run as the service's user, or add the user to the group dialout",
        );
    }
    check(
        Rung::Modem,
        "modem.port",
        Verdict::Good,
        format!("{found} is there and may be opened"),
        "",
    )
}

fn time(clock: &Clock) -> Check {
    let view = clock.view();
    match view.now {
        Some((now, _)) => check(
            Rung::Clock,
            "clock",
            Verdict::Good,
            format!("{} ({})", rfc3339(now), view.why()),
            "",
        ),
        None => check(
            Rung::Clock,
            "clock",
            Verdict::Note,
            view.why(),
            "the agent will wait for the network's time or NTP before TLS",
        ),
    }
}

fn credentials(config: &AgentConfig, clock: &Clock) -> Vec<Check> {
    let id = "credentials.files";
    match &config.credentials {
        CredentialsConfig::None => Vec::new(),
        CredentialsConfig::Dps(_) | CredentialsConfig::Fleet(_) => Vec::new(),
        CredentialsConfig::Krypton(k) => k
            .ca_file
            .iter()
            .map(|path| authorities(Rung::Credentials, "credentials.ca_file", path))
            .collect(),
        CredentialsConfig::Files(files) => {
            let fixed = |t: &NameTemplate| (!t.is_individual()).then(|| PathBuf::from(t.source()));
            let (Some(certificate), Some(key)) = (fixed(&files.certificate), fixed(&files.key)) else {
                return vec![check(
                    Rung::Credentials,
                    id,
                    Verdict::Note,
                    "the paths depend on the SIM, so they are looked at when it is read",
                    "",
                )];
            };
            vec![
                pair(&certificate, &key, clock),
                secret(Rung::Credentials, "credentials.key", &key),
            ]
        }
    }
}

fn pair(certificate: &Path, key: &Path, clock: &Clock) -> Check {
    let id = "credentials.files";
    let bad = |found: String| {
        check(
            Rung::Credentials,
            id,
            Verdict::Bad,
            found,
            "put a valid certificate and its key there",
        )
    };
    let what = format!("{} and {}", certificate.display(), key.display());
    let (chain, key) = match (read_limited(certificate), read_limited(key)) {
        (Ok(chain), Ok(key)) => (chain, zeroize::Zeroizing::new(key)),
        (Err(e), _) | (_, Err(e)) => return bad(e.to_string()),
    };
    let leaf = match tls::Identity::from_pem(&chain, &key, &what) {
        Ok(identity) => identity.leaf,
        Err(e) => return bad(e.to_string()),
    };
    let name = redact_digits(leaf.common_name.as_deref().unwrap_or("nobody"));
    let until = rfc3339(leaf.not_after);
    let now = clock.now().map(|(t, _)| t);
    if now.is_some_and(|now| now > leaf.not_after) {
        return bad(format!("the certificate of {name} expired on {until}"));
    }
    if leaf.is_v1 {
        return check(
            Rung::Credentials,
            id,
            Verdict::Note,
            format!("the certificate of {name}, valid until {until}, is X.509 version 1"),
            "it is presented as it is; sign it with extensions (openssl x509 -req … -extfile FILE) to please every server",
        );
    }
    if now.is_some_and(|now| leaf.not_after.saturating_sub(now) < Duration::from_secs(14 * 86_400)) {
        return check(
            Rung::Credentials,
            id,
            Verdict::Note,
            format!("the certificate of {name} is valid only until {until}"),
            "renew it",
        );
    }
    check(
        Rung::Credentials,
        id,
        Verdict::Good,
        format!("key and certificate of {name} fit; valid until {until}"),
        "",
    )
}

fn authorities(rung: Rung, id: &'static str, path: &Path) -> Check {
    let what = path.display().to_string();
    let found = read_limited(path)
        .map_err(|e| e.to_string())
        .and_then(|pem| tls::certificates(&pem, &what).map_err(|e| e.to_string()));
    match found {
        Ok(list) => check(
            rung,
            id,
            Verdict::Good,
            format!("{what} holds {} authorities", list.len()),
            "",
        ),
        Err(why) => check(
            rung,
            id,
            Verdict::Bad,
            why,
            "put the authority's certificate there as PEM",
        ),
    }
}

/// A file that nobody else should read.
fn secret(rung: Rung, id: &'static str, path: &Path) -> Check {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(path) {
        Err(e) => check(
            rung,
            id,
            Verdict::Bad,
            format!("cannot read {}: {e}", path.display()),
            "put the file there",
        ),
        Ok(m) if m.permissions().mode() & 0o077 != 0 => check(
            rung,
            id,
            Verdict::Note,
            format!(
                "{} may be read by others (mode {:o})",
                path.display(),
                m.permissions().mode() & 0o777
            ),
            format!("chmod 600 {}", path.display()),
        ),
        Ok(_) => check(rung, id, Verdict::Good, format!("{} is private", path.display()), ""),
    }
}

fn directory(path: &Path) -> Check {
    let nearest = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    if access(nearest, AccessFlags::W_OK).is_ok() {
        check(
            Rung::Delivery,
            "state_dir",
            Verdict::Good,
            format!("{} can be written", path.display()),
            "",
        )
    } else {
        check(
            Rung::Delivery,
            "state_dir",
            Verdict::Bad,
            format!("{} cannot be written by this user", path.display()),
            "run as the service's user; systemd's StateDirectory= makes it",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_that_would_fail_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        std::fs::write(dir.path().join("cert.pem"), "not PEM").unwrap();
        std::fs::write(dir.path().join("key.pem"), "not PEM").unwrap();
        let text = format!(
            "client_authname='a-#{{imsi}}'\nstate_dir='{d}'\n[modem]\nport='{d}/tty'\n[credentials]\nsource='files'\n\
             certificate='{d}/cert.pem'\nkey='{d}/key.pem'\n[session]\nto='event-grid'\nhost='x.example'\nca_file='{d}/ca.pem'\n"
        );
        let config = AgentConfig::parse(Path::new("agent.toml"), &text).unwrap();
        let checks = all(&config, &Clock::new());
        let verdict = |id: &str| checks.iter().find(|c| c.id == id).map(|c| c.verdict);
        assert_eq!(verdict("modem.port"), Some(Verdict::Note), "no modem is needed");
        assert_eq!(verdict("credentials.files"), Some(Verdict::Bad));
        assert_eq!(verdict("session.ca_file"), Some(Verdict::Bad));
        assert_eq!(verdict("state_dir"), Some(Verdict::Good));
        assert!(
            checks
                .iter()
                .filter(|c| c.verdict == Verdict::Bad)
                .all(|c| !c.cure.is_empty())
        );
    }
}
