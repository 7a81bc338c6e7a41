//! The log on a disk that works: what is in it, segments, starts, and what a start makes of it.

use std::fs;
use std::path::Path;

use super::{entry, seal, signed, small};
use crate::measure::{
    ASCII, Appended, BINARY, Bank, Banks, ChainError, Entry, Fault, FileHash, Log, LogError, LogOptions,
    Records, Recovery, SEGMENT_MAX, SEGMENT_MIN, Seal, Start, Template, closed, pcrs, signature, start,
    verify, verify_chain,
};

fn open(directory: &Path, options: LogOptions) -> (Log, Recovery) {
    Log::open(directory, options, seal()).unwrap()
}

/// Measures files 0 to `count`, one after the other.
fn fill(log: &mut Log, count: u32) {
    (0..count).for_each(|n| assert_eq!(log.append(&[entry(n)]).unwrap().added, 1));
}

/// All segments that are there, one behind the other.
fn list(directory: &Path) -> Vec<u8> {
    let numbered = (1..100).map(|n| directory.join(closed(BINARY, n))).filter(|path| path.exists());
    let segments = numbered.chain([directory.join(BINARY)]);
    segments.flat_map(|path| fs::read(path).unwrap()).collect()
}

fn names_in(list: &[u8]) -> Vec<String> {
    let name = |record: crate::measure::Record<'_>| String::from_utf8(record.fields.name.to_vec()).unwrap();
    Records::new(list).map(|record| name(record.unwrap())).collect()
}

/// The files beside the binary list say what it says.
fn check_beside(directory: &Path, log: &Log) {
    let binary = fs::read(directory.join(BINARY)).unwrap();
    let ascii: Vec<u8> = Records::new(&binary).flat_map(|record| record.unwrap().ascii()).collect();
    assert!(fs::read(directory.join(ASCII)).unwrap() == ascii);
    for bank in Bank::ALL {
        assert_eq!(fs::read_to_string(directory.join(pcrs(bank))).unwrap(), log.banks().pcrs(bank));
    }
}

#[test]
fn the_list_begins_with_the_boot_aggregate_and_goes_on_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("made/with/what/is/above");
    let (mut log, recovery) = open(&directory, LogOptions::default());
    assert!(recovery.created && recovery.is_clean(), "{recovery:?}");
    let mut expected = vec![Entry::boot_aggregate(Template::ImaSigV2)];
    for round in 0..3 {
        let some: Vec<_> = (0..4).map(|n| entry(10 * round + n)).collect();
        assert_eq!(log.append(&some).unwrap(), Appended { added: 4, known: 0, closed: None });
        expected.extend(some);
        check_beside(&directory, &log);
    }
    assert_eq!(list(&directory), expected.iter().flat_map(Entry::binary).collect::<Vec<_>>());
    assert_eq!((log.records(), log.segment()), (13, 1));
    let banks = *log.banks();
    assert_eq!(verify(&list(&directory), &Banks::ZERO).unwrap().end, banks);
    drop(log);
    let (log, recovery) = open(&directory, LogOptions::default());
    assert!(!recovery.created && recovery.is_clean(), "{recovery}");
    assert_eq!((log.records(), *log.banks()), (13, banks));
}

#[test]
fn a_file_is_measured_once_in_all_lives_and_each_violation_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    let violation = Entry::violation(Template::ImaSigV2, FileHash::Sha256, b"/srv/1").unwrap();
    assert!(!log.has(&entry(1)));
    let twice = log.append(&[entry(1), entry(1), violation.clone(), violation.clone()]).unwrap();
    assert_eq!((twice.added, twice.known), (3, 1));
    assert!(log.has(&entry(1)) && !log.has(&entry(2)) && !log.has(&violation));
    assert_eq!(log.append(&[entry(1)]).unwrap().added, 0);
    // Enough for segments to be closed meanwhile.
    for n in 2..100 {
        log.append(&[entry(n)]).unwrap();
    }
    assert!(log.segment() > 2);
    let records = log.records();
    for _ in 0..2 {
        drop(log);
        (log, _) = open(dir.path(), small());
        let again: Vec<_> = (1..100).map(entry).collect();
        assert_eq!(log.append(&again).unwrap(), Appended { added: 0, known: 99, closed: None });
    }
    assert_eq!(log.records(), records);
}

