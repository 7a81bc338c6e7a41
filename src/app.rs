//! The composition root: makes every concrete thing, joins them, and runs them to the end.

mod handle_key;
mod insight;
mod measuring;
mod nfs4;
mod policies;
mod revocations;
mod schedule;
mod stores;
pub mod tpm;
mod webhook;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{ConfigError, Settings, TrustError, Wait, load_keyring};
use crate::disk_cache::DiskCache;
use crate::event::{Event, Sink};
use crate::export::{Export, ExportOptions, Identity, WholeFiles};
use crate::monitor::{Access, AccessError, AccessFiles, Monitor, MonitorError, Options, TlsFiles, Webhook};
use crate::policy::Mode;
use crate::proto::mount3::Mount3;
use crate::proto::nfs3::Nfs3;
use crate::proto::rpc::{Limits, Program, Server, rpcbind};
use crate::proto::sideband::Sideband;
use crate::sign::{FormatSet, Keyring};
use crate::store::{StoreError, StorePath};
use crate::sys::descriptors::{self, Holder};
use insight::Watched;
use measuring::MeasuringTrouble;
use policies::PolicyTrouble;
use revocations::Revocations;
use schedule::Schedule;
use stores::Stores;

/// How long the end waits for the disk cache's disk.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// Why the gateway does not start, or does not take new settings.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The trusted keys cannot be loaded.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// There is nobody to trust, so nothing could be served.
    #[error(
        "{0} holds no keys, so every file would be refused; put .pub files or certificates there, or set \
         mode = \"warn\""
    )]
    NoKeys(PathBuf),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The disk cache cannot be opened.
    #[error(transparent)]
    DiskCache(#[from] crate::disk_cache::DiskCacheError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody can be let into the monitor as the settings want it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The monitor cannot be started.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// An address cannot be used.
    #[error("cannot listen on {address}: {source}; choose another {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// The system's word.
        source: std::io::Error,
    },
    /// The directory that outlives a restart cannot be used.
    #[error("{path}: {reason}; --state names a directory of the gateway's own")]
    State {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The secret that was given for the file handles cannot be used.
    #[error("{path}: {reason}; --handle-key names 32 bytes of randomness, as of head -c 32 /dev/urandom")]
    HandleKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The webhook's secret cannot be used.
    #[error("{path}: {reason}; webhook.secret names a file of random bytes, as of openssl rand -hex 32")]
    WebhookSecret {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The secret behind the file handles that gateways share cannot be used.
    #[error("{path} in the store {reason}")]
    SharedKey {
        /// Where it is.
        path: StorePath,
        /// What is wrong.
        reason: String,
    },
    /// The measurement list cannot be kept.
    #[error(transparent)]
    Measuring(#[from] MeasuringTrouble),
    /// A policy cannot be taken.
    #[error(transparent)]
    Policy(#[from] PolicyTrouble),
    /// rpcbind does not take the registration.
    #[error("cannot register with the local rpcbind: {0}; start it or leave --rpcbind out")]
    Rpcbind(std::io::Error),
}

impl AppError {
    /// Whether the user's settings are at fault, and not the system.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Trust(_)
            | Self::NoKeys(_)
            | Self::Config(_)
            | Self::DiskCache(_)
            | Self::Policy(_)
            | Self::Access(_)
            | Self::HandleKey { .. }
            | Self::WebhookSecret { .. } => true,
            Self::Measuring(trouble) => trouble.is_configuration(),
            Self::Store(_)
            | Self::Monitor(_)
            | Self::Listen { .. }
            | Self::State { .. }
            | Self::SharedKey { .. }
            | Self::Rpcbind(_) => false,
        }
    }
}

/// A gateway that is ready to serve.
pub struct Gateway {
    settings: Settings,
    export: Arc<Export>,
    monitor: Arc<Monitor>,
    revocations: Arc<Revocations>,
    state: PathBuf,
    server: Server,
    monitor_listener: TcpListener,
    monitor_address: SocketAddr,
    keys: usize,
    scrubs: Option<Schedule>,
    disk_cache: Option<Arc<DiskCache>>,
    watched: Arc<Watched>,
    webhook: Option<Webhook>,
}

impl Gateway {
    /// Opens store, trust and state, binds both addresses, and tells rpcbind of them if it is to know.
    pub async fn start(settings: Settings) -> Result<Self, AppError> {
        descriptors::raise_limit();
        // Looked at first, so that no change from here on goes unnoticed.
        let revocations = Revocations::new(&settings.trust);
        let keyring = load_trust(&settings.trust, settings.accept, settings.mode)?;
        let keys = keyring.len();
        let relaxed = keyring.relaxations();
        let access = load_access(&settings, settings.monitor)?;
        let state = state_directory(&settings)?;
        let monitor = Monitor::new(Options { audit_log: settings.audit_log.clone() })?;
        monitor.set_access(access);
        let webhook = webhook::open(&settings, &monitor)?;
        let sink: Arc<dyn Sink> = monitor.clone();
        let stores = Stores::open(&settings, &sink).await?;
        let handle_key = handle_key::find(&settings, &state, &*stores.first).await?;
        let disk_cache = stores::open_disk_cache(&settings, sink.clone()).await?;
        let export = Export::new(ExportOptions {
            store: stores.first.clone(),
            replicas: stores.replicas.clone(),
            waits: settings.wait == Wait::Hard,
            repair: stores.repair,
            namespace: settings.namespace.clone(),
            carriers: settings.carrier.clone(),
            keyring,
            mode: settings.mode,
            identity: Identity {
                squash: settings.squash,
                anonymous_uid: settings.anonymous_uid,
                anonymous_gid: settings.anonymous_gid,
            },
            cache_bytes: settings.cache,
            disk_cache: disk_cache.clone(),
            whole_files: WholeFiles { scratch: state.clone(), ..WholeFiles::default() },
            xattrs: settings.xattrs,
            proof_directory: settings.proof_directory.clone(),
            handle_key,
            sink: sink.clone(),
        });
        let export = Arc::new(export.await.map_err(|error| {
            let source = std::io::Error::other(format!("{}: {}", settings.store, error.source));
            StoreError { source, ..error }
        })?);
        let holder: Arc<dyn Holder> = export.clone();
        descriptors::may_ask(Arc::downgrade(&holder));
        let mut policies = policies::read(&settings.policies, &settings.trust, &state, &*monitor)?;
        if let Some(list) = &settings.measure {
            let (list, state, sink) = (list.clone(), state.clone(), sink.clone());
            let opened = tokio::task::spawn_blocking(move || measuring::open(&list, &state, &sink)).await;
            export.set_measurer(Some(
                opened.map_err(std::io::Error::other).map_err(MeasuringTrouble::Thread)??,
            ));
        }
        monitor.set_gauge(export.clone());
        let watched = Arc::new(Watched::new(export.clone(), &settings, &stores));
        monitor.set_insight(watched.clone());
        let scrubs = Schedule::new(&settings, stores, export.clone(), monitor.clone(), state.clone());
        for setting in settings.relaxed().iter().chain(&relaxed) {
            monitor.emit(&Event::Relaxed { setting });
        }

        let limits = limits(&settings);
        let listen = |address, flag| move |source| AppError::Listen { address, flag, source };
        let unbound = listen(settings.listen, "--listen");
        let listener = TcpListener::bind(settings.listen).await.map_err(unbound)?;
        let bound = listener.local_addr().map_err(unbound)?;
        let nfs4 = nfs4::program(&settings, export.clone(), &state, bound, &limits)?;
        let programs: Vec<Arc<dyn Program>> = vec![
            Arc::new(Nfs3::new(export.clone())),
            Arc::new(nfs4),
            Arc::new(Mount3::new(export.clone())),
            Arc::new(Sideband::new(export.clone())),
        ];
        let server = Server::on(listener, programs, limits, sink).map_err(unbound)?;
        let monitor_listener = TcpListener::bind(settings.monitor).await;
        let monitor_listener = monitor_listener.map_err(listen(settings.monitor, "--monitor"))?;
        let monitor_address = monitor_listener.local_addr().map_err(listen(settings.monitor, "--monitor"))?;
        if settings.rpcbind {
            rpcbind::register(server.local_addr().port()).await.map_err(AppError::Rpcbind)?;
        }
        policies.keep()?;
        policies.rule(&export, &*monitor);
        Ok(Self {
            settings,
            export,
            monitor,
            revocations,
            state,
            server,
            monitor_listener,
            monitor_address,
            keys,
            scrubs,
            disk_cache,
            watched,
            webhook,
        })
    }

    /// Where NFS is served.
    pub fn nfs_address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Where the status page and the metrics are served.
    pub fn monitor_address(&self) -> SocketAddr {
        self.monitor_address
    }

    /// Something that takes new settings while the gateway runs.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            settings: self.settings.clone(),
            export: self.export.clone(),
            monitor: self.monitor.clone(),
            revocations: self.revocations.clone(),
            state: self.state.clone(),
            watched: self.watched.clone(),
        }
    }

    /// Serves until `shutdown` is done, then drains: calls that run are answered.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), AppError> {
        let nfs = self.server.local_addr();
        self.monitor.emit(&Event::Started {
            nfs,
            monitor: self.monitor_address,
            store: &self.settings.store.to_string(),
            mode: &self.settings.mode.to_string(),
            keys: self.keys,
        });
        let (drained, mut watching) = watch::channel(false);
        let page = tokio::spawn(self.monitor.clone().serve(self.monitor_listener, async move {
            let _ = watching.changed().await;
        }));
        let mut stopped = drained.subscribe();
        let telling = self.webhook.map(|webhook| {
            tokio::spawn(webhook.run(async move {
                let _ = stopped.changed().await;
            }))
        });
        let watching = tokio::spawn(self.revocations.watch(self.export.clone(), self.monitor.clone()));
        let (ended, ending) = watch::channel(false);
        let scrubbing = self.scrubs.map(|scrubs| tokio::spawn(scrubs.run(ending)));
        self.server.run(shutdown).await;
        watching.abort();
        let _ = ended.send(true);
        if let Some(scrubbing) = scrubbing {
            // It notes where it stopped.
            let _ = tokio::time::timeout(Duration::from_secs(2), scrubbing).await;
        }
        // What was found last is still on its way to the list.
        let _ = tokio::time::timeout(DISK_PATIENCE, self.export.end_measuring()).await;
        if let Some(cache) = self.disk_cache {
            // What was read last is still on its way to the disk, which may hang.
            let _ = tokio::time::timeout(DISK_PATIENCE, cache.flush()).await;
        }
        if self.settings.rpcbind {
            // The port is closed either way.
            let _ = rpcbind::unregister().await;
        }
        self.monitor.emit(&Event::Stopped);
        let _ = drained.send(true);
        let _ = tokio::time::timeout(Duration::from_secs(2), page).await;
        if let Some(telling) = telling {
            // Bounded by itself.
            let _ = telling.await;
        }
        let monitor = self.monitor;
        let _ = tokio::task::spawn_blocking(move || monitor.close()).await;
        Ok(())
    }
}

