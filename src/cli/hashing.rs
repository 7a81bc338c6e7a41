//! Reading all of a file at rest: its Merkle tree, and the hash of the whole in the same pass.
//!
//! The parts of a file are read and hashed at the same time, as many as there are cores for all files together.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::default_jobs;
use super::seal::SealError;
use crate::carrier::{CarrierError, Evidence, EvidenceWriter, Observed};
use crate::sign::FileHasher;
use crate::store::{Attr, BoxFuture, StoreError, StoreFile, StorePath, Time};
use crate::verity::{BlockHasher, BlockSize, Digest, Leaves, TreeBuilder, VerityError};

/// Bytes read in one step: a multiple of every block size.
const STEP: u64 = 1024 * 1024;
/// Bytes that are hashed before more are read, where reading needs no waiting: they are in the core's own cache then.
const PIECE: usize = 64 * 1024;
/// Steps of one file that may wait for one before them: as many, and fewer where they keep their bytes.
const STEPS: (usize, usize) = (16, 4);
/// Steps under way of all files: one is read while another is hashed.
static UNDER_WAY: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(2 * default_jobs())));
/// The coarsest clock that stamps files: two changes within one tick look the same.
const TICK: Duration = Duration::from_millis(20);
/// How often a file that has just changed is looked at again before it counts as never at rest.
const LOOKS: u32 = 100;
/// What holes are hashed as.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Gives as much of `file` as `builder` wants to it and to `whole`, and the finished tree blocks to
/// `writer`; `progress` takes the bytes as they are done. The root of the tree.
pub(super) async fn hash(
    path: &StorePath,
    file: &Arc<dyn StoreFile>,
    mut builder: TreeBuilder,
    mut whole: Option<&mut FileHasher>,
    writer: &mut dyn EvidenceWriter,
    progress: &(impl Fn(u64) + Sync),
) -> Result<Digest, SealError> {
    let size = builder.geometry().size();
    let failed = |source| SealError::Verity { path: path.clone(), source };
    let mut at = 0;
    while at < size {
        let data = file.data_range(at, size).await?;
        let data = data.filter(|range| range.start >= at && range.start < range.end).unwrap_or(size..size);
        // Holes are as good as data, and blocks begin and end with neither.
        let block = u64::from(BlockSize::MAX);
        let start = (data.start / block * block).min(size);
        let end = data.end.checked_next_multiple_of(block).unwrap_or(size).min(size);
        while at < start {
            // In steps, so that the tree of a huge hole never gathers in memory.
            let count = (start - at).min(64 * STEP);
            builder.zeros(count, &mut sink(writer)).map_err(failed)?;
            if let Some(whole) = &mut whole {
                hash_zeros(whole, count);
            }
            writer.flush().await?;
            progress(count);
            at += count;
        }
        let most = if whole.is_some() { STEPS.1 } else { STEPS.0 };
        let mut steps = VecDeque::new();
        let mut next = at;
        while at < end {
            while next < end && steps.len() < most {
                let Some(turn) = turn(steps.is_empty()).await else { break };
                let len = usize::try_from((end - next).min(STEP)).unwrap_or(0);
                let (file, hasher) = (file.clone(), builder.hasher().clone());
                let step = Step { file, hasher, at: next, len, keeps: whole.is_some() };
                steps.push_back(tokio::spawn(step.run(turn)));
                next += len as u64;
            }
            let Some(step) = steps.pop_front() else { continue };
            let pieces = match step.await {
                Ok(done) => done?,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            let wanted = (end - at).min(STEP);
            if pieces.iter().map(|piece| piece.leaves.length()).sum::<u64>() != wanted {
                return Err(SealError::Changed(path.clone()));
            }
            for piece in &pieces {
                builder.hashed(&piece.leaves, &mut sink(writer)).map_err(failed)?;
                if let Some(whole) = &mut whole {
                    whole.update(&piece.bytes);
                }
            }
            writer.flush().await?;
            progress(wanted);
            at += wanted;
        }
    }
    builder.finish(&mut sink(writer)).map_err(failed)
}

/// A turn for a step: waited for where there is none under way, so that every file goes on.
async fn turn(is_first: bool) -> Option<OwnedSemaphorePermit> {
    let turns = UNDER_WAY.clone();
    if is_first { turns.acquire_owned().await.ok() } else { turns.try_acquire_owned().ok() }
}

/// Part of a file that is read and hashed.
struct Step {
    file: Arc<dyn StoreFile>,
    hasher: BlockHasher,
    at: u64,
    len: usize,
    /// Whether the bytes are wanted, too.
    keeps: bool,
}

struct Piece {
    leaves: Leaves,
    bytes: Bytes,
}

impl Step {
    /// The pieces, with fewer bytes where the file has no more.
    async fn run(self, _turn: OwnedSemaphorePermit) -> Result<Vec<Piece>, StoreError> {
        let (mut pieces, mut done) = (Vec::new(), 0);
        while done < self.len {
            let (at, left) = (self.at + done as u64, self.len - done);
            let (bytes, wanted) = match self.file.try_read_at(at, left.min(PIECE)) {
                Some(bytes) => (bytes, left.min(PIECE)),
                None => (self.file.read_at(at, left).await?, left),
            };
            done += bytes.len();
            let (leaves, is_end) = (self.hasher.leaves(&bytes), bytes.len() < wanted);
            pieces.push(Piece { leaves, bytes: if self.keeps { bytes } else { Bytes::new() } });
            if is_end {
                break;
            }
        }
        Ok(pieces)
    }
}

fn hash_zeros(whole: &mut FileHasher, mut count: u64) {
    while count > 0 {
        let len = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        whole.update(ZEROS.get(..len).unwrap_or(&ZEROS));
        count -= len as u64;
    }
}

fn sink(writer: &mut dyn EvidenceWriter) -> impl FnMut(u64, &[u8]) -> Result<(), VerityError> {
    |offset, block| {
        writer.push(offset, block);
        Ok(())
    }
}

/// Where a tree goes that is there already.
pub(super) struct Discard;

impl EvidenceWriter for Discard {
    fn push(&mut self, _: u64, _: &[u8]) {}

    fn flush(&mut self) -> BoxFuture<'_, Result<(), CarrierError>> {
        Box::pin(async { Ok(()) })
    }

    fn commit<'a>(self: Box<Self>, _: &'a Evidence) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async { Ok(()) })
    }
}

/// The file's attributes once a change that came after them could be told from them by its time;
/// `None` for a file that keeps changing.
pub(super) async fn settled(file: &dyn StoreFile) -> Result<Option<Attr>, StoreError> {
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

/// Whether nothing happened to the file between two looks at it.
pub(super) fn same_state(a: &Attr, b: &Attr) -> bool {
    Observed::of(a) == Observed::of(b) && a.size == b.size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::HashName;
    use crate::store::Kind;
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
                    change: Attr::change_of(time),
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

    #[test]
    fn holes_are_hashed_as_zeros() {
        for count in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
            let mut hasher = FileHasher::new(HashName::Sha256);
            hash_zeros(&mut hasher, count);
            let zeros = vec![0; usize::try_from(count).unwrap()];
            assert_eq!(hasher.finish().unwrap(), HashName::Sha256.digest(&zeros), "{count}");
        }
    }
}
