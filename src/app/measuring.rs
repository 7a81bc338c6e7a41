//! The measurement list of the export: where it lies, and who signs where its segments begin.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Measuring;
use crate::event::{Event, Sink};
use crate::export::Measurer;
use crate::measure::{Log, LogError, LogOptions, Seal};
use crate::sign::{KEY_FILE_MAX, KeyAlgorithm, SignError, SigningKey, generate};

/// The key that signs, in the state directory, and its public half.
const KEY: &str = "measure.key";
const PUBLIC: &str = "measure.pub";

/// Why the list cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum MeasuringTrouble {
    /// The list cannot be opened.
    #[error("{}: {source}; measure names a directory of the gateway's own", directory.display())]
    Log {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        source: Box<LogError>,
    },
    /// The key that signs cannot be used.
    #[error("{}: {reason}; restore it, or remove it and give measure a new directory: under another key the list does not open", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes the measurement list: {0}")]
    Thread(std::io::Error),
}

/// Opens the list that `wanted` describes, and what writes it.
pub(super) fn open(
    wanted: &Measuring,
    state: &Path,
    sink: &Arc<dyn Sink>,
) -> Result<Measurer, MeasuringTrouble> {
    let key = key(state)?;
    let public = key.public_key().clone();
    let seal = Seal {
        sign: Box::new(move |start| key.sign(start).map_err(Into::into)),
        verify: Box::new(move |start, signature| public.verify(start, signature)),
    };
    let options = LogOptions {
        template: wanted.template,
        segment_bytes: wanted.segment,
        history: wanted.history.or(LogOptions::default().history),
        ..LogOptions::default()
    };
    let (log, recovery) = Log::open(&wanted.directory, options, seal).map_err(|source| {
        MeasuringTrouble::Log { directory: wanted.directory.clone(), source: Box::new(source) }
    })?;
    if !recovery.is_clean() {
        sink.emit(&Event::MeasuringRecovered { detail: &recovery.to_string() });
    }
    sink.emit(&Event::Measured { records: log.records() });
    Measurer::start(log, wanted.template, sink.clone()).map_err(MeasuringTrouble::Thread)
}

/// The key in the state directory, made there the first time.
fn key(state: &Path) -> Result<SigningKey, MeasuringTrouble> {
    let path = state.join(KEY);
    let trouble = |reason: String| MeasuringTrouble::Key { path: path.clone(), reason };
    let read = |error: SignError| trouble(error.to_string());
    match std::fs::metadata(&path) {
        Ok(found) if found.len() > KEY_FILE_MAX as u64 => return Err(trouble("too large".to_owned())),
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            return Err(trouble(
                "others may read or write it; chmod 600 it if it is still the gateway's alone".to_owned(),
            ));
        }
        Ok(_) => {
            let text = std::fs::read(&path).map_err(|error| trouble(error.to_string()))?;
            return SigningKey::from_pkcs8_pem(&text).map_err(read);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(trouble(error.to_string())),
    }
    let made = generate(KeyAlgorithm::Ed25519).map_err(read)?;
    let put = |name: &str, text: &str, mode| {
        let unfinished = state.join(format!("{name}.{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, state.join(name))?;
        std::fs::File::open(state)?.sync_all()
    };
    // The public half first: where there is a key there is one.
    put(PUBLIC, &made.public_pem, 0o644)
        .and_then(|()| put(KEY, &made.private_pem, 0o600))
        .map_err(|error| trouble(error.to_string()))?;
    SigningKey::from_pkcs8_pem(made.private_pem.as_bytes()).map_err(read)
}
