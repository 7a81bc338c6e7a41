#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| nfs_verity_fuzz::nfs3_args(data));
