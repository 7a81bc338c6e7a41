//! `nfs-verity scrub`: what it finds, how it goes on, and how it ends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::cli::{Ends, command, flip};
use crate::cli_serve::{audit, events};
use crate::support::{Client, Site, content, eventually};

fn scrub(site: &Site) -> Command {
    let mut scrub = command("scrub");
    scrub.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust());
    scrub.arg("--state").arg(site.path("state"));
    scrub
}

/// A tree of five signed files.
fn signed() -> Site {
    let site = Site::new();
    for (n, name) in ["a", "b/c", "b/d/e", "b-", "z"].iter().enumerate() {
        site.put(name, &content(n as u64, 100_000));
    }
    site.sign(&[]);
    site
}

/// The place that is kept.
fn places(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.path("state")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end != "lock" && end != "new")).collect()
}

fn leftover(site: &Site, name: &str, age: Duration) -> PathBuf {
    let path = site.evidence(".nfs-verity").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "unfinished").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    path
}

const DAYS: Duration = Duration::from_secs(3 * 86_400);

#[test]
fn a_good_store_is_good_again_and_again() {
    let site = signed();
    for _ in 0..2 {
        let lines = scrub(&site).arg("--json").ends(0).json_lines();
        let wanted = json!({
            "complete": true, "files": 5, "good": 5, "bytes": 500_000, "findings": {}, "repaired": 0,
        });
        assert_eq!(lines, [wanted]);
    }
    let said = scrub(&site).ends(0);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("5 files, 500000 bytes: 5 good\n", ""));
    let empty = Site::new();
    assert_eq!(scrub(&empty).ends(0).out, "0 files, 0 bytes: 0 good\n");
}

#[test]
fn every_finding_is_told_with_its_kind_and_its_place() {
    let site = signed();
    flip(&site.tree().join("b/c"), 5 * 4096);
    flip(&site.tree().join("b/c"), 7 * 4096);
    site.put("new", b"who wrote this?");
    fs::remove_file(site.tree().join("a")).unwrap();
    fs::remove_file(site.tree().join("b-")).unwrap();
    fs::create_dir(site.tree().join("b-")).unwrap();
    leftover(&site, "tmp-1", DAYS);
    leftover(&site, "tmp-2", Duration::ZERO);
    leftover(&site, "handle.key", DAYS);
    let lines = scrub(&site).arg("--json").ends(1).json_lines();
    let (summary, found) = lines.split_last().unwrap();
    let found: Vec<_> = found.iter().map(|line| (&line["path"], &line["finding"])).collect();
    let wanted = [
        ("b/c", "bad block"),
        ("new", "unsigned"),
        (".nfs-verity/a", "orphan evidence"),
        (".nfs-verity/b-", "orphan evidence"),
        (".nfs-verity/.nfs-verity/tmp-1", "unfinished file"),
    ];
    let wanted: Vec<_> = wanted.iter().map(|(path, what)| (json!(path), json!(what))).collect();
    assert_eq!(found, wanted.iter().map(|(path, what)| (path, what)).collect::<Vec<_>>());
    assert_eq!((&lines[0]["block"], &lines[0]["failing_blocks"]), (&json!(5), &json!(2)));
    let counts = json!({ "bad block": 1, "unsigned": 1, "orphan evidence": 2, "unfinished file": 1 });
    assert_eq!((&summary["findings"], &summary["good"]), (&counts, &json!(2)));
    let text = scrub(&site).ends(1).out;
    assert!(text.starts_with("b/c: bad block 5 and 1 more (expected "), "{text}");
    assert!(text.contains("\n.nfs-verity/a: orphan evidence; restore the file"), "{text}");
}

#[test]
fn unfinished_files_are_removed_when_they_are_old_and_it_may() {
    let site = signed();
    let (old, new) = (leftover(&site, "tmp-1", DAYS), leftover(&site, "tmp-2", Duration::ZERO));
    let other = leftover(&site, "handle.key", DAYS);
    scrub(&site).ends(1);
    assert!(old.exists(), "it only looks");
    assert!(scrub(&site).arg("--repair").ends(0).out.contains("tmp-1: unfinished file (removed); repaired"));
    assert!(!old.exists() && new.exists() && other.exists());
    scrub(&site).ends(0);
}

