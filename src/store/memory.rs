//! A store that lives in memory: for tests, and as the second opinion on what [`Store`] means.
//!
//! [`Store`]: super::Store

mod tree;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use rustix::io::Errno;

use super::{
    Attr, Attributes, BoxFuture, DirPage, FsStat, Kind, NAME_MAX, READ_MAX, Result, Store, StoreError,
    StoreErrorKind, StoreFile, StorePath, StoreWriter, XATTR_MAX,
};
use tree::{Body, FileNode, FileState, Tree};

/// The largest file.
const FILE_MAX: u64 = 1 << 30;

/// A store in memory. A clone is the same store.
///
/// The methods of the type itself set scenes: they change the store as somebody behind the
/// gateway's back would. They take paths as bytes (see [`StorePath::parse`]) and time moves on with each.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    tree: Arc<RwLock<Tree>>,
}

impl Memory {
    /// A store with an empty root directory.
    pub fn new() -> Self {
        Self::default()
    }

    fn set(
        &self,
        operation: &'static str,
        path: impl AsRef<[u8]>,
        change: impl FnOnce(&mut Tree, &StorePath) -> std::result::Result<(), Errno>,
    ) -> Result<()> {
        let path = parse(operation, path.as_ref())?;
        change(&mut self.tree.write(), &path).map_err(fail(operation, &path))
    }

    /// Puts a new file with this content in the place of `path`; missing parents are made. Files
    /// that are open stay what they are: see [`Memory::mutate`] for the other way.
    ///
    /// # Errors
    ///
    /// Fails where a directory stands at `path`, or no directory above it.
    pub fn put(&self, path: impl AsRef<[u8]>, content: &[u8]) -> Result<()> {
        self.set("put", path, |tree, path| tree.place(path, Body::file(content.to_vec())))
    }

    /// Puts a symbolic link to `target` in the place of `path`; missing parents are made.
    ///
    /// # Errors
    ///
    /// Those of [`Memory::put`].
    pub fn put_symlink(&self, path: impl AsRef<[u8]>, target: &[u8]) -> Result<()> {
        self.set("put", path, |tree, path| tree.place(path, Body::Symlink(target.to_vec())))
    }

    /// Puts a pipe, socket or device in the place of `path`; missing parents are made.
    ///
    /// # Errors
    ///
    /// Those of [`Memory::put`], and for a `kind` that has a method of its own.
    pub fn put_special(&self, path: impl AsRef<[u8]>, kind: Kind) -> Result<()> {
        self.set("put", path, |tree, path| match kind {
            Kind::Regular | Kind::Directory | Kind::Symlink => Err(Errno::INVAL),
            Kind::BlockDevice | Kind::CharDevice | Kind::Socket | Kind::Fifo => {
                tree.place(path, Body::Special(kind))
            }
        })
    }

    /// Makes the directory `path` and those above it where they are missing.
    ///
    /// # Errors
    ///
    /// Fails where something else stands in the way.
    pub fn put_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.set("make the directory", path, |tree, path| tree.make_directories(path).map(drop))
    }

    /// Removes what `path` names, a directory with all below it.
    ///
    /// # Errors
    ///
    /// Fails where nothing is there.
    pub fn remove(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.set("remove", path, Tree::remove)
    }

    /// Gives what `from` names the name `to`, in the place of what stood there.
    ///
    /// # Errors
    ///
    /// Fails where rename(2) does.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        let to = parse("rename", to.as_ref())?;
        self.set("rename", from, |tree, from| tree.rename(from, &to))
    }

    /// Sets permission bits, owner and group.
    ///
    /// # Errors
    ///
    /// Fails where nothing is there.
    pub fn set_attr(&self, path: impl AsRef<[u8]>, mode: u32, uid: u32, gid: u32) -> Result<()> {
        self.set("set the attributes", path, |tree, path| tree.set_attr(path, mode & 0o7777, uid, gid))
    }

    /// The content of the file `path`; `None` when there is none.
    pub fn bytes(&self, path: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let path = StorePath::parse(path.as_ref()).ok()?;
        Some(self.tree.read().file(&path).ok()?.state.read().content.clone())
    }

    /// Changes the content of the file `path` where it is: whoever has it open sees the change.
    ///
    /// # Errors
    ///
    /// Fails where no file is there.
    pub fn mutate(&self, path: impl AsRef<[u8]>, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.set("change", path, |tree, path| {
            let file = tree.file(path)?.clone();
            let now = tree.tick();
            let mut state = file.state.write();
            change(&mut state.content);
            (state.meta.mtime, state.meta.ctime) = (now, now);
            Ok(())
        })
    }
}

fn parse(operation: &'static str, path: &[u8]) -> Result<StorePath> {
    StorePath::parse(path).map_err(|error| {
        let source = io::Error::other(format!("{}: {error}", path.escape_ascii()));
        StoreError::new(StoreErrorKind::Io, operation, &StorePath::root(), source)
    })
}

