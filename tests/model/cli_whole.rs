//! Files that only hashing all of them can prove: signed as a whole by `evmctl`, or without a tree.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::cli::{Certified, Ends, certificate, command, inspect};
use crate::cli_serve::events;
use crate::support::{Client, NFS3ERR_ACCES, NFS3ERR_IO, Served, Site, content, eventually};

const SIZE: usize = 1_000_003;

/// A tree with the file `big`, and a trusted RSA certificate.
fn site() -> (Site, Certified, Vec<u8>) {
    let site = Site::new();
    let bytes = content(1, SIZE);
    site.put("big", &bytes);
    let rsa = certificate(&site, "rsa");
    fs::copy(&rsa.certificate, site.trust().join("rsa.pem")).unwrap();
    (site, rsa, bytes)
}

/// Signs the whole file with `evmctl`, the value in `user.ima`.
fn evmctl(key: &Path, file: &Path) {
    let mut evmctl = Command::new("evmctl");
    evmctl.args(["ima_sign", "--xattr-user", "-a", "sha256", "--key"]).arg(key).arg(file).ends(0);
}

/// Also measures, into `list`.
fn serve(site: &Site) -> (Served, PathBuf) {
    let (log, list) = (site.path("audit.log"), site.path("list"));
    let files = ["--audit-log", log.to_str().unwrap(), "--measure", list.to_str().unwrap()];
    let flags = ["--carrier", "xattr", "--accept", "native,ima-v2"];
    (site.serve(&[&flags[..], &files].concat()), log)
}

fn hashed(served: &Served) -> f64 {
    served.metric("nfs_verity_hashed_files_total")
}

fn damage(file: &Path, at: u64) {
    File::options().write(true).open(file).unwrap().write_all_at(b"damage", at).unwrap();
}

#[test]
fn a_file_signed_as_a_whole_is_hashed_once_when_it_is_first_opened() {
    let (site, rsa, bytes) = site();
    evmctl(&rsa.key, &site.tree().join("big"));
    let (served, log) = serve(&site);
    let mut client = Client::connect(served.nfs);
    let file = client.find("big").unwrap();
    assert_eq!(client.getattr(&file), Ok(SIZE as u64));
    assert_eq!(hashed(&served), 0.0, "names and attributes hash nothing");

    assert_eq!(client.read(&file, 500_000, 10).unwrap().0, bytes[500_000..500_010]);
    assert_eq!(client.read_all(&file, 65_536).unwrap(), bytes);
    assert_eq!(client.access(&file, 1), Ok(1));
    assert_eq!(hashed(&served), 1.0);
    assert_eq!(served.metric("nfs_verity_hashed_bytes_total"), SIZE as f64);
    eventually("it is logged", || !events(&log, "hashed").is_empty());
    let told = events(&log, "hashed").remove(0);
    assert_eq!((&told["path"], &told["reason"]), (&"big".into(), &"signed as a whole (ima-v2)".into()));

    let mut inspect = inspect(&site, "big");
    let said = inspect.arg("--trust").arg(site.trust()).args(["--accept", "ima-v2"]).ends(0).json();
    assert_eq!((&said["status"], &said["hashed"]), (&"verified".into(), &true.into()));
    assert_eq!(said["verified"][0]["format"], "ima-v2");
    assert_eq!(said["carrier"], "xattr");
}

#[test]
fn a_file_that_changed_since_it_was_signed_as_a_whole_is_refused() {
    let (site, rsa, bytes) = site();
    let path = site.tree().join("big");
    evmctl(&rsa.key, &path);
    let (served, log) = serve(&site);
    let mut client = Client::connect(served.nfs);
    let file = client.find("big").unwrap();
    assert!(client.read(&file, 0, 10).is_ok());
    damage(&path, 777_777);
    eventually("it is refused", || client.read(&file, 0, 10) == Err(NFS3ERR_ACCES));
    eventually("and told", || events(&log, "refused").iter().any(|event| event["cause"] == "bad signature"));
    let list = command("measure").args(["show", "--json"]).arg(site.path("list")).ends(0).json_lines();
    assert_eq!(list.iter().filter(|line| line["violation"] == true && line["name"] == "/big").count(), 1);
    // The right bytes are right again, whatever the clocks say.
    fs::write(&path, &bytes).unwrap();
    eventually("it is served again", || client.read(&file, 0, 10).is_ok());
}

