//! What a SIM and its operator share, and what both compute from it: the room between the simulated dongle and the simulated clouds.
//!
//! The virtual USIM in the dongle and the virtual HSS behind the key service hold the same K and OPc ([`Secrets`]) and count with the same
//! kind of sequence number ([`Sqn`]). They meet only by what goes over the wire: RAND, AUTN, RES and AUTS.
//!
//! - `secret`: K and OPc, which are read once, never printed and overwritten when dropped.
//! - [`aka`]: 3GPP authentication and key agreement (TS 33.102 section 6.3) with MILENAGE (TS 35.206).
//! - [`sqn`]: sequence numbers and who accepts which (TS 33.102 annex C).
//!
//! Without any option both sides have the test SIM of TS 35.208 test set 1. No operator's real key belongs here.

pub mod aka;
mod secret;
pub mod sqn;

use std::path::Path;
use std::str::FromStr;

use anyhow::Context;
use serde::{Deserialize, Deserializer};

pub use aka::{Amf, Secrets};
pub use secret::{K, Opc, SecretError};
pub use sqn::Sqn;

use crate::identity::Imsi;

/// K of 3GPP TS 35.208 section 4.3.1, test set 1.
pub const TEST_K: &str = "465b5ce8b199b49faa5f0a2ee238a6bc";
/// OPc of the same set.
pub const TEST_OPC: &str = "cd63cb71954a9f4e48a5994e37a02baf";
/// The authentication management field of the same set.
pub const TEST_AMF: Amf = Amf([0xb9, 0xb9]);

/// A SIM as its operator knows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sim {
    /// The subscriber; `None` leaves the number to the other options.
    #[serde(default, deserialize_with = "imsi")]
    pub imsi: Option<Imsi>,
    /// The subscriber key.
    pub k: K,
    /// The operator variant, derived with K.
    pub opc: Opc,
    /// The last sequence number that the HSS has given away and the USIM has accepted.
    #[serde(default)]
    pub sqn: Sqn,
    /// What the HSS writes into AUTN; the USIM takes any.
    #[serde(default = "test_amf")]
    pub amf: Amf,
}

fn test_amf() -> Amf {
    TEST_AMF
}

fn imsi<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Imsi>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Imsi::from_str(&text).map(Some).map_err(serde::de::Error::custom)
}

impl Default for Sim {
    /// The test SIM, for whatever number.
    fn default() -> Self {
        Self {
            imsi: None,
            k: K::test(),
            opc: Opc::test(),
            sqn: Sqn::default(),
            amf: TEST_AMF,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sim: Sim,
}

impl Sim {
    /// Reads the `[sim]` table of a SIM file.
    ///
    /// # Errors
    /// What is wrong, with line and column; never with the value of a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str::<File>(text).map(|f| f.sim).map_err(|e| {
            // The error's own Display quotes the line, and the line may hold a key.
            let place = e.span().map_or_else(String::new, |s| {
                let before = text.get(..s.start).unwrap_or_default();
                let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                format!("line {}, column {column}: ", before.matches('\n').count() + 1)
            });
            format!("{place}{}", e.message())
        })
    }

    /// Reads a SIM file.
    ///
    /// # Errors
    /// When it cannot be read or means nothing.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = zeroize::Zeroizing::new(
            std::fs::read_to_string(path).with_context(|| format!("cannot read the SIM file {}", path.display()))?,
        );
        Self::parse(&text)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("the SIM file {} is wrong", path.display()))
    }

    /// K and OPc, ready to compute with.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        Secrets::new(self.k.clone(), self.opc.clone())
    }
}

/// Options that both halves of the bench have.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct CardOptions {
    /// A SIM's secrets: TOML with [sim] imsi, k, opc (32 hexadecimal digits), sqn (12), amf (4); give dongle and clouds the same file.
    /// Without it: the test SIM of 3GPP TS 35.208 test set 1.
    #[arg(long = "sim", value_name = "FILE")]
    pub files: Vec<std::path::PathBuf>,
    /// The subscriber key K, for a SIM without file; other users of this machine can see it, so no real key here.
    #[arg(long, value_name = "HEX", requires = "sim_opc", conflicts_with = "files")]
    pub sim_k: Option<K>,
    /// The operator variant OPc that belongs to --sim-k.
    #[arg(long, value_name = "HEX", requires = "sim_k")]
    pub sim_opc: Option<Opc>,
}

