//! The doors for those who speak HTTP: one for people and programs (`[api]`), one for devices (`[provisioning]`).
//!
//! | file | what it answers | door |
//! |---|---|---|
//! | `soracom` | SORACOM's API for groups, credentials and subscribers | api |
//! | `metrics` | `/metrics` for Prometheus | api |
//! | `page` | the page for people and the JSON behind it | api |
//! | `provisioning` | what Krypton answers | provisioning |
//!
//! Each is an [`axum::Router`] over [`App`]; this file puts them together, behind the token (`auth`), and serves them within bounds.

pub mod metrics;
pub mod page;

use std::sync::Arc;

use super::book::Book;
use super::reload::Reload;
use super::status::Status;
use crate::clock::Clock;

/// What all answers are made from.
#[derive(Debug)]
pub struct App {
    /// Who may connect.
    pub book: Arc<Book>,
    /// What goes on.
    pub status: Arc<Status>,
    /// To read the configuration again.
    pub reload: Reload,
    /// What time it is.
    pub clock: Clock,
}
