//! Writing: small items are gathered in one buffer, payloads are linked in between without a copy.

use bytes::{BufMut, Bytes, BytesMut};

use super::read::padding;

/// What was written, in order; sent with one vectored write.
pub type Segments = Vec<Bytes>;

/// A point in what was written, to which [`Writer::rollback`] goes back.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    segments: usize,
    done: usize,
    open: usize,
}

/// Gathers a reply.
#[derive(Debug, Default)]
pub struct Writer {
    done: Segments,
    done_len: usize,
    open: BytesMut,
}

impl Writer {
    /// A writer whose first buffer holds `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { open: BytesMut::with_capacity(capacity), ..Self::default() }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.done_len + self.open.len()
    }

    /// True when nothing is written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An unsigned integer of 4 bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.open.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// An unsigned hyper integer of 8 bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.open.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u32(u32::from(value))
    }

    /// Opaque bytes of fixed length, with their padding.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.open.extend_from_slice(bytes);
        self.pad(bytes.len())
    }

    /// Opaque bytes or a string of variable length. Lengths over `u32::MAX` cannot be written and
    /// are cut; callers stay far below.
    pub fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.u32(length).fixed(bytes)
    }

    /// Opaque bytes of variable length in one or more parts, linked and not copied.
    pub fn payload(&mut self, parts: impl IntoIterator<Item = Bytes>, total: u32) -> &mut Self {
        self.u32(total);
        let mut written = 0;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            written += part.len();
            self.seal();
            self.done_len += part.len();
            self.done.push(part);
        }
        debug_assert_eq!(u32::try_from(written), Ok(total));
        self.pad(written)
    }

    fn pad(&mut self, len: usize) -> &mut Self {
        self.open.put_bytes(0, padding(len));
        self
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.done_len += self.open.len();
            self.done.push(self.open.split().freeze());
        }
    }

    /// Opaque bytes of variable length that `write` writes: no payload, for that would be sent before
    /// its length is known.
    pub fn measured(&mut self, write: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.open.len();
        self.u32(0);
        write(self);
        let len = self.open.len().saturating_sub(at + 4);
        let length = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.open.get_mut(at..at + 4) {
            place.copy_from_slice(&length);
        }
        self.pad(len)
    }

    /// Where writing stands.
    pub fn mark(&self) -> Mark {
        Mark { segments: self.done.len(), done: self.done_len, open: self.open.len() }
    }

    /// Drops all that was written behind `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        if self.done.len() == mark.segments {
            return self.open.truncate(mark.open);
        }
        // What was open at the mark begins the first segment that was sealed behind it.
        self.open.clear();
        self.done.truncate(mark.segments + 1);
        self.done_len = mark.done;
        match self.done.pop() {
            Some(mut sealed) if mark.open > 0 => {
                sealed.truncate(mark.open);
                self.done_len += sealed.len();
                self.done.push(sealed);
            }
            _ => {}
        }
    }

    /// Bytes that are encoded already, linked and not copied.
    pub fn raw(&mut self, bytes: Bytes) -> &mut Self {
        self.seal();
        self.done_len += bytes.len();
        self.done.push(bytes);
        self
    }

    /// A copy of all that was written.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.done.iter().for_each(|segment| bytes.extend_from_slice(segment));
        bytes.extend_from_slice(&self.open);
        bytes
    }

    /// Appends all that `other` holds.
    pub fn append(&mut self, mut other: Self) -> &mut Self {
        self.seal();
        other.seal();
        self.done_len += other.done_len;
        self.done.append(&mut other.done);
        self
    }

    /// Ends writing.
    pub fn finish(mut self) -> Segments {
        self.seal();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_linked_and_padded() {
        let data = Bytes::from(vec![7; 5]);
        let mut w = Writer::default();
        w.u32(1).payload([data.slice(..2), data.slice(2..)], 5).u32(2);
        assert_eq!(w.len(), 4 + 4 + 5 + 3 + 4);
        let segments = w.finish();
        assert_eq!(segments.concat(), [0, 0, 0, 1, 0, 0, 0, 5, 7, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(segments[1].as_ptr(), data.as_ptr());
    }

    #[test]
    fn a_measured_item_has_its_length_and_padding() {
        let mut w = Writer::default();
        w.u32(9).measured(|w| {
            w.fixed(&[1, 2, 3, 4]).u32(5);
        });
        w.measured(|_| {});
        assert_eq!(w.to_vec(), [0, 0, 0, 9, 0, 0, 0, 8, 1, 2, 3, 4, 0, 0, 0, 5, 0, 0, 0, 0]);
    }

    #[test]
    fn a_rollback_leaves_what_was_there_before() {
        type Write = fn(&mut Writer);
        let steps: [Write; 4] = [
            |w| {
                w.u32(1);
            },
            |w| {
                w.payload([Bytes::from_static(b"12345")], 5);
            },
            |w| {
                w.payload([Bytes::from_static(b"1234")], 4);
            },
            |_| {},
        ];
        // Every two steps before the mark, every two behind it, and one more when all is undone.
        for n in 0..4usize.pow(5) {
            let step = |at: u32| steps[n / 4usize.pow(at) % 4];
            let mut w = Writer::default();
            step(0)(&mut w);
            step(1)(&mut w);
            let (mark, before) = (w.mark(), w.to_vec());
            step(2)(&mut w);
            step(3)(&mut w);
            w.rollback(mark);
            assert_eq!((w.to_vec(), w.len()), (before.clone(), before.len()), "{n}");
            step(4)(&mut w);
            let mut tail = Writer::default();
            step(4)(&mut tail);
            assert_eq!(w.to_vec(), [before, tail.to_vec()].concat(), "{n}");
            assert_eq!(w.len(), w.to_vec().len());
            assert_eq!(w.to_vec(), w.finish().concat());
        }
    }
}
