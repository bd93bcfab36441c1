//! Columns of 32-bit numbers in a page: little-endian, in base 64.

use std::io::{self, Write};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Numbers that are written at once: a multiple of three, so that their bytes fill groups of three.
const BATCH: usize = 3 << 10;

/// Writes numbers, one column after the other.
pub(super) struct Columns<W> {
    out: W,
    batch: Vec<u8>,
}

impl<W: Write> Columns<W> {
    pub fn new(out: W) -> Self {
        Self { out, batch: Vec::with_capacity(4 * BATCH) }
    }

    pub fn extend(&mut self, numbers: impl IntoIterator<Item = u32>) -> io::Result<()> {
        for number in numbers {
            self.batch.extend(number.to_le_bytes());
            if self.batch.len() == 4 * BATCH {
                self.write_out()?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> io::Result<()> {
        self.write_out()
    }

    fn write_out(&mut self) -> io::Result<()> {
        let text = base64(&self.batch);
        self.batch.clear();
        self.out.write_all(&text)
    }
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    let digit = |bits: u32, at: u32| DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        text.extend([0, 1, 2, 3].map(|at| digit(bits, at)));
        let padding = 3 - group.len();
        let end = text.len();
        text[end - padding..].fill(b'=');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{BATCH, Columns, base64};

    #[test]
    fn bytes_are_spelled_as_rfc_4648_says() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn what_is_written_in_batches_reads_like_what_is_written_at_once() {
        for count in [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 2] {
            let numbers: Vec<u32> =
                (0..count as u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
            let mut text = Vec::new();
            let mut columns = Columns::new(&mut text);
            columns.extend(numbers.iter().copied()).unwrap();
            columns.finish().unwrap();
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            assert_eq!(text, base64(&bytes));
        }
    }
}
