//! A layer that counts the calls to a store and lets chosen ones go wrong.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{
    Attr, Attributes, BoxFuture, DirPage, FsStat, MetadataKind, Result, Seal, Store, StoreError,
    StoreErrorKind, StoreFile, StorePath, StoreWriter,
};

/// What goes wrong with a call.
///
/// `ShortRead`, `Flip` and `Swap` act on the bytes of files and extended attributes; other calls pass them
/// unharmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and does nothing.
    Error(StoreErrorKind),
    /// A read gives fewer bytes than there are.
    ShortRead,
    /// A read gives the bytes with one bit changed.
    Flip,
    /// A read gives as many bytes from another place of the file.
    Swap,
    /// The call waits for [`Faulty::release`] and goes on then.
    Stall,
    /// The object is gone: a call by path finds nothing, an open file is stale from now on.
    Gone,
}

/// A store with faults. Every call to a method of [`Store`], [`StoreFile`] and [`StoreWriter`]
/// counts, from 1, but for [`Store::describe`]. A clone is the same store.
///
/// The calls that may not wait (`try_stat`, `try_read_at`) count like the others. Where one
/// cannot deliver its fault it answers `None`, and the file's next call meets the fault.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    control: Arc<Control>,
}

impl Faulty {
    /// A layer over `inner` that only counts.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, control: Arc::default() }
    }

    /// Lets the call number `n` (from 1, since the start or [`Faulty::reset`]) go wrong.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.control.plan.lock().at.insert(n, fault);
    }

    /// Lets every call go wrong whose number is a multiple of `k`; 0 stands for none.
    pub fn fail_every(&self, k: u64, fault: Fault) {
        self.control.plan.lock().every = (k > 0).then_some((k, fault));
    }

    /// Lets each read without another fault give the right bytes or, differently each time, wrong ones.
    pub fn lie(&self, seed: u64) {
        let mut plan = self.control.plan.lock();
        plan.random = seed;
        plan.lies = true;
    }

    /// Lets no call answer without waiting, as if the store were far away.
    pub fn wait_always(&self) {
        self.control.plan.lock().far = true;
    }

    /// The reads of files that were waited for: path, offset, length.
    pub fn reads(&self) -> Vec<(StorePath, u64, usize)> {
        self.control.plan.lock().reads.clone()
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.control.plan.lock().calls
    }

    /// Counts from 0 again, plans no fault, and releases what is stalled.
    pub fn reset(&self) {
        *self.control.plan.lock() = Plan::default();
        self.release();
    }

    /// Lets the calls go on that are stalled now.
    pub fn release(&self) {
        self.control.released.notify_waiters();
    }

    /// Waits until `n` calls have stalled since the start, whether they were released or not.
    pub async fn until_stalled(&self, n: u64) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.control.stalled.subscribe().wait_for(|count| *count >= n).await;
    }
}

#[derive(Default)]
struct Control {
    plan: Mutex<Plan>,
    released: Notify,
    stalled: watch::Sender<u64>,
}

#[derive(Default)]
struct Plan {
    calls: u64,
    at: BTreeMap<u64, Fault>,
    every: Option<(u64, Fault)>,
    lies: bool,
    random: u64,
    far: bool,
    reads: Vec<(StorePath, u64, usize)>,
}

/// What becomes of the bytes of a read.
#[derive(Clone, Copy)]
enum Spoil {
    Cut,
    Flip,
    Swap,
    Noise,
}

impl Spoil {
    fn of(fault: Fault) -> Option<Self> {
        match fault {
            Fault::ShortRead => Some(Self::Cut),
            Fault::Flip => Some(Self::Flip),
            Fault::Swap => Some(Self::Swap),
            Fault::Error(_) | Fault::Stall | Fault::Gone => None,
        }
    }
}

impl Plan {
    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random() % (bound as u64).max(1)).unwrap_or(0)
    }
}

impl Control {
    /// Counts a call and gives its fault.
    fn next(&self) -> Option<Fault> {
        let mut plan = self.plan.lock();
        plan.calls += 1;
        let calls = plan.calls;
        let every = plan.every.filter(|(k, _)| calls.is_multiple_of(*k)).map(|(_, fault)| fault);
        plan.at.get(&calls).copied().or(every)
    }

    fn is_far(&self) -> bool {
        self.plan.lock().far
    }

