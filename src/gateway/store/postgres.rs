//! PostgreSQL (next commit).

use std::time::Duration;

use super::owner::{Mode, Owner, Work};
use super::{Keys, StoreConfig, StoreError, schema};

#[derive(Debug, Clone)]
pub(super) struct Pool;

impl Pool {
    pub(super) async fn transaction<T>(&self, _: Mode, _: Duration, _: &Work<T>) -> Result<T, StoreError> {
        Err(StoreError::Unreachable(String::new()))
    }
}

pub(super) async fn open(_: StoreConfig, _: schema::Boot) -> Result<(Owner, Keys), StoreError> {
    Err(StoreError::Unreachable(
        "PostgreSQL comes with the next commit".to_owned(),
    ))
}
