//! The list on disk: appended to, followed by the files beside it, and split into segments.
//!
//! The binary list is the truth; a record counts once it is durable there. All else follows from it and is made
//! again when it was not written: so the order of writes matters for the binary list and the starts alone.

use std::collections::HashSet;
use std::io;

use super::bank::{Bank, Banks};
use super::disk::Disk;
use super::entry::Entry;
use super::error::LogError;
use super::list::Records;
use super::names::{self, ASCII, BINARY, NEW};
use super::register::Register;
use super::seen::{Key, Seen, key};
use super::start::{Seal, Start};
use super::template::Template;

/// The most that can be appended at once, in bytes of the binary list.
pub const BATCH_MAX: usize = 16 << 20;
/// The smallest size of a segment in bytes.
pub const SEGMENT_MIN: u64 = 4096;
/// The largest size of a segment in bytes; one that holds a single batch may be as much larger as the batch.
pub const SEGMENT_MAX: u64 = 256 << 20;
/// The largest file that is read.
pub(super) const FILE_MAX: u64 = SEGMENT_MAX + BATCH_MAX as u64;
/// The largest ASCII list of such a file: two digits stand for each byte of most fields, and some spaces beside.
const ASCII_MAX: u64 = 3 * FILE_MAX;

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// The layout of the first record of a new list, `boot_aggregate`.
    pub template: Template,
    /// From this size on, in bytes, a segment is closed: [`SEGMENT_MIN`] to [`SEGMENT_MAX`].
    pub segment_bytes: u64,
    /// How many closed segments are kept; older ones are removed. `None` keeps all.
    pub history: Option<u32>,
    /// How many measurements are remembered, 60 bytes of memory each. One that is not is measured again: where
    /// more files than these are read in turn, as by one who walks the tree each night, all of them are each time.
    pub remembered: usize,
}

impl Default for LogOptions {
    /// Segments of 16 MiB, the last 64 closed ones kept: 1 GiB of binary lists, and some more than twice as much of
    /// ASCII lists. 262144 measurements remembered, in 16 MiB.
    fn default() -> Self {
        Self { template: Template::ImaSigV2, segment_bytes: 16 << 20, history: Some(64), remembered: 1 << 18 }
    }
}

/// What became of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// How many records were added.
    pub added: usize,
    /// How many were in the list already.
    pub known: usize,
    /// The segment that was closed before, if one was.
    pub closed: Option<u64>,
}

/// A measurement list on disk, and what its registers hold.
pub struct Log {
    pub(super) disk: Box<dyn Disk>,
    pub(super) options: LogOptions,
    pub(super) seal: Seal,
    /// Of the segment that is written.
    pub(super) start: Start,
    /// Records in all segments.
    pub(super) records: u64,
    pub(super) banks: Banks,
    /// Bytes of the binary list that count.
    pub(super) size: u64,
    /// Bytes of the ASCII list.
    pub(super) ascii_size: u64,
    pub(super) seen: Seen,
    /// There may be more in the binary list than counts, or no file yet.
    pub(super) torn: bool,
    /// The segment is to be closed, or is half closed.
    pub(super) closing: bool,
    /// The name of the binary list may not be durable.
    pub(super) unnamed: bool,
    /// The files that follow may not be what they should be.
    pub(super) behind: bool,
    /// The register of a TPM that follows, if one does.
    pub(super) register: Option<Register>,
}

/// What is appended at once.
struct Batch {
    binary: Vec<u8>,
    ascii: Vec<u8>,
    keys: Vec<Key>,
    /// Of each record.
    digests: Vec<Banks>,
    banks: Banks,
    appended: Appended,
}

pub(super) fn failed(file: &str, operation: &'static str) -> impl FnOnce(io::Error) -> LogError {
    let file = file.to_owned();
    move |source| LogError::Io { file, operation, source }
}

