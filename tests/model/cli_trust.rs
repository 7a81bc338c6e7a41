//! `nfs-verity keys list`, and what the commands say about a trust directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cli::{Ends, Said, command, keygen, sign, verify};
use crate::support::Site;

/// `keys list` of the site's trust; flags may follow.
fn list(site: &Site) -> Command {
    let mut command = command("keys");
    command.args(["list", "--trust"]).arg(site.trust());
    command
}

fn openssl(directory: &Path, args: &[&str]) -> Said {
    Command::new("openssl").args(args).current_dir(directory).ends(0)
}

/// Makes a self-signed certificate in the trust directory, an authority's or not, and gives its key's id.
fn certificate(site: &Site, name: &str, authority: bool) -> String {
    let dir = site.dir.path();
    let (key, file) = (format!("{name}.key"), format!("trust/{name}.crt"));
    let subject = format!("/O=Lab/CN={name}");
    let constraints =
        if authority { "basicConstraints=critical,CA:TRUE" } else { "basicConstraints=CA:FALSE" };
    let usage = if authority { "keyUsage=keyCertSign" } else { "keyUsage=digitalSignature" };
    openssl(dir, &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
    let config = format!(
        "[req]\ndistinguished_name=dn\n[dn]\n[own]\n{constraints}\n{usage}\nsubjectKeyIdentifier=hash\n"
    );
    fs::write(dir.join("openssl.cnf"), config).unwrap();
    let extensions = ["-config", "openssl.cnf", "-extensions", "own"];
    let args = ["req", "-x509", "-new", "-key", &key, "-days", "30", "-subj", &subject, "-out", &file];
    openssl(dir, &[&args[..], &extensions].concat());
    openssl(dir, &["pkey", "-in", &key, "-pubout", "-outform", "DER", "-out", "spki.der"]);
    openssl(dir, &["dgst", "-sha256", "-r", "spki.der"]).out[..64].to_owned()
}

fn named<'a>(json: &'a Value, name: &str) -> &'a Value {
    let rows = json["trusted"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {json}"))
}

fn trusted_id(site: &Site, name: &str) -> String {
    named(&list(site).arg("--json").ends(0).json(), name)["key_id"].as_str().unwrap().to_owned()
}

