//! A TPM's register that follows the list: a TPM in memory that fails at any call, is reset, or is used by others.

use std::sync::{Arc, Mutex};

use super::{entry, seal, signed, small};
use crate::measure::disk::Disk;
use crate::measure::tests::disks::{Left, Volatile};
use crate::measure::{
    Attached, Bank, Banks, Chain, Entry, FileHash, Held, Log, LogError, LogOptions, Mark, REGISTER,
    RegisterError, Template, Tpm, TpmError, closed, pcrs, verify_register,
};

/// What happens at the call that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It does nothing.
    Nothing,
    /// It does what it should, and its answer is lost.
    Lost,
}

#[derive(Default)]
struct State {
    banks: Vec<Bank>,
    held: Option<Banks>,
    calls: u64,
    /// At this call and so many behind it.
    fails: Option<(u64, u64, Fault)>,
}

/// Register 13 of a TPM in memory. Clones are the same one.
#[derive(Clone)]
struct Soft(Arc<Mutex<State>>);

impl Soft {
    fn new(banks: &[Bank]) -> Self {
        Self(Arc::new(Mutex::new(State { banks: banks.to_vec(), ..State::default() })))
    }

    fn held(&self) -> Banks {
        self.0.lock().unwrap().held.unwrap_or(Banks::ZERO)
    }

    fn set(&self, held: Banks) {
        self.0.lock().unwrap().held = Some(held);
    }

    fn fail(&self, after: u64, count: u64, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        state.fails = Some((state.calls + after, count, fault));
    }

    fn work(&self) {
        self.0.lock().unwrap().fails = None;
    }

    fn extend_from_elsewhere(&self) {
        let mut held = self.held();
        held.extend(&Banks::of(b"another program"));
        self.set(held);
    }

    fn call(&self, does: impl FnOnce(&mut State)) -> Result<(), TpmError> {
        let mut state = self.0.lock().unwrap();
        let call = state.calls;
        state.calls += 1;
        match state.fails {
            Some((first, count, fault)) if (first..first + count).contains(&call) => {
                if fault == Fault::Lost {
                    does(&mut state);
                }
                Err("the TPM is gone".into())
            }
            _ => {
                does(&mut state);
                Ok(())
            }
        }
    }
}

impl Tpm for Soft {
    fn pcr(&self) -> u32 {
        13
    }

    fn read(&mut self) -> Result<Held, TpmError> {
        self.call(|_| {})?;
        let (held, banks) = (self.held(), self.0.lock().unwrap().banks.clone());
        Ok(Held::new(banks.into_iter().map(|bank| (bank, held.get(bank).to_vec())).collect()))
    }

    fn extend(&mut self, digests: &Banks) -> Result<(), TpmError> {
        self.call(|state| {
            let mut held = state.held.unwrap_or(Banks::ZERO);
            held.extend(digests);
            state.held = Some(held);
        })
    }

    fn release(&mut self) {}
}

fn open(disk: &Volatile) -> Log {
    Log::open_on(Box::new(disk.clone()), small(), seal()).unwrap().0
}

fn attached(disk: &Volatile, tpm: &Soft) -> (Log, Attached) {
    let mut log = open(disk);
    let attached = log.attach(Box::new(tpm.clone())).unwrap();
    (log, attached)
}

fn mark(disk: &Volatile) -> Mark {
    Mark::open(&disk.read(REGISTER, 2000).unwrap().unwrap(), &signed).unwrap()
}

fn is_foreign<T>(result: &Result<T, LogError>) -> bool {
    matches!(result, Err(LogError::Register(RegisterError::Foreign(13))))
}

#[test]
fn a_register_that_begins_with_the_list_holds_what_the_kernel_s_would() {
    for banks in [&Bank::ALL[..], &[Bank::Sha256], &[Bank::Sha1, Bank::Sha384]] {
        let (disk, tpm) = (Volatile::default(), Soft::new(banks));
        let (mut log, told) = attached(&disk, &tpm);
        assert_eq!((told, told.to_string().as_str()), (Attached::default(), ""));
        for n in 0..30 {
            log.append(&[entry(n), Entry::violation(Template::ImaSigV2, FileHash::Sha256, b"/v").unwrap()])
                .unwrap();
            assert_eq!(tpm.held(), *log.banks());
            assert!(log.has(&entry(n)));
        }
        assert!(log.segment() > 1);
        let text = disk.read(&pcrs(Bank::Sha256), 10_000).unwrap().unwrap();
        assert_eq!(text, tpm.held().pcrs(Bank::Sha256).as_bytes());
        // Known ones do not extend it.
        let held = tpm.held();
        log.append(&[entry(3)]).unwrap();
        assert_eq!(tpm.held(), held);
        drop(log);
        let (log, told) = attached(&disk, &tpm);
        assert_eq!((told, tpm.held()), (Attached::default(), *log.banks()));
        assert_eq!(mark(&disk).records, log.records());
    }
}

