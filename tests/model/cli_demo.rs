//! `nfs-verity demo`: the tour, and nothing left behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::cli::{Ends, command};

/// `demo` with a temporary directory of its own.
fn demo(place: &tempfile::TempDir) -> Command {
    let mut demo = command("demo");
    demo.env("TMPDIR", place.path()).env("RUST_LOG", "error");
    demo
}

fn left(place: &tempfile::TempDir) -> usize {
    fs::read_dir(place.path()).unwrap().count()
}

#[test]
fn the_tour_succeeds_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let said = demo(&place).arg("--once").ends(0);
    for fact in ["NFS3ERR_IO", "NFS3ERR_ACCES", "\"cause\":\"bad block\"", "\"block\":100", "mount -t nfs"] {
        assert!(said.out.contains(fact), "{fact} in {}", said.out);
    }
    assert!(!said.out.contains("FAILED"), "{}", said.out);
    assert!(said.out.lines().count() < 30, "short: {}", said.out);
    assert_eq!(left(&place), 0);
}

#[test]
fn it_serves_until_it_is_interrupted_and_cleans_up() {
    for signal in ["INT", "TERM"] {
        let place = tempfile::tempdir().unwrap();
        let mut child = demo(&place).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        let told: Vec<_> = lines.take_while(|line| !line.starts_with("Serving until Ctrl-C")).collect();
        let page = told.iter().find_map(|line| line.split_once("http://")?.1.strip_suffix('/'));
        std::net::TcpStream::connect(page.unwrap()).unwrap();
        assert_eq!(left(&place), 1);
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        assert_eq!(left(&place), 0, "{signal}");
    }
}

#[test]
fn a_demo_that_cannot_start_tells_why_and_cleans_up() {
    let place = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--monitor"] {
        demo(&place).args(["--once", flag, &address]).ends(3).complains_of(&[&address]);
        assert_eq!(left(&place), 0);
    }
    demo(&place).env("TMPDIR", place.path().join("none")).arg("--once").ends(3).complains_of(&["none"]);
}