#[test]
fn what_is_not_remembered_any_more_is_measured_again() {
    // Fewer than a segment has, and more.
    for remembered in [10, 60] {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { remembered, ..small() };
        let first = 100 - u32::try_from(remembered).unwrap();
        let (mut log, _) = open(dir.path(), options);
        let add = |log: &mut Log, n| log.append(&[entry(n)]).unwrap().added;
        fill(&mut log, 100);
        assert_eq!((add(&mut log, 99), add(&mut log, first)), (0, 0));
        drop(log);
        let (mut log, _) = open(dir.path(), options);
        let known: Vec<_> = (0..100).filter(|n| log.has(&entry(*n))).collect();
        assert_eq!(known, (first..100).collect::<Vec<_>>());
        // The oldest gives way.
        assert_eq!((add(&mut log, first - 1), add(&mut log, first)), (1, 1));
        assert_eq!(add(&mut log, first + 2), 0);
        verify_chain(dir.path(), &signed).unwrap();
    }
}

#[test]
fn segments_are_one_chain_from_each_signed_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    let mut expected = vec!["boot_aggregate".to_owned()];
    for n in 0..200 {
        let before = log.segment();
        let appended = log.append(&[entry(n)]).unwrap();
        assert_eq!(appended.closed, (log.segment() > before).then_some(before));
        expected.push(String::from_utf8(entry(n).fields().name.to_vec()).unwrap());
        check_beside(dir.path(), &log);
        assert!(fs::metadata(dir.path().join(BINARY)).unwrap().len() <= SEGMENT_MIN);
    }
    let last = log.segment();
    assert!(last > 5, "{last}");
    assert_eq!(names_in(&list(dir.path())), expected);
    assert_eq!(verify(&list(dir.path()), &Banks::ZERO).unwrap().end, *log.banks());
    for first in 1..=last {
        let chain = verify_chain(dir.path(), &signed).unwrap();
        assert_eq!((chain.start.segment, chain.segment), (first, last));
        assert_eq!((chain.records, chain.end), (201, *log.banks()));
        // The ASCII list of a closed segment is that of its records.
        if first < last {
            let binary = fs::read(dir.path().join(closed(BINARY, first))).unwrap();
            let lines: Vec<u8> = Records::new(&binary).flat_map(|record| record.unwrap().ascii()).collect();
            assert!(fs::read(dir.path().join(closed(ASCII, first))).unwrap() == lines);
            fs::remove_file(dir.path().join(closed(BINARY, first))).unwrap();
        }
    }
    // Whoever keeps the closed segments elsewhere does not disturb the gateway.
    let banks = *log.banks();
    drop(log);
    let (log, _) = open(dir.path(), small());
    assert_eq!((log.segment(), log.records(), *log.banks()), (last, 201, banks));
}

#[test]
fn a_chain_that_was_tampered_with_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    fill(&mut log, 100);
    assert!(log.segment() >= 3);
    drop(log);
    let path = |name: String| dir.path().join(name);
    let refused = |path: &Path, bytes: &[u8]| {
        let before = fs::read(path).unwrap();
        fs::write(path, bytes).unwrap();
        let error = verify_chain(dir.path(), &signed).unwrap_err();
        fs::write(path, before).unwrap();
        verify_chain(dir.path(), &signed).unwrap();
        error
    };
    // The last record of a segment is missing, an altered one, and a start that speaks of another list.
    let name = path(closed(BINARY, 2));
    let whole = fs::read(&name).unwrap();
    let last = Records::new(&whole).last().unwrap().unwrap();
    let short = &whole[..usize::try_from(last.offset).unwrap()];
    assert!(matches!(refused(&name, short), ChainError::Broken(file) if file == start(3)));
    let mut altered = whole.clone();
    *altered.last_mut().unwrap() ^= 1;
    let error = refused(&name, &altered);
    let ChainError::Record { file, source } = error else { panic!("{error}") };
    assert_eq!((file, source.record, source.fault), (closed(BINARY, 2), last.number, Fault::Altered));
    let other = Start { segment: 2, records: 1, banks: Banks::of(b"other") }.encode();
    assert!(matches!(refused(&path(start(2)), other.as_bytes()), ChainError::Signature(_)));
    assert!(matches!(refused(&path(signature(2)), b"signed"), ChainError::Signature(_)));
    assert!(matches!(refused(&path(start(2)), b"nothing"), ChainError::Missing(_)));
}

