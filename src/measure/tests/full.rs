//! The log on a full disk: what is known is known, and what cannot be written is written later.

use super::disks::{Full, Volatile};
use super::{entry, seal, signed, small};
use crate::measure::disk::Disk;
use crate::measure::{ASCII, BINARY, Bank, Log, LogError, Recovery, pcrs, verify_chain};

fn open(disk: &Full<Volatile>) -> (Log, Recovery) {
    Log::open_on(Box::new(disk.clone()), small(), seal()).unwrap()
}

/// Measures files 0 to `count` on a new disk.
fn filled(count: u32) -> (Volatile, Full<Volatile>, Log) {
    let inner = Volatile::default();
    let disk = Full::new(inner.clone());
    let (mut log, _) = open(&disk);
    (0..count).for_each(|n| assert_eq!(log.append(&[entry(n)]).unwrap().added, 1));
    (inner, disk, log)
}

/// There is room again: everything is made good with the next append, and the list is whole.
fn check_after(inner: &Volatile, disk: &Full<Volatile>, mut log: Log) {
    disk.set_full(false);
    let records = log.records();
    assert_eq!(log.append(&[entry(1000)]).unwrap().added, 1);
    let directory = tempfile::tempdir().unwrap();
    inner.copy_to(directory.path());
    let chain = verify_chain(directory.path(), &signed).unwrap();
    assert_eq!((chain.records, chain.end), (records + 1, *log.banks()));
    drop(log);
    let (_, recovery) = open(disk);
    assert!(recovery.is_clean(), "{recovery}");
}

#[test]
fn known_entries_are_known_on_a_full_disk() {
    let (inner, disk, mut log) = filled(20);
    disk.set_full(true);
    // One that would fit into the segment, and then one that closes it.
    let larger: Vec<_> = (100..140).map(entry).collect();
    for new in [&[entry(100)][..], &larger] {
        assert!(matches!(log.append(new), Err(LogError::Io { .. })));
        let known = log.append(&[entry(3), entry(19)]).unwrap();
        assert_eq!((known.added, known.known, known.closed), (0, 2, None));
    }
    assert_eq!(log.append(&[]).unwrap().added, 0);
    check_after(&inner, &disk, log);
}

#[test]
fn a_list_whose_files_lag_is_opened_on_a_full_disk() {
    let (inner, disk, log) = filled(20);
    let banks = *log.banks();
    drop(log);
    for name in [ASCII, &pcrs(Bank::Sha256)] {
        disk.cut(name, 10).unwrap();
    }
    disk.cut("pcrs.sha1.new", 0).unwrap();
    disk.set_full(true);
    let (mut log, recovery) = open(&disk);
    assert!(!recovery.is_clean() && !recovery.created && recovery.torn.is_none());
    assert!(recovery.to_string().contains("not done yet: "), "{recovery}");
    assert_eq!((log.records(), *log.banks()), (21, banks));
    assert!(matches!(log.append(&[entry(3)]), Err(LogError::Behind(_))));
    assert!(matches!(log.append(&[entry(100)]), Err(LogError::Io { .. })));
    // A segment is half closed, and they wait for the next one.
    let larger: Vec<_> = (100..140).map(entry).collect();
    assert!(matches!(log.append(&larger), Err(LogError::Io { .. })));
    assert_eq!(log.append(&[entry(3)]).unwrap().known, 1);
    check_after(&inner, &disk, log);
}

#[test]
fn a_list_with_a_torn_tail_is_opened_on_a_full_disk() {
    let (inner, disk, log) = filled(20);
    drop(log);
    let size = inner.read(BINARY, u64::MAX).unwrap().unwrap().len();
    disk.append(BINARY, size as u64, b"\x0a\0\0").unwrap();
    disk.set_full(true);
    for _ in 0..2 {
        let (mut log, recovery) = open(&disk);
        assert_eq!(recovery.torn.unwrap().bytes, 3);
        // Neither cut nor kept.
        assert_eq!(recovery.undone.len(), 2, "{recovery}");
        assert_eq!(log.append(&[entry(3)]).unwrap().known, 1);
        assert!(matches!(log.append(&[entry(100)]), Err(LogError::Io { .. })));
        assert_eq!(log.records(), 21);
    }
    check_after(&inner, &disk, open(&disk).0);
}

#[test]
fn a_start_that_cannot_be_removed_does_not_stand_for_the_list() {
    let (inner, disk, log) = filled(20);
    // The start of the next segment is written, and that is all.
    let segment = log.segment();
    let larger: Vec<_> = (100..140).map(entry).collect();
    let next = super::super::Start { segment: segment + 1, records: log.records(), banks: *log.banks() };
    log.put_start(&next).unwrap();
    // Closed segments are kept elsewhere.
    for n in 1..segment {
        disk.remove(&super::super::closed(BINARY, n)).unwrap();
    }
    drop(log);
    disk.set_full(true);
    let (mut log, recovery) = open(&disk);
    assert!(!recovery.undone.is_empty(), "{recovery}");
    assert_eq!((log.segment(), log.records()), (segment, 21));
    // It grows, and the start stays.
    disk.set_full(false);
    log.append(&[entry(99)]).unwrap();
    drop(log);
    let (mut log, _) = open(&disk);
    assert_eq!((log.segment(), log.records()), (segment, 22));
    log.append(&larger).unwrap();
    check_after(&inner, &disk, log);
}

#[test]
fn a_start_that_was_never_begun_stays_away_when_the_power_fails() {
    let (inner, disk, log) = filled(3);
    let next = super::super::Start { segment: 2, records: 4, banks: *log.banks() };
    log.put_start(&next).unwrap();
    drop(log);
    let (_, recovery) = open(&disk);
    assert_eq!(recovery.changed, ["start.2", "start.2.sig"]);
    inner.lose_power(super::disks::Left::Nothing);
    assert!(!inner.names().unwrap().iter().any(|name| name.starts_with("start.2")));
}
