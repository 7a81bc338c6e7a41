//! Chains of certificates up to a trusted authority (RFC 5280 section 6), through rustls-webpki.
//!
//! webpki finds the path and checks signatures, validity, basic constraints, path lengths, name
//! constraints and the extended key usage. It takes trust anchors as they come and ignores the key
//! usage, so both are checked here. Revocation is the caller's: [`ChainPath`] names what was used.

use core::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

use super::Certificate;
use super::text::encode_time;

/// Intermediate certificates that are looked at, at most: with more, those of one name make ways without number.
pub const INTERMEDIATES_MAX: usize = 4;
/// Authorities of one name at most: more than any rotation leaves behind.
const ANCHORS_MAX: usize = 32;
/// The content of the object identifier of codeSigning, 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// The way from a certificate to an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPath {
    /// Which of the given authorities.
    pub authority: usize,
    /// The certificates on the way: the leaf first, the authority's own last.
    pub certificates: Vec<Certificate>,
}

/// Why a certificate does not lead to a trusted authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A certificate on the way is valid no more.
    #[error("the certificate of {subject} expired at {when}")]
    Expired {
        /// Its subject, or words for one that is not known.
        subject: String,
        /// Its last second.
        when: String,
    },
    /// A certificate on the way is not valid yet.
    #[error("the certificate of {subject} is not valid before {when}")]
    NotYetValid {
        /// Its subject, or words for one that is not known.
        subject: String,
        /// Its first second.
        when: String,
    },
    /// No authority that is trusted has issued it.
    #[error("the certificate of {subject} was issued by nobody who is trusted")]
    UnknownIssuer {
        /// The leaf's subject.
        subject: String,
    },
    /// A certificate on the way was used to issue another and may not.
    #[error(
        "a certificate above that of {subject} is not one of an authority (basic constraints, key usage)"
    )]
    NotAuthority {
        /// The leaf's subject.
        subject: String,
    },
    /// The leaf is an authority's own certificate.
    #[error("the certificate of {subject} is an authority's; files are signed with another")]
    IsAuthority {
        /// The leaf's subject.
        subject: String,
    },
    /// More authorities on the way than one of them allows below itself.
    #[error("the way up from the certificate of {subject} is longer than an authority on it allows")]
    PathLength {
        /// The leaf's subject.
        subject: String,
    },
    /// The leaf, or an authority on the way, is for other purposes.
    #[error(
        "the certificate of {subject}, or one above it, is not for signing code (key usage digitalSignature, \
         extended key usage codeSigning)"
    )]
    WrongUse {
        /// The leaf's subject.
        subject: String,
    },
    /// A certificate on the way does not have its issuer's signature.
    #[error("a signature on the way up from the certificate of {subject} does not hold")]
    BadSignature {
        /// The leaf's subject.
        subject: String,
    },
    /// More certificates came along than are looked at.
    #[error("{found} certificates came along; at most {INTERMEDIATES_MAX} are looked at")]
    TooMany {
        /// Their number.
        found: usize,
    },
    /// Something else that webpki does not accept.
    #[error("the certificate of {subject} cannot be used: {reason}")]
    Unusable {
        /// The leaf's subject.
        subject: String,
        /// webpki's word.
        reason: String,
    },
}

