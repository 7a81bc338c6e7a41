//! What can sign: a key in memory, or one that never leaves a token or another program.

use super::{HashName, PublicKey, SignError, SigningKey};

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub enum ToSign<'a> {
    /// The bytes themselves.
    Message(&'a [u8]),
    /// The digest of bytes that are too many to be handed over.
    Digest(&'a [u8]),
}

/// Something that signs with one key.
pub trait Sign: Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs with `hash`: ECDSA in DER or RSA PKCS#1 v1.5. Ed25519 signs messages alone and has its
    /// own hash.
    ///
    /// # Errors
    /// When the key cannot sign such a thing, or does not.
    fn sign(&self, hash: HashName, input: ToSign<'_>) -> Result<Vec<u8>, SignError>;
}

impl Sign for SigningKey {
    fn public_key(&self) -> &PublicKey {
        self.public_key()
    }

    fn sign(&self, hash: HashName, input: ToSign<'_>) -> Result<Vec<u8>, SignError> {
        self.sign_with(hash, input)
    }
}
