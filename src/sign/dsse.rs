//! The envelope around a statement: DSSE v1, <https://github.com/secure-systems-lab/dsse>, with
//! less freedom: one encoding of base64, no unknown fields, a key id on every signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::json::{self, Object};
use super::{KeyId, Sign, SignError, Statement, ToSign};

/// The longest envelope in bytes, made or accepted.
pub const ENVELOPE_MAX: usize = 64 * 1024;
/// The most signatures on one envelope.
pub const SIGNATURES_MAX: usize = 16;
/// The longest signature in bytes: RSA of 8192 bits.
const SIGNATURE_MAX: usize = 1024;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// An envelope taken apart. Nothing in it is verified.
#[derive(Debug)]
pub(super) struct Envelope {
    /// The bytes of the statement, as they are signed.
    pub(super) payload: Vec<u8>,
    /// At least one; no key id twice.
    pub(super) signatures: Vec<Signature>,
}

/// One signature and the key it claims.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) key_id: KeyId,
    pub(super) bytes: Vec<u8>,
}

impl Envelope {
    /// Reads an envelope strictly.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SignError> {
        if bytes.len() > ENVELOPE_MAX {
            return Err(SignError::TooLong { what: "envelope", found: bytes.len(), max: ENVELOPE_MAX });
        }
        let mut envelope = Object::parse(bytes, "envelope")?;
        envelope.constant("payloadType", PAYLOAD_TYPE)?;
        let payload = decode(&mut envelope, "payload")?;
        let list = envelope.list("signatures")?;
        if list.is_empty() || list.len() > SIGNATURES_MAX {
            return Err(SignError::SignatureCount { found: list.len() });
        }
        let mut signatures: Vec<Signature> = Vec::with_capacity(list.len());
        for item in list {
            let mut item = Object::from_json(item, "signature")
                .ok_or_else(|| envelope.refuse("signatures", "a list of objects"))?;
            let key_id: KeyId = item.text("keyid")?.parse()?;
            let bytes = decode(&mut item, "sig")?;
            if bytes.is_empty() || bytes.len() > SIGNATURE_MAX {
                return Err(item.refuse("sig", "a signature of 1 to 1024 bytes"));
            }
            item.finish()?;
            if signatures.iter().any(|other| other.key_id == key_id) {
                return Err(SignError::KeyTwice { key_id });
            }
            signatures.push(Signature { key_id, bytes });
        }
        envelope.finish()?;
        Ok(Self { payload, signatures })
    }

    /// What the signatures are made over.
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        pae(&self.payload)
    }

    /// Adds the signature of `key`.
    fn sign(&mut self, key: &dyn Sign) -> Result<(), SignError> {
        let (public, found) = (key.public_key(), self.signatures.len() + 1);
        if found > SIGNATURES_MAX {
            return Err(SignError::SignatureCount { found });
        }
        let key_id = public.key_id();
        if self.signatures.iter().any(|other| other.key_id == key_id) {
            return Err(SignError::KeyTwice { key_id });
        }
        let bytes = key.sign(public.native_hash(), ToSign::Message(&self.signed_bytes()))?;
        self.signatures.push(Signature { key_id, bytes });
        Ok(())
    }

    /// The envelope in JSON, unless it would not be read back.
    fn finish(&self) -> Result<Vec<u8>, SignError> {
        let envelope = self.to_json();
        if envelope.len() > ENVELOPE_MAX {
            return Err(SignError::TooLong { what: "envelope", found: envelope.len(), max: ENVELOPE_MAX });
        }
        Ok(envelope)
    }

    /// The envelope in JSON, always the same bytes for the same envelope.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let signatures: Vec<String> = self
            .signatures
            .iter()
            .map(|s| format!(r#"{{"keyid":"{}","sig":"{}"}}"#, s.key_id, BASE64.encode(&s.bytes)))
            .collect();
        format!(
            r#"{{"payload":"{}","payloadType":{},"signatures":[{}]}}"#,
            BASE64.encode(&self.payload),
            json::string(PAYLOAD_TYPE),
            signatures.join(","),
        )
        .into_bytes()
    }
}

/// Takes base64 with padding, in its one canonical form.
fn decode(object: &mut Object, field: &'static str) -> Result<Vec<u8>, SignError> {
    let text = object.text(field)?;
    BASE64.decode(text).map_err(|_| object.refuse(field, "canonical base64 with padding"))
}

