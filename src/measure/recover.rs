//! Opens a log, whatever the last gateway left of it.

use std::path::Path;

use super::bank::Banks;
use super::disk::{Disk, System};
use super::entry::Entry;
use super::error::LogError;
use super::list::Summary;
use super::log::{Log, LogOptions, SEGMENT_MAX, SEGMENT_MIN, failed};
use super::names::{self, ASCII, BINARY, NEW, START, TORN};
use super::recovery::{Recovery, Torn};
use super::seen::{Key, Seen};
use super::start::{SIGNATURE_MAX, START_MAX, Seal, Start};
use super::tail::{is_torn, scan};

/// What a record takes, with a long name and a signature. Of so many bytes for each measurement that can be
/// remembered, the lists are read for what they measured.
const RECORD_USUAL: usize = 512;

impl Log {
    /// Opens the log in `directory`, which is made where there is none, and is this process's alone from then
    /// on. A new list gets its `boot_aggregate`. What had to be done is told.
    ///
    /// A last record that is not complete is cut off. So is a last one that is wrong: it was never whole on the
    /// disk, or nobody can tell. A wrong record with right ones behind it is [`LogError::Damaged`], unless it looks
    /// like a write of which the power failure left a later part without an earlier one: that is cut off too.
    ///
    /// The start of a segment must be there and signed: the gateway signs what it wrote and not what it finds. Only
    /// the start of the first segment, which says that nothing was before it, is signed again.
    ///
    /// What follows the list may be written later. A disk on which nothing can be written any more is told in
    /// [`Recovery::undone`], and is an error only where there is no list yet.
    pub fn open(directory: &Path, options: LogOptions, seal: Seal) -> Result<(Self, Recovery), LogError> {
        let unusable = |source| LogError::Directory { path: directory.to_owned(), source };
        let system = System::open(directory).map_err(unusable)?;
        let system = system.ok_or_else(|| LogError::Locked(directory.to_owned()))?;
        Self::open_on(Box::new(system), options, seal)
    }

    pub(super) fn open_on(
        disk: Box<dyn Disk>,
        options: LogOptions,
        seal: Seal,
    ) -> Result<(Self, Recovery), LogError> {
        if !(SEGMENT_MIN..=SEGMENT_MAX).contains(&options.segment_bytes) {
            return Err(LogError::SegmentSize(options.segment_bytes));
        }
        let (start, seen) = (Start::FIRST, Seen::new(options.remembered));
        let mut log = Self {
            disk,
            options,
            seal,
            start,
            records: 0,
            banks: Banks::ZERO,
            size: 0,
            ascii_size: 0,
            seen,
            torn: true,
            closing: false,
            unnamed: true,
            behind: true,
            register: None,
        };
        let recovery = log.recover()?;
        Ok((log, recovery))
    }

    fn recover(&mut self) -> Result<Recovery, LogError> {
        let mut recovery = Recovery::default();
        let files = self.disk.names().map_err(failed("the directory", "read"))?;
        for file in files.iter().filter(|file| file.ends_with(NEW)) {
            recovery.note(self.remove(file));
        }
        let list = if files.iter().any(|file| file == BINARY) { self.read(BINARY)? } else { Vec::new() };
        self.start = self.find_start(&files, &list, &mut recovery)?;
        let keys = self.take_list(&list, &mut recovery)?;
        self.remember(&files, list.len(), keys, &mut recovery);
        let size = usize::try_from(self.size).unwrap_or(list.len());
        recovery.lost = self.lost(&files, list.get(..size).unwrap_or(&list));
        // What another process wrote may not be durable. What is not must not pass for measured.
        if self.size > 0 {
            self.disk.sync(BINARY).map_err(failed(BINARY, "make durable"))?;
            self.sync_names()?;
            self.unnamed = false;
        }
        recovery.created = self.records == 0;
        if recovery.created {
            match self.append(&[Entry::boot_aggregate(self.options.template)]) {
                Err(LogError::Behind(error)) => recovery.note(Err(*error)),
                other => other.map(|_| ())?,
            }
            recovery.start = false;
        } else {
            match self.catch_up() {
                Ok(changed) => recovery.changed = changed,
                Err(error) => recovery.note(Err(error)),
            }
        }
        self.remove_unbegun(&files, &mut recovery);
        Ok(recovery)
    }

    /// Removes the start of a segment that was never begun, which says what may not hold any more, and lines of
    /// lists that are gone.
    fn remove_unbegun(&self, files: &[String], recovery: &mut Recovery) {
        let segment = self.start.segment;
        let lines = names::closed(ASCII, segment);
        let unbegun = |file: &&String| {
            **file == lines || names::segment_of(file).is_some_and(|number| number > segment)
        };
        let (mut removed, before) = (Ok(()), recovery.changed.len());
        for file in files.iter().filter(unbegun) {
            match self.remove(file) {
                Ok(()) => recovery.changed.push(file.clone()),
                Err(error) => removed = Err(error),
            }
        }
        recovery.note(removed);
        if recovery.changed.len() > before {
            recovery.note(self.sync_names());
        }
    }

