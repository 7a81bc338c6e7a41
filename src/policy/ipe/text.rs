//! How values are written: in a policy, in the audit log and for people.

/// Where text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A policy: the bytes as they are.
    Policy,
    /// An audit record: strings as the kernel writes those that it does not trust.
    Audit,
}

impl Style {
    pub(super) fn string(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Policy => out.extend_from_slice(bytes),
            Self::Audit => untrusted(bytes, out),
        }
    }
}

/// Writes `bytes` in quotes, or in hexadecimal when they hold a quote, a space or anything that is not
/// printable ASCII: `audit_log_n_untrustedstring` of `kernel/audit.c`.
pub(super) fn untrusted(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e)) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else {
        hex_upper(bytes, out);
    }
}

/// Writes `bytes` in hexadecimal, in capitals as `audit_log_n_hex` does.
pub(super) fn hex_upper(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(hex::encode_upper(bytes).into_bytes());
}

/// At most `max` of `bytes` for people: printable ASCII, the rest escaped.
pub(super) fn shown(bytes: &[u8], max: usize) -> String {
    match bytes.get(..max) {
        Some(head) if bytes.len() > max => format!("{}...", head.escape_ascii()),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// `bytes` for people: as they are when they are text on one line, else escaped.
pub(super) fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}
