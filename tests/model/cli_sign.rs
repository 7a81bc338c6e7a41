//! `nfs-verity sign`: what is signed, what is left alone, and what is left unsigned.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nfs_verity::verity::Descriptor;
use serde_json::{Value, json};

use crate::cli::{
    Ends, Said, command, contents, fsverity, head, inspect, keygen, sign, unprivileged, verify,
};
use crate::support::{Random, Site, content, eventually, write_private};

/// The counts that `sign --json` gives: signed, unchanged, failed.
fn counts(said: &Said) -> (u64, u64, u64) {
    let json = said.json();
    let count = |name: &str| json[name].as_u64().unwrap();
    (count("signed"), count("unchanged"), count("failed"))
}

fn inspected(site: &Site, path: &str) -> Value {
    inspect(site, path).ends(0).json()
}

fn version(site: &Site, path: &str) -> u64 {
    inspected(site, path)["statement"]["version"].as_u64().unwrap()
}

/// Gives a signed file other content.
fn change(site: &Site, path: &str, bytes: &[u8]) {
    fs::write(site.tree().join(path), bytes).unwrap();
}

#[test]
fn digests_and_descriptors_are_those_of_fsverity_for_every_parameter() {
    let site = Site::new();
    let id = keygen(&site, "other");
    for (name, len) in [("empty", 0), ("byte", 1), ("block", 4096), ("more", 4097), ("d/large", 1_234_567)] {
        site.put(name, &content(len as u64, len));
    }
    let sparse = File::create(site.tree().join("sparse")).unwrap();
    sparse.write_all_at(b"in the middle", 3 << 20).unwrap();
    // Between two of the largest blocks' boundaries.
    sparse.write_all_at(&content(7, 100_000), (5 << 20) + 3 * 4096).unwrap();
    sparse.set_len(9_999_999).unwrap();
    let salt = "c0ffee".repeat(10) + "0102";
    for (hash, block_size, salt) in
        [("sha256", 4096, ""), ("sha512", 1024, ""), ("sha256", 65536, "5a"), ("sha512", 4096, &*salt)]
    {
        let block_size_text = block_size.to_string();
        let flags = ["--hash", hash, "--block-size", &block_size_text, "--salt", salt, "--json"];
        let said =
            command("sign").arg("--key").arg(site.path("other.key")).arg(site.tree()).args(flags).ends(0);
        assert_eq!(counts(&said), (6, 0, 0));
        let mut oracle = vec![format!("--hash-alg={hash}"), format!("--block-size={block_size}")];
        if !salt.is_empty() {
            oracle.push(format!("--salt={salt}"));
        }
        for name in ["empty", "byte", "block", "more", "d/large", "sparse"] {
            let (file, descriptor) = (site.tree().join(name), site.path("descriptor"));
            let more = [&oracle[..], &[format!("--out-descriptor={}", descriptor.display())]].concat();
            let json = inspected(&site, name);
            assert_eq!(json["file_digest"], fsverity(&file, &more), "{name} {flags:?}");
            let descriptor = fs::read(descriptor).unwrap();
            assert_eq!(json["descriptor"], hex::encode(&descriptor), "{name} {flags:?}");
            let digest_size = if hash == "sha256" { 32 } else { 64 };
            assert_eq!(json["root_hash"], hex::encode(&descriptor[16..16 + digest_size]));
            assert_eq!(
                (&json["path"], &json["size"], &json["status"]),
                (&json!(name), &json!(fs::metadata(&file).unwrap().len()), &json!("signed"))
            );
            assert_eq!(
                (&json["hash_algorithm"], &json["block_size"], &json["salt"]),
                (&json!(hash), &json!(block_size), &json!(salt))
            );
            assert_eq!(json["signers"], json!([{ "key_id": id, "format": "native" }]));
        }
    }
}

#[test]
fn a_second_run_signs_nothing() {
    let site = Site::new();
    for n in 0..20 {
        site.put(format!("d{}/f{n}", n % 3), &content(n, 5000));
    }
    assert_eq!(counts(&sign(&site).arg("--json").ends(0)), (20, 0, 0));
    let evidence = contents(&site.evidence(""));
    assert_eq!(evidence.len(), 20, "and nothing unfinished is left");
    assert_eq!(counts(&sign(&site).arg("--json").ends(0)), (0, 20, 0));
    assert_eq!(contents(&site.evidence("")), evidence);
    assert!(sign(&site).ends(0).out.contains("signed 0 files, 20 unchanged"));
}

