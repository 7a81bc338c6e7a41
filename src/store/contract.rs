//! What every store has to hold, run against [`Local`], [`Memory`], a directory over NFS, and a bucket in memory.
//! A bucket has no links, pipes and extended attributes; what has to do with those is asked of the others
//! alone.

use std::collections::HashSet;
use std::sync::Arc;

use super::object::scene::Scene as Bucket;
use super::upstream::scene::Scene as Served;
use super::*;

/// A store, and a way to change it behind its back.
struct Scene {
    store: Arc<dyn Store>,
    back: Back,
}

enum Back {
    Local(tempfile::TempDir),
    Memory(Memory),
    Upstream { directory: tempfile::TempDir, _server: Served },
    Bucket(Bucket),
}

impl Scene {
    fn file_systems() -> [Self; 3] {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new();
        let exported = tempfile::tempdir().unwrap();
        let served = Served::new(exported.path());
        [
            Self { store: Arc::new(Local::new(directory.path()).unwrap()), back: Back::Local(directory) },
            Self { store: Arc::new(memory.clone()), back: Back::Memory(memory) },
            Self {
                store: served.store.clone(),
                back: Back::Upstream { directory: exported, _server: served },
            },
        ]
    }

    fn all() -> Vec<Self> {
        let bucket = Bucket::new();
        let bucket = Self { store: bucket.store.clone(), back: Back::Bucket(bucket) };
        Self::file_systems().into_iter().chain([bucket]).collect()
    }

    /// Whether it has whatever a file system has.
    fn is_file_system(&self) -> bool {
        !matches!(self.back, Back::Bucket(_))
    }

    fn put(&self, path: &str, content: &[u8]) {
        match &self.back {
            Back::Local(directory) | Back::Upstream { directory, .. } => {
                let file = directory.path().join(path);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(directory.path().join("..put"), content).unwrap();
                std::fs::rename(directory.path().join("..put"), file).unwrap();
            }
            Back::Memory(memory) => memory.put(path, content).unwrap(),
            Back::Bucket(bucket) => bucket.put(path, content),
        }
    }

    fn put_dir(&self, path: &str) {
        match &self.back {
            Back::Local(directory) | Back::Upstream { directory, .. } => {
                std::fs::create_dir_all(directory.path().join(path)).unwrap()
            }
            Back::Memory(memory) => memory.put_dir(path).unwrap(),
            // There are none without anything in them.
            Back::Bucket(bucket) => bucket.put(&format!("{path}/kept"), b""),
        }
    }

    fn put_symlink(&self, path: &str, target: &str) {
        match &self.back {
            Back::Local(directory) | Back::Upstream { directory, .. } => {
                std::os::unix::fs::symlink(target, directory.path().join(path)).unwrap();
            }
            Back::Memory(memory) => memory.put_symlink(path, target.as_bytes()).unwrap(),
            Back::Bucket(_) => {}
        }
    }

