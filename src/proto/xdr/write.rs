//! Writing: small items are gathered in one buffer, payloads are linked in between without a copy.

use bytes::{BufMut, Bytes, BytesMut};

use super::read::padding;

/// What was written, in order; sent with one vectored write.
pub type Segments = Vec<Bytes>;

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

    /// Bytes that are XDR already.
    pub fn raw(&mut self, bytes: Bytes) -> &mut Self {
        self.seal();
        self.done_len += bytes.len();
        self.done.push(bytes);
        self
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
}
