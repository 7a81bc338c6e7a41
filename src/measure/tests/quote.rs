//! What is read of a TPM's quote: made by hand, cut, and changed. Quotes of a TPM are in the conformance tests.

use crate::measure::{Bank, Banks, Quote, QuoteError, QuoteHash, QuoteSignature};

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A selection of registers in a bank.
fn selected(bank: u16, bits: &[u8]) -> Vec<u8> {
    [&bank.to_be_bytes()[..], &[u8::try_from(bits.len()).unwrap()], bits].concat()
}

fn quote(selections: &[Vec<u8>], digest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\xffTCG\x80\x18".to_vec();
    bytes.extend(sized(&[7; 34]));
    bytes.extend(sized(b"a nonce of 16 by"));
    bytes.extend([0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
    bytes.extend(u32::try_from(selections.len()).unwrap().to_be_bytes());
    bytes.extend(selections.concat());
    bytes.extend(sized(digest));
    bytes
}

const SHA1: u16 = 4;
const SHA256: u16 = 11;
const SHA384: u16 = 12;
/// Register 13.
const BITS: [u8; 3] = [0, 0x20, 0];

#[test]
fn a_quote_says_what_stands_in_it() {
    let banks = Banks::of(b"held");
    let values = [banks.get(Bank::Sha384), banks.get(Bank::Sha1), banks.get(Bank::Sha256)].concat();
    for hash in QuoteHash::ALL {
        let digest = hash.digest(&values);
        let bytes = quote(&[SHA384, SHA1, SHA256].map(|bank| selected(bank, &BITS)), &digest);
        let parsed = Quote::parse(&bytes).unwrap();
        let wanted = Quote {
            signer: &[7; 34],
            nonce: b"a nonce of 16 by",
            clock: 258,
            resets: 3,
            restarts: 4,
            is_safe: true,
            firmware: 0x0102_0304_0506_0708,
            pcr: 13,
            banks: vec![Bank::Sha384, Bank::Sha1, Bank::Sha256],
            digest: &digest,
        };
        assert_eq!(parsed, wanted);
        for other in QuoteHash::ALL {
            assert_eq!(parsed.is_of(other, &banks), other == hash);
        }
        assert!(!parsed.is_of(hash, &Banks::of(b"held another")));
        for end in 0..bytes.len() {
            assert_eq!(Quote::parse(&bytes[..end]), Err(QuoteError::Cut), "{end}");
        }
        assert_eq!(Quote::parse(&[&bytes[..], &[0]].concat()), Err(QuoteError::Trailing));
    }
}

#[test]
fn a_quote_is_of_one_register_in_banks_that_are_known() {
    let of = |selections: &[Vec<u8>]| Quote::parse(&quote(selections, &[1; 32])).map(|quote| quote.pcr);
    for pcr in 0..32 {
        let bits = 1u32 << pcr;
        assert_eq!(of(&[selected(SHA256, &bits.to_le_bytes())]), Ok(pcr));
    }
    assert_eq!(of(&[selected(SHA256, &[0x80])]), Ok(7));
    let one = || selected(SHA256, &BITS);
    for (selections, error) in [
        (vec![], QuoteError::Selection),
        (vec![selected(SHA256, &[0, 0x21, 0])], QuoteError::Selection),
        (vec![selected(SHA256, &[0, 0, 0])], QuoteError::Selection),
        (vec![selected(SHA256, &[])], QuoteError::Selection),
        (vec![one(), one()], QuoteError::Selection),
        (vec![one(), selected(SHA384, &[0, 0x10, 0])], QuoteError::Selection),
        (vec![one(), selected(SHA384, &[])], QuoteError::Selection),
        (vec![one(), selected(0x12, &BITS)], QuoteError::Bank(0x12)),
        (vec![selected(SHA1, &BITS)], QuoteError::Weak),
        (vec![selected(SHA256, &[0, 0x20, 0, 0, 0])], QuoteError::Length(5)),
    ] {
        assert_eq!(of(&selections), Err(error), "{selections:?}");
    }
    assert!(of(&vec![one(); 100_000]).is_err());
}

#[test]
fn what_no_tpm_signs_as_a_quote_is_refused() {
    let good = quote(&[selected(SHA256, &BITS)], &[1; 32]);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        Quote::parse(&changed).unwrap_err()
    };
    assert_eq!(with(0, &[0xfe]), QuoteError::Magic);
    assert_eq!(with(4, &[0x80, 0x17]), QuoteError::Type(0x8017));
    assert_eq!(with(6, &[0xff, 0xff]), QuoteError::Length(0xffff));
    assert_eq!(with(42, &[0, 67]), QuoteError::Length(67));
    assert_eq!(with(76, &[2]), QuoteError::Flag(2));
    assert_eq!(with(85, &[0xff; 4]), QuoteError::Bank(32));
}

#[test]
fn signatures_are_of_two_kinds_with_three_hashes() {
    let rsa = [&[0, 0x14, 0, 11][..], &sized(&[9; 256])].concat();
    let ecdsa = [&[0, 0x18, 0, 12][..], &sized(&[8; 48]), &sized(&[7; 47])].concat();
    assert_eq!(
        QuoteSignature::parse(&rsa),
        Ok(QuoteSignature::Rsa { hash: QuoteHash::Sha256, signature: &[9; 256] })
    );
    let wanted = QuoteSignature::Ecdsa { hash: QuoteHash::Sha384, r: &[8; 48], s: &[7; 47] };
    assert_eq!(QuoteSignature::parse(&ecdsa), Ok(wanted));
    assert_eq!(wanted.hash(), QuoteHash::Sha384);
    for good in [rsa, ecdsa] {
        for end in 0..good.len() {
            assert_eq!(QuoteSignature::parse(&good[..end]), Err(QuoteError::Cut));
        }
        assert_eq!(QuoteSignature::parse(&[&good[..], &[0]].concat()), Err(QuoteError::Trailing));
        let with = |at: usize, value: u8| {
            let mut changed = good.clone();
            changed[at] = value;
            QuoteSignature::parse(&changed).unwrap_err()
        };
        assert_eq!(with(1, 0x16), QuoteError::Algorithm(0x16));
        assert_eq!(with(3, 4), QuoteError::Hash(4), "sha1");
        assert!(matches!(with(4, 0xff), QuoteError::Length(_)));
    }
}

#[test]
fn quotes_of_tpm2_quote_say_what_the_register_held() {
    let mut held = Banks::ZERO;
    held.extend(&Banks { sha1: [0xaa; 20], sha256: [0xbb; 32], sha384: [0xcc; 48] });
    let files: [(&[u8], &[u8]); 2] = [
        (
            include_bytes!("../../../tests/vectors/tpm/ec.msg"),
            include_bytes!("../../../tests/vectors/tpm/ec.sig"),
        ),
        (
            include_bytes!("../../../tests/vectors/tpm/rsa.msg"),
            include_bytes!("../../../tests/vectors/tpm/rsa.sig"),
        ),
    ];
    for (message, signature) in files {
        let (quote, signature) = (Quote::parse(message).unwrap(), QuoteSignature::parse(signature).unwrap());
        assert_eq!((quote.pcr, &quote.banks[..]), (13, &Bank::ALL[..]));
        assert_eq!(quote.nonce[..3], [0x00, 0x11, 0x22]);
        assert_eq!(quote.resets, 1);
        assert!(quote.is_of(signature.hash(), &held) && !quote.is_of(signature.hash(), &Banks::ZERO));
    }
}