#[test]
fn a_file_is_not_hashed_again_for_want_of_descriptors() {
    let (site, rsa, _) = site();
    let names: Vec<String> = (0..5).map(|n| format!("small{n}")).collect();
    for name in &names {
        site.put(name, b"small");
        evmctl(&rsa.key, &site.tree().join(name));
    }
    let (served, _) = serve(&site);
    let read = || {
        let mut client = Client::connect(served.nfs);
        for name in &names {
            let file = client.find(name).unwrap();
            assert_eq!(client.read(&file, 0, 10).unwrap().0, b"small");
        }
    };
    read();
    eventually("nobody is connected", || served.metric("nfs_verity_connections") == 0.0);
    let open = fs::read_dir(format!("/proc/{}/fd", served.child.id())).unwrap().count() as u64;
    // What is open is given up; what was hashed takes no descriptor.
    let limit = Rlimit { current: Some(open), ..getrlimit(Resource::Nofile) };
    prlimit(Some(Pid::from_child(&served.child)), Resource::Nofile, limit).unwrap();
    read();
    read();
    assert_eq!(hashed(&served), 5.0);
}

#[test]
fn a_file_signed_as_a_whole_by_nobody_who_counts_is_not_hashed() {
    let (site, _, _) = site();
    let other = certificate(&site, "rsa-other");
    evmctl(&other.key, &site.tree().join("big"));
    let (served, log) = serve(&site);
    let mut client = Client::connect(served.nfs);
    let file = client.find("big").unwrap();
    assert_eq!(client.read(&file, 0, 10), Err(NFS3ERR_ACCES));
    assert_eq!(hashed(&served), 0.0);
    eventually("it is told", || events(&log, "refused").iter().any(|event| event["cause"] == "unknown key"));
}

#[test]
fn a_tree_that_is_missing_is_made_from_the_file() {
    let (site, _, bytes) = site();
    site.sign(&["--carrier", "xattr"]);
    let (served, _) = serve(&site);
    let mut client = Client::connect(served.nfs);
    let file = client.find("big").unwrap();
    assert_eq!(client.read(&file, 0, 10).unwrap().0, bytes[..10]);
    assert_eq!(hashed(&served), 0.0, "the tree lies in the sidecar");
    drop(served);

    fs::remove_dir_all(site.tree().join(".nfs-verity")).unwrap();
    let (served, log) = serve(&site);
    let mut client = Client::connect(served.nfs);
    let file = client.find("big").unwrap();
    assert_eq!(client.read_all(&file, 100_000).unwrap(), bytes);
    assert_eq!(hashed(&served), 1.0);
    eventually("it is logged", || !events(&log, "hashed").is_empty());
    assert_eq!(events(&log, "hashed")[0]["reason"], "no tree in the evidence");
    drop(served);

    damage(&site.tree().join("big"), 3);
    let (served, log) = serve(&site);
    let mut client = Client::connect(served.nfs);
    let file = client.find("big").unwrap();
    assert_eq!(client.read(&file, 500_000, 10), Err(NFS3ERR_IO), "without a tree no block can be proven");
    eventually("it is told", || events(&log, "refused").iter().any(|event| event["cause"] == "bad block"));
}

#[test]
fn a_revoked_file_stays_revoked_whatever_tree_the_store_makes_up_for_it() {
    let (site, rsa, _) = site();
    let mut sign = command("sign");
    sign.arg("--key").arg(&rsa.key).arg("--cert").arg(&rsa.certificate);
    sign.args(["--format", "ima-v2", "--block-size", "1024"]).arg(site.tree()).ends(0);
    let accept = ["--accept", "ima-v2"];
    let mut check = command("verify");
    check.arg("--trust").arg(site.trust()).arg(site.tree()).args(accept).ends(0);
    let mut fsverity = Command::new("fsverity");
    let said = fsverity.args(["digest", "--compact"]).arg(site.tree().join("big")).ends(0);
    fs::create_dir(site.trust().join("revoked")).unwrap();
    fs::write(site.trust().join("revoked/files.txt"), format!("sha256:{}\n", said.out.trim())).unwrap();
    assert!(check.ends(1).out.contains("revoked"));
}

