//! The fuzzers' corpora, replayed: every input ever kept, each of its prefixes, and neighbours of it.

use std::fs;
use std::path::{Path, PathBuf};

#[allow(unreachable_pub)] // the fuzz crate's library
#[path = "../fuzz/src/lib.rs"]
mod targets;

use targets::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(corpus().join(target)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs a target; says which input it was when it panics.
fn run(name: &str, target: fn(&[u8]), input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{name} breaks on {}", input.escape_ascii());
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let mut folders: Vec<_> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(folders, names);
    let binaries = fs::read_dir(corpus().with_file_name("targets")).unwrap();
    let mut binaries: Vec<_> = binaries
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    binaries.sort();
    assert_eq!(binaries, names);
    for name in names {
        assert!(inputs(&name).len() >= 5, "{name} has hardly any input");
    }
}

#[test]
fn the_corpora_break_no_property() {
    for (name, target) in TARGETS {
        for (_, input) in inputs(name) {
            run(name, *target, &input);
        }
    }
}

#[test]
fn inputs_cut_short_break_no_property() {
    for (name, target) in TARGETS {
        for (_, input) in inputs(name) {
            let step = input.len() / 200 + 1;
            (0..input.len()).step_by(step).for_each(|end| run(name, *target, &input[..end]));
        }
    }
}

#[test]
fn inputs_with_a_changed_byte_break_no_property() {
    for (name, target) in TARGETS {
        for (_, mut input) in inputs(name) {
            let step = input.len() / 100 + 1;
            for at in (0..input.len()).step_by(step) {
                for change in [0x01, 0x80, 0xff] {
                    input[at] ^= change;
                    run(name, *target, &input);
                    input[at] ^= change;
                }
            }
        }
    }
}
