//! The link that somebody else keeps up. With an interface named, it must exist, be up and have an address; without one, the
//! system's routes are taken as they are.

use std::path::{Path, PathBuf};

use super::{BoxFuture, Link, LinkFault, Via};

/// See the module.
#[derive(Debug)]
pub struct External {
    interface: Option<String>,
    sysfs: PathBuf,
}

impl External {
    /// A link through `interface`, or through whatever routes there are.
    #[must_use]
    pub fn new(interface: Option<String>) -> Self {
        Self {
            interface,
            sysfs: PathBuf::from("/sys/class/net"),
        }
    }

    fn look(&self) -> Result<Via, LinkFault> {
        let Some(name) = &self.interface else {
            return Ok(Via::default());
        };
        let fault = |cause: String, cure: &str| LinkFault {
            cause,
            cure: cure.to_owned(),
        };
        let state = std::fs::read_to_string(Path::join(&self.sysfs, name).join("operstate")).map_err(|_| {
            fault(
                format!("there is no network interface {name}"),
                "'ip link' lists those that are there: name the dongle's under link.interface; the README says who can bring it up",
            )
        })?;
        // PPP and some USB network drivers never say "up": "unknown" is their up (kernel, Documentation/networking/operstates).
        if !matches!(state.trim(), "up" | "unknown") {
            return Err(fault(
                format!("the interface {name} is {}", state.trim()),
                "its owner (NetworkManager, pppd, systemd-networkd) must bring it up: look at that one's log",
            ));
        }
        let has_address = nix::ifaddrs::getifaddrs().is_ok_and(|list| {
            list.filter(|i| i.interface_name == *name)
                .filter_map(|i| i.address)
                .any(|a| {
                    a.as_sockaddr_in().is_some() || a.as_sockaddr_in6().is_some_and(|a| !a.ip().is_unicast_link_local())
                })
        });
        if !has_address {
            return Err(fault(
                format!("the interface {name} has no IP address"),
                "look at the APN (soracom.io, or du.soracom.io for plan-DU) and the connection's log",
            ));
        }
        Ok(Via {
            interface: Some(name.clone()),
        })
    }
}

impl Link for External {
    fn climb(&mut self) -> BoxFuture<'_, Result<Via, LinkFault>> {
        Box::pin(async move { self.look() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loopback_interface_holds_and_a_missing_one_is_named() {
        assert_eq!(External::new(None).climb().await, Ok(Via::default()));
        let via = External::new(Some("lo".into())).climb().await.unwrap();
        assert_eq!(via.interface.as_deref(), Some("lo"));
        let fault = External::new(Some("wwan9".into())).climb().await.unwrap_err();
        assert!(fault.cause.contains("no network interface wwan9"), "{fault}");
    }

    #[tokio::test]
    async fn an_interface_that_is_down_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("wwan0")).unwrap();
        std::fs::write(dir.path().join("wwan0/operstate"), "down\n").unwrap();
        let mut link = External {
            interface: Some("wwan0".into()),
            sysfs: dir.path().to_owned(),
        };
        assert!(link.climb().await.unwrap_err().cause.contains("wwan0 is down"));
    }
}
