//! The signatures of one key in every format: making them, and telling which ones evidence has.
//!
//! Files are not read here; their digests are given.

use std::sync::Arc;

use bytes::Bytes;

use crate::carrier::Evidence;
use crate::sign::{
    Certificate, Format, FormatSet, HashName, ImaKind, ImaSignature, Pkcs7, PublicKey, Sign, SignError,
    make_pkcs7, sign_ima,
};
use crate::verity::Descriptor;

use super::Trouble;

/// A key with its certificate, and the formats it signs in.
pub(super) struct Mint {
    signer: Arc<dyn Sign>,
    certificate: Option<Certificate>,
    chain: Vec<Certificate>,
    formats: FormatSet,
}

impl Mint {
    /// Signs in `formats`. `certificate` is the key's, `chain` leads from it to an authority.
    ///
    /// # Errors
    /// Usage: a format that the key cannot make, a missing certificate, or another key's.
    pub(super) fn new(
        signer: Arc<dyn Sign>,
        certificate: Option<Certificate>,
        chain: Vec<Certificate>,
        formats: FormatSet,
    ) -> Result<Self, Trouble> {
        if formats.contains(Format::Modsig) {
            return Err(Trouble::usage(
                "module signatures are made by the kernel's sign-file; here they are only checked",
            ));
        }
        let key = signer.public_key();
        let foreign = formats.iter().find(|format| *format != Format::Native);
        if let Some(format) = foreign.filter(|_| key.algorithm_name() == "ed25519") {
            return Err(Trouble::usage(format!(
                "an Ed25519 key makes no {format} signatures, for the kernel takes none; use an RSA, P-256 or P-384 \
                 key, or --format native alone"
            )));
        }
        match &certificate {
            Some(certificate) if certificate.key() != key => {
                return Err(Trouble::usage(format!(
                    "--cert is about the key {}, but {} signs",
                    certificate.key().key_id(),
                    key.key_id()
                )));
            }
            None if formats.contains(Format::FsVerity) => {
                return Err(Trouble::usage(
                    "--format fsverity names the signer by issuer and serial number; give its certificate with --cert",
                ));
            }
            _ => {}
        }
        Ok(Self { signer, certificate, chain, formats })
    }

    /// The formats that are made.
    pub(super) const fn formats(&self) -> FormatSet {
        self.formats
    }

    /// Who signs.
    pub(super) fn signer(&self) -> &dyn Sign {
        &*self.signer
    }

    /// The public half of the key.
    pub(super) fn key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    /// Whether the hash of the whole file is needed, under the algorithm of the tree.
    pub(super) const fn wants_file_hash(&self) -> bool {
        self.formats.contains(Format::ImaV2)
    }

    /// The key id in IMA signatures.
    fn ima_key_id(&self) -> [u8; 4] {
        self.certificate.as_ref().map_or_else(|| self.key().ima_key_id(), Certificate::ima_key_id)
    }

    /// Whether `evidence` has this key's signature in `format`, verified, other than native ones. That
    /// of a whole file cannot be verified without reading it: its key id and hash have to do.
    pub(super) fn has(&self, format: Format, evidence: &Evidence, descriptor: &Descriptor) -> bool {
        let hash = HashName::from(descriptor.params.algorithm);
        match format {
            Format::Native | Format::Modsig => false,
            Format::FsVerity => {
                evidence.pkcs7.iter().filter_map(|der| Pkcs7::parse(der).ok()).any(|message| {
                    message.signers().iter().any(|signer| {
                        let digest = signer.hash().digest(&descriptor.formatted_digest());
                        signer.hash() == hash
                            && self.certificate.as_ref().is_some_and(|certificate| signer.names(certificate))
                            && signer.verify(&digest, self.key())
                    })
                })
            }
            Format::ImaV3 => self.ima(evidence, hash).any(|signature| {
                signature.kind == ImaKind::Verity
                    && signature.verify(descriptor.file_digest().digest.as_bytes(), self.key())
            }),
            Format::ImaV2 => self.ima(evidence, hash).any(|signature| signature.kind == ImaKind::File),
        }
    }

    /// The IMA signatures that name this key and `hash`.
    fn ima(&self, evidence: &Evidence, hash: HashName) -> impl Iterator<Item = ImaSignature> {
        let id = self.ima_key_id();
        let all = evidence.ima.iter().filter_map(|value| ImaSignature::parse(value).ok());
        all.filter(move |signature| signature.hash == hash && signature.key_id == id)
    }

