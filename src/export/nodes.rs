//! From handles to paths: what is remembered, and how the rest is found again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::error::ExportError;
use super::handle::{FileHandle, HandleKey, Parsed, Tag, View};
use crate::store::{Kind, Store, StoreError, StoreErrorKind, StorePath};

/// Paths remembered, in bytes.
const REMEMBERED_BYTES: u64 = 128 * 1024 * 1024;
/// What one takes beside its path.
const NODE_BYTES: u64 = 176;
/// Directory entries that one search looks at before it gives up.
const SEARCH_MAX: usize = 4_000_000;
/// Bytes of paths that one search keeps to look at later before it gives up. Only names made to
/// look alike come near.
const SEARCH_BYTES: usize = 16 * 1024 * 1024;
/// Entries read from a directory at once.
const PAGE: usize = 4096;
/// Searches at the same time: they cost what listing a directory costs.
const SEARCHES: usize = 2;
/// How long a handle that leads nowhere is not searched again.
const LOST_FOR: Duration = Duration::from_secs(2);
const LOST_MAX: usize = 4096;

/// An object that a handle stands for.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) tag: Tag,
    pub(super) path: StorePath,
    pub(super) fileid: u64,
}

#[derive(Clone, Debug)]
struct ByPath;

impl Weighter<Tag, Arc<Node>> for ByPath {
    fn weight(&self, _: &Tag, node: &Arc<Node>) -> u64 {
        NODE_BYTES + node.path.as_bytes().len() as u64
    }
}

/// All objects that clients hold handles of.
pub(super) struct Nodes {
    key: HandleKey,
    root: Arc<Node>,
    known: Cache<Tag, Arc<Node>, ByPath>,
    lost: Cache<Tag, Instant>,
    searches: Semaphore,
}

impl Nodes {
    /// A table for the store whose root has `root_fileid`.
    pub(super) fn new(key: HandleKey, root_fileid: u64) -> Self {
        let path = StorePath::root();
        let root = Arc::new(Node { tag: key.tag(root_fileid, &path), path, fileid: root_fileid });
        Self {
            key,
            root,
            known: Cache::with_weighter(1 << 16, REMEMBERED_BYTES, ByPath),
            lost: Cache::new(LOST_MAX),
            searches: Semaphore::new(SEARCHES),
        }
    }

    pub(super) fn fsid(&self) -> u64 {
        self.key.fsid()
    }

    pub(super) fn root(&self) -> &Arc<Node> {
        &self.root
    }

    pub(super) fn len(&self) -> u64 {
        self.known.len() as u64 + 1
    }

    /// The handle of `node`, or of what `view` shows of it.
    pub(super) fn handle(&self, node: &Node, view: Option<View>) -> FileHandle {
        self.key.handle(view, node.fileid, &node.tag, &node.path)
    }

    /// The number of what `view` shows of `node`.
    pub(super) fn fileid(&self, node: &Node, view: View) -> u64 {
        self.key.fileid(view, &node.tag)
    }

    /// The number of what `view` shows of the object `fileid` at `path`.
    pub(super) fn fileid_at(&self, path: &StorePath, fileid: u64, view: View) -> u64 {
        self.key.fileid(view, &self.key.tag(fileid, path))
    }

    /// The node of the object `fileid` at `path`, remembered from now on.
    pub(super) fn node(&self, path: StorePath, fileid: u64) -> Arc<Node> {
        if path.is_root() && fileid == self.root.fileid {
            return self.root.clone();
        }
        let tag = self.key.tag(fileid, &path);
        if let Some(node) = self.known.get(&tag) {
            return node;
        }
        let node = Arc::new(Node { tag, path, fileid });
        self.known.insert(tag, node.clone());
        node
    }

    /// The number of what the handle `bytes` stands for, which may be gone from the store.
    pub(super) fn number(&self, bytes: &[u8]) -> Result<u64, ExportError> {
        let parsed = Parsed::new(bytes).filter(|parsed| self.key.authentic(parsed));
        let Parsed { view, fileid, tag, .. } = parsed.ok_or(ExportError::BadHandle)?;
        Ok(view.map_or(fileid, |view| self.key.fileid(view, &tag)))
    }

