//! `nfs-verity convert` and `strip`: evidence moves, and files stay what they are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nfs_verity::carrier::Footer;

use crate::cli::{Ends, Said, command, contents, flip, head, sign, verify};
use crate::support::{Random, Site, content};

fn convert(site: &Site, to: &str) -> Command {
    let mut command = command("convert");
    command.args(["--json", "--to", to]).arg(site.tree());
    command
}

fn strip(site: &Site) -> Command {
    let mut command = command("strip");
    command.arg(site.tree());
    command
}

/// Moved, there already, without evidence, failed.
fn counts(said: &Said) -> [u64; 4] {
    let json = said.json();
    ["moved", "already", "without_evidence", "failed"].map(|name| json[name].as_u64().unwrap())
}

/// Paths and what lies there.
type Contents = Vec<(PathBuf, Vec<u8>)>;

/// The files of the tree without evidence, and the evidence, both by path.
fn state(site: &Site) -> (Contents, Contents) {
    let is_evidence = |entry: &(PathBuf, Vec<u8>)| entry.0.starts_with(site.evidence(""));
    let (evidence, files) = contents(&site.tree()).into_iter().partition(is_evidence);
    (files, evidence)
}

/// The data before a trailer; `None` where there is none.
fn before_trailer(bytes: &[u8]) -> Option<&[u8]> {
    let tail = bytes.get(bytes.len().checked_sub(Footer::SIZE)?..)?;
    let footer = Footer::parse(tail, bytes.len() as u64).unwrap()?;
    Some(&bytes[..usize::try_from(footer.data_size).unwrap()])
}

fn signed_site() -> Site {
    let site = Site::new();
    for (name, len) in [("empty", 0), ("d/small", 100), ("d/e/more", 4097), ("large", 1_234_567)] {
        site.put(name, &content(len as u64, len));
    }
    sign(&site).ends(0);
    site
}

#[test]
fn evidence_goes_through_all_carriers_and_comes_back_byte_for_byte() {
    let site = signed_site();
    let (files, evidence) = state(&site);
    for to in ["xattr", "appended", "sidecar", "appended", "xattr", "sidecar"] {
        assert_eq!(counts(&convert(&site, to).ends(0)), [4, 0, 0, 0], "{to}");
        assert_eq!(counts(&convert(&site, to).ends(0)), [0, 4, 0, 0], "{to} once more");
        let (now, beside) = state(&site);
        if to == "appended" {
            let data =
                now.iter().map(|(path, bytes)| (path.clone(), before_trailer(bytes).unwrap().to_vec()));
            assert_eq!(data.collect::<Vec<_>>(), files);
            assert!(beside.is_empty());
        } else {
            assert_eq!(now, files, "{to}");
        }
        if to == "xattr" {
            let names: Vec<_> = beside.iter().map(|(path, _)| path.file_name().unwrap()).collect();
            assert_eq!(names, ["more", "large"], "trees, where there are any");
            assert!(beside.iter().all(|(path, _)| !head(path).evidence.is_signed()));
        }
        if to == "sidecar" {
            assert_eq!(beside, evidence);
            verify(&site).ends(0);
        }
    }
}

#[test]
fn a_tree_that_is_lost_is_built_anew_where_the_data_are_what_was_signed() {
    let site = signed_site();
    let (files, evidence) = state(&site);
    convert(&site, "xattr").ends(0);
    fs::remove_dir_all(site.evidence("")).unwrap();
    flip(&site.tree().join("large"), 7);
    let said = convert(&site, "sidecar").ends(1);
    assert_eq!(counts(&said), [3, 0, 0, 1]);
    said.complains_of(&["large", "not what the evidence in xattr was made for"]);
    assert!(!site.evidence("large").exists());
    flip(&site.tree().join("large"), 7);
    assert_eq!(counts(&convert(&site, "sidecar").ends(0)), [1, 3, 0, 0]);
    assert_eq!(state(&site), (files, evidence));
}

#[test]
fn evidence_that_disagrees_or_does_not_fit_stays_where_it_is() {
    let site = signed_site();
    site.put("bare", b"nothing vouches for it");
    fs::OpenOptions::new().append(true).open(site.tree().join("d/small")).unwrap().set_len(99).unwrap();
    let linked = site.tree().join("linked");
    fs::hard_link(site.tree().join("d/e/more"), &linked).unwrap();
    let said = convert(&site, "appended").ends(1);
    assert_eq!(counts(&said), [2, 0, 2, 2]);
    said.complains_of(&["d/small", "for 100 bytes, the file has 99", "d/e/more", "hard links"]);
    assert!(site.evidence("d/small").exists() && site.evidence("d/e/more").exists());
    fs::remove_file(linked).unwrap();
    assert_eq!(counts(&convert(&site, "appended").arg("d/e").ends(0)), [1, 0, 0, 0]);

    let one = signed_site();
    convert(&one, "xattr").ends(0);
    sign(&one).args(["--namespace", "other", "--force"]).ends(0);
    let said = convert(&one, "xattr").ends(1);
    assert_eq!(counts(&said), [0, 0, 0, 4]);
    said.complains_of(&["sidecar and xattr hold different statements"]);
    assert_eq!(counts(&convert(&one, "appended").args(["--from", "sidecar"]).ends(0)), [4, 0, 0, 0]);
}

