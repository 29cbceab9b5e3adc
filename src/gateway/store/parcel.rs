//! Secrets outside of the database: an export that is carried to another store, sealed under a key of its own.

use zeroize::Zeroizing;

use super::seal::{Place, Seal};
use super::{StoreError, StoreKey};

/// A parcel is in no table, and there is one of it.
const PLACE: Place<'static> = Place {
    table: "parcel",
    id: "",
    version: 1,
};

/// Seals it.
///
/// # Errors
/// [`StoreError::Key`].
pub fn seal(key: &StoreKey, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    Seal::derive(key)?.seal(plain, PLACE)
}

/// Opens it.
///
/// # Errors
/// [`StoreError::Key`]: another key, or not what was sealed.
pub fn open(key: &StoreKey, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let opened = Seal::derive(key)?.open(sealed, PLACE);
    opened.map_err(|_| {
        StoreError::Key("it does not open: it was sealed under another key, or has been changed".to_owned())
    })
}
