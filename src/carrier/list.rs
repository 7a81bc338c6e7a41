//! Carriers in the order in which they are tried.

use std::sync::Arc;

use super::{Appended, Carrier, CarrierError, CarrierKind, Kernel, OpenEvidence, Sidecar, Stamp, Xattr};
use crate::store::{Store, StorePath};
use crate::verity::Descriptor;

/// An ordered list of carriers. A clone is the same list.
#[derive(Clone)]
pub struct Carriers {
    list: Arc<[Arc<dyn Carrier>]>,
}

impl Carriers {
    /// Tries `list` in its order.
    pub fn new(list: Vec<Arc<dyn Carrier>>) -> Self {
        Self { list: list.into() }
    }

    /// The carriers of `store` that `kinds` names, in its order.
    pub fn over(store: &Arc<dyn Store>, kinds: &[CarrierKind]) -> Self {
        let sidecar = Sidecar::new(store.clone());
        Self::new(kinds.iter().map(|kind| make(*kind, &sidecar)).collect())
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Carrier>> {
        self.list.iter()
    }

    /// The first of a kind.
    pub fn get(&self, kind: CarrierKind) -> Option<&Arc<dyn Carrier>> {
        self.list.iter().find(|carrier| carrier.kind() == kind)
    }

    /// The kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = CarrierKind> + '_ {
        self.list.iter().map(|carrier| carrier.kind())
    }

    /// The evidence of `path` in the first carrier that has any which is whole.
    ///
    /// # Errors
    /// [`CarrierError::Malformed`] of the first that is, where no other has evidence;
    /// [`CarrierError::Missing`] where none has; whatever else a carrier says on the way.
    pub async fn open(&self, path: &StorePath) -> Result<OpenEvidence, CarrierError> {
        self.first(path, |_| true).await
    }

    /// [`Carriers::open`] for a file of `size` bytes: evidence of a file of another size is passed over
    /// where there is any that fits. A file that is on its way between carriers has both.
    ///
    /// # Errors
    /// Those of [`Carriers::open`].
    pub async fn open_for(&self, path: &StorePath, size: u64) -> Result<OpenEvidence, CarrierError> {
        self.first(path, |open| fits(open, size)).await
    }

    /// [`Carriers::open_for`] of many names in one directory, each with the size of its file, in the order of `files`.
    /// `None` for what is not in the first carrier or does not fit there, and has to be opened by itself.
    pub async fn open_together(
        &self,
        directory: &StorePath,
        files: &[(&[u8], u64)],
    ) -> Vec<Option<OpenEvidence>> {
        let Some(first) = self.list.first() else { return files.iter().map(|_| None).collect() };
        let names: Vec<&[u8]> = files.iter().map(|(name, _)| *name).collect();
        let opened = first.open_together(directory, &names).await;
        opened.into_iter().zip(files).map(|(open, (_, size))| open.filter(|open| fits(open, *size))).collect()
    }

    /// The first evidence that `fits`, or else the first.
    async fn first(
        &self,
        path: &StorePath,
        fits: impl Fn(&OpenEvidence) -> bool + Send,
    ) -> Result<OpenEvidence, CarrierError> {
        let (mut spare, mut worst) = (None, None);
        for carrier in self.list.iter() {
            match carrier.open(path).await {
                Ok(open) if fits(&open) => return Ok(open),
                Ok(open) => spare = spare.or(Some(open)),
                Err(error @ CarrierError::Malformed { .. }) => match worst {
                    Some(CarrierError::Malformed { .. }) => {}
                    _ => worst = Some(error),
                },
                Err(error) if error.is_missing() => worst = worst.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        spare.ok_or_else(|| worst.unwrap_or_else(|| CarrierError::Missing(path.clone())))
    }

    /// The state of the evidence of `path` in the carrier of this kind.
    ///
    /// # Errors
    /// Those of [`Carrier::stamp`], and [`CarrierError::Missing`] where the list has no such carrier.
    pub async fn stamp_of(&self, kind: CarrierKind, path: &StorePath) -> Result<Stamp, CarrierError> {
        match self.get(kind) {
            Some(carrier) => carrier.stamp(path).await,
            None => Err(CarrierError::Missing(path.clone())),
        }
    }

    /// [`Carriers::stamp_of`] of many names in one directory, in the order of `names`; `None` for what has none.
    pub async fn stamps_of(
        &self,
        kind: CarrierKind,
        directory: &StorePath,
        names: &[&[u8]],
    ) -> Vec<Option<Stamp>> {
        match self.get(kind) {
            Some(carrier) => carrier.stamps(directory, names).await,
            None => vec![None; names.len()],
        }
    }
}

/// Whether evidence may be that of a file of `size` bytes.
fn fits(open: &OpenEvidence, size: u64) -> bool {
    match open.evidence.descriptor.as_deref().map(Descriptor::parse) {
        Some(Ok(descriptor)) => descriptor.size.checked_add(open.trailer) == Some(size),
        Some(Err(_)) => false,
        None => true,
    }
}

fn make(kind: CarrierKind, sidecar: &Sidecar) -> Arc<dyn Carrier> {
    match kind {
        CarrierKind::Sidecar => Arc::new(sidecar.clone()),
        CarrierKind::Kernel => Arc::new(Kernel::new(sidecar.store.clone())),
        CarrierKind::Xattr => Arc::new(Xattr::new(sidecar.clone())),
        CarrierKind::Appended => Arc::new(Appended::new(sidecar.store.clone())),
    }
}
