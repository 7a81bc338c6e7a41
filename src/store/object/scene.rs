//! A bucket in memory, with listings in pages as servers give them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as Done,
};
use parking_lot::Mutex;

use super::super::Store;
use super::Bucket;
use super::address::Look;

/// Keys in one page.
const PAGE: usize = 300;

struct Paged(InMemory);

#[async_trait]
impl PaginatedListStore for Paged {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> object_store::Result<PaginatedListResult> {
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
        Ok(PaginatedListResult { result, page_token })
    }
}

/// Counts what is asked of it.
#[derive(Debug)]
pub(super) struct Counted {
    inner: InMemory,
    /// The ranges of bytes that were asked for.
    pub(super) reads: Mutex<Vec<Range<u64>>>,
    pub(super) heads: AtomicUsize,
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
        self.inner.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Done<GetResult> {
        match (&options.range, options.head) {
            (_, true) => _ = self.heads.fetch_add(1, Ordering::Relaxed),
            (Some(GetRange::Bounded(range)), _) => self.reads.lock().push(range.clone()),
            (None, _) => self.reads.lock().push(0..u64::MAX),
            (range, _) => panic!("{range:?}"),
        }
        self.inner.get_opts(from, options).await
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
pub(in crate::store) struct Scene {
    pub(in crate::store) store: Arc<dyn Store>,
    pub(super) objects: InMemory,
    pub(super) counted: Arc<Counted>,
}

impl Scene {
    /// Nothing is remembered, so that changes are seen at once.
    pub(in crate::store) fn new() -> Self {
        Self::with("pre/fix/", Look { metadata: true, ttl: Duration::ZERO, ..Look::default() })
    }

    pub(super) fn with(prefix: &str, look: Look) -> Self {
        let objects = InMemory::new();
        let pages = Arc::new(Paged(objects.clone()));
        let counted =
            Arc::new(Counted { inner: objects.clone(), reads: Mutex::default(), heads: AtomicUsize::new(0) });
        let timeout = Duration::from_secs(10);
        let store = Bucket::new("bucket".into(), prefix, look, counted.clone(), pages, timeout);
        Self { store: Arc::new(store), objects, counted }
    }

    pub(in crate::store) fn put(&self, path: &str, content: &[u8]) {
        let key = Path::parse(format!("pre/fix/{path}")).unwrap();
        let put = self.objects.put(&key, content.to_vec().into());
        futures_util::FutureExt::now_or_never(put).unwrap().unwrap();
    }

    pub(in crate::store) fn remove(&self, path: &str) {
        let key = Path::parse(format!("pre/fix/{path}")).unwrap();
        futures_util::FutureExt::now_or_never(self.objects.delete(&key)).unwrap().unwrap();
    }
}
