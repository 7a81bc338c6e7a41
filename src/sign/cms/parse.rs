//! From bytes to a [`Pkcs7`]. The depth of the structure is that of this code: what is nested deeper is
//! an opaque element, whatever it claims to hold. Nothing is allocated but copies of bytes that are there.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader};
use spki::AlgorithmIdentifierRef;

use super::{
    ATTRIBUTES_MAX, Attributes, DATA, LIST_MAX, Pkcs7, Pkcs7Signer, RSA, SIGNED_DATA, Scheme, SignerId,
    ecdsa_oid, refuse, tag,
};
use crate::sign::{Certificate, HashName, SignError};

const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_TIME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.5");

/// Algorithms that are known and not accepted, by the names that people know.
const REFUSED: [(&str, &str); 15] = [
    ("1.3.14.3.2.26", "SHA-1, which is broken"),
    ("1.2.840.113549.2.5", "MD5, which is broken"),
    ("2.16.840.1.101.3.4.2.4", "SHA-224"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.113549.1.1.4", "RSA with MD5, which is broken"),
    ("1.2.840.113549.1.1.5", "RSA with SHA-1, which is broken"),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption in the place of rsaEncryption"),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption in the place of rsaEncryption"),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption in the place of rsaEncryption"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.10040.4.3", "DSA with SHA-1"),
    ("2.16.840.1.101.3.4.3.2", "DSA with SHA-256"),
    ("1.2.840.10045.4.1", "ECDSA with SHA-1, which is broken"),
    ("1.2.840.10045.2.1", "ECDSA that does not say its hash"),
    ("1.3.101.112", "Ed25519"),
];

/// One element of DER.
#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// Reads one element after the other.
struct Elements<'a> {
    reader: SliceReader<'a>,
    /// The structure they are in, for messages.
    place: &'static str,
}

impl<'a> Elements<'a> {
    fn of(bytes: &'a [u8], place: &'static str) -> Result<Self, SignError> {
        let reader = SliceReader::new(bytes).map_err(|error| refuse(format!("{place}: {error}")))?;
        Ok(Self { reader, place })
    }

    fn refuse(&self, reason: impl std::fmt::Display) -> SignError {
        refuse(format!("{}: {reason}", self.place))
    }

