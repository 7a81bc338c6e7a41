//! The TPM: a register that follows the measurement list, and what the TPM signs of it. Only where the program is
//! built with the feature `tpm`, which takes the C library of the TCG's software stack, tpm2-tss.

#[cfg(feature = "tpm")]
mod device;

use crate::measure::{Held, Tpm, TpmError};

/// The program has no code for a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this program was built without a TPM; build it with `cargo build --release --features tpm`")]
pub struct NotBuilt;

/// What a TPM signs of a register, and what it takes to check that.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// TPMS_ATTEST, which is signed.
    pub message: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// The SubjectPublicKeyInfo of the key that signed, in DER.
    pub key: Vec<u8>,
    /// What the register holds, in the order of the banks in the message.
    pub held: Held,
}

/// Register `pcr` of the TPM that `tcti` names, as in `device:/dev/tpmrm0`.
///
/// # Errors
/// The program was built without a TPM, or the name is in no known form. Whether the TPM answers is found out when it is asked.
#[cfg(feature = "tpm")]
pub fn open(tcti: &str, pcr: u32) -> Result<Box<dyn Tpm>, TpmError> {
    Ok(Box::new(device::Device::new(tcti, pcr)?))
}

/// The same, in a program without.
///
/// # Errors
/// Always.
#[cfg(not(feature = "tpm"))]
pub fn open(_: &str, _: u32) -> Result<Box<dyn Tpm>, TpmError> {
    Err(NotBuilt.into())
}

/// Lets the TPM sign what register `pcr` holds, with `nonce`: by the key at the persistent handle `key`, or by one that
/// is made for it from a fixed template under the endorsement hierarchy, and which is the same each time.
///
/// # Errors
/// The program was built without a TPM, or it does not do it.
#[cfg(feature = "tpm")]
pub fn quote(tcti: &str, pcr: u32, nonce: &[u8], key: Option<u32>) -> Result<Attestation, TpmError> {
    device::Device::new(tcti, pcr)?.quote(nonce, key)
}

/// The same, in a program without.
///
/// # Errors
/// Always.
#[cfg(not(feature = "tpm"))]
pub fn quote(_: &str, _: u32, _: &[u8], _: Option<u32>) -> Result<Attestation, TpmError> {
    Err(NotBuilt.into())
}
