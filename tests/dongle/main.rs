//! The simulated dongle on its pseudo-terminal, driven from outside: by `chat` (of Debian's package ppp, the program that has dialled modems for
//! decades), by plain reads and writes, and as a program of its own.
#![cfg(feature = "bench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod chat;
mod peer;
mod port;
mod program;
