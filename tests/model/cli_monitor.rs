//! Who sees the monitor of a running gateway.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::cli::{Ends, command, flip, keygen};
use crate::cli_serve::events;
use crate::support::{Client, NFS3ERR_IO, Served, Site, content, eventually, write_private};

const OLD: &str = "old-0123456789abcdef";
const NEW: &str = "new-0123456789abcdef";

/// The status that `request` is answered with, and the answer.
fn ask(monitor: SocketAddr, request: &str, token: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(monitor).unwrap();
    let shown = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    write!(stream, "{request} HTTP/1.1\r\nHost: gateway.example\r\n{shown}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn put_token(path: &Path, token: &str) {
    write_private(path, format!("{token}\n").as_bytes());
}

#[test]
fn the_monitor_is_seen_by_those_with_the_token() {
    let site = Site::new();
    let token = site.path("monitor.token");
    put_token(&token, OLD);
    let served = site.serve(&["--monitor-token", token.to_str().unwrap()]);
    for path in ["/", "/metrics", "/nowhere"] {
        assert_eq!(ask(served.monitor, &format!("GET {path}"), None).0, 401);
        assert_eq!(ask(served.monitor, &format!("GET {path}"), Some(NEW)).0, 401);
    }
    let (status, answer) = ask(served.monitor, "GET /", None);
    assert!(status == 401 && answer.contains("www-authenticate: Basic "), "{answer}");
    assert_eq!(ask(served.monitor, "GET /", Some(OLD)).0, 200);
    let (_, metrics) = ask(served.monitor, "GET /metrics", Some(OLD));
    assert!(metrics.contains("nfs_verity_reads_total 0"), "{metrics}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(served.monitor, &format!("GET {path}"), None).0, 200);
    }
}

/// The blocks of a file by what they are: first, how many, and what.
fn map(file: &Value) -> Vec<(u64, u64, &str)> {
    let number = |run: &Value, name: &str| run[name].as_u64().unwrap();
    let runs = file["map"].as_array().unwrap().iter();
    runs.map(|run| (number(run, "first"), number(run, "count"), run["state"].as_str().unwrap())).collect()
}

#[test]
fn a_file_shows_what_was_proven_and_a_check_reads_the_rest() {
    let site = Site::new();
    site.put("f", &content(1, 20 * 4096));
    site.sign(&[]);
    for block in [5, 9] {
        flip(&site.tree().join("f"), block * 4096 + 7);
    }
    let token = site.path("monitor.token");
    put_token(&token, OLD);
    let served = site.serve(&["--monitor-token", token.to_str().unwrap()]);
    let file = || {
        let (status, answer) = ask(served.monitor, "GET /api/v1/files?path=f", Some(OLD));
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    assert_eq!(map(&file()), [(0, 20, "unknown")]);
    let mut client = Client::connect(served.nfs);
    let handle = client.find("f").unwrap();
    assert!(client.read(&handle, 17 * 4096, 4096).is_ok());
    assert_eq!(client.read(&handle, 5 * 4096, 4096), Err(NFS3ERR_IO));
    let known = [(0, 5, "unknown"), (5, 1, "bad"), (6, 11, "unknown"), (17, 1, "good"), (18, 2, "unknown")];
    assert_eq!(map(&file()), known);
    // To look is not enough to make it read.
    let check = "POST /api/v1/files/check?path=f";
    assert_eq!(ask(served.monitor, check, None).0, 401);
    assert_eq!(ask(served.monitor, &check.replace("=f", "=g"), Some(OLD)).0, 404);
    assert_eq!(ask(served.monitor, check, Some(OLD)).0, 202);
    eventually("all of it is read", || file()["checked"]["running"] == false);
    let file = file();
    assert_eq!(file["checked"]["failing_blocks"], 2, "{file:#}");
    let known = [(0, 5, "good"), (5, 1, "bad"), (6, 3, "good"), (9, 1, "bad"), (10, 10, "good")];
    assert_eq!(map(&file), known);

    // Another version of it was not read.
    site.put("f", &content(2, 20 * 4096));
    site.sign(&[]);
    let (_, answer) = ask(served.monitor, "GET /api/v1/files?path=f", Some(OLD));
    let file: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert!(map(&file).iter().all(|(_, _, state)| *state != "good"), "{file:#}");
}

#[test]
fn without_a_token_names_of_others_and_changes_are_refused() {
    let site = Site::new();
    let served = site.serve(&[]);
    assert_eq!(ask(served.monitor, "GET /", None).0, 421);
    assert!(served.get("/metrics").ends_with("# EOF\n"), "which asks for localhost");
    let mut stream = TcpStream::connect(served.monitor).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nHost: {}\r\n\r\n", served.monitor).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("set monitor_token"), "{answer}");
}

#[test]
fn a_monitor_that_everybody_could_see_is_refused() {
    let site = Site::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9649"] {
        let wanted = [&format!("monitor is {address}"), "--monitor-token FILE", "client_ca"];
        serve_beyond(&site, address).ends(2).complains_of(&wanted);
    }
    let config = site.path("gateway.toml");
    fs::write(&config, "store = \"tree\"\ntrust = \"trust\"\nmonitor = \"0.0.0.0:0\"\n").unwrap();
    command("serve").arg("--config").arg(&config).ends(2).complains_of(&["monitor is 0.0.0.0:0"]);

    let token = site.path("monitor.token");
    let with_token = || {
        let mut serve = serve_beyond(&site, "0.0.0.0:0");
        serve.arg("--monitor-token").arg(&token);
        serve
    };
    let how = "head -c 32 /dev/urandom | base64 >";
    with_token().ends(2).complains_of(&["monitor.token: cannot be read", how]);
    put_token(&token, "short");
    with_token().ends(2).complains_of(&["monitor.token: a token has 16 to 512 characters, not 5", how]);
    put_token(&token, OLD);
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    with_token().ends(2).complains_of(&["monitor.token: its mode 0644", "chmod 600"]);
}

/// `serve` with its monitor at `address`, which it is not to open.
fn serve_beyond(site: &Site, address: &str) -> std::process::Command {
    let mut serve = command("serve");
    serve.arg("--store").arg(site.tree()).arg("--trust").arg(site.trust());
    serve.arg("--state").arg(site.path("state")).args(["--listen", "127.0.0.1:0", "--monitor", address]);
    serve
}

#[test]
fn a_hangup_takes_a_new_token_and_refuses_a_broken_one() {
    let site = Site::new();
    let (config, token, log) = (site.path("gateway.toml"), site.path("token"), site.path("audit.log"));
    let text = "store = \"tree\"\ntrust = \"trust\"\nstate = \"state\"\naudit_log = \"audit.log\"\n\
                listen = \"127.0.0.1:0\"\nmonitor = \"127.0.0.1:0\"\nmonitor_token = \"token\"\n";
    fs::write(&config, text).unwrap();
    put_token(&token, OLD);
    let served = Served::spawn(command("serve").arg("--config").arg(&config).env("RUST_LOG", "error"));
    let hangup = |event: &str, so_far: usize| {
        served.signal("HUP");
        eventually(event, || events(&log, event).len() > so_far);
        events(&log, event).remove(so_far)
    };
    let sees = |token| ask(served.monitor, "GET /", Some(token)).0 == 200;
    let keys = |token, count: u32| {
        let (_, metrics) = ask(served.monitor, "GET /metrics", Some(token));
        metrics.contains(&format!("\nnfs_verity_trusted_keys {count}\n"))
    };
    assert!(sees(OLD) && !sees(NEW));

    // A key that comes with it is not taken either.
    keygen(&site, "second");
    fs::copy(site.path("second.pub"), site.trust().join("second.pub")).unwrap();
    put_token(&token, "no token at all");
    let refused = hangup("reload-refused", 0);
    assert!(refused["error"].as_str().unwrap().contains("token: a token is one line"), "{refused}");
    assert!(events(&log, "reloaded").is_empty() && sees(OLD) && keys(OLD, 1));

    put_token(&token, NEW);
    hangup("reloaded", 1);
    assert!(sees(NEW) && !sees(OLD) && keys(NEW, 2));
    assert!(events(&log, "reloaded").iter().all(|line| !line.to_string().contains(NEW)));

    fs::write(&config, text.replace("monitor_token", "#")).unwrap();
    hangup("reloaded", 3);
    assert_eq!(ask(served.monitor, "GET /", Some(NEW)).0, 421, "and none is asked for on loopback");
}
