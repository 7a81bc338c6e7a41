//! `nfs-verity policy`, and policies in `serve`: in text and signed, newer and older.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::cli::{Ends, P256, RSA, Said, command, make_certificate, make_key, openssl};
use crate::cli_serve::{events, serve, serve_on};
use crate::support::{Client, NFS3ERR_ACCES, Served, Site, eventually};

const KERNEL: &str = "policy_name=kernel policy_version=0.0.1\nDEFAULT action=ALLOW\n\
                      op=EXECUTE fsverity_signature=TRUE action=ALLOW\nDEFAULT op=EXECUTE action=DENY\n";

fn export(version: &str, rules: &str) -> String {
    format!("policy_name=export policy_version={version}\n{rules}")
}

fn policy(site: &Site, args: &[&str]) -> Command {
    let mut command = command("policy");
    command.args(args).current_dir(site.dir.path());
    command
}

/// A site with the files `open` and `secret`, the policy signers `p256` and `rsa`, and a certificate of the first
/// that is trusted for policies.
fn site() -> Site {
    let site = Site::new();
    site.put("open", b"for all");
    site.put("secret", b"for some");
    site.sign(&[]);
    for (name, algorithm) in [("p256", P256), ("rsa", RSA)] {
        make_key(&site, name, algorithm);
        make_certificate(&site, name);
    }
    fs::create_dir(site.path("policy-trust")).unwrap();
    fs::copy(site.path("p256.crt"), site.path("policy-trust/p256.crt")).unwrap();
    site
}

/// Signs `text` as NAME.pol.p7b with a key of [`site`].
fn signed(site: &Site, name: &str, text: &str, key: &str) -> PathBuf {
    let plain = format!("{name}.pol");
    fs::write(site.path(&plain), text).unwrap();
    let (pem, cert) = (format!("{key}.pem"), format!("{key}.crt"));
    policy(site, &["sign", "--key", &pem, "--cert", &cert, &plain]).ends(0);
    site.path(format!("{plain}.p7b"))
}

#[test]
fn check_tells_what_is_in_a_policy_and_where_it_is_wrong() {
    let site = site();
    fs::write(site.path("k.pol"), KERNEL).unwrap();
    let said = policy(&site, &["check", "k.pol"]).ends(0);
    assert!(
        said.out.starts_with("kernel 0.0.1: 1 rules, 2 defaults\nkernel: loads it, too\n"),
        "{}",
        said.out
    );
    assert!(!said.out.contains("note:"), "{}", said.out);
    let rules = "DEFAULT op=EXECUTE action=DENY\nop=READ path=boot/** action=ALLOW\nDEFAULT action=DENY\n";
    fs::write(site.path("e.pol"), export("1.0.0", rules)).unwrap();
    let said = policy(&site, &["check", "--rules", "e.pol"]).ends(0);
    assert!(said.out.contains("kernel: refuses it"), "{}", said.out);
    assert!(said.out.ends_with(&export("1.0.0", rules)), "{}", said.out);
    let notes = |said: &str| said.lines().filter(|line| line.starts_with("note: ")).count();
    assert!(said.out.contains("note: no rule allows op=LIST, so it is denied: DEFAULT action=DENY\n"));
    assert_eq!(notes(&said.out), 2, "{}", said.out);
    let kernel = ["EXECUTE", "FIRMWARE", "KMODULE", "KEXEC_IMAGE", "KEXEC_INITRAMFS", "POLICY", "X509_CERT"];
    let rules = kernel.map(|op| format!("DEFAULT op={op} action=ALLOW\n")).concat();
    fs::write(site.path("silent.pol"), export("1.0.0", &rules)).unwrap();
    let said = policy(&site, &["check", "silent.pol"]).ends(0);
    assert!(said.out.contains("note: nothing is said of op=READ, so it is denied\n"), "{}", said.out);
    assert_eq!(notes(&said.out), 3, "{}", said.out);
    fs::write(
        site.path("bad.pol"),
        export("1.0.0", "DEFAULT action=DENY\nop=READ colour=red action=ALLOW\n"),
    )
    .unwrap();
    let said = policy(&site, &["check", "bad.pol"]).ends(1);
    assert!(said.out.contains("bad.pol: line 3") && said.out.contains("colour=red"), "{}", said.out);
    policy(&site, &["check", "none.pol"]).ends(1);
}

