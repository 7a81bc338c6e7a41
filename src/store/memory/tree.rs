//! The objects of a store in memory, by number, so that no depth of directories needs the stack.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;
use rustix::io::Errno;

use super::super::{Attr, DirEntry, DirPage, Kind, StorePath, Time};

type Result<T> = std::result::Result<T, Errno>;

const ROOT: u64 = 1;
/// The cookies of `.` and `..`; those of names follow, and none is given twice.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

#[derive(Debug)]
pub(super) struct Tree {
    nodes: HashMap<u64, Node>,
    last_id: u64,
    /// Milliseconds.
    clock: u64,
}

/// Attributes that are not content.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
}

#[derive(Debug)]
struct Node {
    /// That of a file lies with its content, which may outlive its place in the tree.
    meta: Meta,
    body: Body,
}

/// What an object is.
#[derive(Debug)]
pub(super) enum Body {
    File(Arc<FileNode>),
    Directory(Directory),
    Symlink(Vec<u8>),
    Special(Kind),
}

impl Body {
    pub(super) fn file(content: Vec<u8>) -> Self {
        let state = FileState { meta: Meta::default(), content, nlink: 1, xattrs: BTreeMap::new() };
        Self::File(Arc::new(FileNode { id: 0, state: RwLock::new(state) }))
    }
}

/// A regular file, held by the tree and by whoever has it open.
#[derive(Debug)]
pub(super) struct FileNode {
    id: u64,
    pub(super) state: RwLock<FileState>,
}

#[derive(Debug)]
pub(super) struct FileState {
    pub(super) meta: Meta,
    pub(super) content: Vec<u8>,
    nlink: u32,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl FileNode {
    pub(super) fn attr(&self) -> Attr {
        let state = self.state.read();
        attr(self.id, Kind::Regular, &state.meta, state.content.len() as u64, state.nlink)
    }
}

#[derive(Debug)]
pub(super) struct Directory {
    parent: u64,
    names: BTreeMap<Vec<u8>, Entry>,
    order: BTreeMap<u64, Vec<u8>>,
    last_cookie: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    cookie: u64,
    id: u64,
}

impl Directory {
    fn new(parent: u64) -> Self {
        Self { parent, names: BTreeMap::new(), order: BTreeMap::new(), last_cookie: DOT_DOT }
    }

    /// Lets `name` lead to `id`. A name that is there keeps its cookie.
    fn insert(&mut self, name: &[u8], id: u64) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.id = id;
            return;
        }
        self.last_cookie += 1;
        self.names.insert(name.to_vec(), Entry { cookie: self.last_cookie, id });
        self.order.insert(self.last_cookie, name.to_vec());
    }

    fn remove(&mut self, name: &[u8]) {
        if let Some(entry) = self.names.remove(name) {
            self.order.remove(&entry.cookie);
        }
    }
}

fn attr(id: u64, kind: Kind, meta: &Meta, size: u64, nlink: u32) -> Attr {
    Attr {
        kind,
        mode: meta.mode,
        nlink,
        uid: meta.uid,
        gid: meta.gid,
        size,
        used: size,
        rdev: (0, 0),
        fileid: id,
        atime: meta.mtime,
        mtime: meta.mtime,
        ctime: meta.ctime,
        change: Attr::change_of(meta.ctime),
    }
}

impl Default for Tree {
    fn default() -> Self {
        let mut tree = Self { nodes: HashMap::new(), last_id: 0, clock: 0 };
        tree.add(Body::Directory(Directory::new(ROOT)), 0o755);
        tree
    }
}

impl Tree {
    /// Lets time pass.
    pub(super) fn tick(&mut self) -> Time {
        self.clock += 1;
        let nanos = u32::try_from(self.clock % 1000 * 1_000_000).unwrap_or(0);
        Time { seconds: 1_800_000_000_i64.saturating_add_unsigned(self.clock / 1000), nanos }
    }

