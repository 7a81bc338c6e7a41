//! The evidence bundle: one file's descriptor, signatures and Merkle tree.
//!
//! All integers are little-endian, as in the kernel's fs-verity structures.
//!
//! ```text
//! offset  size  field
//!      0     8  magic 89 'n' 'f' 's' 'v' 't' 'y' 0a
//!      8     2  version, 1
//!     10     2  number of sections, 1 to 16
//!     12     4  length of the head: header, section table, sections, checksum
//!     16     8  offset of the tree; without a tree the length of the head,
//!               otherwise a multiple of 4096, with zeros between head and tree
//!     24     8  length of the tree in bytes
//!     32   12n  section table: kind (2), zero (2), offset (4), length (4)
//!      …     …  the sections, in the table's order, without gaps
//!   -32     32  SHA-256 of the head before it
//! ```
//!
//! The checksum protects nothing: it tells damage from a forgery. What the bundle says is
//! believed only after its signatures were checked.

use std::ops::Range;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

const MAGIC: [u8; 8] = *b"\x89nfsvty\n";
const VERSION: u16 = 1;
const FIXED: usize = 32;
const ENTRY: usize = 12;
const CHECKSUM: usize = 32;
const SECTIONS_MAX: usize = 16;
const TREE_ALIGN: u64 = 4096;

/// The longest head that is accepted, padding before the tree included.
pub const HEAD_MAX: usize = 256 * 1024;
/// As much as is read at first: nearly every head fits.
pub const HEAD_READ: usize = 8192;
/// Where the tree starts in bundles that are written here, unless the head needs more.
pub const TREE_OFFSET: u64 = 8192;

/// Why bytes are no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Fewer bytes than the layout needs.
    #[error("cut: {have} bytes where {need} are needed")]
    Cut {
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        need: u64,
    },
    /// Another file.
    #[error("it does not start with the bundle's magic")]
    Magic,
    /// A version that is not known here.
    #[error("version {0} is not known")]
    Version(u16),
    /// A length, offset or count that the layout does not allow.
    #[error("{0} is out of bounds")]
    Bounds(&'static str),
    /// The checksum of the head is wrong.
    #[error("the head's checksum is wrong")]
    Checksum,
    /// A section that must be there is missing, or is there twice.
    #[error("the {0} section is missing or doubled")]
    Section(&'static str),
}

/// What a signer saw of the file, so that an unchanged file need not be hashed again. A hint for
/// the signer alone: no proof rests on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The file's number in the store.
    pub fileid: u64,
    /// Last change of the content: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of content or attributes: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

impl Observed {
    const SIZE: usize = 32;

    fn encode(self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        let fields = [
            &self.fileid.to_le_bytes()[..],
            &self.mtime.0.to_le_bytes(),
            &self.ctime.0.to_le_bytes(),
            &self.mtime.1.to_le_bytes(),
            &self.ctime.1.to_le_bytes(),
        ];
        for (to, from) in out.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Le(bytes);
        let (fileid, mtime, ctime) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (mtime_nanos, ctime_nanos) = (reader.u32()?, reader.u32()?);
        let seconds = u64::cast_signed;
        reader.0.is_empty().then_some(Self {
            fileid,
            mtime: (seconds(mtime), mtime_nanos),
            ctime: (seconds(ctime), ctime_nanos),
        })
    }
}

/// All of a bundle but the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The fs-verity descriptor.
    pub descriptor: Bytes,
    /// The DSSE envelope.
    pub statement: Bytes,
    /// What the signer saw.
    pub observed: Option<Observed>,
    /// Where the tree starts.
    pub tree_offset: u64,
    /// Bytes of tree.
    pub tree_len: u64,
}

const DESCRIPTOR: u16 = 1;
const STATEMENT: u16 = 2;
const OBSERVED: u16 = 3;

impl Head {
    /// How many bytes the head takes, padding included, judged from the first bytes of a bundle
    /// that is `total` bytes long. At most [`HEAD_MAX`], and the whole bundle has `total` bytes.
    pub fn extent(prefix: &[u8], total: u64) -> Result<usize, BundleError> {
        let fixed = Fixed::parse(prefix)?;
        let need = fixed.tree_offset.checked_add(fixed.tree_len).ok_or(BundleError::Bounds("the tree"))?;
        if total < need {
            return Err(BundleError::Cut { have: total, need });
        }
        if total > need {
            return Err(BundleError::Bounds("what follows the tree"));
        }
        Ok(fixed.extent)
    }