fn fail(operation: &'static str, path: &StorePath) -> impl Fn(Errno) -> StoreError {
    move |errno| StoreError::from_io(operation, path, errno.into())
}

/// The range of `content` that a read of `len` bytes at `offset` gives.
fn part(content: &[u8], offset: u64, len: usize) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let end = start.saturating_add(len.min(READ_MAX)).min(content.len());
    content.get(start..end).unwrap_or_default()
}

impl Store for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        Box::pin(async move { self.tree.read().stat(path).map_err(fail("stat", path)) })
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let tree = self.tree.read();
            let failed = fail("open", path);
            let kind = tree.stat(path).map_err(&failed)?.kind;
            if !matches!(kind, Kind::Regular | Kind::Directory | Kind::Symlink) {
                let source = io::Error::other("it is not a regular file");
                return Err(StoreError::new(StoreErrorKind::NotRegular, "open", path, source));
            }
            let file: Arc<dyn StoreFile> = Arc::new(MemoryFile {
                node: tree.file(path).map_err(&failed)?.clone(),
                tree: self.tree.clone(),
                path: path.clone(),
            });
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        Box::pin(
            async move { self.tree.read().page(path, cookie, max).map_err(fail("read the directory", path)) },
        )
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move { self.tree.read().link(path).map_err(fail("read the link", path)) })
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        Box::pin(async move {
            Ok(FsStat {
                total_bytes: 1 << 40,
                free_bytes: 1 << 39,
                available_bytes: 1 << 39,
                total_files: 1 << 24,
                free_files: 1 << 23,
                available_files: 1 << 23,
                name_max: u32::try_from(NAME_MAX).unwrap_or(u32::MAX),
                link_max: 1,
            })
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        _scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        Box::pin(async move {
            if path.is_root() {
                return Err(fail("create", path)(Errno::ISDIR));
            }
            let writer: Box<dyn StoreWriter> = Box::new(MemoryWriter {
                store: self.clone(),
                target: path.clone(),
                content: Vec::new(),
                attributes: None,
            });
            Ok(writer)
        })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.tree.write().remove(path).map_err(fail("remove", path)) })
    }
}

struct MemoryFile {
    node: Arc<FileNode>,
    tree: Arc<RwLock<Tree>>,
    path: StorePath,
}

impl MemoryFile {
    /// Changes an attribute, which moves the time of the last change.
    fn touch(&self, change: impl FnOnce(&mut FileState) -> std::result::Result<(), Errno>) -> Result<()> {
        let now = self.tree.write().tick();
        let mut state = self.node.state.write();
        change(&mut state).map_err(fail("set an extended attribute", &self.path))?;
        state.meta.ctime = now;
        Ok(())
    }
}

/// Bytes of all names and values of one file together.
const XATTRS_MAX: usize = XATTR_MAX;

impl StoreFile for MemoryFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(async move { Ok(self.node.attr()) })
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        Some(Ok(self.node.attr()))
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(
            async move { Ok(Bytes::copy_from_slice(part(&self.node.state.read().content, offset, len))) },
        )
    }

    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(part(&self.node.state.read().content, offset, len)))
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let state = self.node.state.read();
            let Some(value) = state.xattrs.get(name) else { return Ok(None) };
            if value.len() > max {
                let (operation, source) = ("read an extended attribute", Errno::RANGE.into());
                return Err(StoreError::new(StoreErrorKind::TooLarge, operation, &self.path, source));
            }
            Ok(Some(Bytes::copy_from_slice(value)))
        })
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(async move { Ok(self.node.state.read().xattrs.keys().cloned().collect()) })
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.touch(|state| {
                let others = state.xattrs.iter().filter(|(other, _)| *other != name);
                let used: usize = others.map(|(name, value)| name.len() + value.len()).sum();
                if used + name.len() + value.len() > XATTRS_MAX {
                    return Err(Errno::NOSPC);
                }
                state.xattrs.insert(name.to_vec(), value.to_vec());
                Ok(())
            })
        })
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !self.node.state.read().xattrs.contains_key(name) {
                return Ok(());
            }
            self.touch(|state| {
                state.xattrs.remove(name);
                Ok(())
            })
        })
    }
}

struct MemoryWriter {
    store: Memory,
    target: StorePath,
    content: Vec<u8>,
    attributes: Option<Attributes>,
}

impl MemoryWriter {
    fn write(&mut self, offset: u64, data: &[u8]) -> std::result::Result<(), Errno> {
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.saturating_add(data.len() as u64);
        if end > FILE_MAX {
            return Err(Errno::NOSPC);
        }
        let start = usize::try_from(offset).map_err(|_| Errno::NOSPC)?;
        let end = usize::try_from(end).map_err(|_| Errno::NOSPC)?;
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content.get_mut(start..end).ok_or(Errno::NOSPC)?.copy_from_slice(data);
        Ok(())
    }
}

