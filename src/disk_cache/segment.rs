//! A segment: one file with a table of entries and their bytes behind it.
//!
//! An entry of the table is 64 bytes: the file's 32, the part's kind and level (one byte each), two of
//! zero, offset and length (u32), index (u64), four of zero, and a checksum (u64). The table ends
//! before the first entry whose checksum is wrong. The checksum tells torn entries and garbage; against
//! those who make one up there is the proof of the bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{BLOCK_MAX, Key, Part, Shared};

const ENTRY: usize = 64;
/// So much of a segment for each entry of its table: tables take a 64th.
const BYTES_FOR_ENTRY: u64 = 4096;
/// Nobody has written so many segments.
const ID_MAX: u32 = 1 << 31;
/// How much of a table is read at once.
const STEP: usize = 1 << 20;

/// The size of the segments of a cache of `capacity` bytes: 64 to 128 of them make one. Those of the largest, above
/// 256 GiB, are more, so that positions stay below 2^32; each is an open file.
pub(super) fn size_for(capacity: u64) -> u64 {
    let part = (capacity / 64).max(1);
    (1 << part.ilog2()).clamp(256 * 1024, 1 << 31)
}

fn table_size(segment_size: u64) -> u64 {
    segment_size / BYTES_FOR_ENTRY * ENTRY as u64
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

pub(super) struct Segment {
    pub(super) id: u32,
    file: File,
    path: PathBuf,
    /// What is in it, for when it is removed.
    slots: Mutex<Vec<u64>>,
}

/// Where the next block goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    entry: u64,
    data: u64,
}

impl Cursor {
    pub(super) fn is_at_start(&self) -> bool {
        self.entry == 0
    }
}