    /// Reads a head out of exactly the bytes that [`Head::extent`] asks for.
    pub fn parse(bytes: &Bytes) -> Result<Self, BundleError> {
        let fixed = Fixed::parse(bytes)?;
        if bytes.len() != fixed.extent {
            return Err(BundleError::Cut { have: len64(bytes.len()), need: len64(fixed.extent) });
        }
        let (head, padding) =
            bytes.split_at_checked(fixed.head_len).ok_or(BundleError::Bounds("the head"))?;
        if padding.iter().any(|b| *b != 0) {
            return Err(BundleError::Bounds("the padding before the tree"));
        }
        let (body, checksum) = head.split_last_chunk::<CHECKSUM>().ok_or(BundleError::Bounds("the head"))?;
        if Sha256::digest(body)[..] != checksum[..] {
            return Err(BundleError::Checksum);
        }

        let (mut descriptor, mut statement, mut observed) = (None, None, None);
        let mut end = FIXED + fixed.sections * ENTRY;
        let mut table = Le(body.get(FIXED..end).ok_or(BundleError::Bounds("the section table"))?);
        while !table.0.is_empty() {
            let entry = (table.u16(), table.u16(), table.u32(), table.u32());
            let (Some(kind), Some(0), Some(offset), Some(length)) = entry else {
                return Err(BundleError::Bounds("a section table entry"));
            };
            let range = section(end, offset, length, body.len())?;
            end = range.end;
            let (slot, name) = match kind {
                DESCRIPTOR => (&mut descriptor, "descriptor"),
                STATEMENT => (&mut statement, "statement"),
                OBSERVED => (&mut observed, "observed"),
                // Kinds of later versions: carried under the checksum, of no meaning here.
                _ => continue,
            };
            if slot.replace(bytes.slice(range)).is_some() {
                return Err(BundleError::Section(name));
            }
        }
        if end != body.len() {
            return Err(BundleError::Bounds("the last section"));
        }
        let observed = match observed {
            Some(bytes) => Some(Observed::parse(&bytes).ok_or(BundleError::Bounds("the observed section"))?),
            None => None,
        };
        Ok(Self {
            descriptor: descriptor.ok_or(BundleError::Section("descriptor"))?,
            statement: statement.ok_or(BundleError::Section("statement"))?,
            observed,
            tree_offset: fixed.tree_offset,
            tree_len: fixed.tree_len,
        })
    }

    /// The head as bytes, padding included. With a tree, `tree_offset`
    /// must leave room for the head; without one it is not looked at.
    pub fn encode(&self) -> Result<Vec<u8>, BundleError> {
        let observed = self.observed.map(Observed::encode);
        let mut sections = vec![(DESCRIPTOR, &self.descriptor[..]), (STATEMENT, &self.statement[..])];
        sections.extend(observed.as_ref().map(|bytes| (OBSERVED, &bytes[..])));

        let mut offset = FIXED + sections.len() * ENTRY;
        let head_len = sections.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + offset + CHECKSUM;
        if head_len > HEAD_MAX {
            return Err(BundleError::Bounds("the head"));
        }
        let tree_offset = if self.tree_len == 0 { len64(head_len) } else { self.tree_offset };
        let extent = usize::try_from(tree_offset).map_err(|_| BundleError::Bounds("the tree's offset"))?;

        let mut out = Vec::with_capacity(extent);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u16::try_from(sections.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&len32(head_len).to_le_bytes());
        out.extend_from_slice(&tree_offset.to_le_bytes());
        out.extend_from_slice(&self.tree_len.to_le_bytes());
        for (kind, bytes) in &sections {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&len32(offset).to_le_bytes());
            out.extend_from_slice(&len32(bytes.len()).to_le_bytes());
            offset += bytes.len();
        }
        sections.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
        let checksum = Sha256::digest(&out);
        out.extend_from_slice(&checksum);
        out.resize(extent.max(out.len()), 0);
        Fixed::parse(&out)?;
        Ok(out)
    }
}

/// Where a section lies: right behind the one before, and inside the body.
fn section(previous_end: usize, offset: u32, length: u32, body: usize) -> Result<Range<usize>, BundleError> {
    let bounds = BundleError::Bounds("a section");
    let start = usize::try_from(offset).map_err(|_| bounds)?;
    let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length)).ok_or(bounds)?;
    if start == previous_end && end <= body { Ok(start..end) } else { Err(bounds) }
}

struct Fixed {
    sections: usize,
    head_len: usize,
    /// Head and padding.
    extent: usize,
    tree_offset: u64,
    tree_len: u64,
}

