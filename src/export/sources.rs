//! The stores that hold the files of an export, in the order in which they are asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::fingerprint::Fingerprint;
use super::line::Line;
use super::trust::Finding;
use crate::carrier::{CarrierKind, Carriers, Sidecar};
use crate::event::{Event, Healed, Sink};
use crate::store::{Guarded, Renumbered, Result, Store, StoreFile, StorePath};

/// How long one damage is not told again, and how many are remembered.
const TOLD_FOR: Duration = Duration::from_secs(10);
const TOLD_MAX: usize = 4096;

/// One store with the evidence that lies there.
pub(super) struct Source {
    pub(super) store: Arc<dyn Store>,
    pub(super) carriers: Carriers,
    /// For people.
    pub(super) name: String,
}

impl Source {
    /// Lets go of what is remembered of `path` and of its evidence.
    pub(super) fn forget(&self, path: &StorePath) {
        self.store.forget(path);
        if let Ok(place) = Sidecar::place(path) {
            self.store.forget(&place);
        }
    }
}

/// What is wrong on one store.
pub(super) struct Wrong {
    /// Which store.
    pub(super) source: usize,
    pub(super) finding: Finding,
    /// The block's index within its level, if one block is at fault.
    pub(super) block: Option<u64>,
    pub(super) level: Option<u8>,
}

/// All stores; the first is the one that names and attributes come from while it answers.
pub(super) struct Sources {
    first: Source,
    replicas: Vec<Source>,
    sink: Arc<dyn Sink>,
    told: Cache<u64, Instant>,
    /// Where damaged files are to be told, if they are repaired.
    damaged: Option<Line>,
}

impl Sources {
    /// The `first` store, and the `replicas` beside it.
    pub(super) fn new(
        first: &Arc<dyn Store>,
        replicas: &[Guarded],
        carriers: &[CarrierKind],
        sink: Arc<dyn Sink>,
        damaged: Option<Line>,
    ) -> Self {
        let source = |store: Arc<dyn Store>| Source {
            carriers: Carriers::over(&store, carriers),
            name: store.describe(),
            store,
        };
        let replicas = replicas.iter().map(|replica| source(Arc::new(replica.clone()))).collect();
        Self { first: source(first.clone()), replicas, sink, told: Cache::new(TOLD_MAX), damaged }
    }

    /// Whether there is any other than the first.
    pub(super) fn are_many(&self) -> bool {
        !self.replicas.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        1 + self.replicas.len()
    }

    /// The store number `index`; the first for numbers that none has.
    pub(super) fn get(&self, index: usize) -> &Source {
        index.checked_sub(1).and_then(|nth| self.replicas.get(nth)).unwrap_or(&self.first)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Source)> + Send {
        std::iter::once(&self.first).chain(&self.replicas).enumerate()
    }

    /// Opens `path` on store number `index`. Gives the file's number there, too; the file itself tells that
    /// which it has in all of them.
    pub(super) async fn open(&self, index: usize, path: &StorePath) -> Result<(Arc<dyn StoreFile>, u64)> {
        let file = self.get(index).store.open(path).await?;
        let there = super::read::stat(&*file).await?.fileid;
        let file: Arc<dyn StoreFile> =
            if self.are_many() { Arc::new(Renumbered::new(file, path.clone())) } else { file };
        Ok((file, there))
    }

    /// [`Sources::open`] on store number `index`, or else on the first other one that has the file. Gives the
    /// store's number, too.
    pub(super) async fn open_from(
        &self,
        index: usize,
        path: &StorePath,
    ) -> Result<(Arc<dyn StoreFile>, usize, u64)> {
        let error = match self.open(index, path).await {
            Ok((file, there)) => return Ok((file, index, there)),
            Err(error) => error,
        };
        for other in (0..self.len()).filter(|other| *other != index) {
            if let Ok((file, there)) = self.open(other, path).await {
                return Ok((file, other, there));
            }
        }
        Err(error)
    }

    /// Tells that store number `right` had whole what was `wrong` on others.
    pub(super) fn healed(&self, path: &StorePath, wrong: &[Wrong], right: usize) {
        let from = &self.get(right).name;
        for Wrong { source, finding: Finding { cause, detail }, block, level } in wrong {
            let number = |number: Option<u64>| number.map_or([0; 8], |number| (number + 1).to_le_bytes());
            let key = Fingerprint::new("healed")
                .field(path.as_bytes())
                .field(&source.to_le_bytes())
                .field(cause.as_str().as_bytes())
                .field(&number(*block))
                .field(&number(level.map(u64::from)))
                .finish();
            if self.told.get(&key).is_some_and(|at| at.elapsed() < TOLD_FOR) {
                continue;
            }
            self.told.insert(key, Instant::now());
            let (path, store) = (path.as_bytes(), &self.get(*source).name);
            let (cause, block, level) = (*cause, *block, *level);
            self.sink.emit(&Event::Healed(Healed { path, store, from, cause, detail, block, level }));
        }
        if let (Some(damaged), false) = (&self.damaged, wrong.is_empty()) {
            damaged.tell(path);
        }
    }
}
