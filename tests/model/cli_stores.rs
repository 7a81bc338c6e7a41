//! Stores by URL, in every command that takes a tree.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use crate::cli::{Ends, command, flip};
use crate::cli_serve::events;
use crate::support::{Client, Site, content, eventually};

/// Every command that takes a tree, with `root` as that tree.
fn each_command(site: &Site, root: &str) -> Vec<std::process::Command> {
    let (key, trust) = (site.key(), site.trust());
    let mut sign = command("sign");
    sign.arg("--key").arg(&key).arg(root);
    let mut verify = command("verify");
    verify.arg("--trust").arg(&trust).arg(root);
    let mut inspect = command("inspect");
    inspect.args([root, "f"]);
    let mut convert = command("convert");
    convert.args(["--to", "appended", root]);
    let mut strip = command("strip");
    strip.args([root, "f"]);
    let mut keys = command("keys");
    keys.args(["list", "--store", root, "--trust"]).arg(&trust);
    let mut serve = command("serve");
    serve.args(["--store", root, "--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0", "--trust"]);
    serve.arg(&trust).arg("--state").arg(site.path("state"));
    vec![sign, verify, inspect, convert, strip, keys, serve]
}

#[test]
fn an_address_that_is_none_is_a_usage_error_that_tells_no_secret() {
    let site = Site::new();
    for (root, words) in [
        ("ftp://host/x", &["no store has this scheme", "nfs, s3, gs, az"][..]),
        ("nfs:///x", &["it has no host"]),
        ("s3://key:hunter2@bucket/x", &["environment"]),
        ("nfs://me:hunter2@host/x", &["environment"]),
    ] {
        for mut command in each_command(&site, root) {
            let said = command.ends(2);
            said.complains_of(words);
            assert!(!said.err.contains("hunter2"), "{}", said.err);
        }
    }
}

#[test]
fn a_store_that_cannot_be_opened_is_trouble_and_named() {
    let site = Site::new();
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let root = format!("nfs://127.0.0.1:{port}/x");
    for mut command in each_command(&site, &root) {
        command.ends(3).complains_of(&[&root]);
    }
}

#[test]
fn evidence_is_not_written_to_where_a_store_has_no_place_for_it() {
    let site = Site::new();
    for root in ["nfs://127.0.0.1:1/x", "s3://bucket/x"] {
        for kind in ["kernel", "xattr"] {
            let words = [root, kind, "sidecar and appended"];
            let mut sign = command("sign");
            sign.args(["--carrier", kind, "--key"]).arg(site.key()).arg(root).ends(2).complains_of(&words);
            command("convert").args(["--to", kind, root]).ends(2).complains_of(&words);
            let mut serve = command("serve");
            serve.args(["--store", root, "--carrier", kind, "--trust"]).arg(site.trust());
            serve.ends(2).complains_of(&["carrier must be sidecar or appended"]);
        }
    }
}

#[test]
fn a_mount_is_no_address() {
    let site = Site::new();
    let mut verify = command("verify");
    verify.arg("--mount").arg("--trust").arg(site.trust()).arg("nfs://host/x");
    verify.ends(2).complains_of(&["--mount takes a directory"]);
}

#[test]
fn what_is_served_is_told_as_it_was_given() {
    let site = Site::new();
    site.put("f", b"content");
    site.sign(&[]);
    let log = site.path("audit.log");
    let served = site.serve(&["--audit-log", log.to_str().unwrap()]);
    let mut client = Client::connect(served.nfs);
    let file = client.find("f").unwrap();
    assert_eq!(client.read_all(&file, 4096).unwrap(), b"content");
    assert_eq!(events(&log, "started")[0]["store"], json!(site.tree()));
}

#[test]
fn settings_of_stores_are_taken_from_flags_and_refused_when_they_contradict() {
    let site = Site::new();
    let serve = |flags: &[&str]| {
        let mut serve = command("serve");
        serve.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust()).args(flags);
        serve
    };
    serve(&["--repair"]).ends(2).complains_of(&["repair must be left out without a replica"]);
    let tree = site.tree();
    let tree = tree.to_str().unwrap();
    serve(&["--replica", tree]).ends(2).complains_of(&["replica", "twice"]);
    serve(&["--replica", "ftp://x/y"]).ends(2).complains_of(&["replica: ", "no store has this scheme"]);
    serve(&["--disk-cache", "/nowhere", "1MiB"])
        .ends(2)
        .complains_of(&["disk_cache must be of at least 64MiB"]);
    serve(&["--disk-cache", "/nowhere", "much"]).ends(2).complains_of(&["disk_cache", "is no size"]);
    serve(&["--disk-cache", "/nowhere"]).ends(2).complains_of(&["2 values", "--disk-cache"]);
    serve(&["--wait", "long"]).ends(2).complains_of(&["hard", "soft"]);
    serve(&["--timeout", "0"]).ends(2).complains_of(&["timeout must be from 1 to 600"]);
    serve(&["--scrub", "often"]).ends(2).complains_of(&["is no interval"]);
    serve(&["--scrub-rate", "0"]).ends(2).complains_of(&["scrub_rate must be from 1 to 1000000"]);
}

