//! `nfs-verity keygen`: a new signing key.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Outcome, Trouble};
use crate::sign::{KeyAlgorithm, generate};

/// Make a signing key: NAME.key (private, keep it offline) and NAME.pub (for --trust)
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  nfs-verity keygen --out keys/release --alg p256")]
pub(super) struct KeygenArgs {
    /// Where to write, without an ending: DIR/NAME gives DIR/NAME.key and DIR/NAME.pub
    #[arg(long, value_name = "DIR/NAME")]
    out: PathBuf,
    /// The algorithm: ed25519, p256, p384, rsa3072 or rsa4096
    #[arg(long, value_name = "ALG", default_value = "ed25519")]
    alg: KeyAlgorithm,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &KeygenArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    if args.out.file_name().is_none() || args.out.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Trouble::usage("--out needs a file name, as in --out keys/release"));
    }
    let (private, public) = (with_ending(&args.out, ".key"), with_ending(&args.out, ".pub"));
    // Both are looked at before either is written, so that no half of a pair is left behind.
    for path in [&private, &public] {
        if path.symlink_metadata().is_ok() {
            let path = path.display();
            return Err(Trouble::usage(format!(
                "{path} exists and is never overwritten; choose another --out"
            )));
        }
    }
    let key = generate(args.alg).map_err(Trouble::other)?;
    write_new(&private, 0o600, key.private_pem.as_bytes())?;
    write_new(&public, 0o644, key.public_pem.as_bytes())?;
    if args.json {
        let json = serde_json::json!({
            "key_id": key.key_id.to_string(),
            "private": private.to_string_lossy(),
            "public": public.to_string_lossy(),
        });
        writeln!(out, "{json}")?;
    } else {
        writeln!(out, "key id  {}", key.key_id)?;
        writeln!(out, "private {} (mode 0600: keep it off every server)", private.display())?;
        writeln!(out, "public  {}", public.display())?;
    }
    Ok(Outcome::Good)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Trouble> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    })
    .map_err(|source| Trouble::file("write", path, source))
}
