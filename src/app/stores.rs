//! The stores that are served, opened and put together.

use std::sync::Arc;
use std::time::Duration;

use super::AppError;
use crate::config::{Settings, Wait};
use crate::disk_cache::DiskCache;
use crate::event::{Event, Sink};
use crate::export::{self, Repair};
use crate::store::{OpenOptions, Patient, Store, StoreErrorKind, StorePath};

/// Between two looks at stores of which none answers: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What the export is made over.
#[derive(Clone)]
pub(super) struct Stores {
    pub(super) first: Arc<dyn Store>,
    pub(super) replicas: Vec<Arc<dyn Store>>,
    pub(super) repair: Option<Repair>,
}

impl Stores {
    /// Opens the store and its replicas. Where clients are made to wait, so is the start until one answers.
    pub(super) async fn open(settings: &Settings, sink: &Arc<dyn Sink>) -> Result<Self, AppError> {
        let options = OpenOptions { timeout: settings.timeout, sink: sink.clone() };
        let first = settings.store.open(&options).await?;
        let mut replicas = Vec::new();
        for address in &settings.replicas {
            replicas.push(address.open(&options).await?);
        }
        let first = match settings.store.local() {
            // The kernel waits for its disks in its own way, and replicas are asked before anybody waits.
            Some(_) => first,
            None if !replicas.is_empty() => first,
            None => {
                let soft: Arc<dyn Store> = Arc::new(Patient::soft(first, settings.timeout, sink.clone()));
                match settings.wait {
                    Wait::Soft => soft,
                    Wait::Hard => Arc::new(Patient::hard(soft)),
                }
            }
        };
        let stores = Self {
            first,
            replicas,
            repair: settings.repair.then_some(Repair { settle: settings.repair_after, restore: false }),
        };
        if settings.wait == Wait::Hard {
            stores.wait(&**sink).await;
        }
        Ok(stores)
    }

    /// Returns once a store answers, be it with an error.
    async fn wait(&self, sink: &dyn Sink) {
        let (mut pause, longest) = PAUSES;
        let (root, name) = (StorePath::root(), self.first.describe());
        let mut told = false;
        loop {
            for store in std::iter::once(&self.first).chain(&self.replicas) {
                match store.stat(&root).await {
                    Err(error) if error.kind == StoreErrorKind::Unavailable => {
                        if !std::mem::replace(&mut told, true) {
                            sink.emit(&Event::StoreDown { store: &name, error: &error.source.to_string() });
                        }
                    }
                    Ok(_) | Err(_) => {
                        if told {
                            sink.emit(&Event::StoreUp { store: &name });
                        }
                        return;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

/// Opens the cache on disk, where one is wanted.
pub(super) async fn open_disk_cache(
    settings: &Settings,
    sink: Arc<dyn Sink>,
) -> Result<Option<Arc<DiskCache>>, AppError> {
    let Some(cache) = &settings.disk_cache else { return Ok(None) };
    Ok(Some(export::open_disk_cache(&cache.directory, cache.size, sink).await?))
}