    fn remove(&self, file: &str) -> Result<(), LogError> {
        self.disk.remove(file).map_err(failed(file, "remove"))
    }

    /// The start of the segment that `list` is.
    fn find_start(&self, files: &[String], list: &[u8], recovery: &mut Recovery) -> Result<Start, LogError> {
        let segment = match names::numbers(BINARY, files).last() {
            Some(closed) => closed + 1,
            None => self.only_segment(files, list)?,
        };
        let file = names::start(segment);
        let found = self.read_start(segment)?;
        let is_signed = match &found {
            Some(start) => self.is_signed(start)?,
            None => false,
        };
        if segment > 1 {
            let start = found.ok_or(LogError::NoStart { file })?;
            return Some(start)
                .filter(|_| is_signed)
                .ok_or_else(|| LogError::Unsigned { file: names::signature(segment) });
        }
        if found.is_some_and(|start| start != Start::FIRST) {
            return Err(LogError::NoStart { file });
        }
        if !is_signed {
            self.put_start(&Start::FIRST)?;
            recovery.start = true;
        }
        Ok(Start::FIRST)
    }

    /// The number of the segment when no closed one is there: that of the last start, or the one before when
    /// the last was written and the segment not closed, which is when it says what `list` came to somewhere.
    fn only_segment(&self, files: &[String], list: &[u8]) -> Result<u64, LogError> {
        let Some(last) = names::numbers(START, files).pop() else { return Ok(1) };
        if last > 1
            && let (Some(before), Some(start)) = (self.read_start(last - 1)?, self.read_start(last)?)
            && start.is_reached(&before, list)
        {
            return Ok(last - 1);
        }
        Ok(last)
    }

    /// Whether the signature of a start is there and right.
    fn is_signed(&self, start: &Start) -> Result<bool, LogError> {
        let file = names::signature(start.segment);
        let signature = self.disk.read(&file, SIGNATURE_MAX).map_err(failed(&file, "read"))?;
        Ok(signature.is_some_and(|signature| (self.seal.verify)(start.encode().as_bytes(), &signature)))
    }

    /// `None` when there is no such file. What is in it must be in the format.
    pub(super) fn read_start(&self, segment: u64) -> Result<Option<Start>, LogError> {
        let file = names::start(segment);
        let Some(text) = self.disk.read(&file, START_MAX).map_err(failed(&file, "read"))? else {
            return Ok(None);
        };
        let start = Start::parse(&text).ok().filter(|start| start.segment == segment);
        start.map(Some).ok_or(LogError::NoStart { file })
    }

    /// Takes the records of the segment, and cuts off what is behind the last right one. Gives their keys.
    fn take_list(&mut self, list: &[u8], recovery: &mut Recovery) -> Result<Vec<Key>, LogError> {
        let mut summary = Summary::empty(&self.start.banks);
        let (keys, size, error) = scan(list, &mut summary);
        self.size = size as u64;
        self.records = self.start.records + summary.records;
        self.banks = summary.end;
        // Where there is nothing yet, there may be no file.
        self.torn = size == 0;
        if let Some(error) = error {
            let rest = list.get(size..).unwrap_or_default();
            if !is_torn(rest, size) {
                return Err(LogError::Damaged { file: BINARY.to_owned(), source: error });
            }
            recovery.note(self.put(TORN, rest, true));
            let cut = self.disk.cut(BINARY, self.size).map_err(failed(BINARY, "cut"));
            // If this fails, it is done before the next record.
            self.torn |= cut.is_err();
            recovery.note(cut);
            recovery.torn = Some(Torn { bytes: rest.len() as u64, error });
        }
        Ok(keys)
    }

    /// Remembers what was measured, going back through the segments as far as there is room, and no further than
    /// where that many usual records would be. `read` bytes were read already, with `keys` in them.
    fn remember(&mut self, files: &[String], mut read: usize, keys: Vec<Key>, recovery: &mut Recovery) {
        keys.into_iter().for_each(|key| self.seen.push(key));
        for segment in names::numbers(BINARY, files).into_iter().rev() {
            if self.seen.is_full() || read >= self.options.remembered.saturating_mul(RECORD_USUAL) {
                return;
            }
            let list = self.read(&names::closed(BINARY, segment)).unwrap_or_default();
            read += list.len();
            let (keys, size, _) = scan(&list, &mut Summary::empty(&Banks::ZERO));
            keys.into_iter().rev().for_each(|key| self.seen.push_oldest(key));
            if list.is_empty() || size < list.len() {
                recovery.unread = recovery.unread.or(Some(segment));
            }
        }
    }
}
