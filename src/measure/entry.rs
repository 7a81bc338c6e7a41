//! What is to be measured: an entry, and the record that it becomes in either form of the list.

use std::borrow::Cow;

use super::bank::{Banks, PCR};
use super::fields::{Fields, NAME_MAX, THIRD_MAX, is_signature};
use super::template::{DigestKind, FileHash, Template, Third};
use crate::verity::{FileDigest, HashAlgorithm};

/// The name of the first entry.
const BOOT_AGGREGATE: &str = "boot_aggregate";

/// The longest path in bytes that the kernel measures whole: `PATH_MAX` without the zero at its end.
const PATH_MAX: usize = 4095;
/// The longest name in bytes that it measures of a longer path: `NAME_MAX` of the kernel, 255, has room for the
/// zero at its end in it.
const COMPONENT_MAX: usize = 254;

/// The name by which the file at `path`, as seen from the root of the export, is measured: absolute, so with a slash
/// before it where there is none.
///
/// As in the kernel (`ima_d_path` of `ima_api.c`), of a path of more than 4095 bytes the last component stands for
/// it, without a slash, cut to 254 bytes. So it fits into an [`Entry`] in any case, though another file may have
/// the same name there; the digest tells them apart.
pub fn name_of(path: &[u8]) -> Cow<'_, [u8]> {
    let absolute = path.first() == Some(&b'/');
    if path.len() + usize::from(!absolute) > PATH_MAX {
        let last = path.rsplit(|byte| *byte == b'/').find(|component| !component.is_empty());
        // A path of slashes alone is the root.
        let last = last.unwrap_or(b"/");
        return Cow::Borrowed(last.get(..COMPONENT_MAX).unwrap_or(last));
    }
    if absolute { Cow::Borrowed(path) } else { Cow::Owned([b"/", path].concat()) }
}

/// Why something cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The digest does not have the hash's length.
    #[error("a digest of {given} bytes is none of {}, which has {}", hash.name(), hash.size())]
    DigestLength {
        /// The hash.
        hash: FileHash,
        /// The digest's length in bytes.
        given: usize,
    },
    /// The template has no place for the kind of the digest, and would tell another.
    #[error("{0} cannot tell an fs-verity digest from a file's hash; use ima-ngv2 or ima-sigv2")]
    KindUntold(Template),
    /// The name is empty, has a zero in it, or more than [`NAME_MAX`] bytes.
    #[error("a name has 1 to {NAME_MAX} bytes and no zero among them")]
    Name,
    /// The template has no place for what is given beside digest and name.
    #[error("{0} has no place for a signature or a buffer")]
    NoThird(Template),
    /// What is given beside digest and name has more than [`THIRD_MAX`] bytes.
    #[error("a signature or buffer of {0} bytes is too long")]
    ThirdLength(usize),
    /// What is given as signature begins with a byte that no measured signature begins with.
    #[error("the signature is not the value of an attribute with a signature")]
    Signature,
}

/// One measurement, fit for the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    template: Template,
    violation: bool,
    kind: DigestKind,
    hash: FileHash,
    digest: Vec<u8>,
    name: Vec<u8>,
    third: Vec<u8>,
}

