//! Hashing a whole file for a signature over its content alone (IMA v2).
//!
//! Such a signature is over the bare hash of the file, and so are those of all other formats over theirs:
//! a file whose content reads as the signed bytes of another format would turn a signature over it into
//! one over something else, such as a statement for another path. No signature is made over such files.

use super::{HashName, SignError, StreamHasher};

/// As much of a file as tells: the longest `ima_file_id`, and the heads of the other formats.
const HEAD: usize = 2 + 64;

/// Hashes a file from its beginning to its end.
pub struct FileHasher {
    hasher: StreamHasher,
    head: Vec<u8>,
    length: u64,
}

impl FileHasher {
    /// Of a file of which nothing came so far.
    pub fn new(hash: HashName) -> Self {
        Self { hasher: hash.hasher(), head: Vec::with_capacity(HEAD), length: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(room));
        self.length = self.length.saturating_add(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    /// The hash of the file.
    ///
    /// # Errors
    /// [`SignError::Confusable`] when its content reads as the signed bytes of another format.
    pub fn finish(self) -> Result<Vec<u8>, SignError> {
        match reads_as(&self.head, self.length) {
            Some(what) => Err(SignError::Confusable { what }),
            None => Ok(self.hasher.finish()),
        }
    }
}

/// The format whose signed bytes a file of `length` bytes that begins with `head` may be.
fn reads_as(head: &[u8], length: u64) -> Option<&'static str> {
    if head.starts_with(b"DSSEv1 ") {
        return Some("a statement in its DSSE encoding");
    }
    if head.starts_with(b"FSVerity") {
        return Some("an fs-verity digest");
    }
    if let [3 | 6, algorithm, ..] = head
        && HashName::from_ima_id(*algorithm).is_some_and(|hash| length == 2 + hash.digest_size() as u64)
    {
        return Some("an IMA file id");
    }
    let (tag, content) = (head.first()?, der_content(head, length)?);
    match tag {
        0x31 => Some("the attributes of a PKCS#7 message"),
        // Version 3, as all that count have.
        0x30 if content.starts_with(&[0xa0, 3, 2, 1, 2]) => Some("the content of a certificate"),
        _ => None,
    }
}

/// What begins the content of the one DER element that the file is, if it is one.
fn der_content(head: &[u8], length: u64) -> Option<&[u8]> {
    let (first, rest) = head.get(1..)?.split_first()?;
    let (size, content) = match first {
        0..=0x7f => (u64::from(*first), rest),
        0x81..=0x88 => {
            let (bytes, content) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |size, byte| (size << 8) | u64::from(*byte)), content)
        }
        _ => return None,
    };
    let before = head.len().checked_sub(content.len())? as u64;
    (size.checked_add(before) == Some(length)).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture::{self, tlv};

    fn hashed(content: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut hasher = FileHasher::new(HashName::Sha256);
        content.chunks(7).for_each(|piece| hasher.update(piece));
        hasher.finish()
    }

    #[test]
    fn files_that_read_as_the_signed_bytes_of_another_format_are_refused() {
        let descriptor = fixture::descriptor();
        let digest = descriptor.file_digest();
        let ima = [&[6, 4][..], digest.digest.as_bytes()].concat();
        let attributes = tlv(0x31, &[&[7; 300]]);
        let statement = [b"DSSEv1 28 application/vnd.in-toto+json 2 ", &b"{}"[..]].concat();
        let certificate = tlv(0x30, &[&[0xa0, 3, 2, 1, 2], &[9; 500]]);
        let short = tlv(0x30, &[&[0xa0, 3, 2, 1, 2], &[9; 50]]);
        for content in [statement, descriptor.formatted_digest(), ima, attributes, certificate, short] {
            let refused = hashed(&content);
            assert!(matches!(refused, Err(SignError::Confusable { .. })), "{content:?}");
        }
    }

    #[test]
    fn other_files_are_hashed_whatever_they_begin_with() {
        let whole = fixture::certificate("p256");
        let longer = [&tlv(0x31, &[&[7; 300]])[..], b"x"].concat();
        let texts = [
            &b""[..],
            b"1",
            b"1,2,3\n",
            b"0",
            b"0\x80",
            b"\x31\x85",
            b"\x03\x04\x05",
            b"DSSE",
            whole.der(),
            &longer,
        ];
        for content in texts {
            assert_eq!(hashed(content).unwrap(), HashName::Sha256.digest(content), "{content:?}");
        }
    }
}
