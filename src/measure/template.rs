//! Which fields a record has, and the hashes that a field may name. `builtin_templates` in the kernel's
//! `security/integrity/ima/ima_template.c`, `hash_algo_name` in its `crypto/hash_info.c`.

use std::fmt;

/// What stands behind digest and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Third {
    /// Nothing: there are two fields.
    None,
    /// `sig`: the value of `security.ima`, or nothing.
    Signature,
    /// `buf`: what was measured, itself.
    Buffer,
}

/// The layout of a record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Template {
    /// `ima-ng`: `d-ng|n-ng`.
    ImaNg,
    /// `ima-sig`: `d-ng|n-ng|sig`.
    ImaSig,
    /// `ima-ngv2`: `d-ngv2|n-ng`.
    ImaNgV2,
    /// `ima-sigv2`: `d-ngv2|n-ng|sig`.
    ImaSigV2,
    /// `ima-buf`: `d-ng|n-ng|buf`.
    ImaBuf,
}

impl Template {
    /// Every layout that is written and read here.
    pub const ALL: [Self; 5] = [Self::ImaNg, Self::ImaSig, Self::ImaNgV2, Self::ImaSigV2, Self::ImaBuf];

    /// The name in the list.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImaNg => "ima-ng",
            Self::ImaSig => "ima-sig",
            Self::ImaNgV2 => "ima-ngv2",
            Self::ImaSigV2 => "ima-sigv2",
            Self::ImaBuf => "ima-buf",
        }
    }

    /// The layout of this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.name().as_bytes() == name)
    }

    /// Whether the digest says of what kind it is (`d-ngv2`).
    pub const fn tells_kind(self) -> bool {
        matches!(self, Self::ImaNgV2 | Self::ImaSigV2)
    }

    pub(super) const fn third(self) -> Third {
        match self {
            Self::ImaNg | Self::ImaNgV2 => Third::None,
            Self::ImaSig | Self::ImaSigV2 => Third::Signature,
            Self::ImaBuf => Third::Buffer,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a digest is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestKind {
    /// The bytes of the file.
    Ima,
    /// The fs-verity descriptor: an fs-verity file digest.
    Verity,
}

impl DigestKind {
    /// What stands before the hash's name in `d-ngv2`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ima => "ima",
            Self::Verity => "verity",
        }
    }
}

/// The hash by which a file was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileHash {
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl FileHash {
    /// Every hash that is written and read here.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of a digest in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}
