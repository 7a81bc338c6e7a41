//! How far a scrub has come: a small file that is replaced as a whole, and sealed by a hash, for a place that
//! is wrong would leave out part of the store without a word.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::event::{Finding, ScrubTotals};
use crate::store::StorePath;

/// The form of the file.
const VERSION: u32 = 1;
/// The largest file that is read, in bytes: a path in hex, and the counts.
const FILE_MAX: u64 = 64 * 1024;

/// What a scrub is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    /// Files are proven.
    Files,
    /// Evidence without a file is looked for.
    Evidence,
    /// Unfinished files are looked for.
    Leftovers,
    /// It is done.
    Done,
}

/// How far a scrub has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) phase: Phase,
    /// All up to here is done; `None` at the start of the phase.
    pub(super) after: Option<StorePath>,
    /// When it began, in seconds since 1970.
    pub(super) started: u64,
    pub(super) totals: ScrubTotals,
}

impl Cursor {
    /// At the start of a store.
    pub(super) fn start(now: u64) -> Self {
        Self { phase: Phase::Files, after: None, started: now, totals: ScrubTotals::default() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    store: String,
    namespace: String,
    phase: Phase,
    after: Option<String>,
    started: u64,
    files: u64,
    good: u64,
    bytes: u64,
    repaired: u64,
    findings: BTreeMap<String, u64>,
}

/// Which scrub a cursor belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) store: String,
    pub(super) namespace: String,
}

impl Subject {
    /// The name of its files, without what tells them apart.
    fn stem(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.store.as_bytes());
        hash.update([0]);
        hash.update(self.namespace.as_bytes());
        let name: String = hex::encode(hash.finalize()).chars().take(16).collect();
        format!("scrub.{name}")
    }
}

/// Where a scrub's cursor lies, held by one process at a time.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    file: PathBuf,
    subject: Subject,
    _lock: File,
}

impl Place {
    /// Takes the place of `subject` in `directory`, which is made where it is missing.
    pub(super) fn take(directory: &Path, subject: Subject) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let stem = subject.stem();
        let lock = directory.join(format!("{stem}.lock"));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another scrub of this store is under way"),
            TryLockError::Error(error) => error,
        })?;
        let file = directory.join(stem);
        Ok(Self { directory: directory.to_owned(), file, subject, _lock: lock })
    }

    /// The cursor that was left here; without one, or with one that is not understood, why not.
    pub(super) fn load(&self) -> Result<Option<Cursor>, String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.file).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
            Ok(_) => parse(&bytes, &self.subject).map(Some),
        }
    }

    /// Puts `cursor` in place at once.
    pub(super) fn save(&self, cursor: &Cursor) -> io::Result<()> {
        let bytes = encode(cursor, &self.subject)?;
        let unfinished = self.directory.join(format!("{}.new", self.subject.stem()));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &self.file)?;
        File::open(&self.directory)?.sync_all()
    }
}

fn encode(cursor: &Cursor, subject: &Subject) -> io::Result<Vec<u8>> {
    let Cursor { phase, after, started, totals } = cursor;
    let form = Form {
        version: VERSION,
        store: subject.store.clone(),
        namespace: subject.namespace.clone(),
        phase: *phase,
        after: after.as_ref().map(|path| hex::encode(path.as_bytes())),
        started: *started,
        files: totals.files,
        good: totals.good,
        bytes: totals.bytes,
        repaired: totals.repaired,
        findings: totals.findings.iter().map(|(what, count)| (what.as_str().to_owned(), *count)).collect(),
    };
    let mut bytes = serde_json::to_vec(&form)?;
    let seal = hex::encode(Sha256::digest(&bytes));
    bytes.push(b'\n');
    bytes.extend(seal.as_bytes());
    bytes.push(b'\n');
    Ok(bytes)
}

fn parse(bytes: &[u8], subject: &Subject) -> Result<Cursor, String> {
    let wrong = || "it is damaged".to_owned();
    let sealed = bytes.strip_suffix(b"\n").ok_or_else(wrong)?;
    let end = sealed.iter().position(|byte| *byte == b'\n').ok_or_else(wrong)?;
    let (json, seal) = sealed.split_at(end);
    if seal.get(1..) != Some(hex::encode(Sha256::digest(json)).as_bytes()) {
        return Err(wrong());
    }
    let form: Form = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if form.version != VERSION {
        return Err("another version wrote it".to_owned());
    }
    if (&form.store, &form.namespace) != (&subject.store, &subject.namespace) {
        return Err("it is of another store".to_owned());
    }
    let path = |text: String| hex::decode(text).ok().and_then(|bytes| StorePath::parse(&bytes).ok());
    let after = form.after.map(|text| path(text).ok_or_else(wrong)).transpose()?;
    let find = |name: &str| Finding::all().find(|finding| finding.as_str() == name);
    let findings = form.findings.iter().map(|(name, count)| Some((find(name)?, *count)));
    let totals = ScrubTotals {
        files: form.files,
        good: form.good,
        bytes: form.bytes,
        repaired: form.repaired,
        findings: findings.collect::<Option<_>>().ok_or_else(wrong)?,
    };
    Ok(Cursor { phase: form.phase, after, started: form.started, totals })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Cause;

    fn subject(store: &str) -> Subject {
        Subject { store: store.into(), namespace: "n".into() }
    }

    fn cursor() -> Cursor {
        let findings = [(Finding::Failed(Cause::BadBlock), 3), (Finding::Orphan, 1)].into();
        let totals = ScrubTotals { files: 9, good: 5, bytes: 70, findings, repaired: 1 };
        let after = Some(StorePath::parse(b"a/\xff\n").unwrap());
        Cursor { phase: Phase::Evidence, after, started: 1_700_000_000, totals }
    }

    #[test]
    fn what_is_saved_is_loaded_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::take(&folder.path().join("a/b"), subject("s")).unwrap();
        assert_eq!(place.load(), Ok(None));
        for cursor in [cursor(), Cursor::start(5)] {
            place.save(&cursor).unwrap();
            assert_eq!(place.load(), Ok(Some(cursor)));
        }
        let names = std::fs::read_dir(folder.path().join("a/b")).unwrap();
        assert_eq!(names.count(), 2, "nothing unfinished is left");
    }

    #[test]
    fn a_cursor_that_is_cut_or_changed_anywhere_is_none() {
        let good = encode(&cursor(), &subject("s")).unwrap();
        assert_eq!(parse(&good, &subject("s")), Ok(cursor()));
        for n in 0..good.len() {
            assert!(parse(&good[..n], &subject("s")).is_err(), "cut at {n}");
            let mut changed = good.clone();
            changed[n] ^= 1;
            assert!(parse(&changed, &subject("s")).is_err(), "changed at {n}");
        }
        assert!(parse(&[&good[..], b"x"].concat(), &subject("s")).is_err());
        assert_eq!(parse(&good, &subject("t")), Err("it is of another store".to_owned()));
    }

    #[test]
    fn each_store_and_namespace_has_a_place_of_its_own_for_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let first = Place::take(folder.path(), subject("s")).unwrap();
        first.save(&cursor()).unwrap();
        let other = Subject { store: "s".into(), namespace: "m".into() };
        assert_eq!(Place::take(folder.path(), other).unwrap().load(), Ok(None));
        let error = Place::take(folder.path(), subject("s")).unwrap_err().to_string();
        assert!(error.contains("another scrub"), "{error}");
        drop(first);
        assert_eq!(Place::take(folder.path(), subject("s")).unwrap().load(), Ok(Some(cursor())));
    }
}
