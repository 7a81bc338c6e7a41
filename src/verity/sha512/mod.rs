//! SHA-512 (FIPS 180-4), of many messages at a time.

#[cfg(target_arch = "aarch64")]
mod armv8;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use ring::digest;
use sha2::block_api::compress512;

use super::Digest;
use super::many::{Algorithm, Messages, Plan};

/// Bytes that the compression function takes at once.
pub(super) const BLOCK: usize = 128;

/// FIPS 180-4, 4.2.3.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[rustfmt::skip]
const ROUNDS: [u64; 80] = [
    0x428a_2f98_d728_ae22, 0x7137_4491_23ef_65cd, 0xb5c0_fbcf_ec4d_3b2f, 0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538, 0x59f1_11f1_b605_d019, 0x923f_82a4_af19_4f9b, 0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242, 0x1283_5b01_4570_6fbe, 0x2431_85be_4ee4_b28c, 0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f, 0x80de_b1fe_3b16_96b1, 0x9bdc_06a7_25c7_1235, 0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2, 0xefbe_4786_384f_25e3, 0x0fc1_9dc6_8b8c_d5b5, 0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275, 0x4a74_84aa_6ea6_e483, 0x5cb0_a9dc_bd41_fbd4, 0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab, 0xa831_c66d_2db4_3210, 0xb003_27c8_98fb_213f, 0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2, 0xd5a7_9147_930a_a725, 0x06ca_6351_e003_826f, 0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc, 0x2e1b_2138_5c26_c926, 0x4d2c_6dfc_5ac4_2aed, 0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de, 0x766a_0abb_3c77_b2a8, 0x81c2_c92e_47ed_aee6, 0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364, 0xa81a_664b_bc42_3001, 0xc24b_8b70_d0f8_9791, 0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218, 0xd699_0624_5565_a910, 0xf40e_3585_5771_202a, 0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8, 0x1e37_6c08_5141_ab53, 0x2748_774c_df8e_eb99, 0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63, 0x4ed8_aa4a_e341_8acb, 0x5b9c_ca4f_7763_e373, 0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc, 0x78a5_636f_4317_2f60, 0x84c8_7814_a1f0_ab72, 0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28, 0xa450_6ceb_de82_bde9, 0xbef9_a3f7_b2c6_7915, 0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c, 0xd186_b8c7_21c0_c207, 0xeada_7dd6_cde0_eb1e, 0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba, 0x0a63_7dc5_a2c8_98a6, 0x113f_9804_bef9_0dae, 0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84, 0x32ca_ab7b_40c7_2493, 0x3c9e_be0a_15c9_bebc, 0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6, 0x597f_299c_fc65_7e2a, 0x5fcb_6fab_3ad6_faec, 0x6c44_198c_4a47_5817,
];

/// Ways to hash several messages at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// 8 lanes of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 4 lanes of AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Two streams of the processor's SHA instructions.
    #[cfg(target_arch = "aarch64")]
    Sha2,
}

/// SHA-512.
pub(super) enum Sha512 {}

impl Algorithm<BLOCK> for Sha512 {
    type State = [u64; 8];
    type Kernel = Kernel;

    /// FIPS 180-4, 5.3.5.
    const INITIAL: [u64; 8] = [
        0x6a09_e667_f3bc_c908,
        0xbb67_ae85_84ca_a73b,
        0x3c6e_f372_fe94_f82b,
        0xa54f_f53a_5f1d_36f1,
        0x510e_527f_ade6_82d1,
        0x9b05_688c_2b3e_6c1f,
        0x1f83_d9ab_fb41_bd6b,
        0x5be0_cd19_137e_2179,
    ];

    const PLANS: &'static [Plan<Kernel>] = &[
        #[cfg(target_arch = "x86_64")]
        Plan { name: "AVX-512", kernels: &[(Kernel::Avx512, 3)] },
        #[cfg(target_arch = "x86_64")]
        Plan { name: "AVX2", kernels: &[(Kernel::Avx2, 3)] },
        #[cfg(target_arch = "aarch64")]
        Plan { name: "ARMv8.2 SHA512", kernels: &[(Kernel::Sha2, armv8::STREAMS)] },
    ];
    const ALONE: &'static digest::Algorithm = &digest::SHA512;

    fn is_available(kernel: Kernel) -> bool {
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "aarch64")]
            Kernel::Sha2 => {
                std::arch::is_aarch64_feature_detected!("neon")
                    && std::arch::is_aarch64_feature_detected!("sha3")
            }
        }
    }

    fn is_worth(_: Kernel) -> bool {
        true
    }

    fn lanes(kernel: Kernel) -> usize {
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => 8,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => 4,
            #[cfg(target_arch = "aarch64")]
            Kernel::Sha2 => armv8::STREAMS,
        }
    }

    fn hash(
        kernel: Kernel,
        start: &[u64; 8],
        messages: Messages<'_, BLOCK>,
        end: &[u8; BLOCK],
        each: impl FnMut(Digest),
    ) {
        let count = messages.count();
        let states = |states: &[[u64; 8]]| states.iter().take(count).copied().map(digest_of).for_each(each);
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => states(&avx512::hash(start, messages, end)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => states(&avx2::hash(start, messages, end)),
            #[cfg(target_arch = "aarch64")]
            Kernel::Sha2 => states(&armv8::hash(start, messages, end)),
        }
    }

    fn compress(state: &mut [u64; 8], blocks: &[[u8; BLOCK]]) {
        compress512(state, blocks);
    }
}

/// The digest that a state is.
fn digest_of(state: [u64; 8]) -> Digest {
    let mut digest = [0; 64];
    digest.as_chunks_mut().0.iter_mut().zip(state).for_each(|(to, word)| *to = word.to_be_bytes());
    digest.into()
}
