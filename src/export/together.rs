//! Single blocks of several READs, hashed at once.
//!
//! A READ of one block leaves most lanes of a kernel empty, and its processor waiting for the step before. So it gives
//! the block away and lets others have their turn. Who is first to have the next one hashes what has come together.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::verity::{BlockHasher, Digest};

/// Blocks hashed at once: as many as the widest kernel has lanes.
const AT_ONCE: usize = 16;

/// The blocks that are to be hashed.
#[derive(Default)]
pub(super) struct Together(Mutex<VecDeque<Waiting>>);

struct Waiting {
    hasher: BlockHasher,
    block: Bytes,
    tell: oneshot::Sender<Digest>,
}

impl Together {
    /// The hash of `block`, which is not longer than a block.
    pub(super) async fn hash(&self, hasher: &BlockHasher, block: &Bytes) -> Option<Digest> {
        let (tell, mut told) = oneshot::channel();
        self.0.lock().push_back(Waiting { hasher: hasher.clone(), block: block.clone(), tell });
        tokio::task::yield_now().await;
        loop {
            match told.try_recv() {
                Ok(hash) => return Some(hash),
                // Whoever had it was ended.
                Err(oneshot::error::TryRecvError::Closed) => return hasher.hash(block).ok(),
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let some = self.take();
            if some.is_empty() {
                // Another thread hashes it at this moment.
                return told.await.ok().or_else(|| hasher.hash(block).ok());
            }
            hash_all(some);
        }
    }

    /// Those that have waited longest, as far as one kernel can hash them at once.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.0.lock();
        let is_like = |(first, next): (&Waiting, &Waiting)| first.hasher.is_like(&next.hasher);
        let first = waiting.iter().take(1).cycle();
        let count = first.zip(waiting.iter()).take(AT_ONCE).take_while(|pair| is_like(*pair)).count();
        waiting.drain(..count).collect()
    }
}

fn hash_all(some: Vec<Waiting>) {
    let Some(first) = some.first() else { return };
    let blocks: Vec<&[u8]> = some.iter().map(|waiting| &waiting.block[..]).collect();
    // Without hashes everybody helps himself.
    let hashes = first.hasher.hash_each(&blocks).unwrap_or_default();
    for (waiting, hash) in some.into_iter().zip(hashes) {
        // Who asked may be gone.
        let _ = waiting.tell.send(hash);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::verity::{BlockSize, HashAlgorithm, Params, Salt};

    type Asked<'a> = Pin<Box<dyn Future<Output = Option<Digest>> + 'a>>;

    fn hasher(salt: &[u8]) -> BlockHasher {
        let (algorithm, block_size) = (HashAlgorithm::Sha256, BlockSize::new(1024).unwrap());
        BlockHasher::new(&Params { algorithm, block_size, salt: Salt::new(salt).unwrap() })
    }

    fn block(n: usize) -> Bytes {
        vec![u8::try_from(n).unwrap(); if n % 5 == 4 { 100 } else { 1024 }].into()
    }

    fn poll(asked: &mut Asked<'_>) -> Poll<Option<Digest>> {
        asked.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Asks for the hash of each block, with one hasher or another, and polls each once.
    fn ask<'a>(together: &'a Together, blocks: &'a [(&'a BlockHasher, Bytes)]) -> Vec<Asked<'a>> {
        let ask = |(hasher, block): &'a (&'a BlockHasher, Bytes)| -> Asked<'a> {
            let mut asked: Asked<'a> = Box::pin(together.hash(hasher, block));
            assert!(poll(&mut asked).is_pending());
            asked
        };
        blocks.iter().map(ask).collect()
    }

    #[test]
    fn what_came_together_is_hashed_by_the_first_that_goes_on_each_with_its_own_salt() {
        let (plain, salted) = (hasher(b""), hasher(b"salt"));
        for kinds in [1, 3] {
            let together = Together::default();
            let hasher = |n: usize| if n / kinds % 2 == 1 && kinds > 1 { &salted } else { &plain };
            let blocks: Vec<_> = (0..AT_ONCE + 4).map(|n| (hasher(n), block(n))).collect();
            let mut asked = ask(&together, &blocks);
            let first = poll(&mut asked[0]);
            let left = together.0.lock().len();
            assert_eq!(left, if kinds == 1 { 4 } else { AT_ONCE + 4 - kinds }, "{kinds}");
            assert_eq!(first, Poll::Ready(plain.hash(&blocks[0].1).ok()));
            // In any order.
            for (asked, (hasher, block)) in asked.iter_mut().zip(&blocks).skip(1).rev() {
                assert_eq!(poll(asked), Poll::Ready(hasher.hash(block).ok()), "{kinds}");
            }
            assert!(together.0.lock().is_empty());
        }
    }

    #[test]
    fn who_is_gone_or_fails_holds_up_nobody() {
        let (together, plain) = (Together::default(), hasher(b""));
        let blocks: Vec<_> = (0..6).map(|n| (&plain, block(n))).collect();
        let mut asked = ask(&together, &blocks);
        drop(asked.remove(0));
        // Somebody took two and was ended with them; another one has one more.
        let mut taken = together.take();
        together.0.lock().extend(taken.drain(3..));
        let last = taken.pop();
        drop(taken);
        assert_eq!(poll(&mut asked[0]), Poll::Ready(plain.hash(&blocks[1].1).ok()));
        assert_eq!(poll(&mut asked[2]), Poll::Ready(plain.hash(&blocks[3].1).ok()));
        assert!(poll(&mut asked[1]).is_pending());
        hash_all(last.into_iter().collect());
        assert_eq!(poll(&mut asked[1]), Poll::Ready(plain.hash(&blocks[2].1).ok()));
    }
}
