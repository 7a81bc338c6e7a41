//! The proof directory: what is said of every file, as plain files, for clients that know no
//! extended attributes.
//!
//! It stands at the root of the export and mirrors it: a directory for every directory, and one for
//! every regular file with a file in it for each [`Item`] that has a value. Nothing of it is in the
//! store. What stands there is no proven data: the gateway's word, and parts of the evidence as the store
//! has them, of files that are refused too, as long as they read as what they are named after. Clients can
//! check it, since the descriptor and the signatures are all there.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::error::ExportError;
use super::evidence::Item;
use super::handle::{FileHandle, Tag, View, fnv1a};
use super::names::{DESCRIBE_AT_ONCE, DirItem, Listing};
use super::nodes::Node;
use super::permission::Caller;
use super::read::{READ_MAX, ReadReply};
use super::trust::Depth;
use super::verified::{Part, Payload};
use super::{Export, gone};
use crate::carrier::SIDECAR_DIRECTORY;
use crate::store::{Attr, DirEntry, Kind, StorePath, Time};

/// What is said that is kept in memory, in bytes.
const SAID_BYTES: u64 = 4 * 1024 * 1024;
/// Where listing the root goes on behind the proof directory: a position that no file system of Linux
/// gives out, and that a client can hold in an `off_t`.
pub(super) const COOKIE: u64 = i64::MAX.cast_unsigned() - 1;
/// Positions in the directory of a file; those of the items follow in the order of [`Item::ALL`].
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// The name of the proof directory, `None` for none at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofName(Option<String>);

/// No name for the proof directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proof_directory must be \"off\" or one name, other than .nfs-verity")]
pub struct BadProofName;

impl Default for ProofName {
    fn default() -> Self {
        Self(Some(".verity".to_owned()))
    }
}

impl FromStr for ProofName {
    type Err = BadProofName;

    fn from_str(word: &str) -> Result<Self, BadProofName> {
        let taken = word.as_bytes() == SIDECAR_DIRECTORY;
        match word {
            "off" => Ok(Self(None)),
            name if taken || StorePath::root().join(name.as_bytes()).is_err() => Err(BadProofName),
            name => Ok(Self(Some(name.to_owned()))),
        }
    }
}

impl fmt::Display for ProofName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("off"))
    }
}

/// Whether there is a proof directory, and how it is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProofDirectory {
    /// Its name in the root. An object of the store with this name cannot be seen.
    pub name: ProofName,
    /// Whether listing the root shows it.
    pub listed: bool,
}

impl ProofDirectory {
    /// The name, if there is one.
    pub fn name(&self) -> Option<&str> {
        self.name.0.as_deref()
    }

    /// Whether `name` in the root is the proof directory.
    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        self.name().is_some_and(|own| own.as_bytes() == name)
    }

    /// The name to be shown when the root is listed.
    pub(super) fn shown(&self) -> Option<&[u8]> {
        self.name().filter(|_| self.listed).map(str::as_bytes)
    }
}

/// One thing that is said of a file, as the file that holds it.
#[derive(Clone)]
pub(super) struct Said {
    /// The [`Attr::change`] of the file that it was said of, then.
    change: u64,
    content: Bytes,
}

#[derive(Clone, Debug)]
pub(super) struct ByBytes;

impl Weighter<(Tag, Item), Said> for ByBytes {
    fn weight(&self, _: &(Tag, Item), said: &Said) -> u64 {
        128 + said.content.len() as u64
    }
}

/// The proof directory of one export.
pub(super) struct Mirror {
    pub(super) settings: ProofDirectory,
    said: Cache<(Tag, Item), Said, ByBytes>,
}

impl Mirror {
    pub(super) fn new(settings: ProofDirectory) -> Self {
        Self { settings, said: Cache::with_weighter(1024, SAID_BYTES, ByBytes) }
    }
}

