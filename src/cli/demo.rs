//! `nfs-verity demo`: the main job, end to end, in a temporary place.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::mint::Mint;
use super::pool::{default_jobs, runtime};
use super::remote::{ACCES, Client, ClientError, IO};
use super::seal::Sealer;
use super::{Outcome, Trouble};
use crate::app::{Gateway, interruption};
use crate::carrier::Sidecar;
use crate::config::{FileSettings, Overrides, Settings};
use crate::sign::{FormatSet, KeyAlgorithm, Keyring, SigningKey, TrustedKey, generate};
use crate::store::{Local, Store, StoreAddress, StorePath};
use crate::verity::Params;

/// See it work: sign, serve, read, damage a block, see it refused
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity demo           a tour, then serve until Ctrl-C
  nfs-verity demo --once    the tour alone; exit status 0 only if every step behaved")]
pub(super) struct DemoArgs {
    /// Where to serve NFS; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to serve the status page and metrics, on this machine alone; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    monitor: SocketAddr,
    /// End after the tour
    #[arg(long)]
    once: bool,
}

const BLOCK: usize = 4096;
const BIG: &str = "measurements.bin";
const BIG_BLOCKS: usize = 256;
const DAMAGED: usize = 100;

pub(super) fn run(args: &DemoArgs, out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
    let place = Place::new()?;
    let files = place.files()?;
    writeln!(out, "1. A tree with {} files, made in {}", files.len(), place.tree().display())?;
    let key = place.keys()?;
    runtime(default_jobs())?.block_on(async {
        let signed = sign(&place, &files, &key).await?;
        writeln!(out, "2. Signed with a new Ed25519 key: {signed} files, evidence in .nfs-verity")?;
        // One file that nobody signed.
        write(&place.tree().join("unsigned.txt"), b"who wrote this?\n")?;

        let interrupted = interruption()
            .map_err(|source| Trouble::Io { context: "cannot wait for signals".into(), source })?;
        let gateway = Gateway::start(place.settings(args)?).await.map_err(Trouble::other)?;
        let (nfs, monitor) = (gateway.nfs_address(), gateway.monitor_address());
        writeln!(out, "3. Serving it: NFS on {nfs}, status page at http://{monitor}/")?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(gateway.run(async move {
            let _ = stopped.await;
        }));

        let tour = {
            let (place, files) = (place.clone(), files.clone());
            let tour = tokio::task::spawn_blocking(move || {
                let mut said = Vec::new();
                tour(&place, &files, nfs, &mut said).map(|good| (said, good))
            });
            tour.await.map_err(Trouble::other)??
        };
        out.write_all(&tour.0)?;
        let port = nfs.port();
        writeln!(out, "\nMount it on a Linux client (as root):")?;
        writeln!(out, "  mount -t nfs -o vers=4.2,proto=tcp,port={port} {}:/ /mnt", nfs.ip())?;
        writeln!(out, "or, where that is too new:")?;
        writeln!(
            out,
            "  mount -t nfs -o vers=3,proto=tcp,port={port},mountport={port},mountproto=tcp,nolock {}:/ /mnt",
            nfs.ip()
        )?;
        if !args.once {
            writeln!(out, "\nServing until Ctrl-C; everything is removed then.")?;
            out.flush()?;
            interrupted.await;
        }
        let _ = stop.send(());
        serving.await.map_err(Trouble::other)?.map_err(Trouble::other)?;
        Ok(if tour.1 { Outcome::Good } else { Outcome::Failed })
    })
}

/// A temporary directory, removed with all in it when the demo ends.
#[derive(Clone)]
struct Place(Arc<PlaceDir>);

struct PlaceDir(PathBuf);

