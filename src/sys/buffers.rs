//! Buffers of one size, handed out again as they are.
//!
//! What reads of a store go into is large, lives long where it is cached, and comes and goes as fast as clients
//! read. The C library would move the end of its heap for it (`mprotect`), and a vector has to be zeroed before it is
//! read into. Here 32 buffers share a mapping, which is kept while any of them is used.
//!
//! Huge pages were tried: where a hypervisor takes free memory back, touching one for the first time took four times as
//! long as touching its small pages.

#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Bytes of a buffer.
pub const SIZE: usize = 64 * 1024;
/// Buffers of a slab: one for each bit of [`Slab::free`].
const IN_SLAB: u32 = u32::BITS;
/// Bytes of a slab.
const SLAB: usize = SIZE * IN_SLAB as usize;
/// Slabs without a used buffer that are kept for the next ones.
const SPARE: usize = 4;

/// Where buffers come from and go to. A clone is the same pool.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Arc<Mutex<Slabs>>);

#[derive(Debug, Default)]
struct Slabs {
    /// By number; `None` where there was one.
    all: Vec<Option<Slab>>,
    /// Numbers that have no slab.
    gaps: Vec<usize>,
    /// Slabs with a free buffer, those without a used one among them.
    open: Vec<usize>,
    /// How many have no used buffer.
    unused: usize,
}

impl Buffers {
    /// A buffer whose bytes are whatever they were before.
    ///
    /// # Errors
    /// The system has no memory.
    pub fn take(&self) -> io::Result<Buffer> {
        let (number, place, start) = self.0.lock().take()?;
        Ok(Buffer { pool: self.clone(), number, place, start, len: SIZE })
    }

    /// Bytes that the slabs hold in all.
    pub fn held(&self) -> usize {
        let slabs = self.0.lock();
        (slabs.all.len() - slabs.gaps.len()) * SLAB
    }
}

impl Slabs {
    fn take(&mut self) -> io::Result<(usize, u32, NonNull<u8>)> {
        loop {
            let Some(&number) = self.open.last() else {
                self.grow()?;
                continue;
            };
            let found = self.all.get_mut(number).and_then(Option::as_mut);
            let Some(slab) = found.filter(|slab| slab.free != 0) else {
                self.open.pop();
                continue;
            };
            if slab.free == u32::MAX {
                self.unused -= 1;
            }
            let place = slab.free.trailing_zeros();
            slab.free &= !(1 << place);
            let start = slab.start_of(place);
            if slab.free == 0 {
                self.open.pop();
            }
            return Ok((number, place, start));
        }
    }

    fn grow(&mut self) -> io::Result<()> {
        let slab = Slab::new()?;
        let number = self.gaps.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() - 1
        });
        if let Some(place) = self.all.get_mut(number) {
            *place = Some(slab);
        }
        self.open.push(number);
        self.unused += 1;
        Ok(())
    }

    fn give(&mut self, number: usize, place: u32) {
        let Some(found) = self.all.get_mut(number) else { return };
        let Some(slab) = found else { return };
        if slab.free == 0 {
            self.open.push(number);
        }
        slab.free |= 1 << place;
        if slab.free != u32::MAX {
            return;
        }
        if self.unused < SPARE {
            self.unused += 1;
            return;
        }
        *found = None;
        self.open.retain(|open| *open != number);
        self.gaps.push(number);
    }
}

/// A mapping of its own.
#[derive(Debug)]
struct Slab {
    start: NonNull<u8>,
    /// A bit for each buffer that is free.
    free: u32,
}

// SAFETY: the memory belongs to no thread. A byte of it is reached through the one `Buffer` that has its place alone.
unsafe impl Send for Slab {}