    fn lie(&self) -> Option<Spoil> {
        let mut plan = self.plan.lock();
        if !plan.lies {
            return None;
        }
        [None, Some(Spoil::Cut), Some(Spoil::Flip), Some(Spoil::Swap), Some(Spoil::Noise)]
            .get(plan.below(5))
            .copied()
            .flatten()
    }

    /// A call by path.
    async fn pass(&self, operation: &'static str, path: &StorePath) -> Result<()> {
        self.strike(self.next(), operation, path, StoreErrorKind::NotFound).await
    }

    async fn strike(
        &self,
        fault: Option<Fault>,
        operation: &'static str,
        path: &StorePath,
        gone: StoreErrorKind,
    ) -> Result<()> {
        match fault {
            Some(Fault::Error(kind)) => Err(injected(kind, operation, path)),
            Some(Fault::Gone) => Err(injected(gone, operation, path)),
            Some(Fault::Stall) => {
                // Made before the count moves, so that a release after it is not missed.
                let released = self.released.notified();
                self.stalled.send_modify(|count| *count += 1);
                released.await;
                Ok(())
            }
            Some(Fault::ShortRead | Fault::Flip | Fault::Swap) | None => Ok(()),
        }
    }

    /// The wrong bytes for `right`; `other` are bytes of another place, for [`Spoil::Swap`].
    fn spoil(&self, spoil: Spoil, right: Bytes, other: Option<Bytes>) -> Bytes {
        if right.is_empty() {
            return right;
        }
        let mut plan = self.plan.lock();
        let mut wrong = BytesMut::from(right.as_ref());
        match spoil {
            Spoil::Cut => return right.slice(..plan.below(right.len())),
            Spoil::Flip => {}
            Spoil::Swap => {
                let other = other.unwrap_or_default();
                wrong.iter_mut().zip(other.iter()).for_each(|(byte, new)| *byte = *new);
            }
            Spoil::Noise => {
                for chunk in wrong.chunks_mut(8) {
                    let noise = plan.random().to_le_bytes();
                    chunk.iter_mut().zip(noise).for_each(|(byte, new)| *byte = new);
                }
            }
        }
        // Where the other bytes are the same, or none are there, a bit has to do.
        if wrong == right {
            let at = plan.below(right.len());
            let bit = plan.below(8);
            if let Some(byte) = wrong.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        wrong.freeze()
    }
}

fn injected(kind: StoreErrorKind, operation: &'static str, path: &StorePath) -> StoreError {
    StoreError::new(kind, operation, path, io::Error::other("a fault was injected"))
}

impl Store for Faulty {
    fn describe(&self) -> String {
        format!("faulty {}", self.inner.describe())
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        Box::pin(async move {
            self.control.pass("stat", path).await?;
            self.inner.stat(path).await
        })
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            self.control.pass("open", path).await?;
            let file: Arc<dyn StoreFile> = Arc::new(FaultyFile {
                inner: self.inner.open(path).await?,
                control: self.control.clone(),
                path: path.clone(),
                owed: Mutex::new(None),
                gone: AtomicBool::new(false),
            });
            Ok(file)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        cookie: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<DirPage>> {
        Box::pin(async move {
            self.control.pass("read the directory", path).await?;
            self.inner.read_dir(path, cookie, max).await
        })
    }

    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            self.control.pass("read the link", path).await?;
            self.inner.read_link(path).await
        })
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        Box::pin(async move {
            self.control.pass("stat the file system", &StorePath::root()).await?;
            self.inner.stat_fs().await
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        Box::pin(async move {
            self.control.pass("create", path).await?;
            let inner = self.inner.create(path, scratch).await?;
            let writer: Box<dyn StoreWriter> =
                Box::new(FaultyWriter { inner, control: self.control.clone(), path: path.clone() });
            Ok(writer)
        })
    }

    fn create_new<'a>(&'a self, path: &'a StorePath, content: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.control.pass("create", path).await?;
            self.inner.create_new(path, content).await
        })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.control.pass("remove", path).await?;
            self.inner.remove(path).await
        })
    }

    fn forget(&self, path: &StorePath) {
        self.inner.forget(path);
    }
}

struct FaultyFile {
    inner: Arc<dyn StoreFile>,
    control: Arc<Control>,
    path: StorePath,
    /// The fault of a call that could not deliver it.
    owed: Mutex<Option<Fault>>,
    gone: AtomicBool,
}

impl FaultyFile {
    /// Counts a call and gives its fault.
    fn next(&self) -> Option<Fault> {
        let due = self.control.next();
        let fault = self.owed.lock().take().or(due);
        if fault == Some(Fault::Gone) {
            self.gone.store(true, Ordering::Relaxed);
        }
        if self.gone.load(Ordering::Relaxed) { Some(Fault::Gone) } else { fault }
    }

