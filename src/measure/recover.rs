//! Opens a log, whatever the last gateway left of it.

use std::fmt;
use std::path::Path;

use super::bank::Banks;
use super::disk::{Disk, System};
use super::entry::Entry;
use super::error::LogError;
use super::list::{Fault, ListError, Records, Summary, verify};
use super::log::{Log, LogOptions, SEGMENT_MAX, SEGMENT_MIN, Signing, failed};
use super::names::{self, BINARY, NEW, START, TORN};
use super::seen::{Key, Seen};
use super::start::{START_MAX, Start};

/// What was cut off a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// How many bytes.
    pub bytes: u64,
    /// The first record among them, and what was wrong with it.
    pub error: ListError,
}

/// What was done to open a log. Without a crash before it, only `created` may be true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The list is new.
    pub created: bool,
    /// What was cut off the list. Its bytes are in the file `torn` until the next time.
    pub torn: Option<Torn>,
    /// The start of the segment had to be written or signed again.
    pub start: bool,
    /// Files that were written again or removed, since they did not follow the list.
    pub changed: Vec<String>,
    /// A closed segment that could not be read to its end for what it measured; it may be measured again.
    pub unread: Option<u64>,
}

impl Recovery {
    /// Whether the last gateway left all as it should be.
    pub fn is_clean(&self) -> bool {
        let Self { created: _, torn, start, changed, unread } = self;
        torn.is_none() && !start && changed.is_empty() && unread.is_none()
    }
}

impl fmt::Display for Recovery {
    /// In a line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = Vec::new();
        if self.created {
            told.push("a new list".to_owned());
        }
        if let Some(Torn { bytes, error }) = &self.torn {
            told.push(format!("cut {bytes} bytes off the list, which are in the file {TORN} ({error})"));
        }
        if self.start {
            told.push("the segment's start was written again".to_owned());
        }
        if !self.changed.is_empty() {
            told.push(format!("written again or removed: {}", self.changed.join(", ")));
        }
        if let Some(segment) = self.unread {
            told.push(format!("segment {segment} cannot be read to its end"));
        }
        if told.is_empty() {
            told.push("complete".to_owned());
        }
        f.write_str(&told.join("; "))
    }
}

impl Log {
    /// Opens the log in `directory`, which is made where there is none, and is this process's alone from then
    /// on. A new list gets its `boot_aggregate`. What had to be done is told.
    ///
    /// A last record that is not complete is cut off. So is a last one that is wrong: it was never whole on the
    /// disk, or nobody can tell. A wrong record with right ones behind it is [`LogError::Damaged`].
    pub fn open(
        directory: &Path,
        options: LogOptions,
        signing: Signing,
    ) -> Result<(Self, Recovery), LogError> {
        let unusable = |source| LogError::Directory { path: directory.to_owned(), source };
        let system = System::open(directory).map_err(unusable)?;
        let system = system.ok_or_else(|| LogError::Locked(directory.to_owned()))?;
        Self::open_on(Box::new(system), options, signing)
    }

    pub(super) fn open_on(
        disk: Box<dyn Disk>,
        options: LogOptions,
        signing: Signing,
    ) -> Result<(Self, Recovery), LogError> {
        if !(SEGMENT_MIN..=SEGMENT_MAX).contains(&options.segment_bytes) {
            return Err(LogError::SegmentSize(options.segment_bytes));
        }
        let (start, seen) = (Start::FIRST, Seen::new(options.remembered));
        let mut log = Self {
            disk,
            options,
            signing,
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
        };
        let recovery = log.recover()?;
        Ok((log, recovery))
    }

    fn recover(&mut self) -> Result<Recovery, LogError> {
        let mut recovery = Recovery::default();
        let files = self.disk.names().map_err(failed("the directory", "read"))?;
        for file in files.iter().filter(|file| file.ends_with(NEW)) {
            self.disk.remove(file).map_err(failed(file, "remove"))?;
        }
        let list = if files.iter().any(|file| file == BINARY) { self.read(BINARY)? } else { Vec::new() };
        self.start = self.find_start(&files, &list, &mut recovery)?;
        let keys = self.take_list(&list, &mut recovery)?;
        self.remember(&files, keys, &mut recovery);
        // What another process wrote may not be durable.
        if self.size > 0 {
            self.disk.sync(BINARY).map_err(failed(BINARY, "make durable"))?;
            self.sync_names()?;
            (self.torn, self.unnamed) = (false, false);
        }
        recovery.created = self.records == 0;
        if recovery.created {
            self.append(&[Entry::boot_aggregate(self.options.template)])?;
            recovery.changed.clear();
            recovery.start = false;
        } else {
            recovery.changed = self.catch_up()?;
        }
        // The start of a segment that was never begun says what may not hold any more.
        let next = self.start.segment + 1;
        for file in files.iter().filter(|file| names::segment_of(file).is_some_and(|number| number >= next)) {
            self.disk.remove(file).map_err(failed(file, "remove"))?;
            recovery.changed.push(file.clone());
        }
        Ok(recovery)
    }

