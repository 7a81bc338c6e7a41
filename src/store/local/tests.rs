//! What holds for directories of this machine alone; the rest stands in the store's contract.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};

use super::*;

fn path(bytes: impl AsRef<[u8]>) -> StorePath {
    StorePath::parse(bytes.as_ref()).unwrap()
}

fn scene() -> (tempfile::TempDir, Local) {
    let directory = tempfile::tempdir().unwrap();
    let store = Local::new(directory.path()).unwrap();
    (directory, store)
}

#[test]
fn a_root_that_is_no_directory_is_refused_by_name() {
    let (directory, _) = scene();
    let file = directory.path().join("the-file");
    std::fs::write(&file, "").unwrap();
    let error = Local::new(&file).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NotADirectory);
    assert!(error.to_string().contains("the-file"), "{error}");
    let error = Local::new(&directory.path().join("missing")).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NotFound);
    assert!(error.to_string().contains("missing"), "{error}");
}

#[tokio::test]
async fn the_root_may_be_renamed_and_reached_through_a_link() {
    let (directory, _) = scene();
    let real = directory.path().join("real");
    std::fs::create_dir(&real).unwrap();
    std::fs::write(real.join("f"), "x").unwrap();
    symlink("real", directory.path().join("link")).unwrap();
    let store = Local::new(&directory.path().join("link")).unwrap();
    assert!(store.describe().ends_with("/link"));
    std::fs::rename(&real, directory.path().join("moved")).unwrap();
    assert_eq!(store.stat(&path("f")).await.unwrap().size, 1);
}

#[tokio::test]
async fn attributes_are_those_of_the_file_system() {
    let (directory, store) = scene();
    let file = directory.path().join("f");
    std::fs::write(&file, vec![1; 9000]).unwrap();
    std::fs::hard_link(&file, directory.path().join("g")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o2751)).unwrap();
    let real = std::fs::metadata(&file).unwrap();
    let attr = store.stat(&path("f")).await.unwrap();
    assert_eq!((attr.kind, attr.mode, attr.nlink, attr.size), (Kind::Regular, 0o2751, 2, 9000));
    assert_eq!((attr.uid, attr.gid, attr.fileid), (real.uid(), real.gid(), real.ino()));
    assert_eq!(attr.used, real.blocks() * 512);
    assert_eq!((attr.mtime.seconds, i64::from(attr.mtime.nanos)), (real.mtime(), real.mtime_nsec()));
    assert_eq!((attr.ctime.seconds, i64::from(attr.ctime.nanos)), (real.ctime(), real.ctime_nsec()));
    assert_eq!(store.stat(&path("g")).await.unwrap(), attr);
}

#[test]
fn numbers_of_other_file_systems_are_stable_and_meet_no_inode_of_the_root() {
    let (_directory, store) = scene();
    let root = &store.root;
    let other = root.fileid_of((250, 1), 2);
    assert_eq!(other, root.fileid_of((250, 1), 2));
    assert_eq!(other >> 63, 1);
    assert_ne!(other, root.fileid_of((250, 2), 2));
    assert_ne!(other, root.fileid_of((250, 1), 3));
    assert_eq!(root.fileid() >> 63, 0);
}

#[tokio::test]
async fn a_device_is_never_opened() {
    let store = Local::new(Path::new("/dev")).unwrap();
    let attr = store.stat(&path("null")).await.unwrap();
    assert_eq!((attr.kind, attr.rdev), (Kind::CharDevice, (1, 3)));
    assert_eq!(store.open(&path("null")).await.err().unwrap().kind, StoreErrorKind::NotRegular);
}

#[tokio::test]
async fn what_is_no_regular_file_is_looked_at_without_being_opened() {
    use rustix::fs::inotify;
    let (directory, store) = scene();
    let fifo = directory.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, &fifo, inotify::WatchFlags::OPEN).unwrap();
    let mut events = [0; 256];
    assert_eq!(store.open(&path("fifo")).await.err().unwrap().kind, StoreErrorKind::NotRegular);
    assert_eq!(rustix::io::read(&watch, &mut events), Err(Errno::AGAIN), "nobody opened it");
    drop(std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap());
    assert!(rustix::io::read(&watch, &mut events).is_ok(), "an opening would have been seen");
}

#[tokio::test]
async fn what_is_not_in_memory_is_found_all_the_same() {
    let (directory, store) = scene();
    std::fs::create_dir(directory.path().join("d")).unwrap();
    std::fs::write(directory.path().join("d/f"), "content").unwrap();
    for lookup in [Lookup::Cached, Lookup::Full] {
        match stat(&store.root, &path("d/f"), lookup) {
            Ok(attr) => assert_eq!(attr.size, 7),
            Err(error) => assert!(lookup == Lookup::Cached && missed_cache(&error)),
        }
    }
    // A name that nobody has asked for is not in the cache, and the pool has to look.
    let error = store.stat(&path("d/never-asked-for")).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NotFound);
}

#[tokio::test]
async fn reads_without_waiting_give_the_same_bytes() {
    let (directory, store) = scene();
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.path().join("f"), &content).unwrap();
    let file = store.open(&path("f")).await.unwrap();
    let mut answered = 0;
    for (offset, len) in
        [(0, 4096), (1, 100_000), (4095, 2), (1_199_990, 4096), (1_200_000, 1), (0, 5_000_000)]
    {
        let start = usize::try_from(offset).unwrap();
        let right = &content[start..(start + len).min(content.len())];
        assert_eq!(file.read_at(offset, len).await.unwrap().as_ref(), right);
        if let Some(bytes) = file.try_read_at(offset, len) {
            assert_eq!(bytes.as_ref(), right);
            answered += 1;
        }
    }
    assert!(answered == 6 || !store.root.nowait().load(Ordering::Relaxed), "{answered}");
}

