//! The measurement list of the export: where it lies, and who signs where its segments begin.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tpm::{self, NotBuilt};
use crate::config::Measuring;
use crate::event::{Event, Sink};
use crate::export::Measurer;
use crate::measure::{Attached, Log, LogError, LogOptions, Seal, TpmError};
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
    /// There is no way to the TPM.
    #[error("measure_tpm: {0}")]
    Tpm(TpmError),
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes the measurement list: {0}")]
    Thread(std::io::Error),
}

impl MeasuringTrouble {
    /// Whether the user's settings are at fault, and not the system.
    pub(super) fn is_configuration(&self) -> bool {
        matches!(self, Self::Tpm(error) if error.is::<NotBuilt>())
    }
}

/// Opens the list that `wanted` describes, and what writes it.
pub(super) fn open(
    wanted: &Measuring,
    state: &Path,
    sink: &Arc<dyn Sink>,
) -> Result<Measurer, MeasuringTrouble> {
    // Before anything is made.
    let tpm = wanted.tpm.as_ref().map(|tpm| tpm::open(&tpm.tcti, tpm.pcr)).transpose();
    let tpm = tpm.map_err(MeasuringTrouble::Tpm)?;
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
    let unusable =
        |source| MeasuringTrouble::Log { directory: wanted.directory.clone(), source: Box::new(source) };
    let (mut log, recovery) = Log::open(&wanted.directory, options, seal).map_err(unusable)?;
    if !recovery.is_clean() {
        sink.emit(&Event::MeasuringRecovered { detail: &recovery.to_string() });
    }
    if let Some(tpm) = tpm {
        let attached = log.attach(tpm).map_err(|error| match error {
            LogError::Register(error) => MeasuringTrouble::Tpm(error.into()),
            other => unusable(other),
        })?;
        if attached != Attached::default() {
            sink.emit(&Event::MeasuringRecovered { detail: &attached.to_string() });
        }
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
