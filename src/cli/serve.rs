//! `nfs-verity serve`: the gateway.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::log;
use super::pool::{default_jobs, runtime};
use super::{Outcome, Trouble};
use crate::app::{AppError, Gateway, interruption};
use crate::carrier::CarrierKind;
use crate::config::{
    ConfigError, DiskCache, FileSettings, Interval, LogOutput, Overrides, PolicyMode, Settings, Wait,
    parse_size,
};
use crate::export::{ProofName, Xattrs};
use crate::policy::Mode;
use crate::sign::FormatSet;
use crate::store::StoreAddress;

/// Serve a store over NFSv4.2, 4.1 and 3; every block is proven before it leaves
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity serve --store /srv/data --trust keys/
  nfs-verity serve --store s3://bucket/data --replica nfs://filer/data --trust keys/
  nfs-verity serve --config /etc/nfs-verity.toml

Then, on a Linux client:
  mount -t nfs -o vers=4.2,proto=tcp,port=2049 HOST:/ /mnt
  mount -t nfs -o vers=3,proto=tcp,port=2049,mountport=2049,mountproto=tcp,nolock HOST:/ /mnt

When ready it prints one line: ready nfs=ADDR:PORT monitor=ADDR:PORT. SIGTERM and Ctrl-C drain and end
it; SIGHUP reads trust, configuration and who sees the monitor again and opens the audit log anew.
RUST_LOG sets what the log says.")]
pub(super) struct ServeArgs {
    /// The store to serve: a directory, nfs://HOST[:PORT][/EXPORT], s3://BUCKET[/PREFIX], or gs:// and az://
    #[arg(long, value_name = "ROOT")]
    store: Option<OsString>,
    /// Another store with the same files, asked where those before it fail or do not answer (repeatable)
    #[arg(long, value_name = "ROOT")]
    replica: Vec<OsString>,
    /// Write proven bytes back where a store has bad ones
    #[arg(long)]
    repair: bool,
    /// Seconds that data must lie untouched before --repair takes them for damaged, for new ones may be about to
    /// be signed [default: 600]
    #[arg(long, value_name = "SECONDS")]
    repair_after: Option<u32>,
    /// Seconds that one call of a store may take [default: 10]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// While no store answers: hard waits, and clients with it; soft tells them to come again [default: soft]
    #[arg(long, value_name = "HOW")]
    wait: Option<Wait>,
    /// Keep proven blocks in DIR, too, at most SIZE bytes, as in 100GiB; they are proven again when read
    #[arg(long, value_names = ["DIR", "SIZE"], num_args = 2)]
    disk_cache: Option<Vec<OsString>>,
    /// The secret behind file handles, 32 bytes; gateways that share it and their stores give the same handles
    /// [default: in the bucket, or in the state directory]
    #[arg(long, value_name = "FILE")]
    handle_key: Option<PathBuf>,
    /// Whose signatures count: a key or certificate, or a directory of them with limits and revocations
    #[arg(long, value_name = "PATH")]
    trust: Option<PathBuf>,
    /// Formats in which they count: native, fsverity, ima-v3, ima-v2, with commas between them. All but
    /// native bind no name, so the store may exchange such files [default: native]
    #[arg(long, value_name = "FORMATS")]
    accept: Option<FormatSet>,
    /// Where evidence is looked for, in the order given: sidecar, kernel, xattr, appended [default: sidecar]
    #[arg(long, value_name = "CARRIERS", value_delimiter = ',')]
    carrier: Option<Vec<CarrierKind>>,
    /// Where to serve NFS and MOUNT; port 0 picks a free one [default: 127.0.0.1:2049]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Where to serve the status page and metrics; port 0 picks a free one [default: 127.0.0.1:9649]
    #[arg(long, value_name = "ADDR:PORT")]
    monitor: Option<SocketAddr>,
    /// What opens the status page and metrics: a token of 16 characters or more, for anything but looking always,
    /// and for looking where it is given; beyond loopback it is needed, unless client certificates are
    #[arg(long, value_name = "FILE")]
    monitor_token: Option<PathBuf>,
    /// The tree's name, as it was signed [default: empty]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// enforce: refuse what does not verify; warn: serve it and report [default: enforce]
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// What may be done with what verifies: a policy in the language of Linux IPE (repeatable; the first rules)
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// The name of the policy that rules, where there are several
    #[arg(long, value_name = "NAME")]
    policy_active: Option<String>,
    /// enforce: refuse what the policy denies; permissive: serve it and report [default: enforce]
    #[arg(long, value_name = "MODE")]
    policy_mode: Option<PolicyMode>,
    /// Take policies only that are signed by such a certificate, or one of a directory
    #[arg(long, value_name = "PATH")]
    policy_trust: Option<PathBuf>,
    /// Append events to FILE, one JSON object a line
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// Where the log goes: stderr, journald, with a field for each fact, or syslog [default: stderr]
    #[arg(long, value_name = "WHERE")]
    log: Option<LogOutput>,
    /// Keep a measurement list of what is served in DIR, as IMA would; nothing is served that is not in it
    #[arg(long, value_name = "DIR")]
    measure: Option<PathBuf>,
    /// Memory for proven blocks, as in 512MiB [default: 128MiB]
    #[arg(long, value_name = "SIZE", value_parser = crate::config::parse_size)]
    cache: Option<u64>,
    /// What must outlive a restart [default: one directory a store below the user's state directory]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// evidence: extended attributes tell what was proven, and nothing else; all: the store's own user.*
    /// attributes, too, which nobody signed [default: evidence]
    #[arg(long, value_name = "WHICH")]
    xattrs: Option<Xattrs>,
    /// Name of the directory in the root that shows what is known of each file: /NAME/PATH/status, digest,
    /// signer and so on; "off" for none. A file or directory of this name in ROOT is not served [default:
    /// .verity]
    #[arg(long, value_name = "NAME")]
    proof_directory: Option<ProofName>,
    /// Show that directory also when the root is listed
    #[arg(long)]
    proof_directory_listed: bool,
    /// Seconds that an NFSv4 client keeps what it holds without a word, and has to reclaim it after a
    /// restart [default: 90]
    #[arg(long, value_name = "SECONDS")]
    lease: Option<u32>,
    /// Prove all of the store that often, as in 24h or 7d, when no client reads; "off" for never [default: off]
    #[arg(long, value_name = "INTERVAL")]
    scrub: Option<Interval>,
    /// MB (of 1,000,000 bytes) that it reads a second at most; as fast as it goes when absent
    #[arg(long, value_name = "MB/s")]
    scrub_rate: Option<u32>,
    /// Register with the local rpcbind
    #[arg(long)]
    rpcbind: bool,
    /// Settings in TOML; flags override them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ServeArgs {
    fn settings(&self) -> Result<Settings, ConfigError> {
        let file = match &self.config {
            Some(path) => FileSettings::load(path)?,
            None => FileSettings::default(),
        };
        let replicas = self.replica.iter().map(|root| store_address("replica", root));
        let replicas = replicas.collect::<Result<Vec<_>, _>>()?;
        let flags = Overrides {
            store: self.store.as_deref().map(|root| store_address("store", root)).transpose()?,
            replicas: (!self.replica.is_empty()).then_some(replicas),
            repair: self.repair.then_some(true),
            repair_after: self.repair_after,
            timeout: self.timeout,
            wait: self.wait,
            disk_cache: self.disk_cache.as_deref().map(disk_cache).transpose()?,
            handle_key: self.handle_key.clone(),
            trust: self.trust.clone(),
            accept: self.accept,
            carrier: self.carrier.clone(),
            listen: self.listen,
            monitor: self.monitor,
            monitor_token: self.monitor_token.clone(),
            namespace: self.namespace.clone(),
            mode: self.mode,
            policies: (!self.policy.is_empty()).then(|| self.policy.clone()),
            policy_active: self.policy_active.clone(),
            policy_mode: self.policy_mode,
            policy_trust: self.policy_trust.clone(),
            audit_log: self.audit_log.clone(),
            log: self.log,
            measure: self.measure.clone(),
            cache: self.cache,
            state: self.state.clone(),
            xattrs: self.xattrs,
            proof_directory: self.proof_directory.clone(),
            proof_directory_listed: self.proof_directory_listed.then_some(true),
            lease: self.lease,
            rpcbind: self.rpcbind.then_some(true),
            scrub: self.scrub,
            scrub_rate: self.scrub_rate,
            ..Overrides::default()
        };
        Settings::resolve(file, flags)
    }
}

