//! A store whose reads wait until the test lets them through, and are written down.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nfs_verity::carrier::Sidecar;
use nfs_verity::export::{Attr, FsStat};
use nfs_verity::store::{
    BoxFuture, DirPage, Store, StoreError, StoreErrorKind, StoreFile, StorePath, StoreWriter,
};
use tokio::sync::watch;

use super::scene::within;

type StoreResult<T> = nfs_verity::store::Result<T>;

/// What becomes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It gets what there is.
    Give,
    /// The same at once, as what is in memory.
    GiveAtOnce,
    /// It waits until the rule changes.
    Wait,
    Fail,
    Panic,
    /// It gets as many wrong bytes.
    Spoil,
}

type Rule = Arc<dyn Fn(Range<u64>) -> Act + Send + Sync>;

/// A clone is the same store. What a test does with it is done to the reads of data.
#[derive(Clone)]
pub struct Gated {
    inner: Arc<dyn Store>,
    control: Arc<Control>,
    evidence: Arc<Control>,
}

struct Control {
    rule: watch::Sender<Rule>,
    reads: watch::Sender<Vec<Range<u64>>>,
}

impl Gated {
    /// All reads of data wait, and none of evidence.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        let control = |act| {
            let rule: Rule = Arc::new(move |_| act);
            Arc::new(Control { rule: watch::Sender::new(rule), reads: watch::Sender::new(Vec::new()) })
        };
        Self { inner, control: control(Act::Wait), evidence: control(Act::GiveAtOnce) }
    }

    /// The same store, to do with the reads of evidence what a test does with it.
    pub fn evidence(&self) -> Self {
        Self { control: self.evidence.clone(), ..self.clone() }
    }

    /// What becomes of reads from now on, also of those that wait.
    pub fn rule(&self, rule: impl Fn(Range<u64>) -> Act + Send + Sync + 'static) {
        self.control.rule.send_replace(Arc::new(rule));
    }

    pub fn all(&self, act: Act) {
        self.rule(move |_| act);
    }

    /// The reads that had to wait for the store, since the start.
    pub fn reads(&self) -> Vec<Range<u64>> {
        self.control.reads.borrow().clone()
    }

    /// Waits until there were `n` of them.
    pub async fn until(&self, n: usize) {
        let mut reads = self.control.reads.subscribe();
        within(reads.wait_for(|reads| reads.len() >= n)).await.unwrap();
    }
}

impl Control {
    fn act(&self, range: &Range<u64>) -> Act {
        let rule = self.rule.borrow().clone();
        rule(range.clone())
    }
}

impl Store for Gated {
    fn describe(&self) -> String {
        "gated".to_owned()
    }
    fn stat<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<Attr>> {
        self.inner.stat(path)
    }
    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<Arc<dyn StoreFile>>> {
        Box::pin(async move {
            let inner = self.inner.open(path).await?;
            let is_evidence = path.starts_with(&Sidecar::directory());
            let control = if is_evidence { &self.evidence } else { &self.control };
            let file = GatedFile { inner, path: path.clone(), control: control.clone() };
            Ok(Arc::new(file) as Arc<dyn StoreFile>)
        })
    }
    fn read_dir<'a>(
        &'a self,
        path: &'a StorePath,
        at: u64,
        max: usize,
    ) -> BoxFuture<'a, StoreResult<DirPage>> {
        self.inner.read_dir(path, at, max)
    }
    fn read_link<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<Vec<u8>>> {
        self.inner.read_link(path)
    }
    fn stat_fs(&self) -> BoxFuture<'_, StoreResult<FsStat>> {
        self.inner.stat_fs()
    }
    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        scratch: &'a StorePath,
    ) -> BoxFuture<'a, StoreResult<Box<dyn StoreWriter>>> {
        self.inner.create(path, scratch)
    }
    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, StoreResult<()>> {
        self.inner.remove(path)
    }
}

struct GatedFile {
    inner: Arc<dyn StoreFile>,
    path: StorePath,
    control: Arc<Control>,
}

impl StoreFile for GatedFile {
    fn stat(&self) -> BoxFuture<'_, StoreResult<Attr>> {
        self.inner.stat()
    }
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, StoreResult<Bytes>> {
        Box::pin(async move {
            let range = offset..offset + len as u64;
            let mut rules = self.control.rule.subscribe();
            self.control.reads.send_modify(|reads| reads.push(range.clone()));
            rules.wait_for(|rule| rule(range.clone()) != Act::Wait).await.unwrap();
            match self.control.act(&range) {
                Act::Fail => Err(StoreError::new(
                    StoreErrorKind::Io,
                    "read",
                    &self.path,
                    std::io::Error::other("as the test wants"),
                )),
                Act::Panic => panic!("as the test wants"),
                Act::Spoil => {
                    let right = self.inner.read_at(offset, len).await?;
                    Ok(right.iter().map(|byte| !byte).collect())
                }
                Act::Give | Act::GiveAtOnce | Act::Wait => self.inner.read_at(offset, len).await,
            }
        })
    }
    fn try_read_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        let is_near = self.control.act(&(offset..offset + len as u64)) == Act::GiveAtOnce;
        if is_near { self.inner.try_read_at(offset, len) } else { None }
    }
}
