//! A log is verified while a gateway writes it.

use std::fs;
use std::io::Write as _;
use std::sync::Mutex;

use super::{entry, seal, signed, small};
use crate::measure::{BINARY, ChainError, Fault, Log, LogError, LogOptions, Start, verify_chain};

#[test]
fn segments_that_are_closed_or_removed_meanwhile_are_read_again() {
    for history in [None, Some(1)] {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { history, ..small() };
        let (mut log, _) = Log::open(dir.path(), options, seal()).unwrap();
        (0..60).for_each(|n| assert_eq!(log.append(&[entry(n)]).unwrap().added, 1));
        assert!(log.segment() > 2);
        let (log, left) = (Mutex::new(log), Mutex::new(1));
        // A segment is closed while a start is looked at.
        let meanwhile = |start: &[u8], signature: &[u8]| {
            let (mut log, mut left) = (log.lock().unwrap(), left.lock().unwrap());
            if *left > 0 {
                *left -= 1;
                let (records, segment) = (u32::try_from(log.records()).unwrap(), log.segment());
                let larger: Vec<_> = (records..records + 30).map(entry).collect();
                log.append(&larger).unwrap();
                assert!(log.segment() > segment);
            }
            signed(start, signature)
        };
        let chain = verify_chain(dir.path(), &meanwhile).unwrap();
        let (records, end, segment) = {
            let log = log.lock().unwrap();
            (log.records(), *log.banks(), log.segment())
        };
        assert_eq!((chain.records, chain.end, chain.segment), (records, end, segment));
        // All the while.
        *left.lock().unwrap() = u32::MAX;
        assert!(matches!(verify_chain(dir.path(), &meanwhile), Err(ChainError::Changing)));
    }
}

#[test]
fn a_last_record_that_is_not_whole_is_being_written_only_where_somebody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), small(), seal()).unwrap();
    (0..60).for_each(|n| assert_eq!(log.append(&[entry(n)]).unwrap().added, 1));
    assert!(log.segment() > 1);
    let path = dir.path().join(BINARY);
    let whole = fs::read(&path).unwrap();
    let append = |bytes: &[u8]| {
        fs::write(&path, &whole).unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(bytes).unwrap();
    };
    let record = entry(1000).binary();
    for end in 1..record.len() {
        append(&record[..end]);
        let chain = verify_chain(dir.path(), &signed).unwrap();
        assert_eq!((chain.records, chain.end), (61, *log.banks()));
    }
    // What is wrong is wrong.
    append(&[0; 40]);
    assert!(matches!(verify_chain(dir.path(), &signed), Err(ChainError::Record { .. })));
    append(&record[..50]);
    drop(log);
    let error = verify_chain(dir.path(), &signed).unwrap_err();
    let ChainError::Record { source, .. } = error else { panic!("{error}") };
    assert_eq!((source.fault, source.offset), (Fault::Cut, whole.len() as u64));
    // Whoever looks at the lock does not keep it.
    let (log, recovery) = Log::open(dir.path(), small(), seal()).unwrap();
    assert_eq!(recovery.torn.unwrap().bytes, 50);
    assert!(matches!(Log::open(dir.path(), small(), seal()), Err(LogError::Locked(_))));
    assert_eq!(verify_chain(dir.path(), &signed).unwrap().records, log.records());
}

#[test]
fn a_segment_is_open_until_its_list_has_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), small(), seal()).unwrap();
    log.append(&[entry(1)]).unwrap();
    // As in the middle of closing it, and where that came to nothing and the list grows.
    log.put_start(&Start { segment: 2, records: 2, banks: *log.banks() }).unwrap();
    for n in 2..4 {
        let chain = verify_chain(dir.path(), &signed).unwrap();
        assert_eq!((chain.segment, chain.records, chain.end), (1, log.records(), *log.banks()));
        log.append(&[entry(n)]).unwrap();
    }
}
