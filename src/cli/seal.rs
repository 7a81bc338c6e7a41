//! Signing one file: hashed from one stable state, its evidence put in place at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::carrier::bundle::{TREE_OFFSET, tree_offset};
use crate::carrier::{
    Carrier, CarrierError, CarrierKind, Evidence, EvidenceWriter, Observed, OpenEvidence, Sidecar,
};
use crate::sign::{Expected, Keyring, Sign, SignError, Statement, sign_statement, verify_envelope};
use crate::store::{Attr, Store, StoreError, StoreFile, StorePath, Time};
use crate::verity::{Descriptor, Digest, Params, TreeBuilder, VerityError};

/// Bytes read in one step.
const STEP: u64 = 1024 * 1024;
/// The coarsest clock that stamps files: two changes within one tick look the same.
const TICK: Duration = Duration::from_millis(20);
/// How often a file that has just changed is looked at again before it counts as never at rest.
const LOOKS: u32 = 100;
/// Paths and namespaces up to this length, together, leave the head room before [`TREE_OFFSET`].
const SHORT: usize = 512;

/// How to sign.
pub(super) struct Sealer {
    pub(super) store: Arc<dyn Store>,
    pub(super) sidecar: Sidecar,
    pub(super) key: Arc<dyn Sign>,
    /// The signing key alone: what it signed before need not be signed again.
    pub(super) own: Keyring,
    pub(super) params: Params,
    pub(super) namespace: String,
    pub(super) expires: Option<i64>,
    pub(super) force: bool,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sealed {
    /// Hashed and signed.
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
        let old = self.old_evidence(path).await?;
        if let Some((bundle, statement)) = &old
            && !self.force
            && statement.expires == self.expires
            && self.still_fits(bundle, &before)
        {
            progress(before.size);
            return Ok(Sealed::Unchanged);
        }

        let tree_offset = self.tree_offset(path, &before)?;
        let mut writer = self.sidecar.create(path, tree_offset).await?;
        let verity = |source| SealError::Verity { path: path.clone(), source };
        let mut builder = TreeBuilder::new(self.params, before.size).map_err(verity)?;
        self.hash(path, &*file, &mut builder, &mut *writer, progress).await?;
        let root_hash = builder.finish(&mut sink(&mut *writer)).map_err(verity)?;

        // The open file and the name must still be what they were.
        let named = self.store.stat(path).await?;
        if !same_state(&before, &file.stat().await?) || named.fileid != before.fileid {
            return Err(SealError::Changed(path.clone()));
        }

        let descriptor = Descriptor { params: self.params, size: before.size, root_hash };
        let version = match &old {
            Some((_, statement)) if statement.file_digest == descriptor.file_digest() => statement.version,
            Some((_, statement)) => statement.version.saturating_add(1),
            None => 1,
        };
        writer.commit(&self.evidence(path, &before, &descriptor, version)?).await?;
        Ok(Sealed::Signed)
    }

    /// Where the tree will start: behind the largest head that the file may get.
    fn tree_offset(&self, path: &StorePath, attr: &Attr) -> Result<u64, SealError> {
        if path.as_bytes().len() + self.namespace.len() <= SHORT {
            return Ok(TREE_OFFSET);
        }
        let root_hash = Digest::zero(self.params.algorithm);
        let largest = Descriptor { params: self.params, size: attr.size, root_hash };
        let evidence = self.evidence(path, attr, &largest, i64::MAX.unsigned_abs())?;
        // Signatures of one key differ by a few bytes in length.
        Ok(tree_offset(&evidence, 64))
    }

    fn evidence(
        &self,
        path: &StorePath,
        attr: &Attr,
        descriptor: &Descriptor,
        version: u64,
    ) -> Result<Evidence, SealError> {
        Ok(Evidence {
            descriptor: Some(Bytes::copy_from_slice(&descriptor.encode())),
            statement: Some(self.statement(path, descriptor, version)?),
            observed: Some(Observed::of(attr)),
            ..Evidence::default()
        })
    }

    fn statement(&self, path: &StorePath, descriptor: &Descriptor, version: u64) -> Result<Bytes, SealError> {
        let statement = Statement {
            namespace: self.namespace.clone(),
            path: path.as_bytes().to_vec(),
            file_digest: descriptor.file_digest(),
            size: descriptor.size,
            block_size: descriptor.params.block_size,
            version,
            expires: self.expires,
        };
        sign_statement(&statement, &[&*self.key])
            .map(Bytes::from)
            .map_err(|source| SealError::Sign { path: path.clone(), source })
    }