    /// The next element, or `None` at the end.
    fn next(&mut self) -> Result<Option<Element<'a>>, SignError> {
        let Some(tag) = self.reader.peek_byte() else { return Ok(None) };
        let whole = self.reader.tlv_bytes().map_err(|error| self.refuse(error))?;
        let content = AnyRef::from_der(whole).map_err(|error| self.refuse(error))?.value();
        Ok(Some(Element { tag, content, whole }))
    }

    /// The next element, which must have this tag.
    fn take(&mut self, tag: u8, what: &str) -> Result<Element<'a>, SignError> {
        match self.next()? {
            Some(element) if element.tag == tag => Ok(element),
            Some(element) => Err(self.refuse(format!("tag {:#04x} in the place of the {what}", element.tag))),
            None => Err(self.refuse(format!("no {what}"))),
        }
    }

    /// The next element, if it has this tag.
    fn take_if(&mut self, tag: u8) -> Result<Option<Element<'a>>, SignError> {
        if self.reader.peek_byte() == Some(tag) { self.next() } else { Ok(None) }
    }

    /// The elements inside the next one, which must have this tag.
    fn enter(&mut self, tag: u8, what: &'static str) -> Result<Elements<'a>, SignError> {
        Self::of(self.take(tag, what)?.content, what)
    }

    fn oid(&mut self, what: &str) -> Result<ObjectIdentifier, SignError> {
        let element = self.take(tag::OID, what)?;
        ObjectIdentifier::from_bytes(element.content).map_err(|error| self.refuse(format!("{what}: {error}")))
    }

    fn version(&mut self) -> Result<u8, SignError> {
        match self.take(tag::INTEGER, "version")?.content {
            [version] => Ok(*version),
            _ => Err(self.refuse("a version of more than one byte")),
        }
    }

    fn algorithm(&mut self, what: &'static str) -> Result<AlgorithmIdentifierRef<'a>, SignError> {
        let element = self.take(tag::SEQUENCE, what)?;
        AlgorithmIdentifierRef::from_der(element.whole)
            .map_err(|error| self.refuse(format!("{what}: {error}")))
    }

    fn finish(self) -> Result<(), SignError> {
        if self.reader.is_finished() { Ok(()) } else { Err(self.refuse("more elements than belong there")) }
    }
}

/// Reads a message of at most `max` bytes that carries no content.
pub(super) fn message(der: &[u8], max: usize) -> Result<Pkcs7, SignError> {
    match any(der, max)? {
        (message, None) => Ok(message),
        (_, Some(_)) => Err(refuse("it carries content; sign detached (openssl cms without -nodetach)")),
    }
}

/// Reads a message of at most `max` bytes that carries its content.
pub(super) fn attached(der: &[u8], max: usize) -> Result<(Pkcs7, &[u8]), SignError> {
    let (message, content) = any(der, max)?;
    let content =
        content.ok_or_else(|| refuse("it carries no content; sign with openssl smime -nodetach"))?;
    Ok((message, content))
}

fn any(der: &[u8], max: usize) -> Result<(Pkcs7, Option<&[u8]>), SignError> {
    if der.len() > max {
        return Err(SignError::TooLong { what: "PKCS#7 signature", found: der.len(), max });
    }
    let mut all = Elements::of(der, "the message")?;
    let mut info = all.enter(tag::SEQUENCE, "ContentInfo")?;
    all.finish()?;
    let kind = info.oid("contentType")?;
    if kind != SIGNED_DATA {
        return Err(refuse(format!("it holds {kind}, not signedData")));
    }
    let mut content = info.enter(tag::CONTEXT_0, "content of ContentInfo")?;
    info.finish()?;
    let signed_data = content.enter(tag::SEQUENCE, "SignedData")?;
    content.finish()?;
    self::signed_data(signed_data)
}

fn signed_data(mut data: Elements<'_>) -> Result<(Pkcs7, Option<&[u8]>), SignError> {
    let version = data.version()?;
    if !matches!(version, 1 | 3) {
        return Err(data.refuse(format!("version {version}; 1 and 3 are known")));
    }
    // What the signers say counts; this list lets a reader hash in one pass.
    let mut digests = data.enter(tag::SET, "digestAlgorithms")?;
    for _ in 0..LIST_MAX {
        if digests.reader.is_finished() {
            break;
        }
        digests.algorithm("digest algorithm")?;
    }
    digests.finish()?;
    let mut content = data.enter(tag::SEQUENCE, "contentInfo")?;
    let kind = content.oid("content type")?;
    if kind != DATA {
        return Err(content.refuse(format!("content of type {kind}, not data")));
    }
    let carried = match content.take_if(tag::CONTEXT_0)? {
        Some(outer) => {
            let mut outer = Elements::of(outer.content, "content")?;
            let carried = outer.take(tag::OCTET_STRING, "content")?.content;
            outer.finish()?;
            Some(carried)
        }
        None => None,
    };
    content.finish()?;
    let certificates = match data.take_if(tag::CONTEXT_0)? {
        Some(list) => certificates(list.content)?,
        None => Vec::new(),
    };
    data.take_if(tag::CONTEXT_1)?;
    let infos = data.enter(tag::SET, "signerInfos")?;
    data.finish()?;
    let (signers, unsupported) = signers(infos, version)?;
    Ok((Pkcs7 { signers, unsupported, certificates }, carried))
}

/// Certificates that cannot be read or used, as of a kind that is not X.509 or with a short RSA key, help
/// no chain and are left out.
fn certificates(list: &[u8]) -> Result<Vec<Certificate>, SignError> {
    let mut list = Elements::of(list, "certificates")?;
    let mut found = Vec::new();
    let mut count = 0;
    while let Some(element) = list.next()? {
        count += 1;
        if count > LIST_MAX {
            return Err(list.refuse(format!("more than {LIST_MAX}")));
        }
        if element.tag == tag::SEQUENCE {
            found.extend(Certificate::from_der(element.whole).ok());
        }
    }
    Ok(found)
}

/// The signers that are supported, and why others are not.
fn signers(mut infos: Elements<'_>, version: u8) -> Result<(Vec<Pkcs7Signer>, Vec<String>), SignError> {
    let (mut signers, mut unsupported) = (Vec::new(), Vec::new());
    let mut with_attributes = None;
    while !infos.reader.is_finished() {
        if signers.len() + unsupported.len() == LIST_MAX {
            return Err(infos.refuse(format!("more than {LIST_MAX} signers")));
        }
        let parts = parts(infos.enter(tag::SEQUENCE, "SignerInfo")?, version)?;
        if *with_attributes.get_or_insert(parts.attributes.is_some()) != parts.attributes.is_some() {
            return Err(infos.refuse("signed attributes of some signers and not of others"));
        }
        match algorithms(&parts)? {
            Ok((hash, scheme)) => signers.push(signer(parts, hash, scheme)?),
            Err(reason) => unsupported.push(format!("{reason} ({})", parts.id)),
        }
    }
    match (signers.is_empty(), unsupported.first()) {
        (false, _) => Ok((signers, unsupported)),
        (true, Some(reason)) => Err(refuse(format!("no signer is supported: {reason}"))),
        (true, None) => Err(infos.refuse("no signer")),
    }
}

/// A SignerInfo as it stands there.
struct Parts<'a> {
    id: SignerId,
    digest: AlgorithmIdentifierRef<'a>,
    attributes: Option<Element<'a>>,
    signature: AlgorithmIdentifierRef<'a>,
    value: &'a [u8],
}