/// Finds a way from `leaf` through `intermediates` to one of `authorities` that holds at `now`, in
/// seconds since 1970, for signing code.
///
/// Every certificate on the way, the authority's own too, must be valid at `now`; all but the leaf
/// must be authorities' by basic constraints and key usage; an extended key usage, where there is
/// one, must have codeSigning.
///
/// # Errors
/// The cause; where several ways fail, that of the one that came furthest.
pub fn verify_chain(
    leaf: &Certificate,
    intermediates: &[Certificate],
    authorities: &[&Certificate],
    now: i64,
) -> Result<ChainPath, ChainError> {
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(ChainError::TooMany { found: intermediates.len() });
    }
    let subject = leaf.subject();
    if !leaf.may_sign() {
        return Err(ChainError::WrongUse { subject });
    }
    let everyone: Vec<&Certificate> =
        [leaf].into_iter().chain(intermediates).chain(authorities.iter().copied()).collect();
    let refuse = |error: Error| cause(error, leaf, &everyone);
    let issues = |subject: &[u8]| {
        leaf.issuer_der() == subject || intermediates.iter().any(|one| one.issuer_der() == subject)
    };
    // Nobody else's certificates are read again: trust may have thousands.
    let candidates = authorities.iter().enumerate().filter(|(_, one)| issues(one.subject_der()));
    let candidates: Vec<(usize, &Certificate, CertificateDer<'_>)> =
        candidates.take(ANCHORS_MAX).map(|(at, one)| (at, *one, one.der().into())).collect();
    let anchors: Result<Vec<TrustAnchor<'_>>, Error> =
        candidates.iter().map(|(_, _, der)| anchor_from_trusted_cert(der)).collect();
    let anchors = anchors.map_err(refuse)?;
    let of = |path: &VerifiedPath<'_>| {
        let mut pairs = anchors.iter().zip(&candidates);
        // By identity: two certificates of one authority make equal anchors.
        pairs.find(|(anchor, _)| std::ptr::eq(*anchor, path.anchor())).map(|(_, (at, one, _))| (*at, *one))
    };
    let used = |path: &VerifiedPath<'_>| -> Vec<Certificate> {
        let find = |der: &[u8]| intermediates.iter().find(|one| one.der() == der).cloned();
        path.intermediate_certificates().filter_map(|one| find(&one.der())).collect()
    };

    let leaf_der: CertificateDer<'_> = leaf.der().into();
    let chain: Vec<CertificateDer<'_>> = intermediates.iter().map(|one| one.der().into()).collect();
    let end = EndEntityCert::try_from(&leaf_der).map_err(refuse)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    let accept = |path: &VerifiedPath<'_>| {
        let (_, authority) = of(path).ok_or(Error::UnknownIssuer)?;
        above_holds(&used(path), path.intermediate_certificates().count(), authority, time)
    };
    let path = end.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &anchors,
        &chain,
        time,
        KeyUsage::required_if_present(CODE_SIGNING),
        None,
        Some(&accept),
    );
    let path = path.map_err(refuse)?;
    let (authority, root) = of(&path).ok_or(Error::UnknownIssuer).map_err(refuse)?;
    let certificates = [leaf.clone()].into_iter().chain(used(&path)).chain([root.clone()]).collect();
    Ok(ChainPath { authority, certificates })
}

/// What webpki leaves out about a path that holds otherwise: the key usage of intermediates, and
/// everything about the authority.
fn above_holds(
    intermediates: &[Certificate],
    length: usize,
    authority: &Certificate,
    time: UnixTime,
) -> Result<(), Error> {
    let at =
        |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    let (not_before, not_after) = (at(authority.not_before()), at(authority.not_after()));
    if time < not_before {
        return Err(Error::CertNotValidYet { time, not_before });
    }
    if time > not_after {
        return Err(Error::CertExpired { time, not_after });
    }
    if intermediates.len() != length || !intermediates.iter().all(Certificate::is_authority) {
        return Err(Error::EndEntityUsedAsCa);
    }
    if !authority.is_authority() {
        return Err(Error::EndEntityUsedAsCa);
    }
    if authority.path_length().is_some_and(|most| length > usize::from(most)) {
        return Err(Error::PathLenConstraintViolated);
    }
    if !authority.is_for_code() {
        return Err(Error::EmptyEkuExtension);
    }
    Ok(())
}

/// webpki's word in ours, with the certificate where it can be told.
fn cause(error: Error, leaf: &Certificate, everyone: &[&Certificate]) -> ChainError {
    let subject = leaf.subject();
    let whose = |end: fn(&Certificate) -> i64, time: UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let found = everyone.iter().find(|one| end(one) == seconds);
        let subject = found.map_or_else(|| "an issuer".to_owned(), |one| one.subject());
        (subject, encode_time(seconds).unwrap_or_else(|| format!("second {seconds}")))
    };
    match error {
        Error::CertExpired { not_after, .. } => {
            let (subject, when) = whose(Certificate::not_after, not_after);
            ChainError::Expired { subject, when }
        }
        Error::CertNotValidYet { not_before, .. } => {
            let (subject, when) = whose(Certificate::not_before, not_before);
            ChainError::NotYetValid { subject, when }
        }
        Error::UnknownIssuer => ChainError::UnknownIssuer { subject },
        Error::EndEntityUsedAsCa => ChainError::NotAuthority { subject },
        Error::CaUsedAsEndEntity => ChainError::IsAuthority { subject },
        Error::PathLenConstraintViolated => ChainError::PathLength { subject },
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => ChainError::WrongUse { subject },
        Error::InvalidSignatureForPublicKey => ChainError::BadSignature { subject },
        // webpki's errors carry no foreign text.
        other => ChainError::Unusable { subject, reason: other.to_string() },
    }
}