    /// Whether `evidence` holds the certificates that are given with the key.
    pub(super) fn has_certificates(&self, evidence: &Evidence) -> bool {
        self.certificates()
            .all(|certificate| evidence.certificates.iter().any(|der| der == certificate.der()))
    }

    fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.certificate.iter().chain(&self.chain)
    }

    /// Adds to `evidence` what it lacks of this key's signatures, other than native ones, and of its
    /// certificates. `file_hash` is the digest of the whole file under the algorithm of the tree.
    pub(super) fn complete(
        &self,
        evidence: &mut Evidence,
        descriptor: &Descriptor,
        file_hash: Option<&[u8]>,
    ) -> Result<(), SignError> {
        let hash = HashName::from(descriptor.params.algorithm);
        for format in self.formats.iter().filter(|format| *format != Format::Native) {
            if self.has(format, evidence, descriptor) {
                continue;
            }
            self.clear(format, evidence, hash);
            let ima = |kind, digest: &[u8]| sign_ima(kind, hash, digest, self.signer(), self.ima_key_id());
            match (format, &self.certificate, file_hash) {
                (Format::FsVerity, Some(certificate), _) => {
                    let der = make_pkcs7(&descriptor.formatted_digest(), hash, self.signer(), certificate)?;
                    evidence.pkcs7.push(der.into());
                }
                (Format::ImaV3, _, _) => {
                    evidence
                        .ima
                        .push(ima(ImaKind::Verity, descriptor.file_digest().digest.as_bytes())?.into());
                }
                (Format::ImaV2, _, Some(digest)) => evidence.ima.push(ima(ImaKind::File, digest)?.into()),
                // Mint::new wants the certificate, and callers see to the hash.
                (Format::FsVerity, None, _)
                | (Format::ImaV2, _, None)
                | (Format::Native | Format::Modsig, _, _) => {
                    let algorithm = self.key().algorithm_name();
                    return Err(SignError::CannotMake { algorithm, what: format.as_str() });
                }
            }
        }
        for certificate in self.certificates() {
            if !evidence.certificates.iter().any(|der| der == certificate.der()) {
                evidence.certificates.push(Bytes::copy_from_slice(certificate.der()));
            }
        }
        Ok(())
    }

    /// Takes out what stands in this key's name in `format` and does not hold.
    fn clear(&self, format: Format, evidence: &mut Evidence, hash: HashName) {
        let id = self.ima_key_id();
        match (format, &self.certificate) {
            (Format::FsVerity, Some(certificate)) => evidence.pkcs7.retain(|der| {
                !Pkcs7::parse(der)
                    .is_ok_and(|message| message.signers().iter().all(|signer| signer.names(certificate)))
            }),
            (Format::ImaV3 | Format::ImaV2, _) => evidence.ima.retain(|value| {
                !ImaSignature::parse(value).is_ok_and(|signature| {
                    signature.format() == format && signature.hash == hash && signature.key_id == id
                })
            }),
            (Format::FsVerity, None) | (Format::Native | Format::Modsig, _) => {}
        }
    }

    /// Evidence of zeros that is at least as long as what will be made, around a statement of `statement`
    /// bytes: what room to leave before a tree.
    pub(super) fn largest(&self, statement: usize) -> Evidence {
        // No signature is longer than the key that checks it by more than this.
        let signature = self.key().spki_der().len() + 64;
        let base64 = |len: usize| len.div_ceil(3) * 4;
        let zeros = |len: usize| Bytes::from(vec![0; len]);
        let mut evidence = Evidence { descriptor: Some(zeros(Descriptor::SIZE)), ..Evidence::default() };
        for format in self.formats.iter() {
            match format {
                Format::Native => {
                    evidence.statement = Some(zeros(base64(statement) + base64(signature) + 256))
                }
                Format::FsVerity => {
                    let name =
                        self.certificate.as_ref().map_or(0, |c| c.issuer_der().len() + c.serial_der().len());
                    evidence.pkcs7.push(zeros(name + signature + 256));
                }
                Format::ImaV3 | Format::ImaV2 => evidence.ima.push(zeros(signature + 16)),
                Format::Modsig => {}
            }
        }
        evidence.certificates = self.certificates().map(|c| Bytes::copy_from_slice(c.der())).collect();
        evidence
    }
}
