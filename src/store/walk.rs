//! Every name below a directory of a store, in order, with bounded memory whatever the store says.
//!
//! The order is that of the names' bytes, component by component, and a directory stands before what is in it;
//! so a path says how far a walk has come. Names are kept in windows: what does not fit is read again when its
//! turn has come.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Kind, Result, Store, StoreError, StoreErrorKind, StorePath};

/// Entries read from a directory at once.
const PAGE: usize = 4096;
/// Entries of one directory, at most: it may have no end.
const ENTRIES_MAX: usize = 64 * 1024 * 1024;
/// What keeping a name costs beyond its bytes.
const NAME_COST: usize = 96;

/// How much a [`Walk`] keeps, in bytes.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Names of one directory.
    window: usize,
    /// Names of all directories.
    all: usize,
}

const ROOM: Room = Room { window: 16 * 1024 * 1024, all: 64 * 1024 * 1024 };

/// What a walk comes across.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(StorePath),
    /// What is neither a file nor a directory. Symbolic links are never followed.
    Other(StorePath),
    /// Something that could not be looked at; what is below it is left out.
    Trouble(StoreError),
}

/// A walk that is under way.
pub struct Walk {
    store: Arc<dyn Store>,
    hidden: Option<StorePath>,
    levels: Vec<Level>,
    held: usize,
    has_hidden: bool,
    room: Room,
}

/// A directory that the walk is in.
struct Level {
    directory: StorePath,
    /// The last name that was taken.
    after: Option<Vec<u8>>,
    /// The names that come next.
    names: VecDeque<(Vec<u8>, Option<Kind>)>,
    /// Nothing follows `names`.
    all: bool,
}

impl Level {
    fn new(directory: StorePath, after: Option<Vec<u8>>) -> Self {
        Self { directory, after, names: VecDeque::new(), all: false }
    }

    fn cost(&self) -> usize {
        self.names.iter().map(|(name, _)| cost(name)).sum()
    }
}

fn cost(name: &[u8]) -> usize {
    name.len() + NAME_COST
}

impl Walk {
    /// A walk through the directory `base` that leaves out `hidden` and all below it, and all that comes before
    /// `after` and `after` itself. A path that does not lie below `base` stands for its start.
    pub fn new(
        store: Arc<dyn Store>,
        base: &StorePath,
        hidden: Option<StorePath>,
        after: Option<&StorePath>,
    ) -> Self {
        let mut levels = vec![Level::new(base.clone(), None)];
        if let Some(after) = after.filter(|after| after.starts_with(base)) {
            let mut directory = base.clone();
            for name in after.components().skip(base.components().count()) {
                if let Some(level) = levels.last_mut() {
                    level.after = Some(name.to_vec());
                }
                let Ok(next) = directory.join(name) else { break };
                levels.push(Level::new(next.clone(), None));
                directory = next;
            }
            // `after` itself is done.
            if levels.len() > 1 {
                levels.pop();
            }
        }
        Self { store, hidden, levels, held: 0, has_hidden: false, room: ROOM }
    }

    /// The next thing; `None` at the end.
    pub async fn next(&mut self) -> Option<Found> {
        loop {
            let level = self.levels.last_mut()?;
            let Some((name, kind)) = level.names.pop_front() else {
                if level.all {
                    self.levels.pop();
                } else if let Err(error) = self.fill().await {
                    let level = self.levels.pop()?;
                    return Some(match error.kind {
                        // It is something else by now.
                        StoreErrorKind::NotADirectory => self.single(level.directory, error).await,
                        _ => Found::Trouble(error),
                    });
                }
                continue;
            };
            self.held = self.held.saturating_sub(cost(&name));
            let path = level.directory.join(&name);
            level.after = Some(name);
            let path = match path {
                Ok(path) => path,
                Err(error) => {
                    let (kind, source) = (StoreErrorKind::NameTooLong, std::io::Error::other(error));
                    let error = StoreError::new(kind, "enter all of it", &level.directory, source);
                    return Some(Found::Trouble(error));
                }
            };
            if self.hidden.as_ref() == Some(&path) {
                self.has_hidden = true;
                continue;
            }
            let kind = match kind {
                Some(kind) => Ok(kind),
                None => self.store.stat(&path).await.map(|attr| attr.kind),
            };
            match kind {
                Ok(Kind::Regular) => return Some(Found::File(path)),
                Ok(Kind::Directory) => self.levels.push(Level::new(path, None)),
                Ok(_) => return Some(Found::Other(path)),
                Err(error) => return Some(Found::Trouble(error)),
            }
        }
    }

    /// Whether what is hidden was come across.
    pub fn has_hidden(&self) -> bool {
        self.has_hidden
    }

    async fn single(&self, path: StorePath, error: StoreError) -> Found {
        match self.store.stat(&path).await.map(|attr| attr.kind) {
            Ok(Kind::Regular) => Found::File(path),
            Ok(Kind::Directory) => Found::Trouble(error),
            Ok(_) => Found::Other(path),
            Err(error) => Found::Trouble(error),
        }
    }