#[test]
fn a_directory_whose_name_has_a_colon_is_still_one() {
    let site = Site::new();
    site.put("f", b"content");
    let odd = site.path("a:b");
    fs::rename(site.tree(), &odd).unwrap();
    command("sign").arg("--key").arg(site.key()).arg(&odd).ends(0);
    command("verify").arg("--trust").arg(site.trust()).arg(&odd).ends(0);
}

#[test]
fn gateways_with_one_handle_key_give_the_same_handles() {
    let site = Site::new();
    site.put("f", b"content");
    site.sign(&[]);
    let (key, short) = (site.path("handle.key"), site.path("short.key"));
    fs::write(&key, [7; 32]).unwrap();
    fs::write(&short, [7; 31]).unwrap();
    let handle = |flags: &[&str]| {
        let served = site.serve(flags);
        Client::connect(served.nfs).find("f").unwrap()
    };
    let path = |name: &str| site.path(name).to_str().unwrap().to_owned();
    let (key, one, two) = (key.to_str().unwrap(), path("one"), path("two"));
    let first = handle(&["--handle-key", key, "--state", &one]);
    assert_eq!(first, handle(&["--handle-key", key, "--state", &two]));
    assert!(first != handle(&["--state", &one]));
    for wrong in [short.to_str().unwrap(), "/nowhere.key"] {
        let mut serve = command("serve");
        serve.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust()).args(["--state", &one]);
        serve.args(["--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0", "--handle-key", wrong]);
        serve.ends(2).complains_of(&[wrong, "--handle-key names 32 bytes"]);
    }
}

#[test]
fn what_one_store_has_damaged_is_served_from_its_replica_and_repaired() {
    let site = Site::new();
    let bytes = content(1, 100_000);
    site.put("f", &bytes);
    site.sign(&[]);
    let replica = site.path("replica");
    assert!(
        std::process::Command::new("cp").arg("-a").arg(site.tree()).arg(&replica).status().unwrap().success()
    );
    let damaged = site.tree().join("f");
    flip(&damaged, 50_000);
    let log = site.path("audit.log");
    let (replica, audit_log) = (replica.to_str().unwrap(), log.to_str().unwrap());
    let served =
        site.serve(&["--replica", replica, "--repair", "--repair-after", "0", "--audit-log", audit_log]);
    let mut client = Client::connect(served.nfs);
    let file = client.find("f").unwrap();
    assert_eq!(client.read_all(&file, 65_536).unwrap(), bytes);
    eventually("the file is repaired", || fs::read(&damaged).unwrap() == bytes);
    eventually("the healing is told", || !events(&log, "healed").is_empty());
    eventually("the repair is told", || !events(&log, "repaired").is_empty());
}

#[test]
fn scrub_tells_of_a_good_copy_and_puts_it_in_place() {
    let site = Site::new();
    let bytes = content(1, 100_000);
    site.put("f", &bytes);
    site.sign(&[]);
    let replica = site.path("replica");
    assert!(
        std::process::Command::new("cp").arg("-a").arg(site.tree()).arg(&replica).status().unwrap().success()
    );
    let damaged = site.tree().join("f");
    flip(&damaged, 50_000);
    let scrub = || {
        let mut scrub = command("scrub");
        scrub.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust()).arg("--replica").arg(&replica);
        scrub.arg("--state").arg(site.path("scrub"));
        scrub
    };
    let said = scrub().ends(1);
    assert!(said.out.contains("a good copy is on"), "{}", said.out);
    assert!(fs::read(&damaged).unwrap() != bytes, "nothing is written without --repair");
    let said = scrub().arg("--repair").ends(1);
    assert!(said.out.contains("it was written less than 600 s ago"), "{}", said.out);
    scrub().args(["--repair", "--repair-after", "0"]).ends(0);
    assert_eq!(fs::read(&damaged).unwrap(), bytes);
    scrub().ends(0);
}
