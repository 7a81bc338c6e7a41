//! Lets a TPM's register follow a log, whatever became of both since the last time.

use super::bank::Banks;
use super::error::LogError;
use super::list::{Fault, ListError, Records};
use super::log::{Log, failed};
use super::mark::{MARK_MAX, Mark};
use super::names::{self, BINARY, REGISTER};
use super::register::{Attached, Register, RegisterError, Tpm, read};

/// How many records are extended before it is looked at what the register holds.
const AT_ONCE: usize = 256;

impl Log {
    /// Lets the register follow the list from now on: [`Self::append`] extends it. It is extended at once with
    /// what the list has and the register lacks.
    ///
    /// A register that holds nothing begins to follow the list here, as [`Mark`] says. One that holds something
    /// must hold what the list comes to somewhere behind the mark.
    pub fn attach(&mut self, mut tpm: Box<dyn Tpm>) -> Result<Attached, LogError> {
        let (pcr, held) = (tpm.pcr(), read(&mut *tpm)?);
        tpm.release();
        let text = self.disk.read(REGISTER, MARK_MAX).map_err(failed(REGISTER, "read"))?;
        let damaged = || RegisterError::Damaged { file: REGISTER.to_owned() };
        let found = text.map(|text| Mark::open(&text, &*self.seal.verify)).transpose();
        let found = found.map_err(|_| damaged())?;
        if held.is(&Banks::ZERO) {
            return self.begin(tpm, found.is_some());
        }
        let mark = found.filter(|mark| mark.pcr == pcr).ok_or(RegisterError::Foreign(pcr))?;
        if mark.records > self.records {
            let (records, marked) = (self.records, mark.records);
            return Err(RegisterError::Short { pcr, records, marked }.into());
        }
        let (mut banks, mut number) = (mark.banks, mark.records);
        let mut at = held.is(&banks).then_some((number, banks));
        self.since(mark.records, &mut |digests| {
            banks.extend(digests);
            number += 1;
            if at.is_none() && held.is(&banks) {
                at = Some((number, banks));
            }
            Ok(())
        })?;
        let (at, banks) = at.ok_or(RegisterError::Foreign(pcr))?;
        let mut register = Register::new(tpm, mark);
        register.held = banks;
        register.unmarked = mark.records < self.records;
        let late = self.extend_since(&mut register, at)?;
        self.register = Some(register);
        // Where this fails, it is done with the next record, and told then.
        let _ = self.mark();
        Ok(Attached { anew: None, late })
    }

    /// Lets a register that holds nothing follow the list. The mark is durable before the register holds anything.
    fn begin(&mut self, tpm: Box<dyn Tpm>, again: bool) -> Result<Attached, LogError> {
        // Where nothing was served yet, the list and the register begin together.
        let is_new = self.records <= 1;
        let (records, aggregate) = if is_new { (0, Banks::ZERO) } else { (self.records, self.banks) };
        let mark = Mark::new(tpm.pcr(), records, &aggregate);
        self.put_mark(&mark)?;
        let mut register = Register::new(tpm, mark);
        if !is_new {
            register.held = Banks::ZERO;
            register.push(&[aggregate]);
            register.catch_up()?;
        }
        let late = self.extend_since(&mut register, records)?;
        self.register = Some(register);
        let anew = (again && !is_new).then_some(records);
        Ok(Attached { anew, late: if is_new { 0 } else { late } })
    }

    /// Extends the register with the records behind `records`; how many there were.
    fn extend_since(&self, register: &mut Register, records: u64) -> Result<u64, LogError> {
        let mut together = Vec::with_capacity(AT_ONCE);
        let mut count = 0;
        self.since(records, &mut |digests| {
            together.push(*digests);
            count += 1;
            if together.len() == AT_ONCE {
                register.push(&together);
                together.clear();
                register.catch_up()?;
            }
            Ok(())
        })?;
        register.push(&together);
        register.catch_up()?;
        Ok(count)
    }

    /// Gives the digests of each record behind `records`.
    fn since(
        &self,
        records: u64,
        each: &mut dyn FnMut(&Banks) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        if records >= self.records {
            return Ok(());
        }
        let mut first = self.start;
        while first.records > records {
            let before = first.segment.saturating_sub(1);
            first =
                self.read_start(before)?.ok_or_else(|| LogError::NoStart { file: names::start(before) })?;
        }
        let mut number = first.records;
        for segment in first.segment..=self.start.segment {
            let is_open = segment == self.start.segment;
            let file = if is_open { BINARY.to_owned() } else { names::closed(BINARY, segment) };
            // Of a segment that has no record there may be no file.
            let mut list = if is_open && self.size == 0 { Vec::new() } else { self.read(&file)? };
            if is_open {
                list.truncate(usize::try_from(self.size).unwrap_or(usize::MAX));
            }
            let damaged = |source| LogError::Damaged { file: file.clone(), source };
            for record in Records::new(&list) {
                let record = record.map_err(damaged)?;
                number += 1;
                if number > records {
                    let altered =
                        ListError { record: record.number, offset: record.offset, fault: Fault::Altered };
                    each(&record.true_digests().ok_or_else(|| damaged(altered))?)?;
                }
            }
        }
        Ok(())
    }

    /// Extends the register with what the list has, and notes where it is when a segment was closed.
    pub(super) fn register_follows(&mut self, digests: &[Banks]) -> Result<(), LogError> {
        let Some(register) = &mut self.register else { return Ok(()) };
        register.push(digests);
        register.catch_up()?;
        self.mark()
    }

    /// Signs the mark and makes it durable, in one step.
    fn put_mark(&self, mark: &Mark) -> Result<(), LogError> {
        let segment = self.start.segment;
        let file = mark.seal(&self.seal.sign).map_err(|source| LogError::Sign { segment, source })?;
        self.put(REGISTER, &file, true)?;
        self.sync_names()
    }

    /// Writes the mark anew where that is due: what it says of records that are not kept any more is of no use.
    fn mark(&mut self) -> Result<(), LogError> {
        let Some(register) = self.register.as_ref().filter(|register| register.unmarked) else {
            return Ok(());
        };
        let mark = Mark { records: self.records, banks: register.held, ..register.mark };
        self.put_mark(&mark).map_err(|error| LogError::Behind(Box::new(error)))?;
        if let Some(register) = &mut self.register {
            (register.mark, register.unmarked) = (mark, false);
        }
        Ok(())
    }
}