impl CardOptions {
    /// The SIMs asked for: those of the files, or one from the options, or the test SIM.
    ///
    /// # Errors
    /// From [`Sim::read`].
    pub fn sims(&self) -> anyhow::Result<Vec<Sim>> {
        if let (Some(k), Some(opc)) = (&self.sim_k, &self.sim_opc) {
            return Ok(vec![Sim {
                k: k.clone(),
                opc: opc.clone(),
                ..Sim::default()
            }]);
        }
        if self.files.is_empty() {
            return Ok(vec![Sim::default()]);
        }
        self.files.iter().map(|path| Sim::read(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sim_file_is_read_and_its_keys_are_never_shown() {
        let text = format!(
            "[sim]\nimsi = '295012345678901'\nk = '{TEST_K}'\nopc = '{}'\nsqn = '000000000041'\namf = '8000'\n",
            TEST_OPC.to_uppercase()
        );
        let sim = Sim::parse(&text).unwrap();
        assert_eq!(sim.imsi.as_ref().unwrap().as_str(), "295012345678901");
        assert_eq!((sim.sqn.seq(), sim.sqn.ind()), (2, 1));
        assert_eq!(sim.amf, Amf([0x80, 0]));
        let shown = format!("{sim:?} {:?}", sim.secrets()).to_lowercase();
        assert!(!shown.contains("465b5c") && !shown.contains("cd63cb"), "{shown}");
        let least = format!("[sim]\nk = '{TEST_K}'\nopc = '{TEST_OPC}'\n");
        assert!(Sim::parse(&least).unwrap().imsi.is_none());
    }

    #[test]
    fn mistakes_have_a_place_and_do_not_tell_the_key() {
        let almost = &TEST_K[..31];
        for (text, wanted) in [
            (
                format!("[sim]\nk = '{almost}'\nopc = '{TEST_OPC}'\n"),
                "line 2, column 5: K has 31",
            ),
            (format!("[sim]\nk = '{almost}x'\n"), "character 32"),
            (format!("[sim]\nk = '{TEST_K}'\n"), "opc"),
            (
                format!("[sim]\nk = '{TEST_K}'\nopc = '{TEST_OPC}'\nsqn = '1'\n"),
                "12 hexadecimal",
            ),
            (
                format!("[sim]\nk = '{TEST_K}'\nopc = '{TEST_OPC}'\namf = 'b9'\n"),
                "4 hexadecimal",
            ),
            (
                format!("[sim]\nk = '{TEST_K}'\nopc = '{TEST_OPC}'\nop = '00'\n"),
                "line 4, column 1",
            ),
            (
                format!("[sim]\nimsi = 'x'\nk = '{TEST_K}'\nopc = '{TEST_OPC}'\n"),
                "IMSI",
            ),
        ] {
            let e = Sim::parse(&text).unwrap_err();
            assert!(e.contains(wanted) && !e.contains(almost), "{e}");
        }
    }

    #[test]
    fn the_default_is_the_test_sim() {
        let sim = Sim::default();
        assert_eq!(sim.k.bytes()[..], aka::tests::hex(TEST_K)[..]);
        assert_eq!(sim.opc.bytes()[..], aka::tests::hex(TEST_OPC)[..]);
        let options = CardOptions {
            sim_k: Some("00112233445566778899aabbccddeeff".parse().unwrap()),
            sim_opc: Some(TEST_OPC.parse().unwrap()),
            ..CardOptions::default()
        };
        assert_eq!(options.sims().unwrap()[0].k.bytes()[1], 0x11);
        assert_eq!(CardOptions::default().sims().unwrap()[0].k.bytes(), sim.k.bytes());
    }
}
