//! The measurement list of a process that is killed while it writes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nfs_verity::measure::{
    ASCII, BINARY, Bank, Banks, Entry, Log, LogOptions, Records, SEGMENT_MIN, Seal, Template, closed, pcrs,
    verify, verify_chain,
};
use nfs_verity::verity::{Digest, FileDigest, HashAlgorithm};

const MEASURED: &str = "NFS_VERITY_TEST_MEASURED";

fn entry(n: u32) -> Entry {
    let digest = Digest::from(<[u8; 32]>::try_from([n.to_le_bytes(); 8].concat()).unwrap());
    let file = FileDigest { algorithm: HashAlgorithm::Sha256, digest };
    Entry::verity(Template::ImaNgV2, &file, format!("/srv/{n}").as_bytes(), b"").unwrap()
}

fn open(directory: &Path) -> Log {
    let options = LogOptions { segment_bytes: SEGMENT_MIN, history: None, ..LogOptions::default() };
    let seal = Seal {
        sign: Box::new(|start| Ok(start.to_vec())),
        verify: Box::new(|start, signature| start == signature),
    };
    Log::open(directory, options, seal).unwrap().0
}

/// The names in all segments.
fn names(directory: &Path, log: &Log) -> Vec<String> {
    let files = (1..log.segment()).map(|segment| closed(BINARY, segment)).chain([BINARY.to_owned()]);
    let lists =
        files.map(|file| fs::read(directory.join(file)).unwrap_or_default()).collect::<Vec<_>>().concat();
    assert_eq!(verify(&lists, &Banks::ZERO).unwrap().end, *log.banks());
    let names = Records::new(&lists).map(|record| record.unwrap().fields.name.to_vec());
    names.map(|name| String::from_utf8(name).unwrap()).collect()
}

/// The process that the next test kills. It says what was acknowledged.
#[test]
#[ignore = "not a test of its own"]
fn measures_until_it_is_killed() {
    let Some(directory) = std::env::var_os(MEASURED) else { return };
    let mut log = open(directory.as_ref());
    let mut out = std::io::stdout();
    // The first is the boot aggregate.
    let mut n = u32::try_from(log.records() - 1).unwrap();
    loop {
        let batch: Vec<_> = (0..=n % 5).map(|more| entry(n + more)).collect();
        n += u32::try_from(batch.len()).unwrap();
        log.append(&batch).unwrap();
        writeln!(out, "acknowledged {n}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_in_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "measured::measures_until_it_is_killed"])
            .env(MEASURED, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let number = |line: String| line.strip_prefix("acknowledged ").map(|n| n.parse::<usize>().unwrap());
        let mut acknowledged = lines.by_ref().find_map(number).unwrap();
        std::thread::sleep(Duration::from_millis(20 + 17 * round));
        child.kill().unwrap();
        // What it said before it was killed stands in the pipe.
        acknowledged = lines.filter_map(number).last().unwrap_or(acknowledged);
        child.wait().unwrap();
        assert!(acknowledged > before, "it measured something");

        let log = open(dir.path());
        let found = names(dir.path(), &log);
        let expected: Vec<_> = (0..found.len() - 1).map(|n| format!("/srv/{n}")).collect();
        assert_eq!(found[0], "boot_aggregate");
        assert_eq!(found[1..], expected, "each once and in order");
        assert!(found.len() > acknowledged, "{} of {acknowledged}", found.len());
        before = found.len() - 1;
        let chain = verify_chain(dir.path(), &|start, signature| start == signature).unwrap();
        assert_eq!((chain.records, chain.end), (log.records(), *log.banks()));
        let binary = fs::read(dir.path().join(BINARY)).unwrap_or_default();
        let lines: Vec<u8> = Records::new(&binary).flat_map(|record| record.unwrap().ascii()).collect();
        assert!(fs::read(dir.path().join(ASCII)).unwrap() == lines);
        for bank in Bank::ALL {
            assert_eq!(fs::read_to_string(dir.path().join(pcrs(bank))).unwrap(), log.banks().pcrs(bank));
        }
    }
}
