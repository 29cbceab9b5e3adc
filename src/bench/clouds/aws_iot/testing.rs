//! An account for unit tests, with certificates that are real.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::registry::{Registration, Registry, Status};
use super::{Aws, defaults};
use crate::bench::clouds::authority::Ca;
use crate::bench::clouds::backend::{Backend, Now};
use crate::bench::clouds::policy::aws_iot::AwsIot;
use crate::bench::clouds::policy::{Peer, Policy, Session};
use crate::clock::Clock;
use crate::tls::certificates;

pub(crate) const HOST: &str = "onyx-ats.iot.ap-northeast-1.amazonaws.com";

/// An account, its broker's rules and the bench's authority.
pub(crate) struct Account {
    pub(crate) aws: Arc<Aws>,
    pub(crate) policy: AwsIot,
    pub(crate) ca: Arc<Ca>,
    _dir: tempfile::TempDir,
}

pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    certificates(pem.as_bytes(), "test").unwrap().remove(0)
}

/// Some time on the monotonic clock, and now on the other.
pub(crate) fn at(ms: u64) -> Now {
    Now {
        monotonic: Duration::from_millis(ms),
        wall: Clock::new().system(),
    }
}

impl Account {
    pub(crate) fn new(topics: &[&str]) -> Self {
        Self::with(topics, Registration::AtOnce)
    }

    /// What becomes of unknown certificates of the authority is `registration`.
    pub(crate) fn with(topics: &[&str], registration: Registration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::open(dir.path(), Clock::new()).unwrap());
        let mut registry = Registry::new(HOST);
        let topics: Vec<String> = topics.iter().map(|t| (*t).to_owned()).collect();
        defaults::bring(&mut registry, &topics).unwrap();
        registry
            .add_authority(der(&ca.intermediate_pem()), registration)
            .unwrap();
        let aws = Arc::new(Aws::new(Arc::clone(&ca), registry));
        Self {
            policy: AwsIot::new(HOST.into(), Arc::clone(&aws)),
            aws,
            ca,
            _dir: dir,
        }
    }

    /// A device with a certificate of the bench's authority.
    pub(crate) fn peer(&self, cn: &str) -> Peer {
        Peer {
            chain: vec![der(&self.ca.device(cn).unwrap().leaf_pem)],
            ..crate::bench::clouds::policy::testing::peer(cn)
        }
    }

    /// A device that is connected.
    pub(crate) fn session(&self, cn: &str, client_id: &str) -> Session {
        let peer = self.peer(cn);
        let (_, greeted) = self.aws.greet(&peer, at(0));
        greeted.unwrap();
        let connect = crate::bench::clouds::policy::testing::connect(client_id, Some("?SDK=x"));
        self.policy.connect(&peer, &connect).unwrap()
    }

    /// A certificate in this state.
    pub(crate) fn in_state(&self, cn: &str, status: Status) -> Peer {
        let peer = self.peer(cn);
        let wall = at(0).wall;
        self.aws
            .registry(|r| r.register(&peer.chain[0], status, None, wall))
            .unwrap();
        peer
    }
}

impl Account {
    /// A device that was greeted and has not sent CONNECT yet.
    pub(crate) fn greeted(&self, cn: &str) -> Peer {
        let peer = self.peer(cn);
        self.aws.greet(&peer, at(0)).1.unwrap();
        peer
    }
}
