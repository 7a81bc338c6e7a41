//! One file of a mount: what it is, and whether the gateway told it right.

use std::sync::Arc;

use super::place::joined;
use super::told::{gather, plain};
use crate::cli::told::Told;
use crate::event::Cause;
use crate::export::Item;
use crate::sign::{HashName, Keyring, Rejection, Signer};
use crate::store::{Store, StoreError, StoreErrorKind, StoreFile, StorePath};
use crate::verity::{Descriptor, Params, TreeBuilder, VerityError};

/// Bytes read in one step.
const STEP: usize = 1024 * 1024;

/// What was found out of a file, without the gateway's word.
#[derive(Debug)]
pub(super) enum Verdict {
    /// What the mount gives is what these keys signed for this path.
    Good { signers: Vec<Signer>, digest: String },
    /// It is not.
    Bad(Rejection),
    /// The mount does not give it: `EACCES` or `EIO`.
    Withheld(String),
}

/// What the gateway's own word is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It says nothing, or nothing that can be judged.
    Nothing,
    /// As it says, so it is.
    Right,
    /// It is not as it says.
    Wrong(String),
    /// It says that the file is verified, and it is not.
    FalselyVerified,
}

/// A file and the gateway's word.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) verdict: Verdict,
    pub(super) status: Option<String>,
    pub(super) word: Word,
}

/// Checks files of one mount.
pub(super) struct Checker {
    pub(super) store: Arc<dyn Store>,
    pub(super) keyring: Keyring,
    pub(super) namespace: String,
    /// The path of the mount's root in the export.
    pub(super) above: StorePath,
    /// The proof directory.
    pub(super) proofs: StorePath,
}

/// Why the hashing of a file ended before its end.
enum Failure {
    Bad(Rejection),
    Store(StoreError),
}

