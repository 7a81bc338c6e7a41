//! Bytes by name: the backing store, which nobody has to trust.
//!
//! A [`Store`] answers with whatever it has; nothing here is proven. Paths are relative to the
//! store's root and are resolved without ever leaving it. Knows nothing of evidence or of NFS.

mod address;
mod attributes;
#[cfg(test)]
mod contract;
mod error;
mod failover;
mod faulty;
mod identity;
mod listing;
mod local;
mod memory;
pub mod object;
mod path;
mod patient;
mod slow;
pub(crate) mod unnamed;
pub mod upstream;
pub(crate) mod url;
pub mod walk;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

pub use crate::sys::fsverity::MetadataKind;
pub use address::{OpenOptions, StoreAddress};
pub use attributes::{Attributes, XATTR_MAX};
pub use error::{StoreError, StoreErrorKind};
pub(crate) use failover::is_no_answer;
pub use failover::{Failover, Guarded, Renumbered};
pub use faulty::{Fault, Faulty};
pub use identity::{Identity, acting_as};
pub use local::Local;
pub use memory::Memory;
pub use path::{NAME_MAX, PATH_MAX, PathError, StorePath, fileid_of_path, is_plain};
pub use patient::Patient;
pub use slow::Slow;
pub use url::AddressError;

/// The most bytes that one [`StoreFile::read_at`] gives.
pub const READ_MAX: usize = 16 * 1024 * 1024;

/// A future that is sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a store call gives.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The type of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// A socket.
    Socket,
    /// A named pipe.
    Fifo,
}

/// A point in time: seconds since 1970 and nanoseconds below one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// Attributes of an object, as the store tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The object's type.
    pub kind: Kind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of storage used.
    pub used: u64,
    /// Device numbers (major, minor) of a device.
    pub rdev: (u32, u32),
    /// A number that is the object's own within the store and stays for its life.
    pub fileid: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of content or attributes.
    pub ctime: Time,
    /// Moves whenever the object changes in any way; says nothing of what came first.
    pub change: u64,
}

impl Attr {
    /// The [`Attr::change`] of a store that has nothing but the time of the last change.
    pub fn change_of(ctime: Time) -> u64 {
        ctime.seconds.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(u64::from(ctime.nanos))
    }
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name; `.` and `..` stand among the others.
    pub name: Vec<u8>,
    /// Where reading goes on behind this entry; never 0, and it stays valid while the directory changes.
    pub cookie: u64,
    /// The object's [`Attr::fileid`].
    pub fileid: u64,
    /// The object's type, where the directory itself tells it.
    pub kind: Option<Kind>,
}

/// Part of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirPage {
    /// The entries, in the store's order.
    pub entries: Vec<DirEntry>,
    /// True when nothing follows.
    pub end: bool,
}

/// Room and limits of the file system behind a store. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsStat {
    /// All bytes.
    pub total_bytes: u64,
    /// Free bytes.
    pub free_bytes: u64,
    /// Free bytes for an ordinary user.
    pub available_bytes: u64,
    /// All file slots.
    pub total_files: u64,
    /// Free file slots.
    pub free_files: u64,
    /// Free file slots for an ordinary user.
    pub available_files: u64,
    /// The longest name in bytes.
    pub name_max: u32,
    /// The most hard links to one file.
    pub link_max: u32,
}

/// Objects by name.
///
/// Symbolic links are never followed, in no component of a path: an operation on a path that
/// leads through one fails with [`StoreErrorKind::Symlink`] ([`Store::stat`] and
/// [`Store::read_link`] accept one as the last component).
pub trait Store: Send + Sync + 'static {
    /// The store for people, as in `local /srv/data`.
    fn describe(&self) -> String;

    /// Attributes of what `path` names.
    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>>;

    /// Attributes of many names in one directory, in the order of `names`: `None` for what cannot be looked at, and
    /// for what is no name.
    fn stat_names<'a>(
        &'a self,
        directory: &'a StorePath,
        names: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Vec<Option<Attr>>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                found.push(match directory.join(name) {
                    Ok(path) => self.stat(&path).await.ok(),
                    Err(_) => None,
                });
            }
            found
        })
    }

    /// Attributes and the first `len` bytes, or all, of many small files in one directory, in the order of `names`;
    /// `None` for what whoever wants it has to open: a store need not have a shorter way.
    fn read_heads<'a>(
        &'a self,
        directory: &'a StorePath,
        names: &'a [&'a [u8]],
        len: usize,
    ) -> BoxFuture<'a, Vec<Option<(Attr, Bytes)>>> {
        let _ = (directory, len);
        Box::pin(async { vec![None; names.len()] })
    }

    /// Opens the regular file that `path` names. A directory is [`StoreErrorKind::IsADirectory`], a
    /// symbolic link [`StoreErrorKind::Symlink`], anything else [`StoreErrorKind::NotRegular`].
    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>>;

    /// At most `max` entries of the directory `path` behind `cookie` (0: from the start).
    fn read_dir<'a>(&'a self, path: &'a StorePath, cookie: u64, max: usize)
    -> BoxFuture<'a, Result<DirPage>>;

    /// The target of the symbolic link `path`, at most [`PATH_MAX`] bytes. Of anything else:
    /// [`StoreErrorKind::Io`].
    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>>;

    /// Room and limits.
    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>>;

    /// Starts a new file that takes the place of `path` when it is committed, and not before.
    /// Missing parent directories are made at commit. `scratch` is a directory (made when missing)
    /// in which a store may keep what is unfinished. A symbolic link that stands at `path` itself
    /// is replaced, like a file.
    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>>;

    /// Puts `content` at `path` at once, unless anything is there: then it gives false, and nothing is
    /// changed. Of several that do so at the same time, one wins.
    fn create_new<'a>(&'a self, path: &'a StorePath, content: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        let _ = (path, content);
        Box::pin(async { unsupported("create what nobody else has") })
    }

    /// Removes what `path` names, a directory with all below it. Symbolic links are removed, not
    /// followed. The root is [`StoreErrorKind::Access`].
    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>>;

    /// Lets go of what is remembered of `path`: what is called next tells how things stand then.
    fn forget(&self, path: &StorePath) {
        let _ = path;
    }
}