#[test]
fn history_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { history: Some(2), ..small() };
    let (mut log, _) = open(dir.path(), options);
    for n in 0..300 {
        log.append(&[entry(n)]).unwrap();
        let files = fs::read_dir(dir.path()).unwrap().count();
        // Four files for each of three segments but for the one that is written, its start, three registers, the lock.
        assert!(files <= 2 * 4 + 2 + 2 + 3 + 1, "{files}");
    }
    let chain = verify_chain(dir.path(), &signed).unwrap();
    assert_eq!((chain.start.segment, chain.segment), (log.segment() - 2, log.segment()));
    assert_eq!((chain.records, chain.end), (301, *log.banks()));
}

#[test]
fn a_list_cut_anywhere_is_opened_with_its_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), LogOptions::default());
    fill(&mut log, 3);
    drop(log);
    let path = dir.path().join(BINARY);
    let whole = fs::read(&path).unwrap();
    let bounds: Vec<_> = Records::new(&whole).map(|record| record.unwrap().offset).collect();
    for end in 1..whole.len() as u64 {
        fs::write(&path, &whole[..usize::try_from(end).unwrap()]).unwrap();
        let (mut log, recovery) = open(dir.path(), LogOptions::default());
        let records = bounds.iter().filter(|bound| **bound <= end).count() as u64 - 1;
        // Only one with nothing in it is new, and then has its first record again.
        assert_eq!((log.records(), recovery.created), (records.max(1), records == 0));
        let cut = end - bounds[usize::try_from(records).unwrap()];
        assert_eq!(recovery.torn.map_or(0, |torn| torn.bytes), cut);
        if cut > 0 {
            let kept = fs::read(dir.path().join("torn")).unwrap();
            assert_eq!(kept.len() as u64, cut);
        }
        check_beside(dir.path(), &log);
        // It goes on as if nothing had been.
        log.append(&[entry(7)]).unwrap();
        assert_eq!(verify(&list(dir.path()), &Banks::ZERO).unwrap().end, *log.banks());
        check_beside(dir.path(), &log);
    }
}

#[test]
fn a_wrong_record_is_cut_off_at_the_end_and_refused_before_right_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), LogOptions::default());
    fill(&mut log, 3);
    drop(log);
    let path = dir.path().join(BINARY);
    let whole = fs::read(&path).unwrap();
    let last = usize::try_from(Records::new(&whole).last().unwrap().unwrap().offset).unwrap();
    for at in 0..last {
        let mut altered = whole.clone();
        altered[at] ^= 0x10;
        fs::write(&path, &altered).unwrap();
        let error = Log::open(dir.path(), LogOptions::default(), seal()).err().expect("damage is told");
        assert!(matches!(error, LogError::Damaged { .. }), "{at}: {error}");
        assert!(fs::read(&path).unwrap() == altered, "it is left as it is");
    }
    for tail in [&[0; 700][..], b"garbage", &whole[last..whole.len() - 1]] {
        fs::write(&path, [&whole, tail].concat()).unwrap();
        let (_, recovery) = open(dir.path(), LogOptions::default());
        assert_eq!(recovery.torn.unwrap().bytes, tail.len() as u64);
        assert!(!recovery.is_clean());
        assert!(fs::read(&path).unwrap() == whole);
    }
}

#[test]
fn files_beside_the_list_follow_it_whatever_became_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    fill(&mut log, 100);
    drop(log);
    let beside = [ASCII.to_owned(), closed(ASCII, 1), pcrs(Bank::Sha1), pcrs(Bank::Sha384)];
    let whole = beside.each_ref().map(|name| fs::read(dir.path().join(name)).unwrap());
    for (name, whole) in beside.iter().zip(&whole) {
        fs::remove_file(dir.path().join(name)).unwrap();
        let (_, recovery) = open(dir.path(), small());
        assert_eq!(recovery.changed, std::slice::from_ref(name));
        assert!(fs::read(dir.path().join(name)).unwrap() == *whole, "{name}");
    }
    for (name, whole) in [0, 2, 3].map(|n| (&beside[n], &whole[n])) {
        fs::write(dir.path().join(name), [whole, &b"more"[..]].concat()).unwrap();
        let (_, recovery) = open(dir.path(), small());
        assert_eq!(recovery.changed, std::slice::from_ref(name));
        assert!(fs::read(dir.path().join(name)).unwrap() == *whole, "{name}");
    }
}

