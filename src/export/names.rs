//! Names and attributes: lookups, listings, and the signed size in place of the store's.

use std::sync::Arc;

use super::error::ExportError;
use super::fingerprint::fingerprint;
use super::handle::{FileHandle, View};
use super::items::Items;
use super::nodes::Node;
use super::permission::{Access, Caller};
use super::proof_directory::Object;
use super::rules::Wish;
use super::trust::{Depth, Judged, Judgement, Seen, Unhashed, Verdict};
use super::{Export, gone, proof_directory};
use crate::carrier::{Evidence, SIDECAR_DIRECTORY, Sidecar};
use crate::event::Cause;
use crate::policy::ipe::audit::Hook;
use crate::policy::{Decision, Op, decide};
use crate::store::{Attr, DirEntry, FsStat, Kind, NAME_MAX, StoreErrorKind, StorePath, acting_as};

/// Entries of a listing that are described before other work gets its turn.
pub(super) const DESCRIBE_AT_ONCE: usize = 16;
/// Pages of a listing in which nothing may be shown before the store counts as broken.
const HIDDEN_PAGES: usize = 64;
/// The same for the proof directory, which has no links and special files, and the entries of a page.
const MIRRORED_PAGES: usize = 1024;
const MIRRORED_PAGE: usize = 1024;
/// Objects looked at for one listing of the proof directory, where the store does not tell their kinds.
const LOOKS: usize = 2048;

/// One name in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirItem {
    /// The name; `.` and `..` stand among the others.
    pub name: Vec<u8>,
    /// Where listing goes on behind this entry.
    pub cookie: u64,
    /// The object's number.
    pub fileid: u64,
}

/// Part of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The directory's attributes.
    pub directory: Attr,
    /// The entries, in the store's order.
    pub entries: Vec<DirItem>,
    /// True when nothing follows.
    pub end: bool,
}

impl Export {
    /// The handle of the export's root.
    pub fn root(&self) -> FileHandle {
        self.nodes.handle(self.nodes.root(), None)
    }

    /// A number for the file system as a whole; it stays over restarts.
    pub fn fsid(&self) -> u64 {
        self.nodes.fsid()
    }

    /// The [`Attr::fileid`] in a handle, if this gateway made the handle; says nothing of the object.
    pub fn fileid(&self, handle: &[u8]) -> Result<u64, ExportError> {
        self.nodes.number(handle)
    }

    /// The attributes of an object; the size of a signed file is the signed one.
    pub async fn attributes(&self, handle: &[u8], caller: &Caller) -> Result<Attr, ExportError> {
        let object = self.object(handle).await?;
        self.seen(&object, caller).await
    }

    /// [`Export::attributes`] to go with an answer about something else: nothing is told of what policy keeps back.
    pub async fn attributes_beside(&self, handle: &[u8], caller: &Caller) -> Option<Attr> {
        let object = self.object(handle).await.ok()?;
        if matches!(object.view, Some(View::Item(_))) && !self.may_see_quietly(&object.node, caller).await {
            return None;
        }
        self.attributes_of(&object).await.ok()
    }

    /// Finds `name` in a directory. `.` and `..` are names, too; the root is its own parent.
    pub async fn lookup(
        &self,
        directory: &[u8],
        name: &[u8],
        caller: &Caller,
    ) -> Result<(FileHandle, Attr), ExportError> {
        let (directory, attr) = self.directory(directory).await?;
        if !self.identity.access(&attr, caller).lookup {
            return Err(ExportError::Permission);
        }
        let (object, attr) = self.step_as(&directory, name, caller).await?;
        Ok((self.handle(&object), attr))
    }

