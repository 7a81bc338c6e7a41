//! The evidence bundle: one file's descriptor, signatures and Merkle tree.
//!
//! All integers are little-endian, as in the kernel's fs-verity structures.
//!
//! ```text
//! offset  size  field
//!      0     8  magic 89 'n' 'f' 's' 'v' 't' 'y' 0a
//!      8     2  version, 1
//!     10     2  number of sections, 1 to 64
//!     12     4  length of the head: header, section table, sections, checksum
//!     16     8  offset of the tree; without a tree the length of the head,
//!               otherwise a multiple of 4096, with zeros between head and tree
//!     24     8  length of the tree in bytes
//!     32   12n  section table: kind (2), zero (2), offset (4), length (4)
//!      …     …  the sections, in the table's order, without gaps
//!   -32     32  SHA-256 of the head before it
//! ```
//!
//! | kind | section | how many | bytes at most |
//! |---|---|---|---|
//! | 1 | descriptor, 256 bytes as the kernel has them | 1 | |
//! | 2 | statement, a DSSE envelope | 0 or 1 | |
//! | 3 | what the signer saw, see [`Observed`] | 0 or 1 | 32 |
//! | 4 | PKCS#7 message, as in `FS_IOC_ENABLE_VERITY` | 0 to 16 | 16128 |
//! | 5 | IMA signature, as in `security.ima` | 0 to 16 | 1024 |
//! | 6 | X.509 certificate in DER | 0 to 16 | 16384 |
//!
//! Sections of other kinds are carried under the checksum and have no meaning here.
//!
//! The checksum protects nothing: it tells damage from a forgery. What the bundle says is
//! believed only after its signatures were checked.

use std::ops::Range;

use bytes::Bytes;
use ring::digest::{SHA256, digest};

use super::evidence::{Evidence, Observed};
use super::le::Le;

const MAGIC: [u8; 8] = *b"\x89nfsvty\n";
const VERSION: u16 = 1;
const FIXED: usize = 32;
const ENTRY: usize = 12;
const CHECKSUM: usize = 32;
const SECTIONS_MAX: usize = 64;
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

/// All of a bundle but the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the sections hold; a descriptor is always there.
    pub evidence: Evidence,
    /// Where the tree starts.
    pub tree_offset: u64,
    /// Bytes of tree.
    pub tree_len: u64,
}

const DESCRIPTOR: u16 = 1;
const STATEMENT: u16 = 2;
const OBSERVED: u16 = 3;
const PKCS7: u16 = 4;
const IMA: u16 = 5;
const CERTIFICATE: u16 = 6;

/// The most sections of one kind that may be repeated.
pub const REPEATED_MAX: usize = 16;
/// The longest PKCS#7 message: what the kernel takes beside a descriptor.
pub const PKCS7_MAX: usize = 16128;
/// The longest IMA signature.
pub const IMA_MAX: usize = 1024;
/// The longest certificate.
pub const CERTIFICATE_MAX: usize = 16384;

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
        if digest(&SHA256, body).as_ref() != checksum {
            return Err(BundleError::Checksum);
        }

        let (mut evidence, mut observed) = (Evidence::default(), None);
        let mut end = FIXED + fixed.sections * ENTRY;
        let mut table = Le(body.get(FIXED..end).ok_or(BundleError::Bounds("the section table"))?);
        while !table.0.is_empty() {
            let entry = (table.u16(), table.u16(), table.u32(), table.u32());
            let (Some(kind), Some(0), Some(offset), Some(length)) = entry else {
                return Err(BundleError::Bounds("a section table entry"));
            };
            let range = section(end, offset, length, body.len())?;
            end = range.end;
            let bytes = bytes.slice(range);
            match kind {
                DESCRIPTOR => once(&mut evidence.descriptor, bytes, "descriptor")?,
                STATEMENT => once(&mut evidence.statement, bytes, "statement")?,
                OBSERVED => once(&mut observed, bytes, "observed")?,
                PKCS7 => evidence.pkcs7.push(bytes),
                IMA => evidence.ima.push(bytes),
                CERTIFICATE => evidence.certificates.push(bytes),
                // Kinds of later versions: carried under the checksum, of no meaning here.
                _ => {}
            }
        }
        if end != body.len() {
            return Err(BundleError::Bounds("the last section"));
        }
        if let Some(bytes) = observed {
            let parsed = Observed::parse(&bytes).ok_or(BundleError::Bounds("the observed section"))?;
            evidence.observed = Some(parsed);
        }
        within_limits(&evidence)?;
        Ok(Self { evidence, tree_offset: fixed.tree_offset, tree_len: fixed.tree_len })
    }

    /// The head as bytes, padding included. With a tree, `tree_offset`
    /// must leave room for the head; without one it is not looked at.
    pub fn encode(&self) -> Result<Vec<u8>, BundleError> {
        within_limits(&self.evidence)?;
        let observed = self.evidence.observed.map(Observed::encode);
        let sections = sections(&self.evidence, observed.as_ref());
        let mut offset = FIXED + sections.len() * ENTRY;
        let head_len = length(&sections);
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
        let checksum = digest(&SHA256, &out);
        out.extend_from_slice(checksum.as_ref());
        out.resize(extent.max(out.len()), 0);
        Fixed::parse(&out)?;
        Ok(out)
    }
}

