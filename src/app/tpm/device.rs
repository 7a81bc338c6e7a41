//! A TPM by way of tpm2-tss. After an error the connection is made anew, as after a restart of the resource manager.

use std::str::FromStr;

use p256::pkcs8::EncodePublicKey as _;
use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::{KeyHandle, PcrHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    CapabilityData, Data, Digest, DigestValues, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme,
    PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Public, PublicBuilder, PublicEccParametersBuilder,
    SignatureScheme, SymmetricDefinitionObject,
};
use tss_esapi::traits::Marshall as _;
use tss_esapi::{Context, TctiNameConf};

use super::Attestation;
use crate::measure::{Bank, Banks, Held, Quote, QuoteSignature, Tpm, TpmError};

/// How often a quote is made while the register is extended all the time.
const ATTEMPTS: u32 = 20;

/// One register of a TPM.
pub(super) struct Device {
    tcti: TctiNameConf,
    pcr: u32,
    connection: Option<Connection>,
    /// The banks that the TPM has of the register, once it is known.
    banks: Option<Vec<Bank>>,
}

/// A TPM that answered, and the banks that it has of the register.
struct Connection {
    context: Context,
    banks: Vec<Bank>,
}

const fn algorithm(bank: Bank) -> HashingAlgorithm {
    match bank {
        Bank::Sha1 => HashingAlgorithm::Sha1,
        Bank::Sha256 => HashingAlgorithm::Sha256,
        Bank::Sha384 => HashingAlgorithm::Sha384,
    }
}

/// An error in words.
fn refused(what: impl Into<String>) -> TpmError {
    what.into().into()
}

impl Device {
    pub(super) fn new(tcti: &str, pcr: u32) -> Result<Self, TpmError> {
        let words = "it names no TPM; it is as device:/dev/tpmrm0, swtpm:host=127.0.0.1,port=2321 or tabrmd";
        let name = TctiNameConf::from_str(tcti).map_err(|_| refused(format!("{tcti}: {words}")))?;
        Ok(Self { tcti: name, pcr, connection: None, banks: None })
    }

    /// Calls the TPM, connected before where it is not.
    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Connection, u32) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        // After an error nothing is known of it any more.
        let (connection, banks) = (self.connection.take(), self.banks.take());
        let mut connection = match connection {
            Some(connection) => connection,
            None => Connection::new(self.tcti.clone(), self.pcr, banks)?,
        };
        let result = call(&mut connection, self.pcr)?;
        self.banks = Some(connection.banks.clone());
        self.connection = Some(connection);
        Ok(result)
    }

    pub(super) fn quote(mut self, nonce: &[u8], key: Option<u32>) -> Result<Attestation, TpmError> {
        self.call(|connection, pcr| connection.quote(pcr, nonce, key))
    }
}

impl Tpm for Device {
    fn pcr(&self) -> u32 {
        self.pcr
    }

    fn read(&mut self) -> Result<Held, TpmError> {
        self.call(|connection, pcr| connection.read(pcr))
    }

    fn extend(&mut self, digests: &Banks) -> Result<(), TpmError> {
        self.call(|connection, pcr| connection.extend(pcr, digests))
    }

    fn release(&mut self) {
        self.connection = None;
    }
}

impl Connection {
    fn new(tcti: TctiNameConf, pcr: u32, banks: Option<Vec<Bank>>) -> Result<Self, TpmError> {
        let unreachable = |error| {
            refused(format!("it cannot be reached ({error}); tcti must name one that this user may use"))
        };
        let mut context = Context::new(tcti).map_err(unreachable)?;
        if let Some(banks) = banks {
            return Ok(Self { context, banks });
        }
        let slot = slot(pcr)?;
        let (capability, _) = context.get_capability(CapabilityType::AssignedPcr, 0, 16)?;
        let CapabilityData::AssignedPcr(assigned) = capability else {
            return Err(refused("it does not tell its banks"));
        };
        let has = |bank: &Bank| {
            let mut selections = assigned.get_selections().iter();
            selections.any(|one| one.hashing_algorithm() == algorithm(*bank) && one.is_selected(slot))
        };
        let banks = Bank::ALL.into_iter().filter(has).collect();
        Ok(Self { context, banks })
    }

    fn selection(&self, pcr: u32) -> Result<PcrSelectionList, TpmError> {
        let slots = [slot(pcr)?];
        let builder = PcrSelectionListBuilder::new();
        let select =
            |builder: PcrSelectionListBuilder, bank: &Bank| builder.with_selection(algorithm(*bank), &slots);
        Ok(self.banks.iter().fold(builder, select).build()?)
    }

    fn read(&mut self, pcr: u32) -> Result<Held, TpmError> {
        if self.banks.is_empty() {
            return Ok(Held::default());
        }
        let wanted = self.selection(pcr)?;
        let (_, selected, digests) =
            self.context.execute_without_session(|context| context.pcr_read(wanted))?;
        let banks = selected.get_selections().iter().filter(|one| !one.is_empty());
        let mut values = Vec::new();
        for (one, digest) in banks.zip(digests.value()) {
            let bank = Bank::ALL.into_iter().find(|bank| algorithm(*bank) == one.hashing_algorithm());
            values.push((bank.ok_or_else(|| refused("it read another bank"))?, digest.value().to_vec()));
        }
        if values.len() != self.banks.len() {
            return Err(refused(format!("it read {} banks of {}", values.len(), self.banks.len())));
        }
        Ok(Held::new(values))
    }