#[test]
fn only_the_start_of_the_first_segment_is_signed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    fill(&mut log, 3);
    drop(log);
    for (name, bytes) in [(start(1), None), (signature(1), None), (signature(1), Some(b"by another key"))] {
        match bytes {
            Some(bytes) => fs::write(dir.path().join(name), bytes).unwrap(),
            None => fs::remove_file(dir.path().join(name)).unwrap(),
        }
        let (_, recovery) = open(dir.path(), small());
        assert!(recovery.start && !recovery.is_clean());
        verify_chain(dir.path(), &signed).unwrap();
        assert!(open(dir.path(), small()).1.is_clean());
    }
    // It says that nothing was before, and nothing else.
    let other = Start { banks: Banks::of(b"other"), ..Start::FIRST }.encode();
    fs::write(dir.path().join(start(1)), other).unwrap();
    let error = Log::open(dir.path(), small(), seal()).err().unwrap();
    assert!(matches!(error, LogError::NoStart { file } if file == start(1)));
}

#[test]
fn a_start_that_nobody_signed_is_refused_and_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), small());
    fill(&mut log, 100);
    let segment = log.segment();
    assert!(segment > 2);
    drop(log);
    let refused = |name: &str, bytes: Option<&[u8]>| {
        let path = dir.path().join(name);
        let before = fs::read(&path).unwrap();
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let error = Log::open(dir.path(), small(), seal()).err().expect("it is refused");
        assert_eq!(fs::read(&path).ok().as_deref(), bytes, "it is left as it is");
        fs::write(&path, before).unwrap();
        assert!(open(dir.path(), small()).1.is_clean());
        error
    };
    let (name, sign) = (start(segment), signature(segment));
    let other = Start { segment, records: 7, banks: Banks::of(b"other") }.encode();
    for bytes in [None, Some(&b"segment?"[..]), Some(&b""[..])] {
        assert!(matches!(refused(&name, bytes), LogError::NoStart { file } if file == name));
    }
    assert!(matches!(refused(&name, Some(other.as_bytes())), LogError::Unsigned { file } if file == sign));
    for bytes in [None, Some(&b"signed"[..])] {
        let error = refused(&sign, bytes);
        assert!(error.to_string().contains("restore it"), "{error}");
        assert!(matches!(error, LogError::Unsigned { file } if file == sign));
    }
    // Also where all that was before is kept elsewhere.
    for n in 1..segment {
        fs::remove_file(dir.path().join(closed(BINARY, n))).unwrap();
    }
    assert!(matches!(refused(&sign, None), LogError::Unsigned { file } if file == sign));
}

#[test]
fn zeros_for_the_blocks_of_a_write_that_are_missing_are_cut_off_with_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), LogOptions::default());
    fill(&mut log, 20);
    drop(log);
    let path = dir.path().join(BINARY);
    let whole = fs::read(&path).unwrap();
    let bounds: Vec<_> =
        Records::new(&whole).map(|record| usize::try_from(record.unwrap().offset).unwrap()).collect();
    let opened = |hole: std::ops::Range<usize>| {
        let mut list = whole.clone();
        list[hole].fill(0);
        fs::write(&path, &list).unwrap();
        let opened = Log::open(dir.path(), LogOptions::default(), seal());
        opened.map(|(log, recovery)| (log.records(), list, recovery.torn))
    };
    // From any block to its end, and from any record to the end of the block that it begins in.
    let blocks = (1..whole.len() / 512 - 1).map(|block| 512 * block..512 * (block + 1));
    let records = bounds[1..10].iter().map(|bound| *bound..(bound + 1).next_multiple_of(512));
    for hole in blocks.chain(records) {
        let first = bounds.iter().rposition(|bound| *bound <= hole.start).unwrap();
        let (records, list, torn) = opened(hole.clone()).unwrap();
        assert_eq!((records, torn.unwrap().bytes), (first as u64, (whole.len() - bounds[first]) as u64));
        assert!(fs::read(dir.path().join("torn")).unwrap() == list[bounds[first]..], "{hole:?}");
    }
    // Zeros elsewhere come of something else.
    for hole in [600..1024, 1024..1535, bounds[2] + 1..(bounds[2] + 1).next_multiple_of(512)] {
        assert!(matches!(opened(hole.clone()), Err(LogError::Damaged { .. })), "{hole:?}");
    }
    // So does a record that is wrong and ends before a block of zeros.
    let mut altered = whole.clone();
    altered[bounds[2] + 5] ^= 1;
    let block = bounds[3].next_multiple_of(512);
    altered[block..block + 512].fill(0);
    fs::write(&path, &altered).unwrap();
    let error = Log::open(dir.path(), LogOptions::default(), seal()).err();
    assert!(matches!(error, Some(LogError::Damaged { source, .. }) if source.record == 3));
}

