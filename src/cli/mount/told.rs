//! What the gateway tells of a file on a mount: in extended attributes (NFSv4.2), or in the plain files of
//! its proof directory.

use bytes::Bytes;

use super::place::joined;
use crate::cli::told::Told;
use crate::export::Item;
use crate::store::{Store, StoreError, StoreErrorKind, StoreFile, StorePath};

/// The longest value.
const VALUE_MAX: usize = 64 * 1024;

/// The extended attributes of `file`, where the mount shows any; else what lies below `proofs`. One source
/// alone, so that nothing is put together that was not said together.
///
/// # Errors
/// Something is there and cannot be read: nothing follows from its absence then.
pub(super) async fn gather(
    store: &dyn Store,
    proofs: &StorePath,
    path: &StorePath,
    file: Option<&dyn StoreFile>,
) -> Result<Told, StoreError> {
    let mut told = Told::default();
    let mut any = false;
    if let Some(file) = file {
        for item in Told::ITEMS {
            let name = format!("user.{}", item.xattr_name());
            if let Some(value) = there(file.get_xattr(name.as_bytes(), VALUE_MAX).await)?.flatten() {
                told.take(item, value);
                any = true;
            }
        }
    }
    if any {
        return Ok(told);
    }
    for item in Told::ITEMS {
        if let Some(value) = plain(store, proofs, path, item).await? {
            told.take(item, value);
        }
    }
    Ok(told)
}

/// The file of `item` in the proof directory.
pub(super) async fn plain(
    store: &dyn Store,
    proofs: &StorePath,
    path: &StorePath,
    item: Item,
) -> Result<Option<Bytes>, StoreError> {
    let Ok(place) = joined(proofs, path) else { return Ok(None) };
    let Ok(place) = place.join(item.file_name().as_bytes()) else { return Ok(None) };
    let Some(file) = there(store.open(&place).await)? else { return Ok(None) };
    let value = there(file.read_at(0, VALUE_MAX + 1).await)?;
    Ok(value.filter(|value| value.len() <= VALUE_MAX))
}

/// `None` for what is not there, is nothing that could be used, or is not shown to this user.
fn there<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind {
            StoreErrorKind::NotFound
            | StoreErrorKind::NotADirectory
            | StoreErrorKind::IsADirectory
            | StoreErrorKind::NotRegular
            | StoreErrorKind::Symlink
            | StoreErrorKind::Access
            | StoreErrorKind::NameTooLong
            | StoreErrorKind::Unsupported
            | StoreErrorKind::TooLarge => Ok(None),
            StoreErrorKind::Exhausted
            | StoreErrorKind::Unavailable
            | StoreErrorKind::Stale
            | StoreErrorKind::ReadOnly
            | StoreErrorKind::NoSpace
            | StoreErrorKind::Io => Err(error),
        },
    }
}
