//! Why the store did not do something.

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or opened.
    #[error("{0}")]
    Unreachable(String),
    /// The key is missing, wrong, or readable by others.
    #[error("{0}")]
    Key(String),
    /// There is no such thing.
    #[error("there is no {0}")]
    Missing(String),
    /// It would break a rule (the same IMSI, source or token twice, a group still in use).
    #[error("{0}")]
    Conflict(String),
    /// The database refused or its content is damaged.
    #[error("{0}")]
    Broken(String),
    /// What should be written is not allowed: a judge said no, or it is too long.
    #[error("{0}")]
    Refused(String),
    /// Who only reads has found no database, or one of another version of the schema.
    #[error("{0}")]
    Unready(String),
}
