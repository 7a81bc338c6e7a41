//! Which clients hold state, in a file that outlives a crash: RFC 8881 section 8.4.2.1 calls it stable
//! storage.
//!
//! A head, then records of one length, each with a checksum, appended and synced. Whatever follows the
//! last whole record was being written when the gateway died, and nobody had been told of it. The file is
//! written anew, under another name and then moved into place, when it is opened, when it has grown to
//! many times what it says, and after a failed write, which may have left half a record.
//!
//! One gateway keeps it at a time: two would write it anew over each other's clients.

mod lock;
mod name;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::state::{Change, Journal};
use crate::proto::rpc::BoxFuture;
use lock::Lock;
pub use name::JournalName;

/// What the file begins with.
const MAGIC: &[u8; 8] = b"NVCLNT1\n";
/// One byte for what happened, the owner, and the checksum over both.
const RECORD: usize = 1 + 32 + CHECKSUM;
const CHECKSUM: usize = 8;
const ADD: u8 = 1;
const REMOVE: u8 = 2;
/// Owners at most, far more than there are clients.
const MAX_OWNERS: usize = 1 << 17;
/// Records at most: more than are ever written.
const MAX_RECORDS: usize = 4 * MAX_OWNERS;
/// Records that say nothing any more are borne up to this number, or as many as there are owners.
const SLACK: usize = 4096;

/// The journal.
pub struct FileJournal {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    log: Mutex<Log>,
}

/// Changes in the order they came, for whoever writes next.
#[derive(Default)]
struct Queue {
    changes: Vec<Change>,
    /// How many came, all in all.
    ticket: u64,
}

struct Log {
    directory: PathBuf,
    name: String,
    owners: HashSet<[u8; 32]>,
    /// Where to append; `None` when the file has to be written anew.
    file: Option<File>,
    records: usize,
    /// How many changes are durable, all in all.
    durable: u64,
    /// Held as long as anybody may yet write.
    _lock: Lock,
}

impl FileJournal {
    /// Opens the journal in `directory`, or makes it; returns the owners that are in it, too. Those of the
    /// journals that it goes on with are in it from now on, and in no other.
    /// Reads and writes files: not to be called where nothing may block.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] when another gateway keeps it; those of the files; and what is no
    /// journal is not replaced.
    pub fn open(directory: &Path, name: &JournalName) -> io::Result<(Self, Vec<[u8; 32]>)> {
        let lock = Lock::take(directory, name.as_str())?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::ResourceBusy, "another gateway runs that keeps its clients there")
        })?;
        let mut owners = read(&directory.join(name.as_str()))?;
        let mut before = Vec::new();
        for name in name.before(directory)? {
            // Who has it goes on with it.
            let Some(lock) = Lock::take(directory, &name)? else { continue };
            let path = directory.join(name);
            let more = read(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            let room = MAX_OWNERS.saturating_sub(owners.len());
            owners.extend(more.into_iter().take(room));
            before.push((lock, path));
        }
        let survivors = owners.iter().copied().collect();
        let (directory, name) = (directory.to_owned(), name.as_str().to_owned());
        let mut log = Log { directory, name, owners, file: None, records: 0, durable: 0, _lock: lock };
        log.rewrite()?;
        for (lock, path) in before {
            match std::fs::remove_file(path) {
                // Another has gone on with it since it was listed.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => lock.remove()?,
            }
        }
        let shared = Shared { queue: Mutex::default(), log: Mutex::new(log) };
        Ok((Self { shared: Arc::new(shared) }, survivors))
    }
}

impl Journal for FileJournal {
    fn add(&self, owner: [u8; 32]) -> BoxFuture<'_, io::Result<()>> {
        self.apply(vec![Change::Add(owner)])
    }

    fn remove(&self, owner: [u8; 32]) -> BoxFuture<'_, io::Result<()>> {
        self.apply(vec![Change::Remove(owner)])
    }

    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'_, io::Result<()>> {
        // Their place in the order is now, whenever the future runs.
        let ticket = {
            let mut queue = self.shared.queue.lock();
            queue.ticket += changes.len() as u64;
            queue.changes.extend(changes);
            queue.ticket
        };
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || shared.write(ticket)).await;
            written.map_err(io::Error::other)?
        })
    }
}

impl Shared {
    /// Makes the changes up to `ticket` durable, with all others that wait.
    fn write(&self, ticket: u64) -> io::Result<()> {
        let mut log = self.log.lock();
        if log.durable >= ticket {
            return Ok(());
        }
        let (changes, upto) = {
            let mut queue = self.queue.lock();
            (std::mem::take(&mut queue.changes), queue.ticket)
        };
        // What does not reach the file now does with the next write, which makes it anew.
        log.write(&changes)?;
        log.durable = upto;
        Ok(())
    }
}

