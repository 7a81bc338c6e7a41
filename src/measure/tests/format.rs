//! The format, against `tests/vectors/ima/list.*`.

use crate::measure::{
    Bank, Banks, DigestKind, Entry, EntryError, Fault, FieldFault, FileHash, NAME_MAX, Records, Start,
    THIRD_MAX, Template, name_of, verify,
};
use sha2::{Digest as _, Sha256, Sha512};

struct List {
    name: &'static str,
    binary: &'static [u8],
    ascii: &'static [u8],
    /// By bank.
    pcrs: [&'static str; 3],
}

macro_rules! list {
    ($name:literal) => {
        List {
            name: $name,
            binary: include_bytes!(concat!("../../../tests/vectors/ima/list.", $name, ".bin")),
            ascii: include_bytes!(concat!("../../../tests/vectors/ima/list.", $name, ".ascii")),
            pcrs: [
                include_str!(concat!("../../../tests/vectors/ima/list.", $name, ".pcr-sha1")),
                include_str!(concat!("../../../tests/vectors/ima/list.", $name, ".pcr-sha256")),
                include_str!(concat!("../../../tests/vectors/ima/list.", $name, ".pcr-sha384")),
            ],
        }
    };
}

const LISTS: [List; 6] = [
    list!("ima-ng"),
    list!("ima-sig"),
    list!("ima-ngv2"),
    list!("ima-sigv2"),
    list!("ima-buf"),
    list!("violation"),
];

const RSA_V2: &[u8] = include_bytes!("../../../tests/vectors/ima/hello.rsa2048.sha256.imasig_v2");
const EC_V2: &[u8] = include_bytes!("../../../tests/vectors/ima/hello.ecp256.sha256.imasig_v2");
const RSA_V3: &[u8] = include_bytes!("../../../tests/vectors/ima/lin-4097.rsa2048.sha256.imasig_v3");
const EC_V3: &[u8] = include_bytes!("../../../tests/vectors/ima/lin-4097.ecp256.sha256.imasig_v3");
/// Of the 4097 bytes of the rule `lin`.
const LIN: &str = "sha256:f1cb62ef1feb05bc757be84f91a8255db0fc05d7e14e03a1c7777dab069f1aac";

/// The entries from which the other program made the list of this name.
fn entries(name: &str) -> Vec<Entry> {
    use Template::{ImaBuf, ImaNg, ImaNgV2, ImaSig, ImaSigV2};
    let sha256 = Sha256::digest(b"hello world\n");
    let sha512 = Sha512::digest(b"hello world\n");
    let hello = (DigestKind::Ima, FileHash::Sha256, &sha256[..]);
    let entry = |template, digest, name: &str, third: &[u8]| {
        Entry::new(template, digest, name.as_bytes(), third).unwrap()
    };
    let verity = |template, name: &str, third: &[u8]| {
        Entry::verity(template, &LIN.parse().unwrap(), name.as_bytes(), third).unwrap()
    };
    let first = |template| Entry::boot_aggregate(template);
    match name {
        "ima-ng" => vec![
            first(ImaNg),
            entry(ImaNg, hello, "/srv/hello", b""),
            entry(ImaNg, (DigestKind::Ima, FileHash::Sha512, &sha512), "/srv/hello world", b""),
        ],
        "ima-sig" => vec![
            first(ImaSig),
            entry(ImaSig, hello, "/srv/hello", RSA_V2),
            entry(ImaSig, hello, "/srv/hello-ec", EC_V2),
        ],
        "ima-ngv2" => vec![first(ImaNgV2), verity(ImaNgV2, "/srv/f4097", b"")],
        "ima-sigv2" => vec![
            first(ImaSigV2),
            verity(ImaSigV2, "/srv/f4097", RSA_V3),
            verity(ImaSigV2, "/srv/f4097-ec", EC_V3),
            entry(ImaSigV2, hello, "/srv/hello", RSA_V2),
        ],
        "ima-buf" => {
            let line = b"root=/dev/vda";
            let digest = Sha256::digest(line);
            let digest = (DigestKind::Ima, FileHash::Sha256, &digest[..]);
            vec![first(ImaBuf), entry(ImaBuf, digest, "kexec-cmdline", line)]
        }
        "violation" => vec![
            first(ImaNg),
            Entry::violation(ImaNg, FileHash::Sha256, b"/srv/hello").unwrap(),
            entry(ImaNg, hello, "/srv/hello", b""),
        ],
        _ => panic!("{name}"),
    }
}

/// Where the records of a list begin, and where it ends.
fn bounds(list: &[u8]) -> Vec<usize> {
    let starts = Records::new(list).map(|record| usize::try_from(record.unwrap().offset).unwrap());
    starts.chain([list.len()]).collect()
}

#[test]
fn lists_are_byte_for_byte_those_of_another_program() {
    for list in &LISTS {
        let entries = entries(list.name);
        let binary: Vec<u8> = entries.iter().flat_map(Entry::binary).collect();
        let ascii: Vec<u8> = entries.iter().flat_map(Entry::ascii).collect();
        assert_eq!(hex::encode(binary), hex::encode(list.binary), "{}", list.name);
        assert_eq!(ascii.escape_ascii().to_string(), list.ascii.escape_ascii().to_string(), "{}", list.name);
        let mut banks = Banks::ZERO;
        entries.iter().for_each(|entry| banks.extend(&entry.digests()));
        for (bank, pcrs) in Bank::ALL.into_iter().zip(list.pcrs) {
            assert_eq!(banks.pcrs(bank), pcrs, "{} {bank}", list.name);
        }
    }
}

#[test]
fn what_is_read_is_what_was_written() {
    for list in &LISTS {
        let entries = entries(list.name);
        let records: Vec<_> = Records::new(list.binary).map(Result::unwrap).collect();
        assert_eq!(records.len(), entries.len(), "{}", list.name);
        let mut offset = 0;
        for ((number, record), entry) in (1..).zip(&records).zip(&entries) {
            assert_eq!((record.number, record.offset), (number, offset));
            assert_eq!((record.template, record.fields), (entry.template(), entry.fields()));
            assert_eq!(record.data, entry.data());
            assert_eq!(record.is_violation(), entry.is_violation());
            assert_eq!(record.digests(), entry.digests());
            assert!(record.is_true());
            offset += entry.binary().len() as u64;
        }
        let ascii: Vec<u8> = records.iter().flat_map(|record| record.ascii()).collect();
        assert_eq!(ascii, list.ascii);
        let summary = verify(list.binary, &Banks::ZERO).unwrap();
        assert_eq!(summary.records, entries.len() as u64);
        assert_eq!(summary.violations, u64::from(list.name == "violation"));
        assert_eq!(summary.end.pcrs(Bank::Sha256), list.pcrs[1]);
    }
}

#[test]
fn a_list_cut_inside_a_record_is_refused_and_one_cut_between_two_has_fewer() {
    for list in &LISTS {
        let bounds = bounds(list.binary);
        for end in 0..list.binary.len() {
            let whole = bounds.iter().take_while(|bound| **bound <= end).count() - 1;
            let found = verify(&list.binary[..end], &Banks::ZERO);
            if bounds.contains(&end) {
                assert_eq!(found.unwrap().records, whole as u64);
            } else {
                let error = found.unwrap_err();
                assert_eq!((error.record, error.fault), (whole as u64 + 1, Fault::Cut), "{end}");
                assert_eq!(error.offset, bounds[whole] as u64);
            }
            let read = Records::new(&list.binary[..end]).filter(Result::is_ok).count();
            assert_eq!(read, whole, "the records before a cut are read");
        }
    }
}

#[test]
fn an_altered_byte_is_found_at_its_record() {
    for list in &LISTS {
        let bounds = bounds(list.binary);
        let entries = entries(list.name);
        let mut binary = list.binary.to_vec();
        let sum = verify(&binary, &Banks::ZERO).unwrap().end;
        for at in 0..binary.len() {
            let record = bounds.iter().filter(|bound| **bound <= at).count();
            for change in [0x01, 0x20, 0x80, 0xff] {
                binary[at] ^= change;
                let found = verify(&binary, &Banks::ZERO);
                binary[at] ^= change;
                match found {
                    Err(error) => {
                        assert_eq!(error.record, record as u64, "{} {at} {change} {error}", list.name);
                        assert_eq!(error.offset, bounds[record - 1] as u64);
                    }
                    // Nothing stands for what a violation says.
                    Ok(found) => {
                        assert!(entries[record - 1].is_violation(), "{} {at} {change}", list.name);
                        assert_eq!(found.end, sum);
                    }
                }
            }
        }
    }
}

#[test]
fn a_record_that_is_missing_or_in_another_place_is_told_by_the_registers() {
    for list in &LISTS {
        let sum = verify(list.binary, &Banks::ZERO).unwrap().end;
        let records: Vec<_> =
            bounds(list.binary).windows(2).map(|two| &list.binary[two[0]..two[1]]).collect();
        for left_out in 0..records.len() {
            let rest: Vec<_> = (0..records.len()).filter(|n| *n != left_out).map(|n| records[n]).collect();
            assert_ne!(verify(&rest.concat(), &Banks::ZERO).unwrap().end, sum);
        }
        let turned: Vec<_> = records.iter().rev().copied().collect();
        assert_ne!(verify(&turned.concat(), &Banks::ZERO).unwrap().end, sum);
        // A list in two parts comes to the same as in one.
        let half = records[0].len();
        let middle = verify(&list.binary[..half], &Banks::ZERO).unwrap().end;
        assert_eq!(verify(&list.binary[half..], &middle).unwrap().end, sum);
    }
}

#[test]
fn lengths_are_bounded_before_they_are_used() {
    let entry = &entries("ima-sigv2")[1];
    let record = entry.binary();
    let alter = |at: usize, value: u32| {
        let mut record = record.clone();
        record[at..at + 4].copy_from_slice(&value.to_le_bytes());
        verify(&record, &Banks::ZERO).unwrap_err().fault
    };
    let data = 28 + "ima-sigv2".len();
    for huge in [u32::MAX, 1 << 31, 1 << 17] {
        assert_eq!(alter(0, huge), Fault::Register(huge));
        assert_eq!(alter(24, huge), Fault::Template);
        assert_eq!(alter(data, huge), Fault::DataLength(huge));
        assert_eq!(alter(data + 4, huge), Fault::Fields(FieldFault::TooLong(huge)));
    }
    assert_eq!(alter(data, 69632), Fault::Cut);
}

#[test]
fn names_are_written_as_the_kernel_writes_them() {
    let digest = (DigestKind::Ima, FileHash::Sha1, &[7; 20][..]);
    let new = |name: &[u8]| Entry::new(Template::ImaNg, digest, name, b"");
    for (given, written) in [
        (&b"/a b  c "[..], &b"/a_b__c_"[..]),
        (b"/tab\tand\nnewline", b"/tab\tand\nnewline"),
        (b"/\xff\xfe \x7f", b"/\xff\xfe_\x7f"),
        ("/naïve".as_bytes(), "/naïve".as_bytes()),
        (b"relative", b"relative"),
    ] {
        let entry = new(given).unwrap();
        assert_eq!(entry.fields().name, written);
        let line = entry.ascii();
        let end = [b" ima-ng sha1:", "07".repeat(20).as_bytes(), b" ", written, b"\n"].concat();
        assert!(line.ends_with(&end), "{}", line.escape_ascii());
        assert_eq!(Records::new(&entry.binary()).next().unwrap().unwrap().fields.name, written);
    }
    for refused in [&b""[..], b"/a\0b", &[b'n'; NAME_MAX + 1]] {
        assert_eq!(new(refused), Err(EntryError::Name));
    }
    let longest = new(&[b'n'; NAME_MAX]).unwrap();
    assert!(verify(&longest.binary(), &Banks::ZERO).is_ok());
}

#[test]
fn what_the_kernel_would_not_write_is_refused() {
    use Template::{ImaBuf, ImaNg, ImaNgV2, ImaSig, ImaSigV2};
    let sha256 = (DigestKind::Ima, FileHash::Sha256, &[7; 32][..]);
    let verity = (DigestKind::Verity, FileHash::Sha256, &[7; 32][..]);
    let new = |template, digest, third: &[u8]| Entry::new(template, digest, b"/f", third);
    let short = (DigestKind::Ima, FileHash::Sha512, &[7; 32][..]);
    let length = EntryError::DigestLength { hash: FileHash::Sha512, given: 32 };
    assert_eq!(new(ImaNg, short, b""), Err(length));
    for template in [ImaNg, ImaSig, ImaBuf] {
        assert_eq!(new(template, verity, b""), Err(EntryError::KindUntold(template)));
    }
    for template in [ImaNg, ImaNgV2] {
        assert_eq!(new(template, sha256, RSA_V2), Err(EntryError::NoThird(template)));
    }
    for template in [ImaSig, ImaSigV2] {
        assert_eq!(new(template, sha256, &[4, 4, 1]), Err(EntryError::Signature));
        assert!(new(template, sha256, b"").is_ok(), "a file without a signature has an empty field");
        let long = [3; THIRD_MAX + 1];
        assert_eq!(new(template, sha256, &long), Err(EntryError::ThirdLength(THIRD_MAX + 1)));
        let longest = new(template, sha256, &long[1..]).unwrap();
        assert!(verify(&longest.binary(), &Banks::ZERO).is_ok());
    }
}

#[test]
fn violations_of_old_and_new_kernels_are_read_and_one_with_a_digest_is_refused() {
    let record = |prefix: &[u8], digest: &[u8]| {
        let first = [prefix, b":\0", digest].concat();
        let mut data = Vec::new();
        for field in [&first[..], b"/f\0"] {
            data.extend_from_slice(&u32::try_from(field.len()).unwrap().to_le_bytes());
            data.extend_from_slice(field);
        }
        super::super::entry::record(Template::ImaNg, &[0; 20], &data)
    };
    for (prefix, zeros) in [(&b"sha256"[..], 32), (b"sha256", 20), (b"sha512", 64), (b"sha1", 20)] {
        let summary = verify(&record(prefix, &vec![0; zeros]), &Banks::ZERO).unwrap();
        assert_eq!((summary.records, summary.violations), (1, 1));
        let mut ones = Banks::ZERO;
        ones.extend(&Banks::ONES);
        assert_eq!(summary.end, ones);
    }
    for (prefix, digest) in
        [(&b"sha256"[..], [7; 32].to_vec()), (b"sha512", vec![0; 32]), (b"md6", vec![0; 20])]
    {
        let error = verify(&record(prefix, &digest), &Banks::ZERO).unwrap_err();
        assert_eq!(error.fault, Fault::Fields(FieldFault::Digest));
    }
}

#[test]
fn a_name_that_the_kernel_would_not_write_is_refused() {
    let entry = Entry::boot_aggregate(Template::ImaNg);
    for (at, byte) in [(1, b' '), (1, 0), (14, b'x')] {
        let mut data = entry.data();
        let name = data.len() - "boot_aggregate".len() - 1;
        data[name + at] = byte;
        let record = super::super::entry::record(Template::ImaNg, &Banks::of(&data).sha1, &data);
        let error = verify(&record, &Banks::ZERO).unwrap_err();
        assert_eq!(error.fault, Fault::Fields(FieldFault::Name), "{at} {byte}");
    }
}

#[test]
fn a_start_has_one_spelling() {
    let start = Start { segment: 3, records: 1234, banks: Banks::of(b"before") };
    let text = start.encode();
    assert_eq!(Start::parse(text.as_bytes()), Ok(start));
    for end in 0..text.len() {
        assert!(Start::parse(&text.as_bytes()[..end]).is_err(), "{end}");
    }
    for other in [
        format!("{text}\n"),
        text.replace("segment 3", "segment 03"),
        text.replace("records 1234", "records +1234"),
        text.replace("list 1", "list 2"),
        text.replace('\n', "\r\n"),
        text.replace("sha384 ", "sha384  "),
        text.to_uppercase(),
    ] {
        assert!(Start::parse(other.as_bytes()).is_err(), "{other}");
    }
}

#[test]
fn a_name_is_absolute_and_of_a_path_that_is_too_long_the_last_component() {
    let long = |len: usize| [b"/".repeat(len - 4).as_slice(), b"name"].concat();
    assert_eq!(*name_of(b"a/b c"), *b"/a/b c");
    assert_eq!(*name_of(b"/a/b"), *b"/a/b");
    assert_eq!(*name_of(b""), *b"/");
    // 4095 bytes and a zero fit into the kernel's PATH_MAX.
    assert_eq!(*name_of(&long(4095)), *long(4095));
    assert_eq!(*name_of(&long(4096)), *b"name");
    let relative = [b"a/".repeat(2045).as_slice(), b"name"].concat();
    assert_eq!(name_of(&relative).len(), 4095);
    assert_eq!(*name_of(&[b"a", &relative[..]].concat()), *b"name");
    // strscpy to NAME_MAX leaves 254.
    let component = [b"/a".repeat(2048).as_slice(), b"/", &b"x".repeat(255)].concat();
    assert_eq!(*name_of(&component), *b"x".repeat(254));
    for path in [&component[..], &b"/".repeat(5000), &b"x".repeat(5000)] {
        let digest = (DigestKind::Ima, FileHash::Sha1, &[0; 20][..]);
        Entry::new(Template::ImaNg, digest, &name_of(path), b"").unwrap();
    }
}