#[test]
fn what_sign_makes_openssl_verifies_and_what_openssl_makes_is_taken() {
    let site = site();
    let text = export("1.2.3", "DEFAULT action=ALLOW\n");
    for key in ["p256", "rsa"] {
        signed(&site, "mine", &text, key);
        let cert = format!("{key}.crt");
        let args = ["smime", "-verify", "-binary", "-inform", "DER", "-in", "mine.pol.p7b", "-CAfile", &cert];
        let said = openssl(site.dir.path(), &[&args[..], &["-purpose", "any"]].concat());
        assert_eq!(said.out, text, "{key}");
        // As the kernel's documentation has it, and without -binary, which turns the ends of lines.
        for more in [&["-binary"][..], &[]] {
            let pem = format!("{key}.pem");
            let sign = ["smime", "-sign", "-in", "mine.pol", "-signer", &cert, "-inkey", &pem, "-noattr"];
            let how = ["-nodetach", "-nosmimecap", "-outform", "der", "-out", "theirs.p7b"];
            openssl(site.dir.path(), &[&sign[..], &how, more].concat());
            let said = policy(&site, &["check", "--policy-trust", &cert, "theirs.p7b"]).ends(0);
            assert!(said.out.contains("export 1.2.3") && said.out.contains("signed: "), "{}", said.out);
        }
    }
    let said = policy(&site, &["sign", "--key", "rsa.pem", "--cert", "p256.crt", "mine.pol"]).ends(2);
    said.complains_of(&["is about the key"]);
    fs::write(site.path("bad.pol"), "policy_name=x\n").unwrap();
    policy(&site, &["sign", "--key", "rsa.pem", "--cert", "rsa.crt", "bad.pol"]).ends(2);
    assert!(!site.path("bad.pol.p7b").exists());
}

#[test]
fn a_signed_policy_counts_under_its_signer_alone_and_to_the_last_byte() {
    let site = site();
    let mine = signed(&site, "mine", &export("1.0.0", "DEFAULT action=ALLOW\n"), "p256");
    let theirs = signed(&site, "theirs", &export("1.0.0", "DEFAULT action=ALLOW\n"), "rsa");
    let check = |trust: Option<&str>, file: &Path, code| -> Said {
        let trust = trust.map_or(Vec::new(), |trust| vec!["--policy-trust", trust]);
        policy(&site, &[&["check"], &trust[..], &[file.to_str().unwrap()]].concat()).ends(code)
    };
    check(Some("policy-trust"), &mine, 0);
    assert!(check(Some("policy-trust"), &theirs, 1).out.contains("unknown key"));
    assert!(check(Some("policy-trust"), &site.path("mine.pol"), 1).out.contains("not signed"));
    assert!(check(None, &mine, 1).out.contains("nobody is trusted to sign policies"));
    let bytes = fs::read(&mine).unwrap();
    let changed = site.path("changed.p7b");
    let at = bytes.windows(5).position(|window| window == b"ALLOW").unwrap();
    let mut other = bytes.clone();
    other[at..at + 5].copy_from_slice(b"DENY ");
    fs::write(&changed, &other).unwrap();
    assert!(check(Some("policy-trust"), &changed, 1).out.contains("bad signature"));
    for len in (0..bytes.len()).step_by(17) {
        fs::write(&changed, &bytes[..len]).unwrap();
        check(Some("policy-trust"), &changed, 1);
    }
}