#[test]
fn keys_and_authorities_are_listed_with_what_they_are_trusted_for() {
    let site = Site::new();
    let pinned = certificate(&site, "pinned", false);
    let authority = certificate(&site, "root", true);
    let settings = "name = \"Release team\"\npaths = [\"boot/**\"]\nformats = [\"native\", \"ima-v2\"]\n\
                    not_after = 2030-01-01T00:00:00Z\n";
    fs::write(site.trust().join("release.toml"), settings).unwrap();
    fs::write(site.trust().join("trust.toml"), "require = 2\n[[rule]]\npaths = [\"boot/**\"]\nrequire = 3\n")
        .unwrap();

    let json = list(&site).arg("--json").ends(0).json();
    let release = named(&json, "Release team");
    assert_eq!((&release["kind"], &release["algorithm"]), (&"key".into(), &"ed25519".into()));
    assert_eq!(release["paths"], serde_json::json!(["boot/**"]));
    assert_eq!(release["formats"], serde_json::json!(["native", "ima-v2"]));
    assert_eq!(
        (&release["not_before"], &release["not_after"]),
        (&Value::Null, &"2030-01-01T00:00:00Z".into())
    );
    assert_eq!((&release["status"], &release["files"]), (&"trusted".into(), &Value::Null));
    let row = named(&json, "pinned");
    assert_eq!((&row["key_id"], &row["kind"]), (&pinned.into(), &"key".into()));
    assert_eq!(row["certificate"]["subject"], "pinned");
    assert_eq!((&row["formats"], &row["paths"]), (&serde_json::json!(["native"]), &Value::Null));
    assert_eq!(row["not_after"], row["certificate"]["not_after"], "no longer than the certificate is valid");
    let row = named(&json, "root");
    assert_eq!((&row["key_id"], &row["kind"]), (&authority.into(), &"authority".into()));
    assert_eq!(json["trusted"].as_array().unwrap().len(), 3, "an authority's key signs no files itself");
    assert_eq!((&json["require"], &json["rules"][0]["require"]), (&2.into(), &3.into()));

    let text = list(&site).ends(0).out;
    for word in [
        "Release team (ed25519)",
        "boot/**",
        "native,ima-v2",
        "until 2030-01-01T00:00:00Z",
        "authority    root",
        "signers      2 required",
        "3 required for boot/**",
        row["key_id"].as_str().unwrap(),
    ] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

#[test]
fn what_is_over_or_revoked_is_said_with_the_entry() {
    let site = Site::new();
    let fingerprint = {
        certificate(&site, "pinned", false);
        let args = ["x509", "-in", "trust/pinned.crt", "-noout", "-fingerprint", "-sha256"];
        openssl(site.dir.path(), &args).out.trim().split('=').nth(1).unwrap().to_owned()
    };
    for (name, settings) in
        [("old", "not_after = 2020-01-01T00:00:00Z"), ("new", "not_before = \"2100-01-01T00:00:00Z\"")]
    {
        keygen(&site, name);
        fs::rename(site.path(format!("{name}.pub")), site.trust().join(format!("{name}.pub"))).unwrap();
        fs::write(site.trust().join(format!("{name}.toml")), settings).unwrap();
    }
    let release = trusted_id(&site, "release");
    fs::create_dir(site.trust().join("revoked")).unwrap();
    let entries = format!("# lost\n{release}\ncert-sha256:{fingerprint}\nsha256:{}\n", "ab".repeat(32));
    fs::write(site.trust().join("revoked/2026.txt"), entries).unwrap();
    let json = list(&site).arg("--json").ends(0).json();
    let status = |name: &str| named(&json, name)["status"].as_str().unwrap().to_owned();
    assert_eq!(
        ["old", "new", "release", "pinned"].map(status),
        ["expired", "not yet valid", "revoked", "revoked"]
    );
    assert_eq!(named(&json, "release")["revoked_by"], "revoked/2026.txt:2");
    assert_eq!(named(&json, "pinned")["revoked_by"], "revoked/2026.txt:3");
    assert_eq!(json["revoked"].as_array().unwrap().len(), 3);
    let text = list(&site).ends(0).out;
    assert!(text.contains("revoked by revoked/2026.txt:2"), "{text}");
    assert!(text.contains(&format!("sha256:{} by revoked/2026.txt:4", "ab".repeat(32))), "{text}");
}

#[test]
fn the_files_that_each_key_signs_are_counted() {
    let site = Site::new();
    keygen(&site, "other");
    fs::copy(site.path("other.pub"), site.trust().join("other.pub")).unwrap();
    for name in ["a", "b", "d/c"] {
        site.put(name, name.as_bytes());
    }
    sign(&site).ends(0);
    site.put("e", b"signed by another");
    command("sign").arg("--key").arg(site.path("other.key")).arg(site.tree()).arg("e").ends(0);
    site.put("f", b"not signed");
    let counted =
        |more: &[&str]| list(&site).arg("--store").arg(site.tree()).arg("--json").args(more).ends(0).json();
    let json = counted(&[]);
    assert_eq!((&named(&json, "release")["files"], &named(&json, "other")["files"]), (&3.into(), &1.into()));
    assert_eq!((&json["files"]["all"], &json["files"]["signed_by_none"]), (&5.into(), &1.into()));
    let text = list(&site).arg("--store").arg(site.tree()).ends(0).out;
    assert!(text.contains("signs      3 files") && text.contains("files        5, of which 1"), "{text}");

    // Evidence that was made for another place is signed by nobody here.
    fs::copy(site.evidence("a"), site.evidence("b")).unwrap();
    assert_eq!(named(&counted(&[]), "release")["files"], 2);
    assert_eq!(named(&counted(&["--namespace", "elsewhere"]), "release")["files"], 0);
    command("keys").args(["list", "--namespace", "x", "--trust"]).arg(site.trust()).ends(2);
}

#[test]
fn mistakes_in_the_trust_directory_end_every_command_with_file_and_line() {
    let site = Site::new();
    site.put("f", b"content");
    sign(&site).ends(0);
    let broken = |name: &str, text: &str, told: &[&str]| {
        let path = site.trust().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        list(&site).ends(2).complains_of(told);
        verify(&site).ends(2).complains_of(told);
        fs::remove_file(&path).unwrap();
    };
    broken(
        "release.toml",
        "name = \"x\"\nuntil = 1\n",
        &["release.toml:2: unknown key \"until\"", "not_after"],
    );
    broken("release.toml", "paths = [\"/boot\"]\n", &["release.toml:1:", "\"/boot\"", "leave out the /"]);
    broken("gone.toml", "name = \"x\"\n", &["gone.toml", "no .pub"]);
    broken("trust.toml", "\nrequire = 99\n", &["trust.toml:2: require must be from 1 to 16"]);
    broken("revoked/a.txt", "\n123\n", &["revoked/a.txt:2", "\"123\" is no entry"]);
    broken("revoked/a.tx", "", &["revoked/a.tx", "rename or remove it"]);
    broken("c.crt", "x", &["c.crt", "X.509"]);
    verify(&site).ends(0);
    fs::remove_file(site.trust().join("release.pub")).unwrap();
    list(&site).ends(2).complains_of(&["holds no keys"]);
}
