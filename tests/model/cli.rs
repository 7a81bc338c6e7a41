//! What the tests of the commands share.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use nfs_verity::carrier::bundle::Head;
use serde_json::Value;

use crate::support::{COMMAND, Site};

/// What a command wrote until its end.
pub struct Said {
    pub out: String,
    pub err: String,
}

impl Said {
    /// Standard output, which is one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Standard output, which is one JSON value a line.
    pub fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Whether all `words` are on standard error.
    pub fn complains_of(&self, words: &[&str]) {
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {:?}", self.err);
        }
    }
}

/// Running a command to its end.
pub trait Ends {
    /// The command must end with the exit status `code`.
    fn ends(&mut self, code: i32) -> Said;
}

impl Ends for Command {
    fn ends(&mut self, code: i32) -> Said {
        let output = self.output().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = Said { out: text(&output.stdout), err: text(&output.stderr) };
        let status = output.status;
        assert_eq!(status.code(), Some(code), "{self:?}: {status}\n{}\n{}", said.out, said.err);
        said
    }
}

/// The command `nfs-verity NAME`.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(COMMAND);
    command.arg(name);
    command
}

/// `sign` of the site's tree with its key; PATHs and flags may follow.
pub fn sign(site: &Site) -> Command {
    let mut command = command("sign");
    command.arg("--key").arg(site.key()).arg(site.tree());
    command
}

/// `verify` of the site's tree with its trust; PATHs and flags may follow.
pub fn verify(site: &Site) -> Command {
    let mut command = command("verify");
    command.arg("--trust").arg(site.trust()).arg(site.tree());
    command
}

/// `inspect --json` of one file; flags may follow.
pub fn inspect(site: &Site, path: impl AsRef<OsStr>) -> Command {
    let mut command = command("inspect");
    command.arg("--json").arg(site.tree()).arg(path);
    command
}

/// Makes the key pair `name` beside the tree and gives its id.
pub fn keygen(site: &Site, name: &str) -> String {
    let said = command("keygen").arg("--json").arg("--out").arg(site.path(name)).ends(0);
    said.json()["key_id"].as_str().unwrap().to_owned()
}

/// What `fsverity digest` says of a file, as `sha256:HEX`. `more` are its own flags.
pub fn fsverity(file: &Path, more: &[String]) -> String {
    let output = Command::new("fsverity").arg("digest").args(more).arg(file).output();
    let output =
        output.expect("fsverity is missing: install fsverity-utils (Debian: apt-get install fsverity)");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// The command as a user runs it for whom permissions count: root reads everything otherwise.
pub fn unprivileged(command: &Command) -> Command {
    if !rustix::process::geteuid().is_root() {
        let mut same = Command::new(command.get_program());
        same.args(command.get_args());
        return same;
    }
    let mut wrapped = Command::new("setpriv");
    wrapped
        .args(["--inh-caps=-dac_override,-dac_read_search", "--bounding-set=-dac_override,-dac_read_search"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped
}

/// Every file below `directory`, its path and its bytes, in order of paths.
pub fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            all.push((path, bytes));
        }
    }
    all.sort();
    all
}

/// The head of the evidence at `path`.
pub fn head(path: &Path) -> Head {
    let bytes = fs::read(path).unwrap();
    let extent = Head::extent(&bytes, bytes.len() as u64).unwrap();
    Head::parse(&Bytes::copy_from_slice(&bytes[..extent])).unwrap()
}

/// Changes one bit at `offset` of a file.
pub fn flip(path: &Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
}

/// Runs openssl in a directory.
pub fn openssl(directory: &Path, args: &[&str]) -> Said {
    Command::new("openssl").args(args).current_dir(directory).ends(0)
}

/// A private key `NAME.pem` and its public half `NAME.pub` beside the tree, made by openssl.
pub fn make_key(site: &Site, name: &str, algorithm: &[&str]) {
    let (private, public) = (format!("{name}.pem"), format!("{name}.pub"));
    let dir = site.dir.path();
    openssl(dir, &[&["genpkey", "-out", &private], algorithm].concat());
    openssl(dir, &["pkey", "-in", &private, "-pubout", "-out", &public]);
    fs::set_permissions(site.path(&private), fs::Permissions::from_mode(0o600)).unwrap();
}

/// What `openssl genpkey` makes a key of.
pub const ED25519: &[&str] = &["-algorithm", "ED25519"];
pub const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
pub const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
pub const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];

/// A self-signed certificate `NAME.crt` of the key `NAME.pem`, with a serial number of its own, and the
/// same in DER.
pub fn make_certificate(site: &Site, name: &str) {
    let (key, cert, der) = (format!("{name}.pem"), format!("{name}.crt"), format!("{name}.der"));
    let (subject, dir) = (format!("/O=Test/CN={name}"), site.dir.path());
    let args = ["req", "-x509", "-new", "-days", "100", "-key", &key, "-subj", &subject, "-out", &cert];
    openssl(dir, &args);
    openssl(dir, &["x509", "-in", &cert, "-outform", "DER", "-out", &der]);
}

/// Changes evidence in the sidecar as somebody who knows its layout can.
pub fn rewrite(path: &Path, change: impl FnOnce(&mut Head)) {
    let bytes = fs::read(path).unwrap();
    let mut head = head(path);
    let tree = bytes[usize::try_from(head.tree_offset).unwrap().min(bytes.len())..].to_vec();
    change(&mut head);
    let mut bytes = head.encode().unwrap();
    bytes.extend(tree);
    fs::write(path, bytes).unwrap();
}

/// `sign` of the site's tree without a key; the signer's flags follow.
pub fn sign_with(site: &Site, flags: &[&str]) -> Command {
    let mut command = command("sign");
    command.args(flags).arg(site.tree()).current_dir(site.dir.path()).stdin(Stdio::null());
    command
}

/// A private key and a self-signed certificate of it, as openssl makes them.
pub struct Certified {
    pub key: PathBuf,
    pub certificate: PathBuf,
}

/// A new pair NAME.pem, NAME.crt of the algorithm that NAME begins with: rsa, p256 or p384.
pub fn certificate(site: &Site, name: &str) -> Certified {
    let algorithm = match name {
        name if name.starts_with("rsa") => RSA,
        name if name.starts_with("p256") => P256,
        name if name.starts_with("p384") => P384,
        other => panic!("no algorithm for {other}"),
    };
    make_key(site, name, algorithm);
    make_certificate(site, name);
    Certified { key: site.path(format!("{name}.pem")), certificate: site.path(format!("{name}.crt")) }
}