#[test]
fn a_good_copy_on_a_replica_is_named() {
    let (site, replica) = copied();
    flip(&site.tree().join("z"), 3);
    flip(&site.tree().join("a"), 3);
    flip(&replica.join("a"), 9000);
    let said = scrub(&site).arg("--replica").arg(&replica).ends(1).out;
    assert!(said.contains(&format!("a good copy is on local {}", replica.display())), "{said}");
    assert!(said.contains("no store has a good copy"), "{said}");
}

#[test]
fn a_file_that_is_lost_comes_back_from_a_replica() {
    let (site, replica) = copied();
    let lost = site.tree().join("b/c");
    let content = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let with = || {
        let mut scrub = scrub(&site);
        scrub.arg("--replica").arg(&replica);
        scrub
    };
    assert!(with().ends(1).out.contains(".nfs-verity/b/c: orphan evidence"));
    assert!(!lost.exists(), "it only looks");
    let said = with().arg("--repair").ends(0).out;
    assert!(said.contains(".nfs-verity/b/c: orphan evidence (") && said.contains("; repaired\n"), "{said}");
    assert_eq!(fs::read(&lost).unwrap(), content);
    with().ends(0);
}

/// A site and a copy of its tree.
fn copied() -> (Site, PathBuf) {
    let site = signed();
    let replica = site.path("replica");
    let copied = Command::new("cp").arg("-a").arg(site.tree()).arg(&replica).status().unwrap();
    assert!(copied.success());
    (site, replica)
}

#[test]
fn a_replica_that_rots_is_found_out_before_it_is_needed_and_repaired() {
    let (site, replica) = copied();
    flip(&replica.join("b/c"), 5 * 4096);
    fs::remove_file(replica.join("z")).unwrap();
    fs::remove_file(replica.join(".nfs-verity/z")).unwrap();
    let with = || {
        let mut scrub = scrub(&site);
        scrub.arg("--replica").arg(&replica);
        scrub
    };
    let name = format!("local {}", replica.display());
    let lines = with().arg("--json").ends(1).json_lines();
    let (summary, found) = lines.split_last().unwrap();
    let found: Vec<_> = found.iter().map(|line| (&line["path"], &line["store"], &line["finding"])).collect();
    assert_eq!(
        found,
        [
            (&json!("b/c"), &json!(name), &json!("bad block")),
            (&json!("z"), &json!(name), &json!("missing copy"))
        ]
    );
    assert_eq!((&summary["files"], &summary["good"]), (&json!(10), &json!(8)), "each copy is a file");
    let text = with().ends(1).out;
    assert!(text.contains(&format!("b/c on {name}: bad block 5 (")), "{text}");
    assert!(text.contains(&format!("a good copy is on local {}", site.tree().display())), "{text}");
    // The other way round nothing is missing: the store decides which files there are.
    let mut turned = command("scrub");
    turned.arg("--store").arg(&replica).arg("--replica").arg(site.tree()).arg("--trust").arg(site.trust());
    let found = turned.arg("--state").arg(site.path("turned")).arg("--json").ends(1).json_lines();
    assert_eq!((found.len(), &found[0]["path"], &found[0]["store"]), (2, &json!("b/c"), &Value::Null));

    let said = with().args(["--repair", "--repair-after", "0"]).ends(0).out;
    assert_eq!(said.matches("; repaired\n").count(), 2, "{said}");
    assert_eq!(with().ends(0).out, "10 files, 1000000 bytes: 10 good\n");
}

#[test]
fn a_replica_that_cannot_be_asked_is_one_finding_and_the_store_is_scrubbed() {
    let site = signed();
    flip(&site.tree().join("b/c"), 5 * 4096);
    let dead = "nfs://127.0.0.1:1/x?source=any";
    let lines = scrub(&site).args(["--json", "--replica", dead]).ends(3).json_lines();
    let found: Vec<_> = lines.iter().filter_map(|line| line["finding"].as_str()).collect();
    assert_eq!(found, ["unreadable", "bad block"]);
    assert!(lines[0]["store"].as_str().unwrap().contains("127.0.0.1"), "{lines:?}");
    assert_eq!(lines.last().unwrap()["files"], 5);
}

