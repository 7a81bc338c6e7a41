//! Evidence in extended attributes of the file, its tree in a bundle of the sidecar that has no
//! signatures. Setting an attribute replaces it whole, so readers never meet half of one.

use std::sync::Arc;

use super::bundle;
use super::error::missing_or;
use super::sidecar::SidecarWriter;
use super::tree::NoTree;
use super::values::{self, Values};
use super::{
    Carrier, CarrierError, CarrierKind, Evidence, EvidenceWriter, OpenEvidence, Refusal, Sidecar, Stamp,
    TreeSource,
};
use crate::store::{BoxFuture, StoreFile, StorePath};
use crate::verity::Descriptor;

const KIND: CarrierKind = CarrierKind::Xattr;

/// The extended attributes of the files of one store.
#[derive(Clone)]
pub struct Xattr {
    sidecar: Sidecar,
}

impl Xattr {
    /// The attributes of the files beside `sidecar`, which holds their trees.
    pub fn new(sidecar: Sidecar) -> Self {
        Self { sidecar }
    }

    async fn file(&self, path: &StorePath) -> Result<Arc<dyn StoreFile>, CarrierError> {
        self.sidecar.store.open(path).await.map_err(|error| missing_or(error, path.clone()))
    }

    /// The file's attributes from before its values are read: whatever changes later changes the stamp.
    async fn read(&self, path: &StorePath) -> Result<(Values, Stamp), CarrierError> {
        let file = self.file(path).await?;
        let stamp = Stamp::of(KIND, &file.stat().await?);
        let values = Values::read(&*file, path).await?;
        if !values.evidence.is_signed() {
            return Err(CarrierError::Missing(path.clone()));
        }
        let stamp = values.stamp(stamp);
        Ok((values, stamp))
    }

    /// The tree that goes with the descriptor in `evidence`, where there is one.
    async fn tree(
        &self,
        path: &StorePath,
        evidence: &Evidence,
    ) -> Result<Option<Arc<dyn TreeSource>>, CarrierError> {
        let Some(descriptor) = &evidence.descriptor else { return Ok(None) };
        let Some(size) = tree_size(descriptor) else { return Ok(None) };
        if size == 0 {
            return Ok(Some(Arc::new(NoTree(path.clone()))));
        }
        let open = match self.sidecar.open_any(path).await {
            Ok(open) => open,
            // What can be built anew may be damaged.
            Err(CarrierError::Malformed { .. }) => return Ok(None),
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let fits = open.evidence.descriptor.as_ref() == Some(descriptor) && open.tree_len() == Some(size);
        Ok(open.tree.filter(|_| fits))
    }
}

/// Bytes of tree that go with an encoded descriptor.
pub(super) fn tree_size(descriptor: &[u8]) -> Option<u64> {
    Descriptor::parse(descriptor).ok()?.geometry().ok().map(|geometry| geometry.tree_size())
}

impl Carrier for Xattr {
    fn kind(&self) -> CarrierKind {
        KIND
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<OpenEvidence, CarrierError>> {
        Box::pin(async move {
            let (values, stamp) = self.read(path).await?;
            let tree = self.tree(path, &values.evidence).await?;
            let (head_bytes, place) = (values.bytes, path.clone());
            Ok(OpenEvidence {
                evidence: values.evidence,
                carrier: KIND,
                tree,
                trailer: 0,
                stamp,
                head_bytes,
                place,
            })
        })
    }

    fn stamp<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Stamp, CarrierError>> {
        Box::pin(async move { Ok(self.read(path).await?.1) })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        _: u64,
    ) -> BoxFuture<'a, Result<Box<dyn EvidenceWriter>, CarrierError>> {
        Box::pin(async move {
            let file = self.file(path).await?;
            // The bundle beside the file holds a descriptor alone.
            let tree = self.sidecar.begin(path, bundle::TREE_OFFSET).await?;
            let writer: Box<dyn EvidenceWriter> =
                Box::new(XattrWriter { sidecar: self.sidecar.clone(), path: path.clone(), file, tree });
            Ok(writer)
        })
    }

    fn update<'a>(
        &'a self,
        path: &'a StorePath,
        open: &'a OpenEvidence,
        evidence: &'a Evidence,
    ) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move {
            if open.evidence.descriptor.is_some() && open.evidence.descriptor != evidence.descriptor {
                return Err(CarrierError::refused(path, Refusal::NoTree));
            }
            let encoded = values::encode(path, evidence)?;
            values::write(&self.file(path).await?, path, KIND, &encoded, evidence).await
        })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move {
            values::remove(&*self.file(path).await?, path).await?;
            self.sidecar.remove_tree(path).await
        })
    }

    fn retire<'a>(&'a self, path: &'a StorePath, to: CarrierKind) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move {
            match to {
                // What the kernel has no room for stands in the same attributes.
                CarrierKind::Kernel => self.sidecar.remove_tree(path).await,
                _ => self.remove(path).await,
            }
        })
    }
}

struct XattrWriter {
    sidecar: Sidecar,
    path: StorePath,
    file: Arc<dyn StoreFile>,
    tree: SidecarWriter,
}

impl XattrWriter {
    /// The attributes come before the tree: a tree that does not go with them is not used, so that what
    /// is met between the two is the new evidence, whose tree has to be built. Before both stands
    /// everything that is likely to fail.
    async fn commit(self, evidence: &Evidence) -> Result<(), CarrierError> {
        let Self { sidecar, path, file, tree } = self;
        let encoded = values::encode(&path, evidence)?;
        let none = tree.tree_len() == 0;
        let mut tree = tree.finish(&evidence.unsigned()).await?;
        if !none {
            tree.prepare().await?;
        }
        values::write(&file, &path, KIND, &encoded, evidence).await?;
        let beside = sidecar.open_any(&path).await;
        let same = |open: &OpenEvidence| open.evidence.descriptor == evidence.descriptor;
        match beside {
            // Evidence of its own, around the same tree.
            Ok(open) if open.evidence.is_signed() && same(&open) => Ok(()),
            _ if none => sidecar.remove_tree(&path).await,
            _ => Ok(tree.commit().await?),
        }
    }
}

impl EvidenceWriter for XattrWriter {
    fn push(&mut self, offset: u64, block: &[u8]) {
        self.tree.push(offset, block);
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), CarrierError>> {
        Box::pin(self.tree.flush())
    }

    fn commit<'a>(self: Box<Self>, evidence: &'a Evidence) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin((*self).commit(evidence))
    }
}