impl Log {
    /// Appends what is not in the list yet, in this order, and makes it durable: one fsync for all. When it
    /// returns an error, nothing of it is in the list, except with [`LogError::Behind`], which says so.
    ///
    /// A TPM's register that [follows](Self::attach) is extended then. Where it is not, with [`LogError::Register`],
    /// what was to be appended may be in the list and does not count: [`Self::has`] tells. It is made good with the
    /// next append, before which nothing more comes into the list.
    ///
    /// Where all entries are in the list already nothing is written to it, so that no full disk is in the way; only
    /// the files that follow are made good then, where they are behind and no segment is half closed.
    ///
    /// A violation is appended each time. When the process ends before this returns, or the machine after it
    /// returned an error, the next one may find some first part of the entries in the list: measured, though
    /// nobody was told so.
    pub fn append(&mut self, entries: &[Entry]) -> Result<Appended, LogError> {
        if let Some(register) = &mut self.register {
            register.catch_up()?;
        }
        let mut batch = self.batch(entries);
        if batch.binary.len() > BATCH_MAX {
            return Err(LogError::BatchLength(batch.binary.len()));
        }
        let len = batch.binary.len() as u64;
        let full = self.size > 0 && self.size.saturating_add(len) > self.options.segment_bytes;
        if len > 0 && (full || self.closing) {
            batch.appended.closed = Some(self.start.segment);
            self.close_segment()?;
        }
        if len > 0 {
            self.write(&batch)?;
            if let Some(register) = &mut self.register {
                register.unmarked |= batch.appended.closed.is_some();
            }
            // What is not served without the register is made good with it; before that, segments are not removed.
            let followed = self.register_follows(&batch.digests);
            self.behind |= followed.is_err();
            followed?;
        }
        // Of a segment that is half closed it is open which list they follow.
        if len > 0 || (self.behind && !self.closing) {
            self.follow(&batch.ascii).map_err(|error| LogError::Behind(Box::new(error)))?;
        }
        Ok(batch.appended)
    }

    /// Whether [`Self::append`] would leave this entry out, since it is in the list, and in the register where one
    /// follows.
    pub fn has(&self, entry: &Entry) -> bool {
        let digests = entry.digests();
        let is_pending = self.register.as_ref().is_some_and(|register| register.lacks(&digests));
        !entry.is_violation() && self.seen.has(&key(&digests.sha256)) && !is_pending
    }

    /// What the register of each bank holds behind the last record.
    pub const fn banks(&self) -> &Banks {
        &self.banks
    }

    /// How many records there are, in all segments.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// The number of the segment that is written; the first is 1.
    pub const fn segment(&self) -> u64 {
        self.start.segment
    }

    fn batch(&mut self, entries: &[Entry]) -> Batch {
        let mut batch = Batch {
            binary: Vec::new(),
            ascii: Vec::new(),
            keys: Vec::new(),
            digests: Vec::new(),
            banks: self.banks,
            appended: Appended::default(),
        };
        let mut fresh = HashSet::new();
        for entry in entries {
            let digests = entry.digests();
            if !entry.is_violation() {
                let key = key(&digests.sha256);
                if self.seen.asked(&key) || !fresh.insert(key) {
                    batch.appended.known += 1;
                    continue;
                }
                batch.keys.push(key);
            }
            batch.binary.extend_from_slice(&entry.binary());
            batch.ascii.extend_from_slice(&entry.ascii());
            batch.banks.extend(&digests);
            batch.digests.push(digests);
            batch.appended.added += 1;
        }
        batch
    }

    /// Puts a batch into the binary list. After an error the list is as before: what was written of the batch
    /// does not count, and is cut off before anything else is written. That holds for a failed fsync above all:
    /// its pages would pass for written from then on, so they are written anew.
    fn write(&mut self, batch: &Batch) -> Result<(), LogError> {
        if self.torn {
            self.disk.cut(BINARY, self.size).map_err(failed(BINARY, "cut"))?;
        }
        self.torn = true;
        let written = self
            .disk
            .append(BINARY, self.size, &batch.binary)
            .map_err(failed(BINARY, "write to"))
            .and_then(|()| self.disk.sync(BINARY).map_err(failed(BINARY, "make durable")))
            .and_then(|()| if self.unnamed { self.sync_names() } else { Ok(()) });
        if written.is_err() {
            // For those who read it meanwhile. If this fails, it is done before the next record.
            self.torn = self.disk.cut(BINARY, self.size).is_err();
            return written;
        }
        (self.torn, self.unnamed) = (false, false);
        self.size += batch.binary.len() as u64;
        self.records += batch.appended.added as u64;
        self.banks = batch.banks;
        batch.keys.iter().for_each(|key| self.seen.push(*key));
        Ok(())
    }

    /// Closes the segment and begins the next one. The start of the next is durable before the list gets its
    /// number, which is the moment that counts. After an error it is taken up where it was.
    fn close_segment(&mut self) -> Result<(), LogError> {
        self.closing = true;
        if self.torn {
            self.disk.cut(BINARY, self.size).map_err(failed(BINARY, "cut"))?;
            self.torn = false;
        }
        let segment = self.start.segment;
        let next = Start { segment: segment + 1, records: self.records, banks: self.banks };
        self.put_start(&next)?;
        let name = names::closed(BINARY, segment);
        if let Err(error) = self.disk.rename(BINARY, &name) {
            // It may have been done by an earlier attempt, or by this one.
            let names = self.disk.names().map_err(failed("the directory", "read"))?;
            let is = |wanted: &str| names.iter().any(|name| name == wanted);
            if is(BINARY) || !is(&name) {
                return Err(failed(BINARY, "rename")(error));
            }
        }
        self.sync_names()?;
        (self.start, self.size, self.torn, self.unnamed, self.closing) = (next, 0, true, true, false);
        // Otherwise both are made again from the list.
        if self.behind || self.disk.rename(ASCII, &names::closed(ASCII, segment)).is_err() {
            self.behind = true;
        } else {
            self.ascii_size = 0;
            self.behind = self.disk.cut(ASCII, 0).is_err();
        }
        if let Some(history) = self.options.history
            && segment > u64::from(history)
        {
            // Done with the rest that follows.
            self.behind = true;
        }
        Ok(())
    }

