//! What a file has beside its content, to be given to another that takes its place.

use bytes::Bytes;

use super::{Result, StoreError, StoreErrorKind, StoreFile, StorePath, Time};

/// The longest value of an extended attribute in Linux.
pub const XATTR_MAX: usize = 64 * 1024;
/// The most bytes of extended attributes that are carried over.
const ALL_MAX: usize = 1024 * 1024;

/// Owner, mode, times and extended attributes. Not the times of creation and of the last change,
/// which nobody can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner and group; `None` for those of the process that writes.
    pub owner: Option<(u32, u32)>,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Names and values.
    pub xattrs: Vec<(Vec<u8>, Bytes)>,
}

impl Attributes {
    /// Those of `file`. `security.evm` is left out: it belongs to one inode.
    ///
    /// # Errors
    /// The store's, and [`StoreErrorKind::TooLarge`] for more than a megabyte of extended attributes.
    pub async fn of(file: &dyn StoreFile) -> Result<Self> {
        let attr = file.stat().await?;
        let (mut xattrs, mut all) = (Vec::new(), 0);
        for name in file.list_xattrs().await? {
            if name == b"security.evm" {
                continue;
            }
            let Some(value) = file.get_xattr(&name, XATTR_MAX).await? else { continue };
            all += name.len() + value.len();
            if all > ALL_MAX {
                let source = std::io::Error::other("more than a megabyte of extended attributes");
                let (kind, root) = (StoreErrorKind::TooLarge, StorePath::root());
                return Err(StoreError::new(kind, "copy attributes", &root, source));
            }
            xattrs.push((name, value));
        }
        let crate::store::Attr { mode, uid, gid, atime, mtime, .. } = attr;
        Ok(Self { mode, owner: Some((uid, gid)), atime, mtime, xattrs })
    }
}
