//! `nfs-verity status`, `events` and `health`: a running gateway asked for what it does.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::cli::{Ends, P256, Said, command, flip, make_key, openssl};
use crate::support::{Client, NFS3ERR_IO, Served, Site, content, eventually, write_private};

/// A signed tree with a file that is damaged afterwards.
fn site() -> Site {
    let site = Site::new();
    site.put("good", b"proven");
    site.put("dir/damaged", &content(1, 20_000));
    site.sign(&[]);
    flip(&site.tree().join("dir/damaged"), 9000);
    site
}

/// Reads the damaged file.
fn meet_damage(served: &Served) {
    let mut client = Client::connect(served.nfs);
    let file = client.find("dir/damaged").unwrap();
    assert_eq!(client.read(&file, 8192, 4096), Err(NFS3ERR_IO));
}

/// A command that asks `served`.
fn asking(name: &str, served: &Served) -> Command {
    let mut asking = command(name);
    asking.arg("--monitor").arg(served.monitor.to_string());
    asking
}

fn events(served: &Served, more: &[&str]) -> Vec<Value> {
    asking("events", served).arg("--json").args(more).ends(0).json_lines()
}

#[test]
fn status_tells_what_is_served_and_that_it_is_well() {
    let site = site();
    let served = site.serve(&["--namespace", "releases"]);
    let json = asking("status", &served).arg("--json").ends(0).json();
    assert_eq!((&json["phase"], &json["health"]), (&"serving".into(), &"good".into()), "{json}");
    assert_eq!(json["nfs"], served.nfs.to_string());
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&json["namespace"], &json["mode"]), (&"releases".into(), &"enforce".into()));
    assert_eq!((&json["keys"][0]["name"], &json["keys"][0]["state"]), (&"release".into(), &"trusted".into()));
    assert_eq!((&json["stores"][0]["role"], &json["stores"][0]["up"]), (&"store".into(), &true.into()));
    let said = asking("status", &served).ends(0);
    let tree = site.tree();
    for word in ["health       good", tree.to_str().unwrap(), "releases", &served.nfs.to_string(), "keys: 1"]
    {
        assert!(said.out.contains(word), "{word} in {}", said.out);
    }
    assert!(!said.out.contains("RELAXED") && said.err.is_empty(), "{}{}", said.out, said.err);
    // The same by a URL.
    let url = format!("http://{}/", served.monitor);
    command("status").arg("--monitor").arg(url).ends(0);
}

