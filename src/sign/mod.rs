//! Who vouches for a file: keys, signed statements, and the keyring that decides which signers count.
//!
//! A [`Statement`] binds a namespace, a path, a size and an fs-verity file digest. It is an in-toto
//! Statement v1 (JSON) and travels in a DSSE v1 envelope, signed with Ed25519, ECDSA P-256 (SHA-256),
//! ECDSA P-384 (SHA-384) or RSA PKCS#1 v1.5 (SHA-256). [`verify_envelope`] is the one way from an
//! untrusted envelope to a [`Proof`]; [`read_envelope`] only tells what an envelope says.
//!
//! The formats of other programs bind a digest and no name: [`Pkcs7`] as fs-verity's built-in signatures,
//! [`ImaSignature`], and [`Modsig`], which finds a PKCS#7 signature behind a file. They are made and checked
//! with any [`HashName`]. [`verify`] takes all signatures on a file together and tells who vouches for it.
//!
//! Everything here is bytes in, bytes out: no files, no clock. The time is passed in.

mod backend;
mod certificate;
mod chain;
mod cms;
mod dsse;
mod encrypted;
mod error;
mod format;
mod gather;
mod hash;
mod ima;
mod json;
mod key;
mod keygen;
mod keyring;
mod limits;
mod listed;
mod modsig;
mod opened;
mod pem;
mod prehash;
mod private;
mod random;
mod revoked;
mod statement;
mod text;
mod token;
mod verify;
mod whole;

#[cfg(test)]
mod fixture;

pub use backend::{Sign, ToSign};
pub use certificate::{Certificate, certificate_to_pem};
pub use chain::{ChainError, ChainPath, INTERMEDIATES_MAX, verify_chain};
pub use cms::{
    PKCS7_APPENDED_MAX, PKCS7_ATTACHED_MAX, PKCS7_MAX, Pkcs7, Pkcs7Signer, make_attached, make_pkcs7,
};
pub use dsse::{ENVELOPE_MAX, SIGNATURES_MAX, add_signature, remove_signature, sign_statement};
pub use error::SignError;
pub use format::{Format, FormatSet, UnknownFormat};
pub(crate) use gather::verify_opened;
pub use gather::{Acceptance, Signatures, verify, verify_attached, verify_modsig};
pub use hash::{HashName, StreamHasher};
pub use ima::{IMA_VALUE_MAX, ImaKind, ImaSignature, sign_ima};
pub use key::{KeyId, PublicKey};
pub use keygen::{GeneratedKey, KeyAlgorithm, generate};
pub use keyring::{Authority, Keyring, TrustedKey};
pub use limits::{Limits, PathGlobs, Requirements};
pub use listed::{Listed, Standing};
pub use modsig::{MODSIG_TAIL, Modsig};
pub(crate) use opened::{Opened, open_together};
pub use pem::KEY_FILE_MAX;
pub use private::SigningKey;
pub use revoked::{Revoked, RevokedItem};
pub use statement::Statement;
pub use token::{digest_info, ecdsa_to_der};
pub use verify::{Claim, Expected, Proof, Rejection, Signer, read_envelope, verify_envelope};
pub use whole::FileHasher;
