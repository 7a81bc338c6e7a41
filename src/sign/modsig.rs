//! Signatures appended to a file as to a kernel module: content, PKCS#7, `struct module_signature`, magic.
//! The rules are those of `mod_check_sig` in the kernel's `kernel/module_signature.c`.
//!
//! Finds where the parts are. The signature is one of the content alone, and is read with
//! [`super::Pkcs7::parse_appended`].

use std::ops::Range;

use super::{PKCS7_APPENDED_MAX, SignError};

const MAGIC: &[u8; 28] = b"~Module signature appended~\n";
/// Length of `struct module_signature`.
const INFO: usize = 12;
/// `PKEY_ID_PKCS7`.
const PKCS7: u8 = 2;

/// How many of a file's last bytes tell whether a signature is appended.
pub const MODSIG_TAIL: usize = INFO + MAGIC.len();

/// Where a file ends and its appended signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modsig {
    /// Length of the signed content, from the file's first byte, in bytes; at least 1.
    pub content: u64,
    /// The place of the PKCS#7 message within the file.
    pub pkcs7: Range<u64>,
}

impl Modsig {
    /// Looks at the last bytes of a file of `total` bytes: `tail` has [`MODSIG_TAIL`] of them, or more, or
    /// the whole file. `None` where no signature is appended.
    ///
    /// # Errors
    /// [`SignError::Modsig`] where the magic is there and the rest does not fit, [`SignError::TooLong`] for
    /// a signature of more than [`PKCS7_APPENDED_MAX`] bytes.
    pub fn find(tail: &[u8], total: u64) -> Result<Option<Self>, SignError> {
        let Some((rest, magic)) = tail.split_last_chunk::<{ MAGIC.len() }>() else { return Ok(None) };
        if magic != MAGIC {
            return Ok(None);
        }
        let Some((_, info)) = rest.split_last_chunk::<INFO>() else {
            return Err(refuse("the file is too short for one"));
        };
        let [algo, hash, id_type, signer_len, key_id_len, pad0, pad1, pad2, a, b, c, d] = *info;
        if id_type != PKCS7 {
            return Err(refuse(format!(
                "its type is {id_type}; only PKCS#7, which is {PKCS7}, is supported"
            )));
        }
        if [algo, hash, signer_len, key_id_len, pad0, pad1, pad2] != [0; 7] {
            return Err(refuse("fields that PKCS#7 leaves empty are not"));
        }
        let length = u64::from(u32::from_be_bytes([a, b, c, d]));
        if length > PKCS7_APPENDED_MAX as u64 {
            let found = usize::try_from(length).unwrap_or(usize::MAX);
            return Err(SignError::TooLong { what: "appended signature", found, max: PKCS7_APPENDED_MAX });
        }
        let end = total.checked_sub(MODSIG_TAIL as u64);
        let start = end.and_then(|end| end.checked_sub(length)).filter(|start| *start > 0);
        match (start, end) {
            (Some(content), Some(end)) if length > 0 => Ok(Some(Self { content, pkcs7: content..end })),
            _ => {
                Err(refuse(format!("{length} bytes of signature and content do not fit into {total} bytes")))
            }
        }
    }
}