#[test]
fn explain_names_the_rule_and_exits_as_it_decides() {
    let site = site();
    let rules = "DEFAULT action=DENY\nop=READ client=10.0.0.0/8 action=ALLOW\n\
                 op=READ path=open signer=release action=ALLOW\n";
    fs::write(site.path("e.pol"), export("1.0.0", rules)).unwrap();
    let explain = |more: &[&str], code| {
        let args = ["explain", "e.pol", "--store", "tree", "--trust", "trust", "--json"];
        policy(&site, &[&args[..], more].concat()).ends(code).json()
    };
    let said = explain(&["--path", "open"], 0);
    assert_eq!(
        (&said["allowed"], &said["line"], &said["action"]),
        (&true.into(), &4.into(), &"ALLOW".into())
    );
    assert_eq!(said["missed"][0]["because"], "client=10.0.0.0/8");
    let said = explain(&["--path", "secret"], 1);
    assert_eq!((&said["allowed"], &said["line"]), (&false.into(), &2.into()));
    assert_eq!(explain(&["--path", "secret", "--client", "10.1.2.3"], 0)["line"], 3);
    explain(&["--path", "open", "--op", "XATTR"], 1);
    site.put("loose", b"unsigned");
    let said = explain(&["--path", "loose", "--client", "10.1.2.3"], 1);
    assert_eq!((&said["cause"], &said["action"]), (&"unsigned".into(), &"ALLOW".into()));
    let said =
        policy(&site, &["explain", "e.pol", "--store", "tree", "--trust", "trust", "--path", "open"]).ends(0);
    assert!(said.out.contains("line 3: op=READ client=10.0.0.0/8 action=ALLOW: not so: client=10.0.0.0/8\n"));
    assert!(said.out.ends_with("READ under export 1.0.0: ALLOW\n"), "{}", said.out);
}

#[test]
fn test_compares_each_case_with_what_the_policy_decides() {
    let site = site();
    let rules = "DEFAULT action=DENY\nop=READ path=boot/** quorum=2 action=ALLOW\n\
                 op=READ client=10.0.0.0/8 uid=7 signed_after=2026-01-01 action=ALLOW\n";
    fs::write(site.path("e.pol"), export("1.0.0", rules)).unwrap();
    let (one, two) = ("01".repeat(32), "02".repeat(32));
    let good = format!(
        "[[case]]\nname = \"two signers\"\nop = \"READ\"\npath = \"/boot/image\"\n\
         signers = [{{ key = \"{one}\" }}, {{ key = \"{two}\" }}]\nexpect = \"ALLOW\"\nline = 3\n\
         [[case]]\nop = \"READ\"\npath = \"boot/image\"\nsigners = [{{ key = \"{one}\" }}]\nexpect = \"DENY\"\nline = 2\n\
         [[case]]\nop = \"READ\"\nclient = \"::ffff:10.0.0.1\"\nuid = 7\nsigned_at = \"2026-02-01T00:00:00Z\"\n\
         expect = \"ALLOW\"\nline = 4\n"
    );
    fs::write(site.path("cases.toml"), &good).unwrap();
    let said = policy(&site, &["test", "e.pol", "cases.toml"]).ends(0);
    assert_eq!(said.out, "3 cases, 0 not as expected\n");
    fs::write(site.path("cases.toml"), good.replacen("ALLOW", "DENY", 1)).unwrap();
    let said = policy(&site, &["test", "e.pol", "cases.toml"]).ends(1);
    assert!(
        said.out.starts_with("two signers: ALLOW by line 3: op=READ path=boot/** quorum=2"),
        "{}",
        said.out
    );
    fs::write(site.path("cases.toml"), good.replace("line = 4", "line = 3")).unwrap();
    policy(&site, &["test", "e.pol", "cases.toml"]).ends(1);
    for (from, to) in [("uid", "gid"), ("READ", "read"), ("ALLOW", "allow"), ("2026-02-01T", "2026-")] {
        fs::write(site.path("cases.toml"), good.replace(from, to)).unwrap();
        policy(&site, &["test", "e.pol", "cases.toml"]).ends(2).complains_of(&["cases.toml"]);
    }
}

fn reads(served: &Served, name: &str) -> bool {
    let mut client = Client::connect(served.nfs);
    let file = client.find(name).unwrap();
    match client.read(&file, 0, 100) {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status, NFS3ERR_ACCES);
            false
        }
    }
}

/// All bits of ACCESS.
const READ_AND_ALL: u32 = 0x3f;
const SECRET: &str = "DEFAULT action=ALLOW\nop=READ path=secret action=DENY\n";
const NOTHING: &str = "DEFAULT action=ALLOW\nop=READ action=DENY\n";