impl Log {
    fn write(&mut self, changes: &[Change]) -> io::Result<()> {
        let file = self.file.take();
        for change in changes {
            match change {
                Change::Add(owner) if self.owners.len() < MAX_OWNERS => self.owners.insert(*owner),
                Change::Add(owner) if self.owners.contains(owner) => false,
                Change::Add(_) => return Err(io::Error::other("too many owners")),
                Change::Remove(owner) => self.owners.remove(owner),
            };
        }
        let records = self.records + changes.len();
        match file {
            Some(mut file) if records <= 2 * self.owners.len() + SLACK => {
                let bytes: Vec<u8> = changes.iter().flat_map(record).collect();
                file.write_all(&bytes)?;
                file.sync_data()?;
                self.records = records;
                self.file = Some(file);
                Ok(())
            }
            _ => self.rewrite(),
        }
    }

    /// Writes the file anew with the owners alone: whoever opens it meanwhile finds the old one whole, or
    /// the new one.
    fn rewrite(&mut self) -> io::Result<()> {
        let unfinished = self.directory.join(format!("{}.new", self.name));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.owners.iter().flat_map(|owner| record(&Change::Add(*owner))));
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, self.directory.join(&self.name))?;
        // The name must outlive a loss of power as the bytes do.
        File::open(&self.directory)?.sync_all()?;
        self.records = self.owners.len();
        self.file = Some(file);
        Ok(())
    }
}

fn record(change: &Change) -> [u8; RECORD] {
    let (kind, owner) = match change {
        Change::Add(owner) => (ADD, owner),
        Change::Remove(owner) => (REMOVE, owner),
    };
    let checksum = checksum(kind, owner);
    let mut record = [0; RECORD];
    let bytes = [kind].into_iter().chain(*owner).chain(checksum);
    for (to, from) in record.iter_mut().zip(bytes) {
        *to = from;
    }
    record
}

fn checksum(kind: u8, owner: &[u8; 32]) -> [u8; CHECKSUM] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&[kind]);
    context.update(owner);
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