impl Fixed {
    fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let cut = BundleError::Cut { have: len64(bytes.len()), need: len64(FIXED) };
        let mut reader = Le(bytes.get(..FIXED).ok_or(cut)?);
        if reader.take(MAGIC.len()) != Some(&MAGIC) {
            return Err(BundleError::Magic);
        }
        let version = reader.u16().ok_or(cut)?;
        if version != VERSION {
            return Err(BundleError::Version(version));
        }
        let sections = usize::from(reader.u16().ok_or(cut)?);
        if !(1..=SECTIONS_MAX).contains(&sections) {
            return Err(BundleError::Bounds("the number of sections"));
        }
        let bounds = BundleError::Bounds("the head's length");
        let head_len = usize::try_from(reader.u32().ok_or(cut)?).map_err(|_| bounds)?;
        if head_len < FIXED + sections * ENTRY + CHECKSUM || head_len > HEAD_MAX {
            return Err(bounds);
        }
        let (tree_offset, tree_len) = (reader.u64().ok_or(cut)?, reader.u64().ok_or(cut)?);
        let bounds = BundleError::Bounds("the tree's offset");
        let extent = usize::try_from(tree_offset).map_err(|_| bounds)?;
        let placed = match tree_len {
            0 => extent == head_len,
            _ => extent >= head_len && extent <= HEAD_MAX && tree_offset.is_multiple_of(TREE_ALIGN),
        };
        if !placed {
            return Err(bounds);
        }
        Ok(Self { sections, head_len, extent, tree_offset, tree_len })
    }
}

/// Reads little-endian integers from the front.
struct Le<'a>(&'a [u8]);

impl<'a> Le<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }
}

/// Lengths here are at most [`HEAD_MAX`].
fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn len64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(tree_len: u64) -> Head {
        let mut head = Head {
            descriptor: Bytes::from(vec![1; 256]),
            statement: Bytes::from(vec![b'{'; 777]),
            observed: Some(Observed { fileid: 7, mtime: (-1, 2), ctime: (3, 4) }),
            tree_offset: TREE_OFFSET,
            tree_len,
        };
        if tree_len == 0 {
            head.tree_offset = head.encode().unwrap().len() as u64;
        }
        head
    }

    fn parse(bytes: &[u8], total: u64) -> Result<Head, BundleError> {
        let extent = Head::extent(bytes, total)?;
        let cut = BundleError::Cut { have: bytes.len() as u64, need: extent as u64 };
        Head::parse(&Bytes::copy_from_slice(bytes.get(..extent).ok_or(cut)?))
    }

    #[test]
    fn what_was_written_is_read() {
        for tree_len in [0, 4096, 1 << 40] {
            let head = head(tree_len);
            let bytes = head.encode().unwrap();
            assert_eq!(parse(&bytes, bytes.len() as u64 + tree_len), Ok(head));
        }
    }

    #[test]
    fn cut_at_any_length_is_refused() {
        for tree_len in [0, 4096] {
            let mut bytes = head(tree_len).encode().unwrap();
            bytes.extend(vec![9; usize::try_from(tree_len).unwrap()]);
            for n in 0..bytes.len() {
                assert!(parse(&bytes[..n], n as u64).is_err(), "{n} of {}", bytes.len());
            }
            bytes.push(0);
            assert!(parse(&bytes, bytes.len() as u64).is_err(), "trailing byte");
        }
    }

    #[test]
    fn a_changed_bit_anywhere_in_the_head_is_refused() {
        let bytes = head(4096).encode().unwrap();
        let total = bytes.len() as u64 + 4096;
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert!(parse(&changed, total).is_err(), "bit {at}");
        }
    }

    /// Puts a right checksum on a damaged head.
    fn resealed(mut bytes: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Result<Head, BundleError> {
        let body = bytes.len() - CHECKSUM;
        change(&mut bytes[..body]);
        let checksum = Sha256::digest(&bytes[..body]);
        bytes[body..].copy_from_slice(&checksum);
        parse(&bytes, bytes.len() as u64)
    }

    #[test]
    fn sections_must_be_packed_and_single() {
        let good = head(0).encode().unwrap();
        assert!(resealed(good.clone(), |_| ()).is_ok());
        let (kind, offset, length) = (FIXED + ENTRY, FIXED + 4, FIXED + 8);
        assert_eq!(resealed(good.clone(), |b| b[kind] = 1), Err(BundleError::Section("descriptor")));
        assert_eq!(resealed(good.clone(), |b| b[kind] = 99), Err(BundleError::Section("statement")));
        assert_eq!(resealed(good.clone(), |b| b[offset] += 1), Err(BundleError::Bounds("a section")));
        assert_eq!(resealed(good.clone(), |b| b[length] += 1), Err(BundleError::Bounds("a section")));
        assert_eq!(
            resealed(good, |b| b[length..length + 4].fill(0xff)),
            Err(BundleError::Bounds("a section"))
        );
    }

    #[test]
    fn a_head_over_the_limit_is_not_written() {
        let huge = Head { statement: Bytes::from(vec![0; HEAD_MAX]), ..head(0) };
        assert_eq!(huge.encode(), Err(BundleError::Bounds("the head")));
    }
}
