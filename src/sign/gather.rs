//! Who signed a file: every signature of every format, by keys that are trusted for such a file.
//!
//! A key counts once, however many signatures it made. Signatures by keys that nobody trusts, and bad
//! ones beside good ones, are passed over; what is told of them is told when too few are left.

use bytes::Bytes;

use super::chain::{INTERMEDIATES_MAX, verify_chain};
use super::cms::{Pkcs7, Pkcs7Signer};
use super::ima::{ImaKind, ImaSignature};
use super::opened::Opened;
use super::statement::Statement;
use super::text::Quoted;
use super::verify::{Expected, Rejection, Signer, agree, time};
use super::{Certificate, Format, HashName, KeyId, Keyring, SignError, TrustedKey};
use crate::event::Cause;
use crate::verity::{Descriptor, Digest, FileDigest, HashAlgorithm, Params};

/// The most key ids in one message to people.
const SHOWN_KEYS: usize = 3;
/// The most keys without a certificate that a PKCS#7 signature is tried with: it names certificates alone.
const TRIED_KEYS: usize = 16;
/// The most signatures that are checked for one file: what is more helps nobody but who wants to keep the
/// gateway busy.
const CHECKS_MAX: u32 = 64;
/// The most certificates that are looked at beside one file's signatures.
const CERTIFICATES_MAX: usize = 1 + INTERMEDIATES_MAX;

/// The signatures on one file as they came: nothing of them is verified.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signatures<'a> {
    /// The DSSE envelope.
    pub statement: Option<&'a [u8]>,
    /// PKCS#7 messages over the fs-verity digest, in DER.
    pub pkcs7: &'a [Bytes],
    /// IMA values, as in `security.ima`.
    pub ima: &'a [Bytes],
    /// X.509 certificates in DER that lead from signers to trusted authorities.
    pub certificates: &'a [Bytes],
}

impl Signatures<'_> {
    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.statement.is_none() && self.pkcs7.is_empty() && self.ima.is_empty()
    }

    /// The hashes of the whole file over which trusted keys may have signed it, and which only hashing
    /// all of it can give.
    pub fn file_hashes(&self, keyring: &Keyring) -> Vec<HashName> {
        let mut wanted = Vec::new();
        for signature in self.ima.iter().filter_map(|value| ImaSignature::parse(value).ok()) {
            let of_file = signature.format() == Format::ImaV2;
            if of_file && !wanted.contains(&signature.hash) && self.counts(&signature, keyring) == Some(true)
            {
                wanted.push(signature.hash);
            }
        }
        wanted
    }

    /// The parameters of the tree that a file without a descriptor is to get: those that `evmctl` and the
    /// kernel take when nothing is said, with the hash of the first IMA value that may count.
    ///
    /// # Errors
    /// The cause why none of the values may count.
    pub fn bare_params(&self, keyring: &Keyring) -> Result<Params, Rejection> {
        let mut why =
            Rejection::new(Cause::Unsigned, "the evidence holds neither descriptor nor IMA signature");
        for value in self.ima {
            let signature = match ImaSignature::parse(value) {
                Ok(signature) => signature,
                Err(error) => {
                    why = Rejection::new(Cause::MalformedEvidence, error);
                    continue;
                }
            };
            let (id, format) = (hex::encode(signature.key_id), signature.format());
            match self.counts(&signature, keyring) {
                Some(true) => {
                    let algorithm = match (signature.kind, signature.hash) {
                        (ImaKind::Verity, HashName::Sha512) => HashAlgorithm::Sha512,
                        _ => HashAlgorithm::Sha256,
                    };
                    return Ok(Params { algorithm, ..Params::default() });
                }
                Some(false) => {
                    why = Rejection::new(Cause::KeyLimits, format!("IMA key {id}: {}", not_accepted(format)));
                }
                None => {
                    let keys = keyring.len();
                    let detail =
                        format!("signed by IMA key {id}, which is not among the {keys} trusted keys");
                    why = Rejection::new(Cause::UnknownKey, detail);
                }
            }
        }
        Err(why)
    }

    /// Whether a trusted key that `signature` may be of signs in such a format; `None`: there is no such key.
    fn counts(&self, signature: &ImaSignature, keyring: &Keyring) -> Option<bool> {
        let pinned = keyring.by_ima_key_id(&signature.key_id).map(|trusted| &trusted.limits);
        let chained = keyring.authorities().iter().filter(|_| !self.certificates.is_empty());
        pinned
            .chain(chained.map(|authority| &authority.limits))
            .map(|limits| limits.formats.unwrap_or(keyring.formats()).contains(signature.format()))
            .reduce(|a, b| a || b)
    }
}

