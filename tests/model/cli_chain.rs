//! Certificates under a trusted authority, from signing to serving.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::{Ends, P256, command, inspect, make_key, openssl, verify};
use crate::support::{Client, NFS3ERR_ACCES, Site, content, eventually};

/// A site whose trust is one authority alone, and what is needed to make signers under it.
struct Authority(Site);

impl Authority {
    fn new() -> Self {
        let site = Site::new();
        fs::remove_file(site.trust().join("release.pub")).unwrap();
        make_key(&site, "root", P256);
        let subject = ["-subj", "/CN=Root", "-days", "20"];
        let ca = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
        let new = ["req", "-x509", "-new", "-key", "root.pem", "-out", "root.crt"];
        openssl(site.dir.path(), &[&new[..], &subject, &ca].concat());
        fs::copy(site.path("root.crt"), site.trust().join("root.crt")).unwrap();
        Self(site)
    }

    /// A key `NAME.pem` with a certificate `NAME.crt` by `issuer`.
    fn issue(&self, name: &str, issuer: &str, extensions: &str) -> (PathBuf, PathBuf) {
        let site = &self.0;
        make_key(site, name, P256);
        let (key, request, certificate) =
            (format!("{name}.pem"), format!("{name}.csr"), format!("{name}.crt"));
        let dir = site.dir.path();
        let subject = format!("/CN={name}");
        openssl(dir, &["req", "-new", "-key", &key, "-subj", &subject, "-out", &request]);
        fs::write(site.path("extensions"), extensions).unwrap();
        let (ca, ca_key) = (format!("{issuer}.crt"), format!("{issuer}.pem"));
        openssl(
            dir,
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-days",
                "10",
                "-extfile",
                "extensions",
                "-out",
                &certificate,
            ],
        );
        (site.path(key), site.path(certificate))
    }

    fn sign(&self, (key, certificate): &(PathBuf, PathBuf), chain: Option<&Path>, more: &[&str]) {
        let mut sign = command("sign");
        sign.arg("--key").arg(key).arg("--cert").arg(certificate);
        if let Some(chain) = chain {
            sign.arg("--chain").arg(chain);
        }
        sign.args(more).arg(self.0.tree()).ends(0);
    }
}

const SIGNER: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
                      extendedKeyUsage=codeSigning\nsubjectKeyIdentifier=hash\n";
const ISSUER: &str = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n";
const ALL: [&str; 2] = ["--accept", "native,fsverity,ima-v3"];

#[test]
fn a_signer_under_a_trusted_authority_counts_in_every_format() {
    let authority = Authority::new();
    let site = &authority.0;
    site.put("first", &content(1, 9000));
    let issuer = authority.issue("issuer", "root", ISSUER);
    let leaf = authority.issue("leaf", "issuer", SIGNER);
    for format in ["native", "fsverity", "ima-v3"] {
        authority.sign(&leaf, Some(&issuer.1), &["--format", format, "--force"]);
        verify(site).args(ALL).ends(0);
        let mut inspect = inspect(site, "first");
        let said = inspect.arg("--trust").arg(site.trust()).args(ALL).ends(0).json();
        let signers = said["verified"].as_array().unwrap();
        assert!(
            signers.iter().any(|by| by["format"] == format && by["name"].as_str().unwrap().contains("leaf"))
        );
        fs::remove_dir_all(site.tree().join(".nfs-verity")).unwrap();
    }
    authority.sign(&leaf, Some(&issuer.1), &["--force"]);
    let mut keys = command("keys");
    let said =
        keys.args(["list", "--json", "--trust"]).arg(site.trust()).arg("--store").arg(site.tree()).ends(0);
    let files = &said.json()["files"];
    assert_eq!((&files["signed_by_none"], &files["issued"][0]["files"]), (&0.into(), &1.into()), "{files}");

    // Without the certificate in between there is no way up.
    authority.sign(&leaf, None, &["--force"]);
    let said = verify(site).ends(1);
    assert!(said.out.contains("unknown key"), "{}", said.out);
}

#[test]
fn a_certificate_for_other_things_does_not_count() {
    let authority = Authority::new();
    authority.0.put("first", b"one");
    let server = SIGNER.replace("codeSigning", "serverAuth");
    let leaf = authority.issue("leaf", "root", &server);
    authority.sign(&leaf, None, &[]);
    assert!(verify(&authority.0).ends(1).out.contains("unknown key"));
    // A signer's own certificate issues nothing.
    let leaf = authority.issue("signer", "root", SIGNER);
    let below = authority.issue("below", "signer", SIGNER);
    authority.sign(&below, Some(&leaf.1), &["--force"]);
    assert!(verify(&authority.0).ends(1).out.contains("unknown key"));
}

#[test]
fn limits_of_the_authority_hold_for_its_signers() {
    let authority = Authority::new();
    let site = &authority.0;
    site.put("boot/kernel", b"kernel");
    site.put("first", b"one");
    let leaf = authority.issue("leaf", "root", SIGNER);
    authority.sign(&leaf, None, &[]);
    fs::write(site.trust().join("root.toml"), "paths = [\"boot/**\"]\n").unwrap();
    let said = verify(site).ends(1);
    assert!(said.out.contains("first: key limits") && !said.out.contains("boot/kernel"), "{}", said.out);
}

#[test]
fn a_revoked_certificate_takes_all_below_it_along_while_they_are_served() {
    let authority = Authority::new();
    let site = &authority.0;
    site.put("first", b"one");
    let issuer = authority.issue("issuer", "root", ISSUER);
    let leaf = authority.issue("leaf", "issuer", SIGNER);
    authority.sign(&leaf, Some(&issuer.1), &[]);
    let served = site.serve(&[]);
    let mut client = Client::connect(served.nfs);
    let first = client.find("first").unwrap();
    assert_eq!(client.read(&first, 0, 10).unwrap().0, b"one");

    let revoked = site.trust().join("revoked");
    fs::create_dir(&revoked).unwrap();
    for certificate in [&issuer.1, &leaf.1] {
        let place = revoked.join("gone.crt");
        fs::copy(certificate, &place).unwrap();
        eventually("it is refused", || client.read(&first, 0, 10) == Err(NFS3ERR_ACCES));
        let said = verify(site).ends(1);
        assert!(said.out.contains("revoked") && said.out.contains("gone.crt"), "{}", said.out);
        fs::remove_file(&place).unwrap();
        served.signal("HUP");
        eventually("it is served again", || client.read(&first, 0, 10).is_ok());
    }
}

#[test]
fn a_certificate_does_not_widen_the_limits_of_a_key_that_is_trusted_itself() {
    let authority = Authority::new();
    let site = &authority.0;
    site.put("boot/kernel", b"kernel");
    let leaf = authority.issue("leaf", "root", SIGNER);
    authority.sign(&leaf, None, &["--format", "fsverity"]);
    verify(site).args(ALL).ends(0);
    fs::copy(site.path("leaf.pub"), site.trust().join("leaf.pub")).unwrap();
    fs::write(site.trust().join("leaf.toml"), "paths = [\"tmp/**\"]\n").unwrap();
    let said = verify(site).args(ALL).ends(1);
    assert!(said.out.contains("key limits"), "{}", said.out);
}
