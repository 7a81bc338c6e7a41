//! The webhook, and the secret that it shares with the gateway.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::AppError;
use crate::config::Settings;
use crate::monitor::{Monitor, Webhook, WebhookOptions};

/// The shortest secret, in bytes.
const SECRET_MIN: usize = 16;
/// The longest, in bytes.
const SECRET_MAX: usize = 4096;
/// What nobody but the owner may do with the file, but for reading by the group: systemd and Kubernetes hand out
/// secrets so.
const FOREIGN: u32 = 0o037;

/// What tells the webhook of failures, if there is one.
pub(super) fn open(settings: &Settings, monitor: &Monitor) -> Result<Option<Webhook>, AppError> {
    let Some(webhook) = &settings.webhook else { return Ok(None) };
    let secret = secret(&webhook.secret)
        .map_err(|reason| AppError::WebhookSecret { path: webhook.secret.clone(), reason })?;
    let options = WebhookOptions {
        url: webhook.url.secret().to_owned(),
        secret,
        events: webhook.events.clone(),
        namespace: settings.namespace.clone(),
    };
    Ok(Some(monitor.webhook(options)?))
}

/// The bytes of the file, without the end of its only line.
fn secret(path: &Path) -> Result<Vec<u8>, String> {
    let said = |error: io::Error| format!("cannot be read: {error}");
    // Opening a pipe without a writer must not wait.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(said)?;
    let metadata = file.metadata().map_err(said)?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    if metadata.mode() & FOREIGN != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(format!("its mode {mode:04o} lets others at a secret, run chmod 600"));
    }
    let mut secret = Vec::new();
    file.take(SECRET_MAX as u64 + 1).read_to_end(&mut secret).map_err(said)?;
    if secret.ends_with(b"\n") {
        secret.pop();
    }
    match secret.len() {
        ..SECRET_MIN => Err(format!("is shorter than {SECRET_MIN} bytes")),
        SECRET_MIN..=SECRET_MAX => Ok(secret),
        _ => Err(format!("is longer than {SECRET_MAX} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn file(bytes: &[u8], mode: u32) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        secret(&path)
    }

    #[test]
    fn a_secret_is_the_only_line_or_all_bytes_of_a_file() {
        assert_eq!(file(b"0123456789abcdef\n", 0o600).unwrap(), b"0123456789abcdef");
        assert_eq!(file(b"0123456789abcdef", 0o440).unwrap(), b"0123456789abcdef");
        assert_eq!(file(&[10; 18], 0o400).unwrap(), [10; 17]);
        assert_eq!(file(&[7; SECRET_MAX], 0o600).unwrap().len(), SECRET_MAX);
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        for (bytes, mode, wanted) in [
            (&b"0123456789abcde\n"[..], 0o600, "shorter than 16 bytes"),
            (b"", 0o600, "shorter than 16 bytes"),
            (&[7; SECRET_MAX + 1], 0o600, "longer than 4096 bytes"),
            (&[7; 16], 0o644, "mode 0644 lets others"),
            (&[7; 16], 0o660, "mode 0660 lets others"),
            (&[7; 16], 0o602, "mode 0602 lets others"),
        ] {
            let error = file(bytes, mode).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(secret(folder.path()).unwrap_err().contains("is no file"));
        assert!(secret(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
    }
}
