//! What the gateway tells of a file on a mount: in extended attributes (NFSv4.2), or in the plain files of
//! its proof directory.

use bytes::Bytes;

use super::place::joined;
use crate::cli::told::Told;
use crate::export::Item;
use crate::store::{Store, StoreFile, StorePath};

/// The longest value.
const VALUE_MAX: usize = 64 * 1024;

/// The extended attributes of `file`, where the mount shows any; else what lies below `proofs`. One source
/// alone, so that nothing is put together that was not said together.
pub(super) async fn gather(
    store: &dyn Store,
    proofs: &StorePath,
    path: &StorePath,
    file: Option<&dyn StoreFile>,
) -> Told {
    let mut told = Told::default();
    let mut any = false;
    if let Some(file) = file {
        for item in Told::ITEMS {
            let name = format!("user.{}", item.xattr_name());
            // What cannot be had is not there: it is looked for in the other place, or missed.
            if let Ok(Some(value)) = file.get_xattr(name.as_bytes(), VALUE_MAX).await {
                told.take(item, value);
                any = true;
            }
        }
    }
    if any {
        return told;
    }
    for item in Told::ITEMS {
        if let Some(value) = plain(store, proofs, path, item).await {
            told.take(item, value);
        }
    }
    told
}

/// The file of `item` in the proof directory.
pub(super) async fn plain(
    store: &dyn Store,
    proofs: &StorePath,
    path: &StorePath,
    item: Item,
) -> Option<Bytes> {
    let place = joined(proofs, path).ok()?.join(item.file_name().as_bytes()).ok()?;
    let file = store.open(&place).await.ok()?;
    let value = file.read_at(0, VALUE_MAX + 1).await.ok()?;
    (value.len() <= VALUE_MAX).then_some(value)
}
