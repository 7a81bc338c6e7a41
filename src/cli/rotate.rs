//! Adding a key's signatures to evidence that is there, and dropping another's: no file is hashed for it.
//!
//! A signature is never added to what is not proven under the keys that are trusted: whoever can write
//! to the store would otherwise have anything signed.

use std::sync::Arc;

use bytes::Bytes;

use super::hashing::{Discard, hash, same_state, settled};
use super::mint::Mint;
use super::seal::{SealError, Sealed};
use crate::carrier::{CarrierError, Carriers, Evidence, OpenEvidence};
use crate::sign::{
    Certificate, Expected, FileHasher, Format, HashName, ImaSignature, Keyring, Pkcs7, SignError, TrustedKey,
    add_signature, remove_signature, verify, verify_envelope,
};
use crate::store::{Store, StorePath};
use crate::verity::{Descriptor, TreeBuilder};

/// How to add signatures.
pub(super) struct Rotator {
    pub(super) store: Arc<dyn Store>,
    /// Where evidence is looked for. It stays where it is.
    pub(super) carriers: Carriers,
    pub(super) mint: Mint,
    /// The signing key alone.
    pub(super) own: Keyring,
    /// Who must have signed before.
    pub(super) trusted: Keyring,
    /// Whose signatures are dropped.
    pub(super) replaced: Option<TrustedKey>,
    pub(super) namespace: String,
}