#[test]
fn status_tells_what_fails_and_what_relaxes() {
    let site = site();
    let served = site.serve(&[]);
    meet_damage(&served);
    let ask = |more: &[&str]| {
        let output = asking("status", &served).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    eventually("the damage is told", || ask(&[]).1.contains("failing "));
    let (code, json) = ask(&["--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let failing = &json["failing"][0];
    assert_eq!((&failing["path"], &failing["cause"]), (&"dir/damaged".into(), &"bad block".into()), "{json}");
    assert_eq!((&failing["block"], &json["refused"]["bad block"]), (&2.into(), &1.into()), "{json}");
    assert_ne!(json["health"], "good");
    assert_eq!(code, Some(if json["health"] == "bad" { 1 } else { 0 }), "{json}");
    assert!(ask(&[]).1.contains("failing      dir/damaged: bad block, block 2, "), "{}", ask(&[]).1);

    let relaxed = site.serve(&["--mode", "warn", "--state", site.path("other").to_str().unwrap()]);
    let output = asking("status", &relaxed).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("RELAXED") && text.contains("warn"), "{text}");
}

#[test]
fn events_are_told_in_order_and_by_kind_and_time() {
    let site = site();
    let served = site.serve(&[]);
    meet_damage(&served);
    eventually("the refusal is told", || {
        events(&served, &[]).iter().any(|event| event["event"] == "refused")
    });
    let all = events(&served, &[]);
    assert_eq!(all[0]["event"], "started", "{all:?}");
    let ids: Vec<u64> = all.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let refused = events(&served, &["--kind", "refused"]);
    assert_eq!((refused.len(), &refused[0]["path"]), (1, &"dir/damaged".into()), "{refused:?}");
    assert_eq!(events(&served, &["--kind", "refused,started", "--since", "1h"]).len(), 2);
    assert!(events(&served, &["--since", "2099-01-01T00:00:00Z"]).is_empty());
    let Said { out, err } = asking("events", &served).ends(0);
    let line = out.lines().find(|line| line.contains("refused")).unwrap();
    assert!(line.contains("  refused         dir/damaged: bad block, block 2, client 127.0.0.1:"), "{line}");
    assert_eq!(err, "");
}

/// A command that goes on, and what it says.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn new(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (out, (told, lines)) = (BufReader::new(child.stdout.take().unwrap()), channel());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        Self { child, lines }
    }

    /// Waits for a line with all of `words`.
    fn wait_for(&self, words: &[&str]) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|error| panic!("no line with {words:?}: {error}"));
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn followed_events_come_as_they_happen_also_of_the_next_life() {
    let site = site();
    let first = site.serve(&[]);
    let monitor = first.monitor.to_string();
    let mut following = Following::new(asking("events", &first).args(["--follow", "--json"]));
    following.wait_for(&["\"event\":\"started\""]);
    meet_damage(&first);
    following.wait_for(&["\"event\":\"refused\"", "dir/damaged"]);
    first.signal("HUP");
    following.wait_for(&["\"event\":\"reloaded\""]);
    drop(first);
    let second = site.serve(&["--monitor", &monitor]);
    following.wait_for(&["\"event\":\"started\""]);
    meet_damage(&second);
    following.wait_for(&["\"event\":\"refused\"", "dir/damaged"]);
    let pid = following.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    eventually("it ends", || following.child.try_wait().unwrap().is_some());
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_output_that_is_closed_ends_events_without_a_complaint() {
    let site = site();
    let served = site.serve(&[]);
    let mut child = asking("events", &served);
    let mut child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
}

#[test]
fn health_follows_the_gateway() {
    let site = site();
    let mut served = site.serve(&[]);
    let health = |served: &Served, code| asking("health", served).ends(code);
    assert_eq!(health(&served, 0).out, "ok\n");
    meet_damage(&served);
    assert_eq!(health(&served, 0).out, "ok\n", "it serves what is proven");
    assert_eq!(served.stop(), Some(0));
    let said = health(&served, 1);
    assert_eq!(said.out, "");
    said.complains_of(&[&served.monitor.to_string(), "is the gateway running"]);
    // A program that answers something else is no gateway.
    command("health").args(["--monitor", "user:secret@127.0.0.1:1"]).ends(1).complains_of(&["--token-file"]);
    let wrong = site.path("no.pem");
    fs::write(&wrong, "no certificate").unwrap();
    command("health").arg("--ca").arg(&wrong).ends(1).complains_of(&["no.pem"]);
}

/// A site with certificates `server` and `client` by `authority`, and a `stranger`, for 127.0.0.1.
fn certified() -> Site {
    let site = site();
    for name in ["authority", "server", "client", "stranger"] {
        make_key(&site, name, P256);
        let (key, subject, out) = (format!("{name}.pem"), format!("/CN={name}"), format!("{name}.crt"));
        let new = ["req", "-x509", "-new", "-key", &key, "-subj", &subject, "-days", "9", "-out", &out];
        let issuer = ["-CA", "authority.crt", "-CAkey", "authority.pem"];
        let leaf =
            ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"];
        let more = if matches!(name, "server" | "client") { [issuer, leaf].concat() } else { Vec::new() };
        openssl(site.dir.path(), &[&new[..], &more].concat());
    }
    site
}

/// A gateway over https whose monitor is for those that `access`, a line of the configuration, lets in.
fn over_https(site: &Site, access: &str) -> (Served, String) {
    let text = "store = \"tree\"\ntrust = \"trust\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n\
                monitor = \"127.0.0.1:0\"\n";
    let config = site.path("gateway.toml");
    fs::write(&config, format!("{text}{access}\n")).unwrap();
    let served = Served::spawn(command("serve").arg("--config").arg(config));
    let url = format!("https://{}", served.monitor);
    (served, url)
}

/// What opens a monitor opens it to `status` and `events`, also where these follow.
fn opened(site: &Site, url: &str, flags: &[&str]) {
    let ask = |name: &str| {
        let mut command = command(name);
        command.current_dir(&site.dir).args(["--monitor", url, "--ca", "authority.crt"]).args(flags);
        command
    };
    assert!(ask("status").ends(0).out.starts_with("health       good\n"));
    assert!(ask("events").ends(0).out.contains("  started "));
    Following::new(ask("events").arg("--follow")).wait_for(&["  started "]);
}

/// `status` of a monitor over https that does not let it in.
fn refused(site: &Site, url: &str, flags: &[&str], words: &[&str]) {
    command("status").current_dir(&site.dir).args(["--monitor", url]).args(flags).ends(3).complains_of(words);
}

#[test]
fn a_token_goes_over_https_to_whom_an_authority_vouches_for() {
    let site = certified();
    write_private(&site.path("monitor.token"), b"sesame-0123456789\n");
    write_private(&site.path("other.token"), b"another-0123456789\n");
    let access =
        "monitor_token = \"monitor.token\"\nmonitor_tls = { cert = \"server.crt\", key = \"server.pem\" }";
    let (served, url) = over_https(&site, access);
    let (ca, token) = (["--ca", "authority.crt"], ["--token-file", "monitor.token"]);
    opened(&site, &url, &token);
    command("health").current_dir(&site.dir).args(["--monitor", &url]).args(ca).ends(0);
    refused(&site, &url, &ca, &["401", "--token-file", "--cert"]);
    refused(&site, &url, &[&ca[..], &["--token-file", "other.token"]].concat(), &["401"]);
    refused(&site, &url, &[&["--ca", "stranger.crt"], &token[..]].concat(), &["UnknownIssuer"]);
    refused(&site, &url, &token, &["UnknownIssuer"]);
    command("health").args(["--monitor", &url]).ends(1).complains_of(&["UnknownIssuer"]);
    command("health").args(["--monitor", &served.monitor.to_string()]).ends(1);
}

#[test]
fn a_certificate_opens_a_monitor_that_wants_one() {
    let site = certified();
    let access =
        "monitor_tls = { cert = \"server.crt\", key = \"server.pem\", client_ca = \"authority.crt\" }";
    let (_served, url) = over_https(&site, access);
    let (ca, certificate) = (["--ca", "authority.crt"], ["--cert", "client.crt", "--key", "client.pem"]);
    opened(&site, &url, &certificate);
    let mut health = command("health");
    health.current_dir(&site.dir).args(["--monitor", &url]).args(ca).args(certificate);
    assert_eq!(health.ends(0).out, "ok\n");
    refused(&site, &url, &ca, &["may want a certificate (--cert)"]);
    refused(&site, &url, &[&ca[..], &["--cert", "stranger.crt", "--key", "stranger.pem"]].concat(), &[]);
    let mut other = command("status");
    other.current_dir(&site.dir).args(["--monitor", &url]).args(ca);
    other.args(["--cert", "client.crt", "--key", "stranger.pem"]).ends(2).complains_of(&["--cert"]);
}
