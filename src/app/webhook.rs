//! The webhook, and the secret that it shares with the gateway.

use std::path::Path;

use zeroize::Zeroizing;

use super::AppError;
use crate::config::Settings;
use crate::monitor::{Monitor, Webhook, WebhookOptions};
use crate::sys::secret::{SecretError, read_secret};

/// The shortest secret, in bytes.
const SECRET_MIN: usize = 16;
/// The longest, in bytes.
const SECRET_MAX: usize = 4096;

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
fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut secret = read_secret(path, SECRET_MAX).map_err(|error| match error {
        SecretError::Exposed(_) => format!("{error}, run chmod 600"),
        other => other.to_string(),
    })?;
    if secret.ends_with(b"\n") {
        secret.pop();
    }
    match secret.len() {
        ..SECRET_MIN => Err(format!("is shorter than {SECRET_MIN} bytes")),
        _ => Ok(secret),
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
        secret(&path).map(|secret| secret.to_vec())
    }

    #[test]
    fn a_secret_is_the_only_line_or_all_bytes_of_a_file() {
        assert_eq!(file(b"0123456789abcdef\n", 0o600).unwrap(), b"0123456789abcdef");
        assert_eq!(file(b"0123456789abcdef", 0o400).unwrap(), b"0123456789abcdef");
        assert_eq!(file(&[10; 18], 0o400).unwrap(), [10; 17]);
        assert_eq!(file(&[7; SECRET_MAX], 0o600).unwrap().len(), SECRET_MAX);
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        for (bytes, mode, wanted) in [
            (&b"0123456789abcde\n"[..], 0o600, "shorter than 16 bytes"),
            (b"", 0o600, "shorter than 16 bytes"),
            (&[7; SECRET_MAX + 1], 0o600, "more than 4096 bytes"),
            (&[7; 16], 0o644, "mode 0644 lets others at a secret, run chmod 600"),
        ] {
            let error = file(bytes, mode).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(secret(folder.path()).unwrap_err().contains("is no file"));
        assert!(secret(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
    }
}
