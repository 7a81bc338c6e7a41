//! Listings of keys: in pages, with the keys passed over that are no names, and bounded whatever the server says.

use std::borrow::Cow;
use std::collections::{HashMap, hash_map};
use std::time::Duration;

use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{Error, path};

use super::super::StoreErrorKind;
use super::super::path::short_hash;
use super::super::{NAME_MAX, Result, StoreError, StorePath};
use super::fail::{fail, refuse, silent};
use super::version::Version;

/// The most names of one directory.
pub(super) const NAMES_MAX: usize = 1_000_000;
/// The most memory for one directory.
pub(super) const LISTING_MAX: u64 = 256 * 1024 * 1024;
/// The most keys of one directory that are no names, such as those that are too long.
const UNNAMED_MAX: usize = 100_000;
/// The most keys that are no names and are passed over in one listing: each costs requests of its own.
const STRANGE_MAX: usize = 100;
/// Keys asked for at once when a page cannot be read for one of them.
const CAREFUL: usize = 512;
/// The most pages of one listing that bring nothing.
const EMPTY_MAX: usize = 16;
/// The cookies of `.` and `..`; names come behind.
pub(super) const DOT: u64 = 1;
pub(super) const DOT_DOT: u64 = 2;

/// What a name in a directory is.
#[derive(Clone, Debug)]
pub(super) enum Found {
    File(Version),
    Directory,
}

/// A directory as it was listed.
#[derive(Debug)]
pub(super) struct Listing {
    /// By cookie.
    pub(super) entries: Vec<Entry>,
    /// Memory that it takes.
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) cookie: u64,
    pub(super) name: Box<str>,
    pub(super) found: Found,
}

impl Listing {
    /// What `name` is; `None` when it is not there.
    pub(super) fn find(&self, name: &str) -> Option<&Found> {
        let cookie = cookie_of(name);
        let start = self.entries.partition_point(|entry| entry.cookie < cookie);
        // Names of one hash follow each other.
        let mut near = self.entries.iter().skip(start).take_while(|entry| entry.cookie - cookie < 64);
        near.find(|entry| &*entry.name == name).map(|entry| &entry.found)
    }
}

/// Where a name stands in every listing of every gateway, whatever stands beside it.
fn cookie_of(name: &str) -> u64 {
    // The two highest are the export's own.
    short_hash(name.as_bytes()).clamp(DOT_DOT + 1, i64::MAX.unsigned_abs() - 4096)
}

/// Pages through all keys with a prefix.
pub(super) struct Pager<'a> {
    pub(super) pages: &'a dyn PaginatedListStore,
    pub(super) prefix: &'a str,
    /// Keys behind a slash come as one directory.
    pub(super) delimited: bool,
    pub(super) path: &'a StorePath,
    /// For one page.
    timeout: Duration,
    token: Option<String>,
    /// The last key that was seen or passed over.
    after: Option<String>,
    /// How many keys are asked for, when a page could not be read.
    careful: Option<usize>,
    strange: usize,
    empty: usize,
    done: bool,
}

/// A page of keys: objects with their versions, and directories.
pub(super) struct Page {
    pub(super) objects: Vec<object_store::ObjectMeta>,
    pub(super) directories: Vec<path::Path>,
}

impl<'a> Pager<'a> {
    pub(super) fn new(
        pages: &'a dyn PaginatedListStore,
        prefix: &'a str,
        delimited: bool,
        path: &'a StorePath,
        timeout: Duration,
    ) -> Self {
        let (token, after, careful) = (None, None, None);
        Self {
            pages,
            prefix,
            delimited,
            path,
            timeout,
            token,
            after,
            careful,
            strange: 0,
            empty: 0,
            done: false,
        }
    }

    /// The next page of at most `max` keys; `None` behind the last.
    pub(super) async fn next(&mut self, max: Option<usize>) -> Result<Option<Page>> {
        while !self.done {
            let max_keys = self.careful.or(max);
            let options = PaginatedListOptions {
                offset: if self.token.is_some() { None } else { self.after.clone() },
                delimiter: self.delimited.then_some(Cow::Borrowed("/")),
                max_keys,
                page_token: self.token.take(),
                ..Default::default()
            };
            let prefix = (!self.prefix.is_empty()).then_some(self.prefix);
            let asked = tokio::time::timeout(self.timeout, self.pages.list_paginated(prefix, options)).await;
            match asked.map_err(|_| silent("list", self.path))? {
                Ok(answer) => {
                    self.done = answer.page_token.is_none();
                    self.token = answer.page_token;
                    let page =
                        Page { objects: answer.result.objects, directories: answer.result.common_prefixes };
                    // Pages bring what comes behind all before; a few bring nothing.
                    self.empty = if self.remember(&page) { 0 } else { self.empty + 1 };
                    if self.empty > EMPTY_MAX {
                        return Err(self.refused("its listing has no end"));
                    }
                    return Ok(Some(page));
                }
                Err(error) => match strange_key(&error) {
                    Some(key) => self.pass_over(&key, max_keys)?,
                    None => return Err(fail("list", self.path)(error)),
                },
            }
        }
        Ok(None)
    }

