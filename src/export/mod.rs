//! One exported tree: handles, names, attributes and proven data.
//!
//! Front ends speak with [`Export`] alone. This room is the only maker of [`Verified`]: no byte of
//! a regular file leaves it in enforce mode that was not just compared with a hash proven under an
//! accepted signature, or comes from the cache of those that were. What was found out of a file is told
//! beside its data: in extended attributes, in proofs of ranges, and by a change attribute that moves with it. What
//! is proven may still be denied, by the operator's [`Rules`].

mod ahead;
mod cache;
mod checked;
mod damage;
mod error;
mod evidence;
mod examine;
mod fetch;
mod fingerprint;
mod flights;
mod handle;
mod heal;
mod items;
mod line;
mod listing;
mod measuring;
mod names;
mod nodes;
mod permission;
mod proof;
mod proof_directory;
mod range;
mod read;
mod reading;
mod repair;
mod rules;
mod sources;
mod streams;
mod survey;
mod together;
mod trust;
mod verified;
mod whole;
mod xattrs;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use quick_cache::sync::Cache;

use crate::carrier::CarrierKind;
use crate::disk_cache::{DiskCache, DiskCacheError};
use crate::event::{Event, Gauge, Sink, Usage};
use crate::policy::Mode;
use crate::sign::{Keyring, Revoked};
use crate::store::{Failover, Guarded, Patient, Store, StoreError, StorePath};
use crate::sys::descriptors::{self, Holder};

pub use crate::store::{Attr, FsStat, Kind, Time};
pub use error::ExportError;
pub use evidence::{Item, ProofBlock, RangeProof, UnknownXattrs, Xattrs};
pub use examine::{BadBlock, Examination, ExamineError};
pub use handle::{FileHandle, HANDLE_MAX, HandleKey};
pub use listing::{Described, Page};
pub use measuring::Measurer;
pub use names::{DirItem, Listing};
pub use permission::{Access, Caller, Identity, Squash, UnknownSquash};
pub use proof_directory::{BadProofName, ProofDirectory, ProofName};
pub use range::PROOF_MAX;
pub use read::{READ_MAX, ReadReply};
pub use reading::memory_held;
pub use repair::{Mended, Repair};
pub use rules::{Explained, Missed, Rules};
pub use verified::{Payload, Verified};
pub use whole::{WHOLE_MAX, WholeFiles};
pub use xattrs::NAMES_HELD;

/// Files held open at most: each takes two descriptors.
const OPEN_FILES: usize = 256;
/// Of so many descriptors that are left, there is a file held open for one.
const FILE_SHARE: usize = 16;
/// Verdicts kept at most.
const VERDICTS: usize = 104 * 1024;

/// What an [`Export`] is made of.
pub struct ExportOptions {
    /// Where the bytes come from.
    pub store: Arc<dyn Store>,
    /// Other stores with the same tree, in the order in which they are asked for what the first has damaged
    /// or does not answer for. Where there are any, the numbers of objects are made of their paths.
    pub replicas: Vec<Arc<dyn Store>>,
    /// Whether clients wait while none of the stores answers, where there are several; else they are told to come
    /// back later. How one store alone is waited for is its own affair: see [`crate::store::Patient`].
    pub waits: bool,
    /// Whether what is found damaged on one store, and whole on another, is written back there, and how.
    pub repair: Option<Repair>,
    /// The name of the tree that statements must be made for.
    pub namespace: String,
    /// Where evidence is looked for, in this order.
    pub carriers: Vec<CarrierKind>,
    /// Whose signatures count.
    pub keyring: Keyring,
    /// What happens to what does not verify.
    pub mode: Mode,
    /// How claimed identities are taken.
    pub identity: Identity,
    /// Bytes of proven blocks to keep in memory, those read ahead among them.
    pub cache_bytes: u64,
    /// Blocks of earlier reads on a local disk, if wanted; see [`open_disk_cache`].
    pub disk_cache: Option<Arc<DiskCache>>,
    /// How files are hashed that can only be proven as a whole.
    pub whole_files: WholeFiles,
    /// Which extended attributes clients see.
    pub xattrs: Xattrs,
    /// Whether and where the proof directory stands.
    pub proof_directory: ProofDirectory,
    /// The secret behind the file handles.
    pub handle_key: HandleKey,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
}

/// One exported tree, read-only.
pub struct Export {
    /// Names and attributes.
    store: Arc<dyn Store>,
    /// Data and evidence.
    sources: Arc<sources::Sources>,
    /// The stores that are waited for while all of them are down.
    waited_for: Vec<Guarded>,
    mode: Mode,
    identity: Identity,
    sink: Arc<dyn Sink>,
    trust: Arc<trust::Trust>,
    repairer: Arc<repair::Repairer>,
    nodes: nodes::Nodes,
    cache: Arc<cache::BlockCache>,
    flights: Arc<flights::Flights>,
    together: together::Together,
    room: ahead::Room,
    verdicts: Cache<handle::Tag, trust::Verdict>,
    open_files: Cache<handle::Tag, Arc<read::OpenFile>>,
    mirror: proof_directory::Mirror,
    damages: damage::Damages,
    listings: listing::Listings,
    ruling: rules::Ruling,
    measurer: ArcSwapOption<Measurer>,
    xattrs: Xattrs,
    started: Instant,
}

