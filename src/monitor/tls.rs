//! TLS for the monitor: its certificate, and the certificates that clients have to show.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::access::{AccessError, TlsFiles, read, secret};

const CERT: &str = "cert has the monitor's certificate, and then those between it and an authority";
const KEY: &str = "key has the certificate's private key, without a passphrase";
const CLIENT_CA: &str = "client_ca has the certificates of those who issue clients theirs";

/// What a handshake goes by: TLS 1.2 or later. All that is read goes into `hash`.
///
/// # Errors
/// A file cannot be read or is not what it should be, or others may read the key.
pub(super) fn load(files: &TlsFiles, hash: &mut Sha256) -> Result<Arc<ServerConfig>, AccessError> {
    let chain = certificates(&files.certificate, CERT, hash)?;
    let wrong = |reason| AccessError::Tls { file: files.key.clone(), reason, wanted: KEY };
    let text = secret(&files.key, wrong)?;
    hash.update(Sha256::digest(&text));
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| wrong(words(&error)))?;

    let provider = Arc::new(default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().map_err(|error| wrong(error.to_string()))?;
    let config = match &files.client_ca {
        None => config.with_no_client_auth(),
        Some(file) => {
            let wrong = |reason| AccessError::Tls { file: file.clone(), reason, wanted: CLIENT_CA };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file, CLIENT_CA, hash)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
        }
    };
    let mut config = config.with_single_cert(chain, key).map_err(|error| wrong(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// All certificates in `file`, of which there is one at least.
fn certificates(
    file: &Path,
    wanted: &'static str,
    hash: &mut Sha256,
) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let wrong = |reason| AccessError::Tls { file: file.to_owned(), reason, wanted };
    let text = read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    hash.update(Sha256::digest(&text));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("it has no certificate".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(words(&error))),
    }
}

/// Without what stands there, which may be a part of a key.
fn words(error: &pem::Error) -> String {
    let what = match error {
        pem::Error::NoItemsFound => "it has nothing of that kind",
        pem::Error::MissingSectionEnd { .. } => "it is cut off",
        _ => "it is no PEM",
    };
    what.to_owned()
}

#[cfg(test)]
mod tests;