#[test]
fn serve_refuses_what_the_policy_denies_with_the_records_of_the_kernel() {
    let site = site();
    fs::write(site.path("e.pol"), export("1.0.0", SECRET)).unwrap();
    let (file, log) = (site.path("e.pol"), site.path("audit.log"));
    let (file, log_flag) = (file.to_str().unwrap(), log.to_str().unwrap());
    let served = site.serve(&["--policy", file, "--audit-log", log_flag]);
    assert!(reads(&served, "open") && !reads(&served, "secret"));
    // A client that asks first never reads. Asked for all there is, policy also denies what nobody wants.
    let count = "nfs_verity_refused_total{cause=\"denied by policy\",class=\"denied\"}";
    assert_eq!(served.metric(count), 1.0);
    let mut client = Client::connect(served.nfs);
    let secret = client.find("secret").unwrap();
    for (wanted, told) in [(READ_AND_ALL, 2.0), (READ_AND_ALL & !1, 2.0), (1, 3.0)] {
        assert_eq!(client.access(&secret, wanted).unwrap() & 1, 0);
        assert_eq!(served.metric(count), told);
    }
    let refused = || events(&log, "refused");
    eventually("it is written", || !refused().is_empty());
    let line = &refused()[0];
    assert_eq!((&line["cause"], &line["class"]), (&"denied by policy".into(), &"denied".into()));
    let record = line["record"].as_str().unwrap();
    let begin = "type=1420 ipe_op=READ ipe_hook=NFS_READ enforcing=1 pid=";
    assert!(record.starts_with(begin) && record.contains(" path=\"/secret\" dev=\"nfs\" ino="), "{record}");
    assert!(record.contains("rule=\"op=READ path="), "{record}");
    assert!(line["detail"].as_str().unwrap().contains("export 1.0.0, line 3"), "{line}");
    let loaded = &events(&log, "policy-loaded")[0];
    let record = loaded["record"].as_str().unwrap();
    assert!(
        record.starts_with("type=1422 policy_name=\"export\" policy_version=1.0.0 policy_digest=sha256:")
    );
    assert!(record.ends_with("lsm=ipe res=1 errno=0"), "{record}");
    eventually("it is told", || !events(&log, "policy-changed").is_empty());
    let changed = &events(&log, "policy-changed")[0]["record"];
    let begin = "type=1421 old_active_pol_name=? old_active_pol_version=? old_policy_digest=? new_active_pol_name=\"export\"";
    assert!(changed.as_str().unwrap().starts_with(begin), "{changed}");
    eventually("all is written", || refused().len() == 3);
    assert!(refused()[1]["record"].as_str().unwrap().contains("ipe_op=READ ipe_hook=NFS_ACCESS enforcing=1"));
}

#[test]
fn what_a_policy_keeps_back_is_told_once_for_each_call() {
    let site = site();
    let served = site.serve(&[]);
    let said = Client::connect(served.nfs).find(".verity/open/digest").unwrap();
    drop(served);
    let file = site.path("e.pol");
    fs::write(&file, export("1.0.0", "DEFAULT action=ALLOW\nop=XATTR path=open action=DENY\n")).unwrap();
    let served = site.serve(&["--policy", file.to_str().unwrap()]);
    let mut client = Client::connect(served.nfs);
    for n in 1..4 {
        // The answer has no attributes beside the error, either.
        assert_eq!(client.read(&said, 0, 10), Err(NFS3ERR_ACCES));
        let count = "nfs_verity_refused_total{cause=\"denied by policy\",class=\"denied\"}";
        assert_eq!(served.metric(count), f64::from(n));
    }
}

#[test]
fn a_permissive_policy_is_a_relaxation_and_proves_nothing_less() {
    let site = site();
    fs::write(site.path("e.pol"), export("1.0.0", NOTHING)).unwrap();
    let (file, log) = (site.path("e.pol"), site.path("audit.log"));
    let flags = ["--policy", file.to_str().unwrap(), "--policy-mode", "permissive"];
    let served = site.serve(&[&flags[..], &["--audit-log", log.to_str().unwrap()]].concat());
    assert!(reads(&served, "open"));
    let refused = || events(&log, "refused");
    eventually("it is told", || !refused().is_empty());
    assert_eq!(refused()[0]["served"], true);
    assert!(refused()[0]["record"].as_str().unwrap().contains(" enforcing=0 "));
    assert_eq!(served.metric("nfs_verity_relaxed"), 1.0);
    assert_eq!(served.metric("nfs_verity_served_unproven_total"), 0.0);
    eventually("all is told", || {
        !events(&log, "relaxed").is_empty() && events(&log, "policy-changed").len() == 2
    });
    assert!(events(&log, "relaxed").iter().any(|line| line["setting"] == "policy_mode = \"permissive\""));
    let status =
        |line: &Value| line["record"].as_str().unwrap().starts_with("type=1404 enforcing=0 old_enforcing=1");
    assert!(events(&log, "policy-changed").iter().any(status));
}

