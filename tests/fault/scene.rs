//! An export over a store of the test's own, asked directly, and what it reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nfs_verity::carrier::CarrierKind;
use nfs_verity::event::{Cause, Client, Event, Healed, Sink};
use nfs_verity::export::{
    Access, Attr, Caller, Export, ExportError, ExportOptions, FileHandle, HandleKey, Identity,
    ProofDirectory, READ_MAX, WholeFiles, Xattrs,
};
use nfs_verity::policy::Mode;
use nfs_verity::sign::Keyring;
use nfs_verity::store::{Memory, Store};
use nfs_verity::verity::{BlockSize, HashAlgorithm, Params, Salt};
use parking_lot::Mutex;

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room for all the blocks of a test's files.
pub const CACHE: u64 = 16 << 20;

pub type Answer<T> = Result<T, ExportError>;

/// Data that READ gave, whether it reaches the end of the file, the size that came with it, and whether all of it is proven.
#[derive(Clone, PartialEq, Eq)]
pub struct Data {
    pub bytes: Vec<u8>,
    pub eof: bool,
    pub size: u64,
    pub proven: bool,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of {}, eof {}", self.bytes.len(), self.size, self.eof)
    }
}

impl Data {
    /// Whether this is what a READ of `count` bytes at `offset` in `content` may give: as much as was
    /// asked for, or less, but never nothing without end, a wrong byte, size or end of file.
    pub fn is_of(&self, content: &[u8], offset: u64, count: u32) -> bool {
        let rest = &content[content.len().min(usize::try_from(offset).unwrap_or(usize::MAX))..];
        let end = offset.saturating_add(self.bytes.len() as u64);
        rest.starts_with(&self.bytes)
            && self.bytes.len() <= count.min(READ_MAX) as usize
            && self.size == content.len() as u64
            && self.eof == (end >= self.size)
            && (!self.bytes.is_empty() || self.eof || count == 0)
    }

    /// Whether it is that, and all that was asked for.
    pub fn is_all_of(&self, content: &[u8], offset: u64, count: u32) -> bool {
        let asked = (content.len() as u64).saturating_sub(offset).min(count.min(READ_MAX).into());
        self.is_of(content, offset, count) && self.bytes.len() as u64 == asked
    }
}

/// A refusal that was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub path: Vec<u8>,
    pub cause: Cause,
    pub block: Option<u64>,
    pub level: Option<u8>,
    pub hashes: bool,
    pub client: Option<Client>,
    pub served: bool,
}

/// What was reported of stores that are wrong, or away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfStore {
    Healed { path: String, store: String, from: String, cause: Cause, block: Option<u64>, level: Option<u8> },
    Repaired { path: String, store: String, what: &'static str, bytes: u64 },
    NotRepaired { path: String, store: String, reason: String },
    Down(String),
    Up(String),
}

/// Keeps what is reported.
#[derive(Default)]
pub struct Events {
    refused: Mutex<Vec<Refused>>,
    of_stores: Mutex<Vec<OfStore>>,
}

impl Events {
    /// The refusals since the last time.
    pub fn refused(&self) -> Vec<Refused> {
        std::mem::take(&mut *self.refused.lock())
    }

    /// What was reported of stores since the last time.
    pub fn of_stores(&self) -> Vec<OfStore> {
        std::mem::take(&mut *self.of_stores.lock())
    }
}