impl Rotator {
    /// Adds to the evidence of `path` what it lacks, unless it has everything. `now` is in seconds since
    /// 1970; `progress` takes the bytes that are read of the file itself, where they have to be.
    pub(super) async fn rotate(
        &self,
        path: &StorePath,
        now: i64,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<Sealed, SealError> {
        let unproven = |detail: String| SealError::Unproven { path: path.clone(), detail };
        let open = match self.carriers.open(path).await {
            Ok(open) => open,
            Err(error) if error.is_missing() => return Err(SealError::Unsigned(path.clone())),
            Err(error @ CarrierError::Malformed { .. }) => return Err(unproven(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let Some(descriptor) = &open.evidence.descriptor else {
            return Err(SealError::Unsigned(path.clone()));
        };
        let descriptor = Descriptor::parse(descriptor).map_err(|error| unproven(error.to_string()))?;
        let expected = Expected {
            namespace: &self.namespace,
            path: path.as_bytes(),
            descriptor: &descriptor,
            file_hashes: &[],
            now,
        };
        if self.is_done(&open.evidence, &expected) {
            return Ok(Sealed::Unchanged);
        }

        let native = self.prove(&open.evidence, &expected).map_err(unproven)?;
        let mut evidence = open.evidence.clone();
        let failed = |source| SealError::Sign { path: path.clone(), source };
        if self.mint.formats().contains(Format::Native) {
            let envelope = match (&evidence.statement, native) {
                (Some(envelope), Ok(())) => envelope,
                // Its payload is anybody's word, whatever else is proven.
                (Some(_), Err(detail)) => return Err(unproven(detail)),
                // Nothing that is proven binds the name: the file could be another one's.
                (None, _) => {
                    return Err(unproven("it has no native statement to add a signature to".to_owned()));
                }
            };
            evidence.statement = Some(self.added(envelope, &expected).map_err(failed)?);
        }
        let file_hash =
            if self.mint.wants_file_hash() && !self.mint.has(Format::ImaV2, &evidence, &descriptor) {
                Some(self.file_hash(path, &open, &descriptor, progress).await?)
            } else {
                None
            };
        self.mint.complete(&mut evidence, &descriptor, file_hash.as_deref()).map_err(failed)?;
        if let Some(replaced) = &self.replaced {
            self.drop(&mut evidence, replaced, &descriptor, path)?;
        }

        // Whoever signed it meanwhile knows better.
        let carrier = self.carriers.get(open.carrier).ok_or_else(|| SealError::Changed(path.clone()))?;
        if carrier.stamp(path).await? != open.stamp {
            return Err(SealError::Changed(path.clone()));
        }
        carrier.update(path, &open, &evidence).await?;
        Ok(Sealed::Signed)
    }

    /// Whether this key has signed in all formats and nothing is left to be dropped.
    fn is_done(&self, evidence: &Evidence, expected: &Expected<'_>) -> bool {
        let signed = |format| match format {
            Format::Native => self.has_signed(evidence.statement.as_ref(), expected),
            _ => self.mint.has(format, evidence, expected.descriptor),
        };
        let clean = self
            .replaced
            .as_ref()
            .is_none_or(|replaced| !Dropped::find(evidence, replaced, expected.descriptor).any());
        clean && self.mint.formats().iter().all(signed) && self.mint.has_certificates(evidence)
    }

    fn has_signed(&self, envelope: Option<&Bytes>, expected: &Expected<'_>) -> bool {
        envelope.is_some_and(|envelope| verify_envelope(envelope, &self.own, expected).is_ok())
    }

    /// Proves the evidence in one format at least. Whether the native one is among them, or why not.
    fn prove(&self, evidence: &Evidence, expected: &Expected<'_>) -> Result<Result<(), String>, String> {
        let accepted = verify(&evidence.signatures(), &self.trusted, expected);
        let accepted = accepted.map_err(|rejection| rejection.to_string())?;
        Ok(match accepted.statement {
            Some(_) => Ok(()),
            None => Err("no trusted key made its native statement".to_owned()),
        })
    }

    /// The envelope with this key's signature.
    fn added(&self, envelope: &Bytes, expected: &Expected<'_>) -> Result<Bytes, SignError> {
        if self.has_signed(Some(envelope), expected) {
            return Ok(envelope.clone());
        }
        // One that does not hold may stand in its place.
        let others = remove_signature(envelope, &self.mint.key().key_id())?;
        let envelope = others.as_deref().unwrap_or(envelope);
        Ok(add_signature(envelope, self.mint.signer())?.into())
    }

    /// The hash of the whole file, of which every byte was proven in the same pass.
    async fn file_hash(
        &self,
        path: &StorePath,
        open: &OpenEvidence,
        descriptor: &Descriptor,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<Vec<u8>, SealError> {
        let file = self.store.open(path).await?;
        let before = settled(&*file).await?.ok_or_else(|| SealError::Changed(path.clone()))?;
        if before.size.checked_sub(open.trailer) != Some(descriptor.size) {
            return Err(SealError::Content(path.clone()));
        }
        let verity = |source| SealError::Verity { path: path.clone(), source };
        let builder = TreeBuilder::new(descriptor.params, descriptor.size).map_err(verity)?;
        let mut whole = FileHasher::new(HashName::from(descriptor.params.algorithm));
        let root = hash(path, &file, builder, Some(&mut whole), &mut Discard, progress).await?;
        if !same_state(&before, &file.stat().await?) {
            return Err(SealError::Changed(path.clone()));
        }
        if root != descriptor.root_hash {
            return Err(SealError::Content(path.clone()));
        }
        whole.finish().map_err(|source| SealError::Sign { path: path.clone(), source })
    }

    /// Takes the signatures of `replaced` off.
    fn drop(
        &self,
        evidence: &mut Evidence,
        replaced: &TrustedKey,
        descriptor: &Descriptor,
        path: &StorePath,
    ) -> Result<(), SealError> {
        let dropped = Dropped::find(evidence, replaced, descriptor);
        if dropped.native
            && let Some(envelope) = &evidence.statement
        {
            let rest = remove_signature(envelope, &replaced.key.key_id());
            let rest = rest.map_err(|source| SealError::Sign { path: path.clone(), source })?;
            evidence.statement = Some(rest.ok_or_else(|| SealError::LastNative(path.clone()))?.into());
        }
        evidence.pkcs7.retain(|der| !dropped.pkcs7.contains(der));
        evidence.ima.retain(|value| !dropped.ima.contains(value));
        evidence.certificates.retain(|der| !dropped.certificates.contains(der));
        Ok(())
    }
}

/// What a key has in evidence.
struct Dropped {
    native: bool,
    pkcs7: Vec<Bytes>,
    ima: Vec<Bytes>,
    certificates: Vec<Bytes>,
}

impl Dropped {
    fn any(&self) -> bool {
        self.native || !(self.pkcs7.is_empty() && self.ima.is_empty() && self.certificates.is_empty())
    }

    /// What is `key`'s. A message with several signers is the key's when one of them is, for it counts
    /// only as a whole; an IMA signature when it names the key.
    fn find(evidence: &Evidence, key: &TrustedKey, descriptor: &Descriptor) -> Self {
        let public = &key.key;
        let claim =
            evidence.statement.as_ref().and_then(|envelope| crate::sign::read_envelope(envelope).ok());
        let native = claim.is_some_and(|claim| claim.key_ids.contains(&public.key_id()));
        let embedded: Vec<(&Bytes, Certificate)> = evidence
            .certificates
            .iter()
            .filter_map(|der| Some((der, Certificate::from_der(der).ok()?)))
            .filter(|(_, certificate)| certificate.key() == public)
            .collect();
        let known = embedded.iter().map(|(_, certificate)| certificate).chain(&key.certificate);
        let ids: Vec<[u8; 4]> = known.map(Certificate::ima_key_id).chain([public.ima_key_id()]).collect();
        let theirs = |der: &&Bytes| {
            Pkcs7::parse(der).is_ok_and(|message| {
                message.signers().iter().any(|signer| {
                    signer.verify(&signer.hash().digest(&descriptor.formatted_digest()), public)
                })
            })
        };
        let named =
            |value: &&Bytes| ImaSignature::parse(value).is_ok_and(|value| ids.contains(&value.key_id));
        Self {
            native,
            pkcs7: evidence.pkcs7.iter().filter(theirs).cloned().collect(),
            ima: evidence.ima.iter().filter(named).cloned().collect(),
            certificates: embedded.into_iter().map(|(der, _)| der.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