/// An object of the store, or what stands for it in the proof directory.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) node: Arc<Node>,
    /// `None` for the object itself.
    pub(super) view: Option<View>,
}

/// Whether an object of this kind has a directory in the proof directory.
fn is_mirrored(kind: Kind) -> bool {
    match kind {
        Kind::Regular | Kind::Directory => true,
        Kind::Symlink | Kind::BlockDevice | Kind::CharDevice | Kind::Socket | Kind::Fifo => false,
    }
}

impl Export {
    /// What a handle stands for.
    pub(super) async fn object(&self, handle: &[u8]) -> Result<Object, ExportError> {
        let (node, view) = self.nodes.resolve(&*self.store, handle).await?;
        match view {
            Some(_) if self.mirror.settings.name().is_none() => Err(ExportError::Stale),
            _ => Ok(Object { node, view }),
        }
    }

    pub(super) fn handle(&self, object: &Object) -> FileHandle {
        self.nodes.handle(&object.node, object.view)
    }

    /// What `name` in the directory `at` is, be it in the proof directory or not. An item that only hashing
    /// can tell is [`ExportError::Busy`] at a glance.
    pub(super) async fn step(
        &self,
        at: &Object,
        name: &[u8],
        depth: Depth,
    ) -> Result<(Object, Attr), ExportError> {
        let Object { node, view } = at;
        match view {
            None if node.path.is_root() && self.mirror.settings.is_named(name) => {
                self.mirrored(node.clone(), View::Directory, depth).await
            }
            None => {
                let (node, attr) = self.found(node, name).await?;
                Ok((Object { node, view: None }, attr))
            }
            Some(View::Directory) => self.step_mirrored(node, name, depth).await,
            Some(View::Item(_)) => Err(ExportError::NotADirectory),
        }
    }

    /// [`Export::step`] of somebody who asks for it. Whether there is an item, and its attributes, tell of what
    /// is said: the policy is asked first.
    pub(super) async fn step_as(
        &self,
        at: &Object,
        name: &[u8],
        caller: &Caller,
    ) -> Result<(Object, Attr), ExportError> {
        let is_item = at.view.is_some() && Item::ALL.iter().any(|item| item.file_name().as_bytes() == name);
        if is_item && self.is_ruled() && self.stored(&at.node).await?.kind == Kind::Regular {
            self.may_see(&at.node, caller).await?;
        }
        self.step(at, name, Depth::Full).await
    }

    async fn step_mirrored(
        &self,
        node: &Arc<Node>,
        name: &[u8],
        depth: Depth,
    ) -> Result<(Object, Attr), ExportError> {
        if node.path.is_root() {
            if name == b".." {
                let (node, attr) = self.found(node, b".").await?;
                return Ok((Object { node, view: None }, attr));
            }
            if self.mirror.settings.is_named(name) {
                return Err(ExportError::NotFound);
            }
        }
        if matches!(name, b"." | b"..") || self.stored(node).await?.kind == Kind::Directory {
            let (node, attr) = self.found(node, name).await?;
            if !is_mirrored(attr.kind) {
                return Err(ExportError::NotFound);
            }
            let attr = self.directory_of(&node, attr);
            return Ok((Object { node, view: Some(View::Directory) }, attr));
        }
        // No item has a name that no file could have, but such a name has another error.
        node.path.join(name)?;
        let item = Item::ALL.into_iter().find(|item| item.file_name().as_bytes() == name);
        match self.mirrored(node.clone(), View::Item(item.ok_or(ExportError::NotFound)?), depth).await {
            Err(ExportError::Stale) => Err(ExportError::NotFound),
            other => other,
        }
    }

    async fn mirrored(
        &self,
        node: Arc<Node>,
        view: View,
        depth: Depth,
    ) -> Result<(Object, Attr), ExportError> {
        let attr = self.mirrored_attr(&node, view, depth).await?;
        Ok((Object { node, view: Some(view) }, attr))
    }

