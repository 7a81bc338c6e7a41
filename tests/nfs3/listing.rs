//! READDIR of a large directory that changes meanwhile.

use std::collections::HashMap;
use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::support::{Client, Site, eventually};

/// Files that are there all the time.
const STEADY: usize = 100_000;
/// Others that are there at a time; they come and go.
const FLEETING: u64 = 500;

/// Lists a directory in calls of `count` bytes while somebody makes and removes files in it.
fn list_while_it_changes(count: u32) {
    let site = Site::new();
    let directory = site.tree().join("large");
    fs::create_dir(&directory).unwrap();
    // Some that will go stand among those that stay.
    for n in 0..STEADY {
        File::create(directory.join(format!("steady-{n}"))).unwrap();
        if n % (STEADY / FLEETING as usize) == 0 {
            File::create(directory.join(format!("fleeting-{}", n / (STEADY / FLEETING as usize)))).unwrap();
        }
    }
    let gateway = site.serve(&[]);
    let mut client = Client::connect(gateway.nfs);
    let handle = client.find("large").unwrap();

    let (changes, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let (names, during) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                fs::remove_file(directory.join(format!("fleeting-{n}"))).unwrap();
                File::create(directory.join(format!("fleeting-{}", n + FLEETING))).unwrap();
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        eventually("changes", || changes.load(Ordering::Relaxed) > 0);
        let before = changes.load(Ordering::Relaxed);
        let names = client.names(&handle, count);
        let during = changes.load(Ordering::Relaxed) - before;
        done.store(true, Ordering::Relaxed);
        (names.unwrap(), during)
    });
    assert!(during > 0, "nothing changed meanwhile");

    let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
    names.into_iter().for_each(|name| *seen.entry(name).or_default() += 1);
    for n in 0..STEADY {
        let name = format!("steady-{n}");
        assert_eq!(seen.remove(name.as_bytes()), Some(1), "{name}, of {during} changes");
    }
    // No name is given twice, so none of the others may be seen twice either.
    assert!([&b"."[..], b".."].into_iter().all(|name| seen.remove(name) == Some(1)));
    for (name, times) in seen {
        assert!(name.starts_with(b"fleeting-"), "{} was never there", name.escape_ascii());
        assert_eq!(times, 1, "{}", name.escape_ascii());
    }
}

#[test]
fn long_every_steady_name_of_a_changing_directory_is_seen_once_in_small_pages() {
    list_while_it_changes(512);
}

#[test]
fn long_every_steady_name_of_a_changing_directory_is_seen_once_in_large_pages() {
    list_while_it_changes(1 << 20);
}
