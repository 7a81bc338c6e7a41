//! Record marking over a byte stream, RFC 5531 section 11. Knows nothing of calls.

use bytes::{Buf, Bytes, BytesMut};

/// Most fragments of one record. Clients send one, a few at most.
pub const MAX_FRAGMENTS: u32 = 64;

/// Why a stream holds no further record. The stream cannot be resynchronised after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A fragment's header would take the record over its limit.
    #[error("a record of {length} bytes or more is over the limit of {limit}")]
    TooLong {
        /// What the record would have with this fragment.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// More than [`MAX_FRAGMENTS`] fragments.
    #[error("a record of more than {MAX_FRAGMENTS} fragments")]
    TooManyFragments,
}

#[derive(Clone, Copy, Debug)]
struct Fragment {
    left: usize,
    last: bool,
}

/// Takes records from the front of an input buffer: a state machine without I/O.
///
/// A fragment that is a whole record stays in the input buffer until it is complete and is then
/// split off without a copy; fragments of a longer chain are gathered as their bytes arrive. So
/// what is held grows with the bytes received and never with a claim.
#[derive(Debug)]
pub struct RecordReader {
    limit: usize,
    fragment: Option<Fragment>,
    fragments: u32,
    gathered: BytesMut,
}

impl RecordReader {
    /// A reader of records of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, fragment: None, fragments: 0, gathered: BytesMut::new() }
    }

    /// The next whole record of `input`, `None` when more bytes are needed first.
    ///
    /// # Errors
    /// [`RecordError`], as soon as a fragment's header is over a limit.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, RecordError> {
        loop {
            let Some(Fragment { left, last }) = self.fragment else {
                if !self.header(input)? {
                    return Ok(None);
                }
                continue;
            };
            if last && self.gathered.is_empty() {
                if input.len() < left {
                    return Ok(None);
                }
                self.fragment = None;
                self.fragments = 0;
                return Ok(Some(input.split_to(left).freeze()));
            }
            let part = input.split_to(left.min(input.len()));
            self.gather(&part);
            if part.len() < left {
                self.fragment = Some(Fragment { left: left - part.len(), last });
                return Ok(None);
            }
            self.fragment = None;
            if last {
                self.fragments = 0;
                return Ok(Some(std::mem::take(&mut self.gathered).freeze()));
            }
        }
    }

    /// Doubles the buffer as it fills, but never beyond the limit.
    fn gather(&mut self, part: &[u8]) {
        let length = self.gathered.len() + part.len();
        if length > self.gathered.capacity() {
            let mut larger = BytesMut::with_capacity((2 * length).min(self.limit));
            larger.extend_from_slice(&self.gathered);
            self.gathered = larger;
        }
        self.gathered.extend_from_slice(part);
    }

    /// Takes a fragment's header; false when it is not there yet.
    fn header(&mut self, input: &mut BytesMut) -> Result<bool, RecordError> {
        let Some(mark) = input.first_chunk().map(|mark| u32::from_be_bytes(*mark)) else {
            return Ok(false);
        };
        if self.fragments == MAX_FRAGMENTS {
            return Err(RecordError::TooManyFragments);
        }
        let claimed = usize::try_from(mark & 0x7fff_ffff).unwrap_or(usize::MAX);
        let length = self.gathered.len().saturating_add(claimed);
        if length > self.limit {
            return Err(RecordError::TooLong { length, limit: self.limit });
        }
        input.advance(4);
        self.fragments += 1;
        self.fragment = Some(Fragment { left: claimed, last: mark >> 31 == 1 });
        Ok(true)
    }

    /// Bytes of an incomplete record that were moved out of the input buffer.
    pub fn gathered(&self) -> usize {
        self.gathered.len()
    }

    /// True when a record has begun and is not complete, or `input` holds the start of one.
    pub fn is_partial(&self, input: &BytesMut) -> bool {
        self.fragments > 0 || !input.is_empty()
    }

    /// The most bytes that the record which has begun may come to hold.
    pub fn bound(&self) -> usize {
        match self.fragment {
            Some(Fragment { left, last: true }) => self.gathered.len() + left,
            _ => self.limit,
        }
    }

    /// Bytes that have to follow `input` before [`RecordReader::next`] can get any further; at
    /// least 1.
    pub fn missing(&self, input: &BytesMut) -> usize {
        self.fragment.map_or(4, |fragment| fragment.left).saturating_sub(input.len()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fragment(body: &[u8], last: bool) -> Vec<u8> {
        let mark = u32::try_from(body.len()).unwrap() | u32::from(last) << 31;
        [&mark.to_be_bytes()[..], body].concat()
    }

    fn cut(record: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut stream = Vec::new();
        let mut start = 0;
        for &at in cuts {
            stream.extend(fragment(&record[start..at], false));
            start = at;
        }
        stream.extend(fragment(&record[start..], true));
        stream
    }

    fn feed(reader: &mut RecordReader, chunks: &[&[u8]]) -> Result<Vec<Bytes>, RecordError> {
        let mut input = BytesMut::new();
        let mut records = Vec::new();
        for chunk in chunks {
            input.extend_from_slice(chunk);
            while let Some(record) = reader.next(&mut input)? {
                records.push(record);
            }
        }
        assert!(!reader.is_partial(&input));
        Ok(records)
    }

    #[test]
    fn records_split_at_every_byte_are_the_same() {
        let first: Vec<u8> = (0..40).collect();
        let stream = [cut(&first, &[7, 7, 30]), fragment(b"second", true), fragment(b"", true)].concat();
        let wanted = [Bytes::from(first), Bytes::from_static(b"second"), Bytes::new()];
        for at in 0..=stream.len() {
            let mut reader = RecordReader::new(40);
            let (head, tail) = stream.split_at(at);
            assert_eq!(feed(&mut reader, &[head, tail]).unwrap(), wanted, "{at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(feed(&mut RecordReader::new(40), &bytes).unwrap(), wanted);
    }

    proptest! {
        #[test]
        fn all_fragmentations_of_a_record_are_the_same(
            record in proptest::collection::vec(any::<u8>(), 0..200),
            mut cuts in proptest::collection::vec(0usize..200, 0..63),
            chunk in 1usize..50,
        ) {
            cuts.iter_mut().for_each(|at| *at = (*at).min(record.len()));
            cuts.sort_unstable();
            let stream = cut(&record, &cuts);
            let chunks: Vec<&[u8]> = stream.chunks(chunk).collect();
            let records = feed(&mut RecordReader::new(200), &chunks).unwrap();
            prop_assert_eq!(records, [Bytes::from(record)]);
        }
    }

    #[test]
    fn a_record_whole_in_the_buffer_is_not_copied() {
        let mut input = BytesMut::from(&fragment(&[7; 1000], true)[..]);
        let address = input[4..].as_ptr();
        let record = RecordReader::new(1000).next(&mut input).unwrap().unwrap();
        assert_eq!((record.as_ptr(), record.len()), (address, 1000));
    }

    #[test]
    fn an_oversized_claim_is_refused_on_its_header() {
        let next = |bytes: &[u8]| RecordReader::new(1000).next(&mut BytesMut::from(bytes));
        let too_long = |length| Err(RecordError::TooLong { length, limit: 1000 });
        assert_eq!(next(&[0xff; 4]), too_long(0x7fff_ffff));
        assert_eq!(next(&1001u32.to_be_bytes()), too_long(1001));
        assert_eq!(next(&1000u32.to_be_bytes()), Ok(None));
        assert_eq!(next(&[fragment(&[0; 999], false), vec![0x80, 0, 0, 2]].concat()), too_long(1001));
    }

    #[test]
    fn a_claim_allocates_nothing() {
        let mut reader = RecordReader::new(1 << 30);
        let mut input = BytesMut::from(&[0x3f, 0xff, 0xff, 0xff, 1][..]);
        assert_eq!(reader.next(&mut input), Ok(None));
        assert_eq!(reader.gathered(), 1);
        assert!(reader.gathered.capacity() < 100, "{}", reader.gathered.capacity());
        assert!(reader.is_partial(&input));
        assert_eq!(reader.missing(&input), 0x3fff_fffe);
    }

    #[test]
    fn gathering_stays_within_twice_the_bytes_received_and_within_the_limit() {
        let mut reader = RecordReader::new(1000);
        let mut input = BytesMut::new();
        for n in 1..=40 {
            input.extend_from_slice(&fragment(&[0; 25], false));
            assert_eq!(reader.next(&mut input), Ok(None));
            assert_eq!(reader.gathered(), 25 * n);
            assert!(reader.gathered.capacity() <= (50 * n).min(1000));
            assert_eq!(reader.bound(), 1000);
        }
        let mut input = BytesMut::from(&fragment(&[0; 100], true)[..50]);
        let mut reader = RecordReader::new(1000);
        assert_eq!(reader.next(&mut input), Ok(None));
        assert_eq!(reader.bound(), 100);
    }

    #[test]
    fn the_65th_fragment_is_refused_empty_or_not() {
        for body in [&b""[..], b"x"] {
            let most = [fragment(body, false).repeat(63), fragment(b"end", true)].concat();
            let records = feed(&mut RecordReader::new(1000), &[&most, &most]).unwrap();
            assert_eq!(records, vec![[body.repeat(63), b"end".to_vec()].concat(); 2]);
            let over = [fragment(body, false).repeat(64), fragment(b"end", true)].concat();
            assert_eq!(feed(&mut RecordReader::new(1000), &[&over]), Err(RecordError::TooManyFragments));
        }
    }
}