impl Slab {
    fn new() -> io::Result<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new anonymous mapping at an address that the kernel chooses is nobody else's.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), SLAB, access, flags) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, free: u32::MAX })
    }

    fn start_of(&self, place: u32) -> NonNull<u8> {
        // SAFETY: `place` is below `IN_SLAB`, so that the result lies in the slab.
        unsafe { self.start.add(place as usize * SIZE) }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: the slab's own mapping. Slabs end when no buffer is used, or with the pool, which every buffer
        // holds: nothing refers to them.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), SLAB) };
    }
}

/// Memory that is this buffer's alone until it is dropped.
#[derive(Debug)]
pub struct Buffer {
    pool: Buffers,
    number: usize,
    place: u32,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: as for `Slab`; a shared buffer can only be read.
unsafe impl Send for Buffer {}
// SAFETY: the same.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Cuts the buffer to its first `len` bytes; more than there are changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` lie in a place that is this buffer's, of a slab that lives as long as
        // the place is used. A mapping holds zeros until it is written: all of it is initialised.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.0.lock().give(self.number, self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All but the last four slabs are given back when their buffers are.
    #[test]
    fn memory_is_given_back_and_used_again() {
        let pool = Buffers::default();
        assert_eq!(pool.held(), 0);
        let mut all: Vec<Buffer> = (0..10 * IN_SLAB).map(|_| pool.take().unwrap()).collect();
        assert_eq!(pool.held(), 10 * SLAB);
        let other = pool.take().unwrap();
        assert_eq!(pool.held(), 11 * SLAB);
        drop(other);
        // One buffer of each slab stays.
        let kept: Vec<Buffer> = all.extract_if(.., |buffer| buffer.place == 7).collect();
        all.clear();
        assert_eq!(pool.held(), 11 * SLAB);
        let again: Vec<Buffer> = (0..11 * IN_SLAB - 10).map(|_| pool.take().unwrap()).collect();
        assert_eq!(pool.held(), 11 * SLAB, "what came back is used first");
        drop(again);
        drop(kept);
        assert_eq!(pool.held(), SPARE * SLAB);
        drop(pool.take().unwrap());
        assert_eq!(pool.held(), SPARE * SLAB);
    }

    #[test]
    fn no_two_buffers_share_a_byte_and_none_changes_by_itself() {
        let pool = Buffers::default();
        let fill = |n: usize| {
            let mut buffer = pool.take().unwrap();
            assert_eq!(buffer.as_ref().len(), SIZE);
            buffer.as_mut().fill(u8::try_from(n % 251).unwrap());
            buffer.truncate(SIZE - n % 3);
            buffer.truncate(SIZE);
            (n, buffer)
        };
        let mut held: Vec<_> = (0..100).map(fill).collect();
        for n in 100..1000 {
            drop(held.swap_remove(n * 7919 % held.len()));
            held.push(fill(n));
        }
        for (n, buffer) in &held {
            assert_eq!(buffer.as_ref().len(), SIZE - n % 3);
            assert!(buffer.as_ref().iter().all(|byte| usize::from(*byte) == n % 251), "{n}");
        }
    }

    #[test]
    fn buffers_outlive_their_pool_and_end_on_any_thread() {
        let pool = Buffers::default();
        let mut first = pool.take().unwrap();
        first.as_mut().fill(9);
        let threads = (0..4).map(|n| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let mut held = Vec::new();
                for round in 0..2000_usize {
                    let mut buffer = pool.take().unwrap();
                    buffer.as_mut()[..8].fill(n);
                    held.push(buffer);
                    if round % 3 > 0 {
                        let buffer = held.swap_remove(round % held.len());
                        assert_eq!(buffer.as_ref()[..8], [n; 8]);
                    }
                }
                held
            })
        });
        let threads: Vec<_> = threads.collect();
        drop(pool);
        let held: Vec<Vec<Buffer>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!((0..).zip(&held).all(|(n, held)| held.iter().all(|buffer| buffer.as_ref()[..8] == [n; 8])));
        drop(held);
        assert!(first.as_ref().iter().all(|byte| *byte == 9));
        assert_eq!(first.pool.held(), (SPARE + 1) * SLAB);
    }
}
