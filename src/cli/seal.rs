//! Signing one file: hashed from one stable state, its evidence put in place at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::hashing::{hash, same_state, settled};
use super::mint::Mint;
use crate::carrier::bundle::{TREE_OFFSET, tree_offset};
use crate::carrier::{Carrier, CarrierError, CarrierKind, Evidence, Observed, OpenEvidence};
use crate::sign::{
    Expected, FileHasher, Format, HashName, Keyring, SignError, Statement, sign_statement, verify_envelope,
};
use crate::store::{Attr, Store, StoreError, StorePath};
use crate::verity::{Descriptor, Digest, Params, TreeBuilder, VerityError};

/// Bytes before those that were just hashed which are dropped once more: the system keeps several pages as one, which
/// goes only where all of it is to be dropped.
const DROPPED_AGAIN: u64 = 64 * 1024 * 1024;

/// How to sign.
pub(super) struct Sealer {
    pub(super) store: Arc<dyn Store>,
    /// Where the evidence goes.
    pub(super) carrier: Arc<dyn Carrier>,
    pub(super) mint: Mint,
    /// The signing key alone: what it signed before need not be signed again.
    pub(super) own: Keyring,
    pub(super) params: Params,
    pub(super) namespace: String,
    pub(super) expires: Option<i64>,
    /// Whether statements tell when they were signed.
    pub(super) dated: bool,
    pub(super) force: bool,
    /// Whether what was read is dropped from the page cache behind the hash.
    pub(super) drop_behind: bool,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sealed {
    /// Signed now.
    Signed,
    /// Signed by this key before, and not changed since.
    Unchanged,
}

/// Why a file was left unsigned.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    #[error("{0}: it changed while it was read and was left unsigned; sign it again when it is at rest")]
    Changed(StorePath),
    #[error("{path}: {source}")]
    Verity { path: StorePath, source: VerityError },
    #[error("{path}: {source}")]
    Sign { path: StorePath, source: SignError },
    #[error("{0}: it has no evidence to which a signature could be added; sign it without --add")]
    Unsigned(StorePath),
    #[error("{path}: its evidence is not proven under --trust and was left as it is: {detail}")]
    Unproven { path: StorePath, detail: String },
    #[error("{0}: its content is not what its evidence says; nothing was signed")]
    Content(StorePath),
    #[error(
        "{0}: no native signature would be left without that of the key to be replaced; add native to --format"
    )]
    LastNative(StorePath),
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Sealer {
    /// Signs `path`, unless it is signed and unchanged. `progress` takes the bytes as they are done.
    pub(super) async fn seal(
        &self,
        path: &StorePath,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<Sealed, SealError> {
        let file = self.store.open(path).await?;
        let before = settled(&*file).await?.ok_or_else(|| SealError::Changed(path.clone()))?;
        let there = self.there(path).await?;
        // Bytes behind the data are evidence, and will be replaced.
        let trailer = there.as_ref().map_or(0, |open| open.trailer);
        let size = before.size.checked_sub(trailer).ok_or_else(|| SealError::Changed(path.clone()))?;
        let old = there.as_ref().and_then(|open| self.statement_of(path, open));
        if let Some(open) = &there
            && !self.force
            && self.still_fits(open, old.as_ref(), &before, size)
        {
            progress(size);
            return Ok(Sealed::Unchanged);
        }

        let mut writer = self.carrier.create(path, self.tree_offset(path, size)).await?;
        let verity = |source| SealError::Verity { path: path.clone(), source };
        let builder = TreeBuilder::new(self.params, size).map_err(verity)?;
        let name = HashName::from(self.params.algorithm);
        let mut whole = self.mint.wants_file_hash().then(|| FileHasher::new(name));
        let done = AtomicU64::new(0);
        let behind = |bytes| {
            let from = done.fetch_add(bytes, Ordering::Relaxed);
            if self.drop_behind {
                let begin = from.saturating_sub(DROPPED_AGAIN);
                file.drop_behind(begin, from - begin + bytes);
            }
            progress(bytes);
        };
        let root_hash = hash(path, &file, builder, whole.as_mut(), &mut *writer, &behind).await?;

        // The open file and the name must still be what they were.
        let named = self.store.stat(path).await?;
        if !same_state(&before, &file.stat().await?) || named.fileid != before.fileid {
            return Err(SealError::Changed(path.clone()));
        }

        let descriptor = Descriptor { params: self.params, size, root_hash };
        let version = match &old {
            Some(statement) if statement.file_digest == descriptor.file_digest() => statement.version,
            Some(statement) => statement.version.saturating_add(1),
            None => 1,
        };
        let failed = |source| SealError::Sign { path: path.clone(), source };
        let file_hash = whole.map(FileHasher::finish).transpose().map_err(failed)?;
        let evidence = self.evidence(path, &before, &descriptor, version, file_hash.as_deref());
        let evidence = evidence.map_err(failed)?;
        writer.commit(&evidence).await?;
        Ok(Sealed::Signed)
    }

    /// Where the tree will start: behind the largest head that the file may get.
    fn tree_offset(&self, path: &StorePath, size: u64) -> u64 {
        let root_hash = Digest::zero(self.params.algorithm);
        let descriptor = Descriptor { params: self.params, size, root_hash };
        let longest = self.statement(path, &descriptor, i64::MAX.unsigned_abs()).to_json().len();
        tree_offset(&self.mint.largest(longest), 0).max(TREE_OFFSET)
    }

    fn evidence(
        &self,
        path: &StorePath,
        attr: &Attr,
        descriptor: &Descriptor,
        version: u64,
        file_hash: Option<&[u8]>,
    ) -> Result<Evidence, SignError> {
        let mut evidence = Evidence {
            descriptor: Some(Bytes::copy_from_slice(&descriptor.encode())),
            observed: Some(Observed::of(attr)),
            ..Evidence::default()
        };
        if self.mint.formats().contains(Format::Native) {
            let statement = self.statement(path, descriptor, version);
            evidence.statement = Some(sign_statement(&statement, &[self.mint.signer()])?.into());
        }
        self.mint.complete(&mut evidence, descriptor, file_hash)?;
        Ok(evidence)
    }

    fn statement(&self, path: &StorePath, descriptor: &Descriptor, version: u64) -> Statement {
        Statement {
            namespace: self.namespace.clone(),
            path: path.as_bytes().to_vec(),
            file_digest: descriptor.file_digest(),
            size: descriptor.size,
            block_size: descriptor.params.block_size,
            version,
            expires: self.expires,
            signed: self.dated.then(|| jiff::Timestamp::now().as_second()),
        }
    }

    /// The evidence that is there, whoever made it and whatever the file is now.
    async fn there(&self, path: &StorePath) -> Result<Option<OpenEvidence>, SealError> {
        match self.carrier.open(path).await {
            Ok(open) => Ok(Some(open)),
            Err(error) if error.is_missing() => Ok(None),
            // Replaced, unless it cannot be told from the file's own data.
            Err(CarrierError::Malformed { .. }) if self.carrier.kind() != CarrierKind::Appended => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What this key stated of this file. An expired statement counts, for its version goes on.
    fn statement_of(&self, path: &StorePath, open: &OpenEvidence) -> Option<Statement> {
        let descriptor = Descriptor::parse(open.evidence.descriptor.as_ref()?).ok()?;
        let expected = Expected {
            namespace: &self.namespace,
            path: path.as_bytes(),
            descriptor: &descriptor,
            file_hashes: &[],
            now: i64::MIN,
        };
        let proof = verify_envelope(open.evidence.statement.as_ref()?, &self.own, &expected);
        proof.ok().map(|proof| proof.statement)
    }

    /// Whether the evidence has all the signatures of this key that are asked for, about the file as it
    /// is, in the form that is asked for.
    fn still_fits(&self, open: &OpenEvidence, old: Option<&Statement>, attr: &Attr, size: u64) -> bool {
        let Some(descriptor) = &open.evidence.descriptor else { return false };
        let Ok(descriptor) = Descriptor::parse(descriptor) else { return false };
        let tree = descriptor.geometry().map(|geometry| geometry.tree_size());
        let signed = |format| match format {
            Format::Native => old.is_some_and(|statement| {
                statement.expires == self.expires && statement.signed.is_some() == self.dated
            }),
            _ => self.mint.has(format, &open.evidence, &descriptor),
        };
        descriptor.params == self.params
            && descriptor.size == size
            && open.evidence.observed.is_some_and(|seen| seen.matches(attr, open.carrier))
            && tree.is_ok_and(|tree| tree == open.tree_len().unwrap_or(0))
            && self.mint.formats().iter().all(signed)
            && self.mint.has_certificates(&open.evidence)
    }
}
