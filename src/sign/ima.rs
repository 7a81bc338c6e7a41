//! IMA signatures, the values of `security.ima` that begin with 3 or 6: `struct signature_v2_hdr` of the
//! kernel's `security/integrity/integrity.h`, and for version 3 the digest of `struct ima_file_id`
//! (`ima_appraise.c`).
//!
//! ```text
//! 0      type: 3 signature of the file's hash, 6 of its fs-verity digest
//! 1      version: 2 the digest itself is signed; 3 the hash of type, algorithm and digest
//! 2      the hash (enum hash_algo)
//! 3..7   key id
//! 7..9   length of the signature, big-endian: exactly what is left
//! 9..    RSA PKCS#1 v1.5 with DigestInfo, or ECDSA in DER
//! ```
//!
//! The key id only helps to find the key; it is not signed. Knows nothing of files and attributes.

use super::key::KeyKind;
use super::{Format, HashName, PublicKey, Sign, SignError, ToSign};

/// The longest value that is looked at: the head, and a signature of RSA with 8192 bits.
pub const IMA_VALUE_MAX: usize = HEAD + 1024;

/// Length of what stands before the signature.
const HEAD: usize = 9;
/// `EVM_IMA_XATTR_DIGSIG`.
const FILE: u8 = 3;
/// `IMA_VERITY_DIGSIG`.
const VERITY: u8 = 6;

/// What an IMA signature is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImaKind {
    /// The hash of the whole file, signed as it is: type 3, version 2.
    File,
    /// The hash of the whole file, signed together with type and algorithm: type 3, version 3.
    FileV3,
    /// The fs-verity file digest, signed together with type and algorithm: type 6, version 3.
    Verity,
}

impl ImaKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::File, Self::FileV3, Self::Verity];

    const fn type_and_version(self) -> (u8, u8) {
        match self {
            Self::File => (FILE, 2),
            Self::FileV3 => (FILE, 3),
            Self::Verity => (VERITY, 3),
        }
    }

    /// The format that such a signature belongs to.
    pub const fn format(self) -> Format {
        match self {
            Self::File | Self::FileV3 => Format::ImaV2,
            Self::Verity => Format::ImaV3,
        }
    }

    /// fs-verity has no SHA-384.
    fn takes(self, hash: HashName) -> bool {
        self != Self::Verity || hash != HashName::Sha384
    }

    /// The kernel's `struct ima_file_id`: what a signature of version 3 is over.
    fn file_id(self, hash: HashName, digest: &[u8]) -> Vec<u8> {
        [&[self.type_and_version().0, hash.ima_id()], digest].concat()
    }
}

/// An IMA signature that was read, and nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImaSignature {
    /// What it is about.
    pub kind: ImaKind,
    /// The hash of the digest it is about, and of the signature itself.
    pub hash: HashName,
    /// The end of the signer's subject key identifier, or of the SHA-1 of the key. Not signed.
    pub key_id: [u8; 4],
    /// The signature: RSA PKCS#1 v1.5, or ECDSA in DER.
    pub signature: Vec<u8>,
}

