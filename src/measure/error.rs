//! What goes wrong with a log.

use std::io;
use std::path::PathBuf;

use super::list::ListError;
use super::register::RegisterError;

/// What goes wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process writes to it.
    #[error("{}: another gateway writes this measurement list; each needs a directory of its own", .0.display())]
    Locked(PathBuf),
    /// The directory cannot be used.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The system refused something. Of what was to be appended, nothing is in the list.
    #[error("measurement list: cannot {operation} {file}: {source}")]
    Io {
        /// The file in the log's directory.
        file: String,
        /// What was tried.
        operation: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// What was to be appended is in the list and durable. The files that follow the list are behind, and are
    /// made good with the next `append`, which may be one of nothing.
    #[error("the measurement is in the list, but not in the files beside it: {0}")]
    Behind(#[source] Box<LogError>),
    /// A record in the middle of the list is wrong, and right ones follow: no write that was cut short
    /// leaves that, nor are there the zeros that one leaves of which a part is missing. Nobody but a person can say what became of the list.
    #[error("{file}: {source}; keep the directory to look into it, and give another one for a new list")]
    Damaged {
        /// The list.
        file: String,
        /// The first record that is wrong.
        source: ListError,
    },
    /// The statement of what was before the segment is not there or not in the format. The gateway does not sign
    /// another one: it would vouch for a list that it finds and did not write.
    #[error(
        "{file}: the segment's start is missing or damaged; restore it, or give another directory for a new list"
    )]
    NoStart {
        /// The statement.
        file: String,
    },
    /// The signature of the segment's start is not there, or is not one by the key of this gateway.
    #[error(
        "{file}: the signature of the segment's start is missing, or is not by this gateway's key; restore it or \
         the key, or give another directory for a new list"
    )]
    Unsigned {
        /// The signature.
        file: String,
    },
    /// The start of a segment could not be signed.
    #[error("the start of segment {segment} of the measurement list cannot be signed: {source}")]
    Sign {
        /// The segment's number.
        segment: u64,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More was to be appended at once than [`BATCH_MAX`](super::BATCH_MAX).
    #[error("{0} bytes of measurements are too many at once")]
    BatchLength(usize),
    /// The register of a TPM does not follow. What was to be appended may be in the list, and does not count before
    /// it is in the register.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The size of a segment is out of bounds.
    #[error("segments of {0} bytes are not possible; give {min} to {max}", min = super::SEGMENT_MIN, max = super::SEGMENT_MAX)]
    SegmentSize(u64),
}
