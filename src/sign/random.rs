//! The system's randomness, for those who do not take ring's.

use ring::rand::{SecureRandom, SystemRandom};
use rsa::rand_core::{TryCryptoRng, TryRng};

use super::SignError;

/// The system's randomness in the form that generators and signers take.
pub(super) struct SystemRng(pub(super) SystemRandom);

impl SystemRng {
    fn bytes<const N: usize>(&self) -> Result<[u8; N], SignError> {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes).map_err(|_| SignError::NoRandomness)?;
        Ok(bytes)
    }
}

impl TryRng for SystemRng {
    type Error = SignError;

    fn try_next_u32(&mut self) -> Result<u32, SignError> {
        Ok(u32::from_ne_bytes(self.bytes()?))
    }

    fn try_next_u64(&mut self) -> Result<u64, SignError> {
        Ok(u64::from_ne_bytes(self.bytes()?))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), SignError> {
        self.0.fill(bytes).map_err(|_| SignError::NoRandomness)
    }
}

impl TryCryptoRng for SystemRng {}
