//! The unit: what a rank runs in one forward and one backward.

use std::fmt;
use std::str::FromStr;

/// One slice of one microbatch on one chunk of a rank's layers.
///
/// Written `microbatch.slice:chunk`, as in `0.3:1`; a missing chunk is chunk 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// Which sequence of the step, from 0.
    pub microbatch: u32,
    /// Which slice of the sequence, from 0.
    pub slice: u32,
    /// Which of the rank's chunks of layers (its "virtual stage"), from 0.
    pub chunk: u32,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}:{}", self.microbatch, self.slice, self.chunk)
    }
}

impl FromStr for Unit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (microbatch, rest) = text.split_once('.')?;
            let (slice, chunk) = rest.split_once(':').unwrap_or((rest, "0"));
            Some(Self {
                microbatch: number(microbatch)?,
                slice: number(slice)?,
                chunk: number(chunk)?,
            })
        };
        parse().ok_or_else(|| {
            format!("`{text}` is not a unit; write microbatch.slice:chunk, such as 0.3:1")
        })
    }
}

/// Decimal digits only: `u32::from_str` would take a sign as well.
pub(super) fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_back_as_written_and_the_chunk_may_be_left_out() {
        let unit = Unit { microbatch: 12, slice: 3, chunk: 1 };
        assert_eq!(unit.to_string(), "12.3:1");
        assert_eq!("12.3:1".parse(), Ok(unit));
        assert_eq!("12.3".parse(), Ok(Unit { chunk: 0, ..unit }));
    }

    #[test]
    fn malformed_units_are_errors() {
        for text in ["", "1", "1.", ".1", "1.2:", "1.2:x", "+1.2", "1.-2", "1.2:3:4", "9999999999.0"] {
            let error = text.parse::<Unit>().unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
