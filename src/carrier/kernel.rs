//! Files that the kernel has sealed with fs-verity: descriptor, tree and one signature from there,
//! through `FS_IOC_READ_VERITY_METADATA`; what else there is of evidence from extended attributes.
//!
//! What the kernel gives is read from the same untrusted disk, and the ioctl checks none of it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::bundle::{BundleError, PKCS7_MAX, REPEATED_MAX};
use super::error::missing_or;
use super::tree::cut;
use super::values::{self, Values};
use super::xattr::tree_size;
use super::{
    Carrier, CarrierError, CarrierKind, Evidence, EvidenceWriter, OpenEvidence, Refusal, Stamp, TreeSource,
};
use crate::store::{BoxFuture, MetadataKind, Seal, Store, StoreError, StoreErrorKind, StoreFile, StorePath};
use crate::verity::Descriptor;

const KIND: CarrierKind = CarrierKind::Kernel;

/// The files of one store that the kernel has sealed.
#[derive(Clone)]
pub struct Kernel {
    store: Arc<dyn Store>,
}

/// What the kernel has of a file.
struct Sealed {
    descriptor: Bytes,
    signature: Option<Bytes>,
}

impl Kernel {
    /// The files of `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    async fn file(&self, path: &StorePath) -> Result<Arc<dyn StoreFile>, CarrierError> {
        self.store.open(path).await.map_err(|error| missing_or(error, path.clone()))
    }
}

/// `None` for a file that is not sealed.
async fn sealed(file: &dyn StoreFile, path: &StorePath) -> Result<Option<Sealed>, CarrierError> {
    let malformed = |name| CarrierError::Malformed { path: path.clone(), source: BundleError::Bounds(name) };
    // One byte more than there may be shows what is too long.
    let descriptor = file.verity_metadata(MetadataKind::Descriptor, 0, Descriptor::SIZE + 1).await?;
    let Some(descriptor) = descriptor else { return Ok(None) };
    if descriptor.len() != Descriptor::SIZE {
        return Err(malformed("the kernel's descriptor"));
    }
    let signature = file.verity_metadata(MetadataKind::Signature, 0, PKCS7_MAX + 1).await?;
    if signature.as_ref().is_some_and(|signature| signature.len() > PKCS7_MAX) {
        return Err(malformed("the kernel's signature"));
    }
    Ok(Some(Sealed { descriptor, signature: signature.filter(|signature| !signature.is_empty()) }))
}

/// All that is said of a sealed file, and its state.
async fn read(file: &dyn StoreFile, path: &StorePath) -> Result<(Evidence, u64, Stamp), CarrierError> {
    let missing = || CarrierError::Missing(path.clone());
    let stamp = Stamp::of(KIND, &file.stat().await?);
    let Sealed { descriptor, signature } = sealed(file, path).await?.ok_or_else(missing)?;
    let values = Values::read(file, path).await?;
    let stamp = values.stamp(stamp);
    let bytes = values.bytes + (Descriptor::SIZE + signature.as_ref().map_or(0, Bytes::len)) as u64;
    let mut evidence = values.evidence;
    // A seal is for good: attributes that tell of another descriptor are left from before.
    evidence.descriptor = Some(descriptor);
    if let Some(signature) = signature {
        evidence.pkcs7.retain(|other| *other != signature);
        evidence.pkcs7.insert(0, signature);
        evidence.pkcs7.truncate(REPEATED_MAX);
    }
    if !evidence.is_signed() {
        return Err(missing());
    }
    Ok((evidence, bytes, stamp))
}

/// Sets the attributes to what the kernel does not hold itself.
async fn write_rest(
    file: &Arc<dyn StoreFile>,
    path: &StorePath,
    evidence: &Evidence,
    held: Option<&Bytes>,
) -> Result<(), CarrierError> {
    let mut rest = evidence.clone();
    rest.pkcs7.retain(|signature| Some(signature) != held);
    if rest.is_signed() || rest.observed.is_some() || !rest.certificates.is_empty() {
        let encoded = values::encode(path, &rest)?;
        values::write(file, path, KIND, &encoded, &rest).await
    } else {
        values::remove(&**file, path).await
    }
}

impl Carrier for Kernel {
    fn kind(&self) -> CarrierKind {
        KIND
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<OpenEvidence, CarrierError>> {
        Box::pin(async move {
            let file = self.file(path).await?;
            let (evidence, head_bytes, stamp) = read(&*file, path).await?;
            let size = evidence.descriptor.as_deref().and_then(tree_size);
            let tree = size.map(|size| -> Arc<dyn TreeSource> {
                Arc::new(KernelTree { file, place: path.clone(), size })
            });
            Ok(OpenEvidence {
                evidence,
                carrier: KIND,
                tree,
                trailer: 0,
                stamp,
                head_bytes,
                place: path.clone(),
            })
        })
    }

    fn stamp<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Stamp, CarrierError>> {
        Box::pin(async move { Ok(read(&*self.file(path).await?, path).await?.2) })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        _: u64,
    ) -> BoxFuture<'a, Result<Box<dyn EvidenceWriter>, CarrierError>> {
        Box::pin(async move {
            let writer: Box<dyn EvidenceWriter> =
                Box::new(KernelWriter { path: path.clone(), file: self.file(path).await? });
            Ok(writer)
        })
    }