/// The owners that a journal tells of, up to the first record that is not whole.
fn read(path: &Path) -> io::Result<HashSet<[u8; 32]>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take((MAGIC.len() + MAX_RECORDS * RECORD) as u64).read_to_end(&mut bytes)?;
    let mut owners = HashSet::new();
    let Some(records) = bytes.strip_prefix(MAGIC) else {
        // Cut within the head, it told of nobody.
        return match MAGIC.starts_with(&bytes) {
            true => Ok(owners),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "is no journal of clients")),
        };
    };
    for bytes in records.chunks_exact(RECORD) {
        let Some((&kind, rest)) = bytes.split_first() else { break };
        let Some((owner, sum)) = rest.split_first_chunk::<32>() else { break };
        if sum != checksum(kind, owner) {
            break;
        }
        match kind {
            ADD if owners.len() < MAX_OWNERS => owners.insert(*owner),
            REMOVE => owners.remove(owner),
            _ => break,
        };
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "nfs4.clients.127.0.0.1-2049";

    /// Of the gateway that is told to listen on a port of 127.0.0.1, and does on another, if need be.
    fn open_on(directory: &Path, asked: u16, bound: u16) -> io::Result<(FileJournal, Vec<[u8; 32]>)> {
        let name = JournalName::new(([127, 0, 0, 1], asked).into(), ([127, 0, 0, 1], bound).into());
        FileJournal::open(directory, &name)
    }

    fn open(directory: &Path) -> io::Result<(FileJournal, Vec<[u8; 32]>)> {
        open_on(directory, 2049, 2049)
    }

    fn owner(byte: u8) -> [u8; 32] {
        [byte; 32]
    }

    fn reopened(directory: &Path) -> Vec<u8> {
        told(open(directory).unwrap().1)
    }

    fn told(owners: Vec<[u8; 32]>) -> Vec<u8> {
        let mut owners: Vec<_> = owners.into_iter().map(|owner| owner[0]).collect();
        owners.sort_unstable();
        owners
    }

    #[tokio::test]
    async fn what_was_added_and_not_removed_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, owners) = open(directory.path()).unwrap();
        assert!(owners.is_empty());
        journal.add(owner(1)).await.unwrap();
        journal.add(owner(2)).await.unwrap();
        journal.add(owner(2)).await.unwrap();
        journal.remove(owner(1)).await.unwrap();
        journal.apply(vec![Change::Add(owner(3)), Change::Remove(owner(9))]).await.unwrap();
        drop(journal);
        assert_eq!(reopened(directory.path()), [2, 3]);
        assert_eq!(reopened(directory.path()), [2, 3], "opening leaves it so");
        let mode = std::fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn cut_at_every_length_it_tells_of_the_whole_records() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = open(directory.path()).unwrap();
        let changes =
            [Change::Add(owner(1)), Change::Add(owner(2)), Change::Remove(owner(1)), Change::Add(owner(4))];
        for change in changes {
            journal.apply(vec![change]).await.unwrap();
        }
        drop(journal);
        let path = directory.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), MAGIC.len() + changes.len() * RECORD);
        let told: [&[u8]; 5] = [&[], &[1], &[1, 2], &[2], &[2, 4]];
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let records = length.saturating_sub(MAGIC.len()) / RECORD;
            assert_eq!(reopened(directory.path()), told[records], "cut to {length}");
        }
    }

    #[tokio::test]
    async fn a_damaged_record_and_what_follows_it_count_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = open(directory.path()).unwrap();
        for byte in 1..=3 {
            journal.add(owner(byte)).await.unwrap();
        }
        drop(journal);
        let path = directory.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in MAGIC.len()..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, &damaged).unwrap();
            let before = (at - MAGIC.len()) / RECORD;
            assert_eq!(reopened(directory.path()).len(), before, "damaged at {at}");
        }
        std::fs::write(&path, b"something else").unwrap();
        assert!(open(directory.path()).is_err());
    }

    #[tokio::test]
    async fn it_stays_as_short_as_what_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = open(directory.path()).unwrap();
        journal.add(owner(7)).await.unwrap();
        for _ in 0..20 {
            let churn = (0..SLACK / 8).flat_map(|_| [Change::Add(owner(1)), Change::Remove(owner(1))]);
            journal.apply(churn.collect()).await.unwrap();
            let length = std::fs::metadata(directory.path().join(FILE)).unwrap().len();
            assert!(length <= (MAGIC.len() + (SLACK + 2) * RECORD) as u64, "{length} bytes");
        }
        drop(journal);
        assert_eq!(reopened(directory.path()), [7]);
    }

    #[tokio::test]
    async fn after_a_failed_write_nothing_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = open(directory.path()).unwrap();
        journal.add(owner(1)).await.unwrap();
        // A file that cannot be written to, where the next record would go.
        let path = directory.path().join(FILE);
        journal.shared.log.lock().file = Some(File::open(&path).unwrap());
        assert!(journal.add(owner(2)).await.is_err());
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"half a record").unwrap();
        journal.add(owner(3)).await.unwrap();
        drop(journal);
        assert_eq!(reopened(directory.path()), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_failed_rewrite_is_an_error_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("state");
        std::fs::create_dir(&inner).unwrap();
        let (journal, _) = open(&inner).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::fs::rename(&inner, &elsewhere).unwrap();
        journal.shared.log.lock().file = None;
        assert!(journal.add(owner(1)).await.is_err());
        std::fs::rename(&elsewhere, &inner).unwrap();
        journal.add(owner(2)).await.unwrap();
        drop(journal);
        assert_eq!(reopened(&inner), [1, 2]);
    }

    #[tokio::test]
    async fn one_gateway_keeps_it_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = open(directory.path()).unwrap();
        journal.add(owner(1)).await.unwrap();
        let refused = open(directory.path()).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        // Another's is its own.
        let (other, owners) = open_on(directory.path(), 2050, 2050).unwrap();
        assert!(owners.is_empty());
        other.add(owner(2)).await.unwrap();
        journal.add(owner(3)).await.unwrap();
        drop((journal, other));
        assert_eq!(reopened(directory.path()), [1, 3]);
        assert_eq!(told(open_on(directory.path(), 2050, 2050).unwrap().1), [2]);
    }

    #[tokio::test]
    async fn on_a_port_of_the_system_s_choice_it_goes_on_with_those_that_ended() {
        let directory = tempfile::tempdir().unwrap();
        let start = |asked, bound| open_on(directory.path(), asked, bound).unwrap();
        let (fixed, _) = start(2049, 2049);
        fixed.add(owner(9)).await.unwrap();
        drop(fixed);
        let (first, _) = start(0, 3001);
        first.add(owner(1)).await.unwrap();
        let (second, owners) = start(0, 3002);
        assert!(owners.is_empty(), "the first runs");
        second.add(owner(2)).await.unwrap();
        drop(first);
        let (third, owners) = start(0, 3003);
        assert_eq!(told(owners), [1]);
        drop((second, third));
        let (fourth, owners) = start(0, 3004);
        assert_eq!(told(owners), [1, 2]);
        drop(fourth);
        assert!(start(3002, 3002).1.is_empty(), "they went on under another");
        assert_eq!(told(start(3004, 3004).1), [1, 2], "told to use the port it had");
        assert_eq!(told(start(3004, 3004).1), [1, 2], "and kept it");
        assert!(start(0, 3005).1.is_empty());
        assert_eq!(told(start(2049, 2049).1), [9]);
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 2 * 4, "three told where to listen, one not, each with its lock");
    }
}