/// What the signatures on a file amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The statement, if a trusted key made one.
    pub statement: Option<Statement>,
    /// Each signature that counts; a key may have made several.
    pub signers: Vec<Signer>,
    /// Which of the PKCS#7 messages counts, the first if there are several.
    pub pkcs7: Option<usize>,
    /// Which of the IMA values counts: the first over the whole file, which more tools can check, or else
    /// the first over the fs-verity digest.
    pub ima: Option<usize>,
    /// The first of those over the fs-verity digest that counts.
    pub ima_verity: Option<usize>,
    /// When something ends on which this rests, in seconds since 1970: an expiry, a key's time.
    pub until: Option<i64>,
}

impl Acceptance {
    /// The parameters with which the file has to be hashed and judged once more, where it was hashed with
    /// `params`; `None` when the verdict stands. Signatures over the whole file say nothing of a tree: with
    /// parameters of a stranger's choice it could give a revoked file another digest.
    pub fn other_params(&self, params: &Params) -> Option<Params> {
        let any_tree = self.signers.iter().all(|signer| signer.format == Format::ImaV2);
        (any_tree && *params != Params::default()).then(Params::default)
    }
}

/// Proves that as many trusted keys as the path requires vouch for the file at hand.
///
/// A statement by a trusted key that speaks of another file refuses this one, whatever else signs it.
/// When too few keys vouch, the cause is the first that applies: malformed statement, revoked, key
/// limits, bad signature, malformed evidence, unknown key, unsigned; too few signers where some hold.
pub fn verify(
    signatures: &Signatures<'_>,
    keyring: &Keyring,
    expected: &Expected<'_>,
) -> Result<Acceptance, Rejection> {
    verify_opened(signatures, None, keyring, expected)
}

/// [`verify`] of signatures whose statement, if they have one, was opened before.
pub(crate) fn verify_opened(
    signatures: &Signatures<'_>,
    opened: Option<&Opened>,
    keyring: &Keyring,
    expected: &Expected<'_>,
) -> Result<Acceptance, Rejection> {
    let digest = expected.descriptor.file_digest();
    if let Some(entry) = keyring.revoked().digest(&digest) {
        return Err(Rejection::new(Cause::Revoked, format!("the file {digest} is revoked by {entry}")));
    }
    let mut gathering = Gathering::new(keyring, expected, signatures.certificates);
    let statement = match (opened, signatures.statement) {
        (Some(opened), _) => gathering.native(opened, digest)?,
        (None, Some(envelope)) => {
            let malformed = |error: SignError| Rejection::new(Cause::MalformedEvidence, error);
            gathering.native(&Opened::read(envelope).map_err(malformed)?, digest)?
        }
        (None, None) => None,
    };
    let message = digest.formatted();
    for (at, message_of) in signatures.pkcs7.iter().enumerate() {
        let before = gathering.signers.len();
        gathering.pkcs7(message_of, Format::FsVerity, |hash| Some(hash.digest(&message)));
        if gathering.signers.len() > before {
            gathering.pkcs7.get_or_insert(at);
        }
    }
    let mut of_tree = None;
    for (at, value) in signatures.ima.iter().enumerate() {
        let before = gathering.signers.len();
        gathering.ima(value);
        match gathering.signers.get(before).map(|signer| signer.format) {
            Some(Format::ImaV2) => _ = gathering.ima.get_or_insert(at),
            Some(_) => _ = of_tree.get_or_insert(at),
            None => {}
        }
    }
    gathering.ima = gathering.ima.or(of_tree);
    Ok(Acceptance { ima_verity: of_tree, ..gathering.finish(statement)? })
}

