//! Flags that several commands share: whom to trust, in which formats, and where evidence is looked for.

use std::path::PathBuf;

use clap::Args;

use super::Trouble;
use crate::carrier::CarrierKind;
use crate::config::load_keyring;
use crate::sign::{FormatSet, Keyring};

/// Whose signatures count.
#[derive(Debug, Args)]
pub(super) struct TrustArgs {
    /// Whose signatures count: a key or certificate, or a directory of them with limits and revocations
    #[arg(long, value_name = "PATH")]
    pub(super) trust: PathBuf,
    /// Formats in which they count: native, fsverity, ima-v3, ima-v2, modsig, with commas between them.
    /// All but native bind no name
    #[arg(long, value_name = "FORMATS", default_value_t = FormatSet::NATIVE)]
    pub(super) accept: FormatSet,
}

impl TrustArgs {
    /// The keys, of which there must be one at least.
    pub(super) fn keyring(&self) -> Result<Keyring, Trouble> {
        let keyring = load_keyring(&self.trust, self.accept).map_err(Trouble::usage)?;
        if keyring.is_empty() {
            let path = self.trust.display();
            return Err(Trouble::usage(format!(
                "{path} holds no keys; put .pub files or certificates there or name one"
            )));
        }
        Ok(keyring)
    }
}

/// Where evidence is looked for.
#[derive(Debug, Args)]
pub(super) struct CarrierArgs {
    /// Where evidence is looked for, in the order given: sidecar, kernel, xattr, appended
    #[arg(long, value_name = "CARRIERS", value_delimiter = ',', default_value = "sidecar")]
    pub(super) carrier: Vec<CarrierKind>,
}
