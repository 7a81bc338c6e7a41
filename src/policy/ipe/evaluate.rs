//! Facts in, ruling out.

use core::net::IpAddr;
use std::collections::HashMap;

use super::property::{DigestPattern, Property, SignerPattern};
use super::rule::{Action, Rule, RuleRef};
use super::{Op, Policy, Table};

/// What is known of what is to be done. What is not known fulfils no property.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What is to be done.
    pub op: Op,
    /// The path below the export's root, without a `/` before it; empty for the root.
    pub path: Option<&'a [u8]>,
    /// The proven fs-verity digest of the file.
    pub fsverity_digest: Option<DigestFact<'a>>,
    /// True when a trusted signature covers the file: in the kernel the built-in one, in an export any that counts.
    pub fsverity_signature: bool,
    /// The trusted signatures of the file that count, in any order.
    pub signers: &'a [SignerFact<'a>],
    /// Who asks.
    pub client: Option<IpAddr>,
    /// For which user.
    pub uid: Option<u32>,
    /// When the file was signed, in seconds since 1970.
    pub signed_at: Option<i64>,
    /// The root hash of the dm-verity volume on which the file is.
    pub dmverity_roothash: Option<DigestFact<'a>>,
    /// True when that root hash has a trusted signature.
    pub dmverity_signature: bool,
    /// True for what was verified at boot.
    pub boot_verified: bool,
}

impl Facts<'_> {
    /// Of `op`, with nothing known.
    pub const fn of(op: Op) -> Self {
        Self {
            op,
            path: None,
            fsverity_digest: None,
            fsverity_signature: false,
            signers: &[],
            client: None,
            uid: None,
            signed_at: None,
            dmverity_roothash: None,
            dmverity_signature: false,
            boot_verified: false,
        }
    }
}

/// A digest that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestFact<'a> {
    /// The kernel's name of the algorithm: `sha256`, `sha512`.
    pub algorithm: &'a str,
    /// The digest.
    pub bytes: &'a [u8],
}

/// A trusted signature that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerFact<'a> {
    /// The key's id.
    pub key_id: [u8; 32],
    /// The key's name.
    pub name: &'a str,
    /// The name of the signature's format.
    pub format: &'a str,
}

/// What is done, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling<'p> {
    /// What is done.
    pub action: Action,
    /// What decided.
    pub rule: RuleRef<'p>,
}

/// A rule that did not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// The first of its properties that does not hold.
    pub property: &'p Property,
}

/// How a ruling came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<'p> {
    /// The rules of the operation before the one that matched, or all when none did.
    pub misses: Vec<Miss<'p>>,
    /// What is done in the end.
    pub ruling: Ruling<'p>,
}

impl Policy {
    /// What is to be done: what the first rule of the operation says all of whose properties hold, else
    /// the operation's default, else the default for all. Without any of them, which happens to additions
    /// only, it is denied.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Ruling<'_> {
        let table = self.tables.of(facts.op);
        let rule = table.index.first(&table.rules, facts);
        self.ruling(table, rule, facts.op)
    }

    /// The same as [`Policy::evaluate`], with what stood in the way of the rules before.
    pub fn explain(&self, facts: &Facts<'_>) -> Explanation<'_> {
        let table = self.tables.of(facts.op);
        let mut misses = Vec::new();
        for rule in &table.rules {
            match rule.properties.iter().find(|property| !holds(property, facts)) {
                Some(property) => misses.push(Miss { rule, property }),
                None => return Explanation { misses, ruling: self.ruling(table, Some(rule), facts.op) },
            }
        }
        Explanation { misses, ruling: self.ruling(table, None, facts.op) }
    }

    fn ruling<'p>(&self, table: &Table, rule: Option<&'p Rule>, op: Op) -> Ruling<'p> {
        let rule = match (rule, table.default, self.default) {
            (Some(rule), _, _) => RuleRef::Rule(rule),
            (None, Some(own), _) => RuleRef::OpDefault { op, action: own.action, line: own.line },
            (None, None, Some(all)) => RuleRef::GlobalDefault { action: all.action, line: all.line },
            (None, None, None) => RuleRef::Absent { op },
        };
        Ruling { action: rule.action(), rule }
    }
}