/// How many bytes the head of a bundle with `evidence` takes without padding.
pub fn head_len(evidence: &Evidence) -> usize {
    let observed = evidence.observed.map(Observed::encode);
    length(&sections(evidence, observed.as_ref()))
}

/// Where the tree of a bundle with `evidence` starts: [`TREE_OFFSET`], or behind it as far as the head
/// needs, with `spare` bytes for signatures that turn out longer.
pub fn tree_offset(evidence: &Evidence, spare: usize) -> u64 {
    len64(head_len(evidence).saturating_add(spare)).next_multiple_of(TREE_OFFSET).max(TREE_OFFSET)
}

fn sections<'a>(evidence: &'a Evidence, observed: Option<&'a [u8; Observed::SIZE]>) -> Vec<(u16, &'a [u8])> {
    let Evidence { descriptor, statement, pkcs7, ima, certificates, observed: _ } = evidence;
    let mut sections = Vec::new();
    sections.extend(descriptor.iter().map(|bytes| (DESCRIPTOR, &bytes[..])));
    sections.extend(statement.iter().map(|bytes| (STATEMENT, &bytes[..])));
    sections.extend(observed.map(|bytes| (OBSERVED, &bytes[..])));
    sections.extend(pkcs7.iter().map(|bytes| (PKCS7, &bytes[..])));
    sections.extend(ima.iter().map(|bytes| (IMA, &bytes[..])));
    sections.extend(certificates.iter().map(|bytes| (CERTIFICATE, &bytes[..])));
    sections
}

fn length(sections: &[(u16, &[u8])]) -> usize {
    let bodies: usize = sections.iter().map(|(_, bytes)| bytes.len()).sum();
    FIXED + sections.len() * ENTRY + bodies + CHECKSUM
}

fn once(slot: &mut Option<Bytes>, bytes: Bytes, name: &'static str) -> Result<(), BundleError> {
    if slot.replace(bytes).is_some() { Err(BundleError::Section(name)) } else { Ok(()) }
}