/// The pre-authentication encoding of a statement's bytes (DSSE protocol, "Signature Definition").
fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Signs `statement` with each of `keys`, 1 to [`SIGNATURES_MAX`] different ones, and gives the
/// envelope in JSON. The same input gives the same bytes, but for the signatures of ECDSA keys,
/// which are random.
pub fn sign_statement(statement: &Statement, keys: &[&dyn Sign]) -> Result<Vec<u8>, SignError> {
    if keys.is_empty() {
        return Err(SignError::SignatureCount { found: 0 });
    }
    let mut envelope = Envelope { payload: statement.to_signable()?, signatures: Vec::new() };
    keys.iter().try_for_each(|key| envelope.sign(*key))?;
    envelope.finish()
}

/// One more signature, made with `key`, over the statement of an envelope; the others stay. What the
/// statement says, and whether anyone vouches for it, is for the caller to have proven.
///
/// # Errors
/// [`SignError::KeyTwice`] when the key has signed already, [`SignError::SignatureCount`] and
/// [`SignError::TooLong`] when there is no room.
pub fn add_signature(envelope: &[u8], key: &dyn Sign) -> Result<Vec<u8>, SignError> {
    let mut envelope = Envelope::parse(envelope)?;
    envelope.sign(key)?;
    envelope.finish()
}

