//! Moving the evidence of one file from one carrier to another, without signing anything.
//!
//! The target is written and read back before anything is taken from where the evidence was: whoever is
//! interrupted has it in the old place, the new one, or both, and a second run finishes.

use std::sync::Arc;

use bytes::Bytes;

use crate::carrier::bundle::tree_offset;
use crate::carrier::{
    Appended, Carrier, CarrierError, CarrierKind, Evidence, EvidenceWriter, OpenEvidence, TreeSource,
    copy_tree,
};
use crate::store::{Store, StoreError, StoreFile, StorePath};
use crate::verity::{Descriptor, TreeBuilder, VerityError};

/// Bytes read in one step.
const STEP: u64 = 1024 * 1024;
/// Bytes of tree that are compared at once.
const PIECE: u64 = 256 * 1024;

/// From where to where.
pub(super) struct Mover {
    pub(super) store: Arc<dyn Store>,
    pub(super) appended: Appended,
    pub(super) target: Arc<dyn Carrier>,
    /// None of them is the target.
    pub(super) sources: Vec<Arc<dyn Carrier>>,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// The target has evidence that it had not before, or another place has none any more.
    Now,
    /// The target had it already.
    Already,
    /// No carrier has any.
    Nothing,
}

/// Why evidence stays where it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    #[error(
        "{0}: all its evidence are IMA signatures, which have no tree to move; sign it with \"nfs-verity sign\""
    )]
    NoDescriptor(StorePath),
    #[error("{path}: its evidence in {from} is for {signed} bytes, the file has {found}; sign it again")]
    Size { path: StorePath, from: CarrierKind, signed: u64, found: u64 },
    #[error(
        "{path}: its data are not what the evidence in {from} was made for; sign it again, or restore the file"
    )]
    Root { path: StorePath, from: CarrierKind },
    #[error(
        "{path}: {from} and {to} hold different statements; sign it again in the one that is to stay, and remove the other"
    )]
    Conflict { path: StorePath, from: CarrierKind, to: CarrierKind },
    #[error("{path}: {to} does not give back what was written; nothing was removed elsewhere")]
    ReadBack { path: StorePath, to: CarrierKind },
    #[error("{path}: {source}")]
    Verity { path: StorePath, source: VerityError },
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Mover {
    /// Moves all evidence of `path` to the target. `progress` takes bytes of data that are read for it.
    pub(super) async fn relocate(
        &self,
        path: &StorePath,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<Moved, MoveError> {
        let (mut moved, mut damaged) = (false, None);
        for source in &self.sources {
            match source.open(path).await {
                Ok(open) => moved |= self.take(path, &**source, &open, progress).await?,
                Err(error @ CarrierError::Malformed { .. }) => damaged = damaged.or(Some(error)),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.into()),
            }
        }
        match (moved, damaged) {
            (true, _) => Ok(Moved::Now),
            (false, damaged) => match self.target.open(path).await {
                Ok(_) => Ok(Moved::Already),
                Err(error) if error.is_missing() => match damaged {
                    Some(error) => Err(error.into()),
                    None => Ok(Moved::Nothing),
                },
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Moves what one source has; whether anything changed.
    async fn take(
        &self,
        path: &StorePath,
        source: &dyn Carrier,
        open: &OpenEvidence,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<bool, MoveError> {
        let (from, to) = (source.kind(), self.target.kind());
        let bytes = open.evidence.descriptor.as_ref();
        let bytes = bytes.ok_or_else(|| MoveError::NoDescriptor(path.clone()))?;
        let verity = |source| MoveError::Verity { path: path.clone(), source };
        let descriptor = Descriptor::parse(bytes).map_err(verity)?;
        let tree_size = descriptor.geometry().map_err(verity)?.tree_size();
        let (file, found) = self.appended.data(path).await?;
        if found != descriptor.size {
            return Err(MoveError::Size { path: path.clone(), from, signed: descriptor.size, found });
        }

        let there = match self.target.open(path).await {
            Ok(there) => Some(there),
            Err(CarrierError::Malformed { .. }) => None,
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error.into()),
        };
        let other = there.as_ref().filter(|there| there.evidence.descriptor.is_some());
        let same = other.filter(|there| there.evidence.descriptor.as_ref() == Some(bytes));
        if other.is_some() && same.is_none() {
            // Which of the two speaks of the file as it is?
            self.build(path, from, &*file, &descriptor, None, progress).await?;
        }
        let conflict = || MoveError::Conflict { path: path.clone(), from, to };
        let merged = match same {
            Some(there) => merge(&open.evidence, &there.evidence).ok_or_else(conflict)?,
            None => open.evidence.clone(),
        };
        let whole = |open: &OpenEvidence| open.tree_len() == Some(tree_size);
        match same.filter(|there| whole(there)) {
            Some(there) if equal(&there.evidence, &merged) => {}
            Some(there) => self.target.update(path, there, &merged).await?,
            None => {
                let mut writer = self.target.create(path, tree_offset(&merged, 0)).await?;
                match open.tree.as_ref().filter(|_| whole(open)) {
                    Some(tree) => copy_tree(&**tree, &mut *writer).await?,
                    // The kernel builds its own, and is asked for its root then.
                    None if to == CarrierKind::Kernel => {}
                    None => {
                        let into = Some(&mut writer);
                        self.build(path, from, &*file, &descriptor, into, progress).await?;
                    }
                }
                writer.commit(&merged).await?;
            }
        }
        let changed = !same.is_some_and(|there| whole(there) && equal(&there.evidence, &merged));

        let written = self.target.open(path).await?;
        let back = equal(&written.evidence, &merged) && whole(&written);
        if !back || !same_tree(open, &written, tree_size).await? {
            return Err(MoveError::ReadBack { path: path.clone(), to });
        }
        source.retire(path, to).await?;
        Ok(changed || source.open(path).await.is_err())
    }

    /// Builds the tree from the data, into `writer` if there is one, and checks the root.
    async fn build(
        &self,
        path: &StorePath,
        from: CarrierKind,
        file: &dyn StoreFile,
        descriptor: &Descriptor,
        mut writer: Option<&mut Box<dyn EvidenceWriter>>,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<(), MoveError> {
        let verity = |source| MoveError::Verity { path: path.clone(), source };
        let mut builder = TreeBuilder::new(descriptor.params, descriptor.size).map_err(verity)?;
        let mut at = 0;
        while at < descriptor.size {
            let len = usize::try_from((descriptor.size - at).min(STEP)).unwrap_or(0);
            let bytes = match file.try_read_at(at, len) {
                Some(bytes) => bytes,
                None => file.read_at(at, len).await?,
            };
            if bytes.len() != len {
                return Err(MoveError::Root { path: path.clone(), from });
            }
            builder.update(&bytes, &mut sink(&mut writer)).map_err(verity)?;
            if let Some(writer) = &mut writer {
                writer.flush().await?;
            }
            progress(len as u64);
            at += len as u64;
        }
        let root = builder.finish(&mut sink(&mut writer)).map_err(verity)?;
        if root == descriptor.root_hash { Ok(()) } else { Err(MoveError::Root { path: path.clone(), from }) }
    }
}

fn sink<'a>(
    writer: &'a mut Option<&mut Box<dyn EvidenceWriter>>,
) -> impl FnMut(u64, &[u8]) -> Result<(), VerityError> + 'a {
    move |offset, block| {
        if let Some(writer) = writer {
            writer.push(offset, block);
        }
        Ok(())
    }
}

/// The bytes of `tree` from `at` on, and where they end; `None` at its end.
async fn piece(tree: &dyn TreeSource, at: u64) -> Result<Option<(Bytes, u64)>, CarrierError> {
    let len = tree.size().saturating_sub(at).min(PIECE);
    if len == 0 {
        return Ok(None);
    }
    let bytes = tree.read(at, usize::try_from(len).unwrap_or(0)).await?;
    Ok(Some((bytes, at + len)))
}

/// Whether both have the same tree, as far as the old place had one of `size` bytes.
async fn same_tree(old: &OpenEvidence, new: &OpenEvidence, size: u64) -> Result<bool, CarrierError> {
    let (Some(old), Some(new)) = (&old.tree, &new.tree) else { return Ok(true) };
    if old.size() != size {
        return Ok(true);
    }
    let mut at = 0;
    while let Some((piece_of_old, next)) = piece(&**old, at).await? {
        match piece(&**new, at).await? {
            Some((piece_of_new, _)) if piece_of_old == piece_of_new => at = next,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// What either says of the same descriptor; `None` where their statements differ.
fn merge(source: &Evidence, target: &Evidence) -> Option<Evidence> {
    if let (Some(one), Some(other)) = (&source.statement, &target.statement)
        && one != other
    {
        return None;
    }
    let both = |source: &[Bytes], target: &[Bytes]| {
        let more = target.iter().filter(|bytes| !source.contains(bytes));
        source.iter().chain(more).cloned().collect()
    };
    Some(Evidence {
        descriptor: source.descriptor.clone(),
        statement: source.statement.clone().or_else(|| target.statement.clone()),
        pkcs7: both(&source.pkcs7, &target.pkcs7),
        ima: both(&source.ima, &target.ima),
        certificates: both(&source.certificates, &target.certificates),
        observed: source.observed.or(target.observed),
    })
}

/// Whether both say the same, in whatever order.
fn equal(one: &Evidence, other: &Evidence) -> bool {
    let same = |one: &[Bytes], other: &[Bytes]| {
        one.iter().all(|bytes| other.contains(bytes)) && other.iter().all(|bytes| one.contains(bytes))
    };
    one.descriptor == other.descriptor
        && one.statement == other.statement
        && one.observed == other.observed
        && same(&one.pkcs7, &other.pkcs7)
        && same(&one.ima, &other.ima)
        && same(&one.certificates, &other.certificates)
}
