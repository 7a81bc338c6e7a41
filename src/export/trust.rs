//! From evidence to a verdict: opened once, its signature checked once, kept until the evidence,
//! the trust or the clock gives a reason to look again.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use super::cache::FileKey;
use super::error::{ExportError, exhausted};
use crate::carrier::{Carrier, CarrierError, Evidence, OpenEvidence, Sidecar, Stamp};
use crate::event::Cause;
use crate::sign::{Expected, Keyring, verify_envelope};
use crate::store::{Attr, StorePath};
use crate::verity::{BlockHasher, Descriptor, Geometry, VerityError};

/// How long a verdict stands before the evidence is looked at again.
pub(super) const RECHECK: Duration = Duration::from_secs(1);

/// The most characters of a finding's facts.
const DETAIL_MAX: usize = 400;

/// What a file was proven to be.
pub(super) struct Proven {
    pub(super) descriptor: Descriptor,
    pub(super) geometry: Geometry,
    pub(super) hasher: BlockHasher,
    pub(super) cache_key: FileKey,
    expires: Option<i64>,
}

/// Why a file was not accepted, with facts for people.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) cause: Cause,
    pub(super) detail: String,
}

/// What is known of one file's evidence.
#[derive(Clone)]
pub(super) struct Verdict {
    pub(super) outcome: Result<Arc<Proven>, Arc<Finding>>,
    /// The evidence that was accepted; `None` when none was.
    stamp: Option<Stamp>,
    trust: u64,
    checked: Instant,
}

/// The keys that are trusted now.
struct Trusted {
    keyring: Keyring,
    generation: u64,
}

/// Judges evidence.
pub(super) struct Trust {
    namespace: String,
    sidecar: Sidecar,
    trusted: ArcSwap<Trusted>,
}

impl Trust {
    pub(super) fn new(namespace: String, sidecar: Sidecar, keyring: Keyring) -> Self {
        Self { namespace, sidecar, trusted: ArcSwap::from_pointee(Trusted { keyring, generation: 0 }) }
    }

    /// Trusts `keyring` from now on, also for files that are open.
    pub(super) fn replace(&self, keyring: Keyring) {
        self.trusted.rcu(|before| Trusted { keyring: keyring.clone(), generation: before.generation + 1 });
    }

    /// Judges the evidence of `path` as it is now. Gives the open bundle too when it holds.
    pub(super) async fn judge(
        &self,
        path: &StorePath,
    ) -> Result<(Verdict, Option<OpenEvidence>), ExportError> {
        let trusted = self.trusted.load_full();
        let checked = Instant::now();
        let verdict = |outcome, stamp| Verdict { outcome, stamp, trust: trusted.generation, checked };
        let mut bundle = match self.sidecar.open(path).await {
            Ok(bundle) => bundle,
            Err(error) if exhausted(&error) => return Err(ExportError::Busy),
            Err(error) => {
                let cause = match &error {
                    CarrierError::Missing(_) => Cause::Unsigned,
                    CarrierError::Malformed { .. } | CarrierError::Refused { .. } => Cause::MalformedEvidence,
                    CarrierError::Path { .. } => Cause::Unsigned,
                    CarrierError::Store(_) => Cause::Unreadable,
                };
                let finding = Arc::new(Finding { cause, detail: brief(&error.to_string()) });
                return Ok((verdict(Err(finding), None), None));
            }
        };
        match self.examine(path, &bundle, &trusted.keyring) {
            Ok(proven) => {
                let stamp = Some(bundle.stamp);
                // Read and done with; up to a quarter of a megabyte for each file that is held open.
                bundle.evidence = Evidence::default();
                Ok((verdict(Ok(Arc::new(proven)), stamp), Some(bundle)))
            }
            Err(finding) => Ok((verdict(Err(Arc::new(finding)), None), None)),
        }
    }

    fn examine(&self, path: &StorePath, bundle: &OpenEvidence, keyring: &Keyring) -> Result<Proven, Finding> {
        let malformed =
            |error: VerityError| Finding { cause: Cause::MalformedEvidence, detail: error.to_string() };
        let Evidence { descriptor: Some(descriptor), statement: Some(statement), .. } = &bundle.evidence
        else {
            return Err(Finding { cause: Cause::Unsigned, detail: "no statement".into() });
        };
        let descriptor = Descriptor::parse(descriptor).map_err(malformed)?;
        let geometry = descriptor.geometry().map_err(malformed)?;
        let expected = Expected {
            namespace: &self.namespace,
            path: path.as_bytes(),
            descriptor: &descriptor,
            now: unix_now(),
        };
        let proof = verify_envelope(statement, keyring, &expected)
            .map_err(|rejection| Finding { cause: rejection.cause, detail: rejection.detail })?;
        let tree_len = bundle.tree_len().unwrap_or(0);
        if tree_len != geometry.tree_size() {
            let wanted = geometry.tree_size();
            let detail = format!("the tree has {tree_len} bytes, the descriptor wants {wanted}");
            return Err(Finding { cause: Cause::MalformedEvidence, detail });
        }
        Ok(Proven {
            geometry,
            hasher: BlockHasher::new(&descriptor.params),
            cache_key: FileKey::new(&descriptor.file_digest()),
            expires: proof.statement.expires,
            descriptor,
        })
    }

    /// Whether `verdict` accepts the evidence that there is now, under the trust that there is now. A
    /// refusal never holds: the store may have slipped, or the evidence may have come a moment later.
    pub(super) async fn holds(&self, path: &StorePath, verdict: &Verdict) -> bool {
        let Some(stamp) = verdict.stamp else { return false };
        verdict.trust_is(self) && self.sidecar.stamp(path).await.is_ok_and(|now| stamp == now)
    }

    /// Whether `verdict` was made under the trust that there is now, and a moment ago.
    pub(super) fn is_fresh(&self, verdict: &Verdict) -> bool {
        verdict.checked.elapsed() < RECHECK && verdict.trust_is(self)
    }
}

impl Verdict {
    /// The same verdict, found to hold at this moment.
    pub(super) fn confirmed(self) -> Self {
        Self { checked: Instant::now(), ..self }
    }

    /// Whether the verdict was made under the trust that there is now.
    pub(super) fn trust_is(&self, trust: &Trust) -> bool {
        self.trust == trust.trusted.load().generation
    }

    /// What is wrong with a file whose attributes in the store are `attr`, if anything is.
    pub(super) fn finding(&self, attr: &Attr) -> Option<Finding> {
        let proven = match &self.outcome {
            Ok(proven) => proven,
            Err(finding) => return Some(Finding::clone(finding)),
        };
        let now = unix_now();
        if let Some(expires) = proven.expires.filter(|expires| now >= *expires) {
            let detail = format!("expired {} seconds ago", now - expires);
            return Some(Finding { cause: Cause::Expired, detail });
        }
        let signed = proven.descriptor.size;
        if attr.size != signed {
            let detail = format!("signed with {signed} bytes, the store has {}", attr.size);
            return Some(Finding { cause: Cause::WrongSize, detail });
        }
        None
    }

    /// The signed size, where there is one.
    pub(super) fn signed_size(&self) -> Option<u64> {
        self.outcome.as_ref().ok().map(|proven| proven.descriptor.size)
    }
}

/// `text`, cut: verdicts are kept in numbers, and paths may be long.
fn brief(text: &str) -> String {
    let mut brief: String = text.chars().take(DETAIL_MAX).collect();
    if brief.len() < text.len() {
        brief.push('…');
    }
    brief
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
