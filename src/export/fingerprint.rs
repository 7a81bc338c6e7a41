//! What moves a file's change attribute beside the file itself: the verdict on it, and its evidence.
//!
//! Clients keep what they know of a file, its extended attributes too, for as long as the change attribute
//! stands (RFC 8881 section 5.8.1.4, RFC 8276 section 8.1), so it must move with all that they are told. A
//! fingerprint is made of nothing but what was found: it is the same in the next life of the gateway, and
//! under trust that comes to the same.

use ring::digest::{Context, SHA256};

use super::trust::{Outcome, Seen};

/// A number made of fields.
pub(super) struct Fingerprint(Context);

impl Fingerprint {
    /// The fingerprint of a `kind` of things.
    pub(super) fn new(kind: &str) -> Self {
        Self(Context::new(&SHA256)).field(kind.as_bytes())
    }

    /// Goes on with the bytes of a field.
    pub(super) fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn finish(self) -> u64 {
        self.0.finish().as_ref().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// That of a verdict on evidence that was `seen`, or of evidence that only hashing can judge.
pub(super) fn fingerprint(outcome: Option<&Outcome>, seen: Option<&Seen>) -> u64 {
    let fingerprint = match outcome {
        None => Fingerprint::new("unhashed"),
        Some(Err(finding)) => {
            let cause = finding.cause.as_str().as_bytes();
            Fingerprint::new("refused").field(cause).field(finding.detail.as_bytes())
        }
        Some(Ok(proven)) => {
            let digest = proven.descriptor.file_digest();
            let accepted = Fingerprint::new("accepted").field(digest.to_string().as_bytes());
            proven.signers.iter().fold(accepted, |accepted, signer| {
                let (id, format) = (signer.key_id.as_bytes(), signer.format.as_str());
                accepted.field(id).field(format.as_bytes()).field(signer.name.as_bytes())
            })
        }
    };
    match seen {
        None => fingerprint.finish(),
        // The stamp tells the carrier, too.
        Some(Seen { stamp, content, .. }) => fingerprint.field(&stamp.to_bytes()).field(content).finish(),
    }
}