impl Entry {
    /// A file or a buffer: what was measured, its name, and the field behind the name, which may be empty:
    /// in `sig` the value of `security.ima` or `user.ima` with the byte of its type; in `buf` the buffer.
    ///
    /// As in the kernel, spaces in the name become underscores, and nothing else is changed or quoted.
    pub fn new(
        template: Template,
        (kind, hash, digest): (DigestKind, FileHash, &[u8]),
        name: &[u8],
        third: &[u8],
    ) -> Result<Self, EntryError> {
        if digest.len() != hash.size() {
            return Err(EntryError::DigestLength { hash, given: digest.len() });
        }
        if kind == DigestKind::Verity && !template.tells_kind() {
            return Err(EntryError::KindUntold(template));
        }
        if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
            return Err(EntryError::Name);
        }
        match template.third() {
            Third::None if !third.is_empty() => return Err(EntryError::NoThird(template)),
            Third::Signature if !is_signature(third) => return Err(EntryError::Signature),
            Third::None | Third::Signature | Third::Buffer => {}
        }
        if third.len() > THIRD_MAX {
            return Err(EntryError::ThirdLength(third.len()));
        }
        let name = name.iter().map(|byte| if *byte == b' ' { b'_' } else { *byte }).collect();
        Ok(Self { template, violation: false, kind, hash, digest: digest.into(), name, third: third.into() })
    }

    /// A file by its fs-verity digest, and the signature's attribute where the template has a place for it.
    pub fn verity(
        template: Template,
        file: &FileDigest,
        name: &[u8],
        signature: &[u8],
    ) -> Result<Self, EntryError> {
        let hash = match file.algorithm {
            HashAlgorithm::Sha256 => FileHash::Sha256,
            HashAlgorithm::Sha512 => FileHash::Sha512,
        };
        Self::new(template, (DigestKind::Verity, hash, file.digest.as_bytes()), name, signature)
    }

    /// What the kernel calls a violation: the file changed while it was measured, so the record has no
    /// digest and what follows cannot be relied upon. Its kind is always [`DigestKind::Ima`], and zeros stand
    /// in the digest's place, as many as `hash` has; old kernels put 20 there, whatever the hash.
    pub fn violation(template: Template, hash: FileHash, name: &[u8]) -> Result<Self, EntryError> {
        let digest = vec![0; hash.size()];
        let entry = Self::new(template, (DigestKind::Ima, hash, &digest), name, &[])?;
        Ok(Self { violation: true, ..entry })
    }

    /// The first entry: the SHA-256 digest of registers 0 to 9, which are zeros here, as in the files of registers: the
    /// list says nothing of how the machine started. Where there is a TPM, its quote does.
    pub fn boot_aggregate(template: Template) -> Self {
        let (kind, hash) = (DigestKind::Ima, FileHash::Sha256);
        let digest = Banks::of(&[0; 10 * 32]).sha256.to_vec();
        let (name, third) = (BOOT_AGGREGATE.into(), Vec::new());
        Self { template, violation: false, kind, hash, digest, name, third }
    }

    /// The layout.
    pub const fn template(&self) -> Template {
        self.template
    }

    /// Whether it is a violation.
    pub const fn is_violation(&self) -> bool {
        self.violation
    }

    /// What it says.
    pub fn fields(&self) -> Fields<'_> {
        let Self { kind, hash, digest, name, third, .. } = self;
        Fields { kind: *kind, hash: *hash, digest, name, third }
    }

    /// The template data: what its digests are of.
    pub fn data(&self) -> Vec<u8> {
        self.fields().encode(self.template)
    }

    /// What a register of each bank is extended with: the digests of the data, or ones for a violation.
    pub fn digests(&self) -> Banks {
        if self.violation { Banks::ONES } else { Banks::of(&self.data()) }
    }

    /// Its record in `binary_runtime_measurements`: register, SHA-1 digest (zeros for a violation), the
    /// template's name behind its length, the data behind its length; numbers have 32 bits and are
    /// little-endian.
    pub fn binary(&self) -> Vec<u8> {
        let data = self.data();
        let digest = if self.violation { Banks::ZERO } else { Banks::of(&data) }.sha1;
        record(self.template, &digest, &data)
    }

    /// Its line in `ascii_runtime_measurements`, with the newline.
    pub fn ascii(&self) -> Vec<u8> {
        let digest = if self.violation { Banks::ZERO } else { self.digests() }.sha1;
        line(self.template, &digest, &self.fields())
    }
}

/// A record of the binary list.
pub(super) fn record(template: Template, digest: &[u8; 20], data: &[u8]) -> Vec<u8> {
    let name = template.name().as_bytes();
    // Both were bounded before.
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&PCR.to_le_bytes()[..], digest, &len(name), name, &len(data), data].concat()
}

/// A line of the ASCII list.
pub(super) fn line(template: Template, digest: &[u8; 20], fields: &Fields<'_>) -> Vec<u8> {
    let mut line = format!("{PCR:2} {} {template}", hex::encode(digest)).into_bytes();
    fields.ascii(template, &mut line);
    line.push(b'\n');
    line
}