impl StoreWriter for MemoryWriter {
    fn write_at<'a>(&'a mut self, offset: u64, data: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.write(offset, data).map_err(|errno| fail("write", &self.target)(errno)) })
    }

    fn set_attributes<'a>(&'a mut self, attributes: &'a Attributes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.attributes = Some(attributes.clone());
            Ok(())
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Self { store, target, content, attributes } = *self;
            let mut tree = store.tree.write();
            let failed = fail("commit", &target);
            tree.place(&target, Body::file(content)).map_err(&failed)?;
            if let Some(attributes) = attributes {
                let mut state = tree.file(&target).map_err(&failed)?.state.write();
                let Attributes { mode, owner, atime: _, mtime, xattrs } = attributes;
                (state.meta.mode, state.meta.mtime) = (mode, mtime);
                if let Some(owner) = owner {
                    (state.meta.uid, state.meta.gid) = owner;
                }
                state.xattrs = xattrs.into_iter().map(|(name, value)| (name, value.to_vec())).collect();
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> StorePath {
        StorePath::parse(text.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn mutation_reaches_open_files_and_replacement_does_not() {
        let store = Memory::new();
        store.put("a/f", b"one").unwrap();
        let file = store.open(&path("a/f")).await.unwrap();
        let before = file.stat().await.unwrap();
        store.mutate("a/f", |content| content.extend_from_slice(b" more")).unwrap();
        assert_eq!(file.try_read_at(0, 100).unwrap().as_ref(), b"one more");
        assert!(file.stat().await.unwrap().mtime > before.mtime);
        store.put("a/f", b"two").unwrap();
        assert_eq!(file.read_at(0, 100).await.unwrap().as_ref(), b"one more");
        assert_eq!(file.stat().await.unwrap().nlink, 0);
        assert_eq!(store.bytes("a/f").unwrap(), b"two");
        assert_ne!(store.stat(&path("a/f")).await.unwrap().fileid, before.fileid);
    }

    #[tokio::test]
    async fn renames_keep_the_object_and_refuse_what_rename_refuses() {
        let store = Memory::new();
        store.put("d/f", b"x").unwrap();
        store.put("g", b"y").unwrap();
        let fileid = store.stat(&path("d/f")).await.unwrap().fileid;
        store.rename("d", "e/below").unwrap_err();
        store.put_dir("e").unwrap();
        store.rename("d", "e/below").unwrap();
        assert_eq!(store.stat(&path("e/below/f")).await.unwrap().fileid, fileid);
        assert_eq!(store.bytes("d/f"), None);
        let up = store.read_dir(&path("e/below"), 1, 1).await.unwrap();
        assert_eq!(up.entries[0].fileid, store.stat(&path("e")).await.unwrap().fileid);
        store.rename("e", "e/below/into-itself").unwrap_err();
        assert_eq!(store.rename("g", "e").unwrap_err().kind, StoreErrorKind::IsADirectory);
        assert_eq!(store.rename("e", "g").unwrap_err().kind, StoreErrorKind::NotADirectory);
        store.rename("g", "g").unwrap();
        let file = store.open(&path("e/below/f")).await.unwrap();
        store.rename("g", "e/below/f").unwrap();
        assert_eq!(store.bytes("e/below/f").unwrap(), b"y");
        assert_eq!(file.stat().await.unwrap().nlink, 0);
    }

    #[tokio::test]
    async fn attributes_are_what_was_set() {
        let store = Memory::new();
        store.put("f", b"x").unwrap();
        store.put_special("dev", Kind::CharDevice).unwrap();
        store.set_attr("f", 0o4755, 7, 8).unwrap();
        let attr = store.stat(&path("f")).await.unwrap();
        assert_eq!((attr.mode, attr.uid, attr.gid, attr.size, attr.nlink), (0o4755, 7, 8, 1, 1));
        assert_eq!(store.stat(&path("dev")).await.unwrap().kind, Kind::CharDevice);
        assert!(store.put_special("f", Kind::Regular).is_err());
        assert!(store.put("../f", b"").is_err());
    }

    #[tokio::test]
    async fn a_write_far_away_takes_no_memory() {
        let store = Memory::new();
        let mut writer = store.create(&path("f"), &path("tmp")).await.unwrap();
        assert_eq!(writer.write_at(u64::MAX - 1, b"abc").await.unwrap_err().kind, StoreErrorKind::NoSpace);
        writer.write_at(2, b"abc").await.unwrap();
        writer.commit().await.unwrap();
        assert_eq!(store.bytes("f").unwrap(), b"\0\0abc");
    }
}