#[test]
fn sighup_takes_newer_policies_and_refuses_bad_and_older_ones() {
    let site = site();
    let file = signed(&site, "e", &export("1.0.0", NOTHING), "p256");
    let log = site.path("audit.log");
    let config = site.path("gateway.toml");
    fs::write(
        &config,
        format!(
            "policy = \"{}\"\npolicy_trust = \"policy-trust\"\npolicy_active = \"export\"\n",
            file.file_name().unwrap().to_str().unwrap()
        ),
    )
    .unwrap();
    let flags = ["--config", config.to_str().unwrap(), "--audit-log", log.to_str().unwrap()];
    let mut served = site.serve(&flags);
    assert!(!reads(&served, "open"));
    let refusals = || events(&log, "policy-loaded").iter().filter(|line| line["error"].is_string()).count();

    signed(&site, "e", &export("1.1.0", SECRET), "p256");
    served.signal("HUP");
    eventually("the newer one rules", || reads(&served, "open"));
    assert!(!reads(&served, "secret"));

    // An older one, another of the same version, one of another name, a stranger's, one without signature, no file,
    // and none.
    let newest = fs::read(&file).unwrap();
    let more = openssl(site.dir.path(), &["pkey", "-in", "rsa.pem", "-pubout"]).out;
    let other = "policy_name=lab policy_version=9.0.0\nDEFAULT action=DENY\n";
    let tries: [&dyn Fn(); 7] = [
        &|| _ = signed(&site, "e", &export("1.0.9", NOTHING), "p256"),
        &|| _ = signed(&site, "e", &export("1.1.0", NOTHING), "p256"),
        &|| _ = signed(&site, "e", other, "p256"),
        &|| _ = signed(&site, "e", &export("1.2.0", NOTHING), "rsa"),
        &|| fs::write(&file, export("1.2.0", NOTHING)).unwrap(),
        &|| {
            fs::remove_file(&file).unwrap();
            assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        },
        &|| fs::remove_file(&file).unwrap(),
    ];
    for (n, attempt) in tries.iter().enumerate() {
        attempt();
        // What comes with it is not taken either.
        fs::write(site.trust().join("more.pub"), &more).unwrap();
        served.signal("HUP");
        eventually("it is refused", || refusals() == n + 1);
        assert!(reads(&served, "open"), "{n}: what ruled before still does");
        assert_eq!(served.metric("nfs_verity_trusted_keys"), 1.0, "{n}");
    }
    fs::remove_file(site.trust().join("more.pub")).unwrap();
    let line = &events(&log, "policy-loaded").into_iter().rfind(|line| line["error"].is_string()).unwrap();
    assert!(line["record"].as_str().unwrap().ends_with("res=0 errno=-2"), "{line}");

    // What comes with broken trust is not taken, and keeps nothing older out.
    signed(&site, "e", &export("1.2.0", NOTHING), "p256");
    fs::write(site.trust().join("broken.pub"), "no key").unwrap();
    served.signal("HUP");
    eventually("it is refused", || events(&log, "reload-refused").iter().any(|line| line["what"] == "trust"));
    fs::remove_file(site.trust().join("broken.pub")).unwrap();
    fs::write(&file, &newest).unwrap();
    let (before, refused) = (events(&log, "reloaded").len(), refusals());
    served.signal("HUP");
    eventually("it is taken", || events(&log, "reloaded").len() > before);
    assert_eq!(refusals(), refused);

    // The version is remembered over a restart; that of a start that fails is not.
    assert_eq!(served.stop(), Some(0));
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    signed(&site, "e", &export("1.2.0", NOTHING), "p256");
    let mut taken = serve_on(&site, &busy.local_addr().unwrap().to_string());
    taken.args(flags).ends(3).complains_of(&["in use"]);
    signed(&site, "e", &export("1.0.9", NOTHING), "p256");
    serve(&site).args(flags).ends(2).complains_of(&["export 1.0.9 is not newer than 1.1.0"]);
    fs::write(&file, &newest).unwrap();
    assert!(reads(&site.serve(&flags), "open"));
}