impl ImaSignature {
    /// Reads the value of an attribute, of at most [`IMA_VALUE_MAX`] bytes.
    ///
    /// # Errors
    /// [`SignError::TooLong`], or [`SignError::Ima`] for what is no signature, or not of a version and
    /// hash that can be checked.
    pub fn parse(value: &[u8]) -> Result<Self, SignError> {
        if value.len() > IMA_VALUE_MAX {
            return Err(SignError::TooLong { what: "IMA signature", found: value.len(), max: IMA_VALUE_MAX });
        }
        let Some((&[kind, version, hash, a, b, c, d, high, low], signature)) = value.split_first_chunk()
        else {
            return Err(match value.first() {
                Some(1 | 4) => refuse("it is a hash, which nobody signed"),
                _ => refuse(format!("it has {} bytes; the head alone has {HEAD}", value.len())),
            });
        };
        let kind = match (kind, version) {
            (FILE, 2) => ImaKind::File,
            (FILE, 3) => ImaKind::FileV3,
            (VERITY, 3) => ImaKind::Verity,
            (FILE, 1) => return Err(refuse("version 1 signs SHA-1, which is broken")),
            (FILE | VERITY, _) => return Err(refuse(format!("version {version} of type {kind}"))),
            (1 | 4, _) => return Err(refuse("it is a hash, which nobody signed")),
            (2 | 5, _) => return Err(refuse("it belongs to EVM, not to IMA")),
            _ => return Err(refuse(format!("type {kind}; 3 and 6 are signatures"))),
        };
        let hash =
            HashName::from_ima_id(hash).filter(|hash| kind.takes(*hash)).ok_or_else(|| match hash {
                1 => refuse("its hash is MD5, which is broken"),
                2 => refuse("its hash is SHA-1, which is broken"),
                5 => refuse("its hash is SHA-384, which fs-verity does not have"),
                _ => refuse(format!("its hash is number {hash} of the kernel's hash_info.h")),
            })?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length != signature.len() || signature.is_empty() {
            let found = signature.len();
            return Err(refuse(format!("its length says {length} bytes of signature and {found} are there")));
        }
        Ok(Self { kind, hash, key_id: [a, b, c, d], signature: signature.to_vec() })
    }

    /// The value of an attribute.
    ///
    /// # Errors
    /// [`SignError::TooLong`] for what would be longer than [`IMA_VALUE_MAX`], and [`SignError::Ima`] for
    /// what could not be read back.
    pub fn encode(&self) -> Result<Vec<u8>, SignError> {
        let (kind, version) = self.kind.type_and_version();
        let found = HEAD + self.signature.len();
        let too_long = SignError::TooLong { what: "IMA signature", found, max: IMA_VALUE_MAX };
        if found > IMA_VALUE_MAX {
            return Err(too_long);
        }
        if self.signature.is_empty() || !self.kind.takes(self.hash) {
            return Err(refuse("there is no signature, or fs-verity does not have its hash"));
        }
        let length = u16::try_from(self.signature.len()).map_err(|_| too_long)?;
        let mut value = vec![kind, version, self.hash.ima_id()];
        value.extend_from_slice(&self.key_id);
        value.extend_from_slice(&length.to_be_bytes());
        value.extend_from_slice(&self.signature);
        Ok(value)
    }

    /// The format that it belongs to.
    pub const fn format(&self) -> Format {
        self.kind.format()
    }

    /// True when `key` signed this `digest`: of the whole file, or the fs-verity file digest, as the kind
    /// says, computed with the signature's hash.
    pub fn verify(&self, digest: &[u8], key: &PublicKey) -> bool {
        if digest.len() != self.hash.digest_size() {
            return false;
        }
        match self.kind {
            ImaKind::File => key.verify_digest(self.hash, digest, &self.signature),
            ImaKind::FileV3 | ImaKind::Verity => {
                let signed = self.hash.digest(&self.kind.file_id(self.hash, digest));
                key.verify_digest(self.hash, &signed, &self.signature)
            }
        }
    }
}

/// Signs `digest`, of the whole file or the fs-verity file digest as `kind` says, computed with `hash`, and
/// gives the value of the attribute. `key_id` is that of the signer's certificate
/// ([`super::Certificate::ima_key_id`]) or key ([`PublicKey::ima_key_id`]).
///
/// # Errors
/// [`SignError::CannotMake`] for a key of Ed25519, [`SignError::Ima`] for a digest of another length than
/// the hash's or a hash that fs-verity does not have, and what the signer says.
pub fn sign_ima(
    kind: ImaKind,
    hash: HashName,
    digest: &[u8],
    signer: &dyn Sign,
    key_id: [u8; 4],
) -> Result<Vec<u8>, SignError> {
    if signer.public_key().kind() == KeyKind::Ed25519 {
        let algorithm = signer.public_key().algorithm_name();
        return Err(SignError::CannotMake { algorithm, what: "IMA signatures" });
    }
    if digest.len() != hash.digest_size() || !kind.takes(hash) {
        return Err(refuse(format!("{} bytes are no digest of {hash} that it could be about", digest.len())));
    }
    let signature = match kind {
        ImaKind::File => signer.sign(hash, ToSign::Digest(digest))?,
        ImaKind::FileV3 | ImaKind::Verity => {
            signer.sign(hash, ToSign::Message(&kind.file_id(hash, digest)))?
        }
    };
    ImaSignature { kind, hash, key_id, signature }.encode()
}

