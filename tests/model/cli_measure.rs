//! `serve --measure` and `nfs-verity measure`: the list that IMA would have kept of what was served.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::cli::{Ends, Said, command, flip, fsverity};
use crate::support::{Client, NFS3ERR_IO, Served, Site, Status, content, eventually};

/// The client tries again later.
const NFS3ERR_JUKEBOX: Status = Status(10008);

/// A signed tree of two files, the second of two blocks.
fn site() -> Site {
    let site = Site::new();
    site.put("first", b"one");
    site.put("with space", &content(2, 8192));
    site.sign(&[]);
    site
}

fn list(site: &Site) -> PathBuf {
    site.path("list")
}

fn serve(site: &Site, more: &[&str]) -> Served {
    let list = list(site);
    site.serve(&[&["--measure", list.to_str().unwrap()], more].concat())
}

fn read(served: &Served, name: &str) -> Result<Vec<u8>, Status> {
    let mut client = Client::connect(served.nfs);
    let file = client.find(name).unwrap();
    client.read(&file, 0, 10_000).map(|(bytes, _)| bytes)
}

fn measure(site: &Site, args: &[&str], code: i32) -> Said {
    let mut command = command("measure");
    command.args(args).current_dir(site.dir.path());
    command.ends(code)
}

/// The lines of the list but for the first.
fn lines(site: &Site) -> Vec<String> {
    let said = measure(site, &["show", "list"], 0);
    let ascii = fs::read_to_string(list(site).join("ascii_runtime_measurements")).unwrap();
    assert!(said.out.ends_with(&ascii), "{} and {ascii}", said.out);
    let mut lines = said.out.lines().map(str::to_owned);
    let first = lines.next().unwrap();
    assert!(first.contains(" boot_aggregate"), "{first}");
    lines.collect()
}

fn digest(site: &Site, name: &str) -> String {
    fsverity(&site.tree().join(name), &[])
}

#[test]
fn each_version_is_in_the_list_once_and_when_its_first_byte_is_there() {
    let site = site();
    let served = serve(&site, &[]);
    assert!(lines(&site).is_empty(), "looking at a tree is not reading it");
    assert_eq!(read(&served, "first").unwrap(), b"one");
    let wanted = format!(" ima-sigv2 verity:{} /first ", digest(&site, "first"));
    let [line] = &lines(&site)[..] else { panic!("{:?}", lines(&site)) };
    assert!(line.starts_with("10 ") && line.ends_with(&wanted), "{line:?} and {wanted:?}");
    read(&served, "with space").unwrap();
    read(&served, "first").unwrap();
    assert_eq!(lines(&site).len(), 2);
    assert!(lines(&site)[1].ends_with(" /with_space "), "as the kernel writes spaces");
    assert_eq!(served.metric("nfs_verity_measurements"), 3.0);

    // Also by another life of the gateway, and killed ones.
    drop(served);
    let served = serve(&site, &[]);
    read(&served, "first").unwrap();
    assert_eq!(lines(&site).len(), 2);
    let old = digest(&site, "first");
    site.put("first", b"two");
    site.sign(&[]);
    eventually("the new version is served", || read(&served, "first").unwrap() == b"two");
    let lines = lines(&site);
    assert_eq!(lines.len(), 3);
    assert!(!lines[2].contains(&old) && lines[2].contains(&digest(&site, "first")), "{lines:?}");
}

#[test]
fn the_kernel_s_own_tool_and_ours_verify_the_list_and_find_what_is_altered() {
    let site = site();
    let served = serve(&site, &[]);
    read(&served, "first").unwrap();
    read(&served, "with space").unwrap();
    drop(served);
    let binary = list(&site).join("binary_runtime_measurements");
    let evmctl = |code| {
        let bank = |name| format!("{name},{}", list(&site).join(format!("pcrs.{name}")).display());
        let args = ["ima_measurement", "-v", "--pcrs", &bank("sha1"), "--pcrs", &bank("sha256")];
        let output = Command::new("evmctl").args(args).arg(&binary).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    };
    assert!(evmctl(0).contains("Matched per TPM bank calculated digest(s)"));
    let verify = |key: &str, more: &[&str], code| {
        measure(&site, &[&["verify", "--key", key, "--json", "list"], more].concat(), code)
    };
    let json = verify("state/measure.pub", &[], 0).json();
    assert_eq!(
        (&json["records"], &json["violations"], &json["last_segment"]),
        (&3.into(), &0.into(), &1.into())
    );
    let pcr = json["pcr10"]["sha256"].as_str().unwrap().to_owned();
    assert!(fs::read_to_string(list(&site).join("pcrs.sha256")).unwrap().contains(&format!("PCR-10: {pcr}")));
    verify("state/measure.pub", &["--pcr", &format!("sha256:{pcr}")], 0);
    verify("state/measure.pub", &["--pcr", &format!("sha256:{}", "00".repeat(32))], 1);
    verify("trust/release.pub", &[], 1);
    let good = fs::read(&binary).unwrap();
    flip(&binary, good.len() as u64 - 5);
    evmctl(1);
    let said = measure(&site, &["verify", "--key", "state/measure.pub", "list"], 1);
    assert!(
        said.out.contains("binary_runtime_measurements") && said.out.contains("record 3"),
        "{}",
        said.out
    );
}