fn holds(property: &Property, facts: &Facts<'_>) -> bool {
    match property {
        Property::BootVerified(wanted) => facts.boot_verified == *wanted,
        Property::DmverityRoothash(wanted) => is_digest(wanted, facts.dmverity_roothash),
        Property::DmveritySignature(wanted) => facts.dmverity_signature == *wanted,
        Property::FsverityDigest(wanted) => is_digest(wanted, facts.fsverity_digest),
        Property::FsveritySignature(wanted) => facts.fsverity_signature == *wanted,
        Property::Path(pattern) => facts.path.is_some_and(|path| pattern.matches(path)),
        Property::Signer(SignerPattern::Key(id)) => facts.signers.iter().any(|signer| signer.key_id == *id),
        Property::Signer(SignerPattern::Name(name)) => {
            facts.signers.iter().any(|signer| signer.name.as_bytes() == &**name)
        }
        Property::Format(word) => facts.signers.iter().any(|signer| signer.format.as_bytes() == &**word),
        Property::Client(network) => facts.client.is_some_and(|client| network.contains(client)),
        Property::Uid(uid) => facts.uid == Some(*uid),
        Property::SignedAfter(time) => facts.signed_at.is_some_and(|signed| signed > time.as_second()),
        Property::Quorum(wanted) => has_quorum(facts, usize::from(*wanted)),
    }
}

fn is_digest(wanted: &DigestPattern, found: Option<DigestFact<'_>>) -> bool {
    found.is_some_and(|found| {
        *found.bytes == *wanted.bytes && found.algorithm.as_bytes() == &*wanted.algorithm
    })
}

/// True when so many different keys signed. Two signatures of one key count once.
fn has_quorum(facts: &Facts<'_>, wanted: usize) -> bool {
    let signers = facts.signers.iter().enumerate();
    let different = signers
        .filter(|(at, signer)| !facts.signers.iter().take(*at).any(|before| before.key_id == signer.key_id));
    different.take(wanted).count() == wanted
}

/// Which rules may match, by what is quickly looked up. Long lists of digests or of paths cost no more
/// than short ones.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Places of rules that want one file digest.
    digests: HashMap<Box<[u8]>, Vec<usize>>,
    /// Places of rules that want one path.
    paths: HashMap<Box<[u8]>, Vec<usize>>,
    /// Places of the others.
    others: Vec<usize>,
}

impl Index {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (at, rule) in rules.iter().enumerate() {
            let digest = rule.properties.iter().find_map(|property| match property {
                Property::FsverityDigest(digest) => Some(&*digest.bytes),
                _ => None,
            });
            let path = rule.properties.iter().find_map(|property| match property {
                Property::Path(pattern) => pattern.literal(),
                _ => None,
            });
            match (digest, path) {
                (Some(digest), _) => index.digests.entry(digest.into()).or_default().push(at),
                (None, Some(path)) => index.paths.entry(path.into()).or_default().push(at),
                (None, None) => index.others.push(at),
            }
        }
        index
    }

    /// The first of `rules`, of which this is the index, that matches.
    fn first<'p>(&self, rules: &'p [Rule], facts: &Facts<'_>) -> Option<&'p Rule> {
        let listed = |map: &'_ HashMap<Box<[u8]>, Vec<usize>>, key: Option<&[u8]>| {
            // Most policies have none, and hashing takes longer than a rule does.
            let found = key.filter(|_| !map.is_empty()).and_then(|key| map.get(key));
            found.and_then(|places| first(places, rules, facts))
        };
        let by_digest = listed(&self.digests, facts.fsverity_digest.map(|digest| digest.bytes));
        let by_path = listed(&self.paths, facts.path);
        // The others matter only before what is found already.
        let bound = by_digest.into_iter().chain(by_path).min().unwrap_or(rules.len());
        let end = self.others.partition_point(|at| *at < bound);
        let others = self.others.get(..end).unwrap_or_default();
        rules.get(first(others, rules, facts).unwrap_or(bound))
    }
}

/// The first of the places whose rule matches.
fn first(places: &[usize], rules: &[Rule], facts: &Facts<'_>) -> Option<usize> {
    let matches = |rule: &Rule| rule.properties.iter().all(|property| holds(property, facts));
    places.iter().copied().find(|at| rules.get(*at).is_some_and(matches))
}
