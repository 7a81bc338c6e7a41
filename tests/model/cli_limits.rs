//! Limits of keys, required signers and revocation, as clients of a running gateway see them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{Ends, command, inspect, keygen, sign, verify};
use crate::cli_serve::events;
use crate::support::{Client, NFS3ERR_ACCES, Served, Site, eventually};

/// A site whose gateway has an audit log.
struct Running {
    site: Site,
    served: Served,
    log: PathBuf,
}

impl Running {
    fn new(site: Site, more: &[&str]) -> Self {
        let log = site.path("audit.log");
        let flags = [&["--audit-log", log.to_str().unwrap()][..], more].concat();
        let served = site.serve(&flags);
        Self { site, served, log }
    }

    /// Waits until a refusal of `path` for `cause` is logged; its detail.
    fn told(&self, path: &str, cause: &str) -> String {
        let find =
            || events(&self.log, "refused").into_iter().find(|e| e["path"] == path && e["cause"] == cause);
        eventually(&format!("{path}: {cause}"), || find().is_some());
        find().unwrap()["detail"].as_str().unwrap().to_owned()
    }
}

fn two_signed_files() -> Site {
    let site = Site::new();
    site.put("first", b"one");
    site.put("second", b"two");
    site.sign(&[]);
    site
}

/// The id of the site's own key.
fn key_id(site: &Site) -> String {
    let said = inspect(site, "first").ends(0).json();
    said["signers"][0]["key_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_revoked_key_is_refused_within_a_second_also_for_open_and_cached_files() {
    let running = Running::new(two_signed_files(), &[]);
    let mut client = Client::connect(running.served.nfs);
    let first = client.find("first").unwrap();
    assert_eq!(client.read(&first, 0, 10).unwrap().0, b"one");
    let id = key_id(&running.site);

    let revoked = running.site.trust().join("revoked");
    fs::create_dir(&revoked).unwrap();
    fs::write(revoked.join("2026.txt"), format!("# lost\n{id}\n")).unwrap();
    let written = Instant::now();
    eventually("it is refused", || client.read(&first, 0, 10) == Err(NFS3ERR_ACCES));
    // Twice what is promised: the machine may be busy with other tests.
    assert!(written.elapsed() < Duration::from_secs(2), "{:?}", written.elapsed());
    assert_eq!(client.access(&first, 1), Ok(0));
    let detail = running.told("first", "revoked");
    assert!(detail.contains(&id) && detail.contains("2026.txt:2"), "{detail}");
    let reloaded = events(&running.log, "reloaded");
    let reloaded = reloaded.iter().find(|event| event["what"] == "revocations").unwrap();
    assert!(reloaded["detail"].as_str().unwrap().contains("2026.txt:2"), "{reloaded}");
    verify(&running.site).ends(1);

    // What disappears stays revoked until that is asked for: files may be on their way to be written anew.
    fs::write(revoked.join("2026.txt"), "").unwrap();
    eventually("it is looked at", || events(&running.log, "reloaded").len() > 1);
    assert_eq!(client.read(&first, 0, 10), Err(NFS3ERR_ACCES));
    running.served.signal("HUP");
    eventually("it is served again", || client.read(&first, 0, 10).is_ok());
}

#[test]
fn a_revocation_beside_a_broken_key_holds_although_the_reload_is_refused() {
    let running = Running::new(two_signed_files(), &[]);
    let mut client = Client::connect(running.served.nfs);
    let first = client.find("first").unwrap();
    client.read(&first, 0, 10).unwrap();
    let id = key_id(&running.site);
    let trust = running.site.trust();
    fs::write(trust.join("broken.pub"), "no key").unwrap();
    fs::create_dir(trust.join("revoked")).unwrap();
    fs::write(trust.join("revoked/lost.txt"), id).unwrap();
    running.served.signal("HUP");
    eventually("the reload is refused", || !events(&running.log, "reload-refused").is_empty());
    eventually("and the key revoked", || client.read(&first, 0, 10) == Err(NFS3ERR_ACCES));
}

#[test]
fn a_revoked_file_is_refused_and_no_other() {
    let running = Running::new(two_signed_files(), &[]);
    let mut client = Client::connect(running.served.nfs);
    let (first, second) = (client.find("first").unwrap(), client.find("second").unwrap());
    client.read(&first, 0, 10).unwrap();
    let digest = inspect(&running.site, "first").ends(0).json()["file_digest"].as_str().unwrap().to_owned();
    let revoked = running.site.trust().join("revoked");
    fs::create_dir(&revoked).unwrap();
    fs::write(revoked.join("files.txt"), format!("{digest} # a bad release\n")).unwrap();
    eventually("it is refused", || client.read(&first, 0, 10) == Err(NFS3ERR_ACCES));
    assert!(running.told("first", "revoked").contains("files.txt:1"));
    assert_eq!(client.read(&second, 0, 10).unwrap().0, b"two");
}

#[test]
fn a_revocation_that_cannot_be_read_is_told_and_the_others_stay() {
    let running = Running::new(two_signed_files(), &[]);
    let mut client = Client::connect(running.served.nfs);
    let first = client.find("first").unwrap();
    let revoked = running.site.trust().join("revoked");
    fs::create_dir(&revoked).unwrap();
    fs::write(revoked.join("a.txt"), key_id(&running.site)).unwrap();
    eventually("it is refused", || client.read(&first, 0, 10) == Err(NFS3ERR_ACCES));
    fs::write(revoked.join("b.txt"), "no such thing\n").unwrap();
    eventually("it is told", || !events(&running.log, "reload-refused").is_empty());
    let told = events(&running.log, "reload-refused").remove(0);
    assert!(told["error"].as_str().unwrap().contains("b.txt:1"), "{told}");
    assert_eq!(client.read(&first, 0, 10), Err(NFS3ERR_ACCES));
}

#[test]
fn a_key_signs_only_where_and_how_its_limits_let_it() {
    let site = Site::new();
    site.put("boot/kernel", b"kernel");
    site.put("docs/manual", b"manual");
    site.sign(&[]);
    fs::write(site.trust().join("release.toml"), "name = \"Release\"\npaths = [\"boot/**\"]\n").unwrap();
    let running = Running::new(site, &[]);
    let mut client = Client::connect(running.served.nfs);
    let (kernel, manual) = (client.find("boot/kernel").unwrap(), client.find("docs/manual").unwrap());
    assert_eq!(client.read(&kernel, 0, 10).unwrap().0, b"kernel");
    assert_eq!(client.read(&manual, 0, 10), Err(NFS3ERR_ACCES));
    let detail = running.told("docs/manual", "key limits");
    assert!(detail.contains("Release") && detail.contains("docs/manual"), "{detail}");
}

#[test]
fn the_time_of_a_key_ends_while_its_files_are_open() {
    let site = two_signed_files();
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    fs::write(site.trust().join("release.toml"), format!("not_after = \"{end:.0}\"\n")).unwrap();
    let running = Running::new(site, &[]);
    let scrape = running.served.get("/metrics");
    let told =
        scrape.lines().find(|line| line.starts_with("nfs_verity_key_last_second{name=\"release\",key=\""));
    let last: i64 = told.and_then(|line| line.rsplit_once("\"} ")?.1.parse().ok()).unwrap();
    assert!((last - end.as_second()).abs() <= 1, "{last} {end}");
    let mut client = Client::connect(running.served.nfs);
    let first = client.find("first").unwrap();
    if jiff::Timestamp::now() < end - jiff::SignedDuration::from_secs(1) {
        assert_eq!(client.read(&first, 0, 10).unwrap().0, b"one");
    }
    eventually("its time ends", || client.read(&first, 0, 10) == Err(NFS3ERR_ACCES));
    assert!(jiff::Timestamp::now() >= end - jiff::SignedDuration::from_secs(1));
    assert!(running.told("first", "key limits").contains("counts until"));
}

#[test]
fn a_path_can_require_two_signers() {
    let site = two_signed_files();
    fs::write(site.trust().join("trust.toml"), "[[rule]]\npaths = [\"fir*\"]\nrequire = 2\n").unwrap();
    keygen(&site, "second");
    fs::copy(site.path("second.pub"), site.trust().join("second.pub")).unwrap();
    let running = Running::new(site, &[]);
    let mut client = Client::connect(running.served.nfs);
    let (first, second) = (client.find("first").unwrap(), client.find("second").unwrap());
    assert_eq!(client.read(&first, 0, 10), Err(NFS3ERR_ACCES));
    assert!(running.told("first", "too few signers").contains("1 of the 2 keys"));
    assert_eq!(client.read(&second, 0, 10).unwrap().0, b"two", "its path requires one");

    let site = &running.site;
    let mut add = command("sign");
    add.arg("--key").arg(site.path("second.key")).arg("--add").arg("--trust").arg(site.path("release.pub"));
    fs::copy(site.trust().join("release.pub"), site.path("release.pub")).unwrap();
    add.arg(site.tree()).arg("first").ends(0);
    eventually("it has two signers", || client.read(&first, 0, 10).is_ok_and(|(data, _)| data == b"one"));
    let said = inspect(site, "first").arg("--trust").arg(site.trust()).ends(0).json();
    let names: Vec<&Value> = said["verified"].as_array().unwrap().iter().map(|by| &by["name"]).collect();
    assert_eq!(names, ["release", "second"]);
}

#[test]
fn one_key_in_two_formats_is_one_signer() {
    let site = Site::new();
    site.put("first", b"one");
    let rsa = crate::cli::certificate(&site, "rsa");
    fs::copy(&rsa.certificate, site.trust().join("rsa.pem")).unwrap();
    fs::write(site.trust().join("trust.toml"), "require = 2\n").unwrap();
    let mut sign = command("sign");
    sign.arg("--key")
        .arg(&rsa.key)
        .arg("--cert")
        .arg(&rsa.certificate)
        .args(["--format", "native,fsverity,ima-v3"]);
    sign.arg(site.tree()).ends(0);
    let accept = ["--accept", "native,fsverity,ima-v3"];
    let said = verify(&site).args(accept).ends(1);
    assert!(said.out.contains("too few signers") && said.out.contains("1 of the 2 keys"), "{}", said.out);
}

#[test]
fn many_signatures_of_several_keys_count_for_each_of_them() {
    let site = Site::new();
    site.put("first", b"one");
    fs::write(site.trust().join("trust.toml"), "require = 3\n").unwrap();
    let all = ["--format", "native,fsverity,ima-v3,ima-v2"];
    let mut add: &[&str] = &[];
    for name in ["rsa", "p256", "p384"] {
        let pair = crate::cli::certificate(&site, name);
        fs::copy(&pair.certificate, site.trust().join(format!("{name}.pem"))).unwrap();
        let said = verify(&site).args(["--accept", "native,ima-v3"]).ends(1);
        assert!(said.out.contains("first: "), "{}", said.out);
        let mut sign = command("sign");
        sign.arg("--key").arg(&pair.key).arg("--cert").arg(&pair.certificate).args(all).args(add);
        if !add.is_empty() {
            sign.arg("--trust").arg(site.trust());
        }
        sign.arg(site.tree()).ends(0);
        add = &["--add"];
    }
    verify(&site).args(["--accept", "native,ima-v3"]).ends(0);
    let mut looked = inspect(&site, "first");
    let said = looked.arg("--trust").arg(site.trust()).args(["--accept", "fsverity"]).ends(0).json();
    assert_eq!(said["verified"].as_array().unwrap().len(), 3, "{said}");
}

#[test]
fn formats_that_bind_no_name_count_only_where_that_is_said_and_shown() {
    let site = Site::new();
    site.put("first", b"one");
    let rsa = crate::cli::certificate(&site, "rsa");
    fs::copy(&rsa.certificate, site.trust().join("rsa.pem")).unwrap();
    let mut sign = command("sign");
    sign.arg("--key").arg(&rsa.key).arg("--cert").arg(&rsa.certificate).args(["--format", "fsverity"]);
    sign.arg(site.tree()).ends(0);
    let said = verify(&site).ends(1);
    assert!(said.out.contains("key limits") && said.out.contains("--accept"), "{}", said.out);

    let strict = Running::new(site, &[]);
    let mut client = Client::connect(strict.served.nfs);
    let first = client.find("first").unwrap();
    assert_eq!(client.read(&first, 0, 10), Err(NFS3ERR_ACCES));
    assert_eq!(strict.served.metric("nfs_verity_relaxed"), 0.0);
    let Running { site, mut served, .. } = strict;
    served.stop();

    let lax = Running::new(site, &["--accept", "native,fsverity"]);
    let mut client = Client::connect(lax.served.nfs);
    let first = client.find("first").unwrap();
    assert_eq!(client.read(&first, 0, 10).unwrap().0, b"one");
    assert_eq!(lax.served.metric("nfs_verity_relaxed"), 1.0);
    assert!(lax.served.get("/").contains("bind no name"), "{}", lax.served.get("/"));
    assert_eq!(events(&lax.log, "relaxed")[0]["setting"], "accept = \"native,fsverity\"");
}

#[test]
fn a_statement_for_another_name_refuses_the_file_whatever_else_signs_it() {
    let site = Site::new();
    site.put("first", b"one");
    let rsa = crate::cli::certificate(&site, "rsa");
    fs::copy(&rsa.certificate, site.trust().join("rsa.pem")).unwrap();
    let mut sign = command("sign");
    sign.arg("--key").arg(&rsa.key).arg("--cert").arg(&rsa.certificate).args(["--format", "native,fsverity"]);
    sign.arg(site.tree()).ends(0);
    fs::rename(site.tree().join("first"), site.tree().join("moved")).unwrap();
    fs::rename(site.evidence("first"), site.evidence("moved")).unwrap();
    let said = verify(&site).args(["--accept", "native,fsverity"]).ends(1);
    assert!(said.out.contains("wrong path"), "{}", said.out);
}

#[test]
fn sign_is_refused_before_a_byte_is_read_when_the_key_cannot_make_the_format() {
    let site = two_signed_files();
    let said = sign(&site).args(["--format", "ima-v2"]).ends(2);
    said.complains_of(&["Ed25519", "ima-v2"]);
}
