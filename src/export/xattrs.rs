//! Extended attributes: what is told of a file's proof, and the store's own where the export says so.
//!
//! What was found out is told to whoever may look at the file, also where its data is refused: a client can
//! see why, and check for itself. Only rules about `op=XATTR` keep it back. Values come with one state of the evidence, the one that was judged;
//! nothing is kept of them here. Statement, signatures and certificates are the store's bytes, which read as
//! such, and no more than that is known of those of a refused file. The store's attributes are its word alone, and none of them can take a
//! name that the gateway speaks under.

use std::sync::Arc;

use bytes::Bytes;

use super::error::ExportError;
use super::evidence::{Item, Xattrs};
use super::items::{self, Items};
use super::names::{Known, state};
use super::nodes::Node;
use super::permission::Caller;
use super::proof_directory::Object;
use super::rules::Wish;
use super::trust::{Depth, Seen};
use super::{Export, gone};
use crate::carrier::{BUNDLE_XATTR, USER_IMA};
use crate::policy::Op;
use crate::policy::ipe::audit::Hook;
use crate::store::{Attr, Kind, StoreError, StoreErrorKind, StoreFile, XATTR_MAX, is_no_answer};

/// The one namespace that RFC 8276 carries.
const USER: &[u8] = b"user.";
/// The prefix of names that are the gateway's own.
const OWN: &[u8] = b"verity.";
/// The most memory that listing names takes, in bytes, where those of the store pass. Its 64 KiB may be names
/// of one letter behind `user.`: 9362 vectors of 24 bytes and an allocation, listed twice without the latter,
/// in vectors that grew by doubling.
pub const NAMES_HELD: usize = 1280 * 1024;
/// The same where none of them pass.
const OWN_HELD: usize = 4096;
/// The longest name that Linux knows, with `user.`.
const NAME_MAX: usize = 255;

impl Export {
    /// The most memory that [`Export::list_xattrs`] takes, in bytes.
    pub fn names_held(&self) -> usize {
        match self.xattrs {
            Xattrs::Evidence => OWN_HELD,
            Xattrs::All => NAMES_HELD,
        }
    }

