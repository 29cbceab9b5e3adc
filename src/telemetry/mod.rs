//! What the device has to say: measurements, and the disk they wait on until a cloud has acknowledged them.
//!
//! The way of a sample: [`sources`] measure → [`Sample`] → [`spool`] (durable, numbered) → [`sample::stamp`] puts the number on it →
//! session → PUBACK → [`spool::Spool::ack`]. No other queue holds data: what is in flight is still in the spool.

pub mod sample;
pub mod sources;
pub mod spool;

pub use sample::{HostReading, ModemReading, Sample};
pub use spool::{Seq, Spool, SpoolError, SpoolHandle, SpoolId};
