//! `measure_tpm`: the TPM's register that follows the measurement list.

use std::path::Path;

use super::ConfigError;
use super::file::{Entry, in_order};

const KEYS: [&str; 2] = ["tcti", "pcr"];

/// A register of a TPM that follows a measurement list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasureTpm {
    /// How the TPM is reached, in the words of its library, as in `device:/dev/tpmrm0`.
    pub tcti: String,
    /// The number of the register.
    pub pcr: u32,
}

impl Default for MeasureTpm {
    /// The kernel's own resource manager, and a register that nothing but a start of the machine sets back, and that
    /// only `systemd-stub` extends, with system extensions where there are any.
    fn default() -> Self {
        Self { tcti: "device:/dev/tpmrm0".to_owned(), pcr: 13 }
    }
}

impl MeasureTpm {
    /// Whether any program that may use the TPM can set the register back, and with it all that it told.
    pub const fn can_be_reset(&self) -> bool {
        matches!(self.pcr, 16 | 23)
    }

    pub(super) fn read(entry: &Entry<'_, '_>) -> Result<Self, ConfigError> {
        let wanted = "a table such as { tcti = \"device:/dev/tpmrm0\", pcr = 13 }";
        let table = entry.value.get_ref().as_table().ok_or_else(|| entry.wrong_type(wanted))?;
        let mut tpm = Self::default();
        for (key, value) in in_order(table) {
            let inner = Entry { file: entry.file, name: key.get_ref(), value };
            match inner.name {
                "tcti" => {
                    let tcti = inner.string()?;
                    let is_relative =
                        tcti.strip_prefix("device:").is_some_and(|path| !Path::new(path).is_absolute());
                    if tcti.is_empty() || tcti.contains('\0') || is_relative {
                        let words = "tcti must say how the TPM is reached, as in \"device:/dev/tpmrm0\"";
                        return Err(inner.error(words));
                    }
                    tpm.tcti = tcti.to_owned();
                }
                "pcr" => {
                    tpm.pcr = inner.number(0..=23)?;
                    if !matches!(tpm.pcr, 8 | 9 | 11..=16 | 23) {
                        let words = "pcr must be 8, 9, 11 to 16, or 23: the firmware, the kernel's own IMA (10) or \
                                     a measured launch extends the others";
                        return Err(inner.error(words));
                    }
                }
                unknown => {
                    let known = "known keys of [measure_tpm]";
                    return Err(entry.file.unknown(key.span(), "measure_tpm.", unknown, known, &KEYS));
                }
            }
        }
        Ok(tpm)
    }
}
