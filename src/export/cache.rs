//! Proven blocks in memory, by file digest and index: right whatever the store does. Behind them those on disk,
//! which are to be proven again.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::verified::Verified;
use crate::disk_cache::{self, DiskCache};
use crate::event::{DiskUsage, Event, Silent, Sink};
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
pub(super) struct Key {
    /// The first 32 bytes of the file digest, which covers algorithm, block size and salt.
    file: [u8; 32],
    span: Span,
}

impl Key {
    pub(super) fn new(file: FileKey, span: Span) -> Self {
        Self { file: file.0, span }
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }
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

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A number that tells files apart, most of the time.
    pub(super) fn spread(self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
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

/// The caches of proven spans.
pub(super) struct BlockCache {
    memory: Cache<Key, Verified<Bytes>, ByBytes>,
    disk: Option<Arc<DiskCache>>,
    sink: Arc<dyn Sink>,
}

impl BlockCache {
    pub(super) fn new(capacity: u64, disk: Option<Arc<DiskCache>>, sink: Arc<dyn Sink>) -> Self {
        let items = usize::try_from(capacity / (16 * 1024)).unwrap_or(usize::MAX);
        Self { memory: Cache::with_weighter(items.clamp(64, 1 << 20), capacity, ByBytes), disk, sink }
    }

    /// Without a disk: for who looks at what a store holds, and not at what was proven of it before.
    pub(super) fn in_memory(capacity: u64) -> Self {
        Self::new(capacity, None, Arc::new(Silent))
    }

    pub(super) fn get(&self, file: FileKey, span: Span) -> Option<Verified<Bytes>> {
        self.memory.get(&Key::new(file, span))
    }

    /// Whether the span is in memory or on disk.
    pub(super) fn has(&self, file: FileKey, span: Span) -> bool {
        self.get(file, span).is_some() || self.is_on_disk(file, span)
    }

    /// Whether the span is in memory. That somebody asks does not count as use.
    pub(super) fn is_in_memory(&self, file: FileKey, span: Span) -> bool {
        self.memory.contains_key(&Key::new(file, span))
    }

    /// Whether the span is on disk.
    pub(super) fn is_on_disk(&self, file: FileKey, span: Span) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.has(&on_disk(file, span)))
    }

    /// Keeps what the store gave, on disk too.
    pub(super) fn insert(&self, file: FileKey, span: Span, bytes: Verified<Bytes>) {
        self.insert_on_disk(file, span, &bytes);
        self.memory.insert(Key::new(file, span), bytes);
    }

    /// Keeps on disk alone what the store gave.
    pub(super) fn insert_on_disk(&self, file: FileKey, span: Span, bytes: &Verified<Bytes>) {
        if let Some(disk) = &self.disk {
            disk.insert(&on_disk(file, span), bytes.get());
        }
    }

    /// Keeps in memory what the disk gave and what is proven again.
    pub(super) fn insert_again(&self, file: FileKey, span: Span, bytes: Verified<Bytes>) {
        self.memory.insert(Key::new(file, span), bytes);
    }

    /// What the disk has for a span that is not in memory, if it has as many bytes as there must be: unproven.
    pub(super) async fn on_disk(&self, file: FileKey, span: Span, len: usize) -> Option<Bytes> {
        let disk = self.disk.as_ref()?;
        let key = on_disk(file, span);
        let bytes = disk.get(&key).await?;
        if bytes.len() != len {
            self.is_bad_on_disk(file, span);
            return None;
        }
        Some(bytes)
    }

    /// What the disk gave for the span was not right.
    pub(super) fn is_bad_on_disk(&self, file: FileKey, span: Span) {
        if let Some(disk) = &self.disk {
            let blocks = disk.remove_bad(&on_disk(file, span));
            if blocks.is_power_of_two() {
                self.sink.emit(&Event::DiskCacheBad { file: &file.0, blocks });
            }
        }
    }

    /// The spans of data of a file in memory, in no order. Looks at all that is in memory.
    pub(super) fn data_of(&self, file: FileKey) -> impl Iterator<Item = Span> {
        let of_file = self.memory.iter().filter(move |(key, _)| key.file == file.0);
        of_file.map(|(key, _)| key.span).filter(|span| !matches!(span, Span::Tree(..)))
    }

    /// Bytes held in memory, the limit, and the number of entries.
    pub(super) fn usage(&self) -> (u64, u64, u64) {
        (self.memory.weight(), self.memory.capacity(), self.memory.len() as u64)
    }

    pub(super) fn disk_usage(&self) -> DiskUsage {
        let Some(disk) = &self.disk else { return DiskUsage::default() };
        let disk_cache::Counts { bytes, capacity, entries, hits, misses, bad, skipped, on } = disk.counts();
        DiskUsage { bytes, capacity, entries, hits, misses, bad, skipped, on: on.into() }
    }
}

fn on_disk(file: FileKey, span: Span) -> disk_cache::Key {
    let part = match span {
        Span::Tree(level, index) => disk_cache::Part::Tree(level, index),
        Span::Block(index) => disk_cache::Part::Block(index),
        Span::Extent(index) => disk_cache::Part::Extent(index),
    };
    disk_cache::Key { file: file.0, part }
}