#[test]
fn what_fails_at_any_call_is_made_good_and_never_counts_before() {
    for fault in [Fault::Nothing, Fault::Lost] {
        for restart in [false, true] {
            for after in 0..40 {
                let (disk, tpm) = (Volatile::default(), Soft::new(&Bank::ALL));
                let (mut log, _) = attached(&disk, &tpm);
                log.append(&[entry(0)]).unwrap();
                tpm.fail(after, u64::MAX / 2, fault);
                let mut failed = None;
                for n in (1..9).step_by(2) {
                    let entries = [entry(n), entry(n + 1)];
                    match log.append(&entries) {
                        Ok(_) => assert!(failed.is_none() && entries.iter().all(|entry| log.has(entry))),
                        Err(LogError::Register(RegisterError::Tpm { .. })) => {
                            failed = failed.or(Some((n, log.records())));
                            assert_eq!(failed.map(|(_, records)| records), Some(log.records()), "grows on");
                            assert!(!entries.iter().any(|entry| log.has(entry)));
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                assert!(log.has(&entry(0)), "what was known is known");
                assert_eq!(failed.is_some(), after < 12, "{after}");
                tpm.work();
                if restart {
                    drop(log);
                    disk.lose_power(Left::Nothing);
                    log = attached(&disk, &tpm).0;
                }
                for n in 0..12 {
                    log.append(&[entry(n)]).unwrap();
                    assert!(log.has(&entry(n)));
                }
                assert_eq!(tpm.held(), *log.banks(), "{fault:?} {restart} {after}");
                assert_eq!(log.records(), 13);
            }
        }
    }
}

#[test]
fn a_register_that_was_reset_goes_on_with_what_the_list_comes_to() {
    for after in 0..8 {
        let (disk, tpm) = (Volatile::default(), Soft::new(&Bank::ALL));
        let (mut log, _) = attached(&disk, &tpm);
        (0..20).for_each(|n| _ = log.append(&[entry(n)]).unwrap());
        let (records, aggregate) = (log.records(), *log.banks());
        drop(log);
        tpm.set(Banks::ZERO);
        // Also where it is cut short the first time.
        tpm.fail(after, u64::MAX / 2, Fault::Lost);
        let first = open(&disk).attach(Box::new(tpm.clone()));
        disk.lose_power(Left::Nothing);
        tpm.work();
        let (mut log, told) = attached(&disk, &tpm);
        if after == 0 {
            assert_eq!(told, Attached { anew: Some(records), late: 0 });
            assert!(told.to_string().contains(&format!("behind record {records}")));
        }
        assert_eq!(first.is_err(), after < 3, "{after}");
        let mut wanted = Banks::ZERO;
        wanted.extend(&aggregate);
        assert_eq!(tpm.held(), wanted, "{after}");
        assert_eq!(mark(&disk), Mark { pcr: 13, began: records, records, banks: wanted });
        log.append(&[entry(20)]).unwrap();
        wanted.extend(&entry(20).digests());
        assert_eq!(tpm.held(), wanted);
    }
}

#[test]
fn what_other_software_extended_is_told_and_not_taken() {
    let (disk, tpm) = (Volatile::default(), Soft::new(&Bank::ALL));
    let (mut log, _) = attached(&disk, &tpm);
    log.append(&[entry(0)]).unwrap();
    let good = tpm.held();
    tpm.extend_from_elsewhere();
    for n in 1..4 {
        let appended = log.append(&[entry(n)]);
        assert!(is_foreign(&appended), "{appended:?}");
        assert!(!log.has(&entry(n)));
    }
    assert!(log.has(&entry(0)) && log.append(&[entry(0)]).is_err());
    assert_eq!(log.records(), 3, "the second waits for the first");
    drop(log);
    assert!(is_foreign(&open(&disk).attach(Box::new(tpm.clone()))));
    // Reset while the gateway runs is no start of the machine.
    tpm.set(good);
    let (mut log, told) = attached(&disk, &tpm);
    assert_eq!(told, Attached { anew: None, late: 1 });
    tpm.set(Banks::ZERO);
    assert!(is_foreign(&log.append(&[entry(8)])));
    drop(log);

    // Before the list was there.
    let (disk, tpm) = (Volatile::default(), Soft::new(&Bank::ALL));
    tpm.extend_from_elsewhere();
    assert!(is_foreign(&open(&disk).attach(Box::new(tpm))));
    let none = open(&disk).attach(Box::new(Soft::new(&[])));
    assert!(matches!(none, Err(LogError::Register(RegisterError::NoBank(13)))));
}

#[test]
fn a_list_that_is_not_what_it_was_is_not_followed() {
    let (disk, tpm) = (Volatile::default(), Soft::new(&Bank::ALL));
    let (mut log, _) = attached(&disk, &tpm);
    (0..8).for_each(|n| _ = log.append(&[entry(n)]).unwrap());
    drop(log);
    let other = Volatile::default();
    let (mut log, _) = attached(&other, &Soft::new(&Bank::ALL));
    (8..17).for_each(|n| _ = log.append(&[entry(n)]).unwrap());
    drop(log);
    assert!(is_foreign(&open(&other).attach(Box::new(tpm.clone()))));
    // A list that lost records that the mark knows of.
    let cut = Volatile::default();
    drop(open(&cut));
    drop(attached(&disk, &tpm));
    let marked = Mark { records: 5, ..mark(&disk) };
    let text = marked.seal(&seal().sign).unwrap();
    cut.cut(REGISTER, 0).unwrap();
    cut.append(REGISTER, 0, &text).unwrap();
    let short = open(&cut).attach(Box::new(tpm.clone()));
    let is_short = |error: &LogError| {
        matches!(error, LogError::Register(RegisterError::Short { pcr: 13, records: 1, marked: 5 }))
    };
    assert!(short.as_ref().is_err_and(is_short), "{short:?}");
    // One that says of a list that was cut what the register holds, and that the gateway did not sign.
    let forged = Mark { records: 1, banks: tpm.held(), ..marked }.encode() + "signature 00\n";
    for text in [forged.as_bytes(), &text[..text.len() - 1], &text[..9]] {
        cut.cut(REGISTER, 0).unwrap();
        cut.append(REGISTER, 0, text).unwrap();
        let damaged = open(&cut).attach(Box::new(tpm.clone()));
        assert!(matches!(damaged, Err(LogError::Register(RegisterError::Damaged { .. }))));
    }
}

#[test]
fn a_list_that_ran_without_the_register_for_a_while_is_made_good() {
    let (disk, tpm) = (Volatile::default(), Soft::new(&Bank::ALL));
    drop(attached(&disk, &tpm));
    let mut log = open(&disk);
    (0..700).for_each(|n| _ = log.append(&[entry(n)]).unwrap());
    drop(log);
    let (log, told) = attached(&disk, &tpm);
    assert_eq!((told.late, tpm.held()), (700, *log.banks()));
    assert!(told.to_string().starts_with("700 records"));
}

#[test]
fn segments_that_are_not_kept_are_not_needed() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { history: Some(1), ..small() };
    let tpm = Soft::new(&Bank::ALL);
    let verified = |wanted: &Banks| {
        let mark = Mark::open(&std::fs::read(dir.path().join(REGISTER)).unwrap(), &signed).unwrap();
        let is_wanted = |held: &Banks| held == wanted;
        let (Chain { records, .. }, replayed) =
            verify_register(dir.path(), &signed, &mark, &is_wanted).unwrap();
        (replayed, records)
    };
    let mut early = Banks::ZERO;
    let mut before = 0;
    for n in 0..200 {
        let mut log = Log::open(dir.path(), options, seal()).unwrap().0;
        assert_eq!(log.attach(Box::new(tpm.clone())).unwrap(), Attached::default(), "{n}");
        (0..5).for_each(|m| _ = log.append(&[entry(5 * n + m)]).unwrap());
        let (replayed, records) = verified(&tpm.held());
        assert_eq!(replayed.found, Some(records));
        assert_eq!(replayed.is_whole, dir.path().join("start.1").exists(), "{n}");
        if n == 1 {
            early = tpm.held();
            // A quote from before the last records.
            log.append(&[entry(9000)]).unwrap();
            assert_eq!(verified(&early).0.found, Some(records));
        }
        before = log.segment();
    }
    assert!(before > 10 && !dir.path().join(closed("start", before - 2)).exists());
    // The same without a start of the gateway in between.
    let mut log = Log::open(dir.path(), options, seal()).unwrap().0;
    log.attach(Box::new(tpm.clone())).unwrap();
    (1000..1300).for_each(|n| _ = log.append(&[entry(n)]).unwrap());
    assert!(log.segment() > before + 10);
    drop(log);
    let mut log = Log::open(dir.path(), options, seal()).unwrap().0;
    assert_eq!(log.attach(Box::new(tpm.clone())).unwrap(), Attached::default());
    let (replayed, records) = verified(&tpm.held());
    assert_eq!((replayed.found, replayed.is_whole), (Some(records), false));
    let (replayed, _) = verified(&early);
    assert_eq!((replayed.found, replayed.is_whole, replayed.is_begun), (None, false, true));
}
