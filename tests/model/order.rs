//! The order of the rooms: each names only rooms of lower rank.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by rank. Rooms of one rank never name each other.
const RANKS: [&[&str]; 7] = [
    &["verity", "event", "sys", "wire", "disk_cache"],
    &["store", "sign", "policy", "measure"],
    &["carrier"],
    &["export"],
    &["config", "proto", "monitor", "scrub"],
    &["app"],
    &["cli"],
];

/// Inside proto the front ends share these, and name no other front end. `fixture` is for their tests.
const SHARED: [&str; 2] = ["rpc", "fixture"];

fn rank(room: &str) -> usize {
    RANKS.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("{room} has no rank"))
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The names that follow `crate::`, or stand in the braces after it.
fn named(code: &str, prefix: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    code.match_indices(prefix)
        .flat_map(|(at, _)| {
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(list) => {
                    list.split('}').next().unwrap().split(',').map(|item| word(item.trim())).collect()
                }
                None => vec![word(rest)],
            }
        })
        .collect()
}

fn without_comments(code: &str) -> String {
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn rooms_name_only_rooms_of_lower_rank() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for path in sources(&src) {
        let relative = path.strip_prefix(&src).unwrap();
        let room =
            relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if room == "lib" || room == "main" {
            continue;
        }
        let code = without_comments(&fs::read_to_string(&path).unwrap());
        for other in named(&code, "crate::") {
            looked_at += 1;
            if other != room && rank(&other) >= rank(room) {
                wrong.push(format!("{} names {other}", relative.display()));
            }
        }
        if room == "proto" {
            let part = relative.components().nth(1).unwrap().as_os_str().to_str().unwrap();
            for other in named(&code, "crate::proto::") {
                let shared = SHARED.contains(&other.as_str());
                if !shared && other != part && part.trim_end_matches(".rs") != "mod" {
                    wrong.push(format!("{} names {other}", relative.display()));
                }
            }
        }
    }
    assert!(looked_at > 100, "only {looked_at} names were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_pure_rooms_know_no_clock_files_or_threads() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for room in ["verity", "sign", "policy"] {
        for path in sources(&src.join(room)) {
            let code = fs::read_to_string(&path).unwrap();
            let code = without_comments(code.split("#[cfg(test)]").next().unwrap());
            for word in ["std::fs", "std::net", "std::env", "std::time", "tokio", "async fn", "SystemTime"] {
                assert!(!code.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn source_files_stay_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in sources(&root.join("src")) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 800, "{} has {lines} lines", path.display());
    }
}
