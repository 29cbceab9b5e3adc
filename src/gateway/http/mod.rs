//! The door for people and programs that speak HTTP (`[api]`). That for devices is in [`super::provisioning`].
//!
//! | file | what it answers |
//! |---|---|
//! | `auth`, `error` | the token, foreign pages; refusals as JSON |
//! | `soracom` | SORACOM's API for groups, credentials and subscribers |
//! | `metrics` | `/metrics` for Prometheus |
//! | `page` | the page for people and the JSON behind it |
//!
//! Each is an [`axum::Router`] over [`App`]; this file puts them together, behind the token (`auth`), and serves them within bounds.

pub mod auth;
pub mod error;
pub mod metrics;
pub mod page;
mod soracom;

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::routing::post;
use axum::{Extension, Router};

use auth::Gate;
use error::ApiError;

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

/// What the door `[api]` answers. The door adds the caller's address (`ConnectInfo`), by which guesses are counted,
/// and its bounds.
pub fn router(app: Arc<App>, gate: Arc<Gate>) -> Router {
    // With the token. Whoever adds a room merges its routes here ...
    // (The metrics' too: whether they need one may change while this runs.)
    let inside = soracom::routes().merge(page::routes()).merge(metrics::routes());
    // ... or here, when it shows nothing that needs one.
    let outside = Router::new().route("/v1/auth", post(auth::login)).merge(page::files());
    let inside = inside.route_layer(from_fn_with_state(gate.clone(), auth::inside));
    Router::new()
        .merge(inside)
        .merge(outside)
        .fallback(|| async { ApiError::missing("such address here") })
        .method_not_allowed_fallback(|| async { ApiError::bad_method() })
        .with_state(app)
        .layer(Extension(gate.clone()))
        .layer(from_fn_with_state(gate, auth::doorstep))
}
