//! Private keys under a passphrase: PKCS#8 EncryptedPrivateKeyInfo (RFC 5958 section 3) with PBES2
//! (RFC 8018), PBKDF2 or scrypt (RFC 7914), and AES, as `openssl pkcs8 -topk8 -v2` writes them.
//!
//! Knows nothing of where a passphrase comes from.

use der::Decode;
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::{self, EncryptionScheme, pbes2};

use super::{SignError, SigningKey, pem};

/// The most rounds of PBKDF2: seconds of work, ten times what is advised today.
const ROUNDS_MAX: u32 = 10_000_000;
/// The most memory that scrypt may ask for in bytes, 128 N r: 16 MiB is what OpenSSL writes.
const SCRYPT_MEMORY_MAX: u64 = 1 << 30;
/// The most times that scrypt may go over its memory.
const SCRYPT_PASSES_MAX: u16 = 16;

impl SigningKey {
    /// Whether a key file needs a passphrase: its first line says `ENCRYPTED PRIVATE KEY`.
    pub fn is_encrypted(text: &[u8]) -> bool {
        pem_rfc7468::decode_label(text).is_ok_and(|label| label == pem::ENCRYPTED)
    }

    /// Reads one PEM block `ENCRYPTED PRIVATE KEY` of at most [`super::KEY_FILE_MAX`] bytes.
    ///
    /// # Errors
    /// [`SignError::Passphrase`] when the passphrase is another, [`SignError::PrivateKey`] when the
    /// encryption is not known here or would take more than 1 GiB of memory or 10,000,000 rounds.
    pub fn from_encrypted_pkcs8_pem(text: &[u8], passphrase: &[u8]) -> Result<Self, SignError> {
        let der = pem::decode(text, pem::ENCRYPTED)?;
        let info = EncryptedPrivateKeyInfoRef::from_der(&der).map_err(refuse)?;
        affordable(&info.encryption_algorithm)?;
        let opened = match info.decrypt(passphrase) {
            Ok(opened) => opened,
            // Under another key the padding is wrong, or by chance right and the content garbage.
            Err(pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::DecryptFailed) | pkcs8::Error::Asn1(_)) => {
                return Err(SignError::Passphrase);
            }
            Err(other) => return Err(refuse(other)),
        };
        Self::from_pkcs8_der(opened.as_bytes())
    }
}

