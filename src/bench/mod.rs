//! The bench: a simulated dongle, carrier and clouds, so that everything runs on a laptop without a SIM or an account.

pub mod clouds;
pub mod demo;
pub mod dongle;
pub mod load;
pub mod man;
pub mod subscriber;