    /// Remembers how far the listing has come; whether it has gone on.
    fn remember(&mut self, page: &Page) -> bool {
        let objects = page.objects.iter().map(|meta| meta.location.to_string());
        let directories = page.directories.iter().map(|path| format!("{path}/\u{10ffff}"));
        let last = objects.chain(directories).max();
        let on = last > self.after;
        if on {
            self.after = last;
        }
        on
    }

    /// A page cannot be read for one key in it: the keys before it are asked for in smaller pages, and the
    /// listing goes on behind it.
    fn pass_over(&mut self, key: &str, asked: Option<usize>) -> Result<()> {
        self.token = None;
        match asked {
            Some(1) => {
                let behind = if key.ends_with('/') { format!("{key}\u{10ffff}") } else { key.to_owned() };
                self.strange += 1;
                if self.strange > STRANGE_MAX || self.after.as_ref().is_some_and(|after| *after >= behind) {
                    return Err(self.refused("it holds too many keys that are no names"));
                }
                (self.after, self.careful) = (Some(behind), Some(CAREFUL));
            }
            Some(more) => self.careful = Some((more / 4).max(1)),
            None => self.careful = Some(CAREFUL),
        }
        Ok(())
    }

    fn refused(&self, why: &str) -> StoreError {
        refuse(StoreErrorKind::Io, "list", self.path, why)
    }
}

/// The key for which a page could not be read.
fn strange_key(error: &Error) -> Option<String> {
    match error {
        Error::InvalidPath { source: path::Error::EmptySegment { path } } => Some(path.clone()),
        Error::InvalidPath { source: path::Error::BadSegment { path, .. } } => Some(path.clone()),
        _ => None,
    }
}

/// Lists the directory `path`, whose keys start with `prefix`.
pub(super) async fn list(
    pages: &dyn PaginatedListStore,
    prefix: &str,
    path: &StorePath,
    timeout: Duration,
) -> Result<Listing> {
    let mut names: HashMap<Box<str>, Found> = HashMap::new();
    let (mut bytes, mut unnamed) = (256, 0);
    let mut pager = Pager::new(pages, prefix, true, path, timeout);
    while let Some(page) = pager.next(None).await? {
        for directory in &page.directories {
            let Some(name) = name_below(directory.as_ref(), prefix) else {
                unnamed += 1;
                continue;
            };
            // A file of the same name cannot be reached.
            if names.insert(name.into(), Found::Directory).is_none() {
                bytes += memory(name, None);
            }
        }
        for meta in &page.objects {
            let Some(name) = name_below(meta.location.as_ref(), prefix) else {
                unnamed += 1;
                continue;
            };
            if let hash_map::Entry::Vacant(place) = names.entry(name.into()) {
                let version = Version::of(meta, None);
                bytes += memory(name, Some(&version));
                place.insert(Found::File(version));
            }
        }
        if names.len() > NAMES_MAX || bytes > LISTING_MAX || unnamed > UNNAMED_MAX {
            let why = format!("it holds more than {NAMES_MAX} names, or too much that is none");
            return Err(refuse(StoreErrorKind::TooLarge, "list", path, why));
        }
    }
    let entry = |(name, found): (Box<str>, Found)| Entry { cookie: cookie_of(&name), name, found };
    let mut entries: Vec<_> = names.into_iter().map(entry).collect();
    entries.sort_unstable_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
    let mut last = DOT_DOT;
    for entry in &mut entries {
        entry.cookie = entry.cookie.max(last + 1);
        last = entry.cookie;
    }
    Ok(Listing { entries, bytes })
}

/// What a name takes.
fn memory(name: &str, version: Option<&Version>) -> u64 {
    let etag = version.and_then(|version| version.etag.as_ref()).map_or(0, |etag| 16 + etag.len());
    160 + (name.len() + etag) as u64
}

/// The name of a key below `prefix`, if it can be one. What ends with a slash was cut already.
fn name_below<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    let name = key.strip_prefix(prefix)?;
    let possible = !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.contains(['/', '\0'])
        && name != "."
        && name != "..";
    possible.then_some(name)
}
