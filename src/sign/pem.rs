//! Key files: one PEM block (RFC 7468, strict form) and nothing around it.

use super::SignError;
use super::text::Quoted;

/// The longest key file that is read, in bytes.
pub const KEY_FILE_MAX: usize = 16 * 1024;

/// Label of a public key (SubjectPublicKeyInfo).
pub(super) const PUBLIC: &str = "PUBLIC KEY";
/// Label of a private key (PKCS#8, not encrypted).
pub(super) const PRIVATE: &str = "PRIVATE KEY";
/// Label of an X.509 certificate.
pub(super) const CERTIFICATE: &str = "CERTIFICATE";

/// The content of the one block in `pem`, which must be labelled `expected`.
pub(super) fn decode(pem: &[u8], expected: &'static str) -> Result<Vec<u8>, SignError> {
    if pem.len() > KEY_FILE_MAX {
        return Err(SignError::TooLong { what: "key file", found: pem.len(), max: KEY_FILE_MAX });
    }
    let refuse = |reason: String| SignError::Pem { expected, reason };
    if !pem.starts_with(b"-----BEGIN ") {
        return Err(refuse("it does not begin with -----BEGIN".to_owned()));
    }
    let label = pem_rfc7468::decode_label(pem).map_err(|error| refuse(error.to_string()))?;
    if label != expected {
        let remedy = match label {
            "EC PRIVATE KEY" | "RSA PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" if expected == PRIVATE => {
                "; convert it with: openssl pkcs8 -topk8 -nocrypt"
            }
            PRIVATE => "; a private key does not belong here",
            PUBLIC => "; this is the public half",
            _ => "",
        };
        return Err(SignError::PemLabel { expected, found: Quoted(label.as_bytes()).to_string(), remedy });
    }
    let (_, der) = pem_rfc7468::decode_vec(pem).map_err(|error| refuse(error.to_string()))?;
    Ok(der)
}

/// `der` as one PEM block, lines ending in LF.
pub(super) fn encode(der: &[u8], label: &'static str) -> Result<String, SignError> {
    pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, der)
        .map_err(|error| SignError::Pem { expected: label, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_and_nothing_around_it() {
        let der: Vec<u8> = (0..200).collect();
        let pem = encode(&der, PUBLIC).unwrap();
        assert_eq!(decode(pem.as_bytes(), PUBLIC).unwrap(), der);
        assert_eq!(decode(pem.trim_end().as_bytes(), PUBLIC).unwrap(), der);
        assert_eq!(decode(pem.replace('\n', "\r\n").as_bytes(), PUBLIC).unwrap(), der);
        for bad in [
            String::new(),
            format!("{pem}{pem}"),
            format!("note\n{pem}"),
            format!("{pem}note\n"),
            pem.replace("-----END PUBLIC KEY-----", "-----END PRIVATE KEY-----"),
            pem.replace("-----BEGIN", "----BEGIN"),
            pem.replacen('\n', "\nName: value\n\n", 1),
            pem.replace("AAEC", "AA*C"),
        ] {
            assert!(matches!(decode(bad.as_bytes(), PUBLIC), Err(SignError::Pem { .. })), "{bad}");
        }
        let end = pem.trim_end().len();
        for cut in 0..end {
            assert!(decode(&pem.as_bytes()[..cut], PUBLIC).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn other_labels_are_refused_with_a_remedy() {
        let told = |label: &'static str, expected: &'static str| {
            let error = decode(encode(b"0123456789", label).unwrap().as_bytes(), expected).unwrap_err();
            assert!(matches!(error, SignError::PemLabel { .. }));
            error.to_string()
        };
        assert!(told("EC PRIVATE KEY", PRIVATE).contains("openssl pkcs8 -topk8 -nocrypt"));
        assert!(told(PRIVATE, PUBLIC).contains("does not belong here"));
        assert!(told(PUBLIC, PRIVATE).contains("the public half"));
        assert!(told("CERTIFICATE", PUBLIC).contains("\"CERTIFICATE\""));
    }

    #[test]
    fn long_files_are_refused_unread() {
        let pem = encode(&[0; KEY_FILE_MAX], PUBLIC).unwrap();
        assert!(matches!(decode(pem.as_bytes(), PUBLIC), Err(SignError::TooLong { .. })));
    }
}
