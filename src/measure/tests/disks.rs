//! Disks that fail: at one call, from one call on, or by losing what was not made durable.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::measure::disk::{Disk, changed};

/// What happens at the call of a [`Faulty`] disk that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does nothing, and those after it work.
    Once,
    /// It does half of what it should, and those after it work.
    Half,
    /// It does all that it should and says that it failed.
    Lie,
    /// It does half, and none after it does anything: the process was killed.
    Dead,
}

const NONE: u64 = u64::MAX;

/// Another disk, of which one call fails.
pub(super) struct Faulty<D> {
    inner: D,
    fault: Fault,
    /// How many calls are to work still; [`NONE`] once one has failed.
    left: Arc<Mutex<u64>>,
}

impl<D: Disk> Faulty<D> {
    pub(super) fn new(inner: D, after: u64, fault: Fault) -> Self {
        Self { inner, fault, left: Arc::new(Mutex::new(after)) }
    }

    /// How many calls are to work still, at any later time.
    pub(super) fn left(&self) -> Arc<Mutex<u64>> {
        self.left.clone()
    }

    /// `half` is what the failing call does.
    fn call<T>(
        &self,
        whole: impl FnOnce(&D) -> io::Result<T>,
        half: impl FnOnce(&D) -> io::Result<()>,
    ) -> io::Result<T> {
        {
            let mut left = self.left.lock().unwrap();
            match *left {
                NONE if self.fault == Fault::Dead => return Err(io::Error::other("dead")),
                NONE => return whole(&self.inner),
                0 => *left = NONE,
                _ => {
                    *left -= 1;
                    return whole(&self.inner);
                }
            }
        }
        match self.fault {
            Fault::Once => {}
            Fault::Half | Fault::Dead => half(&self.inner)?,
            Fault::Lie => whole(&self.inner).map(|_| ())?,
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

impl<D: Disk> Disk for Faulty<D> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.call(|disk| disk.names(), |_| Ok(()))
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.call(|disk| disk.read(name, limit), |_| Ok(()))
    }

    fn cut(&self, name: &str, len: u64) -> io::Result<()> {
        self.call(|disk| disk.cut(name, len), |disk| disk.cut(name, len))
    }

    fn append(&self, name: &str, len: u64, bytes: &[u8]) -> io::Result<()> {
        let half = &bytes[..bytes.len() / 2];
        self.call(|disk| disk.append(name, len, bytes), |disk| disk.append(name, len, half))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.call(|disk| disk.sync(name), |_| Ok(()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|disk| disk.rename(from, to), |_| Ok(()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(|disk| disk.remove(name), |_| Ok(()))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.call(|disk| disk.sync_names(), |_| Ok(()))
    }
}

/// Another disk, to which nothing can be written while it is full. What is there can be read and made durable.
#[derive(Clone)]
pub(super) struct Full<D> {
    inner: D,
    is_full: Arc<AtomicBool>,
}

impl<D: Disk> Full<D> {
    pub(super) fn new(inner: D) -> Self {
        Self { inner, is_full: Arc::default() }
    }

    pub(super) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    fn room(&self) -> io::Result<&D> {
        let is_full = self.is_full.load(Ordering::SeqCst);
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(&self.inner) }
    }
}

impl<D: Disk> Disk for Full<D> {
    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(name, limit)
    }

    fn cut(&self, name: &str, len: u64) -> io::Result<()> {
        self.room()?.cut(name, len)
    }

    fn append(&self, name: &str, len: u64, bytes: &[u8]) -> io::Result<()> {
        self.room()?.append(name, len, bytes)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.inner.sync(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.room()?.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.room()?.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.inner.sync_names()
    }
}

/// A file: what is read, and what is left when the power fails.
#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Default)]
struct State {
    files: Vec<File>,
    now: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
}

/// A disk in memory that loses what was not made durable when the power fails: bytes and names.
#[derive(Clone, Default)]
pub(super) struct Volatile(Arc<Mutex<State>>);

/// What is left of what was not made durable.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    Nothing,
    /// The names, not the bytes.
    Names,
    /// The first half of the bytes that were appended, and not the names.
    HalfOfBytes,
    /// All bytes that were appended, but zeros in place of the first of them to the end of their block; not the names.
    Hole,
    /// The same, but of the first whole block.
    LaterHole,
}

/// Of the file system that [`Left::Hole`] speaks of.
const BLOCK: usize = 512;

impl Volatile {
    pub(super) fn lose_power(&self, left: Left) {
        let mut state = self.0.lock().unwrap();
        for file in &mut state.files {
            match left {
                Left::Nothing | Left::Names => file.now = file.durable.clone(),
                Left::HalfOfBytes => {
                    let end = usize::midpoint(file.durable.len(), file.now.len());
                    if file.now.starts_with(&file.durable) {
                        file.now.truncate(end);
                    } else {
                        file.now = file.durable.clone();
                    }
                }
                Left::Hole | Left::LaterHole if file.now.starts_with(&file.durable) => {
                    let from = file.durable.len();
                    let from = if matches!(left, Left::Hole) { from } else { from.next_multiple_of(BLOCK) };
                    let to = (from + 1).next_multiple_of(BLOCK).min(file.now.len());
                    file.now.get_mut(from..to).unwrap_or_default().fill(0);
                }
                Left::Hole | Left::LaterHole => file.now = file.durable.clone(),
            }
        }
        match left {
            Left::Nothing | Left::HalfOfBytes | Left::Hole | Left::LaterHole => {
                state.now = state.durable.clone()
            }
            Left::Names => {}
        }
    }

    /// Writes all files to a directory.
    pub(super) fn copy_to(&self, directory: &Path) {
        let state = self.0.lock().unwrap();
        for (name, file) in &state.now {
            std::fs::write(directory.join(name), &state.files[*file].now).unwrap();
        }
    }

    fn with<T>(&self, name: &str, what: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        let at = *state.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        what(&mut state.files[at])
    }
}

impl Disk for Volatile {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().now.keys().cloned().collect())
    }

    fn read(&self, name: &str, _limit: u64) -> io::Result<Option<Vec<u8>>> {
        match self.with(name, |file| Ok(file.now.clone())) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) => Ok(None),
        }
    }

    fn cut(&self, name: &str, len: u64) -> io::Result<()> {
        if len == 0 {
            let mut state = self.0.lock().unwrap();
            if !state.now.contains_key(name) {
                let at = state.files.len();
                state.files.push(File::default());
                state.now.insert(name.to_owned(), at);
            }
        }
        let len = usize::try_from(len).unwrap();
        self.with(name, |file| {
            if file.now.len() < len {
                return Err(changed());
            }
            file.now.truncate(len);
            Ok(())
        })
    }

    fn append(&self, name: &str, len: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(name, |file| {
            if file.now.len() as u64 != len {
                return Err(changed());
            }
            file.now.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.with(name, |file| {
            file.durable = file.now.clone();
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let file = state.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.now.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().now.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.durable = state.now.clone();
        Ok(())
    }
}
