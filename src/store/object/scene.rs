//! A bucket in memory, with listings in pages as servers give them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as Done, UploadPart,
};
use parking_lot::Mutex;
use tokio::sync::RwLock;

use super::super::Store;
use super::Bucket;
use super::address::Look;

/// Keys in one page.
const PAGE: usize = 300;

/// What a bucket does beyond what it should.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// It answers that it has no time.
    pub(super) down: AtomicBool,
    pub(super) heads: AtomicUsize,
    pub(super) lists: AtomicUsize,
    /// Answers to HEAD and to listings, which are made already, are held back while this is locked.
    pub(super) held: RwLock<()>,
    /// Parts that were asked for, how long each takes, and uploads that were given up.
    pub(super) parts: AtomicUsize,
    pub(super) part_takes: Mutex<Duration>,
    pub(super) given_up: AtomicUsize,
}

impl Control {
    fn check(&self) -> Done<()> {
        match self.down.load(Ordering::Relaxed) {
            true => Err(object_store::Error::Generic { store: "S3", source: "status code: 503".into() }),
            false => Ok(()),
        }
    }
}

struct Paged(InMemory, Arc<Control>);

#[async_trait]
impl PaginatedListStore for Paged {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> object_store::Result<PaginatedListResult> {
        self.1.lists.fetch_add(1, Ordering::Relaxed);
        self.1.check()?;
        let prefix = prefix.unwrap_or_default();
        let after = options.page_token.or(options.offset);
        let mut all: Vec<ObjectMeta> = self.0.list(None).try_collect().await?;
        all.sort_by(|a, b| a.location.as_ref().cmp(b.location.as_ref()));
        let (mut result, mut page_token) = (
            ListResult { common_prefixes: Vec::new(), objects: Vec::new(), extensions: Default::default() },
            None,
        );
        let mut last = String::new();
        for meta in all {
            let key = meta.location.as_ref();
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            let group = options.delimiter.as_ref().and_then(|_| rest.split_once('/'));
            let shown = group.map_or(key.to_owned(), |(name, _)| format!("{prefix}{name}/"));
            if after.as_ref().is_some_and(|after| shown <= *after) || shown == last {
                continue;
            }
            if result.objects.len() + result.common_prefixes.len()
                == options.max_keys.unwrap_or(PAGE).min(PAGE)
            {
                page_token = Some(last.clone());
                break;
            }
            last = shown.clone();
            match group {
                Some(_) => result.common_prefixes.push(Path::parse(shown)?),
                None => result.objects.push(meta),
            }
        }
        let _ = self.1.held.read().await;
        Ok(PaginatedListResult { result, page_token })
    }
}

/// Counts what is asked of it.
#[derive(Debug)]
pub(super) struct Counted {
    inner: InMemory,
    /// The ranges of bytes that were asked for.
    pub(super) reads: Mutex<Vec<Range<u64>>>,
    pub(super) control: Arc<Control>,
}

/// Parts that take their time.
#[derive(Debug)]
struct Parts(Box<dyn MultipartUpload>, Arc<Control>);

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let put = self.0.put_part(data);
        self.1.parts.fetch_add(1, Ordering::Relaxed);
        let time = *self.1.part_takes.lock();
        Box::pin(async move {
            tokio::time::sleep(time).await;
            put.await
        })
    }

    async fn complete(&mut self) -> Done<PutResult> {
        self.0.complete().await
    }

    async fn abort(&mut self) -> Done<()> {
        self.1.given_up.fetch_add(1, Ordering::Relaxed);
        self.0.abort().await
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Done<PutResult> {
        self.inner.put_opts(to, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Done<Box<dyn MultipartUpload>> {
        Ok(Box::new(Parts(self.inner.put_multipart_opts(to, options).await?, self.control.clone())))
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Done<GetResult> {
        match (&options.range, options.head) {
            (_, true) => _ = self.control.heads.fetch_add(1, Ordering::Relaxed),
            (Some(GetRange::Bounded(range)), _) => self.reads.lock().push(range.clone()),
            (None, _) => self.reads.lock().push(0..u64::MAX),
            (range, _) => panic!("{range:?}"),
        }
        self.control.check()?;
        let is_head = options.head;
        let answer = self.inner.get_opts(from, options).await;
        if is_head {
            let _ = self.control.held.read().await;
        }
        answer
    }

    fn delete_stream(&self, keys: BoxStream<'static, Done<Path>>) -> BoxStream<'static, Done<Path>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Done<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Done<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Done<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A bucket that can be changed behind the store's back.
pub(crate) struct Scene {
    pub(crate) store: Arc<dyn Store>,
    pub(super) objects: InMemory,
    pub(super) counted: Arc<Counted>,
}

impl Scene {
    /// Nothing is remembered, so that changes are seen at once.
    pub(crate) fn new() -> Self {
        Self::with("pre/fix/", Look { metadata: true, ttl: Duration::ZERO, ..Look::default() })
    }

    /// What was found out is believed for longer than a test takes.
    pub(crate) fn remembering() -> Self {
        Self::with("pre/fix/", Look { ttl: Duration::from_secs(3600), ..Look::default() })
    }

    pub(super) fn with(prefix: &str, look: Look) -> Self {
        let objects = InMemory::new();
        let control = Arc::<Control>::default();
        let pages = Arc::new(Paged(objects.clone(), control.clone()));
        let counted = Arc::new(Counted { inner: objects.clone(), reads: Mutex::default(), control });
        let timeout = Duration::from_secs(10);
        let store = Bucket::new("bucket".into(), prefix, look, counted.clone(), pages, timeout);
        Self { store: Arc::new(store), objects, counted }
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let key = Path::parse(format!("pre/fix/{path}")).unwrap();
        let put = self.objects.put(&key, content.to_vec().into());
        futures_util::FutureExt::now_or_never(put).unwrap().unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let key = Path::parse(format!("pre/fix/{path}")).unwrap();
        futures_util::FutureExt::now_or_never(self.objects.delete(&key)).unwrap().unwrap();
    }
}