impl Export {
    /// Exports the store. Fails when the store's root cannot be looked at.
    pub async fn new(mut options: ExportOptions) -> Result<Self, StoreError> {
        let mut first = options.store.clone();
        let (mut replicas, mut waited_for) = (Vec::new(), Vec::new());
        if !options.replicas.is_empty() {
            let guard = |store: &Arc<dyn Store>| Guarded::new(store.clone(), options.sink.clone());
            let main = guard(&options.store);
            replicas.extend(options.replicas.iter().map(guard));
            let all: Vec<_> = std::iter::once(main.clone()).chain(replicas.iter().cloned()).collect();
            first = Arc::new(main);
            options.store = Arc::new(Failover::new(all.clone()));
            if options.waits {
                options.store = Arc::new(Patient::hard(options.store));
                waited_for = all;
            }
        }
        let root = options.store.stat(&StorePath::root()).await?;
        if let Some(name) = options.proof_directory.name()
            && let Ok(path) = StorePath::root().join(name.as_bytes())
            && options.store.stat(&path).await.is_ok()
        {
            options.sink.emit(&Event::Shadowed { name });
        }
        let (damaged, waiting) = line::line();
        let damaged = options.repair.is_some().then_some(damaged);
        let sources =
            sources::Sources::new(&first, &replicas, &options.carriers, options.sink.clone(), damaged);
        let sources = Arc::new(sources);
        let room = ahead::Room::of(options.cache_bytes);
        let cache_bytes = options.cache_bytes - room.bytes();
        let cache = cache::BlockCache::new(cache_bytes, options.disk_cache, options.sink.clone());
        let wholes = whole::Wholes::new(options.whole_files, options.sink.clone());
        let trust = trust::Trust::new(options.namespace, sources.clone(), wholes, options.keyring);
        let trust = Arc::new(trust);
        let settings = options.repair.unwrap_or_default();
        let repairer = repair::Repairer::new(trust.clone(), settings, options.sink.clone());
        if options.repair.is_some() && sources.are_many() {
            tokio::spawn(repair::Repairer::work(Arc::downgrade(&repairer), waiting));
        }
        Ok(Self {
            store: options.store,
            sources,
            waited_for,
            mode: options.mode,
            identity: options.identity,
            trust,
            repairer,
            nodes: nodes::Nodes::new(options.handle_key, root.fileid),
            cache: Arc::new(cache),
            flights: Arc::default(),
            together: together::Together::default(),
            room,
            sink: options.sink,
            verdicts: Cache::new(VERDICTS),
            open_files: Cache::new(OPEN_FILES.min(descriptors::left() / FILE_SHARE).max(1)),
            mirror: proof_directory::Mirror::new(options.proof_directory),
            damages: damage::Damages::new(),
            listings: listing::Listings::new(),
            ruling: rules::Ruling::default(),
            measurer: ArcSwapOption::empty(),
            xattrs: options.xattrs,
            started: Instant::now(),
        })
    }

    /// Trusts `keyring` from now on, also for files that are open or cached.
    pub fn set_keyring(&self, keyring: Keyring) {
        self.trust.replace(keyring);
    }

    /// Revokes what `revoked` names, and nothing else, from now on, also for files that are open or cached.
    pub fn set_revoked(&self, revoked: &Revoked) {
        self.trust.revoke(revoked);
    }

    /// The keys that are trusted now, and what is revoked.
    pub fn keyring(&self) -> Keyring {
        self.trust.keyring()
    }

    /// Whether to ask again for what the `answer` is that nobody can say now: where clients wait, and no store
    /// answered. Returns when one does.
    async fn is_waited_for<T>(&self, answer: &Result<T, ExportError>) -> bool {
        let down = !self.waited_for.is_empty() && self.waited_for.iter().all(Guarded::is_down);
        let waits = down && matches!(answer, Err(ExportError::Busy));
        if waits {
            let _ = self.store.stat(&StorePath::root()).await;
        }
        waits
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Holder for Export {
    fn give_up(&self) {
        self.open_files.clear();
        self.trust.relieve();
    }
}

/// Opens the disk cache in `directory` with at most `size` bytes. That the disk failed is told to `sink`; readers
/// hear nothing of it.
///
/// # Errors
/// The directory cannot be used or is in use, or the size is too small.
pub async fn open_disk_cache(
    directory: &Path,
    size: u64,
    sink: Arc<dyn Sink>,
) -> Result<Arc<DiskCache>, DiskCacheError> {
    let name = directory.display().to_string();
    let alarm = Box::new(move |error: &str| sink.emit(&Event::DiskCacheOff { directory: &name, error }));
    DiskCache::open(directory, size, alarm).await.map(Arc::new)
}

impl Gauge for Export {
    fn usage(&self) -> Usage {
        let (cache_bytes, cache_capacity, cache_entries) = self.cache.usage();
        let (held_bytes, held_entries) = self.flights.held();
        Usage {
            cache_bytes: cache_bytes + held_bytes,
            cache_capacity: cache_capacity + self.room.bytes(),
            cache_entries: cache_entries + held_entries,
            open_files: self.open_files.len() as u64,
            handles: self.nodes.len(),
            disk: self.cache.disk_usage(),
        }
    }
}

/// What a client hears when the object of a handle cannot be found any more.
fn gone(error: StoreError) -> ExportError {
    match ExportError::from(error) {
        ExportError::NotFound | ExportError::NotADirectory => ExportError::Stale,
        other => other,
    }
}