fn parts(mut info: Elements<'_>, message_version: u8) -> Result<Parts<'_>, SignError> {
    let version = info.version()?;
    if version != message_version {
        return Err(info.refuse(format!("version {version} in a SignedData of version {message_version}")));
    }
    let id = if version == 1 {
        let mut sid = info.enter(tag::SEQUENCE, "issuerAndSerialNumber")?;
        let issuer = sid.take(tag::SEQUENCE, "issuer")?.whole.to_vec();
        let serial = sid.take(tag::INTEGER, "serial number")?.content.to_vec();
        sid.finish()?;
        SignerId::Issued { issuer, serial }
    } else {
        SignerId::KeyId(info.take(tag::PRIMITIVE_0, "subject key identifier")?.content.to_vec())
    };
    let parts = Parts {
        id,
        digest: info.algorithm("digest algorithm")?,
        attributes: info.take_if(tag::CONTEXT_0)?,
        signature: info.algorithm("signature algorithm")?,
        value: info.take(tag::OCTET_STRING, "signature")?.content,
    };
    info.take_if(tag::CONTEXT_1)?;
    info.finish()?;
    Ok(parts)
}

/// The algorithms, or why they are not supported; an error where they contradict each other.
fn algorithms(parts: &Parts<'_>) -> Result<Result<(HashName, Scheme), String>, SignError> {
    let Some(hash) = HashName::from_oid(parts.digest.oid) else {
        return Ok(Err(format!("its digest algorithm is {}", name(parts.digest.oid))));
    };
    let ecdsa = HashName::ALL.into_iter().find(|hash| ecdsa_oid(*hash) == parts.signature.oid);
    let scheme = match (parts.signature.oid, ecdsa) {
        (RSA, _) => Scheme::RsaPkcs1,
        (_, Some(own)) if own == hash => Scheme::Ecdsa,
        (_, Some(own)) => {
            return Err(refuse(format!("SignerInfo: ECDSA with {own} over a digest made with {hash}")));
        }
        (oid, None) => return Ok(Err(format!("its signature algorithm is {}", name(oid)))),
    };
    for (what, algorithm) in [("digest", &parts.digest), ("signature", &parts.signature)] {
        if algorithm.parameters.is_some_and(|parameters| !parameters.is_null()) {
            return Err(refuse(format!("SignerInfo: the {what} algorithm has parameters")));
        }
    }
    Ok(Ok((hash, scheme)))
}

fn name(oid: ObjectIdentifier) -> String {
    let text = oid.to_string();
    REFUSED.iter().find(|(known, _)| *known == text).map_or(text, |(_, name)| (*name).to_owned())
}

fn signer(parts: Parts<'_>, hash: HashName, scheme: Scheme) -> Result<Pkcs7Signer, SignError> {
    let attributes = parts.attributes.map(|element| attributes(element, hash)).transpose()?;
    Ok(Pkcs7Signer { id: parts.id, hash, scheme, attributes, signature: parts.value.to_vec() })
}

/// Reads signed attributes (RFC 5652 section 5.3): the content's type and digest once each, and others
/// whose meaning is not known here.
fn attributes(element: Element<'_>, hash: HashName) -> Result<Attributes, SignError> {
    let mut list = Elements::of(element.content, "signed attributes")?;
    let (mut content_type, mut message_digest, mut signing_time) = (None, None, None);
    let mut count = 0;
    while !list.reader.is_finished() {
        count += 1;
        if count > ATTRIBUTES_MAX {
            return Err(list.refuse(format!("more than {ATTRIBUTES_MAX}")));
        }
        let mut attribute = list.enter(tag::SEQUENCE, "signed attribute")?;
        let kind = attribute.oid("type")?;
        let mut values = attribute.enter(tag::SET, "values of a signed attribute")?;
        attribute.finish()?;
        let known = match kind {
            CONTENT_TYPE => &mut content_type,
            MESSAGE_DIGEST => &mut message_digest,
            SIGNING_TIME => &mut signing_time,
            _ => continue,
        };
        let value = values.next()?;
        let once = value.is_some() && known.is_none();
        *known = value;
        if !once {
            return Err(list.refuse(format!("{kind} without a value or twice")));
        }
        values.finish()?;
    }
    let (Some(content_type), Some(message_digest)) = (content_type, message_digest) else {
        return Err(list.refuse("contentType or messageDigest is missing"));
    };
    if content_type.tag != tag::OID || content_type.content != DATA.as_bytes() {
        return Err(list.refuse("the contentType is not data"));
    }
    if message_digest.tag != tag::OCTET_STRING || message_digest.content.len() != hash.digest_size() {
        return Err(list.refuse(format!("the messageDigest is not one of {hash}")));
    }
    // RFC 5652 section 5.4: signed under the tag of SET OF, not under the [0] of the message.
    let mut encoded = element.whole.to_vec();
    if let Some(first) = encoded.first_mut() {
        *first = tag::SET;
    }
    Ok(Attributes { message_digest: message_digest.content.to_vec(), encoded })
}
