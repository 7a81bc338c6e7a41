//! Listings of a size that no test could put into a bucket.

use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use object_store::list::PaginatedListResult;
use object_store::memory::InMemory;
use object_store::{ListResult, ObjectMeta};

use super::*;

/// Pages of made-up keys.
struct Pages {
    pages: usize,
    keys: usize,
    name: fn(usize) -> String,
    asked: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl PaginatedListStore for Pages {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> object_store::Result<PaginatedListResult> {
        let prefix = prefix.unwrap_or_default();
        self.asked.fetch_add(1, Relaxed);
        let page: usize = options.page_token.map_or(0, |token| token.parse().unwrap());
        let object = |n| ObjectMeta {
            location: Path::parse(format!("{prefix}{}", (self.name)(n))).unwrap(),
            last_modified: Default::default(),
            size: 1,
            e_tag: Some("e".repeat(200)),
            version: None,
        };
        let objects = (page * self.keys..(page + 1) * self.keys).map(object).collect();
        Ok(PaginatedListResult {
            result: ListResult { common_prefixes: Vec::new(), objects, extensions: Default::default() },
            page_token: (page + 1 < self.pages).then(|| (page + 1).to_string()),
        })
    }
}

#[tokio::test]
async fn a_listing_that_takes_much_memory_is_kept_and_counted() {
    let name = |n| format!("{n:07}{}", "n".repeat(200));
    let pages = Arc::new(Pages { pages: 4, keys: 25_000, name, asked: Default::default() });
    let look = Look { ttl: Duration::from_secs(3600), ..Look::default() };
    let timeout = Duration::from_secs(60);
    let store = Bucket::new("b".into(), "", look, Arc::new(InMemory::new()), pages.clone(), timeout);
    let first = store.read_dir(&StorePath::root(), 0, 10).await.unwrap();
    assert_eq!(pages.asked.load(Relaxed), 4);
    let listing = store.0.listings.get(&StorePath::root()).unwrap().listing;
    assert!(listing.bytes >= 100_000 * (160 + 207 + 200), "{}", listing.bytes);
    let last = first.entries.last().unwrap().cookie;
    assert_eq!(store.read_dir(&StorePath::root(), last, 10).await.unwrap().entries.len(), 10);
    assert_eq!(pages.asked.load(Relaxed), 4);
}

#[tokio::test]
async fn keys_that_are_no_names_have_an_end() {
    let name = |n| format!("{n:07}{}", "n".repeat(300));
    let pages = Pages { pages: 1000, keys: 10_000, name, asked: Default::default() };
    let error = keys::list(&pages, "", &StorePath::root(), Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::TooLarge);
    assert_eq!(pages.asked.load(Relaxed), 11);
}