#[test]
fn a_changed_file_is_signed_again_under_the_next_version() {
    let site = Site::new();
    site.put("a", b"one");
    site.put("b", b"one");
    sign(&site).ends(0);
    assert_eq!((version(&site, "a"), version(&site, "b")), (1, 1));
    for expected in 2..5 {
        change(&site, "a", format!("content {expected}").as_bytes());
        assert_eq!(counts(&sign(&site).arg("--json").ends(0)), (1, 1, 0));
        assert_eq!((version(&site, "a"), version(&site, "b")), (expected, 1));
    }
    // Of the same length, and touched alone.
    change(&site, "a", b"content X");
    assert_eq!(counts(&sign(&site).arg("--json").ends(0)), (1, 1, 0));
    change(&site, "a", b"content X");
    assert_eq!(counts(&sign(&site).arg("--json").ends(0)), (1, 1, 0));
    assert_eq!(version(&site, "a"), 5, "the content is what it was");
    verify(&site).ends(0);
}

#[test]
fn what_is_asked_for_anew_is_signed_anew() {
    let site = Site::new();
    site.put("f", b"content");
    sign(&site).ends(0);
    keygen(&site, "second");
    let run = |args: &[&str], key: PathBuf| {
        let said = command("sign").arg("--key").arg(key).arg(site.tree()).arg("--json").args(args).ends(0);
        counts(&said)
    };
    assert_eq!(run(&["--force"], site.key()), (1, 0, 0));
    assert_eq!(version(&site, "f"), 1, "the same content");
    for args in [
        &["--salt", "00"][..],
        &["--hash", "sha512"],
        &["--block-size", "1024"],
        &["--namespace", "tree"],
        &["--expires", "2999-01-01T00:00:00Z"],
        &[],
    ] {
        assert_eq!(run(args, site.key()), (1, 0, 0), "{args:?}");
        assert_eq!(run(args, site.key()), (0, 1, 0), "{args:?}");
    }
    assert_eq!(run(&[], site.path("second.key")), (1, 0, 0));
    assert_eq!(run(&[], site.path("second.key")), (0, 1, 0));
}

#[test]
fn what_has_expired_is_signed_again_and_its_version_goes_on() {
    let site = Site::new();
    site.put("f", b"one");
    let past = ["--expires", "2020-01-01T00:00:00Z"];
    sign(&site).args(past).ends(0);
    assert!(verify(&site).ends(1).out.contains("f: expired"));
    change(&site, "f", b"two");
    sign(&site).args(past).ends(0);
    assert_eq!(version(&site, "f"), 2, "expired evidence tells the version all the same");
    assert_eq!(counts(&sign(&site).arg("--json").ends(0)), (1, 0, 0));
    assert_eq!(version(&site, "f"), 2);
    verify(&site).ends(0);
}

#[test]
fn damaged_evidence_is_made_anew() {
    let site = Site::new();
    site.put("f", &content(1, 100_000));
    sign(&site).ends(0);
    let whole = fs::read(site.evidence("f")).unwrap();
    for cut in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(site.evidence("f"), &whole[..cut]).unwrap();
        assert_eq!(counts(&sign(&site).arg("--json").ends(0)), (1, 0, 0), "cut at {cut}");
        verify(&site).ends(0);
    }
}

#[test]
fn paths_are_relative_to_the_root_and_stay_in_it() {
    let site = Site::new();
    for name in ["a/one", "a/two", "b/three", "four"] {
        site.put(name, name.as_bytes());
    }
    fs::write(site.path("outside"), "x").unwrap();
    let absolute = site.tree().join("four");
    for bad in ["..", "../outside", "a/../four", "/", "/etc/passwd", absolute.to_str().unwrap()] {
        sign(&site).args(["four", bad]).ends(2).complains_of(&["relative to ROOT"]);
        verify(&site).args(["four", bad]).ends(2).complains_of(&["relative to ROOT"]);
    }
    sign(&site).args(["four", ""]).ends(2);
    assert!(!site.evidence("").exists(), "a bad PATH keeps the good ones from being signed");
    assert_eq!(counts(&sign(&site).args(["--json", "./a/", "four"]).ends(0)), (3, 0, 0));
    assert!(verify(&site).ends(1).out.contains("b/three: unsigned"));
    let said = sign(&site).args(["--json", "none/such", "b/three"]).ends(3);
    said.complains_of(&["none/such"]);
    assert_eq!(counts(&said), (1, 0, 1), "the others are signed");
    assert_eq!(counts(&sign(&site).args(["--json", "."]).ends(0)), (0, 4, 0));
    command("sign").arg("--key").arg(site.key()).arg(site.path("none")).ends(3).complains_of(&["none"]);
}

