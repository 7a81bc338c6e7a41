//! A list that is lost is told, by whatever of the files beside it is left.

use std::fs;
use std::path::Path;

use super::{entry, seal, signed, small};
use crate::measure::{
    ASCII, BINARY, Bank, Log, LogOptions, Records, Recovery, Start, closed, pcrs, signature, start,
    verify_chain,
};

fn open(directory: &Path) -> (Log, Recovery) {
    Log::open(directory, small(), seal()).unwrap()
}

fn fill(directory: &Path, count: u32) -> Log {
    let (mut log, _) = open(directory);
    (0..count).for_each(|n| assert_eq!(log.append(&[entry(n)]).unwrap().added, 1));
    log
}

/// Leaves only the files of `kept`, and the lock.
fn keep(directory: &Path, kept: &[&str]) {
    for file in fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if name != "lock" && !kept.contains(&name.as_str()) {
            fs::remove_file(file.path()).unwrap();
        }
    }
}

#[test]
fn a_list_that_is_gone_is_told_by_any_file_that_is_left() {
    for (count, kept) in [
        (1, &[ASCII][..]),
        (1, &["pcrs.sha1"]),
        (1, &["pcrs.sha384"]),
        (1, &["start.1", "start.1.sig", ASCII, "pcrs.sha1", "pcrs.sha256", "pcrs.sha384"]),
        (60, &["ascii_runtime_measurements.1"]),
        (60, &["pcrs.sha256"]),
    ] {
        for empty in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            drop(fill(dir.path(), count));
            keep(dir.path(), kept);
            if empty {
                fs::write(dir.path().join(BINARY), b"").unwrap();
            }
            let (log, recovery) = open(dir.path());
            assert!(recovery.created && !recovery.is_clean(), "{kept:?}");
            assert!(recovery.to_string().starts_with("the list was lost: "), "{kept:?}: {recovery}");
            assert_eq!(log.records(), 1);
            drop(log);
            verify_chain(dir.path(), &signed).unwrap();
            assert!(open(dir.path()).1.lost.is_empty(), "{kept:?}");
        }
    }
}

#[test]
fn a_segment_that_is_gone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = fill(dir.path(), 60);
    let (segment, start_of) = (log.segment(), log.start);
    assert!(segment > 1 && log.records() > start_of.records);
    drop(log);
    fs::remove_file(dir.path().join(BINARY)).unwrap();
    let (log, recovery) = open(dir.path());
    assert_eq!((log.segment(), log.records()), (segment, start_of.records));
    assert!(recovery.to_string().starts_with("records were lost: pcrs.sha1 ("), "{recovery}");
    drop(log);
    // A closed one, which leaves the start of that behind it.
    fs::remove_file(dir.path().join(closed(BINARY, segment - 1))).unwrap();
    if segment > 2 {
        let (_, recovery) = open(dir.path());
        assert!(recovery.lost.iter().any(|told| told.starts_with(&start(segment))), "{recovery}");
    }
}

#[test]
fn records_that_are_gone_from_the_end_are_told() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 5));
    let path = dir.path().join(BINARY);
    let whole = fs::read(&path).unwrap();
    let last = usize::try_from(Records::new(&whole).last().unwrap().unwrap().offset).unwrap();
    for end in [last, last + 20] {
        fs::write(&path, &whole[..end]).unwrap();
        fs::write(dir.path().join(pcrs(Bank::Sha256)), banks_of(&whole)).unwrap();
        let (log, recovery) = open(dir.path());
        let told = |told: &String| told.starts_with("pcrs.sha256 (");
        assert!(log.records() == 5 && recovery.lost.iter().any(told), "{recovery}");
    }
}

fn banks_of(list: &[u8]) -> String {
    crate::measure::verify(list, &crate::measure::Banks::ZERO).unwrap().end.pcrs(Bank::Sha256)
}

#[test]
fn files_that_are_behind_tell_of_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    let beside = || {
        let names = Bank::ALL.map(pcrs).into_iter().chain([ASCII.to_owned()]);
        names.map(|name| (name.clone(), fs::read(dir.path().join(name)).unwrap())).collect::<Vec<_>>()
    };
    let mut all = vec![beside()];
    while log.segment() < 4 {
        log.append(&[entry(u32::try_from(log.records()).unwrap())]).unwrap();
        all.push(beside());
    }
    // The segment is closed and nothing is in the next one.
    let size = fs::metadata(dir.path().join(BINARY)).unwrap().len();
    assert!(size < 300, "{size}");
    let start = log.start;
    drop(log);
    for empty in [false, true] {
        if empty {
            fs::remove_file(dir.path().join(BINARY)).unwrap();
            all.pop();
        }
        for files in &all {
            files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
            let (log, recovery) = open(dir.path());
            assert_eq!(recovery.lost, Vec::<String>::new());
            assert_eq!(log.records(), start.records + u64::from(!empty));
        }
    }
    // The lines of the segment before, which was closed and they were not.
    let lines = fs::read(dir.path().join(closed(ASCII, 3))).unwrap();
    fs::write(dir.path().join(ASCII), &lines).unwrap();
    Bank::ALL.into_iter().for_each(|bank| fs::remove_file(dir.path().join(pcrs(bank))).unwrap());
    assert_eq!(open(dir.path()).1.lost, Vec::<String>::new());
}

#[test]
fn a_new_list_in_place_of_one_without_measurements_has_lost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovery) = Log::open(dir.path(), LogOptions::default(), seal()).unwrap();
    assert!(recovery.is_clean());
    drop(log);
    fs::remove_file(dir.path().join(BINARY)).unwrap();
    let (log, recovery) = open(dir.path());
    assert!(recovery.created && recovery.is_clean(), "{recovery}");
    drop(log);
    // Only the start that was never begun.
    let next = Start { segment: 2, records: 0, ..Start::FIRST };
    fs::write(dir.path().join(start(2)), next.encode()).unwrap();
    fs::write(dir.path().join(signature(2)), b"any").unwrap();
    assert!(open_lost(dir.path()).is_empty());
}

fn open_lost(directory: &Path) -> Vec<String> {
    Log::open(directory, small(), seal()).map(|(_, recovery)| recovery.lost).unwrap_or_default()
}