impl Segment {
    /// A new file, with its room on the disk where the file system can promise it.
    pub(super) fn create(directory: &Path, id: u32, size: u64) -> io::Result<(Self, Cursor)> {
        let path = directory.join(name(id));
        let file = options().create_new(true).open(&path)?;
        let made = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(size),
            other => other.map_err(io::Error::from),
        };
        if let Err(error) = made {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok((Self { id, file, path, slots: Mutex::default() }, Cursor { entry: 0, data: table_size(size) }))
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The same with another file in its place.
    #[cfg(test)]
    pub(super) fn with_file(&self, file: File) -> Self {
        let slots = Mutex::new(self.slots.lock().clone());
        Self { id: self.id, file, path: self.path.clone(), slots }
    }

    /// Writes a block, bytes first: an entry that is there has its bytes, unless the machine lost power.
    /// `None` when the segment is full.
    pub(super) fn append(
        &self,
        cursor: &mut Cursor,
        size: u64,
        key: &Key,
        slot: u64,
        bytes: &Bytes,
    ) -> io::Result<Option<Place>> {
        let end = cursor.data + bytes.len() as u64;
        let at = cursor.entry * ENTRY as u64;
        if end > size || at + ENTRY as u64 > table_size(size) {
            return Ok(None);
        }
        let (Ok(offset), Ok(len)) = (u32::try_from(cursor.data), u32::try_from(bytes.len())) else {
            return Ok(None);
        };
        self.file.write_all_at(bytes, cursor.data)?;
        self.file.write_all_at(&encode(key, offset, len), at)?;
        *cursor = Cursor { entry: cursor.entry + 1, data: end };
        self.slots.lock().push(slot);
        Ok(Some(Place { segment: self.id, offset, len }))
    }

    /// The bytes, as many as there are.
    pub(super) fn read(&self, place: Place) -> io::Result<Bytes> {
        let mut bytes = vec![0; len_of(place)];
        let mut have = 0;
        while let Some(rest) = bytes.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, u64::from(place.offset) + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(have);
        Ok(bytes.into())
    }

    /// [`Segment::read`] where the bytes are in memory; otherwise `None`.
    pub(super) fn read_cached(&self, place: Place) -> Option<Bytes> {
        let mut bytes = vec![0; len_of(place)];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let read =
            rustix::io::preadv2(&self.file, &mut slices, place.offset.into(), ReadWriteFlags::NOWAIT).ok()?;
        (read == bytes.len()).then(|| bytes.into())
    }

    /// Takes the segment off the disk, and its blocks out of the index.
    pub(super) fn remove(&self, shared: &Shared) -> io::Result<()> {
        for slot in std::mem::take(&mut *self.slots.lock()) {
            shared.index.remove_of(slot, self.id);
        }
        std::fs::remove_file(&self.path)
    }
}

/// What the disk says of a length is bounded before memory is taken for it.
fn len_of(place: Place) -> usize {
    usize::try_from(place.len).unwrap_or(0).min(BLOCK_MAX)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    options.read(true).write(true).mode(0o600).custom_flags(flags);
    options
}

fn name(id: u32) -> String {
    format!("{id:08x}.blocks")
}

fn id_of(name: &str) -> Option<u32> {
    let id = u32::from_str_radix(name.strip_suffix(".blocks")?, 16).ok()?;
    // Names that are written in another way are not ours; nor are ids that no cache comes to, behind which there
    // might not be enough of them.
    (self::name(id) == name && id < ID_MAX).then_some(id)
}

fn encode(key: &Key, offset: u32, len: u32) -> [u8; ENTRY] {
    let (kind, level, index) = match key.part {
        Part::Tree(level, index) => (1, level, index),
        Part::Block(index) => (2, 0, index),
        Part::Extent(index) => (3, 0, index),
    };
    let mut bytes = Vec::with_capacity(ENTRY);
    bytes.extend_from_slice(&key.file);
    bytes.extend_from_slice(&[kind, level, 0, 0]);
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
    let mut entry = [0; ENTRY];
    entry.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    entry
}

/// The key, and offset and length as the disk has them. `None` for what was not written by
/// [`encode`], byte for byte.
fn decode(entry: &[u8]) -> Option<(Key, u32, u32)> {
    let word = |at: usize| Some(u32::from_le_bytes(entry.get(at..at + 4)?.try_into().ok()?));
    let file: [u8; 32] = entry.get(..32)?.try_into().ok()?;
    let (kind, level) = (*entry.get(32)?, *entry.get(33)?);
    let (offset, len) = (word(36)?, word(40)?);
    let index = u64::from_le_bytes(entry.get(44..52)?.try_into().ok()?);
    let part = match kind {
        1 => Part::Tree(level, index),
        2 => Part::Block(index),
        3 => Part::Extent(index),
        _ => return None,
    };
    let key = Key { file, part };
    (encode(&key, offset, len) == entry).then_some((key, offset, len))
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Finds what an earlier run left, and removes what it cannot use. Gives where the newest segment goes on.
pub(super) fn recover(shared: &Shared) -> io::Result<Option<Cursor>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(&shared.directory)? {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(id_of);
        let fits = entry.metadata().is_ok_and(|found| found.is_file() && found.len() == shared.segment_size);
        match id {
            Some(id) if fits => ids.push(id),
            // The directory is ours alone. What cannot be removed, such as a directory, must not be there.
            _ => std::fs::remove_file(entry.path())?,
        }
    }
    ids.sort_unstable();
    let extra = ids.len().saturating_sub(shared.segments_max);
    for id in ids.drain(..extra) {
        std::fs::remove_file(shared.directory.join(name(id)))?;
    }
    let mut cursor = None;
    for id in ids {
        let path = shared.directory.join(name(id));
        let file = options().open(&path)?;
        let segment = Segment { id, file, path, slots: Mutex::default() };
        match segment.load(shared) {
            Ok(end) => {
                cursor = Some(end);
                shared.segments.lock().push(segment.into());
            }
            // Nothing is lost with it but time.
            Err(_) => segment.remove(shared)?,
        }
    }
    Ok(cursor)
}

impl Segment {
    fn load(&self, shared: &Shared) -> io::Result<Cursor> {
        let start = table_size(shared.segment_size);
        let mut cursor = Cursor { entry: 0, data: start };
        let mut slots = self.slots.lock();
        let mut at = 0;
        while at < start {
            let step = usize::try_from(start - at).unwrap_or(STEP).min(STEP);
            let mut table = vec![0; step];
            match self.file.read_exact_at(&mut table, at) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(cursor),
                Err(error) => return Err(error),
            }
            for entry in table.chunks_exact(ENTRY) {
                let Some((key, offset, len)) = decode(entry) else { return Ok(cursor) };
                let end = u64::from(offset) + u64::from(len);
                let follows = u64::from(offset) == cursor.data && len > 0;
                if !follows || end > shared.segment_size || len as usize > BLOCK_MAX {
                    return Ok(cursor);
                }
                let slot = shared.slot(&key);
                slots.push(slot);
                shared.index.insert(slot, Place { segment: self.id, offset, len });
                cursor = Cursor { entry: cursor.entry + 1, data: end };
            }
            at += step as u64;
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_written_and_no_other_bytes_are_one() {
        for part in [Part::Tree(7, u64::MAX), Part::Block(0), Part::Extent(5)] {
            let key = Key { file: [0xab; 32], part };
            let entry = encode(&key, 77, 1024);
            assert_eq!(decode(&entry), Some((key, 77, 1024)));
            for n in 0..ENTRY {
                assert_eq!(decode(&entry[..n]), None);
                let mut wrong = entry;
                wrong[n] ^= 1;
                assert_eq!(decode(&wrong), None, "byte {n}");
            }
        }
        assert_eq!(decode(&[0; ENTRY]), None);
    }

    #[test]
    fn segments_of_any_cache_fit_it_and_their_positions() {
        for shift in 24..50 {
            for capacity in [1 << shift, (1u64 << shift) + 4095, (1 << shift) * 2 - 1] {
                let size = size_for(capacity);
                assert!((256 * 1024..=1 << 31).contains(&size) && size.is_power_of_two());
                assert!(capacity / size >= 63, "{capacity}");
                assert!(size - table_size(size) > BLOCK_MAX as u64 * 2);
            }
        }
    }

    #[test]
    fn only_names_that_we_give_are_ours() {
        assert_eq!(id_of(&name(0x1f)), Some(0x1f));
        for other in ["1f.blocks", "0000001F.blocks", "+000001f.blocks", "0000001f", "80000000.blocks"] {
            assert_eq!(id_of(other), None, "{other}");
        }
    }
}