    fn add(&mut self, body: Body, mode: u32) -> u64 {
        let now = self.tick();
        self.last_id += 1;
        let id = self.last_id;
        let meta = Meta { mode, uid: 0, gid: 0, mtime: now, ctime: now };
        let body = match body {
            Body::File(file) => {
                let content = std::mem::take(&mut file.state.write().content);
                Body::File(Arc::new(FileNode {
                    id,
                    state: RwLock::new(FileState { meta, content, nlink: 1, xattrs: BTreeMap::new() }),
                }))
            }
            other => other,
        };
        self.nodes.insert(id, Node { meta, body });
        id
    }

    fn node(&self, id: u64) -> Result<&Node> {
        self.nodes.get(&id).ok_or(Errno::STALE)
    }

    fn directory(&self, id: u64) -> Result<&Directory> {
        match &self.node(id)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::Symlink(_) => Err(Errno::LOOP),
            Body::File(_) | Body::Special(_) => Err(Errno::NOTDIR),
        }
    }

    /// The directory `id`, about to change.
    fn change(&mut self, id: u64) -> Result<&mut Directory> {
        let now = self.tick();
        let node = self.nodes.get_mut(&id).ok_or(Errno::STALE)?;
        (node.meta.mtime, node.meta.ctime) = (now, now);
        match &mut node.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn child(&self, directory: u64, name: &[u8]) -> Result<u64> {
        Ok(self.directory(directory)?.names.get(name).ok_or(Errno::NOENT)?.id)
    }

    fn find(&self, path: &StorePath) -> Result<u64> {
        path.components().try_fold(ROOT, |id, name| self.child(id, name))
    }

    fn find_parent(&self, path: &StorePath) -> Result<u64> {
        let id = self.find(&path.parent().ok_or(Errno::PERM)?)?;
        self.directory(id).map(|_| id)
    }

    pub(super) fn stat(&self, path: &StorePath) -> Result<Attr> {
        let id = self.find(path)?;
        let node = self.node(id)?;
        Ok(match &node.body {
            Body::File(file) => file.attr(),
            Body::Directory(_) => attr(id, Kind::Directory, &node.meta, 4096, 2),
            Body::Symlink(target) => attr(id, Kind::Symlink, &node.meta, target.len() as u64, 1),
            Body::Special(kind) => attr(id, *kind, &node.meta, 0, 1),
        })
    }

    pub(super) fn file(&self, path: &StorePath) -> Result<&Arc<FileNode>> {
        match &self.node(self.find(path)?)?.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(Errno::ISDIR),
            Body::Symlink(_) => Err(Errno::LOOP),
            Body::Special(_) => Err(Errno::NXIO),
        }
    }

    pub(super) fn link(&self, path: &StorePath) -> Result<Vec<u8>> {
        match &self.node(self.find(path)?)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            Body::File(_) | Body::Directory(_) | Body::Special(_) => Err(Errno::INVAL),
        }
    }

    fn kind(&self, id: u64) -> Result<Kind> {
        Ok(match &self.node(id)?.body {
            Body::File(_) => Kind::Regular,
            Body::Directory(_) => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Special(kind) => *kind,
        })
    }

    pub(super) fn page(&self, path: &StorePath, cookie: u64, max: usize) -> Result<DirPage> {
        let id = self.find(path)?;
        let directory = self.directory(id)?;
        let dots = [(DOT, &b"."[..], id), (DOT_DOT, b"..", directory.parent)];
        let dots = dots.into_iter().filter(|(at, ..)| *at > cookie);
        let names = directory
            .order
            .range((Bound::Excluded(cookie), Bound::Unbounded))
            .filter_map(|(at, name)| directory.names.get(name).map(|entry| (*at, name.as_slice(), entry.id)));
        let mut rest = dots.chain(names).map(|(cookie, name, fileid)| {
            Ok(DirEntry { name: name.to_vec(), cookie, fileid, kind: Some(self.kind(fileid)?) })
        });
        let entries = rest.by_ref().take(max).collect::<Result<Vec<_>>>()?;
        Ok(DirPage { entries, end: rest.next().is_none() })
    }

    /// The directory `path`, made where it is missing.
    pub(super) fn make_directories(&mut self, path: &StorePath) -> Result<u64> {
        let mut id = ROOT;
        for name in path.components() {
            id = match self.child(id, name) {
                Err(Errno::NOENT) => {
                    let made = self.add(Body::Directory(Directory::new(id)), 0o755);
                    self.change(id)?.insert(name, made);
                    made
                }
                found => found?,
            };
        }
        self.directory(id).map(|_| id)
    }

    /// Puts a new object, no directory, in the place of `path`.
    pub(super) fn place(&mut self, path: &StorePath, body: Body) -> Result<()> {
        let parent = self.make_directories(&path.parent().ok_or(Errno::ISDIR)?)?;
        let old = self.child(parent, path.name()).ok();
        if let Some(old) = old
            && self.kind(old)? == Kind::Directory
        {
            return Err(Errno::ISDIR);
        }
        let mode = if matches!(body, Body::Symlink(_)) { 0o777 } else { 0o644 };
        let id = self.add(body, mode);
        self.change(parent)?.insert(path.name(), id);
        if let Some(old) = old {
            self.forget(old);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &StorePath) -> Result<()> {
        let parent = self.find_parent(path)?;
        let id = self.child(parent, path.name())?;
        self.change(parent)?.remove(path.name());
        self.forget(id);
        Ok(())
    }

    /// Drops `id` and all below it; files that are open live on without a link.
    fn forget(&mut self, id: u64) {
        let now = self.tick();
        let mut gone = vec![id];
        while let Some(id) = gone.pop() {
            match self.nodes.remove(&id).map(|node| node.body) {
                Some(Body::Directory(directory)) => {
                    gone.extend(directory.names.values().map(|entry| entry.id))
                }
                Some(Body::File(file)) => {
                    let mut state = file.state.write();
                    state.nlink = 0;
                    state.meta.ctime = now;
                }
                Some(Body::Symlink(_) | Body::Special(_)) | None => {}
            }
        }
    }

    pub(super) fn rename(&mut self, from: &StorePath, to: &StorePath) -> Result<()> {
        let (source, target) = (self.find_parent(from)?, self.find_parent(to)?);
        let id = self.child(source, from.name())?;
        if from == to {
            return Ok(());
        }
        if to.starts_with(from) {
            return Err(Errno::INVAL);
        }
        let moves_directory = self.kind(id)? == Kind::Directory;
        let old = self.child(target, to.name()).ok();
        if let Some(old) = old {
            match &self.node(old)?.body {
                Body::Directory(_) if !moves_directory => return Err(Errno::ISDIR),
                Body::Directory(directory) if !directory.names.is_empty() => return Err(Errno::NOTEMPTY),
                Body::Directory(_) => {}
                _ if moves_directory => return Err(Errno::NOTDIR),
                _ => {}
            }
        }
        self.change(source)?.remove(from.name());
        self.change(target)?.insert(to.name(), id);
        if let Some(Node { body: Body::Directory(moved), .. }) = self.nodes.get_mut(&id) {
            moved.parent = target;
        }
        if let Some(old) = old {
            self.forget(old);
        }
        Ok(())
    }

    pub(super) fn set_attr(&mut self, path: &StorePath, mode: u32, uid: u32, gid: u32) -> Result<()> {
        let id = self.find(path)?;
        let now = self.tick();
        let node = self.nodes.get_mut(&id).ok_or(Errno::STALE)?;
        let set = |meta: &mut Meta| *meta = Meta { mode, uid, gid, mtime: meta.mtime, ctime: now };
        match &node.body {
            Body::File(file) => set(&mut file.state.write().meta),
            Body::Directory(_) | Body::Symlink(_) | Body::Special(_) => set(&mut node.meta),
        }
        Ok(())
    }
}