    async fn strike(&self, fault: Option<Fault>, operation: &'static str) -> Result<()> {
        self.control.strike(fault, operation, &self.path, StoreErrorKind::Stale).await
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        let fault = self.next();
        self.control.plan.lock().reads.push((self.path.clone(), offset, len));
        self.strike(fault, "read").await?;
        let right = self.inner.read_at(offset, len).await?;
        let Some(spoil) = fault.map_or_else(|| self.control.lie(), Spoil::of) else {
            return Ok(right);
        };
        let other = match spoil {
            Spoil::Swap => self.inner.read_at(elsewhere(offset, len), len).await.ok(),
            Spoil::Cut | Spoil::Flip | Spoil::Noise => None,
        };
        Ok(self.control.spoil(spoil, right, other))
    }
}

impl FaultyFile {
    /// What `fault` makes of bytes that have no other place in the file.
    fn spoiled(&self, fault: Option<Fault>, right: Bytes) -> Bytes {
        match fault.map_or_else(|| self.control.lie(), Spoil::of) {
            Some(spoil) => self.control.spoil(spoil, right, None),
            None => right,
        }
    }
}

/// Another place than `offset`, towards the start of the file where there is room.
fn elsewhere(offset: u64, len: usize) -> u64 {
    let len = len as u64;
    offset.checked_sub(len).unwrap_or_else(|| offset.saturating_add(len))
}

impl StoreFile for FaultyFile {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        Box::pin(async move {
            self.strike(self.next(), "stat").await?;
            self.inner.stat().await
        })
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        if self.control.is_far() {
            return None;
        }
        match self.next() {
            Some(Fault::Error(kind)) => Some(Err(injected(kind, "stat", &self.path))),
            Some(Fault::Gone) => Some(Err(injected(StoreErrorKind::Stale, "stat", &self.path))),
            Some(Fault::Stall) => {
                *self.owed.lock() = Some(Fault::Stall);
                None
            }
            Some(Fault::ShortRead | Fault::Flip | Fault::Swap) | None => self.inner.try_stat(),
        }
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes>> {
        Box::pin(self.read(offset, len))
    }

    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        if self.control.is_far() {
            return None;
        }
        let fault = self.next();
        let right = match fault {
            Some(Fault::Error(_) | Fault::Gone | Fault::Stall) => None,
            Some(Fault::ShortRead | Fault::Flip | Fault::Swap) | None => self.inner.try_read_at(offset, len),
        };
        let Some(right) = right else {
            if fault.is_some() {
                *self.owed.lock() = fault;
            }
            return None;
        };
        let Some(spoil) = fault.map_or_else(|| self.control.lie(), Spoil::of) else {
            return Some(right);
        };
        let other = match spoil {
            Spoil::Swap => self.inner.try_read_at(elsewhere(offset, len), len),
            Spoil::Cut | Spoil::Flip | Spoil::Noise => None,
        };
        Some(self.control.spoil(spoil, right, other))
    }

    fn data_range(&self, offset: u64, size: u64) -> BoxFuture<'_, Result<Option<Range<u64>>>> {
        Box::pin(async move {
            self.strike(self.next(), "find data").await?;
            self.inner.data_range(offset, size).await
        })
    }

    fn get_xattr<'a>(&'a self, name: &'a [u8], max: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let fault = self.next();
            self.strike(fault, "read an extended attribute").await?;
            let value = self.inner.get_xattr(name, max).await?;
            Ok(value.map(|right| self.spoiled(fault, right)))
        })
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(async move {
            self.strike(self.next(), "list extended attributes").await?;
            self.inner.list_xattrs().await
        })
    }

    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.strike(self.next(), "set an extended attribute").await?;
            self.inner.set_xattr(name, value).await
        })
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.strike(self.next(), "remove an extended attribute").await?;
            self.inner.remove_xattr(name).await
        })
    }

    fn verity_metadata(
        &self,
        kind: MetadataKind,
        offset: u64,
        len: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move {
            let fault = self.next();
            self.strike(fault, "read fs-verity metadata").await?;
            let bytes = self.inner.verity_metadata(kind, offset, len).await?;
            Ok(bytes.map(|right| self.spoiled(fault, right)))
        })
    }

    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        Box::pin(async move {
            self.strike(self.next(), "measure").await?;
            self.inner.measure_verity().await
        })
    }

    fn enable_verity<'a>(&'a self, seal: &'a Seal) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.strike(self.next(), "seal").await?;
            self.inner.enable_verity(seal).await
        })
    }
}