/// The trusted keys that made a module-style signature over the content before it, which `digest`
/// hashes, at `path` and at the time `now`.
///
/// # Errors
/// The cause why there is none, as [`verify`] tells it.
pub fn verify_modsig(
    pkcs7: &[u8],
    keyring: &Keyring,
    path: &[u8],
    now: i64,
    digest: impl Fn(HashName) -> Option<Vec<u8>>,
) -> Result<Vec<Signer>, Rejection> {
    // Neither descriptor nor namespace is looked at for such a signature.
    let root_hash = Digest::zero(HashAlgorithm::Sha256);
    let descriptor = &Descriptor { params: Params::default(), size: 0, root_hash };
    let expected = Expected { namespace: "", path, descriptor, file_hashes: &[], now };
    let mut gathering = Gathering::new(keyring, &expected, &[]);
    gathering.pkcs7(pkcs7, Format::Modsig, digest);
    Ok(gathering.finish(None)?.signers)
}

/// The content of a PKCS#7 message that carries it, and the trusted keys that signed it at the time `now`, at
/// least one: every signer whose algorithms are supported, as the kernel wants it.
///
/// # Errors
/// The cause why there is none, as [`verify`] tells it.
pub fn verify_attached<'a>(
    der: &'a [u8],
    keyring: &Keyring,
    now: i64,
) -> Result<(&'a [u8], Vec<Signer>), Rejection> {
    let (message, content) =
        Pkcs7::parse_attached(der).map_err(|error| Rejection::new(Cause::MalformedEvidence, error))?;
    // Neither descriptor nor namespace nor path is looked at for such a signature.
    let root_hash = Digest::zero(HashAlgorithm::Sha256);
    let descriptor = &Descriptor { params: Params::default(), size: 0, root_hash };
    let expected = Expected { namespace: "", path: b"", descriptor, file_hashes: &[], now };
    let mut gathering = Gathering::new(keyring, &expected, &[]);
    gathering.message(&message, Format::FsVerity, |hash| Some(hash.digest(content)));
    Ok((content, gathering.finish(None)?.signers))
}

/// Why a signature does not count. The first of them is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Problem {
    Revoked,
    Limits,
    Bad,
    Malformed,
}

impl Problem {
    const fn cause(self) -> Cause {
        match self {
            Self::Revoked => Cause::Revoked,
            Self::Limits => Cause::KeyLimits,
            Self::Bad => Cause::BadSignature,
            Self::Malformed => Cause::MalformedEvidence,
        }
    }
}

/// A trusted key that may have made a signature.
#[derive(Clone)]
struct Candidate {
    trusted: TrustedKey,
    /// The certificates that lead from its own to an authority, that one included; none where the key
    /// itself is trusted.
    path: Vec<Certificate>,
}

impl Candidate {
    fn pinned(trusted: &TrustedKey) -> Self {
        Self { trusted: trusted.clone(), path: Vec::new() }
    }
}

struct Gathering<'a> {
    keyring: &'a Keyring,
    expected: &'a Expected<'a>,
    certificates: Vec<Certificate>,
    /// For each certificate, once it was looked for, the key that it makes trusted.
    chained: Vec<Option<Option<Candidate>>>,
    /// Signatures that may still be checked.
    checks: u32,
    signers: Vec<Signer>,
    pkcs7: Option<usize>,
    ima: Option<usize>,
    until: Option<i64>,
    problem: Option<(Problem, String)>,
    /// Keys that are named and not trusted, for people.
    unknown: Vec<String>,
    /// Keys whose signatures do not hold, for people.
    bad: Vec<String>,
}

impl<'a> Gathering<'a> {
    fn new(keyring: &'a Keyring, expected: &'a Expected<'a>, certificates: &[Bytes]) -> Self {
        // A certificate that cannot be read leads nowhere, which its signature will tell.
        let certificates =
            certificates.iter().take(CERTIFICATES_MAX).filter_map(|der| Certificate::from_der(der).ok());
        Self {
            keyring,
            expected,
            // Without an authority none of them can lead to one.
            certificates: if keyring.authorities().is_empty() { Vec::new() } else { certificates.collect() },
            chained: Vec::new(),
            checks: CHECKS_MAX,
            signers: Vec::new(),
            pkcs7: None,
            ima: None,
            until: None,
            problem: None,
            unknown: Vec::new(),
            bad: Vec::new(),
        }
    }