fn refuse(reason: impl ToString) -> SignError {
    SignError::Modsig { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{Certificate, HashName, Pkcs7, fixture, make_pkcs7};

    const PAYLOAD: &[u8] = include_bytes!("../../tests/vectors/modsig/payload");
    const SIGNED: &[u8] = include_bytes!("../../tests/vectors/modsig/payload.modsig");
    const RSA: &[u8] = include_bytes!("../../tests/vectors/keys/rsa2048.crt.der");

    fn find(file: &[u8]) -> Result<Option<Modsig>, SignError> {
        Modsig::find(file, file.len() as u64)
    }

    fn slice<'a>(file: &'a [u8], found: &Modsig) -> (&'a [u8], &'a [u8]) {
        let at = |offset: u64| usize::try_from(offset).unwrap();
        (&file[..at(found.content)], &file[at(found.pkcs7.start)..at(found.pkcs7.end)])
    }

    fn append(content: &[u8], pkcs7: &[u8]) -> Vec<u8> {
        let length = u32::try_from(pkcs7.len()).unwrap().to_be_bytes();
        [content, pkcs7, &[0, 0, 2, 0, 0, 0, 0, 0], &length, MAGIC].concat()
    }

    #[test]
    fn the_signature_among_the_vectors_is_found_and_verifies_the_content_alone() {
        let found = find(SIGNED).unwrap().unwrap();
        let (content, pkcs7) = slice(SIGNED, &found);
        assert_eq!(content, PAYLOAD);
        let pkcs7 = Pkcs7::parse_appended(pkcs7).unwrap();
        let certificate = Certificate::from_der(RSA).unwrap();
        let [signer] = pkcs7.signers() else { panic!("one signer") };
        assert!(signer.names(&certificate) && !pkcs7.has_signed_attributes());
        assert!(signer.verify(&signer.hash().digest(PAYLOAD), certificate.key()));
        assert!(!signer.verify(&signer.hash().digest(SIGNED), certificate.key()));
    }

    #[test]
    fn what_is_appended_is_found_from_the_tail_alone() {
        let (key, certificate) = (fixture::key("p256"), fixture::certificate("p256"));
        let pkcs7 = make_pkcs7(b"content", HashName::Sha256, key, &certificate).unwrap();
        let file = append(b"content", &pkcs7);
        let found = find(&file).unwrap().unwrap();
        assert_eq!(slice(&file, &found), (&b"content"[..], &pkcs7[..]));
        for tail in MODSIG_TAIL..file.len() {
            let tail = &file[file.len() - tail..];
            assert_eq!(Modsig::find(tail, file.len() as u64).unwrap().as_ref(), Some(&found));
        }
        // Offsets beyond 4 GiB are right, too.
        let total = (5 << 30) + file.len() as u64;
        let far = Modsig::find(&file[file.len() - MODSIG_TAIL..], total).unwrap().unwrap();
        assert_eq!(far.content, (5 << 30) + found.content);
        assert_eq!(far.pkcs7.end - far.pkcs7.start, pkcs7.len() as u64);
    }

    #[test]
    fn files_without_the_magic_have_none() {
        for file in [&b""[..], b"x", PAYLOAD, &SIGNED[..SIGNED.len() - 1], &MAGIC[1..]] {
            assert_eq!(find(file).unwrap(), None);
        }
        for cut in 0..SIGNED.len() {
            assert_eq!(find(&SIGNED[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(find(&[SIGNED, b"\n"].concat()).unwrap(), None);
        for at in SIGNED.len() - MAGIC.len()..SIGNED.len() {
            let mut changed = SIGNED.to_vec();
            changed[at] ^= 0x20;
            assert_eq!(find(&changed).unwrap(), None, "byte {at}");
        }
    }

    #[test]
    fn a_changed_trailer_is_refused_or_points_at_what_is_no_signature() {
        let info = SIGNED.len() - MODSIG_TAIL;
        for bit in 0..INFO * 8 {
            let mut changed = SIGNED.to_vec();
            changed[info + bit / 8] ^= 1 << (bit % 8);
            match find(&changed) {
                Err(SignError::Modsig { .. } | SignError::TooLong { .. }) => {}
                Ok(Some(found)) if bit >= 64 => {
                    assert!(Pkcs7::parse_appended(slice(&changed, &found).1).is_err(), "bit {bit}");
                }
                other => panic!("bit {bit}: {other:?}"),
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let file = |length: u32, before: usize| {
            let info = [&[0, 0, 2, 0, 0, 0, 0, 0][..], &length.to_be_bytes()].concat();
            [&vec![7; before][..], &info, MAGIC].concat()
        };
        for (length, before) in [(0, 9), (9, 9), (10, 9), (1, 0), (1, 1), (40, 0), (65_536, 100)] {
            let refused = find(&file(length, before));
            assert!(matches!(refused, Err(SignError::Modsig { .. })), "{length} {before}");
        }
        for length in [65_537, 0x7fff_ffff, u32::MAX] {
            assert!(matches!(find(&file(length, 100)), Err(SignError::TooLong { .. })), "{length}");
        }
        assert_eq!(find(&file(8, 9)).unwrap(), Some(Modsig { content: 1, pkcs7: 1..9 }));
        // A tail that is no tail of a file of that size.
        for total in 0..=48 {
            assert!(Modsig::find(&file(8, 9), total).is_err(), "{total}");
        }
        assert!(find(MAGIC).is_err());
        assert!(find(&[&[0; 11][..], MAGIC].concat()).is_err());
    }
}