/// A descriptor is there, and neither number nor length of what may be repeated is over its limit.
fn within_limits(evidence: &Evidence) -> Result<(), BundleError> {
    if evidence.descriptor.is_none() {
        return Err(BundleError::Section("descriptor"));
    }
    for (list, longest, name) in [
        (&evidence.pkcs7, PKCS7_MAX, "a PKCS#7 section"),
        (&evidence.ima, IMA_MAX, "an IMA section"),
        (&evidence.certificates, CERTIFICATE_MAX, "a certificate section"),
    ] {
        if list.len() > REPEATED_MAX || list.iter().any(|bytes| bytes.is_empty() || bytes.len() > longest) {
            return Err(BundleError::Bounds(name));
        }
    }
    Ok(())
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

/// Lengths here are at most [`HEAD_MAX`].
fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn len64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn head(tree_len: u64) -> Head {
        let evidence = Evidence {
            descriptor: Some(Bytes::from(vec![1; 256])),
            statement: Some(Bytes::from(vec![b'{'; 777])),
            observed: Some(Observed { fileid: 7, mtime: (-1, 2), ctime: (3, 4) }),
            ..Evidence::default()
        };
        let mut head = Head { evidence, tree_offset: TREE_OFFSET, tree_len };
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
        assert_eq!(resealed(good.clone(), |b| b[FIXED] = 99), Err(BundleError::Section("descriptor")));
        assert_eq!(resealed(good.clone(), |b| b[kind] = 99).unwrap().evidence.statement, None);
        assert!(!resealed(good.clone(), |b| b[kind] = 99).unwrap().evidence.is_signed());
        assert_eq!(resealed(good.clone(), |b| b[offset] += 1), Err(BundleError::Bounds("a section")));
        assert_eq!(resealed(good.clone(), |b| b[length] += 1), Err(BundleError::Bounds("a section")));
        assert_eq!(
            resealed(good, |b| b[length..length + 4].fill(0xff)),
            Err(BundleError::Bounds("a section"))
        );
    }

    #[test]
    fn a_head_over_the_limit_is_not_written() {
        let mut huge = head(0);
        huge.evidence.statement = Some(Bytes::from(vec![0; HEAD_MAX]));
        assert_eq!(huge.encode(), Err(BundleError::Bounds("the head")));
    }

    fn full() -> Head {
        let mut head = head(0);
        let some = |n: usize, fill| (0..n).map(|at| Bytes::from(vec![fill; at + 1])).collect();
        head.evidence.pkcs7 = some(16, 0x30);
        head.evidence.ima = some(16, 3);
        head.evidence.certificates = some(16, 0x31);
        head.tree_offset = head_len(&head.evidence) as u64;
        head
    }

    #[test]
    fn sections_that_may_be_repeated_keep_their_order() {
        let head = full();
        let bytes = head.encode().unwrap();
        assert_eq!(bytes.len(), head_len(&head.evidence));
        assert_eq!(parse(&bytes, bytes.len() as u64), Ok(head));
    }

    #[test]
    fn too_many_and_too_long_sections_are_refused_when_written_and_when_read() {
        let over: [fn(&mut Evidence); 7] = [
            |e| e.pkcs7.push(Bytes::from_static(b"17")),
            |e| e.ima.push(Bytes::from_static(b"17")),
            |e| e.certificates.push(Bytes::from_static(b"17")),
            |e| e.pkcs7[0] = Bytes::from(vec![0; PKCS7_MAX + 1]),
            |e| e.ima[0] = Bytes::from(vec![0; IMA_MAX + 1]),
            |e| e.certificates[0] = Bytes::from(vec![0; CERTIFICATE_MAX + 1]),
            |e| e.ima[0] = Bytes::new(),
        ];
        for change in over {
            let mut head = full();
            change(&mut head.evidence);
            assert!(matches!(head.encode(), Err(BundleError::Bounds(_))));
        }
        let mut none = full();
        none.evidence.descriptor = None;
        assert_eq!(none.encode(), Err(BundleError::Section("descriptor")));
        // Seventeen of a kind, as another program may write them.
        let good = full().encode().unwrap();
        let first_certificate = FIXED + (3 + 32) * ENTRY;
        let seventeen = resealed(good, |bytes| bytes[first_certificate] = 5);
        assert_eq!(seventeen, Err(BundleError::Bounds("an IMA section")));
    }

    /// Put together by hand from the table at the top of this file.
    #[test]
    fn a_bundle_with_a_statement_alone_is_two_sections_in_a_row() {
        let mut head = head(0);
        head.evidence.observed = None;
        let (descriptor, statement) = (vec![1; 256], vec![b'{'; 777]);
        let length = 32 + 2 * 12 + 256 + 777 + 32_u32;
        let mut expected = b"\x89nfsvty\n\x01\0\x02\0".to_vec();
        expected.extend(length.to_le_bytes());
        expected.extend(u64::from(length).to_le_bytes());
        expected.extend(0_u64.to_le_bytes());
        for (kind, offset, length) in [(1_u32, 56_u32, 256_u32), (2, 56 + 256, 777)] {
            expected.extend([kind.to_le_bytes(), offset.to_le_bytes(), length.to_le_bytes()].concat());
        }
        expected.extend([descriptor, statement].concat());
        expected.extend(Sha256::digest(&expected));
        assert_eq!(head.encode().unwrap(), expected);
    }
}