    /// The statement, when a key made it that is trusted for it and it speaks of the file at hand.
    fn native(&mut self, opened: &Opened, digest: FileDigest) -> Result<Option<Statement>, Rejection> {
        let before = self.signers.len();
        for place in opened.places() {
            let id = place.key_id();
            let pinned = self.keyring.get(id).map(Candidate::pinned);
            let Some(candidate) = pinned.or_else(|| self.chained(|leaf| leaf.key().key_id() == *id)) else {
                self.unknown.push(id.to_string());
                continue;
            };
            if self.holds(|| place.is_by(&candidate.trusted.key)) {
                self.admit(&candidate, Format::Native);
            } else {
                self.bad.push(named(&candidate.trusted));
            }
        }
        if self.signers.len() == before {
            return Ok(None);
        }
        agree(&opened.statement, self.expected, digest)?;
        self.until = earlier(self.until, opened.statement.expires);
        Ok(Some(opened.statement.clone()))
    }

    /// Takes the signers of a PKCS#7 message over a content that `digest` hashes. As in the kernel, one
    /// signature that does not hold spoils the message.
    fn pkcs7(&mut self, der: &[u8], format: Format, digest: impl Fn(HashName) -> Option<Vec<u8>>) {
        if !self.keyring.accepts(format) {
            return self.note(Problem::Limits, not_accepted(format));
        }
        let parsed = match format {
            Format::Modsig => Pkcs7::parse_appended(der),
            Format::Native | Format::FsVerity | Format::ImaV3 | Format::ImaV2 => Pkcs7::parse(der),
        };
        match parsed {
            Ok(message) => self.message(&message, format, digest),
            Err(error) => self.note(Problem::Malformed, error.to_string()),
        }
    }

    /// [`Gathering::pkcs7`] of a message that was read.
    fn message(&mut self, message: &Pkcs7, format: Format, digest: impl Fn(HashName) -> Option<Vec<u8>>) {
        if !self.keyring.authorities().is_empty() {
            let room = CERTIFICATES_MAX.saturating_sub(self.certificates.len());
            self.certificates.extend(message.certificates().iter().take(room).cloned());
        }
        if format == Format::Modsig && message.has_signed_attributes() {
            // As the kernel has it: the content could be another signature's attributes.
            let detail = "an appended signature has no signed attributes".to_owned();
            return self.note(Problem::Malformed, detail);
        }
        self.unknown.extend(message.unsupported().iter().cloned());
        let mut found = Vec::new();
        for signer in message.signers() {
            let Some(digest) = digest(signer.hash()) else { continue };
            match self.pkcs7_key(signer, &digest) {
                Ok(Some(candidate)) => found.push(candidate),
                Ok(None) => self.unknown.push(signer.describe()),
                Err(name) => {
                    self.bad.push(name);
                    return;
                }
            }
        }
        found.iter().for_each(|candidate| self.admit(candidate, format));
    }

    /// The trusted key that made `signer`'s signature; the name of the one that is named and did not.
    fn pkcs7_key(&mut self, signer: &Pkcs7Signer, digest: &[u8]) -> Result<Option<Candidate>, String> {
        let is_named = |trusted: &&TrustedKey| {
            trusted.certificate.as_ref().is_some_and(|certificate| signer.names(certificate))
        };
        let pinned = self.keyring.iter().find(is_named).map(Candidate::pinned);
        if let Some(candidate) = pinned.or_else(|| self.chained(|certificate| signer.names(certificate))) {
            return match self.holds(|| signer.verify(digest, &candidate.trusted.key)) {
                true => Ok(Some(candidate)),
                false => Err(named(&candidate.trusted)),
            };
        }
        // The message names a certificate, and these keys came without one.
        let keyring = self.keyring;
        let mut bare = keyring.iter().filter(|trusted| trusted.certificate.is_none()).take(TRIED_KEYS);
        let maker = bare.find(|trusted| self.holds(|| signer.verify(digest, &trusted.key)));
        Ok(maker.map(Candidate::pinned))
    }