    /// The attributes of what `view` shows of `node`.
    pub(super) async fn mirrored_attr(
        &self,
        node: &Node,
        view: View,
        depth: Depth,
    ) -> Result<Attr, ExportError> {
        match view {
            View::Directory => {
                let stored = self.stored(node).await?;
                if !is_mirrored(stored.kind) {
                    return Err(ExportError::Stale);
                }
                let (attr, _) = self.presented(node, stored, Depth::Glance).await?;
                Ok(self.directory_of(node, attr))
            }
            View::Item(item) => Ok(self.said(node, item, depth).await?.1),
        }
    }

    /// The attributes of the directory of an object that has the attributes `attr`: for those to enter
    /// who may enter the directory, or read the file.
    fn directory_of(&self, node: &Node, attr: Attr) -> Attr {
        let fileid = self.nodes.fileid(node, View::Directory);
        if attr.kind == Kind::Directory {
            // Files are directories here, so the number of links does not tell that of directories.
            return Attr { mode: attr.mode & 0o555, nlink: 1, fileid, ..attr };
        }
        let read = attr.mode & 0o444;
        let attr = Attr { kind: Kind::Directory, mode: read | read >> 2, nlink: 2, fileid, ..attr };
        told(Attr { size: 0, used: 0, ..attr }, &attr.change.to_le_bytes())
    }

    /// One thing that is said of the file `node`, and the attributes of the file that holds it.
    async fn said(&self, node: &Node, item: Item, depth: Depth) -> Result<(Bytes, Attr), ExportError> {
        let stored = self.stored(node).await?;
        if stored.kind != Kind::Regular {
            return Err(ExportError::Stale);
        }
        let (mut attr, _) = self.presented(node, stored, Depth::Glance).await?;
        let key = (node.tag, item);
        let known = self.mirror.said.get(&key).filter(|said| said.change == attr.change);
        let content = match known {
            Some(said) => said.content,
            None => {
                let value = self.item(node, &stored, item, depth).await?.ok_or(ExportError::Stale)?;
                let content = content(item, value);
                let before = attr.change;
                // What was found out for it may have moved the change.
                (attr, _) = self.presented(node, stored, Depth::Glance).await?;
                if attr.change == before {
                    self.mirror.said.insert(key, Said { change: before, content: content.clone() });
                }
                content
            }
        };
        let size = content.len() as u64;
        let fileid = self.nodes.fileid(node, View::Item(item));
        let attr = Attr { mode: attr.mode & 0o444, nlink: 1, size, used: size, fileid, ..attr };
        let attr = told(attr, &content);
        Ok((content, attr))
    }

    /// READ of what is said of a file.
    pub(super) async fn read_mirrored(
        &self,
        node: &Node,
        view: View,
        offset: u64,
        count: u32,
        caller: &Caller,
    ) -> Result<ReadReply, ExportError> {
        let View::Item(item) = view else { return Err(ExportError::IsADirectory) };
        let (content, attr) = self.said(node, item, Depth::Full).await?;
        if !self.identity.may_read_data(&attr, caller) {
            return Err(ExportError::Permission);
        }
        self.may_see(node, caller).await?;
        let end = offset.saturating_add(u64::from(count.min(READ_MAX))).min(attr.size);
        let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
        let mut data = Payload::default();
        if offset < end {
            data.push(Part::Said(content.slice(position(offset)..position(end))));
        }
        Ok(ReadReply { data, eof: end == attr.size, attr })
    }