    /// Signs the start of a segment and makes it durable, the signature first.
    pub(super) fn put_start(&self, start: &Start) -> Result<(), LogError> {
        let text = start.encode();
        let signature = (self.seal.sign)(text.as_bytes())
            .map_err(|source| LogError::Sign { segment: start.segment, source })?;
        self.put(&names::signature(start.segment), &signature, true)?;
        self.put(&names::start(start.segment), text.as_bytes(), true)?;
        self.sync_names()
    }

    /// Replaces a file, in one step.
    pub(super) fn put(&self, name: &str, bytes: &[u8], durable: bool) -> Result<(), LogError> {
        let new = name.to_owned() + NEW;
        self.disk.cut(&new, 0).map_err(failed(&new, "create"))?;
        self.disk.append(&new, 0, bytes).map_err(failed(&new, "write to"))?;
        if durable {
            self.disk.sync(&new).map_err(failed(&new, "make durable"))?;
        }
        self.disk.rename(&new, name).map_err(failed(&new, "rename"))
    }

    pub(super) fn sync_names(&self) -> Result<(), LogError> {
        self.disk.sync_names().map_err(failed("the directory", "make durable"))
    }

    /// Lets the files beside the binary list follow it. They are not made durable: they can be made again.
    fn follow(&mut self, ascii: &[u8]) -> Result<(), LogError> {
        if self.behind {
            return self.catch_up().map(|_| ());
        }
        self.behind = true;
        self.disk.append(ASCII, self.ascii_size, ascii).map_err(failed(ASCII, "write to"))?;
        self.ascii_size += ascii.len() as u64;
        for bank in Bank::ALL {
            self.put(&names::pcrs(bank), self.banks.pcrs(bank).as_bytes(), false)?;
        }
        self.behind = false;
        Ok(())
    }

    /// Makes whatever is not right of the files beside the binary list, and removes the segments that are not
    /// kept any more. Gives the names of the files that were written or removed.
    pub(super) fn catch_up(&mut self) -> Result<Vec<String>, LogError> {
        self.behind = true;
        let mut changed = Vec::new();
        let mut files = self.disk.names().map_err(failed("the directory", "read"))?;
        // Lists before their starts, so that no list is left without.
        files.sort_unstable();
        let segment = self.start.segment;
        let oldest = self.options.history.map_or(0, |history| segment.saturating_sub(u64::from(history)));
        let is_old = |file: &str| names::segment_of(file).is_some_and(|number| number < oldest);
        for file in files.iter().filter(|file| is_old(file)) {
            self.disk.remove(file).map_err(failed(file, "remove"))?;
            changed.push(file.clone());
        }
        for number in names::numbers(BINARY, &files).into_iter().filter(|number| *number >= oldest) {
            let name = names::closed(ASCII, number);
            if number < segment && !files.contains(&name) {
                let list = self.read(&names::closed(BINARY, number))?;
                self.put(&name, &lines(&list), false)?;
                changed.push(name);
            }
        }
        let mut list = if self.size == 0 { Vec::new() } else { self.read(BINARY)? };
        list.truncate(usize::try_from(self.size).unwrap_or(usize::MAX));
        let ascii = lines(&list);
        self.ascii_size = ascii.len() as u64;
        let texts = Bank::ALL.map(|bank| (names::pcrs(bank), self.banks.pcrs(bank).into_bytes()));
        for (name, text) in [(ASCII.to_owned(), ascii)].into_iter().chain(texts) {
            // A file that cannot be read is written anew.
            if self.disk.read(&name, ASCII_MAX).is_ok_and(|found| found.as_ref() == Some(&text)) {
                continue;
            }
            self.put(&name, &text, false)?;
            changed.push(name);
        }
        self.behind = false;
        Ok(changed)
    }

    /// A list, which is there.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, LogError> {
        let found = self.disk.read(name, FILE_MAX).map_err(failed(name, "read"))?;
        found.ok_or_else(|| failed(name, "read")(io::ErrorKind::NotFound.into()))
    }
}

/// The ASCII form of a list, up to the first record that is not in the format.
pub(super) fn lines(list: &[u8]) -> Vec<u8> {
    Records::new(list).map_while(Result::ok).flat_map(|record| record.ascii()).collect()
}
