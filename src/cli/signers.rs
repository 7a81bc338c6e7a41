//! Who signed a file, for people and programs.

use serde_json::{Value, json};

use crate::sign::{Format, Signer};

/// What no signature of these says.
pub(super) const UNBOUND: &str = "that the file belongs to this path: no native signature binds it";

/// Whether one of them binds the file to its path.
pub(super) fn bind_the_path(signers: &[Signer]) -> bool {
    signers.iter().any(|signer| signer.format == Format::Native)
}

/// Names, formats and keys.
pub(super) fn shown(signers: &[Signer]) -> String {
    let one = |signer: &Signer| format!("{} ({}, {})", signer.name, signer.format, signer.key_id.short());
    signers.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(super) fn as_json(signers: &[Signer]) -> Value {
    let one = |signer: &Signer| {
        json!({
            "key_id": signer.key_id.to_string(), "name": signer.name, "format": signer.format.as_str(),
        })
    };
    signers.iter().map(one).collect()
}