#[test]
fn a_wrong_key_is_named_with_what_is_wrong() {
    let site = Site::new();
    site.put("f", b"content");
    let file = |name: &str, bytes: &[u8]| {
        write_private(&site.path(name), bytes);
        site.path(name)
    };
    let bare = Command::new("openssl").args(["ecparam", "-name", "prime256v1", "-genkey", "-noout"]).output();
    let bare = bare.unwrap();
    assert!(bare.status.success(), "{bare:?}");
    for (key, code, words) in [
        (site.path("trust/release.pub"), 2, &["release.pub", "PRIVATE KEY"][..]),
        (file("bare", &bare.stdout), 2, &["bare", "EC PRIVATE KEY", "openssl pkcs8 -topk8"]),
        (file("garbage", b"\xff\x00 no key"), 2, &["garbage"]),
        (file("empty", b""), 2, &["empty"]),
        (site.path("none.key"), 3, &["none.key"]),
        (site.tree(), 3, &["tree"]),
    ] {
        command("sign").arg("--key").arg(key).arg(site.tree()).ends(code).complains_of(words);
    }
    fs::set_permissions(site.key(), fs::Permissions::from_mode(0o000)).unwrap();
    unprivileged(&sign(&site)).ends(3).complains_of(&["release.key", "ermission"]);
    assert!(!site.evidence("").exists());
}

#[test]
fn what_cannot_be_read_is_reported_and_the_rest_is_signed() {
    let site = Site::new();
    for name in ["closed/in", "open/in", "closed-file", "z"] {
        site.put(name, name.as_bytes());
    }
    let close = |name: &str, mode| {
        fs::set_permissions(site.tree().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    close("closed", 0o000);
    close("closed-file", 0o000);
    let said = unprivileged(sign(&site).arg("--json")).ends(3);
    said.complains_of(&["closed: ", "closed-file: "]);
    assert_eq!(counts(&said), (2, 0, 2));
    let said = unprivileged(verify(&site).arg("--json")).ends(3);
    said.complains_of(&["closed: ", "closed-file: "]);
    let json = said.json_lines();
    assert_eq!((&json[0]["good"], &json[0]["unreadable"]), (&json!(2), &json!(2)), "{}", said.out);
    close("closed", 0o755);
    close("closed-file", 0o644);
    assert_eq!(counts(&sign(&site).arg("--json").ends(0)), (2, 2, 0));
}

/// Waits until `sign` has looked at a file and hashes it, and stops it there.
fn stopped_while_hashing(site: &Site, child: &mut Child) {
    let scratch = site.evidence(".nfs-verity");
    eventually("the evidence is begun", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended before the file could be changed");
        fs::read_dir(&scratch).is_ok_and(|mut names| names.next().is_some())
    });
    rustix::process::kill_process(pid(child), rustix::process::Signal::STOP).unwrap();
    let state = format!("/proc/{}/stat", child.id());
    eventually("it has stopped", || fs::read_to_string(&state).unwrap().contains(") T "));
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 1, "it was stopped while it hashed");
}

