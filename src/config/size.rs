//! Sizes in bytes as people write them.

/// A text that is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not digits and a unit.
    #[error(
        "\"{0}\" is no size; write a number of bytes or one such as \"64MiB\" (units K, M, G, KiB, MiB, GiB)"
    )]
    Malformed(String),
    /// More than 64 bits hold.
    #[error("\"{0}\" is too large")]
    TooLarge(String),
}

/// Reads a size: decimal digits, and at most one unit behind them. `KiB`, `MiB`, `GiB` and `TiB`
/// are powers of 1024, and so are `K`, `M`, `G` and `T` alone; case and space before the unit do
/// not matter, and `B` stands for bytes.
///
/// # Errors
/// The text is not of that form, or the size does not fit in 64 bits.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    // What is echoed in an error is kept short.
    let shown = || text.chars().take(40).collect::<String>().escape_debug().to_string();
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(end);
    if digits.is_empty() {
        return Err(SizeError::Malformed(shown()));
    }
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(SizeError::Malformed(shown())),
    };
    // Digits alone fail to parse for one reason.
    let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge(shown()))?;
    number.checked_mul(factor).ok_or_else(|| SizeError::TooLarge(shown()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("10B", 10),
            ("64K", 64 << 10),
            ("64KiB", 64 << 10),
            ("64kib", 64 << 10),
            ("1M", 1 << 20),
            ("128 MiB", 128 << 20),
            (" 2GiB ", 2 << 30),
            ("3g", 3 << 30),
            ("1TiB", 1 << 40),
            ("18446744073709551615", u64::MAX),
            ("0001", 1),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", " ", "MiB", "-1", "+1", "1.5G", "1 2", "1MiBs", "0x10", "1e9", "1MB", "１"] {
            assert!(matches!(parse_size(text), Err(SizeError::Malformed(_))), "{text:?}");
        }
        for text in ["18446744073709551616", "16777216TiB", "99999999999999999999999999G"] {
            assert!(matches!(parse_size(text), Err(SizeError::TooLarge(_))), "{text:?}");
        }
    }

    #[test]
    fn an_error_echoes_little_and_on_one_line() {
        let text = format!("\n{}", "x".repeat(10_000));
        let error = parse_size(&text).unwrap_err().to_string();
        assert!(error.len() < 200 && !error.contains('\n'), "{error}");
    }
}