    /// A listing of the directory that stands for `node`, which has the attributes `attr`.
    pub(super) async fn list_mirrored(
        &self,
        node: &Arc<Node>,
        attr: Attr,
        cookie: u64,
        max_entries: usize,
        caller: &Caller,
    ) -> Result<Listing, ExportError> {
        let above = match node.path.parent() {
            None => node.fileid,
            Some(path) => {
                let parent = self.store.stat(&path).await.map_err(gone)?;
                self.nodes.fileid_at(&path, parent.fileid, View::Directory)
            }
        };
        let stored = self.stored(node).await?;
        if stored.kind != Kind::Directory {
            self.may_see(node, caller).await?;
        }
        if stored.kind == Kind::Directory {
            let (entries, end) = self.entries(node, cookie, max_entries, true).await?;
            let fileid = |entry: &DirEntry| match &entry.name[..] {
                b"." => attr.fileid,
                b".." => above,
                // What is no name was left out of the entries.
                name => node
                    .path
                    .join(name)
                    .map_or(0, |path| self.nodes.fileid_at(&path, entry.fileid, View::Directory)),
            };
            let items = entries.into_iter().map(|entry| {
                let fileid = fileid(&entry);
                DirItem { name: entry.name, cookie: entry.cookie, fileid }
            });
            return Ok(Listing { directory: attr, entries: items.collect(), end });
        }
        let there: Vec<Item> = self.known(node, stored.size, Depth::Glance).await?.items().iter().collect();
        let dots = [(DOT, ".", attr.fileid), (DOT_DOT, "..", above)];
        let items = (DOT_DOT + 1..).zip(Item::ALL).filter(|(_, item)| there.contains(item));
        let items = items.map(|(at, item)| (at, item.file_name(), self.nodes.fileid(node, View::Item(item))));
        let behind = dots.into_iter().chain(items).filter(|(at, ..)| *at > cookie);
        let mut entries: Vec<_> = behind
            .take(max_entries.saturating_add(1))
            .map(|(cookie, name, fileid)| DirItem { name: name.into(), cookie, fileid })
            .collect();
        let end = entries.len() <= max_entries;
        entries.truncate(max_entries);
        Ok(Listing { directory: attr, entries, end })
    }

    /// Whether an entry of the directory `node` has a directory in the proof directory. Where the store does
    /// not tell kinds, objects are looked at while `looks` are left; of the others it is not known, so they
    /// are shown, and LOOKUP decides.
    pub(super) async fn has_mirror(
        &self,
        node: &Node,
        entry: &DirEntry,
        looks: &mut usize,
    ) -> Result<bool, ExportError> {
        if let Some(kind) = entry.kind {
            return Ok(is_mirrored(kind));
        }
        let Ok(path) = node.path.join(&entry.name) else { return Ok(false) };
        let Some(left) = looks.checked_sub(1) else { return Ok(true) };
        *looks = left;
        if left % DESCRIBE_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        match self.store.stat(&path).await.map_err(ExportError::from) {
            Ok(attr) => Ok(is_mirrored(attr.kind)),
            Err(ExportError::Busy) => Err(ExportError::Busy),
            // It is gone, or tells nothing of itself.
            Err(_) => Ok(false),
        }
    }
}

/// The content of the file that holds `value`: text ends with a newline.
fn content(item: Item, value: Bytes) -> Bytes {
    match item {
        Item::Digest | Item::Signer | Item::Status | Item::Tree if value.last() != Some(&b'\n') => {
            [&value[..], b"\n"].concat().into()
        }
        Item::Digest
        | Item::Descriptor
        | Item::Statement
        | Item::Signature
        | Item::Signer
        | Item::Status
        | Item::Tree
        | Item::Ima
        | Item::Certificates => value,
    }
}

/// `attr` with times and `change` that move with `what` is told: clients of NFSv3 see it by the times
/// alone, so its hash stands in place of the nanoseconds.
fn told(attr: Attr, what: &[u8]) -> Attr {
    let hash = hash(what);
    let time = |time: Time| Time { nanos: u32::try_from(hash % 1_000_000_000).unwrap_or(0), ..time };
    Attr { mtime: time(attr.mtime), ctime: time(attr.ctime), change: attr.change ^ hash, ..attr }
}

/// A hash with the bits of the end spread over all.
fn hash(bytes: &[u8]) -> u64 {
    let hash = fnv1a(bytes);
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