fn pid(child: &Child) -> rustix::process::Pid {
    rustix::process::Pid::from_child(child)
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Large enough that hashing it takes far longer than seeing that it began.
const LONG_TO_HASH: u64 = 512 << 20;

#[test]
fn a_file_that_changes_underneath_is_reported_and_left_unsigned() {
    let overwrite = |file: &Path| {
        File::options().write(true).open(file).unwrap().write_all_at(b"x", LONG_TO_HASH - 1).unwrap();
    };
    let truncate =
        |file: &Path| File::options().write(true).open(file).unwrap().set_len(LONG_TO_HASH / 2).unwrap();
    let extend =
        |file: &Path| File::options().write(true).open(file).unwrap().set_len(LONG_TO_HASH + 1).unwrap();
    let replace = |file: &Path| {
        let new = file.with_file_name("new");
        File::create(&new).unwrap().set_len(LONG_TO_HASH).unwrap();
        fs::rename(new, file).unwrap();
    };
    for (what, change) in [
        ("overwritten", &overwrite as &dyn Fn(&Path)),
        ("truncated", &truncate),
        ("extended", &extend),
        ("replaced", &replace),
    ] {
        let site = Site::new();
        let file = site.tree().join("big");
        // Allocated, so that it is read and not skipped as a hole.
        let made = File::create(&file).unwrap();
        let mode = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&made, mode, 0, LONG_TO_HASH).unwrap();
        made.write_all_at(&content(1, 4096), 0).unwrap();
        for at in (0..LONG_TO_HASH).step_by(1 << 20) {
            made.write_all_at(b"data", at).unwrap();
        }
        drop(made);
        let mut child = spawn(sign(&site).arg("--json"));
        stopped_while_hashing(&site, &mut child);
        change(&file);
        rustix::process::kill_process(pid(&child), rustix::process::Signal::CONT).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(said.contains("big: it changed while it was read and was left unsigned"), "{what}: {said}");
        assert!(contents(&site.evidence("")).is_empty(), "{what}: nothing is left of it");
        assert!(verify(&site).ends(1).out.contains("big: unsigned"), "{what}");
    }
}

#[test]
fn a_file_that_is_never_at_rest_holds_up_nothing() {
    let site = Site::new();
    site.put("busy", &content(1, 10_000));
    site.put("calm", b"content");
    let file = File::options().write(true).open(site.tree().join("busy")).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let done = done.clone();
        move || {
            let mut byte = 0_u8;
            while !done.load(Ordering::Acquire) {
                byte = byte.wrapping_add(1);
                file.write_all_at(&[byte], 77).unwrap();
            }
        }
    });
    let output = sign(&site).arg("--json").output().unwrap();
    done.store(true, Ordering::Release);
    writer.join().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(site.evidence("calm").exists());
    // On a loaded machine the writer may rest for long enough.
    match output.status.code() {
        Some(0) => assert!(site.evidence("busy").exists()),
        Some(1) => assert!(said.contains("busy: it changed") && !site.evidence("busy").exists(), "{said}"),
        _ => panic!("{}: {said}", output.status),
    }
}

const KILLED: u64 = 150;

/// Kills `sign` a random while after it began the evidence of a random file; true when it was still
/// at work.
fn killed(site: &Site, args: &[&str], random: &mut Random) -> bool {
    let (file, delay) = (random.below(KILLED), Duration::from_micros(random.below(3000)));
    let mut child = spawn(sign(site).args(args));
    // Unfinished evidence is numbered: tmp-PROCESS-NUMBER-RANDOM.
    let number =
        |name: &str| name.strip_prefix(&format!("tmp-{}-", child.id()))?.split('-').next()?.parse().ok();
    let begun = || {
        let names = fs::read_dir(site.evidence(".nfs-verity")).into_iter().flatten().map(Result::unwrap);
        names.filter_map(|name| number(name.file_name().to_str()?)).max()
    };
    while begun() < Some(file) && is_running(&child) {
        std::thread::yield_now();
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap().signal().is_some()
}

/// Whether a process has not ended, without waiting for its end.
fn is_running(child: &Child) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", child.id())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn long_killed_at_any_moment_every_file_has_old_or_new_evidence() {
    let site = Site::new();
    for n in 0..KILLED {
        // Trees of two levels, so that there is a tree to be torn.
        site.put(format!("d{}/f{n}", n % 7), &content(n, 600_000));
    }
    sign(&site).args(["--salt", "aa"]).ends(0);
    let mut random = Random::new(7);
    let (mut killed_at_work, mut mixed) = (0, 0);
    for round in 0..24 {
        let fresh = round % 2 == 0;
        if fresh {
            fs::remove_dir_all(site.evidence("")).unwrap();
        }
        killed_at_work += u32::from(killed(&site, &["--salt", "bb", "--force"], &mut random));
        let output = verify(&site).arg("--json").output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (summary, failures) = lines.split_last().unwrap();
        let only_unsigned = failures.iter().all(|line| fresh && line["cause"] == "unsigned");
        assert!(only_unsigned && summary["unreadable"] == 0, "round {round}: {lines:#?}");
        let mut evidence = contents(&site.evidence(""));
        evidence.retain(|(path, _)| !path.starts_with(site.evidence(".nfs-verity")));
        let salt = |path: &Path| {
            Descriptor::parse(&head(path).evidence.descriptor.unwrap()).unwrap().params.salt.to_string()
        };
        let new = evidence.iter().filter(|(path, _)| salt(path) == "bb").count() as u64;
        mixed += u32::from((1..KILLED).contains(&new));
        sign(&site).args(["--salt", "aa"]).ends(0);
        verify(&site).ends(0);
    }
    println!("killed at work: {killed_at_work} of 24, in the midst: {mixed}");
    assert!(killed_at_work > 0 && mixed > 0, "{killed_at_work} {mixed}");
}