struct FaultyWriter {
    inner: Box<dyn StoreWriter>,
    control: Arc<Control>,
    path: StorePath,
}

impl StoreWriter for FaultyWriter {
    fn write_at<'a>(&'a mut self, offset: u64, data: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.control.strike(self.control.next(), "write", &self.path, StoreErrorKind::Stale).await?;
            self.inner.write_at(offset, data).await
        })
    }

    fn set_attributes<'a>(&'a mut self, attributes: &'a Attributes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let fault = self.control.next();
            self.control.strike(fault, "copy attributes", &self.path, StoreErrorKind::Stale).await?;
            self.inner.set_attributes(attributes).await
        })
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let fault = self.control.next();
            self.control.strike(fault, "make durable", &self.path, StoreErrorKind::Stale).await?;
            self.inner.prepare().await
        })
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.control.strike(self.control.next(), "commit", &self.path, StoreErrorKind::Stale).await?;
            self.inner.commit().await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    const CONTENT: &[u8; 64] = b"0123456789abcdef0123456789ABCDEFghijklmnopqrstuvwxyz.,:;-_+*~#'!";

    fn path(text: &str) -> StorePath {
        StorePath::parse(text.as_bytes()).unwrap()
    }

    fn scene() -> (Memory, Faulty) {
        let memory = Memory::new();
        memory.put("d/f", CONTENT).unwrap();
        memory.put_symlink("l", b"d/f").unwrap();
        let faulty = Faulty::new(Arc::new(memory.clone()));
        (memory, faulty)
    }

    /// One call of each kind; gives the operation that failed.
    async fn every_call(store: &Faulty) -> Result<()> {
        store.stat(&path("d/f")).await?;
        store.read_dir(&path("d"), 0, 10).await?;
        store.read_link(&path("l")).await?;
        store.stat_fs().await?;
        let file = store.open(&path("d/f")).await?;
        file.stat().await?;
        file.read_at(0, 8).await?;
        file.data_range(0, 64).await?;
        file.set_xattr(b"user.x", b"value").await?;
        file.get_xattr(b"user.x", 9).await?;
        file.list_xattrs().await?;
        file.remove_xattr(b"user.x").await?;
        file.verity_metadata(MetadataKind::Descriptor, 0, 256).await?;
        file.measure_verity().await?;
        let seal = Seal { hash_id: 1, block_size: 4096, salt: Vec::new(), signature: Vec::new() };
        let sealed = file.enable_verity(&seal).await;
        sealed
            .or_else(|error| if error.kind == StoreErrorKind::Unsupported { Ok(()) } else { Err(error) })?;
        let attributes = Attributes::of(&*store.inner.open(&path("d/f")).await?).await?;
        let mut writer = store.create(&path("new"), &path("tmp")).await?;
        writer.write_at(0, b"new").await?;
        writer.set_attributes(&attributes).await?;
        writer.commit().await?;
        store.remove(&path("l")).await
    }

    #[tokio::test]
    async fn an_error_at_each_call_is_met_and_nothing_is_done_there() {
        let (_, store) = scene();
        every_call(&store).await.unwrap();
        let calls = store.calls();
        assert_eq!(calls, 20);
        let mut operations = Vec::new();
        for n in 1..=calls {
            let (memory, store) = scene();
            store.fail_at(n, Fault::Error(StoreErrorKind::NoSpace));
            let error = every_call(&store).await.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::NoSpace);
            assert_eq!(store.calls(), n);
            assert_eq!(memory.bytes("new").is_some(), n == calls);
            operations.push(error.operation);
        }
        operations.dedup();
        assert_eq!(operations.len(), 20);
        store.reset();
        assert_eq!(store.calls(), 0);
    }

    #[tokio::test]
    async fn every_kth_call_fails_until_reset() {
        let (_, store) = scene();
        store.fail_every(3, Fault::Gone);
        for n in 1..=9 {
            let answer = store.stat(&path("d")).await;
            assert_eq!(
                answer.map_err(|error| error.kind).err(),
                (n % 3 == 0).then_some(StoreErrorKind::NotFound)
            );
        }
        store.reset();
        for _ in 0..9 {
            store.stat(&path("d")).await.unwrap();
        }
    }

    async fn read_with(fault: Fault, patient: bool) -> Bytes {
        let (_, store) = scene();
        let file = store.open(&path("d/f")).await.unwrap();
        store.fail_at(2, fault);
        let bytes =
            if patient { file.read_at(16, 16).await.unwrap() } else { file.try_read_at(16, 16).unwrap() };
        assert_eq!(file.read_at(16, 16).await.unwrap().as_ref(), &CONTENT[16..32], "only once");
        bytes
    }

    #[tokio::test]
    async fn spoiled_reads_are_wrong_in_their_way_whether_they_may_wait_or_not() {
        for patient in [true, false] {
            let cut = read_with(Fault::ShortRead, patient).await;
            assert!(cut.len() < 16 && CONTENT[16..32].starts_with(&cut));
            let flipped = read_with(Fault::Flip, patient).await;
            let bits = flipped.iter().zip(&CONTENT[16..32]).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
            assert_eq!((flipped.len(), bits), (16, 1));
            assert_eq!(read_with(Fault::Swap, patient).await.as_ref(), &CONTENT[..16]);
        }
    }

    #[tokio::test]
    async fn a_swap_in_a_file_of_equal_parts_is_still_wrong() {
        let memory = Memory::new();
        memory.put("f", &[7; 64]).unwrap();
        let store = Faulty::new(Arc::new(memory));
        let file = store.open(&path("f")).await.unwrap();
        store.fail_every(1, Fault::Swap);
        for len in [16, 64] {
            let bytes = file.read_at(0, len).await.unwrap();
            assert_eq!(bytes.len(), len);
            assert!(bytes.iter().any(|byte| *byte != 7));
        }
    }

    #[tokio::test]
    async fn calls_that_may_not_wait_pass_their_fault_on() {
        let (_, store) = scene();
        let file = store.open(&path("d/f")).await.unwrap();
        store.fail_at(2, Fault::Error(StoreErrorKind::Io));
        assert_eq!(file.try_read_at(0, 8), None);
        assert_eq!(file.read_at(0, 8).await.unwrap_err().kind, StoreErrorKind::Io);
        assert_eq!(store.calls(), 3);
        file.read_at(0, 8).await.unwrap();
        store.fail_at(5, Fault::Error(StoreErrorKind::Access));
        assert_eq!(file.try_stat().unwrap().unwrap_err().kind, StoreErrorKind::Access);
        store.fail_at(6, Fault::Stall);
        assert!(file.try_stat().is_none());
        let waiting = tokio::spawn(async move { file.stat().await });
        store.until_stalled(1).await;
        store.release();
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stalled_call_goes_on_when_released() {
        let (_, store) = scene();
        store.fail_at(1, Fault::Stall);
        let other = store.clone();
        let waiting = tokio::spawn(async move { other.stat(&path("d/f")).await });
        store.until_stalled(1).await;
        store.stat(&path("d/f")).await.unwrap();
        assert!(!waiting.is_finished());
        store.release();
        assert_eq!(waiting.await.unwrap().unwrap().size, 64);
    }

    #[tokio::test]
    async fn an_open_file_that_is_gone_stays_gone() {
        let (_, store) = scene();
        let file = store.open(&path("d/f")).await.unwrap();
        store.fail_at(2, Fault::Gone);
        assert_eq!(file.try_read_at(0, 8), None);
        for _ in 0..2 {
            assert_eq!(file.read_at(0, 8).await.unwrap_err().kind, StoreErrorKind::Stale);
            assert_eq!(file.try_stat().unwrap().unwrap_err().kind, StoreErrorKind::Stale);
        }
        store.open(&path("d/f")).await.unwrap();
    }

    #[tokio::test]
    async fn a_liar_gives_right_and_different_wrong_bytes_and_repeats_itself_for_a_seed() {
        let run = async |seed| {
            let (_, store) = scene();
            let file = store.open(&path("d/f")).await.unwrap();
            store.lie(seed);
            let mut answers = Vec::new();
            for n in 0..200 {
                let bytes =
                    if n % 2 == 0 { file.try_read_at(16, 16) } else { file.read_at(16, 16).await.ok() };
                answers.push(bytes.unwrap());
            }
            answers
        };
        let answers = run(1).await;
        let right = answers.iter().filter(|bytes| ***bytes == CONTENT[16..32]).count();
        assert!((10..190).contains(&right), "{right}");
        let different: std::collections::HashSet<_> = answers.iter().collect();
        assert!(different.len() > 50, "{}", different.len());
        assert_eq!(answers, run(1).await);
        assert_ne!(answers, run(2).await);
    }
}
