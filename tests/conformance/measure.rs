//! Measurement lists against `evmctl ima_measurement` of ima-evm-utils: it comes to what our register files say,
//! prints the lines of our ASCII list, verifies the signatures in the list, and finds what was altered.

use std::fs;
use std::path::Path;
use std::process::Command;

use nfs_verity::measure::{
    ASCII, BINARY, Bank, DigestKind, Entry, FileHash, Log, LogOptions, Records, SEGMENT_MIN, Seal, Template,
    closed, pcrs,
};
use sha2::{Digest as _, Sha256};

const MATCHED: &str = "Matched per TPM bank calculated digest(s)";
/// The banks of which `evmctl` 1.4 reads a file; it knows no other, and takes two files at most.
const BANKS: [Bank; 2] = [Bank::Sha1, Bank::Sha256];

/// What `evmctl` prints, and whether it says that the list comes to what the files of registers say.
fn evmctl(directory: &Path, list: &str, more: &[&str]) -> (String, bool) {
    let mut command = Command::new("evmctl");
    command.args(["-v", "ima_measurement"]).args(more).current_dir(directory);
    for bank in BANKS {
        command.args(["--pcrs", &format!("{bank},{}", pcrs(bank))]);
    }
    let output = command.arg(list).output();
    let output =
        output.unwrap_or_else(|error| panic!("evmctl: {error} (Debian: apt-get install ima-evm-utils)"));
    let told = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    // Neither alone says it: success is also what becomes of a bank that evmctl does not know, and the registers
    // of a list may match in which it found an altered record.
    let matched = output.status.success() && told.contains(MATCHED);
    (told, matched)
}

fn open(directory: &Path, template: Template) -> Log {
    let options = LogOptions { template, segment_bytes: SEGMENT_MIN, history: None, ..LogOptions::default() };
    let seal = Seal {
        sign: Box::new(|start| Ok(start.to_vec())),
        verify: Box::new(|start, signature| start == signature),
    };
    Log::open(directory, options, seal).unwrap().0
}

fn vector(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)).unwrap()
}

fn entry(template: Template, n: u32) -> Entry {
    let digest = Sha256::digest(n.to_le_bytes());
    let kind = if template.tells_kind() { DigestKind::Verity } else { DigestKind::Ima };
    let name = format!("/srv/a name of its own {n}");
    let third = if template == Template::ImaBuf { &b"measured"[..] } else { b"" };
    Entry::new(template, (kind, FileHash::Sha256, &digest), name.as_bytes(), third).unwrap()
}

#[test]
fn evmctl_comes_to_what_our_registers_hold_over_all_segments() {
    for template in Template::ALL {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), template);
        let mut list = Vec::new();
        for n in 0..60 {
            let mut entries = vec![entry(template, n)];
            if n % 20 == 7 {
                entries.push(Entry::violation(template, FileHash::Sha256, b"/srv/changed").unwrap());
            }
            log.append(&entries).unwrap();
        }
        assert!(log.segment() > 1);
        let mut ascii = Vec::new();
        for (name, all) in [(BINARY, &mut list), (ASCII, &mut ascii)] {
            let numbered = (1..log.segment()).map(|segment| closed(name, segment));
            for file in numbered.chain([name.to_owned()]) {
                all.extend(fs::read(dir.path().join(file)).unwrap());
            }
        }
        fs::write(dir.path().join("list"), &list).unwrap();
        let (told, matched) = evmctl(dir.path(), "list", &["--ignore-violations"]);
        assert!(matched, "{template}: {told}");
        for bank in BANKS {
            assert!(told.contains(&format!("{bank} PCR-10: succeed at entry {}", log.records())), "{told}");
        }
        let lines = |text: &str| {
            let lines = text.lines().filter(|line| line.starts_with("10 ")).map(str::trim_end);
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let ours = lines(str::from_utf8(&ascii).unwrap());
        assert_eq!(ours.len() as u64, log.records());
        // Of layouts that it does not know by name, evmctl 1.4 prints no fields.
        if !template.tells_kind() {
            assert_eq!(lines(&told), ours, "{template}");
        }
    }
}

#[test]
fn evmctl_finds_what_was_altered_in_our_list() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), Template::ImaNg);
    log.append(&[entry(Template::ImaNg, 1), entry(Template::ImaNg, 2)]).unwrap();
    drop(log);
    let whole = fs::read(dir.path().join(BINARY)).unwrap();
    let last = Records::new(&whole).last().unwrap().unwrap();
    let last = usize::try_from(last.offset).unwrap();
    let matches = |list: &[u8]| {
        fs::write(dir.path().join("list"), list).unwrap();
        evmctl(dir.path(), "list", &[]).1
    };
    assert!(matches(&whole));
    for at in [last + 5, last + 60, whole.len() - 2] {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        assert!(!matches(&altered), "byte {at}");
    }
    assert!(!matches(&whole[..last]), "a record is missing at the end");
    let first = entry(Template::ImaNg, 1).binary().len();
    assert!(
        !matches(&[&whole[..last - first], &whole[last..]].concat()),
        "a record is missing before the end"
    );
}

#[test]
fn evmctl_verifies_the_signatures_in_our_list() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), Template::ImaSig);
    let digest = Sha256::digest(b"hello world\n");
    let other = Sha256::digest(b"another content");
    for (key, name) in [("rsa2048", "/srv/rsa"), ("ecp256", "/srv/ec")] {
        fs::write(dir.path().join(key), vector(&format!("keys/{key}.crt.der"))).unwrap();
        let signature = vector(&format!("ima/hello.{key}.sha256.imasig_v2"));
        for (digest, end) in [(&digest, ""), (&other, "-altered")] {
            let digest = (DigestKind::Ima, FileHash::Sha256, &digest[..]);
            let name = format!("{name}{end}");
            log.append(&[Entry::new(Template::ImaSig, digest, name.as_bytes(), &signature).unwrap()])
                .unwrap();
        }
    }
    let (told, matched) = evmctl(dir.path(), BINARY, &["--verify-sig", "--key", "rsa2048, ecp256"]);
    assert!(matched, "{told}");
    for name in ["/srv/rsa", "/srv/ec"] {
        assert!(told.contains(&format!("{name}: verification is OK")), "{told}");
        assert!(told.contains(&format!("{name}-altered: verification failed")), "{told}");
    }
}
