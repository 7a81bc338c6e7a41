//! The operator's policy: what may be done with what is proven.
//!
//! It is asked behind the proof, so it only ever refuses more: nothing that does not verify is served because
//! a rule allows it. For READ its answer is kept with the open file, by who asks, until the policy changes or
//! the file is opened anew, which a change of trust or evidence brings about.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;

use super::Export;
use super::error::ExportError;
use super::examine::ExamineError;
use super::nodes::Node;
use super::permission::{Caller, Identity};
use super::trust::{Depth, Judged, Judgement, Proven, Verdict};
use crate::event::{Cause, Event, Refusal};
use crate::policy::ipe::audit::{self, Hook};
use crate::policy::{
    Action, DigestFact, Explanation, Facts, Miss, Op, Policy, Property, RuleRef, Ruling as Ruled, SignerFact,
};
use crate::sign::Signer;
use crate::store::{Attr, Kind, StorePath};
use crate::verity::FileDigest;

/// Callers whose permission to read is kept with an open file.
const KEPT: usize = 64;
/// The name of the process in audit records.
const COMM: &[u8] = b"nfs-verity";
/// The name of the device in audit records: the number beside it is the one that clients see.
const DEVICE: &[u8] = b"nfs";

/// A policy that rules an export, and how.
#[derive(Debug)]
pub struct Rules {
    policy: Policy,
    digest: [u8; 32],
    permissive: bool,
    /// Whether it matters who asks.
    asks_who: bool,
}

impl Rules {
    /// Rules by `policy`, whose file has the SHA-256 digest `digest`. Where they are `permissive`, what the
    /// policy denies is told and served all the same.
    pub fn new(policy: Policy, digest: [u8; 32], permissive: bool) -> Self {
        let asks = |property: &Property| matches!(property, Property::Client(_) | Property::Uid(_));
        let asks_who = policy.statements().into_iter().any(|statement| match statement {
            RuleRef::Rule(rule) => rule.properties().iter().any(asks),
            RuleRef::OpDefault { .. } | RuleRef::GlobalDefault { .. } | RuleRef::Absent { .. } => false,
        });
        Self { policy, digest, permissive, asks_who }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether what it denies is served all the same.
    pub fn is_permissive(&self) -> bool {
        self.permissive
    }

    /// The policy as audit records name it.
    pub fn identity(&self) -> audit::Identity<'_> {
        audit::Identity { name: self.policy.name(), version: self.policy.version(), digest: &self.digest }
    }

    /// Its name and version, for people.
    pub fn title(&self) -> String {
        format!("{} {}", self.policy.name().escape_ascii(), self.policy.version())
    }
}

/// The rules that hold now, if any do.
#[derive(Default)]
pub(super) struct Ruling {
    rules: ArcSwapOption<Rules>,
    generation: AtomicU64,
}

impl Ruling {
    fn replace(&self, rules: Option<Rules>) {
        self.rules.store(rules.map(Arc::new));
        // Behind it: what was found in between counts for the time before.
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn load(&self) -> Guard<Option<Arc<Rules>>> {
        self.rules.load()
    }
}

/// Who asks, as far as it matters.
type Who = Option<(IpAddr, u32)>;

/// Who may read an open file, under the rules of one generation.
#[derive(Default)]
pub(super) struct Allowed(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    generation: u64,
    who: Vec<Who>,
    /// The one that gives way to the next where there is no room.
    oldest: usize,
}

impl Allowed {
    fn has(&self, generation: u64, who: Who) -> bool {
        let kept = self.0.lock();
        kept.generation == generation && kept.who.contains(&who)
    }

    fn keep(&self, generation: u64, who: Who) {
        let mut kept = self.0.lock();
        if kept.generation != generation {
            *kept = Kept { generation, ..Kept::default() };
        }
        if kept.who.len() < KEPT {
            kept.who.push(who);
            return;
        }
        let oldest = kept.oldest;
        if let Some(place) = kept.who.get_mut(oldest) {
            *place = who;
        }
        kept.oldest = (oldest + 1) % KEPT;
    }
}

/// What somebody wants to do.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) op: Op,
    pub(super) hook: Hook,
    pub(super) node: &'a Node,
    /// What was found of a regular file that is proven.
    pub(super) verdict: Option<&'a Verdict>,
    pub(super) caller: &'a Caller,
}