impl Drop for PlaceDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Place {
    fn new() -> Result<Self, Trouble> {
        let name = format!("nfs-verity-demo-{}-{}", std::process::id(), unique());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(|source| Trouble::file("make", &path, source))?;
        let place = Self(Arc::new(PlaceDir(path)));
        for directory in [place.tree(), place.path("trust"), place.path("state")] {
            fs::create_dir(&directory).map_err(|source| Trouble::file("make", &directory, source))?;
        }
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// Makes some real files and tells their names.
    fn files(&self) -> Result<Vec<String>, Trouble> {
        let tree = self.tree();
        fs::create_dir(tree.join("docs")).map_err(|source| Trouble::file("make", &tree, source))?;
        write(&tree.join("docs/README.md"), include_bytes!("../../README.md"))?;
        write(&tree.join("docs/LICENSE"), include_bytes!("../../LICENSE"))?;
        write(&tree.join("empty"), b"")?;
        let big: Vec<u8> = (0..BIG_BLOCKS * BLOCK / 8).flat_map(|n| noise(n as u64).to_le_bytes()).collect();
        write(&tree.join(BIG), &big)?;
        Ok(["docs/README.md", "docs/LICENSE", "empty", BIG].map(str::to_owned).to_vec())
    }

    fn keys(&self) -> Result<Arc<SigningKey>, Trouble> {
        let pair = generate(KeyAlgorithm::Ed25519).map_err(Trouble::other)?;
        write(&self.path("trust/demo.pub"), pair.public_pem.as_bytes())?;
        SigningKey::from_pkcs8_pem(pair.private_pem.as_bytes()).map(Arc::new).map_err(Trouble::other)
    }

    fn settings(&self, args: &DemoArgs) -> Result<Settings, Trouble> {
        let flags = Overrides {
            store: Some(StoreAddress::Local(self.tree())),
            trust: Some(self.path("trust")),
            state: Some(self.path("state")),
            audit_log: Some(self.path("audit.log")),
            listen: Some(args.listen),
            monitor: Some(args.monitor),
            ..Overrides::default()
        };
        Settings::resolve(FileSettings::default(), flags).map_err(Trouble::usage)
    }
}

async fn sign(place: &Place, files: &[String], key: &Arc<SigningKey>) -> Result<usize, Trouble> {
    let store: Arc<dyn Store> = Arc::new(Local::new(&place.tree())?);
    let own = TrustedKey::new(key.public_key().clone(), "demo");
    let sealer = Sealer {
        carrier: Arc::new(Sidecar::new(store.clone())),
        store,
        mint: Mint::new(key.clone(), None, Vec::new(), FormatSet::NATIVE)?,
        own: Keyring::new(vec![own]),
        params: Params::default(),
        namespace: String::new(),
        expires: None,
        dated: false,
        force: false,
        drop_behind: false,
    };
    for file in files {
        let path = StorePath::parse(file.as_bytes()).map_err(Trouble::other)?;
        sealer.seal(&path, &|_| ()).await.map_err(Trouble::other)?;
    }
    Ok(files.len())
}

/// What a client sees. Tells what happened, and whether all of it was as it should be.
fn tour(place: &Place, files: &[String], nfs: SocketAddr, out: &mut Vec<u8>) -> Result<bool, Trouble> {
    let stream = TcpStream::connect(nfs).map_err(Trouble::other)?;
    let mut client = Client::over(stream).map_err(Trouble::other)?;
    let root = client.mount(b"/").map_err(Trouble::other)?;
    let mut good = true;
    let mut right = 0;
    for file in files.iter().filter(|file| *file != BIG) {
        let handle = find(&mut client, &root, file)?;
        right += usize::from(read_all(&mut client, &handle)? == read(&place.tree().join(file))?);
    }
    let big = find(&mut client, &root, BIG)?;
    let original = read(&place.tree().join(BIG))?;
    right += usize::from(read_block(&mut client, &big, 0) == Ok(block(&original, 0)));
    let all = files.len();
    good &= step(out, "4.", right == all, &format!("Read over NFSv3: {right} of {all} files are right"))?;

    damage(&place.tree().join(BIG))?;
    writeln!(out, "5. Damaged behind the gateway's back: one bit in block {DAMAGED} of {BIG}")?;
    let refused = read_block(&mut client, &big, DAMAGED) == Err(Some(IO));
    good &= step(out, "6.", refused, &format!("Block {DAMAGED} is refused: NFS3ERR_IO"))?;
    let around = [DAMAGED - 1, DAMAGED + 1];
    let readable = around.iter().all(|n| read_block(&mut client, &big, *n) == Ok(block(&original, *n)));
    good &= step(out, "7.", readable, &format!("Blocks {} and {} read on", around[0], around[1]))?;
    let unsigned = find(&mut client, &root, "unsigned.txt")?;
    let denied = read_block(&mut client, &unsigned, 0) == Err(Some(ACCES));
    good &= step(out, "8.", denied, "unsigned.txt, which nobody signed, is refused: NFS3ERR_ACCES")?;

    let line = audit_line(&place.path("audit.log"), "bad block");
    good &= step(out, "9.", line.is_some(), "The audit log tells:")?;
    writeln!(out, "   {}", line.as_deref().unwrap_or("nothing of the bad block"))?;
    Ok(good)
}

fn step(out: &mut Vec<u8>, number: &str, good: bool, text: &str) -> Result<bool, Trouble> {
    writeln!(out, "{number} {}{text}", if good { "" } else { "FAILED: " })?;
    Ok(good)
}

fn find(client: &mut Client, root: &[u8], path: &str) -> Result<Vec<u8>, Trouble> {
    let mut handle = root.to_vec();
    for name in path.split('/') {
        handle = client.lookup(&handle, name.as_bytes()).map_err(Trouble::other)?;
    }
    Ok(handle)
}

fn read_all(client: &mut Client, handle: &[u8]) -> Result<Vec<u8>, Trouble> {
    let mut all = Vec::new();
    loop {
        let (data, eof) = client.read(handle, all.len() as u64, 65536).map_err(Trouble::other)?;
        let stuck = data.is_empty();
        all.extend_from_slice(&data);
        if eof || stuck {
            return Ok(all);
        }
    }
}

/// One block, or the status that came instead (`None`: no status at all).
fn read_block(client: &mut Client, handle: &[u8], block: usize) -> Result<Vec<u8>, Option<u32>> {
    let count = u32::try_from(BLOCK).map_err(|_| None)?;
    match client.read(handle, (block * BLOCK) as u64, count) {
        Ok((data, _)) => Ok(data.to_vec()),
        Err(ClientError::Status(status)) => Err(Some(status)),
        Err(_) => Err(None),
    }
}

fn block(file: &[u8], index: usize) -> Vec<u8> {
    file.chunks(BLOCK).nth(index).unwrap_or_default().to_vec()
}

/// Flips one bit, as a rotting disk would.
fn damage(path: &Path) -> Result<(), Trouble> {
    let failed = |source| Trouble::file("damage", path, source);
    let file = fs::OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let (mut byte, at) = ([0], (DAMAGED * BLOCK + 1234) as u64);
    file.read_exact_at(&mut byte, at).map_err(failed)?;
    byte[0] ^= 0x10;
    file.write_all_at(&byte, at).map_err(failed)
}

/// The first line of the audit log that speaks of `cause`. The log is written behind the replies,
/// so it may be a moment late.
fn audit_line(log: &Path, cause: &str) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let text = fs::read_to_string(log).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.contains(cause) && line.ends_with('}')) {
            return Some(line.to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    fs::write(path, bytes).map_err(|source| Trouble::file("write", path, source))
}

fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    fs::read(path).map_err(|source| Trouble::file("read", path, source))
}

/// SplitMix64: bytes of which no block is like another.
fn noise(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Tells demos that start at the same time apart.
fn unique() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().subsec_nanos()
}
