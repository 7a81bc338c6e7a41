//! What the tests of carriers share: stores, a model of a kernel with fs-verity, and evidence.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;

use super::*;
use crate::store::{
    DirPage, FsStat, Memory, MetadataKind, Result, Seal, Store, StoreError, StoreErrorKind, StoreFile,
    StoreWriter,
};
use crate::verity::{BlockSize, Descriptor, HashAlgorithm, Params, Salt, reference};

pub(super) fn path(text: &str) -> StorePath {
    StorePath::parse(text.as_bytes()).unwrap()
}

/// Bytes of which no two blocks are alike.
pub(super) fn content(len: usize) -> Vec<u8> {
    (0_u64..).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).take(len).collect()
}

pub(super) fn params() -> Params {
    Params {
        algorithm: HashAlgorithm::Sha256,
        block_size: BlockSize::new(4096).unwrap(),
        salt: Salt::new(b"salt").unwrap(),
    }
}

/// Evidence of every kind for `data`, and its tree. `mark` tells one from another.
pub(super) fn evidence(data: &[u8], mark: u8) -> (Evidence, Vec<u8>) {
    let params = params();
    let (root_hash, tree) = reference::root_and_tree(data, &params);
    let descriptor = Descriptor { params, size: data.len() as u64, root_hash };
    let evidence = Evidence {
        descriptor: Some(Bytes::copy_from_slice(&descriptor.encode())),
        statement: Some(Bytes::from(vec![mark; 300])),
        pkcs7: vec![Bytes::from(vec![mark, 0x30]), Bytes::from(vec![mark; 90])],
        ima: vec![Bytes::from(vec![6, 3, mark]), Bytes::from(vec![3, 2, mark])],
        certificates: vec![Bytes::from(vec![mark; 200])],
        observed: Some(Observed { fileid: 1, mtime: (2, 3), ctime: (4, mark.into()) }),
    };
    (evidence, tree)
}

pub(super) async fn put(
    carrier: &dyn Carrier,
    at: &StorePath,
    evidence: &Evidence,
    tree: &[u8],
) -> std::result::Result<(), CarrierError> {
    let mut writer = carrier.create(at, bundle::tree_offset(evidence, 0)).await?;
    for (block, offset) in tree.chunks(4096).zip((0..).step_by(4096)) {
        writer.push(offset, block);
        writer.flush().await?;
    }
    writer.commit(evidence).await
}

/// All of the tree, or `None` where it has to be built.
pub(super) async fn tree_of(open: &OpenEvidence) -> Option<Vec<u8>> {
    let len = open.tree_len()?;
    Some(open.read_tree(0, usize::try_from(len).unwrap()).await.unwrap().to_vec())
}

/// Whether both say the same; a kernel has its signature first.
pub(super) fn same(one: &Evidence, other: &Evidence) -> bool {
    let sorted = |evidence: &Evidence| {
        let mut evidence = evidence.clone();
        evidence.pkcs7.sort();
        evidence.ima.sort();
        evidence
    };
    sorted(one) == sorted(other)
}

/// A store in memory whose files can be sealed as `FS_IOC_ENABLE_VERITY` does it.
#[derive(Clone)]
pub(super) struct Sealing {
    pub(super) memory: Memory,
    pub(super) sealed: Arc<Mutex<HashMap<u64, Sealed>>>,
}

/// What the file system keeps of a sealed file.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) descriptor: Vec<u8>,
    pub(super) tree: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Sealing {
    pub(super) fn new() -> Self {
        Self { memory: Memory::new(), sealed: Arc::default() }
    }

    /// Changes what is kept of the only sealed file.
    pub(super) fn spoil(&self, change: impl FnOnce(&mut Sealed)) {
        change(self.sealed.lock().values_mut().next().unwrap());
    }
}

struct SealingFile {
    inner: Arc<dyn StoreFile>,
    sealed: Arc<Mutex<HashMap<u64, Sealed>>>,
}

impl SealingFile {
    async fn get(&self) -> Result<Option<Sealed>> {
        let fileid = self.inner.stat().await?.fileid;
        Ok(self.sealed.lock().get(&fileid).cloned())
    }
}

impl StoreFile for SealingFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        self.inner.stat()
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        self.inner.read_at(offset, len)
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.inner.get_xattr(name, max)
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        self.inner.list_xattrs()
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.inner.set_xattr(name, value)
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.inner.remove_xattr(name)
    }

    fn verity_metadata(
        &self,
        kind: MetadataKind,
        offset: u64,
        len: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move {
            let Some(sealed) = self.get().await? else { return Ok(None) };
            let bytes = match kind {
                MetadataKind::MerkleTree => sealed.tree,
                MetadataKind::Descriptor => sealed.descriptor,
                MetadataKind::Signature if sealed.signature.is_empty() => return Ok(None),
                MetadataKind::Signature => sealed.signature,
            };
            let start = usize::try_from(offset).unwrap().min(bytes.len());
            // The kernel stops at pages of the tree as it likes.
            let end = (start + len.min(5000)).min(bytes.len());
            Ok(Some(Bytes::copy_from_slice(&bytes[start..end])))
        })
    }

    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        Box::pin(async move {
            let Some(sealed) = self.get().await? else { return Ok(None) };
            let digest = Descriptor::parse(&sealed.descriptor).unwrap().file_digest();
            Ok(Some((digest.algorithm.id().into(), Bytes::copy_from_slice(digest.digest.as_bytes()))))
        })
    }

    fn enable_verity<'a>(&'a self, seal: &'a Seal) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let attr = self.inner.stat().await?;
            if seal.signature.starts_with(b"bad") {
                let source = Errno::KEYREJECTED.into();
                return Err(StoreError::new(StoreErrorKind::Io, "seal", &StorePath::root(), source));
            }
            let data = self.inner.read_at(0, usize::try_from(attr.size).unwrap()).await?;
            let params = Params {
                algorithm: HashAlgorithm::from_id(u8::try_from(seal.hash_id).unwrap()).unwrap(),
                block_size: BlockSize::new(seal.block_size).unwrap(),
                salt: Salt::new(&seal.salt).unwrap(),
            };
            let (root_hash, tree) = reference::root_and_tree(&data, &params);
            let descriptor = Descriptor { params, size: attr.size, root_hash }.encode().to_vec();
            let sealed = Sealed { descriptor, tree, signature: seal.signature.clone() };
            assert!(self.sealed.lock().insert(attr.fileid, sealed).is_none(), "sealed twice");
            Ok(())
        })
    }
}

impl Store for Sealing {
    fn describe(&self) -> String {
        "sealing".into()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        self.memory.stat(path)
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let inner = self.memory.open(path).await?;
            let file: Arc<dyn StoreFile> = Arc::new(SealingFile { inner, sealed: self.sealed.clone() });
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        self.memory.read_dir(path, cookie, max)
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        self.memory.read_link(path)
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        self.memory.stat_fs()
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        self.memory.create(path, scratch)
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Store::remove(&self.memory, path)
    }
}