fn refuse(reason: impl ToString) -> SignError {
    SignError::Ima { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;

    const SIGNERS: [&str; 3] = ["p256", "p384", "rsa3072"];

    /// Every kind with every hash that it takes, of every key: name, digest, value.
    fn values() -> impl Iterator<Item = (&'static str, Vec<u8>, Vec<u8>)> {
        let pairs = ImaKind::ALL.into_iter().flat_map(|kind| HashName::ALL.map(|hash| (kind, hash)));
        pairs.filter(|(kind, hash)| kind.takes(*hash)).flat_map(|(kind, hash)| {
            SIGNERS.map(|name| {
                let digest = hash.digest(b"content");
                let value = sign_ima(kind, hash, &digest, fixture::key(name), *b"keyi").unwrap();
                (name, digest, value)
            })
        })
    }

    #[test]
    fn what_is_signed_is_read_back_and_verifies_for_its_digest_and_key_alone() {
        for (name, digest, value) in values() {
            let read = ImaSignature::parse(&value).unwrap();
            assert_eq!(read.encode().unwrap(), value);
            assert_eq!(read.key_id, *b"keyi");
            let mut other_digest = digest.clone();
            other_digest[0] ^= 1;
            for (other, key) in fixture::keys() {
                assert_eq!(read.verify(&digest, key.public_key()), other == name, "{name} {other}");
                assert!(!read.verify(&other_digest, key.public_key()), "{name} {other}");
            }
            assert!(!read.verify(&digest[1..], fixture::key(name).public_key()));
        }
    }

    #[test]
    fn a_signature_of_one_kind_or_hash_is_none_of_another() {
        for (name, digest, value) in values() {
            let good = ImaSignature::parse(&value).unwrap();
            for kind in ImaKind::ALL {
                for hash in HashName::ALL {
                    let claimed = ImaSignature { kind, hash, ..good.clone() };
                    let same = claimed == good;
                    let key = fixture::key(name).public_key();
                    assert_eq!(claimed.verify(&digest, key), same, "{name} {kind:?} {hash}");
                    assert!(same || !claimed.verify(&hash.digest(b"content"), key), "{name} {kind:?} {hash}");
                }
            }
        }
    }

    #[test]
    fn values_cut_extended_or_flipped_are_refused_or_do_not_verify() {
        for (name, digest, value) in values().filter(|(name, ..)| *name != "p384") {
            for cut in 0..value.len() {
                assert!(ImaSignature::parse(&value[..cut]).is_err(), "{name} cut at {cut}");
            }
            assert!(ImaSignature::parse(&[&value[..], &[0]].concat()).is_err(), "{name}");
            for bit in (0..value.len() * 8).step_by(if name == "p256" { 3 } else { 29 }) {
                let mut flipped = value.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let Ok(read) = ImaSignature::parse(&flipped) else { continue };
                // The key id is not signed: with another one, the signature is found by no one.
                let key_id = (3..7).contains(&(bit / 8));
                let key = fixture::key(name).public_key();
                assert_eq!(read.verify(&digest, key), key_id, "{name} bit {bit}");
                assert_eq!(read.key_id != *b"keyi", key_id, "{name} bit {bit}");
            }
        }
    }

    #[test]
    fn other_values_of_the_attribute_are_refused_with_their_cause() {
        let told = |value: &[u8]| ImaSignature::parse(value).unwrap_err().to_string();
        let head = |kind, version, hash| [&[kind, version, hash][..], b"keyi", &[0, 1, 0]].concat();
        for (value, cause) in [
            (vec![], "0 bytes"),
            (vec![3], "1 bytes"),
            ([&[4, 4][..], &[7; 32]].concat(), "a hash, which nobody signed"),
            ([&[1][..], &[7; 20]].concat(), "a hash, which nobody signed"),
            (vec![4, 4], "a hash, which nobody signed"),
            (head(2, 2, 4), "EVM"),
            (head(5, 2, 4), "EVM"),
            (head(0, 2, 4), "type 0"),
            (head(7, 3, 4), "type 7"),
            (head(3, 1, 4), "SHA-1, which is broken"),
            (head(3, 0, 4), "version 0"),
            (head(3, 4, 4), "version 4"),
            (head(6, 2, 4), "version 2 of type 6"),
            (head(3, 2, 1), "MD5"),
            (head(3, 2, 2), "SHA-1"),
            (head(3, 2, 7), "number 7"),
            (head(3, 2, 255), "number 255"),
            (head(6, 3, 5), "SHA-384"),
            (head(3, 2, 4)[..9].to_vec(), "1 bytes of signature and 0 are there"),
        ] {
            assert!(told(&value).contains(cause), "{value:?}: {}", told(&value));
        }
        ImaSignature::parse(&head(3, 2, 4)).unwrap();
        assert!(ImaSignature::parse(&[&[3, 2, 4][..], b"keyi", &[0, 0]].concat()).is_err());
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for (claimed, there) in [(0, 0), (0, 8), (7, 8), (9, 8), (0xffff, 8), (0x0800, 8)] {
            let length = u16::to_be_bytes(claimed);
            let value = [&[3, 2, 4][..], b"keyi", &length, &vec![1; there]].concat();
            assert!(matches!(ImaSignature::parse(&value), Err(SignError::Ima { .. })), "{claimed} {there}");
        }
        let longest = [&[3, 2, 4][..], b"keyi", &[4, 0], &[1; 1024]].concat();
        ImaSignature::parse(&longest).unwrap();
        let longer = [&[3, 2, 4][..], b"keyi", &[4, 1], &[1; 1025]].concat();
        assert!(matches!(ImaSignature::parse(&longer), Err(SignError::TooLong { .. })));
        assert!(matches!(ImaSignature::parse(&vec![3; 1 << 20]), Err(SignError::TooLong { .. })));
        let mut made = ImaSignature::parse(&longest).unwrap();
        made.signature.push(1);
        assert!(matches!(made.encode(), Err(SignError::TooLong { .. })));
        made.signature.clear();
        assert!(made.encode().is_err());
    }

    #[test]
    fn keys_and_digests_that_do_not_fit_are_refused() {
        let digest = HashName::Sha256.digest(b"content");
        for kind in ImaKind::ALL {
            let sign = |hash, digest: &[u8], name| sign_ima(kind, hash, digest, fixture::key(name), [0; 4]);
            let ed25519 = sign(HashName::Sha256, &digest, "ed25519");
            assert!(matches!(ed25519, Err(SignError::CannotMake { .. })));
            for hash in [HashName::Sha384, HashName::Sha512] {
                assert!(matches!(sign(hash, &digest, "p256"), Err(SignError::Ima { .. })));
            }
            assert!(sign(HashName::Sha256, &digest[1..], "p256").is_err());
        }
        let sha384 = HashName::Sha384.digest(b"content");
        let no_such = sign_ima(ImaKind::Verity, HashName::Sha384, &sha384, fixture::key("p256"), [0; 4]);
        assert!(matches!(no_such, Err(SignError::Ima { .. })));
    }
}