#[test]
fn a_file_that_reads_as_another_signature_is_not_signed_as_a_whole() {
    let (site, rsa, _) = site();
    site.put("trap", b"DSSEv1 28 application/vnd.in-toto+json 2 {}");
    let mut sign = command("sign");
    sign.arg("--key").arg(&rsa.key).args(["--format", "native,ima-v2"]).arg(site.tree());
    sign.ends(1).complains_of(&["trap", "reads as a statement"]);
    inspect(&site, "trap").ends(1);
}

#[test]
fn a_trailer_is_not_part_of_what_is_signed_as_a_whole() {
    let (site, rsa, bytes) = site();
    let mut sign = command("sign");
    sign.arg("--key").arg(&rsa.key).arg("--cert").arg(&rsa.certificate);
    sign.args(["--format", "ima-v2", "--carrier", "appended"]).arg(site.tree()).ends(0);
    let served = site.serve(&["--carrier", "appended", "--accept", "ima-v2"]);
    let mut client = Client::connect(served.nfs);
    let file = client.find("big").unwrap();
    assert_eq!(client.read_all(&file, 65_536).unwrap(), bytes);
    assert_eq!(client.getattr(&file), Ok(SIZE as u64), "clients do not see the evidence");
    assert_eq!(served.metric("nfs_verity_hashed_bytes_total"), SIZE as f64);
}

#[test]
fn many_clients_of_one_file_have_it_hashed_once() {
    let (site, rsa, bytes) = site();
    evmctl(&rsa.key, &site.tree().join("big"));
    let (served, _) = serve(&site);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (bytes, address) = (&bytes, served.nfs);
            scope.spawn(move || {
                let mut client = Client::connect(address);
                let file = client.find("big").unwrap();
                let at = n * 100_000;
                assert_eq!(client.read(&file, at as u64, 100).unwrap().0, bytes[at..at + 100]);
            });
        }
    });
    assert_eq!(hashed(&served), 1.0);
}

#[test]
fn a_module_signature_counts_for_the_content_before_it_where_that_is_asked_for() {
    let (site, rsa, _) = site();
    let module = site.tree().join("driver.ko");
    fs::remove_file(site.tree().join("big")).unwrap();
    let payload = content(2, 70_000);
    fs::write(&module, &payload).unwrap();
    let signature = site.path("driver.p7s");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "smime", "-sign", "-binary", "-noattr", "-nocerts", "-outform", "der", "-md", "sha256", "-in",
    ]);
    openssl.arg(&module).arg("-signer").arg(&rsa.certificate).arg("-inkey").arg(&rsa.key);
    openssl.arg("-out").arg(&signature).ends(0);
    let signature = fs::read(signature).unwrap();
    let length = u32::try_from(signature.len()).unwrap().to_be_bytes();
    let trailer = [&[0, 0, 2, 0, 0, 0, 0, 0][..], &length, b"~Module signature appended~\n"].concat();
    fs::write(&module, [&payload[..], &signature, &trailer].concat()).unwrap();

    let check = |accept: &str| {
        let mut verify = command("verify");
        verify.arg("--trust").arg(site.trust()).arg(site.tree()).args(["--accept", accept]);
        verify
    };
    let said = check("native").ends(1).out;
    assert!(said.contains("unsigned") && said.contains("a module signature by"), "{said}");
    assert!(said.contains("covers its first 70000 bytes"), "{said}");
    check("native,modsig").ends(0);
    let mut looked = inspect(&site, "driver.ko");
    let said = looked.arg("--trust").arg(site.trust()).args(["--accept", "modsig"]).ends(0).json();
    assert_eq!(said["status"], "verified");
    assert_eq!(said["appended_signature"]["content"], 70_000);
    assert_eq!(said["appended_signature"]["verified"][0]["name"], "rsa");
    // Without trust it is told all the same.
    assert_eq!(inspect(&site, "driver.ko").ends(1).json()["appended_signature"]["content"], 70_000);

    damage(&module, 69_990);
    assert!(check("modsig").ends(1).out.contains("bad signature"));
    let mut serve = command("serve");
    serve.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust()).args(["--accept", "modsig"]);
    serve.ends(2).complains_of(&["modsig"]);
}