    /// The names of an object's extended attributes, without `user.`: those that have a value. Nothing is
    /// hashed for it: what only hashing can tell is named, and told to who asks for it.
    pub async fn list_xattrs(&self, handle: &[u8], caller: &Caller) -> Result<Vec<Vec<u8>>, ExportError> {
        let (Object { node, view }, attr) = self.looked_at(handle, caller).await?;
        if view.is_some() || attr.kind != Kind::Regular {
            return Ok(Vec::new());
        }
        let items = match self.known(&node, attr.size, Depth::Glance).await? {
            Known::Judged(verdict) => verdict.items,
            Known::Unhashed { items, .. } => items,
        };
        let mut names: Vec<Vec<u8>> =
            items.iter().map(|item| item.xattr_name().as_bytes().to_vec()).collect();
        if self.xattrs == Xattrs::All && self.identity.access(&attr, caller).read {
            let theirs = self.of_any(&node, |file| async move { file.list_xattrs().await }).await?;
            // As Linux counts, with prefix and end of each.
            let room = |name: &Vec<u8>| USER.len() + name.len() + 1;
            let mut left = XATTR_MAX - names.iter().map(room).sum::<usize>();
            for mut name in theirs {
                if foreign(&name).is_none() {
                    continue;
                }
                // Not a copy, of which there may be thousands.
                name.drain(..USER.len());
                match left.checked_sub(room(&name)) {
                    Some(rest) => left = rest,
                    None => break,
                }
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The value of an extended attribute, named without `user.`: at most 64 KiB. All of a file may have
    /// to be hashed where only that tells what is asked for.
    pub async fn get_xattr(&self, handle: &[u8], name: &[u8], caller: &Caller) -> Result<Bytes, ExportError> {
        let (Object { node, view }, attr) = self.looked_at(handle, caller).await?;
        if name.is_empty() || name.contains(&0) {
            return Err(ExportError::InvalidName);
        }
        if USER.len() + name.len() > NAME_MAX {
            return Err(ExportError::NameTooLong);
        }
        if view.is_some() || attr.kind != Kind::Regular {
            return Err(ExportError::NoXattr);
        }
        let value = match Item::of_xattr(name) {
            Some(item) => self.item(&node, &attr, item, Depth::Full).await?,
            None => self.stored_xattr(&node, &attr, name, caller).await?,
        };
        value.ok_or(ExportError::NoXattr)
    }

    /// An object that `caller` may look at the extended attributes of.
    async fn looked_at(&self, handle: &[u8], caller: &Caller) -> Result<(Object, Attr), ExportError> {
        let object = self.object(handle).await?;
        let attr = match object.view {
            None => self.stored(&object.node).await?,
            Some(view) => self.mirrored_attr(&object.node, view, Depth::Full).await?,
        };
        if !self.identity.access(&attr, caller).xattrs {
            return Err(ExportError::Permission);
        }
        self.may_see(&object.node, caller).await?;
        Ok((object, attr))
    }

    /// Whether the policy allows what is said of `node` to be told.
    pub(super) async fn may_see(&self, node: &Node, caller: &Caller) -> Result<(), ExportError> {
        self.if_seen(node, caller, |wish| self.may(wish)).await
    }

    /// The same for who only asks, of which nothing is told.
    pub(super) async fn may_see_quietly(&self, node: &Node, caller: &Caller) -> bool {
        let ask = |wish: Wish<'_>| if self.may_quietly(wish) { Ok(()) } else { Err(ExportError::Permission) };
        self.if_seen(node, caller, ask).await.is_ok()
    }

    async fn if_seen(
        &self,
        node: &Node,
        caller: &Caller,
        ask: impl FnOnce(Wish<'_>) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        if !self.is_ruled() {
            return Ok(());
        }
        let stored = self.stored(node).await?;
        let known = match stored.kind {
            // What only hashing can tell is found out first: a rule may ask for it.
            Kind::Regular => Some(self.known(node, stored.size, Depth::Full).await?),
            _ => None,
        };
        let verdict = match &known {
            // Also of a file of another size, which is refused, while its evidence is told.
            Some(Known::Judged(verdict)) => Some(verdict),
            _ => None,
        };
        ask(Wish { op: Op::Xattr, hook: Hook::NfsXattr, node, verdict, caller })
    }

    /// The value of `item`, where it has one. At a glance, what only hashing can tell is
    /// [`ExportError::Busy`].
    pub(super) async fn item(
        &self,
        node: &Node,
        attr: &Attr,
        item: Item,
        most: Depth,
    ) -> Result<Option<Bytes>, ExportError> {
        let depth = match item {
            Item::Digest | Item::Descriptor | Item::Signer | Item::Status | Item::Tree => most,
            Item::Statement | Item::Signature | Item::Ima | Item::Certificates => Depth::Glance,
        };
        let mut known = self.known(node, attr.size, depth).await?;
        let mut evidence = None;
        if !known.items().iter().any(|there| there == item) {
            return Ok(None);
        }
        if known.is_of_evidence(item)
            && let Some(seen) = known.seen()
        {
            evidence = self.trust.evidence(&node.path, attr.size, seen).await?;
            if evidence.is_none() {
                // It is not what was judged any more.
                (known, evidence) = self.look(node, attr.size, depth).await?;
            }
        }
        let outcome = match &known {
            Known::Judged(verdict) => Some(&verdict.outcome),
            Known::Unhashed { .. } => None,
        };
        Ok(match item {
            Item::Digest | Item::Descriptor | Item::Signer | Item::Status | Item::Tree
                if outcome.is_none() =>
            {
                return Err(ExportError::Busy);
            }
            Item::Digest | Item::Descriptor | Item::Tree => {
                let proven =
                    outcome.and_then(|outcome| outcome.as_ref().ok()).map(|proven| proven.descriptor);
                let descriptor = proven.or_else(|| evidence.as_ref().and_then(items::claimed));
                descriptor.and_then(|descriptor| items::of_descriptor(item, &descriptor))
            }
            Item::Signer => outcome.and_then(items::signers),
            Item::Status => match &known {
                Known::Judged(verdict) => {
                    let damage = self.damages.of(&node.tag, state(attr, verdict));
                    Some(items::status(verdict.finding(attr).as_ref(), damage.as_ref()))
                }
                Known::Unhashed { .. } => None,
            },
            Item::Statement | Item::Signature | Item::Ima | Item::Certificates => {
                evidence.and_then(|evidence| items::part(item, outcome, &evidence))
            }
        })
    }

    /// The store's own attribute `name`, where the export lets it pass.
    async fn stored_xattr(
        &self,
        node: &Node,
        attr: &Attr,
        name: &[u8],
        caller: &Caller,
    ) -> Result<Option<Bytes>, ExportError> {
        let full = [USER, name].concat();
        if self.xattrs == Xattrs::Evidence || foreign(&full).is_none() {
            return Ok(None);
        }
        if !self.identity.access(attr, caller).read {
            return Err(ExportError::Permission);
        }
        let full = &*full;
        let get = |file: Arc<dyn StoreFile>| async move {
            match file.get_xattr(full, XATTR_MAX).await {
                Err(error) if error.kind == StoreErrorKind::TooLarge => Ok(None),
                answer => answer,
            }
        };
        self.of_any(node, get).await
    }

    /// What `ask` gives of the file of `node`, opened for a moment on the first store that answers.
    async fn of_any<T: Send, F>(
        &self,
        node: &Node,
        mut ask: impl FnMut(Arc<dyn StoreFile>) -> F + Send,
    ) -> Result<T, ExportError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        loop {
            let mut first = None;
            for source in 0..self.sources.len() {
                let answer = match self.sources.open(source, &node.path).await {
                    // Where there are several stores, numbers are made of paths.
                    Ok((_, there)) if !self.sources.are_many() && there != node.fileid => {
                        return Err(ExportError::Stale);
                    }
                    Ok((file, _)) => ask(file).await,
                    Err(error) => Err(error),
                };
                match answer {
                    Err(error) if is_no_answer(error.kind) => first = first.or(Some(error)),
                    answer => return answer.map_err(gone),
                }
            }
            let failed = Err(first.map_or(ExportError::Busy, ExportError::from));
            if !self.is_waited_for(&failed).await {
                return failed;
            }
        }
    }
}

/// What is left of a name in the store that may pass: of the user's, and none that the gateway speaks
/// under or that holds evidence.
fn foreign(name: &[u8]) -> Option<&[u8]> {
    let short = name.strip_prefix(USER).filter(|short| !short.is_empty())?;
    let own = short.starts_with(OWN) || name == USER_IMA || name == BUNDLE_XATTR;
    (!own && name.len() <= NAME_MAX).then_some(short)
}

impl Known {
    pub(super) fn items(&self) -> Items {
        match self {
            Self::Judged(verdict) => verdict.items,
            Self::Unhashed { items, .. } => *items,
        }
    }

    /// The state of the evidence that was looked at.
    fn seen(&self) -> Option<&Seen> {
        match self {
            Self::Judged(verdict) => verdict.seen.as_ref(),
            Self::Unhashed { seen, .. } => Some(seen),
        }
    }

    /// Whether the value of `item` stands in the evidence, and not in the verdict.
    fn is_of_evidence(&self, item: Item) -> bool {
        match item {
            Item::Statement | Item::Signature | Item::Ima | Item::Certificates => true,
            Item::Digest | Item::Descriptor | Item::Tree => {
                matches!(self, Self::Judged(verdict) if verdict.outcome.is_err())
            }
            Item::Signer | Item::Status => false,
        }
    }
}
