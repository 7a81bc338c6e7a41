//! What keeps a command from doing its work.

use std::io;
use std::path::Path;

use crate::store::StoreError;

/// An error that ends a command.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The command line or the configuration is wrong: exit status 2.
    #[error("{0}")]
    Usage(String),
    /// A file, a directory or the network: exit status 3.
    #[error("{context}: {source}")]
    Io {
        /// What was tried, with the file's name.
        context: String,
        /// The system's word.
        source: io::Error,
    },
    /// The store: exit status 3.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something inside failed, in words: exit status 3.
    #[error("{0}")]
    Other(String),
}

impl Trouble {
    /// An I/O error while `doing` something to `path`.
    pub(crate) fn file(doing: &str, path: &Path, source: io::Error) -> Self {
        Self::Io { context: format!("cannot {doing} {}", path.display()), source }
    }

    pub(crate) fn usage(text: impl std::fmt::Display) -> Self {
        Self::Usage(text.to_string())
    }

    pub(crate) fn other(text: impl std::fmt::Display) -> Self {
        Self::Other(text.to_string())
    }

    /// Whether the output's reader went away.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// 2 for usage and configuration, 3 for I/O.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Io { .. } | Self::Store(_) | Self::Other(_) => 3,
        }
    }
}

/// Writing to the command's own output.
impl From<io::Error> for Trouble {
    fn from(source: io::Error) -> Self {
        Self::Io { context: "cannot write the output".into(), source }
    }
}