    /// Takes the signer of an IMA value.
    fn ima(&mut self, value: &[u8]) {
        let signature = match ImaSignature::parse(value) {
            Ok(signature) => signature,
            Err(error) => return self.note(Problem::Malformed, error.to_string()),
        };
        if !self.keyring.accepts(signature.format()) {
            return self.note(Problem::Limits, not_accepted(signature.format()));
        }
        let descriptor = self.expected.descriptor;
        let id = hex::encode(signature.key_id);
        let digest = match signature.kind {
            ImaKind::Verity if signature.hash == HashName::from(descriptor.params.algorithm) => {
                descriptor.file_digest().digest.as_bytes().to_vec()
            }
            ImaKind::Verity => {
                return self.bad.push(format!("IMA key {id}, over another hash than the tree's"));
            }
            ImaKind::File | ImaKind::FileV3 => match self.expected.file_hash(signature.hash) {
                Some(digest) => digest.to_vec(),
                // Not asked for, since no trusted key may sign so.
                None => return self.unhashed(&signature, &id),
            },
        };
        let pinned = self.keyring.by_ima_key_id(&signature.key_id).map(Candidate::pinned);
        let chained = self.chained(|certificate| certificate.ima_key_id() == signature.key_id);
        let candidates: Vec<Candidate> = pinned.chain(chained).collect();
        let maker = candidates
            .iter()
            .find(|candidate| self.holds(|| signature.verify(&digest, &candidate.trusted.key)));
        match maker {
            Some(candidate) => self.admit(candidate, signature.format()),
            None if candidates.is_empty() => self.unknown.push(format!("IMA key {id}")),
            None => self.bad.extend(candidates.iter().map(|candidate| named(&candidate.trusted))),
        }
    }

    /// Notes a signature over the whole file, which nobody hashed.
    fn unhashed(&mut self, signature: &ImaSignature, id: &str) {
        let trusted = self.keyring.by_ima_key_id(&signature.key_id).next().cloned();
        match trusted {
            Some(trusted) => {
                let detail =
                    format!("{} signed as {}, which does not count", named(&trusted), signature.format());
                self.note(Problem::Limits, detail);
            }
            None => self.unknown.push(format!("IMA key {id}")),
        }
    }

    /// Whether a signature holds that `check` checks; false when too many were checked before.
    fn holds(&mut self, check: impl FnOnce() -> bool) -> bool {
        match self.checks.checked_sub(1) {
            Some(left) => {
                self.checks = left;
                check()
            }
            None => {
                let detail = format!("more signatures than the {CHECKS_MAX} that are checked");
                self.note(Problem::Malformed, detail);
                false
            }
        }
    }