#[test]
fn a_file_that_fails_is_a_violation_and_told_once_a_while() {
    let site = site();
    flip(&site.tree().join("with space"), 5000);
    let served = serve(&site, &[]);
    for _ in 0..3 {
        let mut client = Client::connect(served.nfs);
        let file = client.find("with space").unwrap();
        assert_eq!(client.read(&file, 4096, 100), Err(NFS3ERR_IO));
    }
    let violation = |line: &Value| line["violation"] == true && line["name"] == "/with_space";
    let json = || measure(&site, &["show", "--json", "list"], 0).json_lines();
    // Behind all that was asked for before.
    read(&served, "first").unwrap();
    assert_eq!(json().iter().filter(|line| violation(line)).count(), 1);
}

#[test]
fn what_cannot_be_written_down_is_not_served_until_it_can() {
    let site = site();
    command("keygen").arg("--out").arg(site.path("more")).ends(0);
    let served = serve(&site, &[]);
    read(&served, "first").unwrap();
    let (binary, aside) = (list(&site).join("binary_runtime_measurements"), site.path("aside"));
    fs::rename(&binary, &aside).unwrap();
    fs::create_dir(&binary).unwrap();
    assert_eq!(read(&served, "with space"), Err(NFS3ERR_JUKEBOX));
    assert!(served.metric("nfs_verity_measuring_failures_total") >= 1.0);
    assert_eq!(read(&served, "first").unwrap(), b"one", "what is in the list is served");
    // Also where it has to be opened anew.
    fs::write(site.trust().join("more.pub"), fs::read(site.path("more.pub")).unwrap()).unwrap();
    served.signal("HUP");
    eventually("trust is taken", || served.metric("nfs_verity_trusted_keys") == 2.0);
    assert_eq!(read(&served, "first").unwrap(), b"one", "what is in the list is served");
    fs::remove_dir(&binary).unwrap();
    fs::rename(&aside, &binary).unwrap();
    assert_eq!(read(&served, "with space").unwrap(), content(2, 8192));
    assert_eq!(lines(&site).len(), 2);
}

#[test]
fn what_warn_mode_serves_unproven_waits_for_its_record_too() {
    let site = site();
    site.put("loose", b"unsigned");
    let served = serve(&site, &["--mode", "warn"]);
    read(&served, "first").unwrap();
    let (binary, aside) = (list(&site).join("binary_runtime_measurements"), site.path("aside"));
    fs::rename(&binary, &aside).unwrap();
    fs::create_dir(&binary).unwrap();
    assert_eq!(read(&served, "loose"), Err(NFS3ERR_JUKEBOX));
    assert_eq!(
        served.metric("nfs_verity_refused_total{cause=\"unsigned\",class=\"denied\"}"),
        1.0,
        "it is told"
    );
    assert_eq!(served.metric("nfs_verity_served_unproven_total"), 0.0);
    fs::remove_dir(&binary).unwrap();
    fs::rename(&aside, &binary).unwrap();
    assert_eq!(read(&served, "loose").unwrap(), b"unsigned");
    assert!(
        measure(&site, &["show", "--json", "list"], 0)
            .json_lines()
            .iter()
            .any(|line| line["violation"] == true)
    );
}

#[test]
fn verifiers_that_know_only_ima_sig_get_that() {
    let site = site();
    let config = site.path("gateway.toml");
    fs::write(&config, "measure_template = \"ima-sig\"\nmeasure_segment = \"4KiB\"\n").unwrap();
    let served = serve(&site, &["--config", config.to_str().unwrap()]);
    read(&served, "first").unwrap();
    let wanted = format!(" ima-sig {} /first ", digest(&site, "first"));
    assert!(lines(&site)[0].ends_with(&wanted), "{:?}", lines(&site));
}

#[test]
fn a_list_that_goes_over_segments_is_one_list() {
    let site = Site::new();
    for n in 0..60 {
        site.put(format!("a name that takes some room in the list, number {n}"), b"x");
    }
    site.sign(&[]);
    let config = site.path("gateway.toml");
    fs::write(&config, "measure_segment = \"4KiB\"\n").unwrap();
    let served = serve(&site, &["--config", config.to_str().unwrap()]);
    for n in 0..60 {
        read(&served, &format!("a name that takes some room in the list, number {n}")).unwrap();
    }
    drop(served);
    let json = measure(&site, &["verify", "--key", "state/measure.pub", "--json", "list"], 0).json();
    assert_eq!(json["records"], 61);
    assert!(json["last_segment"].as_u64().unwrap() > 1, "{json}");
    let said = measure(&site, &["show", "list"], 0);
    assert_eq!(said.out.lines().count(), 61);
    // Without the first ones, the signed start of the next stands for them.
    for name in ["binary_runtime_measurements.1", "ascii_runtime_measurements.1", "start.1", "start.1.sig"] {
        fs::remove_file(list(&site).join(name)).unwrap();
    }
    let json = measure(&site, &["verify", "--key", "state/measure.pub", "--json", "list"], 0).json();
    assert_eq!((&json["records"], &json["first_segment"]), (&61.into(), &2.into()));
    flip(&list(&site).join("start.2"), 30);
    measure(&site, &["verify", "--key", "state/measure.pub", "list"], 1);
}