    fn extend(&mut self, pcr: u32, digests: &Banks) -> Result<(), TpmError> {
        let mut values = DigestValues::new();
        for bank in &self.banks {
            values.set(algorithm(*bank), Digest::try_from(digests.get(*bank).to_vec())?);
        }
        let handle = PcrHandle::try_from(pcr)?;
        self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.pcr_extend(handle, values)
        })?;
        Ok(())
    }

    fn quote(&mut self, pcr: u32, nonce: &[u8], key: Option<u32>) -> Result<Attestation, TpmError> {
        if self.banks.is_empty() {
            return Err(refused("it has the register in none of the banks sha1, sha256 and sha384"));
        }
        let key = match key {
            Some(handle) => self.persistent(handle)?,
            None => self.made()?,
        };
        let (public, _, _) = self.context.execute_without_session(|context| context.read_public(key))?;
        let key_der = spki(&public)?;
        let nonce = Data::try_from(nonce.to_vec())?;
        for _ in 0..ATTEMPTS {
            let (selection, nonce) = (self.selection(pcr)?, nonce.clone());
            let (attest, signature) =
                self.context.execute_with_session(Some(AuthSession::Password), |context| {
                    context.quote(key, nonce, SignatureScheme::Null, selection)
                })?;
            let (message, signature) = (attest.marshall()?, signature.marshall()?);
            // It is a quote of what is read only where nothing came between.
            let order = Quote::parse(&message).map_err(|error| refused(format!("its quote: {error}")))?.banks;
            let held = self.read(pcr)?;
            let values = order.iter().filter_map(|bank| held.banks().find(|(other, _)| other == bank));
            let held = Held::new(values.map(|(bank, value)| (bank, value.to_vec())).collect());
            if says(&message, &signature, &held) {
                return Ok(Attestation { message, signature, key: key_der, held });
            }
        }
        Err(refused("the register changes faster than it is read; try again"))
    }

    /// The key at a persistent handle.
    fn persistent(&mut self, handle: u32) -> Result<KeyHandle, TpmError> {
        let handle = TpmHandle::Persistent(PersistentTpmHandle::new(handle)?);
        let object = self.context.execute_without_session(|context| context.tr_from_tpm_public(handle))?;
        Ok(KeyHandle::from(object))
    }

    /// A key that signs only what the TPM makes, from the seed of the endorsement hierarchy and this template: the same
    /// each time, and no other TPM has it.
    fn made(&mut self) -> Result<KeyHandle, TpmError> {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_restricted(true)
            .with_sign_encrypt(true)
            .build()?;
        let parameters = PublicEccParametersBuilder::new()
            .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
            .with_curve(EccCurve::NistP256)
            .with_symmetric(SymmetricDefinitionObject::Null)
            .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
            .with_is_signing_key(true)
            .with_is_decryption_key(false)
            .with_restricted(true)
            .build()?;
        let template = PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::Ecc)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_ecc_parameters(parameters)
            .with_ecc_unique_identifier(EccPoint::default())
            .build()?;
        let made = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
        })?;
        Ok(made.key_handle)
    }
}

/// Whether the quote says that the register holds these values.
fn says(message: &[u8], signature: &[u8], held: &Held) -> bool {
    let (Ok(quote), Ok(signature)) = (Quote::parse(message), QuoteSignature::parse(signature)) else {
        return false;
    };
    let values: Vec<u8> = held.banks().flat_map(|(_, value)| value).copied().collect();
    signature.hash().digest(&values) == quote.digest
}

fn slot(pcr: u32) -> Result<PcrSlot, TpmError> {
    let bit = 1u32.checked_shl(pcr).ok_or_else(|| refused(format!("it has no register {pcr}")))?;
    Ok(PcrSlot::try_from(bit)?)
}

/// The SubjectPublicKeyInfo of a key that can sign a quote.
fn spki(public: &Public) -> Result<Vec<u8>, TpmError> {
    match public {
        Public::Ecc { object_attributes, parameters, unique, .. }
            if parameters.ecc_curve() == EccCurve::NistP256 && object_attributes.restricted() =>
        {
            let pad = |number: &[u8]| [&vec![0; 32_usize.saturating_sub(number.len())][..], number].concat();
            let point = [&[4][..], &pad(unique.x()), &pad(unique.y())].concat();
            Ok(p256::PublicKey::from_sec1_bytes(&point)?.to_public_key_der()?.into_vec())
        }
        Public::Rsa { object_attributes, parameters, unique, .. } if object_attributes.restricted() => {
            let exponent = match parameters.exponent().value() {
                0 => 65_537,
                exponent => exponent,
            };
            let modulus = der::asn1::Uint::new(unique)?;
            let exponent = der::asn1::Uint::new(&exponent.to_be_bytes())?;
            let numbers = [der::Encode::to_der(&modulus)?, der::Encode::to_der(&exponent)?].concat();
            let tag = der::Tag::Sequence;
            let key = der::Encode::to_der(&der::asn1::Any::new(tag, numbers)?)?;
            let key = der::asn1::BitString::from_bytes(&key)?;
            let algorithm = spki::AlgorithmIdentifierOwned {
                oid: der::oid::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1"),
                parameters: Some(der::asn1::Any::null()),
            };
            let info = spki::SubjectPublicKeyInfoOwned { algorithm, subject_public_key: key };
            Ok(der::Encode::to_der(&info)?)
        }
        Public::Ecc { .. } | Public::Rsa { .. } | Public::KeyedHash { .. } | Public::SymCipher { .. } => Err(
            refused("the key is no restricted signing key with P-256 or RSA, whose quotes could be believed"),
        ),
    }
}
