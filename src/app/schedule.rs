//! Scrubs of the served store, at their times.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::stores::Stores;
use crate::carrier::CarrierKind;
use crate::config::Settings;
use crate::event::{Event, ScrubTotals, Silent, Sink};
use crate::export::{Export, ExportOptions, HandleKey, Identity, ProofDirectory, WholeFiles, Xattrs};
use crate::monitor::Monitor;
use crate::policy::Mode;
use crate::scrub::{Clients, Copies, Mend, Options, Pace, Paced, Scrub, ScrubError, Summary};
use crate::store::Store;

/// Memory for proven tree blocks; what clients have in theirs is neither used nor driven out.
const CACHE: u64 = 8 * 1024 * 1024;
/// After a scrub that could not be run the next attempt waits for so long.
const RETRY: Duration = Duration::from_secs(300);
/// How old the trusted keys may be by which a file is judged.
const TRUST: Duration = Duration::from_secs(1);

/// When and how the store is scrubbed.
pub(super) struct Schedule {
    interval: Duration,
    rate: Option<NonZeroU64>,
    store: Arc<dyn Store>,
    replicas: Vec<Arc<dyn Store>>,
    /// Whether good copies are written back.
    repair: bool,
    name: String,
    namespace: String,
    carriers: Vec<CarrierKind>,
    /// What clients read from: whose keys count there, count here.
    served: Arc<Export>,
    monitor: Arc<Monitor>,
    state: PathBuf,
}

impl Schedule {
    /// As the settings have it; `None` for never.
    pub(super) fn new(
        settings: &Settings,
        stores: Stores,
        served: Arc<Export>,
        monitor: Arc<Monitor>,
        state: PathBuf,
    ) -> Option<Self> {
        let interval = settings.scrub.0?;
        let rate = settings.scrub_rate.map(|rate| u64::from(rate).saturating_mul(1_000_000));
        Some(Self {
            interval,
            rate: rate.and_then(NonZeroU64::new),
            name: stores.first.describe(),
            repair: stores.repair.is_some(),
            replicas: stores.replicas,
            store: stores.first,
            namespace: settings.namespace.clone(),
            carriers: settings.carrier.clone(),
            served,
            monitor,
            state,
        })
    }

    /// Scrubs whenever it is time, until `ending` tells of the end; what runs then stops and notes its place.
    pub(super) async fn run(self, mut ending: watch::Receiver<bool>) {
        loop {
            let due = Scrub::due(&self.state, &self.name, &self.namespace, self.interval);
            tokio::select! {
                _ = ending.changed() => return,
                () = tokio::time::sleep(due) => {}
            }
            let mut stopping = ending.clone();
            let stop = async move { _ = stopping.changed().await };
            let again = match self.once(stop).await {
                Ok(Summary { complete: true, .. }) => Duration::ZERO,
                Ok(Summary { complete: false, .. }) => return,
                Err(_) => RETRY,
            };
            tokio::select! {
                _ = ending.changed() => return,
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    async fn once(&self, stop: impl Future<Output = ()> + Send) -> Result<Summary, ScrubError> {
        let (scrub, export) = match self.scrub().await {
            Ok(scrub) => scrub,
            Err(error) => {
                let (result, totals) = (error.to_string(), ScrubTotals::default());
                let (complete, duration) = (false, Duration::ZERO);
                self.monitor.emit(&Event::ScrubEnded {
                    result: &result,
                    complete,
                    totals: &totals,
                    duration,
                });
                return Err(error);
            }
        };
        let mut taken = Instant::now();
        let tell = &mut |event: &Event<'_>| {
            self.monitor.emit(event);
            // What is trusted and revoked meanwhile counts for the files that are left.
            if matches!(event, Event::Scrubbed { .. }) && taken.elapsed() >= TRUST {
                export.set_keyring(self.served.keyring());
                taken = Instant::now();
            }
        };
        scrub.run(stop, tell).await
    }

    async fn scrub(&self) -> Result<(Scrub, Arc<Export>), ScrubError> {
        let monitor = self.monitor.clone();
        let clients: Clients = Arc::new(move || monitor.reads());
        let pace = Pace { rate: self.rate, clients: Some(clients) };
        let paced = Paced::new(self.store.clone(), pace);
        let beside = |store: &Arc<dyn Store>| Arc::new(paced.beside(store.clone())) as Arc<dyn Store>;
        let replicas: Vec<_> = self.replicas.iter().map(beside).collect();
        let store: Arc<dyn Store> = Arc::new(paced);
        let export = Export::new(ExportOptions {
            store: store.clone(),
            replicas: replicas.clone(),
            waits: false,
            repair: None,
            namespace: self.namespace.clone(),
            carriers: self.carriers.clone(),
            keyring: self.served.keyring(),
            mode: Mode::Enforce,
            identity: Identity::default(),
            cache_bytes: CACHE,
            disk_cache: None,
            // Nobody is told to come back later.
            whole_files: WholeFiles {
                scratch: self.state.clone(),
                patience: Duration::from_secs(u64::from(u32::MAX)),
            },
            xattrs: Xattrs::default(),
            proof_directory: ProofDirectory::default(),
            handle_key: HandleKey::new(&[0; 32]),
            sink: Arc::new(Silent),
        });
        let export = Arc::new(export.await?);
        let scrub = Scrub::new(Options {
            export: export.clone(),
            store,
            replicas,
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            jobs: 1,
            state: self.state.clone(),
            mend: (self.repair && !self.replicas.is_empty())
                .then(|| Arc::new(Copies { export: self.served.clone() }) as Arc<dyn Mend>),
            clean: self.repair,
        })?;
        Ok((scrub, export))
    }
}