#[test]
fn long_the_number_of_jobs_makes_no_difference_to_the_evidence() {
    let site = Site::new();
    for n in 0..2000_usize {
        site.put(format!("d{}/e{}/f{n}", n % 10, n % 7), &content(n as u64, n * 7));
    }
    let signed = |jobs: &str| {
        let _ = fs::remove_dir_all(site.evidence(""));
        assert_eq!(counts(&sign(&site).args(["--json", "--jobs", jobs]).ends(0)), (2000, 0, 0));
        contents(&site.evidence(""))
    };
    // Ed25519 gives the same signature for the same statement.
    let (one, eight) = (signed("1"), signed("8"));
    assert_eq!(one.len(), 2000);
    assert!(one == eight);
    for jobs in ["1", "8"] {
        verify(&site).args(["--jobs", jobs]).ends(0);
    }
}

#[test]
fn long_a_sparse_file_of_100_gib_is_signed_in_little_memory() {
    const SIZE: u64 = 100 << 30;
    const MEMORY: u64 = 64 << 20;
    let site = Site::new();
    let disk = rustix::fs::statvfs(site.dir.path()).unwrap();
    let free = disk.f_bavail * disk.f_frsize;
    let place = site.dir.path().display();
    assert!(free > 1 << 30, "{free} bytes are free at {place}; this test needs 1 GiB (set TMPDIR)");
    let file = File::create(site.tree().join("huge")).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"the end", SIZE - 7).unwrap();

    // A tree of 100 MiB, so that it cannot be kept in memory either.
    let flags = ["--hash", "sha512", "--block-size", "65536", "--json"];
    let mut child = spawn(sign(&site).args(flags));
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // The process may end between the two.
        if let Some(kilobytes) = fs::read_to_string(&status).ok().as_deref().and_then(high_water) {
            peak = kilobytes * 1024;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let (mut said, mut complaint) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert!(child.wait().unwrap().success(), "{complaint}");
    println!("peak {} KiB", peak / 1024);
    assert!(peak > 0 && peak < MEMORY, "{peak} bytes of memory");
    let json = inspected(&site, "huge");
    assert_eq!((&json["size"], &json["tree"]["data_blocks"]), (&json!(SIZE), &json!(SIZE / 65536)));
    assert_eq!(counts(&sign(&site).args(flags).ends(0)), (0, 1, 0));
}

/// The largest resident set so far, in KiB.
fn high_water(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

/// Bytes of a file in the page cache.
fn cached(path: &Path) -> u64 {
    let output =
        Command::new("fincore").args(["--bytes", "--noheadings", "--output", "RES"]).arg(path).output();
    let output = output.expect("fincore is missing: install util-linux");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn what_was_read_is_dropped_behind_the_hash_where_that_is_asked_for() {
    // Where files are on a disk: what lies in memory alone has nowhere to go.
    let tree = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let site = Site::new();
    let (file, size) = (tree.path().join("file"), 24 << 20);
    fs::write(&file, content(7, size)).unwrap();
    // What is not on the disk yet cannot be dropped.
    fs::File::open(&file).unwrap().sync_all().unwrap();
    let sign = |more: &[&str]| {
        command("sign").arg("--key").arg(site.key()).args(more).arg(tree.path()).ends(0);
        cached(&file)
    };
    assert_eq!(sign(&[]), size as u64);
    let left = sign(&["--force", "--drop-behind"]);
    assert!(left < size as u64 / 8, "{left}");
}
