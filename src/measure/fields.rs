//! The data of a record, which its digest is of: each field behind its length, 32 bits in little-endian
//! order. `ima_template_lib.c` of the kernel.

use super::template::{DigestKind, FileHash, Template, Third};

/// The longest name in bytes, without the zero at its end: Linux's `PATH_MAX`.
pub const NAME_MAX: usize = 4096;
/// The longest third field in bytes: Linux's `XATTR_SIZE_MAX`.
pub const THIRD_MAX: usize = 65536;
/// The longest first field, which is `verity:sha512:`, a zero and a digest.
const DIGEST_FIELD_MAX: usize = 7 + 7 + 1 + 64;
/// The longest data of a record.
pub(super) const DATA_MAX: usize = 3 * 4 + DIGEST_FIELD_MAX + NAME_MAX + 1 + THIRD_MAX;
/// What old kernels put in place of a digest, of whichever hash, when they told of a violation: so many zeros.
const OLD_VIOLATION: usize = 20;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// What the digest is of; [`DigestKind::Ima`] where the template does not tell.
    pub kind: DigestKind,
    /// The hash.
    pub hash: FileHash,
    /// The digest; zeros in a violation.
    pub digest: &'a [u8],
    /// The name, without the zero at its end. Any other byte may be in it but a space.
    pub name: &'a [u8],
    /// Signature or buffer; empty when there is none.
    pub third: &'a [u8],
}

/// What is wrong with the data of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldFault {
    /// A field ends behind the data.
    #[error("a field is longer than the record")]
    Cut,
    /// A field is longer than any that this program takes.
    #[error("a field of {0} bytes is too long")]
    TooLong(u32),
    /// There is more behind the last field.
    #[error("there are {0} bytes behind the last field")]
    Trailing(usize),
    /// The digest is not of a known kind or hash, or not of the hash's length.
    #[error("the digest is not in the format")]
    Digest,
    /// The name has no zero at its end, has one before, or has a space.
    #[error("the name is not in the format")]
    Name,
    /// The third field is no signature.
    #[error("the signature is not of a kind that the kernel measures")]
    Signature,
}

/// True for what the kernel writes to the field `sig`: nothing, or the value of an attribute that begins with
/// `EVM_IMA_XATTR_DIGSIG`, `EVM_XATTR_PORTABLE_DIGSIG` or `IMA_VERITY_DIGSIG`.
pub(super) fn is_signature(value: &[u8]) -> bool {
    matches!(value.first(), None | Some(3 | 5 | 6))
}

impl<'a> Fields<'a> {
    /// What stands before the digest, without the zero behind it: `sha256:` or `verity:sha256:`.
    fn prefix(&self, template: Template) -> String {
        let hash = self.hash.name();
        if template.tells_kind() { format!("{}:{hash}:", self.kind.name()) } else { format!("{hash}:") }
    }

    /// The data: what the digests of a record are of.
    pub(super) fn encode(&self, template: Template) -> Vec<u8> {
        let mut data = Vec::with_capacity(128 + self.name.len() + self.third.len());
        field(&mut data, &[self.prefix(template).as_bytes(), &[0], self.digest]);
        field(&mut data, &[self.name, &[0]]);
        if template.third() != Third::None {
            field(&mut data, &[self.third]);
        }
        data
    }

    /// Reads what [`Self::encode`] writes, and no other spelling of it.
    pub(super) fn parse(template: Template, data: &'a [u8], violation: bool) -> Result<Self, FieldFault> {
        let (first, rest) = split(data, DIGEST_FIELD_MAX)?;
        let (name, rest) = split(rest, NAME_MAX + 1)?;
        let (third, rest) = match template.third() {
            Third::None => (&[][..], rest),
            Third::Signature | Third::Buffer => split(rest, THIRD_MAX)?,
        };
        if !rest.is_empty() {
            return Err(FieldFault::Trailing(rest.len()));
        }
        let (kind, hash, digest) = digest(template, first).ok_or(FieldFault::Digest)?;
        let size = digest.len();
        let right = if violation {
            digest.iter().all(|byte| *byte == 0) && (size == hash.size() || size == OLD_VIOLATION)
        } else {
            size == hash.size()
        };
        if !right {
            return Err(FieldFault::Digest);
        }
        let Some((0, name)) = name.split_last() else { return Err(FieldFault::Name) };
        if name.is_empty() || name.contains(&0) || name.contains(&b' ') {
            return Err(FieldFault::Name);
        }
        if template.third() == Third::Signature && !is_signature(third) {
            return Err(FieldFault::Signature);
        }
        Ok(Self { kind, hash, digest, name, third })
    }

    /// The line's end, from the first field on: a space before each field, the digest and what follows the
    /// name in hexadecimal, the name as it is.
    pub(super) fn ascii(&self, template: Template, line: &mut Vec<u8>) {
        line.push(b' ');
        line.extend_from_slice(self.prefix(template).as_bytes());
        line.extend_from_slice(hex::encode(self.digest).as_bytes());
        line.push(b' ');
        line.extend_from_slice(self.name);
        if template.third() != Third::None {
            line.push(b' ');
            line.extend_from_slice(hex::encode(self.third).as_bytes());
        }
    }
}

/// Appends a field, whose parts were bounded before.
fn field(data: &mut Vec<u8>, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    data.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    parts.iter().for_each(|part| data.extend_from_slice(part));
}

fn split(data: &[u8], max: usize) -> Result<(&[u8], &[u8]), FieldFault> {
    let (len, rest) = data.split_first_chunk().ok_or(FieldFault::Cut)?;
    let len = u32::from_le_bytes(*len);
    let wanted = usize::try_from(len).ok().filter(|len| *len <= max).ok_or(FieldFault::TooLong(len))?;
    rest.split_at_checked(wanted).ok_or(FieldFault::Cut)
}

fn digest(template: Template, field: &[u8]) -> Option<(DigestKind, FileHash, &[u8])> {
    let (kind, rest) = if template.tells_kind() {
        let kinds = [DigestKind::Ima, DigestKind::Verity].into_iter();
        kinds
            .map(|kind| (kind, field.strip_prefix(kind.name().as_bytes())))
            .find_map(|(kind, rest)| rest.and_then(|rest| rest.strip_prefix(b":")).map(|rest| (kind, rest)))?
    } else {
        (DigestKind::Ima, field)
    };
    FileHash::ALL.into_iter().find_map(|hash| {
        let digest = rest.strip_prefix(hash.name().as_bytes())?.strip_prefix(b":\0")?;
        Some((kind, hash, digest))
    })
}