// Not for the parser of the command line, which would tell a secret that stands in the address by mistake.
fn store_address(key: &'static str, root: &OsStr) -> Result<StoreAddress, ConfigError> {
    StoreAddress::parse(root).map_err(|source| ConfigError::Address { key, source })
}

fn disk_cache(words: &[OsString]) -> Result<DiskCache, ConfigError> {
    let refuse = |wanted: String| ConfigError::OutOfRange { key: "disk_cache", wanted };
    let [directory, size] = words else { return Err(refuse("DIR and SIZE".to_owned())) };
    let size = size.to_str().ok_or_else(|| refuse("DIR and SIZE, as in 100GiB".to_owned()))?;
    let size = parse_size(size).map_err(|error| refuse(format!("DIR and SIZE: {error}")))?;
    Ok(DiskCache { directory: PathBuf::from(directory), size })
}

pub(super) fn run(args: ServeArgs, out: &mut impl Write) -> Result<Outcome, Trouble> {
    let settings = args.settings().map_err(Trouble::usage)?;
    log::start(settings.log)?;
    runtime(default_jobs())?.block_on(async {
        let gateway = Gateway::start(settings).await.map_err(trouble)?;
        let io = |source| Trouble::Io { context: "cannot wait for signals".into(), source };
        let interrupted = interruption().map_err(io)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(io)?;
        let mut reloader = gateway.reloader();
        let reloading = tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reloader.reload(args.settings());
            }
        });
        let (nfs, monitor) = (gateway.nfs_address(), gateway.monitor_address());
        // Ready is ready: connections that come from now on wait in the socket's queue.
        writeln!(out, "ready nfs={nfs} monitor={monitor}")?;
        out.flush()?;
        gateway.run(interrupted).await.map_err(trouble)?;
        reloading.abort();
        Ok(Outcome::Good)
    })
}

fn trouble(error: AppError) -> Trouble {
    if error.is_configuration() { Trouble::usage(error) } else { Trouble::other(error) }
}