#[test]
fn one_of_several_policies_rules_and_switching_is_told() {
    let site = site();
    fs::write(site.path("a.pol"), export("1.0.0", SECRET)).unwrap();
    fs::write(site.path("b.pol"), "policy_name=closed policy_version=2.0.0\nDEFAULT action=DENY\n").unwrap();
    let (config, log) = (site.path("gateway.toml"), site.path("audit.log"));
    let both = "policy = [\"a.pol\", \"b.pol\"]\n";
    fs::write(&config, both).unwrap();
    let served = site.serve(&["--config", config.to_str().unwrap(), "--audit-log", log.to_str().unwrap()]);
    assert!(reads(&served, "open"));
    eventually("it is told", || events(&log, "policy-changed").len() == 1);
    fs::write(&config, format!("{both}policy_active = \"closed\"\n")).unwrap();
    served.signal("HUP");
    eventually("the other one rules", || !reads(&served, "open"));
    let changes = || events(&log, "policy-changed");
    eventually("it is told", || changes().len() == 2);
    let record = changes()[1]["record"].as_str().unwrap().to_owned();
    assert!(record.contains("old_active_pol_name=\"export\" old_active_pol_version=1.0.0"), "{record}");
    assert!(record.contains("new_active_pol_name=\"closed\" new_active_pol_version=2.0.0"), "{record}");
    fs::write(&config, format!("{both}policy_active = \"open\"\n")).unwrap();
    served.signal("HUP");
    let refused = || events(&log, "policy-loaded").into_iter().find(|line| line["error"].is_string());
    eventually("it is refused", || refused().is_some());
    assert!(refused().unwrap()["error"].as_str().unwrap().contains("the policies are export, closed"));
    assert!(!reads(&served, "open"));
    fs::write(&config, "").unwrap();
    served.signal("HUP");
    eventually("no policy rules", || reads(&served, "open"));
}

#[test]
fn a_key_that_is_revoked_for_files_signs_no_policies() {
    let site = site();
    let file = signed(&site, "e", &export("1.0.0", SECRET), "p256");
    let flags = ["--policy", file.to_str().unwrap(), "--policy-active", "export", "--policy-trust"];
    let trust = site.path("policy-trust");
    let flags = [&flags[..], &[trust.to_str().unwrap()]].concat();
    assert!(reads(&site.serve(&flags), "open"));
    fs::create_dir(site.trust().join("revoked")).unwrap();
    fs::copy(site.path("p256.pub"), site.trust().join("revoked/p256.pub")).unwrap();
    serve(&site).args(flags).ends(2).complains_of(&["revoked"]);
    serve(&site)
        .args(["--policy", "x", "--policy-trust", "y"])
        .ends(2)
        .complains_of(&["policy_active must be given with policy_trust"]);
}

#[test]
fn a_dated_signature_is_held_to_its_date_and_signed_once() {
    let site = site();
    fs::write(
        site.path("e.pol"),
        export("1.0.0", "DEFAULT action=DENY\nop=READ signed_after=2026-01-01 action=ALLOW\n"),
    )
    .unwrap();
    let explain = ["explain", "e.pol", "--store", "tree", "--trust", "trust", "--path", "open"];
    policy(&site, &explain).ends(1);
    let sign = |more: &[&str]| {
        let mut command = command("sign");
        command.arg("--key").arg(site.key()).arg("--json").args(more).arg(site.tree()).ends(0).json()
    };
    assert_eq!(sign(&["--dated"])["signed"], 2, "what has no date is signed again");
    assert_eq!(sign(&["--dated"])["unchanged"], 2);
    policy(&site, &explain).ends(0);
    let mut inspect = command("inspect");
    let said = inspect.arg("--json").arg(site.tree()).arg("open").ends(0).json();
    let signed: jiff::Timestamp = said["statement"]["signed"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().as_second() - signed.as_second() < 600);
}
