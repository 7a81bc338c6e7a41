//! Messages that are ours, OpenSSL's, and nobody's: what is refused, and with what cause.

use super::*;
use crate::sign::fixture::{self, tlv};
use crate::sign::{Sign, ToSign};

const MESSAGE: &[u8] = b"FSVerity and a digest";
const SIGNERS: [&str; 3] = ["p256", "p384", "rsa3072"];

const SHA256: &str = "300d06096086480165030402010500";
const SHA512: &str = "300d06096086480165030402030500";
const RSA_ENCRYPTION: &str = "300d06092a864886f70d0101010500";
const ECDSA_SHA256: &str = "300a06082a8648ce3d040302";
const ECDSA_SHA512: &str = "300a06082a8648ce3d040304";
const DATA_OID: &str = "06092a864886f70d010701";
const SIGNED_DATA_OID: &str = "06092a864886f70d010702";

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// A message put together by hand, so that any part can be wrong.
#[derive(Clone)]
struct Forge {
    outer: Vec<u8>,
    version: u8,
    digests: Vec<u8>,
    content: Vec<u8>,
    certificates: Vec<u8>,
    crls: Vec<u8>,
    signers: Vec<Vec<u8>>,
    rest: Vec<u8>,
}

impl Forge {
    fn new(signers: &[Vec<u8>]) -> Self {
        Self {
            outer: unhex(SIGNED_DATA_OID),
            version: 1,
            digests: unhex(SHA256),
            content: unhex(DATA_OID),
            certificates: vec![],
            crls: vec![],
            signers: signers.to_vec(),
            rest: vec![],
        }
    }

    fn der(&self) -> Vec<u8> {
        let data = tlv(
            0x30,
            &[
                &[2, 1, self.version],
                &tlv(0x31, &[&self.digests]),
                &tlv(0x30, &[&self.content]),
                &self.certificates,
                &self.crls,
                &tlv(0x31, &[&self.signers.concat()]),
                &self.rest,
            ],
        );
        tlv(0x30, &[&self.outer, &tlv(0xa0, &[&data])])
    }

    fn parse(&self) -> Result<Pkcs7, SignError> {
        Pkcs7::parse(&self.der())
    }