    /// The start of the segment that `list` is.
    fn find_start(&self, files: &[String], list: &[u8], recovery: &mut Recovery) -> Result<Start, LogError> {
        let segment = match names::numbers(BINARY, files).last() {
            Some(closed) => closed + 1,
            None => self.only_segment(files, list)?,
        };
        let file = names::start(segment);
        let found = match self.read_start(segment)? {
            Some(start) => start,
            None if segment == 1 => Start::FIRST,
            None => {
                let missing = || LogError::NoStart { file: file.clone() };
                self.start_after(&self.read_start(segment - 1)?.ok_or_else(missing)?)?
            }
        };
        let signature = names::signature(segment);
        if ![&file, &signature].into_iter().all(|name| files.contains(name)) {
            self.put_start(&found)?;
            recovery.start = true;
        }
        Ok(found)
    }

    /// The number of the segment when no closed one is there: that of the last start, or the one before when
    /// the last was written and the segment not closed, which is when it says what `list` comes to.
    fn only_segment(&self, files: &[String], list: &[u8]) -> Result<u64, LogError> {
        let Some(last) = names::numbers(START, files).pop() else { return Ok(1) };
        if last > 1
            && let (Some(before), Some(start)) = (self.read_start(last - 1)?, self.read_start(last)?)
            && let Ok(summary) = verify(list, &before.banks)
            && summary.records > 0
            && (summary.end, before.records + summary.records) == (start.banks, start.records)
        {
            return Ok(last - 1);
        }
        Ok(last)
    }

    /// `None` when there is no such file. What is in it must be in the format.
    fn read_start(&self, segment: u64) -> Result<Option<Start>, LogError> {
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
        if let Some(error) = error {
            let rest = list.get(size..).unwrap_or_default();
            if has_record_behind(rest) {
                return Err(LogError::Damaged { file: BINARY.to_owned(), source: error });
            }
            self.put(TORN, rest, true)?;
            self.disk.cut(BINARY, self.size).map_err(failed(BINARY, "cut"))?;
            recovery.torn = Some(Torn { bytes: rest.len() as u64, error });
        }
        Ok(keys)
    }

    /// Remembers what was measured, going back through the segments as far as there is room.
    fn remember(&mut self, files: &[String], keys: Vec<Key>, recovery: &mut Recovery) {
        keys.into_iter().for_each(|key| self.seen.push(key));
        for segment in names::numbers(BINARY, files).into_iter().rev() {
            if self.seen.is_full() {
                return;
            }
            let list = self.read(&names::closed(BINARY, segment)).unwrap_or_default();
            let (keys, size, _) = scan(&list, &mut Summary::empty(&Banks::ZERO));
            keys.into_iter().rev().for_each(|key| self.seen.push_oldest(key));
            if list.is_empty() || size < list.len() {
                recovery.unread = recovery.unread.or(Some(segment));
            }
        }
    }
}

/// The keys of the right records at the start of `list`, how many bytes they take, and what is wrong then.
fn scan(list: &[u8], summary: &mut Summary) -> (Vec<Key>, usize, Option<ListError>) {
    let (mut keys, mut end) = (Vec::new(), 0);
    let mut records = Records::new(list);
    while let Some(record) = records.next() {
        let error = match record {
            Ok(record) if record.is_true() => {
                if !record.is_violation() {
                    keys.push(record.digests().sha256);
                }
                summary.add(&record);
                end = records.offset();
                continue;
            }
            Ok(record) => ListError { record: record.number, offset: record.offset, fault: Fault::Altered },
            Err(error) => error,
        };
        return (keys, usize::try_from(end).unwrap_or(list.len()), Some(error));
    }
    (keys, list.len(), None)
}

/// Whether a right record begins anywhere behind the start of `rest`.
fn has_record_behind(rest: &[u8]) -> bool {
    (1..rest.len()).filter_map(|at| rest.get(at..)).any(|tail| {
        let first = Records::new(tail).next();
        first.is_some_and(|record| record.is_ok_and(|record| record.is_true()))
    })
}
