//! What the gateway says of a file's proof: the values of the extended attribute channel.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// Which extended attributes clients see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xattrs {
    /// Those that tell what was proven, and no others.
    #[default]
    Evidence,
    /// Also the `user.*` attributes of the files in the store: the store's word, which nobody signed.
    All,
}

impl fmt::Display for Xattrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Evidence => "evidence",
            Self::All => "all",
        })
    }
}

/// A word that is neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("xattrs must be \"evidence\" or \"all\", not \"{0}\"")]
pub struct UnknownXattrs(String);

impl FromStr for Xattrs {
    type Err = UnknownXattrs;

    fn from_str(word: &str) -> Result<Self, UnknownXattrs> {
        match word {
            "evidence" => Ok(Self::Evidence),
            "all" => Ok(Self::All),
            other => Err(UnknownXattrs(other.to_owned())),
        }
    }
}

/// One thing that is said of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// `sha256:HEX`, the fs-verity file digest.
    Digest,
    /// The descriptor, 256 bytes.
    Descriptor,
    /// The DSSE envelope.
    Statement,
    /// PKCS#7 in DER.
    Signature,
    /// Key ids and names, one a line.
    Signer,
    /// `verified`, or the cause why not.
    Status,
    /// The tree's geometry.
    Tree,
    /// The IMA signature as in `security.ima`.
    Ima,
    /// X.509 certificates that came with the evidence, in PEM.
    Certificates,
}

impl Item {
    /// All, in the order of listings.
    pub const ALL: [Self; 9] = [
        Self::Digest,
        Self::Descriptor,
        Self::Statement,
        Self::Signature,
        Self::Signer,
        Self::Status,
        Self::Tree,
        Self::Ima,
        Self::Certificates,
    ];

    /// The file's name in the proof directory.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Descriptor => "descriptor",
            Self::Statement => "statement",
            Self::Signature => "signature",
            Self::Signer => "signer",
            Self::Status => "status",
            Self::Tree => "tree",
            Self::Ima => "ima",
            Self::Certificates => "certificates",
        }
    }

    /// The attribute's name as RFC 8276 has it, without `user.`.
    pub fn xattr_name(self) -> &'static str {
        match self {
            Self::Digest => "verity.digest",
            Self::Descriptor => "verity.descriptor",
            Self::Statement => "verity.statement",
            Self::Signature => "verity.signature",
            Self::Signer => "verity.signer",
            Self::Status => "verity.status",
            Self::Tree => "verity.tree",
            Self::Ima => "ima",
            Self::Certificates => "verity.certificates",
        }
    }

    /// The item whose attribute has this name, without `user.`.
    pub fn of_xattr(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|item| item.xattr_name().as_bytes() == name)
    }
}

/// What proves a range of a file: tree blocks from the root hash's level down to the leaves.
#[derive(Clone, Debug)]
pub struct RangeProof {
    /// The descriptor, 256 bytes.
    pub descriptor: Bytes,
    /// Bytes of data that the proof covers from its offset on: as asked, or cut at a limit or the end.
    pub covered: u64,
    /// Tree blocks, those of the level next to the root first, each level in order.
    pub blocks: Vec<ProofBlock>,
}

/// A block of the tree.
#[derive(Clone, Debug)]
pub struct ProofBlock {
    /// The level; 0 holds the hashes of data blocks.
    pub level: u32,
    /// The index within the level.
    pub index: u64,
    /// All of the block.
    pub bytes: Bytes,
}