/// Takes new trust and new settings into a running gateway.
pub struct Reloader {
    settings: Settings,
    export: Arc<Export>,
    monitor: Arc<Monitor>,
    revocations: Arc<Revocations>,
    state: PathBuf,
    watched: Arc<Watched>,
}

impl Reloader {
    /// Opens the audit log again, and takes `settings` with the keys they name. What is wrong is
    /// refused as a whole, and what was before still holds.
    pub fn reload(&mut self, settings: Result<Settings, ConfigError>) {
        if let Err(error) = self.monitor.reopen() {
            self.refuse("audit log", &error.to_string());
        }
        let settings = match settings {
            Ok(settings) => settings,
            Err(error) => return self.refuse("configuration", &error.to_string()),
        };
        let access = match load_access(&settings, self.settings.monitor) {
            Ok(access) => access,
            Err(error) => return self.refuse("configuration", &error.to_string()),
        };
        // Keys and policies are taken together or not at all: one may confine the other.
        let Ok(mut policies) =
            policies::read(&settings.policies, &settings.trust, &self.state, &*self.monitor)
        else {
            return;
        };
        // What runs decides, not what the file would have after a restart.
        let (mut keys, mut relaxed) = (0, Vec::new());
        let taken = self.revocations.replace(&settings.trust, || {
            let keyring = load_trust(&settings.trust, self.settings.accept, self.settings.mode)?;
            (keys, relaxed) = (keyring.len(), keyring.relaxations());
            policies.keep()?;
            self.export.set_keyring(keyring);
            Ok::<_, AppError>(())
        });
        if let Err(error) = taken {
            return self.refuse("trust", &error.to_string());
        }
        policies.rule(&self.export, &*self.monitor);
        self.watched.set_trust(&settings.trust);
        self.monitor.set_access(access);
        self.settings.policies = settings.policies.clone();
        self.settings.monitor_token = settings.monitor_token.clone();
        self.settings.monitor_tls = settings.monitor_tls.clone();
        self.monitor.set_policy(&self.settings.mode.to_string(), keys);
        for setting in self.settings.relaxed().iter().chain(&relaxed) {
            self.monitor.emit(&Event::Relaxed { setting });
        }
        let detail = format!("{keys} keys from {}", settings.trust.display());
        self.monitor.emit(&Event::Reloaded { what: "trust", detail: &detail });
        let (trust, policies) = (self.settings.trust.clone(), self.settings.policies.clone());
        let detail = match (Settings { trust, policies, ..settings }) == self.settings {
            true => "nothing but keys, policies and who sees the monitor can have changed",
            false => "some settings differ from those that run; they hold after a restart",
        };
        self.monitor.emit(&Event::Reloaded { what: "configuration", detail });
    }

