//! Proven blocks in memory, by file digest and index: right whatever the store does.

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::verified::Verified;
use crate::verity::FileDigest;

/// What a span of proven bytes is to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Span {
    /// A block of the Merkle tree: level (0 is that of the leaves) and index.
    Tree(u8, u64),
    /// One data block.
    Block(u64),
    /// [`super::reading::EXTENT`] bytes of data, or what is left of the file.
    Extent(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The first 32 bytes of the file digest, which covers algorithm, block size and salt.
    file: [u8; 32],
    span: Span,
}

/// A file's part of the cache's keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileKey([u8; 32]);

impl FileKey {
    pub(super) fn new(digest: &FileDigest) -> Self {
        let mut key = [0; 32];
        key.iter_mut().zip(digest.digest.as_bytes()).for_each(|(to, from)| *to = *from);
        Self(key)
    }
}

#[derive(Clone, Debug)]
struct ByBytes;

/// What an entry costs beyond its bytes.
const OVERHEAD: u64 = 160;

impl Weighter<Key, Verified<Bytes>> for ByBytes {
    fn weight(&self, _: &Key, value: &Verified<Bytes>) -> u64 {
        OVERHEAD + value.get().len() as u64
    }
}

/// The cache of proven spans.
pub(super) struct BlockCache(Cache<Key, Verified<Bytes>, ByBytes>);

impl BlockCache {
    pub(super) fn new(capacity: u64) -> Self {
        let items = usize::try_from(capacity / (16 * 1024)).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(items.clamp(64, 1 << 20), capacity, ByBytes))
    }

    pub(super) fn get(&self, file: FileKey, span: Span) -> Option<Verified<Bytes>> {
        self.0.get(&Key { file: file.0, span })
    }

    pub(super) fn insert(&self, file: FileKey, span: Span, bytes: Verified<Bytes>) {
        self.0.insert(Key { file: file.0, span }, bytes);
    }

    /// Bytes held, the limit, and the number of entries.
    pub(super) fn usage(&self) -> (u64, u64, u64) {
        (self.0.weight(), self.0.capacity(), self.0.len() as u64)
    }
}