    /// Reads the names of the innermost directory that come next, as many as there is room for.
    async fn fill(&mut self) -> Result<()> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let directory = &level.directory;
        let (mut names, mut bytes, mut seen, mut cookie) = (BTreeMap::new(), 0, 0_usize, 0);
        level.all = true;
        loop {
            let page = self.store.read_dir(directory, cookie, PAGE).await?;
            let follow = page.entries.last().map(|last| last.cookie).filter(|last| *last != cookie);
            seen = seen.saturating_add(page.entries.len());
            for entry in page.entries {
                let is_done = level.after.as_ref().is_some_and(|after| entry.name <= *after);
                if is_done || matches!(&entry.name[..], b"." | b"..") {
                    continue;
                }
                let more = cost(&entry.name);
                if names.insert(entry.name, entry.kind).is_none() {
                    bytes += more;
                }
                while bytes > self.room.window && names.len() > 1 {
                    let Some((name, _)) = names.pop_last() else { break };
                    bytes -= cost(&name);
                    level.all = false;
                }
            }
            if seen > ENTRIES_MAX {
                let source = std::io::Error::other("there are too many names");
                return Err(StoreError::new(StoreErrorKind::TooLarge, "list", directory, source));
            }
            match follow {
                Some(last) if !page.end => cookie = last,
                _ => break,
            }
        }
        level.names = names.into_iter().collect();
        self.held += bytes;
        let inner = self.levels.len().saturating_sub(1);
        for outer in self.levels.iter_mut().take(inner) {
            if self.held <= self.room.all {
                break;
            }
            if !outer.names.is_empty() {
                self.held = self.held.saturating_sub(outer.cost());
                outer.names = VecDeque::new();
                outer.all = false;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    const NAMES: [&str; 9] = ["a/b", "a/b0/c", "a/b0/d/e", "a-b", "a0/x", "b", "c/d/e/f/g", "h/i", "z"];

    async fn tree(names: &[&str]) -> Arc<dyn Store> {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        for name in names {
            let path = StorePath::parse(name.as_bytes()).unwrap();
            let scratch = StorePath::parse(b"scratch").unwrap();
            store.create(&path, &scratch).await.unwrap().commit().await.unwrap();
        }
        store
    }

    async fn files(mut walk: Walk) -> Vec<String> {
        let mut files = Vec::new();
        while let Some(found) = walk.next().await {
            match found {
                Found::File(path) => files.push(path.to_string()),
                other => panic!("{other:?}"),
            }
        }
        files
    }

    fn path(text: &str) -> StorePath {
        StorePath::parse(text.as_bytes()).unwrap()
    }

    /// By components, as a walk goes.
    fn sorted(names: &[&str]) -> Vec<String> {
        let mut names = names.to_vec();
        names.sort_by(|a, b| a.split('/').cmp(b.split('/')));
        names.into_iter().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn every_file_comes_once_in_order_whatever_room_there_is() {
        let store = tree(&NAMES).await;
        for room in [Room { window: 1, all: 0 }, Room { window: 250, all: 300 }, ROOM] {
            let mut walk = Walk::new(store.clone(), &StorePath::root(), Some(path("scratch")), None);
            walk.room = room;
            assert_eq!(files(walk).await, sorted(&NAMES), "{room:?}");
        }
    }

    #[tokio::test]
    async fn a_walk_goes_on_behind_any_path_that_is_there_or_not() {
        let store = tree(&NAMES).await;
        let all = sorted(&NAMES);
        for after in ["", "a", "a/b", "a/b0/d", "a/b0/d/e", "a/b0/dd", "a0", "c/d/e/f/g", "c/x", "z", "zz"] {
            // What is below a path that is done is done, too.
            let follows = |name: &&String| {
                let is_behind = name.split('/').gt(after.split('/'));
                after.is_empty() || is_behind && !path(name).starts_with(&path(after))
            };
            let wanted: Vec<String> = all.iter().filter(follows).cloned().collect();
            let walk =
                Walk::new(store.clone(), &StorePath::root(), Some(path("scratch")), Some(&path(after)));
            assert_eq!(files(walk).await, wanted, "{after}");
        }
    }

    #[tokio::test]
    async fn a_part_of_the_tree_is_walked_alone() {
        let store = tree(&NAMES).await;
        let below = |after: Option<&str>| {
            let after = after.map(path);
            files(Walk::new(store.clone(), &path("a"), None, after.as_ref()))
        };
        assert_eq!(below(None).await, ["a/b", "a/b0/c", "a/b0/d/e"]);
        assert_eq!(below(Some("a/b0/c")).await, ["a/b0/d/e"]);
        assert_eq!(below(Some("b")).await.len(), 3, "a path elsewhere is no place in it");
    }

    #[tokio::test]
    async fn what_names_no_directory_is_told() {
        let store = tree(&NAMES).await;
        let mut walk = Walk::new(store.clone(), &path("none"), None, None);
        assert!(matches!(walk.next().await, Some(Found::Trouble(e)) if e.kind == StoreErrorKind::NotFound));
        assert!(walk.next().await.is_none());
        assert_eq!(files(Walk::new(store, &path("b"), None, None)).await, ["b"], "a file is itself");
    }
}