    fn put_fifo(&self, path: &str) {
        match &self.back {
            Back::Local(directory) | Back::Upstream { directory, .. } => {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    directory.path().join(path),
                    rustix::fs::FileType::Fifo,
                    mode,
                    0,
                )
                .unwrap();
            }
            Back::Memory(memory) => memory.put_special(path, Kind::Fifo).unwrap(),
            Back::Bucket(_) => {}
        }
    }

    fn remove(&self, path: &str) {
        match &self.back {
            Back::Local(directory) | Back::Upstream { directory, .. } => {
                std::fs::remove_file(directory.path().join(path)).unwrap()
            }
            Back::Memory(memory) => memory.remove(path).unwrap(),
            Back::Bucket(bucket) => bucket.remove(path),
        }
    }

    async fn create(&self, target: &StorePath, pieces: &[(u64, &[u8])]) -> Result<()> {
        let mut writer = self.store.create(target, &path("scratch/new")).await?;
        for (offset, data) in pieces {
            writer.write_at(*offset, data).await?;
        }
        writer.commit().await
    }

    async fn content(&self, target: &StorePath) -> Result<Bytes> {
        self.store.open(target).await?.read_at(0, READ_MAX).await
    }

    /// Whether nothing is left in `directory`; over NFS it goes behind its owner's back.
    async fn is_emptied(&self, directory: &StorePath) -> bool {
        for _ in 0..1000 {
            if self.names(directory).await == [&b"."[..], b".."] {
                return true;
            }
            if !matches!(self.back, Back::Upstream { .. }) {
                return false;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        false
    }

    async fn names(&self, directory: &StorePath) -> Vec<Vec<u8>> {
        let page = self.store.read_dir(directory, 0, usize::MAX).await.unwrap();
        assert!(page.end);
        let mut names: Vec<_> = page.entries.into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    }
}

fn path(bytes: impl AsRef<[u8]>) -> StorePath {
    StorePath::parse(bytes.as_ref()).unwrap()
}

fn kind_of<T>(answer: Result<T>) -> StoreErrorKind {
    answer.err().unwrap().kind
}

#[tokio::test]
async fn what_was_created_is_read_back() {
    for scene in Scene::all() {
        let target = path("a/b/file");
        let pieces = [(0, &b"hello "[..]), (6, b"world"), (20, b"end")];
        scene.create(&target, &pieces).await.unwrap();
        let expected = b"hello world\0\0\0\0\0\0\0\0\0end";
        assert_eq!(scene.content(&target).await.unwrap().as_ref(), expected);
        let file = scene.store.open(&target).await.unwrap();
        for (offset, len) in [(0, 5), (6, 5), (6, 1000), (22, 10), (23, 1), (24, 0), (u64::MAX, 7), (0, 0)] {
            let start = usize::try_from(offset).unwrap().min(23);
            let right = &expected[start..(start + len).min(23)];
            assert_eq!(file.read_at(offset, len).await.unwrap().as_ref(), right, "{offset} {len}");
            if let Some(cached) = file.try_read_at(offset, len) {
                assert_eq!(cached.as_ref(), right, "{offset} {len}");
            }
            for piece in [1, 4, 7, 100] {
                let pieces = file.read_pieces(offset, len, piece).await.unwrap();
                assert_eq!(pieces.concat(), right, "{offset} {len} {piece}");
                assert!(pieces.iter().rev().skip(1).all(|bytes| bytes.len() == piece));
                assert!(pieces.iter().all(|bytes| !bytes.is_empty()));
            }
        }
        let attr = scene.store.stat(&target).await.unwrap();
        assert_eq!((attr.kind, attr.size, attr.nlink), (Kind::Regular, 23, 1));
        assert_eq!(file.stat().await.unwrap(), attr);
        assert_eq!(scene.store.stat(&StorePath::root()).await.unwrap().kind, Kind::Directory);
        assert_eq!(scene.names(&path("a/b")).await, [&b"."[..], b"..", b"file"]);
        let space = scene.store.stat_fs().await.unwrap();
        assert!(space.total_bytes >= space.free_bytes && space.name_max == 255 && space.link_max > 0);
    }
}

#[tokio::test]
async fn creating_replaces_a_file_and_a_symbolic_link_but_no_directory() {
    for scene in Scene::all() {
        scene.put("f", b"old");
        scene.put("target", b"target");
        scene.put_dir("d");
        scene.put_symlink("l", "target");
        scene.create(&path("f"), &[(0, b"new")]).await.unwrap();
        scene.create(&path("l"), &[(0, b"mine")]).await.unwrap();
        assert_eq!(scene.content(&path("f")).await.unwrap().as_ref(), b"new");
        assert_eq!(scene.content(&path("l")).await.unwrap().as_ref(), b"mine");
        assert_eq!(scene.content(&path("target")).await.unwrap().as_ref(), b"target");
        assert_eq!(kind_of(scene.create(&path("d"), &[(0, b"x")]).await), StoreErrorKind::IsADirectory);
        assert_eq!(kind_of(scene.create(&path("f/g"), &[]).await), StoreErrorKind::NotADirectory);
        assert_eq!(kind_of(scene.create(&StorePath::root(), &[]).await), StoreErrorKind::IsADirectory);
        scene.put_symlink("out", "d");
        if scene.is_file_system() {
            assert_eq!(kind_of(scene.create(&path("out/g"), &[]).await), StoreErrorKind::Symlink);
        }
        if scene.store.stat(&path("scratch/new")).await.is_ok() {
            assert!(scene.is_emptied(&path("scratch/new")).await, "nothing is left over");
        }
    }
}

#[tokio::test]
async fn an_abandoned_writer_leaves_the_old_state() {
    for scene in Scene::all() {
        scene.put("f", b"old");
        let mut writer = scene.store.create(&path("f"), &path("scratch")).await.unwrap();
        writer.write_at(0, b"new").await.unwrap();
        assert_eq!(scene.content(&path("f")).await.unwrap().as_ref(), b"old");
        drop(writer);
        drop(scene.store.create(&path("new/file"), &path("scratch")).await.unwrap());
        assert_eq!(scene.content(&path("f")).await.unwrap().as_ref(), b"old");
        assert_eq!(kind_of(scene.store.stat(&path("new")).await), StoreErrorKind::NotFound);
        if scene.store.stat(&path("scratch")).await.is_ok() {
            assert!(scene.is_emptied(&path("scratch")).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_the_old_or_the_new_content_and_never_a_mixture() {
    for scene in Scene::all() {
        let target = path("d/f");
        let version = |n: u8| vec![n; 10_000 + usize::from(n)];
        scene.create(&target, &[(0, &version(0))]).await.unwrap();
        let (store, watched) = (scene.store.clone(), target.clone());
        let reader = tokio::spawn(async move {
            let mut last = 0;
            while last < 20 {
                let file = store.open(&watched).await.unwrap();
                let bytes = match file.read_at(0, READ_MAX).await {
                    // A bucket keeps no old versions for those who have them open.
                    Err(error) if error.kind == StoreErrorKind::Stale => continue,
                    bytes => bytes.unwrap(),
                };
                assert!(bytes[0] >= last);
                last = bytes[0];
                assert_eq!(bytes, vec![last; 10_000 + usize::from(last)]);
            }
        });
        for n in 1..=20 {
            let new = version(n);
            scene.create(&target, &[(0, &new[..5000]), (5000, &new[5000..])]).await.unwrap();
        }
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_symbolic_link_is_refused_in_every_component() {
    for scene in Scene::file_systems() {
        scene.put("d/e/f", b"x");
        for (link, target) in
            [("d/up", ".."), ("l", "d"), ("d/abs", "/etc"), ("d/e/l", "f"), ("loop", "loop")]
        {
            scene.put_symlink(link, target);
            let link = path(link);
            let store = &scene.store;
            assert_eq!(store.stat(&link).await.unwrap().kind, Kind::Symlink);
            assert_eq!(store.read_link(&link).await.unwrap(), target.as_bytes());
            assert_eq!(kind_of(store.open(&link).await), StoreErrorKind::Symlink);
            assert_eq!(kind_of(store.read_dir(&link, 0, 9).await), StoreErrorKind::Symlink);
            let below = link.join(b"f").unwrap();
            assert_eq!(kind_of(store.stat(&below).await), StoreErrorKind::Symlink);
            assert_eq!(kind_of(store.open(&below).await), StoreErrorKind::Symlink);
            assert_eq!(kind_of(store.read_link(&below).await), StoreErrorKind::Symlink);
            assert_eq!(kind_of(store.read_dir(&below, 0, 9).await), StoreErrorKind::Symlink);
            assert_eq!(kind_of(store.remove(&below).await), StoreErrorKind::Symlink);
            assert_eq!(kind_of(scene.create(&below, &[]).await), StoreErrorKind::Symlink);
        }
        assert_eq!(kind_of(scene.store.read_link(&path("d/e/f")).await), StoreErrorKind::Io);
        assert_eq!(kind_of(scene.store.read_link(&path("d")).await), StoreErrorKind::Io);
    }
}

#[tokio::test]
async fn what_is_no_regular_file_is_not_opened_and_does_not_block() {
    for scene in Scene::all() {
        scene.put_fifo("fifo");
        scene.put("f", b"");
        let store = &scene.store;
        if scene.is_file_system() {
            assert_eq!(store.stat(&path("fifo")).await.unwrap().kind, Kind::Fifo);
            assert_eq!(kind_of(store.open(&path("fifo")).await), StoreErrorKind::NotRegular);
            assert_eq!(kind_of(store.open(&path("fifo/f")).await), StoreErrorKind::NotADirectory);
            assert_eq!(kind_of(store.read_dir(&path("fifo"), 0, 9).await), StoreErrorKind::NotADirectory);
        }
        assert_eq!(kind_of(store.open(&StorePath::root()).await), StoreErrorKind::IsADirectory);
        assert_eq!(kind_of(store.open(&path("none")).await), StoreErrorKind::NotFound);
        assert_eq!(kind_of(store.open(&path("none/f")).await), StoreErrorKind::NotFound);
        assert_eq!(kind_of(store.open(&path("f/none")).await), StoreErrorKind::NotADirectory);
        assert_eq!(kind_of(store.read_dir(&path("f"), 0, 9).await), StoreErrorKind::NotADirectory);
        assert_eq!(kind_of(store.read_dir(&path("none"), 0, 9).await), StoreErrorKind::NotFound);
    }
}

#[tokio::test]
async fn any_name_that_a_file_system_takes_works() {
    for scene in Scene::file_systems() {
        let longest = [b'n'; NAME_MAX];
        let names = [&longest[..], b"new\nline", b"\xff\xfe not utf-8", b" ", b"...", b"back\\slash", b"*"];
        for name in names {
            let target = path("dir").join(name).unwrap();
            scene.create(&target, &[(0, name)]).await.unwrap();
            assert_eq!(scene.content(&target).await.unwrap().as_ref(), name);
        }
        let mut expected: Vec<_> =
            names.iter().chain(&[&b"."[..], b".."]).map(|name| name.to_vec()).collect();
        expected.sort();
        assert_eq!(scene.names(&path("dir")).await, expected);
        for name in names {
            scene.store.remove(&path("dir").join(name).unwrap()).await.unwrap();
        }
        assert_eq!(scene.names(&path("dir")).await.len(), 2);
    }
}

#[tokio::test]
async fn paths_longer_than_a_system_call_takes_work() {
    for scene in Scene::file_systems() {
        let directory = path(["a-name-of-20-bytes--"; 300].join("/"));
        assert!(directory.as_bytes().len() > 4096);
        let file = directory.join(b"file").unwrap();
        assert_eq!(kind_of(scene.store.stat(&file).await), StoreErrorKind::NotFound);
        scene.create(&file, &[(0, b"deep")]).await.unwrap();
        assert_eq!(scene.store.stat(&file).await.unwrap().size, 4);
        assert_eq!(scene.content(&file).await.unwrap().as_ref(), b"deep");
        assert_eq!(scene.names(&directory).await, [&b"."[..], b"..", b"file"]);
        let below = file.join(b"x").unwrap();
        assert_eq!(kind_of(scene.store.stat(&below).await), StoreErrorKind::NotADirectory);
        scene.store.remove(&file).await.unwrap();
        assert_eq!(kind_of(scene.store.open(&file).await), StoreErrorKind::NotFound);
        scene.create(&file, &[(0, b"again")]).await.unwrap();
        scene.store.remove(&path("a-name-of-20-bytes--")).await.unwrap();
        assert_eq!(kind_of(scene.store.stat(&path("a-name-of-20-bytes--")).await), StoreErrorKind::NotFound);
    }
}

#[tokio::test]
async fn removal_takes_whole_trees_and_follows_no_link() {
    for scene in Scene::all() {
        scene.put("keep/f", b"kept");
        for n in 0..200 {
            scene.put(&format!("tree/wide/{n}/f"), b"x");
            scene.put(&format!("tree/file{n}"), b"x");
        }
        scene.put_symlink("tree/link", "../keep");
        scene.put_symlink("tree/wide/7/link", "../../../keep/f");
        scene.put_fifo("tree/fifo");
        scene.put_symlink("link", "keep");
        scene.store.remove(&path("tree")).await.unwrap();
        if scene.is_file_system() {
            scene.store.remove(&path("link")).await.unwrap();
        }
        assert_eq!(scene.names(&StorePath::root()).await, [&b"."[..], b"..", b"keep"]);
        assert_eq!(scene.content(&path("keep/f")).await.unwrap().as_ref(), b"kept");
        assert_eq!(kind_of(scene.store.remove(&path("tree")).await), StoreErrorKind::NotFound);
        assert_eq!(kind_of(scene.store.remove(&path("tree/f")).await), StoreErrorKind::NotFound);
        assert_eq!(kind_of(scene.store.remove(&path("keep/f/g")).await), StoreErrorKind::NotADirectory);
        assert_eq!(kind_of(scene.store.remove(&StorePath::root()).await), StoreErrorKind::Access);
    }
}

#[tokio::test]
async fn an_entry_that_stays_is_listed_exactly_once_while_others_come_and_go() {
    for scene in Scene::all() {
        // A bucket lists all of them for each page, as it remembers nothing here, and so does the NFS server.
        let count = if matches!(scene.back, Back::Local(_) | Back::Memory(_)) { 5000 } else { 1000 };
        for n in 0..count {
            scene.put(&format!("dir/stays-{n}"), b"");
            if n % 5 == 0 {
                scene.put(&format!("dir/goes-{n}"), b"");
            }
        }
        let mut seen = HashSet::new();
        let (mut cookie, mut pages) = (0, 0);
        loop {
            let page = scene.store.read_dir(&path("dir"), cookie, 7).await.unwrap();
            assert!(page.entries.len() <= 7);
            for entry in page.entries {
                assert_ne!(entry.cookie, 0);
                assert!(
                    entry.kind.is_none_or(|kind| (kind == Kind::Directory) == entry.name.starts_with(b"."))
                );
                let fresh = seen.insert(entry.name.clone());
                assert!(fresh || entry.name.starts_with(b"comes"), "{}", entry.name.escape_ascii());
                cookie = entry.cookie;
            }
            if page.end {
                break;
            }
            if pages < count / 5 {
                scene.put(&format!("dir/comes-{pages}"), b"");
                if pages % 5 == 0 {
                    scene.remove(&format!("dir/goes-{}", 5 * (pages * 7 % (count / 5))));
                    scene.remove(&format!("dir/comes-{}", pages / 2));
                    scene.put(&format!("dir/comes-{}", pages / 2), b"");
                }
            }
            pages += 1;
        }
        let stayed = seen.iter().filter(|name| name.starts_with(b"stays-")).count();
        assert_eq!(stayed, count);
        assert!(seen.contains(&b"."[..]) && seen.contains(&b".."[..]));
    }
}

#[tokio::test]
async fn a_strange_cookie_neither_fails_for_ever_nor_repeats_itself() {
    for scene in Scene::all() {
        (0..50).for_each(|n| scene.put(&format!("dir/{n}"), b""));
        for strange in [3, 12345, u64::from(u32::MAX), 1 << 62, i64::MAX as u64, 1 << 63, u64::MAX] {
            let mut cookie = strange;
            let mut pages = 0;
            while let Ok(page) = scene.store.read_dir(&path("dir"), cookie, 7).await {
                pages += 1;
                assert!(pages < 20, "{strange}");
                match page.entries.last() {
                    Some(last) => cookie = last.cookie,
                    None => assert!(page.end),
                }
                if page.end {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn listed_numbers_are_those_of_stat() {
    for scene in Scene::all() {
        scene.put("d/f", b"");
        scene.put_dir("d/e");
        let number = async |at: &StorePath| scene.store.stat(at).await.unwrap().fileid;
        let root = number(&StorePath::root()).await;
        for directory in [StorePath::root(), path("d"), path("d/e")] {
            for entry in scene.store.read_dir(&directory, 0, 100).await.unwrap().entries {
                let expected = match entry.name.as_slice() {
                    b"." => number(&directory).await,
                    b".." => match directory.parent() {
                        Some(parent) => number(&parent).await,
                        None => root,
                    },
                    name => number(&directory.join(name).unwrap()).await,
                };
                assert_eq!(entry.fileid, expected, "{directory} {}", entry.name.escape_ascii());
            }
        }
    }
}

#[tokio::test]
async fn many_names_are_looked_at_as_one_by_one() {
    for scene in Scene::all() {
        scene.put("d/f", b"content");
        scene.put("f", b"");
        scene.put_dir("d/e");
        if scene.is_file_system() {
            scene.put_symlink("d/l", "f");
        }
        let long = [b'x'; 256];
        let names: [&[u8]; 12] =
            [b"e", b"gone", b"f", b"", b".", b"..", b"l", b"e/../f", b"../f", b"f\0", &long, b"f"];
        for directory in ["", "d"].map(path) {
            let found = scene.store.stat_names(&directory, &names).await;
            assert_eq!(found.len(), names.len());
            for (name, found) in names.iter().zip(found) {
                let alone = match directory.join(name) {
                    Ok(path) => scene.store.stat(&path).await.ok(),
                    Err(_) => None,
                };
                assert_eq!(found, alone, "{directory} {}", name.escape_ascii());
            }
        }
        for directory in ["gone", "f", "d/l"].map(path) {
            assert_eq!(scene.store.stat_names(&directory, &[b"f"]).await, [None], "{directory}");
        }
    }
}

#[tokio::test]
async fn heads_of_many_files_are_what_opening_each_gives() {
    for scene in Scene::all() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
        scene.put("d/long", &bytes);
        scene.put("d/exact", &bytes[..100]);
        scene.put("d/empty", b"");
        scene.put("f", b"above");
        scene.put_dir("d/e");
        if scene.is_file_system() {
            scene.put_symlink("d/l", "long");
            scene.put_fifo("d/fifo");
        }
        let long = [b'x'; 256];
        let names: [&[u8]; 12] =
            [b"long", b"gone", b"exact", b"empty", b"e", b"l", b"fifo", b"..", b"", b"../f", &long, b"long"];
        let found = scene.store.read_heads(&path("d"), &names, 100).await;
        assert_eq!(found.len(), names.len());
        for (name, found) in names.iter().zip(&found) {
            // Nothing is read that could not be opened, and a store may leave all to who opens.
            let Some((attr, head)) = found else { continue };
            let file = scene.store.open(&path("d").join(name).unwrap()).await.unwrap();
            // Reading is what moves the time of the last access.
            let now = Attr { atime: attr.atime, ..file.stat().await.unwrap() };
            assert_eq!(*attr, now, "{}", name.escape_ascii());
            assert_eq!(*head, file.read_at(0, 100).await.unwrap(), "{}", name.escape_ascii());
        }
        let read: Vec<bool> = found.iter().map(Option::is_some).collect();
        let regular = [0, 2, 3, 11].map(|at| read[at]);
        match scene.back {
            Back::Local(_) => assert_eq!(regular, [true; 4]),
            Back::Memory(_) | Back::Upstream { .. } | Back::Bucket(_) => assert_eq!(read, [false; 12]),
        }
        for directory in ["gone", "f", "d/l"].map(path) {
            assert_eq!(scene.store.read_heads(&directory, &[b"long"], 1).await, [None], "{directory}");
        }
    }
}

#[tokio::test]
async fn an_open_file_stays_the_same_object() {
    for scene in Scene::file_systems() {
        scene.put("f", b"old");
        scene.put("g", b"gone");
        let (f, g) =
            (scene.store.open(&path("f")).await.unwrap(), scene.store.open(&path("g")).await.unwrap());
        let number = f.stat().await.unwrap().fileid;
        scene.put("f", b"new content");
        scene.remove("g");
        for (file, content) in [(&f, &b"old"[..]), (&g, b"gone")] {
            assert_eq!(file.stat().await.unwrap().nlink, 0);
            if let Some(answer) = file.try_stat() {
                assert_eq!(answer.unwrap().nlink, 0);
            }
            assert_eq!(file.read_at(0, 100).await.unwrap().as_ref(), content);
        }
        assert_eq!(f.stat().await.unwrap().fileid, number);
        assert_ne!(scene.store.stat(&path("f")).await.unwrap().fileid, number);
    }
}

#[tokio::test]
async fn data_ranges_leave_out_no_byte() {
    for scene in Scene::all() {
        let far = 40 << 20;
        scene.create(&path("f"), &[(0, b"head"), (far, b"tail")]).await.unwrap();
        let file = scene.store.open(&path("f")).await.unwrap();
        let size = far + 4;
        let (mut at, mut ranges) = (0, Vec::new());
        while let Some(range) = file.data_range(at, size).await.unwrap() {
            assert!(range.start >= at && range.start < range.end && range.end <= size);
            at = range.end;
            ranges.push(range);
        }
        for byte in [0, 3, far, far + 3] {
            assert!(ranges.iter().any(|range| range.contains(&byte)), "{byte} {ranges:?}");
        }
        assert_eq!(file.data_range(size, size).await.unwrap(), None);
        assert_eq!(file.data_range(u64::MAX, size).await.unwrap(), None);
        // Behind the end of the file nothing may be taken for zeros.
        assert!(file.data_range(size, size + 10).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn extended_attributes_are_set_found_listed_and_removed() {
    for scene in Scene::file_systems() {
        scene.put("f", b"x");
        let file = scene.store.open(&path("f")).await.unwrap();
        let before = file.stat().await.unwrap().ctime;
        assert_eq!(file.get_xattr(b"user.none", 9).await.unwrap(), None);
        file.remove_xattr(b"user.none").await.unwrap();
        assert_eq!(file.stat().await.unwrap().ctime, before);
        match file.set_xattr(b"user.one", b"value").await {
            // Some file systems for temporary files have none.
            Err(error) if error.kind == StoreErrorKind::Unsupported => continue,
            set => set.unwrap(),
        }
        assert_eq!(file.get_xattr(b"user.one", 5).await.unwrap().unwrap().as_ref(), b"value");
        assert_eq!(kind_of(file.get_xattr(b"user.one", 4).await), StoreErrorKind::TooLarge);
        file.set_xattr(b"user.one", b"").await.unwrap();
        assert_eq!(file.get_xattr(b"user.one", 0).await.unwrap().unwrap().as_ref(), b"");
        file.set_xattr(b"user.two", &[7; 300]).await.unwrap();
        let again = scene.store.open(&path("f")).await.unwrap();
        assert_eq!(again.get_xattr(b"user.two", 4096).await.unwrap().unwrap().as_ref(), &[7; 300]);
        let mut names = again.list_xattrs().await.unwrap();
        names.retain(|name| name.starts_with(b"user."));
        names.sort();
        assert_eq!(names, [b"user.one", b"user.two"]);
        file.remove_xattr(b"user.one").await.unwrap();
        assert_eq!(again.get_xattr(b"user.one", 9).await.unwrap(), None);
        assert_eq!(kind_of(file.set_xattr(b"user.big", &[0; 70_000]).await), StoreErrorKind::NoSpace);
    }
}

#[tokio::test]
async fn a_new_file_takes_the_attributes_that_it_is_given() {
    for scene in Scene::all() {
        scene.put("f", b"old");
        let old = scene.store.open(&path("f")).await.unwrap();
        let xattrs = old.set_xattr(b"user.one", b"value").await.is_ok();
        let mut attributes = Attributes::of(&*old).await.unwrap();
        assert_eq!(attributes.xattrs.iter().any(|(name, _)| name == b"user.one"), xattrs);
        // NFSv3 knows no time before 1970.
        let seconds = if matches!(scene.back, Back::Upstream { .. }) { 5 } else { -5 };
        (attributes.mode, attributes.mtime) = (0o2750, Time { seconds, nanos: 6 });
        let mut writer = scene.store.create(&path("f"), &path("scratch")).await.unwrap();
        writer.write_at(0, b"new").await.unwrap();
        writer.set_attributes(&attributes).await.unwrap();
        writer.commit().await.unwrap();
        let new = scene.store.open(&path("f")).await.unwrap();
        assert_eq!(new.read_at(0, 9).await.unwrap().as_ref(), b"new");
        let attr = new.stat().await.unwrap();
        assert_eq!((attr.mode, attr.mtime), (attributes.mode, attributes.mtime));
        assert_eq!(Some((attr.uid, attr.gid)), attributes.owner);
        assert_eq!(Attributes::of(&*new).await.unwrap().xattrs, attributes.xattrs);
    }
}

/// A file system that knows fs-verity, where nothing is sealed, looks the same.
#[tokio::test]
async fn a_file_that_is_not_sealed_has_no_metadata() {
    for scene in Scene::all() {
        scene.put("f", b"x");
        let file = scene.store.open(&path("f")).await.unwrap();
        for kind in [MetadataKind::MerkleTree, MetadataKind::Descriptor, MetadataKind::Signature] {
            assert_eq!(file.verity_metadata(kind, 0, 4096).await.unwrap(), None);
        }
        assert_eq!(file.measure_verity().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_file_that_is_ready_is_in_place_when_it_is_committed_and_not_before() {
    for scene in Scene::all() {
        scene.put("d/f", b"old");
        for (commit, content) in [(false, &b"old"[..]), (true, b"new")] {
            let mut writer = scene.store.create(&path("d/f"), &path("scratch")).await.unwrap();
            writer.write_at(0, b"new").await.unwrap();
            let old = scene.store.open(&path("d/f")).await.unwrap();
            let attributes = Attributes { owner: None, ..Attributes::of(&*old).await.unwrap() };
            writer.set_attributes(&attributes).await.unwrap();
            writer.prepare().await.unwrap();
            writer.prepare().await.unwrap();
            assert_eq!(scene.content(&path("d/f")).await.unwrap().as_ref(), b"old");
            match commit {
                true => writer.commit().await.unwrap(),
                false => drop(writer),
            }
            scene.store.forget(&path("d/f"));
            assert_eq!(scene.content(&path("d/f")).await.unwrap().as_ref(), content);
        }
    }
}
