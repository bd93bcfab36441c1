//! Settings of a mock: each has a name, and an environment variable for child processes.

use std::{fmt::Display, str::FromStr};

/// The environment variable of a setting: `order` of the prefix `SLIMPIPE_MOCK_CUDA` is
/// `SLIMPIPE_MOCK_CUDA_ORDER`.
pub fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.to_uppercase())
}

/// Reads the value of the setting `name`.
///
/// # Errors
/// Names the setting and the value.
pub fn read<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|e| format!("{name} = {value:?}: {e}"))
}

/// Reads the value of a setting that may be empty, which means none.
///
/// # Errors
/// Names the setting and the value.
pub fn read_optional<T: FromStr<Err: Display>>(
    name: &str,
    value: &str,
) -> Result<Option<T>, String> {
    if value.is_empty() { Ok(None) } else { read(name, value).map(Some) }
}

/// Reads a number of bytes: `4096`, `64K`, `16M`, `8G` (powers of 1024).
///
/// # Errors
/// Names the setting and the value.
pub fn read_bytes(name: &str, value: &str) -> Result<usize, String> {
    let (digits, shift) = match value.as_bytes().last() {
        Some(b'K') => (&value[..value.len() - 1], 10),
        Some(b'M') => (&value[..value.len() - 1], 20),
        Some(b'G') => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    let number: usize = read(name, digits)?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{name} = {value:?}: too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_suffixes() {
        assert_eq!(read_bytes("memory", "4096"), Ok(4096));
        assert_eq!(read_bytes("memory", "8G"), Ok(8 << 30));
        assert!(read_bytes("memory", "8T").unwrap_err().contains("memory"));
        assert_eq!(variable("SLIMPIPE_MOCK_CUDA", "order"), "SLIMPIPE_MOCK_CUDA_ORDER");
    }
}