/// The envelope without the signature of the key `id`; `None` when no signature is left.
pub fn remove_signature(envelope: &[u8], id: &KeyId) -> Result<Option<Vec<u8>>, SignError> {
    let mut envelope = Envelope::parse(envelope)?;
    envelope.signatures.retain(|signature| signature.key_id != *id);
    if envelope.signatures.is_empty() { Ok(None) } else { envelope.finish().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;

    fn envelope() -> String {
        String::from_utf8(fixture::envelope(&["ed25519"])).unwrap()
    }

    #[test]
    fn the_signed_bytes_are_those_of_the_specification() {
        assert_eq!(pae(b"hello world"), b"DSSEv1 28 application/vnd.in-toto+json 11 hello world");
        assert_eq!(pae(b""), b"DSSEv1 28 application/vnd.in-toto+json 0 ");
    }

    #[test]
    fn the_json_is_canonical_and_comes_back() {
        let text = envelope();
        assert_eq!(text, envelope(), "Ed25519 is deterministic, and so is the envelope");
        let read = Envelope::parse(text.as_bytes()).unwrap();
        assert_eq!(read.payload, fixture::statement().to_json());
        assert_eq!(read.to_json(), text.as_bytes());
        let key = fixture::key("ed25519");
        let expected = format!(
            r#"{{"payload":"{}","payloadType":"application/vnd.in-toto+json","signatures":[{{"keyid":"{}","sig":"{}"}}]}}"#,
            BASE64.encode(fixture::statement().to_json()),
            key.key_id(),
            BASE64.encode(key.sign(&read.signed_bytes()).unwrap()),
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn cut_at_every_length_or_extended_is_refused() {
        let text = envelope();
        for cut in 0..text.len() {
            assert!(Envelope::parse(&text.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        for tail in ["\n", " ", "\0", "}", "{}"] {
            assert!(Envelope::parse(format!("{text}{tail}").as_bytes()).is_err(), "{tail:?}");
        }
    }

    #[test]
    fn every_deviation_is_refused() {
        let text = envelope();
        let id = fixture::key("ed25519").key_id().to_string();
        let start = text.find(r#"{"keyid""#).unwrap();
        let signature = text[start..text.len() - 2].to_owned();
        let sig = signature.split('"').nth(7).unwrap().to_owned();
        assert!(sig.ends_with("=="), "64 bytes end in two signs of padding");
        let payload = text.split('"').nth(3).unwrap().to_owned();
        let unpadded = payload.trim_end_matches('=').to_owned();
        let many = |n: u8| {
            let items: Vec<String> = (0..n).map(|i| signature.replace(&id, &hex::encode([i; 32]))).collect();
            items.join(",")
        };
        Envelope::parse(text.replace(&signature, &many(16)).as_bytes()).unwrap();
        let changes: Vec<(&str, String)> = vec![
            ("vnd.in-toto+json", "vnd.in-toto".to_owned()),
            (r#""payloadType":"application/vnd.in-toto+json","#, String::new()),
            (r#""payloadType":"#, r#""more":1,"payloadType":"#.to_owned()),
            (
                r#""payloadType":"#,
                r#""payloadType":"application/vnd.in-toto+json","payloadType":"#.to_owned(),
            ),
            (r#""keyid":"#, r#""cert":"","keyid":"#.to_owned()),
            (r#""keyid":"#, format!(r#""keyid":"{id}","keyid":"#)),
            (&signature, String::new()),
            (&signature, format!("{signature},{signature}")),
            (&signature, many(17)),
            (&signature, format!("[\"{id}\",\"{sig}\"]")),
            (&id, id.to_uppercase()),
            (&id, id[2..].to_owned()),
            (&id, String::new()),
            (&sig, String::new()),
            (&sig, sig.trim_end_matches('=').to_owned()),
            (&sig, format!("{sig}=")),
            (&sig, format!("{sig} ")),
            (&sig, format!("\\n{sig}")),
            (&sig, BASE64.encode([1; SIGNATURE_MAX + 1])),
            (&payload, format!("{unpadded}=")),
            (&payload, format!("{payload}====")),
            (&payload, format!("-_{}", &payload[2..])),
        ];
        for (from, to) in changes {
            let changed = text.replacen(from, &to, 1);
            assert_ne!(changed, text, "{from} is not in the envelope");
            assert!(Envelope::parse(changed.as_bytes()).is_err(), "{from} -> {to}");
        }
        Envelope::parse(text.replacen(&sig, &BASE64.encode([1; SIGNATURE_MAX]), 1).as_bytes()).unwrap();
    }

    #[test]
    fn base64_with_bits_behind_the_end_is_refused() {
        let text = envelope();
        let signature = |sig: &str| {
            let at = text.find(r#""sig":""#).unwrap() + 7;
            Envelope::parse(format!("{}{sig}\"}}]}}", &text[..at]).as_bytes())
                .map(|e| e.signatures[0].bytes.clone())
        };
        assert_eq!(signature("AQ==").unwrap(), [1]);
        assert_eq!(signature("AQI=").unwrap(), [1, 2]);
        for bad in ["AR==", "Af==", "AQJ=", "AQ", "AQ=", "AQI", "A", "AQ==AQ==", "=", "===="] {
            assert!(signature(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_envelope_of_64_kib_is_read_and_one_byte_more_is_not() {
        let text = envelope();
        let fill = |length: usize| {
            text.replacen("{\"payload\"", &format!("{{{}\"payload\"", " ".repeat(length - text.len())), 1)
        };
        Envelope::parse(fill(ENVELOPE_MAX).as_bytes()).unwrap();
        assert!(matches!(
            Envelope::parse(fill(ENVELOPE_MAX + 1).as_bytes()),
            Err(SignError::TooLong { what: "envelope", found: 65537, max: ENVELOPE_MAX })
        ));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = envelope();
        for depth in [5, 1000, 30_000] {
            let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let changed = text.replacen(r#""signatures":["#, &format!(r#""signatures":[{deep},"#), 1);
            assert!(Envelope::parse(changed.as_bytes()).is_err(), "{depth}");
        }
    }

    #[test]
    fn signing_wants_one_to_sixteen_different_keys_and_room() {
        let statement = fixture::statement();
        let key = fixture::key("ed25519");
        assert!(matches!(sign_statement(&statement, &[]), Err(SignError::SignatureCount { found: 0 })));
        assert!(matches!(sign_statement(&statement, &[key, key]), Err(SignError::KeyTwice { .. })));
        let long = Statement { path: vec![b'a'; 50_000], ..statement };
        assert!(matches!(sign_statement(&long, &[key]), Err(SignError::TooLong { what: "envelope", .. })));
    }

    #[test]
    fn a_signature_is_added_beside_the_others_and_taken_off_again() {
        let (old, new) = (fixture::key("ed25519"), fixture::key("p256"));
        let before = fixture::envelope(&["ed25519"]);
        let both = add_signature(&before, new).unwrap();
        let (was, is) = (Envelope::parse(&before).unwrap(), Envelope::parse(&both).unwrap());
        assert_eq!(is.payload, was.payload);
        assert_eq!(is.signatures[0].bytes, was.signatures[0].bytes);
        assert!(new.public_key().verify(&is.signed_bytes(), &is.signatures[1].bytes));
        assert!(matches!(add_signature(&both, old), Err(SignError::KeyTwice { .. })));
        assert_eq!(remove_signature(&both, &new.key_id()).unwrap().unwrap(), before);
        assert_eq!(remove_signature(&before, &new.key_id()).unwrap().unwrap(), before);
        assert_eq!(remove_signature(&before, &old.key_id()).unwrap(), None);
        assert!(add_signature(&before[1..], new).is_err());
    }

    #[test]
    fn no_signature_is_added_where_none_fits() {
        let mut full = Envelope::parse(&fixture::envelope(&["ed25519"])).unwrap();
        let other = |n: u8| Signature { key_id: hex::encode([n; 32]).parse().unwrap(), bytes: vec![1] };
        full.signatures.extend((1..16).map(other));
        let result = add_signature(&full.to_json(), fixture::key("p256"));
        assert!(matches!(result, Err(SignError::SignatureCount { found: 17 })), "{result:?}");
    }
}
