//! Real servers that speak like S3, each with an empty bucket, on free ports of this machine.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{COMMAND, Served, Site, eventually};

pub const BUCKET: &str = "bucket";
/// Of nobody's: what the servers accept.
const SECRET: &str = "testtest";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keeps all in memory, and looks at no credentials.
    Moto,
    /// Keeps all in files, and checks signatures.
    S3s,
}

pub struct S3 {
    pub kind: Kind,
    pub port: u16,
    child: Child,
    files: tempfile::TempDir,
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where tests/install puts what is no package.
fn tools() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").unwrap_or_else(|| set("HOME").unwrap_or_default().join(".cache"));
    set("NFS_VERITY_TOOLS").unwrap_or_else(|| cache().join("nfs-verity-tools")).join("bin")
}

/// A command that tests/install provides.
fn tool(name: &str) -> Command {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(tools());
    let mut command = Command::new("env");
    command.env("PATH", path).arg(name).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl S3 {
    pub fn start(kind: Kind) -> Self {
        let files = tempfile::tempdir().unwrap();
        if kind == Kind::S3s {
            std::fs::create_dir(files.path().join(BUCKET)).unwrap();
        }
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = spawn(kind, port, files.path());
            let mut up = false;
            eventually("the server listens, or is over", || {
                up = TcpStream::connect(("127.0.0.1", port)).is_ok();
                up || child.try_wait().unwrap().is_some()
            });
            if up {
                let server = Self { kind, port, child, files };
                if kind == Kind::Moto {
                    server.request("PUT", "", b"");
                }
                return server;
            }
        }
        panic!("{kind:?} does not start: tests/install installs it");
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it anew at the same port. What moto had is gone.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.kind, self.port, self.files.path());
        eventually("the server listens again", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// The bucket's address, for who takes credentials from the environment.
    pub fn url(&self, more: &str) -> String {
        format!("s3://{BUCKET}/?endpoint=http://127.0.0.1:{}&region=us-east-1{more}", self.port)
    }

    /// Puts an object there behind everybody's back.
    pub fn put(&self, key: &str, content: &[u8]) {
        match self.kind {
            Kind::Moto => self.request("PUT", key, content),
            Kind::S3s => {
                let path = self.files.path().join(BUCKET).join(key);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
        }
    }

    /// Makes a directory without anything in it, where the server has such.
    pub fn put_directory(&self, key: &str) {
        if self.kind == Kind::S3s {
            std::fs::create_dir_all(self.files.path().join(BUCKET).join(key)).unwrap();
        }
    }

    /// One request without a signature, as moto takes them.
    pub fn request(&self, method: &str, key: &str, content: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = format!(
            "{method} /{BUCKET}/{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             x-amz-acl: public-read-write\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            encoded(key),
            self.port,
            content.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(content).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {key}: {answer}");
    }

    /// `nfs-verity` with credentials in its environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(COMMAND);
        command.env("AWS_ACCESS_KEY_ID", SECRET).env("AWS_SECRET_ACCESS_KEY", SECRET).stdin(Stdio::null());
        command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
        command
    }

    /// Runs `nfs-verity` to a good end; what it said.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A gateway over the bucket, with a state directory of its own.
    pub fn serve(&self, site: &Site, name: &str, more: &[&str]) -> Served {
        let mut args: Vec<OsString> = ["serve", "--store"].map(Into::into).to_vec();
        args.extend([self.url("&ttl=1").into(), "--trust".into(), site.trust().into()]);
        args.extend(["--state".into(), site.path(name).into()]);
        args.extend(["--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0"].map(Into::into));
        args.extend(more.iter().map(Into::into));
        Served::spawn(self.command().args(args))
    }
}

/// A key as it stands in a request.
fn encoded(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    key.bytes().map(one).collect()
}

fn spawn(kind: Kind, port: u16, files: &Path) -> Child {
    let port = port.to_string();
    match kind {
        Kind::Moto => tool("moto_server").args(["-H", "127.0.0.1", "-p", &port]).spawn().unwrap(),
        Kind::S3s => tool("s3s-fs")
            .args(["--host", "127.0.0.1", "--port", &port, "--access-key", SECRET, "--secret-key", SECRET])
            .arg(files)
            .spawn()
            .unwrap(),
    }
}
