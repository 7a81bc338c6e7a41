//! Digests of blocks and of files, and their text forms.

use std::fmt;
use std::str::FromStr;

use super::{HashAlgorithm, VerityError};

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Bytes {
    Short([u8; 32]),
    Long([u8; 64]),
}

/// The value of a hash: 32 or 64 bytes. Shorter ones sort first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Bytes);

impl Digest {
    /// The digest with these bytes; `None` unless there are 32 or 64.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        match bytes.len() {
            32 => bytes.try_into().ok().map(|b| Self(Bytes::Short(b))),
            64 => bytes.try_into().ok().map(|b| Self(Bytes::Long(b))),
            _ => None,
        }
    }

    /// What SHA-256 or SHA-512 gave.
    pub(super) fn of(hash: &ring::digest::Digest) -> Self {
        let bytes = hash.as_ref();
        if let Some(long) = bytes.first_chunk() {
            return Self(Bytes::Long(*long));
        }
        let mut short = [0; 32];
        short.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(Bytes::Short(short))
    }

    /// Zeros in the length of `algorithm`: the root hash of an empty file.
    pub const fn zero(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha256 => Self(Bytes::Short([0; 32])),
            HashAlgorithm::Sha512 => Self(Bytes::Long([0; 64])),
        }
    }

    /// The bytes, 32 or 64.
    pub const fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(bytes) => bytes,
            Bytes::Long(bytes) => bytes,
        }
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Bytes::Short(bytes))
    }
}

impl From<[u8; 64]> for Digest {
    fn from(bytes: [u8; 64]) -> Self {
        Self(Bytes::Long(bytes))
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = VerityError;

    /// Reads 64 or 128 lower-case hexadecimal digits and nothing else, so that a digest has one spelling.
    fn from_str(text: &str) -> Result<Self, VerityError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(VerityError::DigestText);
        }
        let mut long = [0; 64];
        let bytes = long.get_mut(..text.len() / 2).ok_or(VerityError::DigestText)?;
        hex::decode_to_slice(text, bytes).map_err(|_| VerityError::DigestText)?;
        Self::new(bytes).ok_or(VerityError::DigestText)
    }
}

/// What fs-verity calls the file digest: the hash of a file's [`Descriptor`](super::Descriptor), by which the
/// whole content and its parameters are named. Written `sha256:HEX`, as `fsverity digest` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileDigest {
    /// The hash of the descriptor and of the tree.
    pub algorithm: HashAlgorithm,
    /// Its value.
    pub digest: Digest,
}

impl FileDigest {
    /// `struct fsverity_formatted_digest`, the bytes that fs-verity's built-in signatures sign:
    /// `FSVerity`, the algorithm and the digest's length (16 bits each, little-endian), the digest.
    pub fn formatted(&self) -> Vec<u8> {
        let bytes = self.digest.as_bytes();
        // A digest has 32 or 64 bytes.
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let head = u16::from(self.algorithm.id()).to_le_bytes();
        [&b"FSVerity"[..], &head, &length.to_le_bytes(), bytes].concat()
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.digest)
    }
}

impl FromStr for FileDigest {
    type Err = VerityError;

    /// Reads `ALGORITHM:HEX`, strictly: known algorithm, lower case, the algorithm's length.
    fn from_str(text: &str) -> Result<Self, VerityError> {
        let (name, hex) = text.split_once(':').ok_or(VerityError::DigestText)?;
        let algorithm: HashAlgorithm = name.parse()?;
        let digest: Digest = hex.parse()?;
        if digest.as_bytes().len() != algorithm.digest_size() {
            return Err(VerityError::DigestText);
        }
        Ok(Self { algorithm, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(length: u8) -> Digest {
        Digest::new(&(0..length).map(|i| i.wrapping_mul(37)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_32_and_64_bytes_make_a_digest() {
        let lengths: Vec<_> = (0..200).filter(|n| Digest::new(&vec![7; *n]).is_some()).collect();
        assert_eq!(lengths, [32, 64]);
    }

    #[test]
    fn a_short_digest_never_equals_its_zero_padding() {
        assert_ne!(Digest::zero(HashAlgorithm::Sha256), Digest::zero(HashAlgorithm::Sha512));
    }

    #[test]
    fn text_leads_back_to_the_digest() {
        for (algorithm, length) in [(HashAlgorithm::Sha256, 32), (HashAlgorithm::Sha512, 64)] {
            let file = FileDigest { algorithm, digest: digest(length) };
            assert_eq!(file.to_string().parse(), Ok(file));
            assert_eq!(file.digest.to_string().parse(), Ok(file.digest));
        }
    }

    #[test]
    fn text_cut_at_any_length_or_longer_is_refused() {
        for (algorithm, length) in [(HashAlgorithm::Sha256, 32), (HashAlgorithm::Sha512, 64)] {
            let text = FileDigest { algorithm, digest: digest(length) }.to_string();
            for end in 0..text.len() {
                assert!(text[..end].parse::<FileDigest>().is_err(), "{}", &text[..end]);
            }
            for tail in ["0", "00", " ", "\n", ":"] {
                assert!(format!("{text}{tail}").parse::<FileDigest>().is_err(), "{tail:?}");
            }
        }
    }

    #[test]
    fn another_spelling_of_a_digest_is_refused() {
        let hex = digest(32).to_string();
        for text in [
            format!("sha256:{}", hex.to_uppercase()),
            format!("SHA256:{hex}"),
            format!("sha512:{hex}"),
            format!("sha256:{hex}{hex}"),
            format!("sha256: {hex}"),
            format!("sha256{hex}"),
            format!("sha256:{}", "é".repeat(32)),
            format!("sha256:0x{}", &hex[2..]),
        ] {
            assert!(text.parse::<FileDigest>().is_err(), "{text}");
        }
        assert!("0".repeat(1_000_000).parse::<Digest>().is_err());
    }
}