    /// The key of a certificate that came with the file, `wanted`, and leads to a trusted authority.
    fn chained(&mut self, wanted: impl Fn(&Certificate) -> bool) -> Option<Candidate> {
        self.chained.resize(self.certificates.len(), None);
        for at in 0..self.certificates.len() {
            let Some(leaf) = self.certificates.get(at).filter(|leaf| wanted(leaf)) else { continue };
            let found = match self.chained.get(at) {
                Some(Some(found)) => found.clone(),
                _ => self.way_up(leaf),
            };
            if let Some(slot) = self.chained.get_mut(at) {
                *slot = Some(found.clone());
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The key of `leaf`, if a trusted authority vouches for it.
    fn way_up(&self, leaf: &Certificate) -> Option<Candidate> {
        // A key that is trusted itself has limits of its own, and no certificate widens them.
        if let Some(trusted) = self.keyring.get(&leaf.key().key_id()) {
            return Some(Candidate { trusted: trusted.clone(), path: vec![leaf.clone()] });
        }
        let authorities = self.keyring.authorities();
        let roots: Vec<&Certificate> = authorities.iter().map(|authority| &authority.certificate).collect();
        let others = self.certificates.iter().filter(|certificate| *certificate != leaf);
        let others: Vec<Certificate> = others.take(INTERMEDIATES_MAX).cloned().collect();
        let path = verify_chain(leaf, &others, &roots, self.expected.now).ok()?;
        let mut limits = authorities.get(path.authority)?.limits.clone();
        let ends = path.certificates.iter().map(Certificate::not_after);
        limits.not_after = ends.chain(limits.not_after).min();
        let certificate = Some(leaf.clone());
        let trusted = TrustedKey { key: leaf.key().clone(), name: leaf.subject(), certificate, limits };
        Some(Candidate { trusted, path: path.certificates })
    }

    /// Counts a key whose signature holds, unless it may not sign this file so.
    fn admit(&mut self, candidate: &Candidate, format: Format) {
        let trusted = &candidate.trusted;
        let Expected { path, now, .. } = *self.expected;
        let name = || named(trusted);
        let (key_id, limits) = (trusted.key.key_id(), &trusted.limits);
        if let Some(entry) = self.revocation(candidate) {
            return self.note(Problem::Revoked, format!("{} is revoked by {entry}", name()));
        }
        let formats = limits.formats.unwrap_or(self.keyring.formats());
        let refused = if !formats.contains(format) {
            Some(format!("{}: {}", name(), not_accepted(format)))
        } else if !limits.cover_path(path) {
            Some(format!("{} may not sign {}", name(), Quoted(path)))
        } else if !limits.cover_time(now) {
            let from = limits.not_before.map_or_else(String::new, |first| format!(" from {}", time(first)));
            let until = limits.not_after.map_or_else(String::new, |last| format!(" until {}", time(last)));
            Some(format!("{} counts{from}{until}, not now", name()))
        } else {
            None
        };
        match refused {
            Some(detail) => self.note(Problem::Limits, detail),
            None => {
                // The last second is one in which it counts.
                self.until = earlier(self.until, limits.not_after.map(|last| last.saturating_add(1)));
                self.signers.push(Signer { key_id, name: trusted.name.clone(), format });
            }
        }
    }

    /// The entry that revokes the key, its certificate or one on the way to its authority.
    fn revocation(&self, candidate: &Candidate) -> Option<&'a str> {
        let (revoked, trusted) = (self.keyring.revoked(), &candidate.trusted);
        let own = trusted.certificate.iter();
        let mut certificates = own.chain(&candidate.path);
        revoked
            .key(&trusted.key.key_id())
            .or_else(|| certificates.find_map(|certificate| revoked.names(certificate)))
    }

    fn note(&mut self, problem: Problem, detail: String) {
        if self.problem.as_ref().is_none_or(|(told, _)| problem < *told) {
            self.problem = Some((problem, detail));
        }
    }

    fn finish(mut self, statement: Option<Statement>) -> Result<Acceptance, Rejection> {
        let mut keys: Vec<&KeyId> = self.signers.iter().map(|signer| &signer.key_id).collect();
        keys.sort_unstable();
        keys.dedup();
        let (have, need) = (keys.len(), self.keyring.required(self.expected.path));
        if have >= need {
            let Self { signers, pkcs7, ima, until, .. } = self;
            return Ok(Acceptance { statement, signers, pkcs7, ima, ima_verity: None, until });
        }
        if !self.bad.is_empty() {
            let detail = format!("not made by the key it names: {}", list(&self.bad));
            self.note(Problem::Bad, detail);
        }
        if have > 0 {
            let mut detail = format!("{have} of the {need} keys that this path requires");
            if let Some((_, problem)) = &self.problem {
                detail = format!("{detail}; {problem}");
            }
            return Err(Rejection::new(Cause::TooFewSigners, detail));
        }
        if let Some((problem, detail)) = self.problem {
            return Err(Rejection::new(problem.cause(), detail));
        }
        if self.unknown.is_empty() {
            return Err(Rejection::new(Cause::Unsigned, "the evidence holds no signature"));
        }
        let (named, keys) = (list(&self.unknown), self.keyring.len());
        let detail = format!("signed by {named}, which is not among the {keys} trusted keys");
        Err(Rejection::new(Cause::UnknownKey, detail))
    }
}

fn not_accepted(format: Format) -> String {
    format!(
        "signed as {format}, which does not count; to accept that, list it in the key's formats or in --accept"
    )
}

fn named(trusted: &TrustedKey) -> String {
    format!("{} ({})", trusted.key.key_id(), Quoted(trusted.name.as_bytes()))
}

/// The earlier of two ends, where there are any.
fn earlier(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The first few of `items` and how many more there are.
fn list(items: &[String]) -> String {
    let shown = items.iter().take(SHOWN_KEYS).cloned().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(SHOWN_KEYS) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
