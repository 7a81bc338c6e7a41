//! What goes wrong with keys, statements and envelopes.

use super::KeyId;

/// A key, statement or envelope that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// More bytes than are looked at.
    #[error("the {what} has {found} bytes; at most {max} are allowed")]
    TooLong {
        /// What is too long: `key file`, `envelope`.
        what: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Not exactly one PEM block (RFC 7468, strict form).
    #[error("not one PEM block \"{expected}\": {reason}")]
    Pem {
        /// The label of the block that belongs here.
        expected: &'static str,
        /// What the PEM reader says.
        reason: String,
    },
    /// A PEM block of another kind.
    #[error("the PEM block is labelled {found}, not \"{expected}\"{remedy}")]
    PemLabel {
        /// The label that belongs here.
        expected: &'static str,
        /// The label found, quoted.
        found: String,
        /// What to do about it, or nothing.
        remedy: &'static str,
    },
    /// Not a SubjectPublicKeyInfo in DER (RFC 5280 section 4.1).
    #[error("not a public key: {reason}")]
    PublicKey {
        /// What is wrong.
        reason: String,
    },
    /// Not a private key in PKCS#8 (RFC 5958) that can sign.
    #[error("not a private key: {reason}")]
    PrivateKey {
        /// What is wrong; never a part of the key.
        reason: String,
    },
    /// A private key that another passphrase opens, or that is damaged.
    #[error("the passphrase does not open the key; if it is the right one, the file is damaged")]
    Passphrase,
    /// A key of an algorithm that is not supported.
    #[error(
        "keys of algorithm {oid} are not supported; ed25519, p256, p384 and rsa of 2048 to 8192 bits are"
    )]
    Algorithm {
        /// The object identifier of the algorithm or curve.
        oid: String,
    },
    /// An RSA key that is too weak or too long.
    #[error("RSA keys of {bits} bits are refused; 2048 to 8192 bits are allowed")]
    RsaBits {
        /// Length of the modulus in bits.
        bits: usize,
    },
    /// Not the name of a key algorithm.
    #[error("unknown key algorithm {found}; use ed25519, p256, p384, rsa3072 or rsa4096")]
    AlgorithmName {
        /// The name found, quoted.
        found: String,
    },
    /// Not a key id.
    #[error("a key id is 64 lower-case hexadecimal digits")]
    KeyId,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// A new key could not be made.
    #[error("cannot make a key: {reason}")]
    Generate {
        /// What the key generator says.
        reason: String,
    },
    /// A private key did not sign, as when its parts do not belong together.
    #[error("the key {key_id} does not sign; its parts may not belong together")]
    Sign {
        /// The key.
        key_id: KeyId,
    },
    /// Not JSON, or JSON of a shape that is in no statement and no envelope.
    #[error("the {what} is not in the format: {source}")]
    Json {
        /// `envelope` or `statement`.
        what: &'static str,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// A field is missing.
    #[error("the {what} has no field \"{field}\"")]
    MissingField {
        /// The object that lacks it.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field that does not belong there.
    #[error("the {what} has an unknown field {field}")]
    UnknownField {
        /// The object that has it.
        what: &'static str,
        /// The field, quoted.
        field: String,
    },
    /// A field with a value that is not allowed.
    #[error("the field \"{field}\" of the {what} is not {wants}")]
    Field {
        /// The object that has it.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// What the value must be.
        wants: &'static str,
    },
    /// One key is named by two signatures.
    #[error("the key {key_id} is named twice")]
    KeyTwice {
        /// The key.
        key_id: KeyId,
    },
    /// No signature, or more than [`super::SIGNATURES_MAX`].
    #[error("{found} signatures; 1 to {max} are allowed", max = super::SIGNATURES_MAX)]
    SignatureCount {
        /// Number of signatures.
        found: usize,
    },
    /// Not a PKCS#7 signature (RFC 2315, RFC 5652) that can be checked.
    #[error("not a PKCS#7 signature that can be checked: {reason}")]
    Pkcs7 {
        /// What is wrong.
        reason: String,
    },
    /// Not an IMA signature that can be checked.
    #[error("not an IMA signature that can be checked: {reason}")]
    Ima {
        /// What is wrong.
        reason: String,
    },
    /// Not an appended signature that can be checked.
    #[error("not an appended signature that can be checked: {reason}")]
    Modsig {
        /// What is wrong.
        reason: String,
    },
    /// Not an X.509 certificate (RFC 5280) that can be used.
    #[error("not a certificate that can be used: {reason}")]
    Certificate {
        /// What is wrong.
        reason: String,
    },
    /// Not a pattern of paths.
    #[error("the glob {glob} cannot be used: {reason}")]
    Glob {
        /// The pattern, quoted; empty when all of them are meant.
        glob: String,
        /// What is wrong.
        reason: String,
    },
    /// A file over which no signature of its bare hash is made.
    #[error(
        "its content reads as {what}, and an ima-v2 signature over it would count as one of that; it gets none"
    )]
    Confusable {
        /// What the content could be taken for.
        what: &'static str,
    },
    /// A signature that this key cannot make.
    #[error("a key of algorithm {algorithm} cannot make {what}; use an RSA, P-256 or P-384 key")]
    CannotMake {
        /// The key's algorithm.
        algorithm: String,
        /// What was asked for.
        what: &'static str,
    },
    /// A signer outside this process did not sign.
    #[error("the signer {signer} failed: {reason}")]
    External {
        /// The command or token.
        signer: String,
        /// What went wrong.
        reason: String,
    },
    /// A statement that could not be read back as itself: a path, size, version or expiry out of bounds.
    #[error("the statement cannot be signed: {reason}")]
    Unsignable {
        /// What is wrong with it.
        reason: String,
    },
}
