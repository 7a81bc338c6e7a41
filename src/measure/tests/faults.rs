//! The Nth call to the disk fails, for every N: what is acknowledged is in the list, and the list is whole.

use std::collections::BTreeSet;

use super::disks::{Fault, Faulty, Left, Volatile};
use super::{entry, seal, signed, small};
use crate::measure::disk::Disk;
use crate::measure::{
    Banks, Chain, Entry, Log, LogError, LogOptions, Records, Template, closed, verify, verify_chain,
};

/// Enough to close segments, one of them by a batch that is larger than a segment.
fn batches() -> Vec<Vec<Entry>> {
    let sizes = [1, 3, 1, 7, 20, 1, 1, 40, 2, 15, 9];
    let mut next = 0;
    sizes.map(|size| (0..size).map(|_| (next += 1, entry(next)).1).collect()).into()
}

fn options() -> LogOptions {
    LogOptions { history: Some(2), ..small() }
}

/// What is kept in `disk`, from the first segment on.
fn names_in(disk: &dyn Disk) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let files: BTreeSet<_> = disk.names().unwrap().into_iter().collect();
    let numbered = (1..100).map(|n| closed(super::super::BINARY, n)).filter(|name| files.contains(name));
    for file in numbered.chain([super::super::BINARY.to_owned()]) {
        let list = disk.read(&file, u64::MAX).unwrap().unwrap_or_default();
        verify(&list, &Banks::ZERO).unwrap();
        names.extend(Records::new(&list).map(|record| record.unwrap().fields.name.to_vec()));
    }
    names
}

fn names_of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<Vec<u8>> {
    entries.into_iter().map(|entry| entry.fields().name.to_vec()).collect()
}

/// Runs a log on `disk`; gives what it acknowledged, and the batches that were refused with an error.
fn run(disk: Box<dyn Disk>, options: LogOptions) -> (Vec<Entry>, Vec<Vec<Entry>>, bool) {
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    let Ok((mut log, _)) = Log::open_on(disk, options, seal()) else {
        return (acknowledged, batches(), false);
    };
    acknowledged.push(Entry::boot_aggregate(Template::ImaSigV2));
    for batch in batches() {
        match log.append(&batch) {
            Ok(_) | Err(LogError::Behind(_)) => acknowledged.extend(batch),
            Err(_) => refused.push(batch),
        }
    }
    assert_eq!(log.records(), acknowledged.len() as u64);
    (acknowledged, refused, true)
}

/// How many calls [`run`] makes when nothing fails.
fn calls(options: LogOptions) -> u64 {
    let disk = Faulty::new(Volatile::default(), 1 << 40, Fault::Once);
    let left = disk.left();
    let (acknowledged, ..) = run(Box::new(disk), options);
    assert_eq!(acknowledged.len(), 1 + batches().iter().map(Vec::len).sum::<usize>());
    let calls = (1 << 40) - *left.lock().unwrap();
    assert!(calls > 150, "{calls}");
    calls
}

/// Opens what is left as a gateway would, appends, and verifies everything.
fn check_after(disk: &Volatile, options: LogOptions) -> Chain {
    let open = || Log::open_on(Box::new(disk.clone()), options, seal()).unwrap();
    let (mut log, _) = open();
    log.append(&[entry(1000)]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    disk.copy_to(directory.path());
    let chain = verify_chain(directory.path(), &signed).unwrap();
    assert_eq!((chain.records, chain.end), (log.records(), *log.banks()));
    let (_, recovery) = open();
    assert!(recovery.is_clean(), "{recovery}");
    chain
}

#[test]
fn a_failed_call_loses_nothing_and_the_next_append_goes_on() {
    let options = small();
    let calls = calls(options);
    for fault in [Fault::Once, Fault::Half, Fault::Lie] {
        for n in 0..calls {
            let disk = Volatile::default();
            let (acknowledged, refused, opened) = run(Box::new(Faulty::new(disk.clone(), n, fault)), options);
            if opened {
                assert!(refused.len() <= 1, "one call fails, one append: {fault:?} {n}");
                assert_eq!(names_in(&disk), names_of(&acknowledged), "{fault:?} {n}");
            }
            let chain = check_after(&disk, options);
            assert_eq!(chain.records, acknowledged.len().max(1) as u64 + 1, "{fault:?} {n}");
        }
    }
}

#[test]
fn after_a_kill_at_any_call_the_list_is_old_or_new() {
    let options = small();
    for n in 0..calls(options) {
        let disk = Volatile::default();
        let faulty = Faulty::new(disk.clone(), n, Fault::Dead);
        let (acknowledged, refused, opened) = run(Box::new(faulty), options);
        drop(Log::open_on(Box::new(disk.clone()), options, seal()).unwrap());
        let found = names_in(&disk);
        let old = names_of(&acknowledged);
        if opened {
            // Of the append that was under way, a first part may be there.
            let new = names_of(acknowledged.iter().chain(refused.iter().flatten()));
            assert!(found.starts_with(&old) && new.starts_with(&found), "{n}");
        }
        check_after(&disk, options);
    }
}

#[test]
fn after_a_power_failure_at_any_call_what_was_acknowledged_is_there() {
    let options = small();
    for left in [Left::Nothing, Left::Names, Left::HalfOfBytes, Left::Hole, Left::LaterHole] {
        for n in 0..calls(options) {
            let disk = Volatile::default();
            let faulty = Faulty::new(disk.clone(), n, Fault::Dead);
            let (acknowledged, refused, opened) = run(Box::new(faulty), options);
            disk.lose_power(left);
            let (mut log, _) = Log::open_on(Box::new(disk.clone()), options, seal())
                .unwrap_or_else(|error| panic!("{left:?} {n}: {error}"));
            let found = names_in(&disk);
            if opened {
                let old = names_of(&acknowledged);
                let new = names_of(acknowledged.iter().chain(refused.iter().flatten()));
                assert!(found.starts_with(&old) && new.starts_with(&found), "{left:?} {n}");
            }
            log.append(&[entry(1000)]).unwrap();
            assert_eq!(log.records(), found.len() as u64 + 1);
            drop(log);
            check_after(&disk, options);
        }
    }
}

#[test]
fn old_segments_are_removed_whatever_fails() {
    let options = options();
    for n in 0..calls(options) {
        let disk = Volatile::default();
        run(Box::new(Faulty::new(disk.clone(), n, Fault::Dead)), options);
        let chain = check_after(&disk, options);
        assert!(chain.segment - chain.start.segment <= 2, "{n}: {chain:?}");
    }
}
