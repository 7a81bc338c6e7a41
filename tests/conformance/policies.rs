//! Signed policies of Linux IPE, as `openssl smime` made them.

use std::path::{Path, PathBuf};

use nfs_verity::config::{PolicyFileError, load_keyring, load_policy};
use nfs_verity::event::Cause;
use nfs_verity::policy::Policy;
use nfs_verity::sign::{Format, Keyring};

/// A second in the life of the certificates.
const NOW: i64 = 1_800_000_000;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn keyring(key: &str) -> Keyring {
    load_keyring(&vectors().join(format!("keys/{key}.crt.pem")), Format::ALL.into_iter().collect()).unwrap()
}

#[test]
fn policies_that_openssl_signed_are_taken_under_their_certificate_and_no_other() {
    let text = std::fs::read(vectors().join("ipe/policy.txt")).unwrap();
    let wanted = Policy::parse(&text).unwrap().render();
    for (key, other) in [("ecp256", "rsa2048"), ("rsa2048", "ecp256")] {
        for ending in ["binary.p7b", "p7b"] {
            let path = vectors().join(format!("ipe/policy.{key}.{ending}"));
            let file = load_policy(&path, Some(&keyring(key)), NOW).unwrap();
            assert_eq!(file.policy.render(), wanted, "{path:?}");
            assert_eq!(file.signers.len(), 1, "{path:?}");
            let error = load_policy(&path, Some(&keyring(other)), NOW).unwrap_err();
            let PolicyFileError::Signature { rejection, .. } = error else { panic!("{path:?}: {error}") };
            assert_eq!(rejection.cause, Cause::UnknownKey, "{path:?}");
            assert!(
                matches!(load_policy(&path, None, NOW), Err(PolicyFileError::Untrusted { .. })),
                "{path:?}"
            );
        }
    }
}
