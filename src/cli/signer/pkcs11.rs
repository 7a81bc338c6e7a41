//! Signing with a key on a PKCS#11 token, which it never leaves (PKCS #11 v3.1).

use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, CertificateType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::RawAuthPin;
use parking_lot::Mutex;

use super::passphrase::Source;
use super::{holds, possible};
use crate::cli::Trouble;
use crate::sign::{Certificate, HashName, PublicKey, Sign, SignError, ToSign, digest_info, ecdsa_to_der};

/// Objects of one label that are looked at.
const OBJECTS_MAX: usize = 16;

/// Where a key lies.
pub(super) struct Place<'a> {
    pub(super) module: &'a Path,
    /// The token's label; needed where there are several.
    pub(super) token: Option<&'a str>,
    /// The key's label.
    pub(super) key: &'a str,
}

/// One key on a token, and the session to use it in.
pub(super) struct Token {
    /// The token and the key, for people.
    name: String,
    public: PublicKey,
    kind: Kind,
    key: ObjectHandle,
    session: Mutex<Session>,
}

/// How a key signs.
#[derive(Clone, Copy)]
enum Kind {
    Rsa,
    /// Over so many bytes of a digest at most: the length of the curve's order.
    Ecdsa(usize),
    Eddsa,
}

impl Token {
    /// Opens the token, enters the PIN that `secret` gives, and finds the key with its public half.
    pub(super) fn open(place: &Place<'_>, secret: &Source<'_>) -> Result<Self, Trouble> {
        let module = place.module.display();
        let failed = |doing: &str, error: Error| Trouble::other(format!("{module}: cannot {doing}: {error}"));
        let context = Pkcs11::new(place.module).map_err(|error| {
            Trouble::usage(format!("{module}: not a PKCS#11 module that can be loaded: {error}"))
        })?;
        context
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(|error| failed("start the module", error))?;
        let (slot, label) =
            slot(&context, place).map_err(|reason| Trouble::usage(format!("{module}: {reason}")))?;
        let name = format!("token {label:?}, key {:?}", place.key);
        let info = context.get_token_info(slot).map_err(|error| failed("look at the token", error))?;
        let session = context.open_ro_session(slot).map_err(|error| failed("open a session", error))?;
        if info.login_required() {
            let logged_in = if info.protected_authentication_path() {
                session.login(UserType::User, None)
            } else {
                let pin = secret.read(&format!("PIN of the token {label:?}"))?;
                session.login_with_raw(UserType::User, &RawAuthPin::new(Box::new(pin.to_vec())))
            };
            logged_in.map_err(|error| {
                Trouble::usage(format!("{name}: the token does not accept the PIN: {error}"))
            })?;
        }
        let (key, public) =
            find(&session, place.key).map_err(|reason| Trouble::usage(format!("{name}: {reason}")))?;
        let kind = match public.algorithm_name().as_str() {
            "p256" => Kind::Ecdsa(32),
            "p384" => Kind::Ecdsa(48),
            "ed25519" => Kind::Eddsa,
            _ => Kind::Rsa,
        };
        Ok(Self { name, public, kind, key, session: Mutex::new(session) })
    }

    fn failed(&self, reason: impl ToString) -> SignError {
        SignError::External { signer: self.name.clone(), reason: reason.to_string() }
    }
}

impl Sign for Token {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, hash: HashName, input: ToSign<'_>) -> Result<Vec<u8>, SignError> {
        possible(&self.public, hash, input)?;
        let digest = match input {
            ToSign::Message(message) => hash.digest(message),
            ToSign::Digest(digest) if digest.len() == hash.digest_size() => digest.to_vec(),
            ToSign::Digest(_) => return Err(self.failed(format!("that is no digest of {hash}"))),
        };
        let sign = |mechanism: &Mechanism<'_>, bytes: &[u8]| {
            self.session.lock().sign(mechanism, self.key, bytes).map_err(|error| self.failed(error))
        };
        let signature = match (self.kind, input) {
            (Kind::Rsa, _) => sign(&Mechanism::RsaPkcs, &digest_info(hash, &digest)?)?,
            // The leftmost bytes, as many as the order has (FIPS 186-5 section 6.4.1): not every
            // token cuts a longer digest itself.
            (Kind::Ecdsa(order), _) => {
                let raw = sign(&Mechanism::Ecdsa, digest.get(..order).unwrap_or(&digest))?;
                ecdsa_to_der(&raw)?
            }
            (Kind::Eddsa, ToSign::Message(message)) => {
                sign(&Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)), message)?
            }
            (Kind::Eddsa, ToSign::Digest(_)) => return Err(self.failed("an Ed25519 key signs no digest")),
        };
        if !holds(&self.public, hash, input, &signature) {
            return Err(self.failed(
                "what it gives is no signature of the key; the public half on the token may be another's",
            ));
        }
        Ok(signature)
    }
}

