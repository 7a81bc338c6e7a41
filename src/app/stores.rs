//! The stores that are served, opened and put together.

use std::sync::Arc;
use std::time::Duration;

use super::AppError;
use crate::config::{Settings, Wait};
use crate::disk_cache::DiskCache;
use crate::event::Sink;
use crate::export;
use crate::store::{OpenOptions, Patient, Store, StoreAddress, StoreErrorKind};

/// Between two tries to open a store that does not answer: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Opens the store and its replicas.
pub(super) async fn open(settings: &Settings, sink: Arc<dyn Sink>) -> Result<Arc<dyn Store>, AppError> {
    let options = OpenOptions { timeout: settings.timeout, sink: sink.clone() };
    let store = open_one(&settings.store, &options, settings.wait).await?;
    if let StoreAddress::Local(_) = settings.store {
        // The kernel waits for its disks in its own way.
        return Ok(store);
    }
    let soft: Arc<dyn Store> = Arc::new(Patient::soft(store, settings.timeout, sink));
    Ok(match settings.wait {
        Wait::Soft => soft,
        Wait::Hard => Arc::new(Patient::hard(soft)),
    })
}

/// Opens the cache on disk, where one is wanted.
pub(super) async fn open_disk_cache(
    settings: &Settings,
    sink: Arc<dyn Sink>,
) -> Result<Option<Arc<DiskCache>>, AppError> {
    let Some(cache) = &settings.disk_cache else { return Ok(None) };
    Ok(Some(export::open_disk_cache(&cache.directory, cache.size, sink).await?))
}

/// A store that does not answer yet is waited for where clients would be made to wait, too.
async fn open_one(
    address: &StoreAddress,
    options: &OpenOptions,
    wait: Wait,
) -> Result<Arc<dyn Store>, AppError> {
    let (mut pause, longest) = PAUSES;
    loop {
        match address.open(options).await {
            Err(error) if wait == Wait::Hard && error.kind == StoreErrorKind::Unavailable => {
                tracing::warn!("{error}; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
            opened => return Ok(opened?),
        }
    }
}