#[test]
fn a_gateway_scrubs_its_replicas_too() {
    let (site, replica) = copied();
    flip(&replica.join("b/c"), 5 * 4096);
    let log = site.path("audit.log");
    let flags = ["--scrub", "24h", "--replica", replica.to_str().unwrap()];
    let served = site.serve(&[&flags[..], &["--audit-log", log.to_str().unwrap()]].concat());
    eventually("it scrubs", || !events(&log, "scrub-ended").is_empty());
    let found = events(&log, "scrub-finding");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["path"], &found[0]["finding"]), (&json!("b/c"), &json!("bad block")));
    assert_eq!(found[0]["store"], format!("local {}", replica.display()));
    assert_eq!(served.metric("nfs_verity_scrub_files_total"), 10.0);
}

/// A scrub that is slow, once it has kept its place behind some file.
fn slow(site: &Site) -> Child {
    let mut scrub = scrub(site);
    scrub.args(["--rate", "1", "--jobs", "1", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = scrub.spawn().unwrap();
    eventually("a place is kept", || !places(site).is_empty());
    child
}

/// A site that takes seconds at 1 MB/s, with `n` unsigned files in order.
fn large(n: usize) -> Site {
    let site = Site::new();
    for k in 0..n {
        site.put(format!("{k:03}/f"), &content(k as u64, 200_000));
    }
    site.sign(&[]);
    for k in 0..n {
        site.put(format!("{k:03}/unsigned"), b"x");
    }
    site
}

fn paths(lines: &[Value]) -> Vec<String> {
    let paths = lines.iter().filter_map(|line| line["path"].as_str());
    paths.map(str::to_owned).collect()
}

fn parsed(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn killed_midway_it_goes_on_and_every_file_is_counted_once() {
    let n = 30;
    let site = large(n);
    let mut child = slow(&site);
    child.kill().unwrap();
    let before = parsed(&child.wait_with_output().unwrap().stdout);
    let said = scrub(&site).arg("--json").ends(1);
    said.complains_of(&["goes on behind "]);
    let after = said.json_lines();
    let summary = after.last().unwrap();
    assert_eq!((&summary["files"], &summary["good"]), (&json!(2 * n), &json!(n)));
    assert_eq!(summary["findings"], json!({ "unsigned": n }));
    let (before, after) = (paths(&before), paths(&after));
    assert!(after.len() < n, "it did not start anew");
    let all: BTreeSet<_> = before.iter().chain(&after).collect();
    assert_eq!(all.len(), n, "no finding is left out");
    assert_eq!(scrub(&site).arg("--json").ends(1).json_lines().len(), n + 1, "and the next one starts anew");
}

#[test]
fn interrupted_it_says_so_and_keeps_the_very_place() {
    let n = 30;
    let site = large(n);
    let child = slow(&site);
    let told = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let before = parsed(&output.stdout);
    assert_eq!(before.last().unwrap()["complete"], false);
    let after = scrub(&site).arg("--json").ends(1).json_lines();
    assert_eq!(after.last().unwrap()["findings"], json!({ "unsigned": n }));
    assert_eq!(paths(&before).len() + paths(&after).len(), n, "nothing is told twice");
}

#[test]
fn a_place_that_is_damaged_is_said_and_left() {
    let site = large(20);
    let mut child = slow(&site);
    child.kill().unwrap();
    child.wait().unwrap();
    let place = places(&site).remove(0);
    flip(&place, 40);
    let said = scrub(&site).arg("--json").ends(1);
    said.complains_of(&["starts anew", "damaged"]);
    assert_eq!(said.json_lines().len(), 21);
}

#[test]
fn two_scrubs_do_not_share_a_place() {
    let site = large(20);
    let mut child = slow(&site);
    scrub(&site).ends(3).complains_of(&["another scrub", "--state"]);
    let mut elsewhere = command("scrub");
    elsewhere.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust());
    elsewhere.arg("--state").arg(site.path("other")).ends(1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_it_cannot_do_has_its_own_exit_status() {
    let site = signed();
    let with = |store: &str| {
        let mut scrub = command("scrub");
        scrub.arg("--store").arg(store).arg("--trust").arg(site.trust());
        scrub.arg("--state").arg(site.path("state"));
        scrub
    };
    with("nowhere://x").ends(2).complains_of(&["nowhere", "scheme"]);
    with("/none/at/all").ends(3).complains_of(&["/none/at/all"]);
    scrub(&site).args(["--rate", "0"]).ends(2);
    let mut homeless = command("scrub");
    homeless.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust());
    homeless.env_remove("HOME").env_remove("XDG_STATE_HOME").ends(3).complains_of(&["--state"]);
}

#[test]
fn a_gateway_scrubs_by_itself_and_tells_it_everywhere() {
    let site = signed();
    flip(&site.tree().join("b/c"), 5 * 4096);
    fs::remove_file(site.tree().join("z")).unwrap();
    let log = site.path("audit.log");
    let flags = ["--scrub", "1s", "--scrub-rate", "100", "--audit-log", log.to_str().unwrap()];
    let mut served = site.serve(&flags);
    let complete = "nfs_verity_scrub_runs_total{result=\"complete\"}";
    eventually("it scrubs again and again", || served.metric(complete) >= 2.0);
    for (metric, value) in [
        ("nfs_verity_scrub_last_findings{finding=\"bad block\"}", 1.0),
        ("nfs_verity_scrub_last_findings{finding=\"orphan evidence\"}", 1.0),
        ("nfs_verity_scrub_last_findings{finding=\"unsigned\"}", 0.0),
        // It is no client, and nothing was refused to one.
        ("nfs_verity_reads_total", 0.0),
        ("nfs_verity_refused_total{cause=\"bad block\",class=\"corrupt\"}", 0.0),
        ("nfs_verity_cache_bytes", 0.0),
    ] {
        assert_eq!(served.metric(metric), value, "{metric}");
    }
    assert!(served.metric("nfs_verity_scrub_files_total") >= 8.0);
    assert!(served.metric("nfs_verity_scrub_last_time_seconds") > 1.7e9);
    assert!(served.get("/").contains("<dt>Last</dt><dd>complete"), "{}", served.get("/"));
    served.signal("TERM");
    assert_eq!(served.ended(), Some(0));
    let found = events(&log, "scrub-finding");
    assert_eq!((&found[0]["path"], &found[0]["block"]), (&json!("b/c"), &json!(5)));
    assert_eq!(found[1]["finding"], "orphan evidence");
    let ended = &events(&log, "scrub-ended")[0];
    assert_eq!(
        (&ended["result"], &ended["files"], &ended["good"]),
        (&json!("complete"), &json!(4), &json!(3))
    );
    assert_eq!(ended["findings"], json!({ "bad block": 1, "orphan evidence": 1 }));
    assert_eq!(audit(&log).last().unwrap()["event"], "stopped");
}

#[test]
fn a_gateway_goes_on_with_the_scrub_that_its_end_interrupted() {
    let n = 30;
    let site = large(n);
    let log = site.path("audit.log");
    let flags = ["--scrub", "24h", "--audit-log", log.to_str().unwrap()];
    let mut served = site.serve(&[&flags[..], &["--scrub-rate", "1"]].concat());
    eventually("it has begun", || served.metric("nfs_verity_scrub_files_total") >= 4.0);
    assert_eq!(served.metric("nfs_verity_scrub_running"), 1.0);
    let mut client = Client::connect(served.nfs);
    let file = client.find("029/f").unwrap();
    assert_eq!(client.read_all(&file, 65536).unwrap(), content(29, 200_000), "clients are served meanwhile");
    served.signal("TERM");
    assert_eq!(served.ended(), Some(0));
    assert_eq!(events(&log, "scrub-ended")[0]["result"], "interrupted");

    let served = site.serve(&flags);
    eventually("it ends", || events(&log, "scrub-ended").len() == 2);
    assert!(events(&log, "scrub-started")[1]["after"].is_string());
    let ended = &events(&log, "scrub-ended")[1];
    assert_eq!((&ended["complete"], &ended["files"]), (&json!(true), &json!(2 * n)));
    assert!(served.metric("nfs_verity_scrub_files_total") < 60.0, "the rest alone");
    assert_eq!(events(&log, "scrub-finding").len(), n, "each once");
}

#[test]
fn how_often_and_how_fast_is_checked() {
    let site = signed();
    let serve = |flag: &str, value: &str| {
        let mut serve = command("serve");
        serve.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust());
        serve.arg("--state").arg(site.path("state")).args([flag, value]);
        serve
    };
    serve("--scrub", "daily").ends(2).complains_of(&["daily", "24h"]);
    serve("--scrub-rate", "0").ends(2).complains_of(&["scrub_rate", "from 1"]);
    let config = site.path("gateway.toml");
    fs::write(&config, "scrub = \"1x\"\n").unwrap();
    serve("--config", config.to_str().unwrap()).ends(2).complains_of(&["gateway.toml:1", "1x"]);
}