/// An open regular file. The same object for as long as it is held, whatever its name does.
pub trait StoreFile: Send + Sync {
    /// Attributes now. `nlink` is 0 when no name leads to the file any more.
    fn stat(&self) -> BoxFuture<'_, Result<Attr>>;

    /// [`StoreFile::stat`] where it cannot block, `None` where it might.
    fn try_stat(&self) -> Option<Result<Attr>> {
        None
    }

    /// Lets the system forget the bytes that it keeps in memory of this range, which will not be read again soon. A
    /// hint: layers need not hand it on.
    fn drop_behind(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Up to `len` bytes (at most [`READ_MAX`]) from `offset`; shorter only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>>;

    /// [`StoreFile::read_at`] into pieces of `piece` bytes, none of which keeps the memory of another in use.
    /// All are full but the last, and there are fewer only at the end of the file.
    fn read_pieces(&self, offset: u64, len: usize, piece: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move {
            let all = self.read_at(offset, len).await?;
            if all.len() <= piece {
                return Ok(if all.is_empty() { Vec::new() } else { vec![all] });
            }
            Ok(all.chunks(piece.max(1)).map(Bytes::copy_from_slice).collect())
        })
    }

    /// [`StoreFile::read_at`] from memory, without waiting: `None` where that cannot be done in full.
    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        let _ = (offset, len);
        None
    }

    /// The next range at or behind `offset` that may hold other bytes than zeros; `None` when only
    /// zeros follow up to `size`. A store that cannot tell gives the rest of the file.
    fn data_range(&self, offset: u64, size: u64) -> BoxFuture<'_, Result<Option<Range<u64>>>> {
        Box::pin(async move { Ok((offset < size).then_some(offset..size)) })
    }

    /// The extended attribute `name`; `None` when it is not there or the store has none. One longer
    /// than `max` is [`StoreErrorKind::TooLarge`].
    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        let _ = (name, max);
        Box::pin(async { Ok(None) })
    }

    /// The names of the extended attributes that can be seen.
    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Sets an extended attribute, at once and whole. Where it does not fit:
    /// [`StoreErrorKind::NoSpace`]; where there are none, [`StoreErrorKind::Unsupported`].
    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        let _ = (name, value);
        Box::pin(async { unsupported("set an extended attribute") })
    }

    /// Removes an extended attribute; that it is not there is no error.
    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        let _ = name;
        Box::pin(async { Ok(()) })
    }

    /// Up to `len` bytes (at most [`READ_MAX`]) of the fs-verity metadata that the file system keeps,
    /// from `offset`; `None` when the file is not sealed, or has no signature.
    fn verity_metadata(
        &self,
        kind: MetadataKind,
        offset: u64,
        len: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>>> {
        let _ = (kind, offset, len);
        Box::pin(async { Ok(None) })
    }

    /// The number of the hash algorithm and the fs-verity digest of a sealed file, else `None`.
    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        Box::pin(async { Ok(None) })
    }

    /// Seals the file with fs-verity, for good.
    fn enable_verity<'a>(&'a self, seal: &'a Seal) -> BoxFuture<'a, Result<()>> {
        let _ = seal;
        Box::pin(async { unsupported("seal") })
    }
}

/// How a file is sealed; see [`crate::sys::fsverity::enable_verity`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The hash algorithm's number in fs-verity.
    pub hash_id: u32,
    /// Bytes in a block.
    pub block_size: u32,
    /// At most 32 bytes.
    pub salt: Vec<u8>,
    /// A built-in signature; empty for none.
    pub signature: Vec<u8>,
}

fn unsupported<T>(operation: &'static str) -> Result<T> {
    let source = std::io::Error::other("the store has no such thing");
    Err(StoreError::new(StoreErrorKind::Unsupported, operation, &StorePath::root(), source))
}

/// A file that is not in place yet. Dropping it leaves the old state.
pub trait StoreWriter: Send {
    /// Writes all of `data` at `offset`.
    fn write_at<'a>(&'a mut self, offset: u64, data: &'a [u8]) -> BoxFuture<'a, Result<()>>;

    /// Gives the new file these attributes. Nothing is written after it, for that moves times. What cannot
    /// be set is an error, unless it is so already.
    fn set_attributes<'a>(&'a mut self, attributes: &'a Attributes) -> BoxFuture<'a, Result<()>> {
        let _ = attributes;
        Box::pin(async { unsupported("set attributes") })
    }

    /// Makes the content durable, so that [`StoreWriter::commit`] has little left to do. Nothing is written or
    /// set after it, and that it is called twice does no harm. A store that can tell refuses the commit with
    /// [`StoreErrorKind::Stale`] where something was put in the place after this call.
    fn prepare(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// Makes the content durable and puts it in place atomically. A directory that stands there is
    /// [`StoreErrorKind::IsADirectory`].
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}
