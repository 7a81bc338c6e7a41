//! `nfs-verity serve`: who is told of what happens, beside the audit log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::{fs, thread};

use serde_json::Value;

use crate::cli::{Ends, flip, openssl};
use crate::cli_serve::serve;
use crate::support::{Client, NFS3ERR_IO, Site, content, eventually, write_private};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The next request, its head and its body; it is taken.
fn request(listener: &TcpListener) -> (Vec<String>, Vec<u8>) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut body = vec![0; header(&lines, "content-length").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    (lines, body)
}

fn header<'a>(lines: &'a [String], name: &str) -> &'a str {
    let mut headers = lines.iter().filter_map(|line| line.split_once(": "));
    headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).unwrap().1
}

/// A configuration with a webhook at `address`.
fn hooked(site: &Site, address: &str) -> String {
    let path = site.path("gateway.toml");
    let hook =
        format!("webhook = {{ url = \"http://{address}/hook?token=xyz\", secret = \"hook.secret\" }}\n");
    fs::write(&path, hook).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_webhook_is_told_of_a_damaged_block() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    site.put("f", &content(1, 20_000));
    site.sign(&[]);
    flip(&site.tree().join("f"), 4096);
    write_private(&site.path("hook.secret"), format!("{SECRET}\n").as_bytes());
    let config = hooked(&site, &listener.local_addr().unwrap().to_string());
    let mut served = site.serve(&["--config", &config]);
    let receiving = thread::spawn(move || request(&listener));
    let mut client = Client::connect(served.nfs);
    let file = client.find("f").unwrap();
    assert_eq!(client.read(&file, 4096, 4096).unwrap_err(), NFS3ERR_IO);
    let (head, body) = receiving.join().unwrap();
    assert_eq!(head[0], "POST /hook?token=xyz HTTP/1.1");
    let signed = [header(&head, "x-nfs-verity-timestamp").as_bytes(), b".", &body].concat();
    fs::write(site.path("signed"), signed).unwrap();
    let said = openssl(site.dir.path(), &["dgst", "-sha256", "-hmac", SECRET, "-r", "signed"]);
    let wanted = format!("sha256={}", said.out.split(' ').next().unwrap());
    assert_eq!(header(&head, "x-nfs-verity-signature"), wanted);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let event = &body["events"][0];
    assert_eq!((&event["event"], &event["path"]), (&"refused".into(), &"f".into()));
    assert_eq!(event["cause"], "bad block");
    eventually("it is counted", || served.metric("nfs_verity_webhook_total{result=\"ok\"}") >= 1.0);
    // Nobody listens there any more, which holds up no end.
    assert_eq!(served.stop(), Some(0));
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let site = Site::new();
    let config = hooked(&site, "127.0.0.1:1");
    let mut serve = serve(&site);
    serve.args(["--config", &config]);
    serve.ends(2).complains_of(&["hook.secret", "cannot be read", "webhook.secret"]);
    fs::write(site.path("hook.secret"), SECRET).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(site.path("hook.secret"), mode).unwrap();
    let said = serve.ends(2);
    said.complains_of(&["hook.secret", "mode 0644", "chmod 600"]);
    assert!(!said.err.contains("xyz"), "{}", said.err);
    write_private(&site.path("hook.secret"), b"short\n");
    serve.ends(2).complains_of(&["hook.secret", "shorter than 16 bytes", "openssl rand"]);
}

#[test]
fn a_log_goes_where_there_is_one() {
    let site = Site::new();
    serve(&site).args(["--log", "paper"]).ends(2).complains_of(&["stderr", "journald", "syslog", "paper"]);
}