#[tokio::test]
async fn a_file_system_without_nowait_is_asked_once() {
    let (directory, store) = scene();
    std::fs::write(directory.path().join("f"), "content").unwrap();
    let file = store.open(&path("f")).await.unwrap();
    store.root.nowait().store(false, Ordering::Relaxed);
    assert_eq!(file.try_read_at(0, 7), None);
    assert_eq!(file.read_at(0, 7).await.unwrap().as_ref(), b"content");
}

#[tokio::test]
async fn one_read_takes_bounded_memory() {
    let (directory, store) = scene();
    let sparse = std::fs::File::create(directory.path().join("f")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let file = store.open(&path("f")).await.unwrap();
    assert_eq!(file.read_at(5, usize::MAX).await.unwrap().len(), super::super::READ_MAX);
    if let Some(bytes) = file.try_read_at(5, usize::MAX) {
        assert_eq!(bytes.len(), super::super::READ_MAX);
    }
    assert!(file.read_at(1 << 63, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn holes_are_left_out() {
    let (directory, store) = scene();
    let sparse = std::fs::File::create(directory.path().join("f")).unwrap();
    sparse.write_all_at(b"data", 10 << 20).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let file = store.open(&path("f")).await.unwrap();
    let range = file.data_range(0, 1 << 40).await.unwrap().unwrap();
    assert!(range.contains(&(10 << 20)) && range.start > 0 && range.end < 11 << 20, "{range:?}");
    assert_eq!(file.data_range(range.end, 1 << 40).await.unwrap(), None);
    assert_eq!(file.data_range(0, 1 << 20).await.unwrap(), None);
    assert!(file.data_range(range.end, (1 << 40) + 1).await.unwrap().is_some(), "the file ends before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_swapped_for_a_link_never_leads_outside() {
    let (directory, _) = scene();
    let inside = directory.path().join("root");
    let outside = directory.path().join("outside");
    for (place, text) in [(inside.join("d"), "inside"), (outside.clone(), "secret")] {
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("f"), text).unwrap();
    }
    symlink(&outside, inside.join("link")).unwrap();
    let store = Local::new(&inside).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (inside, done) = (inside.clone(), done.clone());
        move || {
            let (a, b) = (inside.join("d"), inside.join("link"));
            while !done.load(Ordering::Acquire) {
                rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    let (mut read, mut refused) = (0, 0);
    let victim = path("d/f");
    for n in 0..4000 {
        match store.open(&victim).await {
            Ok(file) => {
                assert_eq!(file.read_at(0, 100).await.unwrap().as_ref(), b"inside");
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.kind, StoreErrorKind::Symlink);
                refused += 1;
            }
        }
        if n % 20 == 0 {
            let created = store.create(&path("d/new"), &path("scratch")).await.unwrap().commit().await;
            assert!(created.is_ok() || created.is_err_and(|error| error.kind == StoreErrorKind::Symlink));
            let removed = store.remove(&path("d/new")).await.map_err(|error| error.kind);
            assert!(matches!(removed, Ok(()) | Err(StoreErrorKind::Symlink | StoreErrorKind::NotFound)));
        }
    }
    done.store(true, Ordering::Release);
    swapper.join().unwrap();
    assert!(read > 0 && refused > 0, "{read} {refused}");
    let left: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["f"]);
}

#[tokio::test]
async fn trees_deeper_than_the_window_of_descriptors_are_removed() {
    let (directory, store) = scene();
    let depth = 700;
    let mut at = rustix::fs::open(directory.path(), OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..depth {
        for name in [c"d", c"e"] {
            rustix::fs::mkdirat(&at, name, rustix::fs::Mode::from_raw_mode(0o700)).unwrap();
        }
        at = rustix::fs::openat(&at, c"d", OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    store.remove(&path("d")).await.unwrap();
    store.remove(&path("e")).await.unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn new_files_and_directories_have_the_modes_of_the_contract() {
    let (directory, store) = scene();
    let mut writer = store.create(&path("a/b/f"), &path(".hidden/tmp")).await.unwrap();
    writer.write_at(0, b"x").await.unwrap();
    let scratch = directory.path().join(".hidden/tmp");
    let waiting: Vec<_> = std::fs::read_dir(&scratch).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(waiting.len(), 1);
    assert!(waiting[0].file_name().unwrap().to_str().unwrap().starts_with("tmp-"));
    writer.commit().await.unwrap();
    let mode = |at: &str| std::fs::metadata(directory.path().join(at)).unwrap().mode() & 0o7777;
    assert_eq!(mode(".hidden"), 0o755, "others read what is finished");
    assert_eq!(mode(".hidden/tmp"), 0o700);
    assert_eq!(mode("a/b/f") & !0o644, 0);
    assert_eq!(mode("a/b") & !0o755, 0);
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[tokio::test]
async fn a_large_write_arrives_whole() {
    let (directory, store) = scene();
    let data: Vec<u8> = (0..3_000_001_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let mut writer = store.create(&path("f"), &path("tmp")).await.unwrap();
    writer.write_at(3, &data).await.unwrap();
    writer.commit().await.unwrap();
    assert_eq!(std::fs::read(directory.path().join("f")).unwrap()[3..], data);
}

#[tokio::test]
async fn a_store_that_never_answers_is_left_alone() {
    let never = std::future::pending::<Result<()>>();
    let error = patiently(Duration::from_millis(1), "read", &path("f"), never).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Exhausted);
    assert!(error.to_string().contains("no answer within 1ms"), "{error}");
}