#[test]
fn a_list_is_read_back_no_further_than_what_can_be_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { remembered: 10, ..small() };
    let (mut log, _) = open(dir.path(), options);
    // Which are not remembered.
    let violation = Entry::violation(Template::ImaSigV2, FileHash::Sha256, b"/srv/1").unwrap();
    while log.segment() < 5 {
        log.append(std::slice::from_ref(&violation)).unwrap();
    }
    drop(log);
    fs::write(dir.path().join(closed(BINARY, 1)), b"not read").unwrap();
    assert_eq!(open(dir.path(), options).1.unread, None);
    fs::write(dir.path().join(closed(BINARY, 4)), b"read").unwrap();
    assert_eq!(open(dir.path(), options).1.unread, Some(4));
}

#[test]
fn what_is_asked_for_stays_known_for_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), LogOptions { remembered: 10, ..small() });
    let mut added = 0;
    for n in 1..100 {
        log.append(&[entry(n)]).unwrap();
        added += log.append(&[entry(0)]).unwrap().added;
    }
    assert_eq!(added, 1);
    assert!(log.has(&entry(99)) && !log.has(&entry(50)));
}

#[test]
fn one_process_writes() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), LogOptions::default());
    let second = Log::open(dir.path(), LogOptions::default(), seal());
    assert!(matches!(second, Err(LogError::Locked(_))));
    drop(first);
    open(dir.path(), LogOptions::default());
}

#[test]
fn sizes_out_of_bounds_and_signers_that_fail_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for segment_bytes in [0, SEGMENT_MIN - 1, SEGMENT_MAX + 1, u64::MAX] {
        let options = LogOptions { segment_bytes, ..LogOptions::default() };
        let error = Log::open(dir.path(), options, seal()).err();
        assert!(matches!(error, Some(LogError::SegmentSize(given)) if given == segment_bytes));
    }
    let refuses = || Seal { sign: Box::new(|_| Err("no key".into())), ..seal() };
    let error = Log::open(dir.path(), small(), refuses()).err();
    assert!(matches!(error, Some(LogError::Sign { segment: 1, .. })));
    open(dir.path(), small());
    // Without a signature no segment is closed, and none grows.
    let (mut log, _) = Log::open(dir.path(), small(), refuses()).unwrap();
    let failed = (0..100).filter(|n| log.append(&[entry(*n)]).is_err()).count();
    assert!(failed > 0);
    drop(log);
    let (mut log, recovery) = open(dir.path(), small());
    assert!(recovery.is_clean(), "{recovery}");
    let added = log.append(&(0..100).map(entry).collect::<Vec<_>>()).unwrap().added;
    assert_eq!(added, failed);
    verify_chain(dir.path(), &signed).unwrap();
}

#[test]
fn another_programs_change_is_an_error_and_not_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), LogOptions::default());
    log.append(&[entry(1)]).unwrap();
    let path = dir.path().join(BINARY);
    let whole = fs::read(&path).unwrap();
    for other in [&[&whole[..], b"x"].concat(), &whole[..10]] {
        fs::write(&path, other).unwrap();
        assert!(matches!(log.append(&[entry(2)]), Err(LogError::Io { .. })));
    }
    fs::write(&path, &whole).unwrap();
    log.append(&[entry(2)]).unwrap();
    assert_eq!(verify(&list(dir.path()), &Banks::ZERO).unwrap().end, *log.banks());
}
