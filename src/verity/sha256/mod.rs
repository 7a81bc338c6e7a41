//! SHA-256 (FIPS 180-4), of many messages at a time.

#[cfg(target_arch = "aarch64")]
mod armv8;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod shani;

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

#[cfg(target_arch = "aarch64")]
use armv8 as streams;
use ring::digest;
use sha2::block_api::compress256;
#[cfg(target_arch = "x86_64")]
use shani as streams;

use super::Digest;
use super::many::{Algorithm, Messages, Plan};

/// Bytes that the compression function takes at once.
pub(super) const BLOCK: usize = 64;

/// FIPS 180-4, 4.2.2.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[rustfmt::skip]
const ROUNDS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Ways to hash several messages at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// 16 lanes of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 lanes of AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Four streams of the processor's SHA instructions.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Sha4,
    /// Two of them.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Sha2,
}

/// SHA-256.
pub(super) enum Sha256 {}

impl Algorithm<BLOCK> for Sha256 {
    type State = [u32; 8];
    type Kernel = Kernel;

    /// FIPS 180-4, 5.3.3.
    const INITIAL: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];

    /// From how many messages on a wide kernel is faster than narrow ones in turn was measured; on ARM it was not, and
    /// kernels are only used where all their streams are.
    const PLANS: &'static [Plan<Kernel>] = &[
        #[cfg(target_arch = "x86_64")]
        Plan {
            name: "AVX-512 and SHA-NI",
            kernels: &[(Kernel::Avx512, 13), (Kernel::Sha4, 3), (Kernel::Sha2, 2)],
        },
        #[cfg(target_arch = "x86_64")]
        Plan { name: "SHA-NI", kernels: &[(Kernel::Sha4, 3), (Kernel::Sha2, 2)] },
        #[cfg(target_arch = "x86_64")]
        Plan { name: "AVX-512", kernels: &[(Kernel::Avx512, 4)] },
        #[cfg(target_arch = "x86_64")]
        Plan { name: "AVX2", kernels: &[(Kernel::Avx2, 4)] },
        #[cfg(target_arch = "aarch64")]
        Plan { name: "ARMv8 SHA2", kernels: &[(Kernel::Sha4, 4), (Kernel::Sha2, 2)] },
    ];
    const ALONE: &'static digest::Algorithm = &digest::SHA256;

    fn is_available(kernel: Kernel) -> bool {
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Sha4 | Kernel::Sha2 => {
                is_x86_feature_detected!("sha")
                    && is_x86_feature_detected!("ssse3")
                    && is_x86_feature_detected!("sse4.1")
            }
            #[cfg(target_arch = "aarch64")]
            Kernel::Sha4 | Kernel::Sha2 => {
                std::arch::is_aarch64_feature_detected!("neon")
                    && std::arch::is_aarch64_feature_detected!("sha2")
            }
        }
    }

    fn is_worth(kernel: Kernel) -> bool {
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => !halves_vectors(),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => true,
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Kernel::Sha4 | Kernel::Sha2 => true,
        }
    }

    fn lanes(kernel: Kernel) -> usize {
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => 8,
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Kernel::Sha4 => 4,
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Kernel::Sha2 => 2,
        }
    }

    fn hash(
        kernel: Kernel,
        start: &[u32; 8],
        messages: Messages<'_, BLOCK>,
        end: &[u8; BLOCK],
        each: impl FnMut(Digest),
    ) {
        let count = messages.count();
        let states = |states: &[[u32; 8]]| states.iter().take(count).copied().map(digest_of).for_each(each);
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => states(&avx512::hash(start, messages, end)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => states(&avx2::hash(start, messages, end)),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Kernel::Sha4 => states(&streams::hash::<4>(start, messages, end)),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Kernel::Sha2 => states(&streams::hash::<2>(start, messages, end)),
        }
    }

    fn compress(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
        compress256(state, blocks);
    }
}

/// The digest that a state is.
fn digest_of(state: [u32; 8]) -> Digest {
    let mut digest = [0; 32];
    digest.as_chunks_mut().0.iter_mut().zip(state).for_each(|(to, word)| *to = word.to_be_bytes());
    digest.into()
}

/// Whether vectors of 512 bits are worked on in two halves, as AMD did up to family 19h (Zen 4). There the SHA
/// instructions are faster.
#[cfg(target_arch = "x86_64")]
fn halves_vectors() -> bool {
    use std::arch::x86_64::__cpuid;
    // Asked once: in a virtual machine the hypervisor answers CPUID, which takes longer than hashing a block.
    static HALVES: LazyLock<bool> = LazyLock::new(|| {
        // "Authentic", as EBX and EDX have it.
        let is_amd = (__cpuid(0).ebx, __cpuid(0).edx) == (0x6874_7541, 0x6974_6e65);
        let version = __cpuid(1).eax;
        let family = (version >> 8 & 0xf) + (version >> 20 & 0xff);
        is_amd && family < 0x1a
    });
    *HALVES
}
