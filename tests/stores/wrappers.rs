//! Layers over stores hand on all that they are asked: a method with a default body that a layer forgets
//! would answer for a store that knows better.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nfs_verity::event::Silent;
use nfs_verity::scrub::{Pace, Paced};
use nfs_verity::store::{
    Attr, Attributes, BoxFuture, DirPage, Failover, Faulty, FsStat, Guarded, Memory, MetadataKind, Patient,
    Result, Seal, Slow, Store, StoreFile, StorePath, StoreWriter,
};
use parking_lot::Mutex;

/// A store that notes which of its methods are called; none of its answers is that of a default body.
#[derive(Clone)]
struct Spy {
    memory: Memory,
    called: Arc<Mutex<BTreeSet<String>>>,
}

impl Spy {
    fn note(&self, of: &str, method: &str) {
        self.called.lock().insert(format!("{of}::{method}"));
    }
}

macro_rules! noted {
    ($self:ident, $of:literal, $method:literal, $answer:expr) => {{
        $self.note($of, $method);
        Box::pin(async move { Ok($answer) })
    }};
}

impl Store for Spy {
    fn describe(&self) -> String {
        self.note("Store", "describe");
        "spy".to_owned()
    }

    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Attr>> {
        self.note("Store", "stat");
        self.memory.stat(path)
    }

    fn stat_names<'a>(&'a self, _: &'a StorePath, names: &'a [&'a [u8]]) -> BoxFuture<'a, Vec<Option<Attr>>> {
        self.note("Store", "stat_names");
        Box::pin(async { vec![None; names.len()] })
    }

    fn read_heads<'a>(
        &'a self,
        _: &'a StorePath,
        names: &'a [&'a [u8]],
        _: usize,
    ) -> BoxFuture<'a, Vec<Option<(Attr, Bytes)>>> {
        self.note("Store", "read_heads");
        Box::pin(async { vec![None; names.len()] })
    }

    fn open<'a>(&'a self, _: &'a StorePath) -> BoxFuture<'a, Result<Arc<dyn StoreFile>>> {
        noted!(self, "Store", "open", Arc::new(self.clone()) as Arc<dyn StoreFile>)
    }

    fn read_dir<'a>(&'a self, path: &'a StorePath, at: u64, max: usize) -> BoxFuture<'a, Result<DirPage>> {
        self.note("Store", "read_dir");
        self.memory.read_dir(path, at, max)
    }

    fn read_link<'a>(&'a self, _: &'a StorePath) -> BoxFuture<'a, Result<Vec<u8>>> {
        noted!(self, "Store", "read_link", b"target".to_vec())
    }

    fn stat_fs(&self) -> BoxFuture<'_, Result<FsStat>> {
        self.note("Store", "stat_fs");
        self.memory.stat_fs()
    }

    fn create<'a>(
        &'a self,
        _: &'a StorePath,
        _: &'a StorePath,
    ) -> BoxFuture<'a, Result<Box<dyn StoreWriter>>> {
        noted!(self, "Store", "create", Box::new(self.clone()) as Box<dyn StoreWriter>)
    }

    fn create_new<'a>(&'a self, _: &'a StorePath, _: &'a [u8]) -> BoxFuture<'a, Result<bool>> {
        noted!(self, "Store", "create_new", true)
    }

    fn remove<'a>(&'a self, _: &'a StorePath) -> BoxFuture<'a, Result<()>> {
        noted!(self, "Store", "remove", ())
    }

    fn forget(&self, _: &StorePath) {
        self.note("Store", "forget");
    }
}

impl StoreFile for Spy {
    fn stat(&self) -> BoxFuture<'_, Result<Attr>> {
        self.note("StoreFile", "stat");
        Box::pin(async { self.memory.stat(&StorePath::root()).await })
    }

    fn drop_behind(&self, _: u64, _: u64) {
        self.note("StoreFile", "drop_behind");
    }

    fn try_stat(&self) -> Option<Result<Attr>> {
        self.note("StoreFile", "try_stat");
        None
    }

    fn read_at(&self, _: u64, _: usize) -> BoxFuture<'_, Result<Bytes>> {
        noted!(self, "StoreFile", "read_at", Bytes::from_static(b"bytes"))
    }

    fn read_pieces(&self, _: u64, _: usize, _: usize) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        noted!(self, "StoreFile", "read_pieces", vec![Bytes::from_static(b"bytes")])
    }

    fn try_read_at(&self, _: u64, _: usize) -> Option<Bytes> {
        self.note("StoreFile", "try_read_at");
        Some(Bytes::from_static(b"bytes"))
    }

    fn data_range(&self, _: u64, _: u64) -> BoxFuture<'_, Result<Option<Range<u64>>>> {
        noted!(self, "StoreFile", "data_range", Some(2..3))
    }

    fn get_xattr<'a>(&'a self, _: &'a [u8], _: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        noted!(self, "StoreFile", "get_xattr", Some(Bytes::from_static(b"value")))
    }

    fn list_xattrs(&self) -> BoxFuture<'_, Result<Vec<Vec<u8>>>> {
        noted!(self, "StoreFile", "list_xattrs", vec![b"name".to_vec()])
    }

    fn set_xattr<'a>(&'a self, _: &'a [u8], _: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        noted!(self, "StoreFile", "set_xattr", ())
    }

    fn remove_xattr<'a>(&'a self, _: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        noted!(self, "StoreFile", "remove_xattr", ())
    }

    fn verity_metadata(&self, _: MetadataKind, _: u64, _: usize) -> BoxFuture<'_, Result<Option<Bytes>>> {
        noted!(self, "StoreFile", "verity_metadata", Some(Bytes::from_static(b"metadata")))
    }

    fn measure_verity(&self) -> BoxFuture<'_, Result<Option<(u16, Bytes)>>> {
        noted!(self, "StoreFile", "measure_verity", Some((1, Bytes::from_static(b"digest"))))
    }

    fn enable_verity<'a>(&'a self, _: &'a Seal) -> BoxFuture<'a, Result<()>> {
        noted!(self, "StoreFile", "enable_verity", ())
    }
}