    fn update<'a>(
        &'a self,
        path: &'a StorePath,
        _: &'a OpenEvidence,
        evidence: &'a Evidence,
    ) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move {
            let file = self.file(path).await?;
            let missing = || CarrierError::Missing(path.clone());
            let sealed = sealed(&*file, path).await?.ok_or_else(missing)?;
            agrees(&*file, path, evidence).await?;
            write_rest(&file, path, evidence, sealed.signature.as_ref()).await
        })
    }

    /// The file stays sealed, with the signature that it was sealed with.
    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move { values::remove(&*self.file(path).await?, path).await })
    }

    fn retire<'a>(&'a self, path: &'a StorePath, to: CarrierKind) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move {
            match to {
                // The same attributes.
                CarrierKind::Xattr => Ok(()),
                _ => self.remove(path).await,
            }
        })
    }
}

/// What the kernel measures is what the descriptor in `evidence` stands for.
async fn agrees(file: &dyn StoreFile, path: &StorePath, evidence: &Evidence) -> Result<(), CarrierError> {
    let descriptor = parse(path, evidence)?;
    let expected = descriptor.file_digest();
    let found = file.measure_verity().await?;
    let Some((id, digest)) = found else {
        return Err(CarrierError::refused(path, Refusal::Unsupported(KIND)));
    };
    if u32::from(id) == u32::from(expected.algorithm.id()) && digest == expected.digest.as_bytes() {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), hex::encode(&digest));
    Err(CarrierError::refused(path, Refusal::OtherSeal { expected, found }))
}

fn parse(path: &StorePath, evidence: &Evidence) -> Result<Descriptor, CarrierError> {
    let bytes = evidence.descriptor.as_deref().unwrap_or_default();
    Descriptor::parse(bytes).map_err(|_| CarrierError::refused(path, Refusal::Descriptor))
}

struct KernelWriter {
    path: StorePath,
    file: Arc<dyn StoreFile>,
}

impl KernelWriter {
    async fn commit(self, evidence: &Evidence) -> Result<(), CarrierError> {
        let Self { path, file } = &self;
        let descriptor = parse(path, evidence)?;
        // What cannot be undone comes last of all that may fail.
        values::encode(path, evidence)?;
        if file.stat().await?.size != descriptor.size {
            return Err(CarrierError::refused(path, Refusal::Changed));
        }
        let mut found = sealed(&**file, path).await?;
        if found.is_none() {
            let seal = Seal {
                hash_id: descriptor.params.algorithm.id().into(),
                block_size: descriptor.params.block_size.get(),
                salt: descriptor.params.salt.as_bytes().to_vec(),
                signature: evidence.pkcs7.first().map(|signature| signature.to_vec()).unwrap_or_default(),
            };
            file.enable_verity(&seal).await.map_err(|error| not_sealed(path, error))?;
            found = sealed(&**file, path).await?;
        }
        agrees(&**file, path, evidence).await?;
        let held = found.and_then(|sealed| sealed.signature);
        write_rest(file, path, evidence, held.as_ref()).await
    }
}

/// The kernel's words for what it does not like about a seal.
fn not_sealed(path: &StorePath, error: StoreError) -> CarrierError {
    use rustix::io::Errno;
    let reason = match Errno::from_io_error(&error.source) {
        _ if error.kind == StoreErrorKind::Unsupported => Refusal::Unsupported(KIND),
        Some(Errno::TXTBSY) => Refusal::Seal("it is open for writing; close it and try again"),
        Some(Errno::NOKEY) => Refusal::Seal(
            "the certificate of its built-in signature is not in the kernel's .fs-verity keyring; add it there",
        ),
        Some(Errno::KEYREJECTED | Errno::BADMSG) => {
            Refusal::Seal("it refuses the built-in signature; sign the file again")
        }
        Some(Errno::INVAL) => Refusal::Seal(
            "the file system does not take this hash, block size or salt; sign with the defaults",
        ),
        _ => return CarrierError::Store(error),
    };
    CarrierError::refused(path, reason)
}

impl EvidenceWriter for KernelWriter {
    /// The kernel builds the tree itself.
    fn push(&mut self, _: u64, _: &[u8]) {}

    fn flush(&mut self) -> BoxFuture<'_, Result<(), CarrierError>> {
        Box::pin(async { Ok(()) })
    }

    fn commit<'a>(self: Box<Self>, evidence: &'a Evidence) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin((*self).commit(evidence))
    }
}

/// The tree that the file system keeps.
struct KernelTree {
    file: Arc<dyn StoreFile>,
    place: StorePath,
    size: u64,
}

impl TreeSource for KernelTree {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, CarrierError>> {
        Box::pin(async move {
            if offset.checked_add(len as u64).is_none_or(|end| end > self.size) {
                return Err(cut(&self.place, self.size, offset, len));
            }
            let mut gathered = BytesMut::new();
            while gathered.len() < len {
                let (at, left) = (offset + gathered.len() as u64, len - gathered.len());
                let read = self.file.verity_metadata(MetadataKind::MerkleTree, at, left).await?;
                match read {
                    // The common case: all at once, and nothing to copy.
                    Some(bytes) if bytes.len() == len => return Ok(bytes),
                    Some(bytes) if !bytes.is_empty() && bytes.len() <= left => {
                        gathered.extend_from_slice(&bytes);
                    }
                    _ => return Err(cut(&self.place, at, offset, len)),
                }
            }
            Ok(gathered.freeze())
        })
    }
}