    /// The node that the handle `bytes` stands for, and what of it. It may be gone from the store.
    pub(super) async fn resolve(
        &self,
        store: &dyn Store,
        bytes: &[u8],
    ) -> Result<(Arc<Node>, Option<View>), ExportError> {
        let parsed = Parsed::new(bytes).ok_or(ExportError::BadHandle)?;
        // Also where the tag is known: what was changed anywhere is no handle, whatever is remembered.
        if !self.key.authentic(&parsed) {
            return Err(ExportError::BadHandle);
        }
        Ok((self.find(store, &parsed).await?, parsed.view))
    }

    async fn find(&self, store: &dyn Store, parsed: &Parsed<'_>) -> Result<Arc<Node>, ExportError> {
        if parsed.tag == self.root.tag {
            return Ok(self.root.clone());
        }
        if let Some(result) = self.remembered(&parsed.tag) {
            return result;
        }
        let _permit = self.searches.acquire().await.map_err(|_| ExportError::Busy)?;
        // Another call may have looked for the same object meanwhile.
        if let Some(result) = self.remembered(&parsed.tag) {
            return result;
        }
        match Search::new(&self.key, parsed).run(store).await? {
            Some(path) => Ok(self.node(path, parsed.fileid)),
            None => {
                self.lost.insert(parsed.tag, Instant::now());
                Err(ExportError::Stale)
            }
        }
    }

    /// What is known without a search.
    fn remembered(&self, tag: &Tag) -> Option<Result<Arc<Node>, ExportError>> {
        if let Some(node) = self.known.get(tag) {
            return Some(Ok(node));
        }
        let lost = self.lost.get(tag).is_some_and(|at| at.elapsed() < LOST_FOR);
        lost.then_some(Err(ExportError::Stale))
    }
}

/// Looks for the path of a handle, name by name along its hints.
struct Search<'a> {
    key: &'a HandleKey,
    wanted: &'a Parsed<'a>,
    looked_at: usize,
}

impl<'a> Search<'a> {
    fn new(key: &'a HandleKey, wanted: &'a Parsed<'a>) -> Self {
        Self { key, wanted, looked_at: 0 }
    }

    async fn run(mut self, store: &dyn Store) -> Result<Option<StorePath>, StoreError> {
        let mut open = vec![(StorePath::root(), 0)];
        let mut bytes = 0;
        while let Some((directory, depth)) = open.pop() {
            bytes -= directory.as_bytes().len();
            let mut cookie = 0;
            loop {
                let page = match store.read_dir(&directory, cookie, PAGE).await {
                    Ok(page) => page,
                    Err(error) if leads_nowhere(error.kind) => break,
                    Err(error) => return Err(error),
                };
                self.looked_at += page.entries.len().max(1);
                if self.looked_at > SEARCH_MAX {
                    return Ok(None);
                }
                for entry in &page.entries {
                    if matches!(&entry.name[..], b"." | b"..") || !self.wanted.may_be(depth, &entry.name) {
                        continue;
                    }
                    let Ok(path) = directory.join(&entry.name) else { continue };
                    let names = depth + 1;
                    if self.wanted.may_have(names)
                        && self.key.tag(self.wanted.fileid, &path) == self.wanted.tag
                    {
                        return Ok(Some(path));
                    }
                    if self.wanted.may_have_more_than(names)
                        && matches!(entry.kind, None | Some(Kind::Directory))
                    {
                        bytes += path.as_bytes().len();
                        if bytes > SEARCH_BYTES {
                            return Ok(None);
                        }
                        open.push((path, names));
                    }
                }
                match page.entries.last() {
                    Some(last) if !page.end && last.cookie != cookie => cookie = last.cookie,
                    _ => break,
                }
            }
        }
        Ok(None)
    }
}

/// Whether a directory is gone or closed, so that nothing is found in it.
fn leads_nowhere(kind: StoreErrorKind) -> bool {
    matches!(
        kind,
        StoreErrorKind::NotFound
            | StoreErrorKind::NotADirectory
            | StoreErrorKind::Symlink
            | StoreErrorKind::Access
            | StoreErrorKind::Stale
    )
}