impl StoreWriter for Spy {
    fn write_at<'a>(&'a mut self, _: u64, _: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        noted!(self, "StoreWriter", "write_at", ())
    }

    fn set_attributes<'a>(&'a mut self, _: &'a Attributes) -> BoxFuture<'a, Result<()>> {
        noted!(self, "StoreWriter", "set_attributes", ())
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<()>> {
        noted!(self, "StoreWriter", "prepare", ())
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        noted!(self, "StoreWriter", "commit", ())
    }
}

/// All methods of the traits, as `Store::stat`.
fn methods() -> BTreeSet<String> {
    let mut of = None;
    let mut all = BTreeSet::new();
    for line in include_str!("../../src/store/mod.rs").lines() {
        if let Some(name) = line.strip_prefix("pub trait ") {
            of = name.split(':').next();
        } else if line == "}" {
            of = None;
        } else if let (Some(of), Some(method)) = (of, line.strip_prefix("    fn ")) {
            let end = method.find(['<', '(']).unwrap();
            all.insert(format!("{of}::{}", &method[..end]));
        }
    }
    all
}

/// Calls every method once, and looks whether the answers are those of the spy.
async fn ask_everything(store: &dyn Store) {
    let path = StorePath::parse(b"f").unwrap();
    store.describe();
    store.stat(&StorePath::root()).await.unwrap();
    assert_eq!(store.stat_names(&StorePath::root(), &[b"f"]).await, [None]);
    assert_eq!(store.read_heads(&StorePath::root(), &[b"f"], 9).await, [None]);
    store.read_dir(&StorePath::root(), 0, 9).await.unwrap();
    assert_eq!(store.read_link(&path).await.unwrap(), b"target");
    store.stat_fs().await.unwrap();
    assert!(store.create_new(&path, b"x").await.unwrap());
    store.remove(&path).await.unwrap();
    store.forget(&path);
    let file = store.open(&path).await.unwrap();
    file.stat().await.unwrap();
    file.drop_behind(0, 1);
    file.try_stat();
    file.read_at(0, 5).await.unwrap();
    file.read_pieces(0, 5, 5).await.unwrap();
    file.try_read_at(0, 5);
    assert_eq!(file.data_range(0, 9).await.unwrap(), Some(2..3));
    assert!(file.get_xattr(b"name", 9).await.unwrap().is_some());
    assert_eq!(file.list_xattrs().await.unwrap().len(), 1);
    file.set_xattr(b"name", b"value").await.unwrap();
    file.remove_xattr(b"name").await.unwrap();
    assert!(file.verity_metadata(MetadataKind::Descriptor, 0, 9).await.unwrap().is_some());
    assert!(file.measure_verity().await.unwrap().is_some());
    let seal = Seal { hash_id: 1, block_size: 4096, salt: Vec::new(), signature: Vec::new() };
    file.enable_verity(&seal).await.unwrap();
    let mut writer = store.create(&path, &path).await.unwrap();
    writer.write_at(0, b"x").await.unwrap();
    writer.set_attributes(&Attributes::of(&*file).await.unwrap()).await.unwrap();
    writer.prepare().await.unwrap();
    writer.commit().await.unwrap();
}

#[tokio::test]
async fn every_layer_hands_on_every_call() {
    type Layer = fn(Arc<dyn Store>) -> Arc<dyn Store>;
    // What answers without waiting is kept back where there has to be a wait.
    let layers: [(&str, Layer, &[&str]); 8] = [
        ("none", |store| store, &[]),
        ("guarded", |store| Arc::new(Guarded::new(store, Arc::new(Silent))), &[]),
        ("failover", |store| Arc::new(Failover::new(vec![Guarded::new(store, Arc::new(Silent))])), &[]),
        ("soft", |store| Arc::new(Patient::soft(store, Duration::from_secs(60), Arc::new(Silent))), &[]),
        ("hard", |store| Arc::new(Patient::hard(store)), &[]),
        (
            "slow",
            |store| Arc::new(Slow::new(store, Duration::ZERO, 0)),
            &["StoreFile::try_stat", "StoreFile::try_read_at"],
        ),
        // It spoils a read as a whole.
        ("faulty", |store| Arc::new(Faulty::new(store)), &["StoreFile::read_pieces"]),
        ("paced", |store| Arc::new(Paced::new(store, Pace::default())), &["StoreFile::try_read_at"]),
    ];
    let all = methods();
    assert!(all.len() > 20, "{all:?}");
    for (name, layer, kept_back) in layers {
        let spy = Spy { memory: Memory::new(), called: Arc::default() };
        ask_everything(&*layer(Arc::new(spy.clone()))).await;
        let called = std::mem::take(&mut *spy.called.lock());
        let missing: Vec<_> = all.difference(&called).map(String::as_str).collect();
        let mut kept_back = kept_back.to_vec();
        // A name that is not there has to be told from a store that did not answer: names are asked for, and files
        // opened, one by one. And a hint is none that has to be handed on.
        let hints = ["Store::stat_names", "Store::read_heads", "StoreFile::drop_behind"];
        kept_back.extend(hints.into_iter().filter(|_| name != "none"));
        kept_back.sort_unstable();
        assert_eq!(missing, kept_back, "{name} does not hand these on");
    }
}