    fn refused(&self) -> String {
        match self.parse() {
            Err(SignError::Pkcs7 { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }
}

/// A SignerInfo put together by hand.
#[derive(Clone)]
struct Info {
    version: u8,
    sid: Vec<u8>,
    digest: Vec<u8>,
    attributes: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
    rest: Vec<u8>,
}

impl Info {
    /// One of the key `name`, without attributes, with SHA-256.
    fn new(name: &str) -> Self {
        let certificate = fixture::certificate(name);
        let signature = Sign::sign(fixture::key(name), HashName::Sha256, ToSign::Message(MESSAGE)).unwrap();
        Self {
            version: 1,
            sid: tlv(0x30, &[certificate.issuer_der(), &tlv(0x02, &[certificate.serial_der()])]),
            digest: unhex(SHA256),
            attributes: vec![],
            algorithm: unhex(if name == "rsa3072" { RSA_ENCRYPTION } else { ECDSA_SHA256 }),
            signature,
            rest: vec![],
        }
    }

    /// The same with these attributes, which are signed.
    fn with_attributes(name: &str, attributes: &[Vec<u8>]) -> Self {
        let attributes = attributes.concat();
        let signed = tlv(0x31, &[&attributes]);
        let signature = Sign::sign(fixture::key(name), HashName::Sha256, ToSign::Message(&signed)).unwrap();
        Self { attributes: tlv(0xa0, &[&attributes]), signature, ..Self::new(name) }
    }

    fn der(&self) -> Vec<u8> {
        let signature = tlv(0x04, &[&self.signature]);
        let version = [2, 1, self.version];
        tlv(
            0x30,
            &[&version, &self.sid, &self.digest, &self.attributes, &self.algorithm, &signature, &self.rest],
        )
    }

    fn forge(&self) -> Forge {
        Forge::new(&[self.der()])
    }
}

fn attribute(oid: &str, values: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &[&unhex(oid), &tlv(0x31, values)])
}

const CONTENT_TYPE: &str = "06092a864886f70d010903";
const MESSAGE_DIGEST: &str = "06092a864886f70d010904";
const SIGNING_TIME: &str = "06092a864886f70d010905";
const SMIME_CAPABILITIES: &str = "06092a864886f70d01090f";

fn content_type() -> Vec<u8> {
    attribute(CONTENT_TYPE, &[&unhex(DATA_OID)])
}

fn message_digest(message: &[u8]) -> Vec<u8> {
    attribute(MESSAGE_DIGEST, &[&tlv(0x04, &[&HashName::Sha256.digest(message)])])
}

fn signing_time() -> Vec<u8> {
    attribute(SIGNING_TIME, &[&tlv(0x17, &[b"260101000000Z"])])
}

/// True when the one signer of `der` is named by the certificate of `name` and signed [`MESSAGE`].
fn proves(der: &[u8], name: &str) -> bool {
    let Ok(parsed) = Pkcs7::parse(der) else { return false };
    let certificate = fixture::certificate(name);
    let [signer] = parsed.signers() else { return false };
    signer.names(&certificate) && signer.verify(&signer.hash().digest(MESSAGE), certificate.key())
}

fn made(name: &str, hash: HashName) -> Vec<u8> {
    make_pkcs7(MESSAGE, hash, fixture::key(name), &fixture::certificate(name)).unwrap()
}

#[test]
fn what_is_made_verifies_for_its_message_hash_and_key_alone() {
    for name in SIGNERS {
        for hash in HashName::ALL {
            let der = made(name, hash);
            let parsed = Pkcs7::parse(&der).unwrap();
            assert!(parsed.certificates().is_empty() && parsed.unsupported().is_empty());
            assert!(!parsed.has_signed_attributes());
            let [signer] = parsed.signers() else { panic!("one signer") };
            assert_eq!(signer.hash(), hash);
            for (other, key) in fixture::keys() {
                let key = key.public_key();
                assert_eq!(signer.names(&fixture::certificate(other)), other == name, "{name} {other}");
                assert_eq!(signer.verify(&hash.digest(MESSAGE), key), other == name, "{name} {other}");
                assert!(!signer.verify(&hash.digest(b"FSVerity and another"), key), "{name} {other}");
            }
            for other in HashName::ALL.into_iter().filter(|other| *other != hash) {
                assert!(!signer.verify(&other.digest(MESSAGE), fixture::key(name).public_key()));
            }
            let told = signer.describe();
            assert!(told.contains(hash.name()) && told.contains(&format!("\"CN={name}\"")), "{told}");
        }
    }
}

#[test]
fn the_hand_made_messages_of_these_tests_are_accepted_unchanged() {
    for name in SIGNERS {
        assert!(proves(&Info::new(name).forge().der(), name), "{name}");
    }
    // RSA signatures are the same each time: what is put together here is what is made.
    assert_eq!(Info::new("rsa3072").forge().der(), made("rsa3072", HashName::Sha256));
}

/// The crate of the same name as this module, which shares no code with it but the primitives of DER.
#[test]
fn another_reader_of_cms_finds_the_same_in_what_is_made() {
    use ::cms::content_info::ContentInfo;
    use ::cms::signed_data::{SignedData, SignerIdentifier};
    use der::Encode;
    for name in SIGNERS {
        let der = made(name, HashName::Sha512);
        let info = ContentInfo::from_der(&der).unwrap();
        let data: SignedData = info.content.decode_as().unwrap();
        assert_eq!(info.to_der().unwrap(), der);
        assert!(data.certificates.is_none() && data.crls.is_none());
        assert!(data.encap_content_info.econtent.is_none());
        let [signer] = data.signer_infos.0.as_slice() else { panic!("one signer") };
        let SignerIdentifier::IssuerAndSerialNumber(id) = &signer.sid else { panic!("a serial number") };
        let certificate = fixture::certificate(name);
        assert_eq!(id.serial_number.as_bytes(), certificate.serial_der());
        assert_eq!(id.issuer.to_der().unwrap(), certificate.issuer_der());
        assert_eq!(signer.digest_alg.oid, HashName::Sha512.oid());
        let (digest, key) = (HashName::Sha512.digest(MESSAGE), certificate.key());
        assert!(key.verify_digest(HashName::Sha512, &digest, signer.signature.as_bytes()));
    }
}

#[test]
fn ed25519_and_certificates_of_other_keys_make_nothing() {
    let ed25519 =
        make_pkcs7(MESSAGE, HashName::Sha256, fixture::key("ed25519"), &fixture::certificate("ed25519"));
    assert!(matches!(ed25519, Err(SignError::CannotMake { .. })));
    let other = make_pkcs7(MESSAGE, HashName::Sha256, fixture::key("p256"), &fixture::certificate("p384"));
    assert!(matches!(other, Err(SignError::Certificate { .. })));
}

#[test]
fn messages_cut_or_extended_are_refused() {
    for name in ["p256", "rsa3072"] {
        let der = made(name, HashName::Sha256);
        for cut in 0..der.len() {
            assert!(Pkcs7::parse(&der[..cut]).is_err(), "{name} cut at {cut}");
        }
        for extra in [&[0][..], &[0, 0], &[5, 0], &der] {
            assert!(Pkcs7::parse(&[&der, extra].concat()).is_err(), "{name}");
        }
    }
}

#[test]
fn messages_with_a_flipped_bit_prove_nothing_but_what_they_proved() {
    for (name, step) in [("p256", 1), ("rsa3072", 7)] {
        let der = made(name, HashName::Sha256);
        let mut still = 0;
        for bit in (0..der.len() * 8).step_by(step) {
            let mut flipped = der.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            still += usize::from(proves(&flipped, name));
        }
        // The list of digest algorithms, which no one reads, may name another one, or other parameters.
        assert!(still <= (9 + 1) * 8, "{name}: {still}");
    }
    let attributes = [content_type(), signing_time(), message_digest(MESSAGE)];
    let der = Info::with_attributes("p256", &attributes).forge().der();
    assert!(proves(&der, "p256"));
    let attributes = tlv(0xa0, &[&attributes.concat()]);
    let start = der.windows(attributes.len()).position(|at| at == attributes).unwrap();
    for bit in start * 8..(start + attributes.len()) * 8 {
        let mut flipped = der.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!proves(&flipped, "p256"), "bit {bit} of the attributes is not signed");
    }
}

#[test]
fn attributes_are_signed_as_a_set_and_hold_the_digest_of_the_content() {
    for name in SIGNERS {
        for attributes in [
            vec![content_type(), message_digest(MESSAGE)],
            vec![content_type(), signing_time(), message_digest(MESSAGE)],
            // In an order that is not DER's: signed as they stand there.
            vec![message_digest(MESSAGE), content_type()],
            vec![content_type(), message_digest(MESSAGE), attribute(SMIME_CAPABILITIES, &[&tlv(0x30, &[])])],
        ] {
            let forge = Info::with_attributes(name, &attributes).forge();
            assert!(proves(&forge.der(), name), "{name}");
            assert!(forge.parse().unwrap().has_signed_attributes());
        }
        // The digest in the message is that of another content: nobody signed this one.
        let other = [content_type(), message_digest(b"another")];
        assert!(!proves(&Info::with_attributes(name, &other).forge().der(), name), "{name}");
        // The content is signed and the attributes are not.
        let attributes = tlv(0xa0, &[&content_type(), &message_digest(MESSAGE)]);
        assert!(!proves(&Info { attributes, ..Info::new(name) }.forge().der(), name), "{name}");
        // Signed under the tag of the message.
        let mut info = Info::with_attributes(name, &[content_type(), message_digest(MESSAGE)]);
        info.signature =
            Sign::sign(fixture::key(name), HashName::Sha256, ToSign::Message(&info.attributes)).unwrap();
        assert!(!proves(&info.forge().der(), name), "{name}");
    }
}

#[test]
fn attributes_that_are_missing_doubled_or_of_another_type_are_refused() {
    let digest = message_digest(MESSAGE);
    let value = tlv(0x04, &[&HashName::Sha256.digest(MESSAGE)]);
    let short = attribute(MESSAGE_DIGEST, &[&tlv(0x04, &[&[7; 20]])]);
    for (attributes, cause) in [
        (vec![], "missing"),
        (vec![content_type()], "missing"),
        (vec![digest.clone()], "missing"),
        (vec![content_type(), content_type(), digest.clone()], "twice"),
        (vec![content_type(), digest.clone(), digest.clone()], "twice"),
        (vec![content_type(), signing_time(), signing_time(), digest.clone()], "twice"),
        (vec![content_type(), attribute(MESSAGE_DIGEST, &[])], "without a value"),
        (vec![content_type(), attribute(MESSAGE_DIGEST, &[&value, &value])], "more elements"),
        (vec![content_type(), short], "not one of sha256"),
        (vec![content_type(), attribute(MESSAGE_DIGEST, &[&unhex(DATA_OID)])], "not one of sha256"),
        (vec![attribute(CONTENT_TYPE, &[&unhex(SIGNED_DATA_OID)]), digest.clone()], "not data"),
        (vec![attribute(CONTENT_TYPE, &[&value]), digest.clone()], "not data"),
        (vec![content_type(), digest.clone(), tlv(0x30, &[&unhex(DATA_OID)])], "no values"),
        (vec![content_type(), digest.clone(), vec![5, 0]], "tag 0x05"),
        (
            [vec![content_type(), digest], vec![attribute(SMIME_CAPABILITIES, &[]); 31]].concat(),
            "more than 32",
        ),
    ] {
        let told = Info::with_attributes("p256", &attributes).forge().refused();
        assert!(told.contains(cause), "{cause}: {told}");
    }
}

#[test]
fn signed_attributes_of_some_signers_and_not_of_others_are_refused() {
    let with = Info::with_attributes("p256", &[content_type(), message_digest(MESSAGE)]).der();
    for signers in [[Info::new("p384").der(), with.clone()], [with, Info::new("p384").der()]] {
        assert!(Forge::new(&signers).refused().contains("of some signers"));
    }
}

#[test]
fn several_signers_are_all_there() {
    let infos: Vec<_> = SIGNERS.iter().map(|name| Info::new(name).der()).collect();
    let parsed = Forge::new(&infos).parse().unwrap();
    assert_eq!(parsed.signers().len(), 3);
    for (signer, name) in parsed.signers().iter().zip(SIGNERS) {
        assert!(signer.names(&fixture::certificate(name)));
        assert!(signer.verify(&HashName::Sha256.digest(MESSAGE), fixture::key(name).public_key()), "{name}");
    }
    Forge::new(&vec![infos[0].clone(); 16]).parse().unwrap();
    assert!(Forge::new(&vec![infos[0].clone(); 17]).refused().contains("more than 16"));
    assert!(Forge::new(&[]).refused().contains("no signer"));
}

#[test]
fn signers_with_other_algorithms_are_told_apart_and_alone_refused() {
    let algorithm = |oid: &str| tlv(0x30, &[&unhex(oid), &[5, 0]]);
    let digest = |oid: &str| Info { digest: algorithm(oid), ..Info::new("p256") };
    let signature = |oid: &str| Info { algorithm: algorithm(oid), ..Info::new("p256") };
    for (info, cause) in [
        (digest("06052b0e03021a"), "SHA-1"),
        (digest("06082a864886f70d0205"), "MD5"),
        (digest("0609608648016503040204"), "SHA-224"),
        (digest("0609608648016503040208"), "2.16.840.1.101.3.4.2.8"),
        (signature("06092a864886f70d01010a"), "RSA-PSS"),
        (signature("06092a864886f70d010105"), "RSA with SHA-1"),
        (signature("06092a864886f70d01010b"), "sha256WithRSAEncryption"),
        (signature("06072a8648ce380403"), "DSA with SHA-1"),
        (signature("06072a8648ce3d0401"), "ECDSA with SHA-1"),
        (signature("06032b6570"), "Ed25519"),
        (signature("06022a03"), "1.2.3"),
    ] {
        let told = info.forge().refused();
        assert!(told.contains("no signer is supported") && told.contains(cause), "{cause}: {told}");
        let parsed = Forge::new(&[info.der(), Info::new("p384").der()]).parse().unwrap();
        assert_eq!((parsed.signers().len(), parsed.unsupported().len()), (1, 1));
        let told = &parsed.unsupported()[0];
        assert!(told.contains(cause) && told.contains("\"CN=p256\""), "{told}");
    }
}

#[test]
fn algorithms_that_contradict_each_other_or_the_key_prove_nothing() {
    let ecdsa = |digest: &str, algorithm: &str| Info {
        digest: unhex(digest),
        algorithm: unhex(algorithm),
        ..Info::new("p256")
    };
    assert!(ecdsa(SHA512, ECDSA_SHA256).forge().refused().contains("sha256 over a digest made with sha512"));
    assert!(ecdsa(SHA256, ECDSA_SHA512).forge().refused().contains("sha512 over a digest made with sha256"));
    // The signature is right and the message says that it is of another kind.
    let rsa = Info { algorithm: unhex(ECDSA_SHA256), ..Info::new("rsa3072") };
    assert!(rsa.forge().parse().is_ok() && !proves(&rsa.forge().der(), "rsa3072"));
    let ec = Info { algorithm: unhex(RSA_ENCRYPTION), ..Info::new("p256") };
    assert!(ec.forge().parse().is_ok() && !proves(&ec.forge().der(), "p256"));
    // Made with SHA-256, said to be made with SHA-512.
    assert!(!proves(&ecdsa(SHA512, ECDSA_SHA512).forge().der(), "p256"));
    let rsa = Info { digest: unhex(SHA512), ..Info::new("rsa3072") };
    assert!(!proves(&rsa.forge().der(), "rsa3072"));
    // One signer's signature under the name of another.
    let stolen = Info { sid: Info::new("p384").sid, ..Info::new("p256") };
    assert!(!proves(&stolen.forge().der(), "p256") && !proves(&stolen.forge().der(), "p384"));
}

#[test]
fn algorithms_with_parameters_are_refused() {
    for parameters in [&[5, 1, 0][..], &[2, 1, 1], &[0x30, 0], &[4, 0]] {
        let digest = tlv(0x30, &[&unhex("0609608648016503040201"), parameters]);
        assert!(Info { digest, ..Info::new("p256") }.forge().parse().is_err(), "{parameters:?}");
        let algorithm = tlv(0x30, &[&unhex("06092a864886f70d010101"), parameters]);
        assert!(Info { algorithm, ..Info::new("rsa3072") }.forge().parse().is_err(), "{parameters:?}");
    }
    // Without NULL, as `openssl cms` writes hashes.
    let digest = tlv(0x30, &[&unhex("0609608648016503040201")]);
    assert!(proves(&Info { digest, ..Info::new("p256") }.forge().der(), "p256"));
}

#[test]
fn signatures_that_are_cut_or_empty_prove_nothing() {
    for name in ["p256", "rsa3072"] {
        let good = Info::new(name);
        for length in (0..good.signature.len()).step_by(5) {
            let info = Info { signature: good.signature[..length].to_vec(), ..good.clone() };
            assert!(!proves(&info.forge().der(), name), "{name} {length}");
        }
        let longer = Info { signature: [&good.signature[..], &[0]].concat(), ..good.clone() };
        assert!(!proves(&longer.forge().der(), name), "{name}");
    }
    // Zeros, and r and s in a longer form than DER's.
    for signature in ["3006020100020100", "30080202000002020000", "3000", "30800201010201010000"] {
        let info = Info { signature: unhex(signature), ..Info::new("p256") };
        assert!(!proves(&info.forge().der(), "p256"), "{signature}");
    }
}

#[test]
fn signers_are_named_by_key_id_in_version_3_alone() {
    let certificate = fixture::certificate("p256");
    let key_id = tlv(0x80, &[certificate.subject_key_id().unwrap()]);
    let info = Info { version: 3, sid: key_id.clone(), ..Info::new("p256") };
    let forge = Forge { version: 3, ..info.forge() };
    assert!(proves(&forge.der(), "p256"));
    assert!(forge.parse().unwrap().signers()[0].describe().contains("subject key id"));
    let other = Info { sid: tlv(0x80, &[&[7; 20]]), ..info.clone() };
    assert!(!proves(&Forge { version: 3, ..other.forge() }.der(), "p256"));
    for (message, signer, sid) in [
        (1, 3, &key_id),
        (3, 1, &key_id),
        (1, 1, &key_id),
        (3, 3, &Info::new("p256").sid),
        (3, 1, &Info::new("p256").sid),
        (0, 0, &Info::new("p256").sid),
        (2, 1, &Info::new("p256").sid),
        (4, 3, &key_id),
        (255, 1, &Info::new("p256").sid),
    ] {
        let info = Info { version: signer, sid: sid.clone(), ..Info::new("p256") };
        Forge { version: message, ..info.forge() }.refused();
    }
}

#[test]
fn certificates_are_taken_out_and_other_things_there_passed_over() {
    let certificate = fixture::certificate("p384");
    let list = |items: &[&[u8]]| Forge { certificates: tlv(0xa0, items), ..Info::new("p384").forge() };
    let parsed = list(&[certificate.der(), &tlv(0xa1, &[&[5, 0]]), &[0x30, 0], certificate.der()]);
    assert_eq!(parsed.parse().unwrap().certificates(), [certificate.clone(), certificate.clone()]);
    assert!(proves(&parsed.der(), "p384"));
    assert!(list(&vec![&[0x30, 0][..]; 16]).parse().is_ok());
    assert!(list(&vec![&[0x30, 0][..]; 17]).refused().contains("more than 16"));
    let crls = Forge { crls: tlv(0xa1, &[&[0x30, 0]]), ..list(&[certificate.der()]) };
    assert!(proves(&crls.der(), "p384"));
    let unsigned = Info { rest: tlv(0xa1, &[&signing_time()]), ..Info::new("p384") };
    assert!(proves(&unsigned.forge().der(), "p384"));
}

#[test]
fn elements_that_do_not_belong_there_are_refused() {
    let good = Info::new("p256").forge();
    for extra in [&[5, 0][..], &[0xa1, 0], &[0xa2, 0], &[0x31, 0], &[0xa0, 0]] {
        assert!(Forge { rest: extra.to_vec(), ..good.clone() }.refused().contains("more elements"));
        let info = Info { rest: [&[0xa1, 0], extra].concat(), ..Info::new("p256") };
        assert!(info.forge().refused().contains("more elements"));
    }
    for extra in [&[0xa2, 0][..], &[0xa3, 0], &[5, 0]] {
        Forge { certificates: extra.to_vec(), ..good.clone() }.refused();
        Forge { crls: extra.to_vec(), ..good.clone() }.refused();
    }
    let enveloped = Forge { outer: unhex("06092a864886f70d010703"), ..good.clone() };
    assert!(enveloped.refused().contains("not signedData"));
    let authenticode = Forge { content: unhex("060a2b060104018237020104"), ..good.clone() };
    assert!(authenticode.refused().contains("not data"));
    let attached =
        Forge { content: [unhex(DATA_OID), tlv(0xa0, &[&tlv(0x04, &[MESSAGE])])].concat(), ..good.clone() };
    assert!(attached.refused().contains("it carries content"));
    Forge { digests: unhex(SHA256).repeat(17), ..good.clone() }.refused();
    Forge { digests: vec![5, 0], ..good }.refused();
}

#[test]
fn indefinite_and_overlong_lengths_are_refused() {
    let der = made("p256", HashName::Sha256);
    assert_eq!(der[1], 0x81);
    // BER: the same with an indefinite length, and with a longer form of the length.
    let indefinite = [&[0x30, 0x80], &der[3..], &[0, 0]].concat();
    assert!(Pkcs7::parse(&indefinite).is_err());
    let longer = [&[0x30, 0x82, 0, der[2]], &der[3..]].concat();
    assert!(Pkcs7::parse(&longer).is_err());
    // Deeper inside.
    let inner = Forge { digests: vec![0x30, 0x80, 0, 0], ..Info::new("p256").forge() };
    assert!(inner.parse().is_err());
    let constructed = Info { rest: vec![0x24, 0x80, 4, 1, 0, 0, 0], ..Info::new("p256") };
    assert!(constructed.forge().parse().is_err());
    // A constructed OCTET STRING in the place of the signature.
    let info = Info::new("p256");
    let mut split = info.der();
    let at = split.len() - info.signature.len() - 2;
    assert_eq!(split[at], 0x04);
    split[at] = 0x24;
    assert!(Forge::new(&[split]).parse().is_err());
}

#[test]
fn giant_lengths_are_refused_without_memory() {
    for length in ["8480000000", "84ffffffff", "83ffffff", "88ffffffffffffffff", "ff", "82ffff", "fe"] {
        for prefix in ["30", "30820100060930", "a0", "04"] {
            assert!(Pkcs7::parse(&unhex(&format!("{prefix}{length}"))).is_err(), "{prefix} {length}");
        }
        let digests = unhex(&format!("30{length}"));
        assert!(Forge { digests, ..Info::new("p256").forge() }.parse().is_err(), "{length}");
        let rest = unhex(&format!("a1{length}"));
        assert!(Info { rest, ..Info::new("p256") }.forge().parse().is_err(), "{length}");
    }
}

#[test]
fn what_is_nested_to_the_sky_is_refused_or_passed_over_flat() {
    let nest = |tag: u8, depth: usize| (0..depth).fold(vec![], |inner, _| tlv(tag, &[&inner]));
    for tag in [0x30, 0x31, 0xa0, 0xa1] {
        assert!(Pkcs7::parse(&nest(tag, 4000)).is_err(), "{tag:#x}");
        let good = Info::new("p256");
        let deep = nest(tag, 3000);
        Forge { digests: deep.clone(), ..good.forge() }.parse().unwrap_err();
        Forge { content: [unhex(DATA_OID), deep.clone()].concat(), ..good.forge() }.parse().unwrap_err();
        Info { sid: deep.clone(), ..good.clone() }.forge().parse().unwrap_err();
        Info { algorithm: tlv(0x30, &[&unhex(DATA_OID), &deep]), ..good.clone() }
            .forge()
            .parse()
            .unwrap_err();
        // Where nothing is read, and as a certificate that is none.
        assert!(proves(&Forge { crls: tlv(0xa1, &[&deep]), ..good.forge() }.der(), "p256"));
        assert!(proves(&Forge { certificates: tlv(0xa0, &[&deep]), ..good.forge() }.der(), "p256"));
        // As the name of an issuer: it is shown, and names nobody.
        let sid = tlv(0x30, &[&tlv(0x30, &[&deep]), &[2, 1, 1]]);
        let parsed = Info { sid, ..good }.forge().parse().unwrap();
        assert!(!parsed.signers()[0].names(&fixture::certificate("p256")));
        assert!(parsed.signers()[0].describe().len() < 1000);
    }
}

#[test]
fn long_messages_are_refused_unread() {
    let good = Info::new("p256").forge();
    let padded = |length: usize| {
        let mut forge = good.clone();
        forge.crls = tlv(0xa1, &[&vec![0; length]]);
        forge.der()
    };
    let overhead = padded(12_000).len() - 12_000;
    let most = padded(PKCS7_MAX - overhead);
    assert_eq!(most.len(), PKCS7_MAX);
    assert!(proves(&most, "p256"));
    let over = padded(PKCS7_MAX - overhead + 1);
    assert!(matches!(Pkcs7::parse(&over), Err(SignError::TooLong { .. })));
    Pkcs7::parse_appended(&over).unwrap();
    assert!(matches!(
        Pkcs7::parse_appended(&vec![0x30; PKCS7_APPENDED_MAX + 1]),
        Err(SignError::TooLong { .. })
    ));
}

#[test]
fn what_is_told_about_a_signer_is_one_short_line() {
    let certificate = fixture::certificate("p256");
    let common_name = tlv(0x0c, &["\n\u{1b}[0m\u{202e}".repeat(500).as_bytes()]);
    let issuer = tlv(0x30, &[&tlv(0x31, &[&tlv(0x30, &[&[0x06, 3, 0x55, 4, 3], &common_name])])]);
    for (issuer, serial) in [
        (issuer, certificate.serial_der().to_vec()),
        (certificate.issuer_der().to_vec(), vec![7; 4000]),
        (vec![0x30, 0], vec![]),
    ] {
        let sid = tlv(0x30, &[&issuer, &tlv(0x02, &[&serial])]);
        let told = Info { sid, ..Info::new("p256") }.forge().parse().unwrap().signers()[0].describe();
        assert!(told.len() < 1000 && !told.chars().any(char::is_control), "{told}");
    }
    let sid = tlv(0x80, &[&vec![7; 4000]]);
    let info = Info { version: 3, sid, ..Info::new("p256") };
    let told = Forge { version: 3, ..info.forge() }.parse().unwrap().signers()[0].describe();
    assert!(told.len() < 1000, "{told}");
}
