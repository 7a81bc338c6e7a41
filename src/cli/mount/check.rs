//! One file of a mount: what it is, and whether the gateway told it right.

use std::sync::Arc;

use super::place::joined;
use super::told::{gather, plain};
use crate::cli::told::Told;
use crate::event::Cause;
use crate::export::{Item, WHOLE_MAX};
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
    /// It tells a digest that is not that of the descriptor it tells.
    Contradiction(String),
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

/// What holds of a file.
struct Looked {
    signers: Vec<Signer>,
    /// What they vouch for.
    descriptor: Descriptor,
    /// What the gateway tells, where it tells it.
    claimed: Option<Descriptor>,
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
            Ok(Looked { signers, descriptor, claimed }) => {
                let verdict = Verdict::Good { signers, digest: descriptor.file_digest().to_string() };
                if let Err(rejection) = told.digest_is_of(&claimed.unwrap_or(descriptor)) {
                    let word = Word::Contradiction(rejection.detail);
                    return Ok(Checked { verdict, status: told.status_shown(), word });
                }
                verdict
            }
            Err(Failure::Bad(rejection)) => {
                if self.changed(path, &told).await {
                    let source = std::io::Error::other("it changed meanwhile");
                    return Err(StoreError::new(StoreErrorKind::Stale, "check", path, source));
                }
                Verdict::Bad(rejection)
            }
            Err(Failure::Store(error)) if withheld(&error) => {
                // What the gateway met while it was read, it tells from then on.
                self.ask_again(path, &*file, &mut told).await;
                Verdict::Withheld(error.source.to_string())
            }
            Err(Failure::Store(error)) => return Err(error),
        };
        Ok(self.judged(verdict, &told))
    }

    /// A file that the mount does not give, with what the proof directory says of it.
    async fn withheld(&self, path: &StorePath, error: &StoreError) -> Checked {
        let told = gather(&*self.store, &self.proofs, path, None).await.unwrap_or_default();
        self.judged(Verdict::Withheld(error.source.to_string()), &told)
    }

    /// Whether the evidence of a file is another one than `told` by now, as when it is signed anew.
    async fn changed(&self, path: &StorePath, told: &Told) -> bool {
        // A file that is opened anew has no old attributes: RFC 7530 section 1.5.5, close-to-open.
        let Ok(file) = self.store.open(path).await else { return false };
        let now = gather(&*self.store, &self.proofs, path, Some(&*file)).await;
        now.is_ok_and(|now| !now.same_evidence(told))
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

    /// Who vouches for all that the mount gives of a file, and for what.
    async fn look(
        &self,
        path: &StorePath,
        file: &dyn StoreFile,
        told: &Told,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<Looked, Failure> {
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
        let mut signed_size = false;
        let mut params = match &given {
            Some(descriptor) => {
                match vouched(descriptor, &[]) {
                    Ok(_) => signed_size = true,
                    // Nothing that is read can help what nobody signed.
                    Err(rejection) if wanted.is_empty() => return Err(rejection.into()),
                    Err(_) => {}
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
        if !signed_size && size > WHOLE_MAX {
            let detail = format!(
                "the mount shows {size} bytes, and only hashing all of them can prove it, which is done up to {WHOLE_MAX}"
            );
            return bad(Cause::KeyLimits, detail);
        }
        let mut claimed = given;
        loop {
            let (found, hashes) = hash(file, params, size, &wanted, progress).await?;
            if let Some(claimed) = claimed.take().filter(|claimed| *claimed != found) {
                let (found, claimed) = (found.file_digest(), claimed.file_digest());
                let detail =
                    format!("what the mount gives hashes to {found}, the gateway's descriptor to {claimed}");
                return bad(Cause::BadBlock, detail);
            }
            let acceptance = vouched(&found, &hashes)?;
            match acceptance.other_params(&params) {
                Some(other) => params = other,
                None => {
                    return Ok(Looked { signers: acceptance.signers, descriptor: found, claimed: given });
                }
            }
        }
    }

    /// Compares what was found out with what the gateway says.
    fn judged(&self, verdict: Verdict, told: &Told) -> Checked {
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
                None if rejection.cause == Cause::BadSignature && told.may_hold_elsewhere(&self.keyring) => {
                    Word::Wrong("by the keys trusted here, no signature holds".to_owned())
                }
                None => Word::FalselyVerified,
            },
        };
        Checked { verdict, status: told.status_shown(), word }
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
        | StoreErrorKind::Unavailable
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
        Cause::WrongPath | Cause::WrongNamespace => {
            Some("this is another file, if --root, --root-path and --namespace are right")
        }
        Cause::BadSignature
        | Cause::WrongSize
        | Cause::WrongDigest
        | Cause::MalformedEvidence
        | Cause::BadBlock
        | Cause::BadTreeBlock
        | Cause::Truncated
        | Cause::Unreadable
        // It is found out by gateways alone.
        | Cause::Policy => None,
    }
}