impl Sink for Events {
    fn emit(&self, event: &Event<'_>) {
        match event {
            Event::Refused(refusal) => self.refused.lock().push(Refused {
                path: refusal.path.to_vec(),
                cause: refusal.cause,
                block: refusal.block,
                level: refusal.level,
                hashes: refusal.expected.is_some() && refusal.found.is_some(),
                client: refusal.client,
                served: refusal.served,
            }),
            Event::Healed(Healed { path, store, from, cause, block, level, .. }) => {
                let (store, from) = ((*store).to_owned(), (*from).to_owned());
                let (path, cause, block, level) = (text(path), *cause, *block, *level);
                self.of_stores.lock().push(OfStore::Healed { path, store, from, cause, block, level });
            }
            Event::Repaired { path, store, what, bytes } => {
                let (path, store) = (text(path), (*store).to_owned());
                self.of_stores.lock().push(OfStore::Repaired { path, store, what, bytes: *bytes });
            }
            Event::NotRepaired { path, store, reason } => {
                let (path, store, reason) = (text(path), (*store).to_owned(), (*reason).to_owned());
                self.of_stores.lock().push(OfStore::NotRepaired { path, store, reason });
            }
            Event::StoreDown { store, .. } => self.of_stores.lock().push(OfStore::Down((*store).to_owned())),
            Event::StoreUp { store } => self.of_stores.lock().push(OfStore::Up((*store).to_owned())),
            _ => {}
        }
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// An export, asked by one caller.
pub struct Gate {
    pub export: Arc<Export>,
    pub events: Arc<Events>,
    mode: Mode,
}

impl Gate {
    pub async fn new(store: Arc<dyn Store>, keyring: &Keyring) -> Self {
        Self::try_new(store, keyring, Mode::Enforce, CACHE).await.unwrap()
    }

    pub async fn warning(store: Arc<dyn Store>, keyring: &Keyring) -> Self {
        Self::try_new(store, keyring, Mode::Warn, CACHE).await.unwrap()
    }

    /// Gates with the same store have the same handles.
    pub async fn try_new(
        store: Arc<dyn Store>,
        keyring: &Keyring,
        mode: Mode,
        cache_bytes: u64,
    ) -> Option<Self> {
        Self::over(store, keyring, mode, cache_bytes, &[CarrierKind::Sidecar]).await
    }

    /// [`Gate::try_new`] with evidence looked for in `carriers`.
    pub async fn over(
        store: Arc<dyn Store>,
        keyring: &Keyring,
        mode: Mode,
        cache_bytes: u64,
        carriers: &[CarrierKind],
    ) -> Option<Self> {
        Self::with(store, keyring, |options| {
            options.mode = mode;
            options.cache_bytes = cache_bytes;
            options.carriers = carriers.to_vec();
        })
        .await
    }

    /// A gate that enforces, with evidence in the sidecar, but for what `change` changes.
    pub async fn with(
        store: Arc<dyn Store>,
        keyring: &Keyring,
        change: impl FnOnce(&mut ExportOptions),
    ) -> Option<Self> {
        let events = Arc::<Events>::default();
        let mut options = ExportOptions {
            store,
            replicas: Vec::new(),
            waits: false,
            repair: None,
            namespace: String::new(),
            carriers: vec![CarrierKind::Sidecar],
            whole_files: WholeFiles::default(),
            keyring: keyring.clone(),
            mode: Mode::Enforce,
            identity: Identity::default(),
            cache_bytes: CACHE,
            disk_cache: None,
            xattrs: Xattrs::default(),
            proof_directory: ProofDirectory::default(),
            handle_key: HandleKey::new(&[7; 32]),
            sink: events.clone(),
        };
        change(&mut options);
        let mode = options.mode;
        Some(Self { export: Arc::new(Export::new(options).await.ok()?), events, mode })
    }

    /// Looks `path` up, name by name.
    pub async fn find(&self, path: &str) -> Answer<(FileHandle, Attr)> {
        let mut handle = self.export.root();
        let mut attr = self.attributes(&handle).await?;
        for name in path.split('/') {
            (handle, attr) =
                within(self.export.lookup(handle.as_bytes(), name.as_bytes(), &caller())).await?;
        }
        Ok((handle, attr))
    }

    pub async fn attributes(&self, handle: &FileHandle) -> Answer<Attr> {
        within(self.export.attributes(handle.as_bytes(), &caller())).await
    }

    pub async fn access(&self, handle: &FileHandle) -> Answer<Access> {
        Ok(within(self.export.access(handle.as_bytes(), &caller())).await?.0)
    }

    pub async fn read(&self, handle: &FileHandle, offset: u64, count: u32) -> Answer<Data> {
        let reply = within(self.export.read(handle.as_bytes(), offset, count, &caller())).await?;
        let (eof, size, proven) = (reply.eof, reply.attr.size, reply.data.is_verified());
        assert!(proven || self.mode == Mode::Warn);
        Ok(Data { bytes: reply.data.into_parts().concat(), eof, size, proven })
    }

    /// [`Gate::read`] by path.
    pub async fn read_at(&self, path: &str, offset: u64, count: u32) -> Answer<Data> {
        let (handle, _) = self.find(path).await?;
        self.read(&handle, offset, count).await
    }

    /// The start of a file, as much of it as one READ gives.
    pub async fn start(&self, path: &str) -> Answer<Data> {
        self.read_at(path, 0, READ_MAX).await
    }
}

/// Who asks in these tests.
pub fn caller() -> Caller {
    let client = Client { address: ([127, 0, 0, 1], 700).into(), uid: Some(1000), gid: Some(1000) };
    Caller { client, gids: Vec::new() }
}

/// What does not hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Asks again until the answer is `wanted`: what was found out is believed for about a second.
pub async fn eventually(what: &str, mut wanted: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted().await {
        assert!(Instant::now() < deadline, "it never came to pass: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Where the evidence of `path` lies.
pub fn evidence(path: &str) -> String {
    format!(".nfs-verity/{path}")
}

/// The store as exports take it.
pub fn shared(memory: &Memory) -> Arc<dyn Store> {
    Arc::new(memory.clone())
}

pub fn params(algorithm: HashAlgorithm, block_size: u32, salt: &[u8]) -> Params {
    Params { algorithm, block_size: BlockSize::new(block_size).unwrap(), salt: Salt::new(salt).unwrap() }
}

/// SHA-256 in blocks of 1024 bytes: the most blocks for the fewest bytes.
pub fn small_blocks() -> Params {
    params(HashAlgorithm::Sha256, 1024, b"")
}