/// The slot of the token that is meant, and the token's label.
fn slot(context: &Pkcs11, place: &Place<'_>) -> Result<(Slot, String), String> {
    let slots = context.get_slots_with_initialized_token().map_err(|error| error.to_string())?;
    let mut tokens = Vec::new();
    for slot in slots {
        let info = context.get_token_info(slot).map_err(|error| error.to_string())?;
        tokens.push((slot, info.label().to_owned()));
    }
    let names = tokens.iter().take(OBJECTS_MAX).map(|(_, label)| format!("{label:?}"));
    let names = names.collect::<Vec<_>>().join(", ");
    let meant = |label: &str| place.token.is_none_or(|token| token == label);
    let mut found = tokens.into_iter().filter(|(_, label)| meant(label));
    match (found.next(), found.next(), place.token) {
        (Some(token), None, _) => Ok(token),
        (None, _, _) if names.is_empty() => Err("there is no token".to_owned()),
        (None, _, _) => Err(format!("no token has that label; there are: {names}")),
        (Some(_), Some(_), None) => {
            Err(format!("there are several tokens; name one with --pkcs11-token: {names}"))
        }
        (Some(_), Some(_), Some(_)) => Err("several tokens have that label".to_owned()),
    }
}

/// The private key called `label`, and its public half.
fn find(session: &Session, label: &str) -> Result<(ObjectHandle, PublicKey), String> {
    let named = Attribute::Label(label.as_bytes().to_vec());
    let class = Attribute::Class(ObjectClass::PRIVATE_KEY);
    let keys = session.find_objects(&[class, named.clone()]).map_err(|error| error.to_string())?;
    let [key] = *keys else {
        let found = if keys.is_empty() {
            "there is no private key".to_owned()
        } else {
            format!("{} private keys", keys.len())
        };
        return Err(format!("{found} with that label"));
    };
    let attributes = [AttributeType::Id, AttributeType::AlwaysAuthenticate];
    let mut id = Vec::new();
    for attribute in session.get_attributes(key, &attributes).map_err(|error| error.to_string())? {
        match attribute {
            Attribute::Id(found) => id = found,
            Attribute::AlwaysAuthenticate(true) => {
                return Err("the key wants the PIN for every signature, which is not supported".to_owned());
            }
            _ => {}
        }
    }
    // The id binds the two halves; the label is what is left where a token has no ids.
    let same = if id.is_empty() { named } else { Attribute::Id(id) };
    let class = Attribute::Class(ObjectClass::PUBLIC_KEY);
    let halves = session.find_objects(&[class, same.clone()]).map_err(|error| error.to_string())?;
    let mut refused = None;
    for half in halves.into_iter().take(OBJECTS_MAX) {
        match public_key(session, half) {
            Ok(public) => return Ok((key, public)),
            Err(error) => refused = Some(error),
        }
    }
    let class = Attribute::Class(ObjectClass::CERTIFICATE);
    let kind = Attribute::CertificateType(CertificateType::X_509);
    let certificates = session.find_objects(&[class, kind, same]).map_err(|error| error.to_string())?;
    for certificate in certificates.into_iter().take(OBJECTS_MAX) {
        let value = session.get_attributes(certificate, &[AttributeType::Value]);
        for attribute in value.map_err(|error| error.to_string())? {
            if let Attribute::Value(der) = attribute {
                let certificate = Certificate::from_der(&der).map_err(|error| error.to_string())?;
                return Ok((key, certificate.key().clone()));
            }
        }
    }
    Err(refused.unwrap_or_else(|| "the token has neither its public half nor its certificate".to_owned()))
}

/// The public key that an object is.
fn public_key(session: &Session, object: ObjectHandle) -> Result<PublicKey, String> {
    let read =
        |wanted: &[AttributeType]| session.get_attributes(object, wanted).map_err(|error| error.to_string());
    let mut kind = None;
    for attribute in read(&[AttributeType::KeyType])? {
        if let Attribute::KeyType(found) = attribute {
            kind = Some(found);
        }
    }
    let wanted = match kind {
        Some(KeyType::RSA) => [AttributeType::Modulus, AttributeType::PublicExponent],
        Some(KeyType::EC | KeyType::EC_EDWARDS) => [AttributeType::EcParams, AttributeType::EcPoint],
        Some(other) => return Err(format!("keys of type {other} are not supported")),
        None => return Err("its public half has no type".to_owned()),
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for attribute in read(&wanted)? {
        match attribute {
            Attribute::Modulus(bytes) | Attribute::EcParams(bytes) => first = bytes,
            Attribute::PublicExponent(bytes) | Attribute::EcPoint(bytes) => second = bytes,
            _ => {}
        }
    }
    let key = if kind == Some(KeyType::RSA) {
        PublicKey::from_rsa_numbers(&first, &second)
    } else {
        PublicKey::from_ec_point(&first, &second)
    };
    key.map_err(|error| error.to_string())
}
