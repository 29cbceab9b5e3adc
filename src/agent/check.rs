//! `onyx-agent check`: looks at everything that can be looked at without a modem and without the network.
//!
//! A check is a value: which rung it belongs to, what was looked at, a verdict, and what to do. It is printed as text or JSON.

mod credentials;
mod places;

use std::path::Path;

use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::ladder::Rung;
use crate::clock::{Clock, rfc3339};
use crate::config::agent::AgentConfig;
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
    checks.extend(credentials::look(config, clock));
    if let Some(path) = &config.session.ca_file {
        checks.push(authorities(Rung::Session, "session.ca_file", path, clock));
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

fn authorities(rung: Rung, id: &'static str, path: &Path, clock: &Clock) -> Check {
    let what = path.display().to_string();
    let found = read_limited(path).and_then(|pem| Ok(tls::certificates(&pem, &what)?));
    let list = match found {
        Ok(list) => list,
        Err(e) => return check(rung, id, Verdict::Bad, e.what(), e.cure()),
    };
    let now = clock.now().map(|(now, _)| now);
    let expired = list.iter().filter(|der| {
        let leaf = tls::Leaf::read(der, &what).ok();
        leaf.zip(now).is_some_and(|(leaf, now)| now > leaf.not_after)
    });
    match expired.count() {
        0 => check(
            rung,
            id,
            Verdict::Good,
            format!("{what} holds {} authorities", list.len()),
            "",
        ),
        n => check(
            rung,
            id,
            if n == list.len() { Verdict::Bad } else { Verdict::Note },
            format!("{n} of {} authorities in {what} have expired", list.len()),
            "put the service's present authorities there",
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
