//! What the tests of the commands share.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
