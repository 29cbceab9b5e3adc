//! Configuration files: read whole at start, every mistake in one report, each with file, line and column.
//!
//! serde stops at the first mistake and loses positions on the way, so [`reader`] walks the parsed TOML itself: each schema asks for
//! the keys it knows, gets a value or a default, and goes on; what nobody asked for is reported as unknown. The schemas of
//! `agent.toml` and `gateway.toml` are in [`agent`] and in the gateway's room.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(any(feature = "agent", feature = "gateway"))]
pub mod credentials;
pub mod reader;
pub mod units;

pub use reader::{ConfigError, Mistake, Reader, Section};
