//! Who vouches for what a gateway tells, by the caller's own trust.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::rpc::ClientError;
use crate::cli::told::Told;
use crate::cli::{Trouble, signers};
use crate::config::load_keyring;
use crate::sign::{FormatSet, Keyring, Rejection, Signer};
use crate::store::StorePath;
use crate::verity::Descriptor;

/// Whose signatures count, if that is to be checked.
#[derive(Debug, Args)]
pub(super) struct VouchArgs {
    /// Check who signed: a key or certificate that counts, or a directory of them
    #[arg(long, value_name = "PATH")]
    trust: Option<PathBuf>,
    /// Formats in which keys count: native, fsverity, ima-v3, ima-v2, with commas between them. All but
    /// native bind no name
    #[arg(long, value_name = "FORMATS", default_value_t = FormatSet::NATIVE, requires = "trust")]
    accept: FormatSet,
    /// The tree's name, as it was signed; with --trust
    #[arg(long, value_name = "NAME", default_value = "", requires = "trust")]
    pub(super) namespace: String,
}

impl VouchArgs {
    /// The keys, if any are to count; then there must be one at least.
    pub(super) fn keyring(&self) -> Result<Option<Keyring>, Trouble> {
        let Some(path) = &self.trust else { return Ok(None) };
        let keyring = load_keyring(path, self.accept).map_err(Trouble::usage)?;
        if keyring.is_empty() {
            let path = path.display();
            return Err(Trouble::usage(format!(
                "{path} holds no keys; put .pub files or certificates there"
            )));
        }
        Ok(Some(keyring))
    }
}

/// Who signed.
#[derive(Debug)]
pub(super) enum Vouched {
    /// Nobody is trusted here.
    Unasked,
    /// These keys.
    By(Vec<Signer>),
    /// Nobody that counts.
    Refused(Rejection),
}

impl Vouched {
    /// Checks what is told of the file at `path` with this descriptor.
    pub(super) fn of(
        told: &Told,
        descriptor: &Descriptor,
        keyring: Option<&Keyring>,
        namespace: &str,
        path: &StorePath,
    ) -> Self {
        let Some(keyring) = keyring else { return Self::Unasked };
        match told.judge(descriptor, keyring, namespace, path.as_bytes(), &[]) {
            Ok(acceptance) => Self::By(acceptance.signers),
            Err(mut rejection) => {
                if !told.signatures().file_hashes(keyring).is_empty() {
                    rejection.detail.push_str(
                        "; it has a signature over the hash of the whole file, which `verify --mount` checks",
                    );
                }
                Self::Refused(rejection)
            }
        }
    }

    /// False when somebody had to vouch and nobody does.
    pub(super) fn holds(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    /// Whether somebody vouches, and nobody for the path.
    pub(super) fn leaves_the_path_open(&self) -> bool {
        matches!(self, Self::By(by) if !signers::bind_the_path(by))
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Self::Unasked => "not checked; --trust names keys to check it with".to_owned(),
            Self::By(by) => format!("by {}", signers::shown(by)),
            Self::Refused(rejection) => format!("NOT by anybody who counts: {rejection}"),
        }
    }

    pub(super) fn as_json(&self) -> Value {
        match self {
            Self::Unasked => Value::Null,
            Self::By(by) => json!({ "by": signers::as_json(by), "path_bound": signers::bind_the_path(by) }),
            Self::Refused(rejection) => {
                json!({ "cause": rejection.cause.as_str(), "detail": rejection.detail })
            }
        }
    }
}

/// What the gateway tells of an object.
pub(super) fn ask(client: &mut Client, handle: &[u8]) -> Result<Told, ClientError> {
    let mut told = Told::default();
    for item in Told::ITEMS {
        if let Some(value) = client.get_xattr(handle, item.xattr_name().as_bytes())? {
            told.take(item, value);
        }
    }
    Ok(told)
}