    fn refuse(&self, what: &str, error: &str) {
        self.monitor.emit(&Event::ReloadRefused { what, error });
    }
}

/// The trusted keys; none at all is an error where that would refuse everything.
fn load_trust(trust: &Path, formats: FormatSet, mode: Mode) -> Result<Keyring, AppError> {
    let keyring = load_keyring(trust, formats)?;
    match mode {
        Mode::Enforce if keyring.is_empty() => Err(AppError::NoKeys(trust.to_owned())),
        Mode::Enforce | Mode::Warn => Ok(keyring),
    }
}

/// Who sees the monitor, which listens on `address`.
fn load_access(settings: &Settings, address: SocketAddr) -> Result<Access, AccessError> {
    let tls = settings.monitor_tls.clone().map(|files| TlsFiles {
        certificate: files.cert,
        key: files.key,
        client_ca: files.client_ca,
    });
    Access::load(&AccessFiles { token: settings.monitor_token.clone(), tls }, address)
}

fn limits(settings: &Settings) -> Limits {
    let defaults = Limits::default();
    let count = |setting: Option<u32>| setting.and_then(|count| usize::try_from(count).ok());
    Limits {
        max_connections: count(settings.limits.connections).unwrap_or(defaults.max_connections),
        calls_per_connection: count(settings.limits.calls_per_connection)
            .unwrap_or(defaults.calls_per_connection),
        idle: settings.limits.idle.unwrap_or(defaults.idle),
        ..defaults
    }
}

/// The directory of what outlives a restart, made where it is missing.
fn state_directory(settings: &Settings) -> Result<PathBuf, AppError> {
    let directory = match &settings.state {
        Some(directory) => directory.clone(),
        None => default_state(&settings.store.identity())?,
    };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.map_err(|error| AppError::State { path: directory.clone(), reason: error.to_string() })?;
    Ok(directory)
}

/// A directory of the user's, one for each store.
fn default_state(store: &[u8]) -> Result<PathBuf, AppError> {
    let absolute = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let base = base.ok_or_else(|| AppError::State {
        path: PathBuf::from("handle.key"),
        reason: "there is no place for it: neither XDG_STATE_HOME nor HOME is set".into(),
    })?;
    let name: String = hex::encode(Sha256::digest(store)).chars().take(16).collect();
    Ok(base.join("nfs-verity").join(name))
}

/// Takes over Ctrl-C and SIGTERM at once; the future is done when one of them comes.
pub fn interruption() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
