//! Disks that are busy, full, or bad in places.

use std::sync::atomic::Ordering::SeqCst;

use super::*;

type Told = Arc<Mutex<Vec<String>>>;

async fn open(directory: &Path) -> (DiskCache, Told) {
    let told = Told::default();
    let alarm = {
        let told = told.clone();
        Box::new(move |error: &str| told.lock().push(error.to_owned()))
    };
    (DiskCache::open(directory, SIZE_MIN, alarm).await.unwrap(), told)
}

fn key(index: u64) -> Key {
    Key { file: [7; 32], part: Part::Extent(index) }
}

async fn insert(cache: &DiskCache, index: u64) {
    cache.insert(&key(index), &vec![1; 50_000].into());
    cache.flush().await;
}

/// Puts another file in the place of the newest segment's.
fn replace_newest(cache: &DiskCache, file: impl Fn(&Path) -> File) {
    let mut segments = cache.shared.segments.lock();
    let newest = segments.pop().unwrap();
    segments.push(Arc::new(newest.with_file(file(newest.path()))));
}

/// From now on each read of the newest segment fails.
fn spoil_newest(cache: &DiskCache) {
    replace_newest(cache, |path| File::options().write(true).open(path).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_busy_is_not_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, told) = open(directory.path()).await;
    insert(&cache, 1).await;
    spoil_newest(&cache);
    let busy = cache.reads.clone().acquire_many_owned(u32::try_from(READS).unwrap()).await.unwrap();
    for _ in 0..30 {
        assert_eq!(cache.get(&key(1)).await, None);
    }
    assert!(cache.counts().on && cache.has(&key(1)), "{:?}", told.lock());
    drop(busy);
}

#[test]
fn a_disk_that_is_silent_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (cache, told) = runtime.block_on(open(directory.path()));
    let ago = Instant::now().checked_sub(PATIENCE * 2).unwrap();
    // Who waits for a turn says nothing of the disk, as long as nobody's read is silent.
    cache.shared.is_late(false);
    cache.shared.is_late(true);
    assert!(cache.counts().on);
    *cache.shared.silent.lock() = Some(ago);
    cache.shared.is_late(false);
    assert!(!cache.counts().on && told.lock().len() == 1);
}

#[tokio::test]
async fn a_bad_place_takes_what_is_near_it_and_many_take_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, told) = open(directory.path()).await;
    for n in 0..=u64::from(LOST_MAX) {
        assert!(cache.counts().on, "{n}: {:?}", told.lock());
        insert(&cache, n).await;
        assert!(cache.get(&key(n)).await.is_some());
        spoil_newest(&cache);
        assert_eq!(cache.get(&key(n)).await, None);
        assert!(!cache.has(&key(n)) && cache.counts().bytes == 0);
    }
    assert!(!cache.counts().on && told.lock().len() == 1);
}

#[tokio::test]
async fn a_disk_that_is_full_holds_what_it_has_room_for() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, told) = open(directory.path()).await;
    insert(&cache, 1).await;
    replace_newest(&cache, |_| File::options().read(true).write(true).open("/dev/full").unwrap());
    insert(&cache, 2).await;
    assert!(cache.counts().on, "{:?}", told.lock());
    assert!(cache.get(&key(2)).await.is_some() && !cache.has(&key(1)));
    assert_eq!(cache.counts().bytes, cache.shared.segment_size);
}

#[tokio::test]
async fn a_number_that_somebody_made_up_takes_none_from_us() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, _) = open(directory.path()).await;
    let path = cache.shared.directory.join("fffffffe.blocks");
    let size = cache.shared.segment_size;
    cache.close().await;
    File::create(&path).unwrap().set_len(size).unwrap();
    let (cache, told) = open(directory.path()).await;
    for n in 0..20 {
        insert(&cache, n).await;
    }
    assert!(cache.counts().on && !path.exists(), "{:?}", told.lock());
}

#[tokio::test]
async fn what_cannot_be_removed_turns_the_cache_off_and_stops_no_gateway() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).await.0.close().await;
    std::fs::create_dir(directory.path().join(FORMAT).join("stray")).unwrap();
    let (cache, told) = open(directory.path()).await;
    assert!(!cache.counts().on && told.lock().len() == 1);
    insert(&cache, 1).await;
    assert_eq!(cache.get(&key(1)).await, None);
    cache.close().await;
}

#[tokio::test]
async fn room_is_counted_as_free_when_nobody_reads_there_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, _) = open(directory.path()).await;
    insert(&cache, 0).await;
    let oldest = cache.shared.segments.lock().first().cloned().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let reading = std::thread::spawn({
        let is_over = is_over.clone();
        move || {
            while oldest.path().exists() {
                std::thread::yield_now();
            }
            // Who does not wait for the read is gone by then.
            std::thread::sleep(Duration::from_millis(50));
            is_over.store(true, SeqCst);
            drop(oldest);
        }
    });
    // Until there is one more segment than there may be.
    let mut n = 1;
    while cache.has(&key(0)) {
        insert(&cache, n).await;
        n += 1;
    }
    assert!(is_over.load(SeqCst));
    reading.join().unwrap();
}

#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    use rustix::io::Errno;
    for (errno, full) in [(Errno::NOSPC, true), (Errno::DQUOT, true), (Errno::IO, false)] {
        assert_eq!(super::writer::is_full(&errno.into()), full, "{errno}");
    }
}