    /// Finds what the absolute path `path` names, for MOUNT. Empty names are passed over.
    pub async fn resolve(&self, path: &[u8], caller: &Caller) -> Result<(FileHandle, Attr), ExportError> {
        let mut object = Object { node: self.nodes.root().clone(), view: None };
        let mut attr = self.stored(&object.node).await?;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            if attr.kind != Kind::Directory {
                return Err(ExportError::NotADirectory);
            }
            (object, attr) = self.step_as(&object, name, caller).await?;
        }
        Ok((self.handle(&object), attr))
    }

    /// What a caller may do with an object. Reading and running are withheld where policy denies them.
    pub async fn access(&self, handle: &[u8], caller: &Caller) -> Result<(Access, Attr), ExportError> {
        self.weigh(handle, caller, false).await
    }

    /// [`Export::access`] for the ACCESS of NFSv3, whose clients do not READ what that withholds: where they ask
    /// `to_read` a regular file that policy denies, it is told here or never (NFSv4 has OPEN). Nothing is told of what
    /// else is withheld, for clients ask for all there is at once.
    pub async fn answer_access(
        &self,
        handle: &[u8],
        to_read: bool,
        caller: &Caller,
    ) -> Result<(Access, Attr), ExportError> {
        self.weigh(handle, caller, to_read).await
    }

    /// [`Export::access`]; whether it is told that policy denies reading.
    async fn weigh(&self, handle: &[u8], caller: &Caller, tell: bool) -> Result<(Access, Attr), ExportError> {
        let Object { node, view } = self.object(handle).await?;
        if let Some(view) = view {
            // The attributes tell of what is said already.
            if matches!(view, View::Item(_)) && !self.may_see_quietly(&node, caller).await {
                return Err(ExportError::Denied(Cause::Policy));
            }
            let attr = self.mirrored_attr(&node, view, Depth::Full).await?;
            return Ok((self.identity.access(&attr, caller), attr));
        }
        let stored = self.stored(&node).await?;
        let (attr, verdict) = self.presented(&node, stored, Depth::Full).await?;
        let mut access = self.identity.access(&attr, caller);
        if let Some(verdict) = verdict
            && (access.read || access.execute)
        {
            let finding = verdict.finding(&stored);
            match decide(self.mode, finding.as_ref().map(|finding| finding.cause)) {
                Decision::Deny(_) => {
                    self.report_finding(&node, finding, caller, false);
                    access = Access { xattrs: access.xattrs, ..Access::default() };
                }
                Decision::Allow => access = self.granted(access, &node, Some(&verdict), caller, tell),
                Decision::AllowUnproven(_) => access = self.granted(access, &node, None, caller, tell),
                // READ tells what is wrong.
                Decision::Fail(_) => {}
            }
        }
        if attr.kind == Kind::Directory {
            access.read &= self.may_list_quietly(&node, caller);
        }
        access.xattrs = access.xattrs && self.may_see_quietly(&node, caller).await;
        Ok((access, attr))
    }

    /// The target of a symbolic link. Links are not signed; see the README on what is not protected.
    pub async fn read_link(&self, handle: &[u8], _caller: &Caller) -> Result<(Vec<u8>, Attr), ExportError> {
        let Object { node, view } = self.object(handle).await?;
        let attr = self.stored(&node).await?;
        if view.is_some() || attr.kind != Kind::Symlink {
            return Err(ExportError::NotASymlink);
        }
        let target = self.store.read_link(&node.path).await.map_err(gone)?;
        Ok((target, attr))
    }

    /// At most `max_entries` entries of a directory behind `cookie` (0: from the start).
    pub async fn read_dir(
        &self,
        handle: &[u8],
        cookie: u64,
        max_entries: usize,
        caller: &Caller,
    ) -> Result<Listing, ExportError> {
        let (Object { node, view }, attr) = self.directory(handle).await?;
        if !self.identity.access(&attr, caller).read {
            return Err(ExportError::Permission);
        }
        self.may_list(&node, caller)?;
        self.list((Object { node, view }, attr), cookie, max_entries, caller).await
    }

    /// [`Export::read_dir`] of a directory that may be listed.
    pub(super) async fn list(
        &self,
        (Object { node, view }, attr): (Object, Attr),
        cookie: u64,
        max_entries: usize,
        caller: &Caller,
    ) -> Result<Listing, ExportError> {
        if view.is_some() {
            return self.list_mirrored(&node, attr, cookie, max_entries, caller).await;
        }
        let shown = self.mirror.settings.shown().filter(|_| node.path.is_root());
        if shown.is_some() && cookie == proof_directory::COOKIE {
            return Ok(Listing { directory: attr, entries: Vec::new(), end: true });
        }
        let listed = self.entries(&node, cookie, max_entries, false);
        let (entries, mut end) = acting_as(self.identity.acting(caller), listed).await?;
        let items = entries.into_iter().map(|entry| {
            let DirEntry { name, cookie, fileid, .. } = entry;
            // The root's parent is the root: nothing outside has a number here.
            let above = node.path.is_root() && matches!(&name[..], b"." | b"..");
            DirItem { name, cookie, fileid: if above { node.fileid } else { fileid } }
        });
        let mut entries: Vec<_> = items.collect();
        if let (Some(name), true) = (shown, end) {
            let fileid = self.nodes.fileid(&node, View::Directory);
            end = entries.len() < max_entries;
            let last = DirItem { name: name.to_vec(), cookie: proof_directory::COOKIE, fileid };
            entries.extend(end.then_some(last));
        }
        Ok(Listing { directory: attr, entries, end })
    }

    /// Whether the policy allows a directory to be listed.
    pub(super) fn may_list(&self, node: &Node, caller: &Caller) -> Result<(), ExportError> {
        self.may(Wish { op: Op::List, hook: Hook::NfsReaddir, node, verdict: None, caller })
    }

    fn may_list_quietly(&self, node: &Node, caller: &Caller) -> bool {
        self.may_quietly(Wish { op: Op::List, hook: Hook::NfsAccess, node, verdict: None, caller })
    }

    /// What of `access` to a regular file the policy leaves; whether it is told that it denies reading.
    fn granted(
        &self,
        access: Access,
        node: &Node,
        verdict: Option<&Verdict>,
        caller: &Caller,
        tell: bool,
    ) -> Access {
        let wish = |op| Wish { op, hook: Hook::NfsAccess, node, verdict, caller };
        let execute = access.execute && self.may_quietly(wish(Op::Execute));
        let read = access.read && self.may_quietly(wish(Op::Read));
        if tell && access.read && !read {
            // Known already.
            let _ = self.may(wish(Op::Read));
        }
        Access { read, execute, ..access }
    }

    /// At most `max` entries of the directory `node` behind `cookie`, of those that clients may see
    /// (`mirrored`: in the proof directory), and whether nothing follows.
    pub(super) async fn entries(
        &self,
        node: &Node,
        mut cookie: u64,
        max: usize,
        mirrored: bool,
    ) -> Result<(Vec<DirEntry>, bool), ExportError> {
        let root = node.path.is_root();
        let hidden = if root { self.sidecar_fileid().await? } else { None };
        // The mirror leaves out what may be most of a directory.
        let (pages, size) =
            if mirrored { (MIRRORED_PAGES, max.max(MIRRORED_PAGE)) } else { (HIDDEN_PAGES, max) };
        let mut looks = LOOKS;
        for _ in 0..pages {
            let page = self.store.read_dir(&node.path, cookie, size).await.map_err(gone)?;
            let last = page.entries.last().map(|entry| entry.cookie);
            let (mut entries, mut end) = (Vec::new(), page.end || last.is_none());
            for entry in page.entries {
                let dots = matches!(&entry.name[..], b"." | b"..");
                let secret = root
                    && (entry.name == SIDECAR_DIRECTORY
                        || self.mirror.settings.is_named(&entry.name)
                        || (!dots && Some(entry.fileid) == hidden));
                let allowed = dots || (entry.name.len() <= NAME_MAX && node.path.join(&entry.name).is_ok());
                let shown = !secret && allowed;
                if !shown || (mirrored && !dots && !self.has_mirror(node, &entry, &mut looks).await?) {
                    continue;
                }
                if entries.len() == max {
                    end = false;
                    break;
                }
                entries.push(entry);
            }
            match last {
                // All that came was hidden: a page without entries would read as the end.
                Some(last) if entries.is_empty() && !end && last != cookie => cookie = last,
                _ => return Ok((entries, end)),
            }
        }
        Err(ExportError::Io)
    }

    /// Room and limits of the file system behind the store.
    pub async fn stat_fs(&self, handle: &[u8], caller: &Caller) -> Result<(FsStat, Attr), ExportError> {
        let object = self.object(handle).await?;
        let attr = self.seen(&object, caller).await?;
        Ok((self.store.stat_fs().await?, attr))
    }

    pub(super) async fn directory(&self, handle: &[u8]) -> Result<(Object, Attr), ExportError> {
        let object = self.object(handle).await?;
        let attr = match object.view {
            None => self.stored(&object.node).await?,
            Some(view @ View::Directory) => self.mirrored_attr(&object.node, view, Depth::Glance).await?,
            Some(View::Item(_)) => return Err(ExportError::NotADirectory),
        };
        if attr.kind != Kind::Directory {
            return Err(ExportError::NotADirectory);
        }
        Ok((object, attr))
    }

    /// The attributes of `object` as `caller` sees them.
    async fn seen(&self, object: &Object, caller: &Caller) -> Result<Attr, ExportError> {
        if matches!(object.view, Some(View::Item(_))) {
            self.may_see(&object.node, caller).await?;
        }
        self.attributes_of(object).await
    }

    /// The attributes of `object`.
    async fn attributes_of(&self, Object { node, view }: &Object) -> Result<Attr, ExportError> {
        match *view {
            None => Ok(self.presented(node, self.stored(node).await?, Depth::Glance).await?.0),
            Some(view) => self.mirrored_attr(node, view, Depth::Full).await,
        }
    }

    /// What `name` in the directory `node` is.
    pub(super) async fn found(
        &self,
        node: &Arc<Node>,
        name: &[u8],
    ) -> Result<(Arc<Node>, Attr), ExportError> {
        let path = match name {
            b"." => node.path.clone(),
            b".." => node.path.parent().unwrap_or_else(StorePath::root),
            name => node.path.join(name)?,
        };
        if path.is_root() {
            let root = self.nodes.root().clone();
            let attr = self.stored(&root).await?;
            return Ok((root, attr));
        }
        if path == Sidecar::directory() {
            return Err(ExportError::NotFound);
        }
        let attr = self.store.stat(&path).await?;
        let node = self.node_of(path, &attr).await?;
        let (attr, _) = self.presented(&node, attr, Depth::Glance).await?;
        Ok((node, attr))
    }

    /// The node of the object at `path`, which is not the root, with the attributes `attr` in the store.
    pub(super) async fn node_of(&self, path: StorePath, attr: &Attr) -> Result<Arc<Node>, ExportError> {
        // The hidden directory by another name, as where names differ in case alone.
        let in_root = path.parent().is_some_and(|parent| parent.is_root());
        if in_root && attr.kind == Kind::Directory && self.sidecar_fileid().await? == Some(attr.fileid) {
            return Err(ExportError::NotFound);
        }
        Ok(self.nodes.node(path, attr.fileid))
    }

    /// The number of the directory that clients must not see, `None` where there is none. Not to know
    /// it is an error: it could be shown by mistake.
    async fn sidecar_fileid(&self) -> Result<Option<u64>, ExportError> {
        match self.store.stat(&Sidecar::directory()).await {
            Ok(attr) => Ok(Some(attr.fileid)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The attributes of `node` as the store has them, if it is still the same object.
    pub(super) async fn stored(&self, node: &Node) -> Result<Attr, ExportError> {
        let attr = self.store.stat(&node.path).await.map_err(gone)?;
        if attr.fileid != node.fileid {
            return Err(ExportError::Stale);
        }
        Ok(attr)
    }

    /// The attributes as clients see them, with the verdict on a regular file.
    pub(super) async fn presented(
        &self,
        node: &Node,
        attr: Attr,
        depth: Depth,
    ) -> Result<(Attr, Option<Verdict>), ExportError> {
        if attr.kind != Kind::Regular {
            return Ok((attr, None));
        }
        let known = self.known(node, attr.size, depth).await?;
        Ok(self.presented_as(node, attr, known))
    }

    /// [`Export::presented`] of a regular file of which so much is known.
    pub(super) fn presented_as(&self, node: &Node, attr: Attr, known: Known) -> (Attr, Option<Verdict>) {
        match known {
            Known::Judged(verdict) => (self.shown(node, attr, &verdict), Some(verdict)),
            // It has the store's size until somebody opens it, unless its size was proven before.
            Known::Unhashed { before, fingerprint, .. } => {
                let shown = before.as_ref().map_or(attr, |before| self.shown(node, attr, before));
                (Attr { change: attr.change.wrapping_add(fingerprint), ..shown }, before)
            }
        }
    }

    /// The attributes of a regular file as clients see them, who hold to them what they know of it for as
    /// long as [`Attr::change`] stands: it moves with the verdict, the evidence and damage that was met.
    pub(super) fn shown(&self, node: &Node, attr: Attr, verdict: &Verdict) -> Attr {
        // Warn mode serves a file of another size as the store has it, so that is its size then.
        let unproven = match decide(self.mode, verdict.finding(&attr).map(|finding| finding.cause)) {
            Decision::AllowUnproven(_) => true,
            Decision::Allow | Decision::Deny(_) | Decision::Fail(_) => false,
        };
        let size = if unproven { None } else { verdict.signed_size() };
        let change = state(&attr, verdict);
        let damage = self.damages.of(&node.tag, change).map_or(0, |damage| damage.fingerprint());
        Attr { size: size.unwrap_or(attr.size), change: change.wrapping_add(damage), ..attr }
    }

    /// What is known of the evidence of a file that has `size` bytes in the store.
    pub(super) async fn known(&self, node: &Node, size: u64, depth: Depth) -> Result<Known, ExportError> {
        if let Some(verdict) = self.verdicts.get(&node.tag) {
            if self.trust.is_fresh(&verdict) {
                return Ok(Known::Judged(verdict));
            }
            if self.trust.holds(&node.path, &verdict).await {
                let verdict = verdict.confirmed();
                self.verdicts.insert(node.tag, verdict.clone());
                return Ok(Known::Judged(verdict));
            }
        }
        Ok(self.look(node, size, depth).await?.0)
    }

    /// Judges the evidence of a file anew. Gives it, too, where it can be read.
    pub(super) async fn look(
        &self,
        node: &Node,
        size: u64,
        depth: Depth,
    ) -> Result<(Known, Option<Evidence>), ExportError> {
        let judged = loop {
            let judged = self.trust.judge(&node.path, size, depth).await;
            if !self.is_waited_for(&judged).await {
                break judged?;
            }
        };
        Ok(self.learn(node, judged))
    }

    /// Keeps what became of looking at the evidence of a file.
    pub(super) fn learn(&self, node: &Node, judged: Judged) -> (Known, Option<Evidence>) {
        match judged {
            Judged::Known(Judgement { verdict, evidence, .. }) => {
                self.keep(node, &verdict);
                (Known::Judged(verdict), evidence)
            }
            Judged::Unhashed(Unhashed { evidence, seen }) => {
                // A size that was proven holds for names until the file is looked at again.
                let before = self.verdicts.get(&node.tag);
                let before =
                    before.filter(|verdict| verdict.signed_size().is_some() && verdict.trust_is(&self.trust));
                let outcome = before.as_ref().map(|before| &before.outcome);
                let fingerprint = fingerprint(outcome, Some(&seen));
                let items = Items::of(None, Some(&evidence));
                (Known::Unhashed { before, fingerprint, items, seen }, Some(evidence))
            }
        }
    }

    /// Keeps a verdict that was just made. A file that is held open under another is opened again, so that
    /// a READ and what is told of the file go together.
    fn keep(&self, node: &Node, verdict: &Verdict) {
        self.verdicts.insert(node.tag, verdict.clone());
        let open = self.open_files.get(&node.tag);
        if open.is_some_and(|open| open.verdict.fingerprint != verdict.fingerprint) {
            self.open_files.remove(&node.tag);
        }
    }
}

/// The change attribute of a file with nothing but a verdict. The size that the store tells is in it, since
/// the verdict on the file hangs on that, and a store that lies need not move its times with it.
pub(super) fn state(attr: &Attr, verdict: &Verdict) -> u64 {
    let size = verdict.size.unwrap_or(attr.size).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    attr.change.wrapping_add(verdict.fingerprint).wrapping_add(size)
}

/// What is known of a file's evidence.
pub(super) enum Known {
    /// Its verdict.
    Judged(Verdict),
    /// Only hashing all of the file can tell.
    Unhashed {
        /// The last verdict, on other evidence or another state of the file.
        before: Option<Verdict>,
        /// What it adds to the change attribute.
        fingerprint: u64,
        /// What can be told, some of it only after hashing.
        items: Items,
        /// The evidence that was looked at.
        seen: Seen,
    },
}