/// Refuses parameters by which a file could claim hours of work or all memory.
fn affordable(scheme: &EncryptionScheme) -> Result<(), SignError> {
    let Some(parameters) = scheme.pbes2() else {
        return Err(refuse(
            "its encryption is older than PBES2; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc",
        ));
    };
    match &parameters.kdf {
        pbes2::Kdf::Pbkdf2(kdf) if kdf.iteration_count > ROUNDS_MAX => Err(refuse(format!(
            "it wants {} rounds of PBKDF2; at most {ROUNDS_MAX} are done",
            kdf.iteration_count
        ))),
        pbes2::Kdf::Scrypt(kdf) => {
            let memory = u128::from(kdf.cost_parameter) * u128::from(kdf.block_size) * 128;
            if memory > u128::from(SCRYPT_MEMORY_MAX) || kdf.parallelization > SCRYPT_PASSES_MAX {
                return Err(refuse(format!(
                    "its scrypt wants {memory} bytes of memory {} times; at most {SCRYPT_MEMORY_MAX} bytes and \
                     {SCRYPT_PASSES_MAX} times are given",
                    kdf.parallelization
                )));
            }
            // The conversion to the exponent takes no zero.
            if kdf.cost_parameter == 0 {
                return Err(refuse("its scrypt has no cost"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn refuse(reason: impl ToString) -> SignError {
    SignError::PrivateKey { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;
    use der::Encode;
    use der::asn1::OctetStringRef;
    use pkcs8::pkcs5::scrypt;

    const IV: [u8; 16] = [7; 16];

    fn encrypted(parameters: pbes2::Parameters, name: &str, passphrase: &str) -> String {
        let cipher = parameters.encrypt(passphrase, &fixture::private_der(name)).unwrap();
        framed(parameters, &cipher)
    }

    fn framed(parameters: pbes2::Parameters, cipher: &[u8]) -> String {
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: parameters.into(),
            encrypted_data: OctetStringRef::new(cipher).unwrap(),
        };
        pem::encode(&info.to_der().unwrap(), pem::ENCRYPTED).unwrap()
    }

    fn pbkdf2() -> pbes2::Parameters {
        pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(10, b"saltsalt", IV).unwrap()
    }

    fn opened(text: &str, passphrase: &str) -> Result<SigningKey, SignError> {
        SigningKey::from_encrypted_pkcs8_pem(text.as_bytes(), passphrase.as_bytes())
    }

    #[test]
    fn every_algorithm_opens_with_its_passphrase() {
        let scrypt = scrypt::Params::new(4, 8, 1).unwrap();
        let scrypt = pbes2::Parameters::generate_scrypt_aes256cbc(scrypt, b"saltsalt", IV).unwrap();
        for name in ["ed25519", "p256", "p384", "rsa3072"] {
            for parameters in [pbkdf2(), scrypt.clone()] {
                let text = encrypted(parameters, name, "correct horse");
                assert!(SigningKey::is_encrypted(text.as_bytes()));
                let key = opened(&text, "correct horse").unwrap();
                assert_eq!(key.key_id(), fixture::key(name).key_id(), "{name}");
            }
        }
        let plain = pem::encode(&fixture::private_der("p256"), pem::PRIVATE).unwrap();
        assert!(!SigningKey::is_encrypted(plain.as_bytes()) && !SigningKey::is_encrypted(b"garbage"));
    }

    #[test]
    fn another_passphrase_is_told_as_such_every_time() {
        let text = encrypted(pbkdf2(), "ed25519", "right");
        // About one in 256 has a padding that looks right.
        for n in 0..1000 {
            let result = opened(&text, &format!("wrong {n}"));
            assert!(matches!(result, Err(SignError::Passphrase)), "{n}: {result:?}");
        }
        assert!(matches!(opened(&text, ""), Err(SignError::Passphrase)));
    }

    #[test]
    fn files_that_claim_work_or_memory_without_end_are_refused_at_once() {
        let mut rounds = pbkdf2();
        let mut memory = pbes2::Parameters::generate_scrypt_aes256cbc(
            scrypt::Params::new(4, 8, 1).unwrap(),
            b"saltsalt",
            IV,
        )
        .unwrap();
        let (mut passes, mut none) = (memory.clone(), memory.clone());
        let pbes2::Kdf::Pbkdf2(kdf) = &mut rounds.kdf else { panic!("no PBKDF2") };
        kdf.iteration_count = u32::MAX;
        let change = |parameters: &mut pbes2::Parameters, change: &dyn Fn(&mut pbes2::ScryptParams)| {
            let pbes2::Kdf::Scrypt(kdf) = &mut parameters.kdf else { panic!("no scrypt") };
            change(kdf);
        };
        change(&mut memory, &|kdf| kdf.cost_parameter = 1 << 40);
        change(&mut passes, &|kdf| kdf.parallelization = u16::MAX);
        change(&mut none, &|kdf| kdf.cost_parameter = 0);
        for parameters in [rounds, memory, passes, none] {
            let result = opened(&framed(parameters, &[0; 64]), "x");
            assert!(matches!(result, Err(SignError::PrivateKey { .. })), "{result:?}");
        }
    }

    #[test]
    fn cut_or_damaged_files_open_nothing() {
        let text = encrypted(pbkdf2(), "p256", "right");
        let der = pem::decode(text.as_bytes(), pem::ENCRYPTED).unwrap();
        for cut in 0..der.len() {
            let cut = pem::encode(&der[..cut], pem::ENCRYPTED).unwrap();
            assert!(opened(&cut, "right").is_err());
        }
        let right = fixture::key("p256").key_id();
        for at in 0..der.len() {
            let mut flipped = der.clone();
            flipped[at] ^= 1;
            let flipped = pem::encode(&flipped, pem::ENCRYPTED).unwrap();
            if let Ok(key) = opened(&flipped, "right") {
                assert_eq!(key.key_id(), right, "byte {at} makes another key");
            }
        }
    }
}