/// How a ruling comes about.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Why the file does not verify, which refuses it whatever the rules say.
    pub refused: Option<(Cause, String)>,
    /// The file digest, where there is a file that verifies.
    pub digest: Option<FileDigest>,
    /// Whose signatures count.
    pub signers: Vec<Signer>,
    /// The rules before the one that decides.
    pub misses: Vec<Missed>,
    /// What is decided.
    pub action: Action,
    /// The line of what decides, from 1, if the policy says anything.
    pub line: Option<usize>,
    /// What decides.
    pub rule: String,
}

/// A rule that does not match.
#[derive(Clone, Debug)]
pub struct Missed {
    /// Its line, from 1.
    pub line: usize,
    /// The rule.
    pub rule: String,
    /// The first of its properties that does not hold.
    pub property: String,
}

/// What is known of `op` on `path`, where `proven` is a regular file that verifies, for `ask`.
fn with_facts<T>(
    op: Op,
    path: &StorePath,
    proven: Option<&Proven>,
    (client, uid): (IpAddr, u32),
    ask: impl FnOnce(&Facts<'_>) -> T,
) -> T {
    let digest = proven.map(|proven| proven.descriptor.file_digest());
    let signers = proven.map_or(&[][..], |proven| &proven.signers).iter();
    let signers: Vec<_> = signers
        .map(|signer| SignerFact {
            key_id: *signer.key_id.as_bytes(),
            name: &signer.name,
            format: signer.format.as_str(),
        })
        .collect();
    ask(&Facts {
        path: Some(path.as_bytes()),
        fsverity_digest: digest
            .as_ref()
            .map(|digest| DigestFact { algorithm: digest.algorithm.name(), bytes: digest.digest.as_bytes() }),
        // Any trusted signature: format= tells them apart.
        fsverity_signature: proven.is_some(),
        signers: &signers,
        client: Some(client),
        uid: Some(uid),
        signed_at: proven.and_then(|proven| proven.signed),
        ..Facts::of(op)
    })
}

fn who(identity: &Identity, caller: &Caller) -> (IpAddr, u32) {
    (caller.client.address.ip().to_canonical(), identity.taken(caller).0)
}

impl Export {
    /// Rules by `rules` from now on, also over files that are open. Without any, all that is proven is served.
    pub fn set_rules(&self, rules: Option<Rules>) {
        self.ruling.replace(rules);
    }

    /// The rules that hold now.
    pub fn rules(&self) -> Option<Arc<Rules>> {
        self.ruling.rules.load_full()
    }

    /// Whether rules hold at all, so that the facts for them are worth finding out.
    pub(super) fn is_ruled(&self) -> bool {
        self.ruling.load().is_some()
    }

    /// Whether the policy allows READ of an open file, whose earlier answers are in `allowed`.
    pub(super) fn may_read(&self, allowed: &Allowed, attr: &Attr, wish: Wish<'_>) -> Result<(), ExportError> {
        // In front of the rules: where they change in between, the answer is kept under a number that is over.
        let generation = self.ruling.generation.load(Ordering::Acquire);
        let rules = self.ruling.load();
        let Some(rules) = &*rules else { return Ok(()) };
        // Who may only run the file reads it to run it.
        let access = self.identity.access(attr, wish.caller);
        if !access.read && access.execute {
            self.ask(rules, Wish { op: Op::Execute, ..wish })?;
        }
        let who = rules.asks_who.then(|| who(&self.identity, wish.caller));
        if allowed.has(generation, who) {
            return Ok(());
        }
        if self.ask(rules, wish)? {
            allowed.keep(generation, who);
        }
        Ok(())
    }

    /// Whether the policy allows what is wished. What it denies is told.
    pub(super) fn may(&self, wish: Wish<'_>) -> Result<(), ExportError> {
        match &*self.ruling.load() {
            Some(rules) => self.ask(rules, wish).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Whether what is wished would be allowed; nobody is told.
    pub(super) fn may_quietly(&self, wish: Wish<'_>) -> bool {
        let rules = self.ruling.load();
        let Some(rules) = &*rules else { return true };
        rules.permissive || self.rule(rules, wish).action == Action::Allow
    }

    fn rule<'r>(&self, rules: &'r Rules, wish: Wish<'_>) -> Ruled<'r> {
        let proven = wish.verdict.and_then(|verdict| verdict.outcome.as_deref().ok());
        let who = who(&self.identity, wish.caller);
        with_facts(wish.op, &wish.node.path, proven, who, |facts| rules.policy.evaluate(facts))
    }

    /// False where it is denied and done all the same.
    fn ask(&self, rules: &Rules, wish: Wish<'_>) -> Result<bool, ExportError> {
        let ruling = self.rule(rules, wish);
        match ruling.action {
            Action::Allow => Ok(true),
            Action::Deny => {
                self.tell(rules, wish, ruling.rule);
                if rules.permissive { Ok(false) } else { Err(ExportError::Denied(Cause::Policy)) }
            }
        }
    }

    /// What `rules`, which need not be those that hold, say of `op` on what `path` names, for the user `uid` of
    /// `client`. All of a file is hashed where only that tells whether it is proven.
    ///
    /// # Errors
    /// The store or the evidence cannot be read.
    pub async fn explain(
        &self,
        rules: &Rules,
        path: &StorePath,
        op: Op,
        (client, uid): (IpAddr, u32),
    ) -> Result<Explained, ExamineError> {
        let attr = self.store.stat(path).await?;
        let mut judged = None;
        if attr.kind == Kind::Regular {
            let known = self.trust.judge(path, attr.size, Depth::Patient).await;
            let Judged::Known(Judgement { verdict, .. }) = known.map_err(ExamineError::Busy)? else {
                return Err(ExamineError::Busy(ExportError::Busy));
            };
            judged = Some(verdict);
        }
        let finding = judged.as_ref().and_then(|verdict| verdict.finding(&attr));
        let proven = judged.as_ref().and_then(|verdict| verdict.outcome.as_deref().ok());
        let proven = proven.filter(|_| finding.is_none());
        let explanation =
            with_facts(op, path, proven, (client.to_canonical(), uid), |facts| rules.policy.explain(facts));
        let Explanation { misses, ruling } = explanation;
        let miss = |miss: Miss<'_>| Missed {
            line: miss.rule.line(),
            rule: miss.rule.to_string(),
            property: miss.property.to_string(),
        };
        Ok(Explained {
            refused: finding.map(|finding| (finding.cause, finding.detail)),
            digest: proven.map(|proven| proven.descriptor.file_digest()),
            signers: proven.map_or_else(Vec::new, |proven| proven.signers.to_vec()),
            misses: misses.into_iter().map(miss).collect(),
            action: ruling.action,
            line: ruling.rule.line(),
            rule: ruling.rule.to_string(),
        })
    }

    fn tell(&self, rules: &Rules, wish: Wish<'_>, rule: RuleRef<'_>) {
        let Wish { op, hook, node, caller, .. } = wish;
        let path = [b"/", node.path.as_bytes()].concat();
        let record = audit::access(&audit::Access {
            op,
            hook,
            enforcing: !rules.permissive,
            pid: std::process::id(),
            comm: COMM,
            file: Some(audit::File { path: &path, inode: Some((DEVICE, node.fileid)) }),
            rule,
        });
        let at = rule.line().map_or_else(String::new, |line| format!(", line {line}"));
        self.sink.emit(&Event::Refused(Refusal {
            path: node.path.as_bytes(),
            cause: Cause::Policy,
            detail: &format!("op={op} under {}{at}: {rule}", rules.title()),
            block: None,
            level: None,
            expected: None,
            found: None,
            client: Some(caller.client),
            served: rules.permissive,
            record: Some(&format!("type={} {record}", audit::ACCESS)),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_who_may_read_are_known_until_the_rules_change() {
        let allowed = Allowed::default();
        let who = |n: usize| Some((IpAddr::from([10, 0, 0, 1]), u32::try_from(n).unwrap()));
        for n in 0..KEPT + 5 {
            allowed.keep(1, who(n));
        }
        assert!((0..5).all(|n| !allowed.has(1, who(n))));
        assert!((5..KEPT + 5).all(|n| allowed.has(1, who(n))));
        assert!(!allowed.has(2, who(9)), "other rules");
        allowed.keep(2, None);
        assert!(allowed.has(2, None) && !allowed.has(2, who(9)) && !allowed.has(1, who(9)));
        assert_eq!(allowed.0.lock().who.len(), 1);
    }
}