    /// The evidence that this key made for this file, whatever the file is now. Expired evidence
    /// counts, for its version goes on.
    async fn old_evidence(&self, path: &StorePath) -> Result<Option<(OpenEvidence, Statement)>, SealError> {
        let bundle = match self.sidecar.open(path).await {
            Ok(bundle) => bundle,
            Err(CarrierError::Missing(_) | CarrierError::Malformed { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (Some(descriptor), Some(statement)) = (&bundle.evidence.descriptor, &bundle.evidence.statement)
        else {
            return Ok(None);
        };
        let Ok(descriptor) = Descriptor::parse(descriptor) else { return Ok(None) };
        let expected = Expected {
            namespace: &self.namespace,
            path: path.as_bytes(),
            descriptor: &descriptor,
            now: i64::MIN,
        };
        let proof = verify_envelope(statement, &self.own, &expected);
        Ok(proof.ok().map(|proof| (bundle, proof.statement)))
    }

    /// Whether evidence of this key speaks of the file as it is, in the form that is asked for.
    fn still_fits(&self, bundle: &OpenEvidence, attr: &Attr) -> bool {
        let Some(descriptor) = &bundle.evidence.descriptor else { return false };
        let Ok(descriptor) = Descriptor::parse(descriptor) else { return false };
        descriptor.params == self.params
            && descriptor.size == attr.size
            && bundle.evidence.observed.is_some_and(|seen| seen.matches(attr, CarrierKind::Sidecar))
            && descriptor.geometry().is_ok_and(|geometry| Some(geometry.tree_size()) == bundle.tree_len())
    }

    /// Gives all of the file to `builder`, and the finished tree blocks to `writer`.
    async fn hash(
        &self,
        path: &StorePath,
        file: &dyn StoreFile,
        builder: &mut TreeBuilder,
        writer: &mut dyn EvidenceWriter,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<(), SealError> {
        let size = builder.geometry().size();
        let failed = |source| SealError::Verity { path: path.clone(), source };
        let mut at = 0;
        while at < size {
            let data = file.data_range(at, size).await?;
            let data =
                data.filter(|range| range.start >= at && range.start < range.end).unwrap_or(size..size);
            let (start, end) = (data.start.min(size), data.end.min(size));
            while at < start {
                // In steps, so that the tree of a huge hole never gathers in memory.
                let count = (start - at).min(64 * STEP);
                builder.zeros(count, &mut sink(writer)).map_err(failed)?;
                writer.flush().await?;
                progress(count);
                at += count;
            }
            while at < end {
                let len = usize::try_from((end - at).min(STEP)).unwrap_or(0);
                let bytes = match file.try_read_at(at, len) {
                    Some(bytes) => bytes,
                    None => file.read_at(at, len).await?,
                };
                if bytes.len() != len {
                    return Err(SealError::Changed(path.clone()));
                }
                builder.update(&bytes, &mut sink(writer)).map_err(failed)?;
                writer.flush().await?;
                progress(len as u64);
                at += len as u64;
            }
        }
        Ok(())
    }
}

fn sink(writer: &mut dyn EvidenceWriter) -> impl FnMut(u64, &[u8]) -> Result<(), VerityError> {
    |offset, block| {
        writer.push(offset, block);
        Ok(())
    }
}

/// The file's attributes once a change that came after them could be told from them by its time;
/// `None` for a file that keeps changing.
async fn settled(file: &dyn StoreFile) -> Result<Option<Attr>, StoreError> {
    for _ in 0..LOOKS {
        let attr = file.stat().await?;
        let age = age(attr.ctime);
        match TICK.checked_sub(age) {
            Some(wait) if !wait.is_zero() => tokio::time::sleep(wait).await,
            _ => return Ok(Some(attr)),
        }
    }
    Ok(None)
}

/// How long ago `time` was; a time to come counts as long ago, since waiting would not help.
fn age(time: Time) -> Duration {
    let then = u64::try_from(time.seconds).ok().map(|seconds| Duration::new(seconds, time.nanos));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    then.and_then(|then| now.checked_sub(then)).unwrap_or(Duration::MAX)
}

fn same_state(a: &Attr, b: &Attr) -> bool {
    Observed::of(a) == Observed::of(b) && a.size == b.size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BoxFuture, Kind};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A file that was changed a moment ago whenever it is looked at, so many times.
    struct Busy(AtomicU32);

    impl StoreFile for Busy {
        fn stat(&self) -> BoxFuture<'_, Result<Attr, StoreError>> {
            let busy = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let changed = if busy.is_ok() { now } else { now - Duration::from_secs(1) };
            let seconds = i64::try_from(changed.as_secs()).unwrap();
            let time = Time { seconds, nanos: changed.subsec_nanos() };
            Box::pin(async move {
                Ok(Attr {
                    kind: Kind::Regular,
                    mode: 0o644,
                    nlink: 1,
                    uid: 0,
                    gid: 0,
                    size: 1,
                    used: 1,
                    rdev: (0, 0),
                    fileid: 1,
                    atime: time,
                    mtime: time,
                    ctime: time,
                })
            })
        }

        fn read_at(&self, _: u64, _: usize) -> BoxFuture<'_, Result<Bytes, StoreError>> {
            Box::pin(async { Ok(Bytes::from_static(b"x")) })
        }
    }

    #[tokio::test]
    async fn a_file_is_taken_once_it_rests_and_given_up_when_it_never_does() {
        assert!(settled(&Busy(0.into())).await.unwrap().is_some());
        let calming = Busy(3.into());
        let attr = settled(&calming).await.unwrap().unwrap();
        assert!(age(attr.ctime) >= TICK, "what was seen at rest");
        assert!(settled(&Busy(u32::MAX.into())).await.unwrap().is_none());
    }

    #[test]
    fn a_time_to_come_is_not_waited_for() {
        assert_eq!(age(Time { seconds: i64::MAX, nanos: 0 }), Duration::MAX);
        assert_eq!(age(Time { seconds: -1, nanos: 0 }), Duration::MAX);
    }
}