impl From<VerityError> for Failure {
    fn from(error: VerityError) -> Self {
        Self::Bad(Rejection { cause: Cause::MalformedEvidence, detail: error.to_string() })
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Bad(rejection)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn bad<T>(cause: Cause, detail: String) -> Result<T, Failure> {
    Err(Failure::Bad(Rejection { cause, detail }))
}

impl Checker {
    /// Looks at the file at `path` of the mount; `progress` takes the bytes as they are hashed.
    pub(super) async fn check(
        &self,
        path: &StorePath,
        progress: impl Fn(u64) + Sync,
    ) -> Result<Checked, StoreError> {
        let file = match self.store.open(path).await {
            Ok(file) => file,
            Err(error) if withheld(&error) => return Ok(self.withheld(path, &error).await),
            Err(error) => return Err(error),
        };
        let mut told = match gather(&*self.store, &self.proofs, path, Some(&*file)).await {
            Ok(told) => told,
            Err(error) if withheld(&error) => return Ok(self.withheld(path, &error).await),
            Err(error) => return Err(error),
        };
        let verdict = match self.look(path, &*file, &told, &progress).await {
            Ok((signers, descriptor)) => {
                if let Err(rejection) = told.digest_is_of(&descriptor) {
                    let digest = descriptor.file_digest().to_string();
                    let word = Word::Wrong(rejection.detail);
                    let status = told.status_shown();
                    return Ok(Checked { verdict: Verdict::Good { signers, digest }, status, word });
                }
                Verdict::Good { signers, digest: descriptor.file_digest().to_string() }
            }
            Err(Failure::Bad(rejection)) => Verdict::Bad(rejection),
            Err(Failure::Store(error)) if withheld(&error) => {
                // What the gateway met while it was read, it tells from then on.
                self.ask_again(path, &*file, &mut told).await;
                Verdict::Withheld(error.source.to_string())
            }
            Err(Failure::Store(error)) => return Err(error),
        };
        Ok(judged(verdict, &told))
    }

    /// A file that the mount does not give, with what the proof directory says of it.
    async fn withheld(&self, path: &StorePath, error: &StoreError) -> Checked {
        let told = gather(&*self.store, &self.proofs, path, None).await.unwrap_or_default();
        judged(Verdict::Withheld(error.source.to_string()), &told)
    }

    async fn ask_again(&self, path: &StorePath, file: &dyn StoreFile, told: &mut Told) {
        let fresh = match plain(&*self.store, &self.proofs, path, Item::Status).await {
            Ok(Some(fresh)) => Some(fresh),
            _ => {
                let again = gather(&*self.store, &self.proofs, path, Some(file)).await;
                again.ok().and_then(|again| again.status)
            }
        };
        if let Some(fresh) = fresh {
            told.take(Item::Status, fresh);
        }
    }

    /// Who vouches for all that the mount gives of a file, and the descriptor that they vouch for.
    async fn look(
        &self,
        path: &StorePath,
        file: &dyn StoreFile,
        told: &Told,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<(Vec<Signer>, Descriptor), Failure> {
        let signatures = told.signatures();
        let given = told.read_descriptor()?;
        let wanted = signatures.file_hashes(&self.keyring);
        let signed = match joined(&self.above, path) {
            Ok(signed) => signed,
            Err(error) => return bad(Cause::WrongPath, error.to_string()),
        };
        let vouched = |descriptor: &Descriptor, hashes: &[(HashName, Vec<u8>)]| {
            told.judge(descriptor, &self.keyring, &self.namespace, signed.as_bytes(), hashes)
        };
        let size = file.stat().await?.size;
        let params = match &given {
            Some(descriptor) => {
                if wanted.is_empty() {
                    // Nothing that is read can help what nobody signed.
                    vouched(descriptor, &[])?;
                }
                if descriptor.size != size {
                    let detail = format!("the mount shows {size} bytes, signed are {}", descriptor.size);
                    return bad(Cause::WrongSize, detail);
                }
                descriptor.params
            }
            None if signatures.is_empty() => {
                let detail = match told.status_shown() {
                    Some(_) => "the gateway tells of no descriptor and no signature",
                    None => "the mount shows no evidence: neither extended attributes nor a proof directory",
                };
                return bad(Cause::Unsigned, detail.to_owned());
            }
            None => signatures.bare_params(&self.keyring)?,
        };
        let (found, hashes) = hash(file, params, size, &wanted, progress).await?;
        if let Some(descriptor) = &given
            && found != *descriptor
        {
            let detail = format!(
                "what the mount gives hashes to {}, the gateway's descriptor to {}",
                found.file_digest(),
                descriptor.file_digest(),
            );
            return bad(Cause::BadBlock, detail);
        }
        Ok((vouched(&found, &hashes)?.signers, found))
    }
}

/// The descriptor of the file, and further hashes of it. Holes are read like all else: where they are is
/// the gateway's word.
async fn hash(
    file: &dyn StoreFile,
    params: Params,
    size: u64,
    wanted: &[HashName],
    progress: &(impl Fn(u64) + Sync),
) -> Result<(Descriptor, Vec<(HashName, Vec<u8>)>), Failure> {
    let mut builder = TreeBuilder::new(params, size)?;
    let mut others: Vec<_> = wanted.iter().map(|name| (*name, name.hasher())).collect();
    let mut nowhere = |_: u64, _: &[u8]| Ok::<_, VerityError>(());
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).map_or(STEP, |left| left.min(STEP));
        let bytes = file.read_at(at, len).await?;
        if bytes.is_empty() {
            return bad(Cause::Truncated, format!("the mount gives {at} of {size} bytes"));
        }
        // Hashing takes longer than a task may.
        tokio::task::block_in_place(|| {
            others.iter_mut().for_each(|(_, hasher)| hasher.update(&bytes));
            builder.update(&bytes, &mut nowhere)
        })?;
        at += bytes.len() as u64;
        progress(bytes.len() as u64);
    }
    if !file.read_at(size, 1).await?.is_empty() {
        return bad(Cause::WrongSize, format!("the mount gives more than {size} bytes"));
    }
    let root_hash = builder.finish(&mut nowhere)?;
    let hashes = others.into_iter().map(|(name, hasher)| (name, hasher.finish())).collect();
    Ok((Descriptor { params, size, root_hash }, hashes))
}

/// Whether a gateway that refuses a file looks like this.
fn withheld(error: &StoreError) -> bool {
    match error.kind {
        StoreErrorKind::Access | StoreErrorKind::Io => true,
        StoreErrorKind::NotFound
        | StoreErrorKind::NotADirectory
        | StoreErrorKind::IsADirectory
        | StoreErrorKind::NotRegular
        | StoreErrorKind::Symlink
        | StoreErrorKind::NameTooLong
        | StoreErrorKind::Exhausted
        | StoreErrorKind::Stale
        | StoreErrorKind::ReadOnly
        | StoreErrorKind::NoSpace
        | StoreErrorKind::Unsupported
        | StoreErrorKind::TooLarge => false,
    }
}

/// What is wrong about calling a file verified of which this was found out, where an honest gateway may do
/// so; `None` where none may.
fn excuse(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::UnknownKey | Cause::Revoked | Cause::KeyLimits | Cause::TooFewSigners | Cause::Expired => {
            Some("by the trust given here, nobody who counts vouches for the file")
        }
        Cause::Unsigned => Some("it shows nothing that would prove it"),
        Cause::BadSignature
        | Cause::WrongNamespace
        | Cause::WrongPath
        | Cause::WrongSize
        | Cause::WrongDigest
        | Cause::MalformedEvidence
        | Cause::BadBlock
        | Cause::BadTreeBlock
        | Cause::Truncated
        | Cause::Unreadable => None,
    }
}

/// Compares what was found out with what the gateway says.
fn judged(verdict: Verdict, told: &Told) -> Checked {
    let word = match (&verdict, told.says_verified()) {
        (_, None) | (Verdict::Withheld(_), Some(true)) => Word::Nothing,
        (Verdict::Good { .. }, Some(true)) | (Verdict::Bad(_) | Verdict::Withheld(_), Some(false)) => {
            Word::Right
        }
        (Verdict::Good { .. }, Some(false)) => {
            Word::Wrong("by the trust given here, the file is good".to_owned())
        }
        (Verdict::Bad(rejection), Some(true)) => match excuse(rejection.cause) {
            Some(why) => Word::Wrong(why.to_owned()),
            None => Word::FalselyVerified,
        },
    };
    Checked { verdict, status: told.status_shown(), word }
}