#[test]
fn wrong_uses_are_named() {
    let site = signed_site();
    convert(&site, "basement").ends(2).complains_of(&["basement", "sidecar"]);
    convert(&site, "xattr").args(["--from", "sidecar,xattr"]).ends(2).complains_of(&["--from and --to"]);
    strip(&site).ends(2);
    strip(&site).args(["--out", "x", "d", "large"]).ends(2).complains_of(&["name one PATH"]);
    strip(&site).args(["--out"]).arg(site.path("copy")).arg("large").ends(3).complains_of(&["no trailer"]);
    assert!(!site.path("copy").exists());
}

#[test]
fn an_executable_runs_with_a_trailer_and_is_itself_again_without() {
    let site = Site::new();
    let tool = site.tree().join("tool");
    fs::copy("/bin/true", &tool).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o751)).unwrap();
    let original = fs::read(&tool).unwrap();
    let seen = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        (meta.mode(), meta.mtime(), meta.mtime_nsec())
    };
    let before = seen(&tool);
    sign(&site).ends(0);
    convert(&site, "appended").ends(0);
    assert_eq!(before_trailer(&fs::read(&tool).unwrap()), Some(&original[..]));
    assert_eq!(seen(&tool), before);
    assert!(Command::new(&tool).status().unwrap().success(), "it runs from the raw store");

    let copy = site.path("copy");
    strip(&site).arg("--out").arg(&copy).arg("tool").ends(0);
    assert_eq!((fs::read(&copy).unwrap() == original, seen(&copy)), (true, before));
    assert!(fs::read(&tool).unwrap().len() > original.len(), "left as it was");
    let said = strip(&site).args(["--json", "tool"]).ends(0);
    assert_eq!(said.json(), serde_json::json!({ "stripped": 1, "without_trailer": 0, "failed": 0 }));
    assert_eq!((fs::read(&tool).unwrap() == original, seen(&tool)), (true, before));
    let said = strip(&site).args(["--json", "."]).ends(0);
    assert_eq!(said.json(), serde_json::json!({ "stripped": 0, "without_trailer": 1, "failed": 0 }));
}

#[test]
fn a_damaged_footer_is_not_cut_off_by_guess() {
    let site = signed_site();
    convert(&site, "appended").ends(0);
    let file = site.tree().join("large");
    let size = fs::metadata(&file).unwrap().len();
    flip(&file, size - 16);
    let said = strip(&site).args(["--json", "."]).ends(1);
    assert_eq!(said.json(), serde_json::json!({ "stripped": 3, "without_trailer": 0, "failed": 1 }));
    said.complains_of(&["large", "footer"]);
    assert_eq!(fs::metadata(&file).unwrap().len(), size);
}

/// Files of the test that kills.
const KILLED: u64 = 60;

#[test]
fn long_killed_at_any_moment_every_file_has_its_evidence_somewhere() {
    let site = Site::new();
    for n in 0..KILLED {
        site.put(format!("d{}/f{n}", n % 7), &content(n, 600_000));
    }
    sign(&site).ends(0);
    let (files, evidence) = state(&site);
    let mut random = Random::new(11);
    let (mut killed, mut mixed) = (0, 0);
    for round in 0..16 {
        let to = if round % 2 == 0 { "appended" } else { "sidecar" };
        let mut child = convert(&site, to).args(["--jobs", "2"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(1000 + random.below(150_000)));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().signal().is_some());
        let mut here = 0;
        for (path, bytes) in &files {
            let now = fs::read(path).unwrap();
            let beside = site.evidence(path.strip_prefix(site.tree()).unwrap());
            let whole = beside.exists() && head(&beside).evidence.is_signed();
            let data = before_trailer(&now);
            assert!(data.unwrap_or(&now) == bytes, "round {round}: {}", path.display());
            assert!(whole || data.is_some(), "round {round}: {} lost its evidence", path.display());
            here += u64::from(data.is_some());
        }
        mixed += u32::from((1..KILLED).contains(&here));
        assert_eq!(counts(&convert(&site, to).ends(0))[3], 0);
    }
    convert(&site, "sidecar").ends(0);
    let (now, mut beside) = state(&site);
    beside.retain(|(path, _)| !path.starts_with(site.evidence(".nfs-verity")));
    assert_eq!((now == files, beside == evidence), (true, true));
    verify(&site).ends(0);
    println!("killed at work: {killed} of 16, in the midst: {mixed}");
    assert!(killed > 0 && mixed > 0, "{killed} {mixed}");
}
