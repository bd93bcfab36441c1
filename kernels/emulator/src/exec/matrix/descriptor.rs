//! Factors in shared memory, as descriptors describe them.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::exec::shared::Shared;
use crate::fault::{FaultKind, Trouble};
use crate::isa::Factor;
use crate::tensor_map::Swizzle;

/// Elements of a product along K.
pub(super) const DEPTH: usize = 16;

/// A decoded descriptor of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    start: u32,
    leading: u32,
    stride: u32,
    swizzle: Swizzle,
    /// The factor's own axis is innermost, not K.
    transpose: bool,
}

/// Bytes of a chunk: eight elements that lie together.
const CHUNK: u32 = 16;

impl Descriptor {
    pub(super) fn decode(bits: u64, transpose: bool) -> Result<Self, Box<Trouble>> {
        let field = |at: u32| (bits >> at & 0x3FFF) as u32 * CHUNK;
        let swizzle = match bits >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::B128,
            2 => Swizzle::B64,
            _ => Swizzle::B32,
        };
        let start = field(0);
        let wrong = |what: String| Err(Trouble::new(FaultKind::Descriptor, what));
        if bits >> 49 & 7 != 0 {
            return wrong(format!("descriptor {bits:#x}: a base offset is not supported"));
        }
        // The pattern of a swizzle follows the address; matrices begin where it begins.
        let pattern = swizzle.row_bytes().map_or(0, |row| row as u32 * 8 - 1);
        if start & pattern & !127 != 0 {
            return wrong(format!(
                "descriptor {bits:#x}: {start:#x} is not where the swizzle's pattern begins"
            ));
        }
        Ok(Self { start, leading: field(16), stride: field(32), swizzle, transpose })
    }

    /// Chunks in a row of the swizzle.
    fn width(&self) -> u32 {
        self.swizzle.row_bytes().unwrap_or(CHUNK as usize) as u32 / CHUNK
    }

    /// Where a chunk lies before it is swizzled: elements 8 `column`.. of row `row`; rows run
    /// along the factor's axis and columns along K, or with a transposed factor the other way.
    fn offset(&self, row: u32, column: u32) -> u32 {
        let width = self.width();
        let plain = self.swizzle == Swizzle::None;
        let inner = row % 8 * width * CHUNK;
        self.start
            + inner
            + match (self.transpose, plain) {
                (false, true) => row / 8 * self.stride + column * self.leading,
                (false, false) => row / 8 * self.stride + column * CHUNK,
                (true, true) => row / 8 * self.leading + column * self.stride,
                (true, false) => {
                    row / 8 * self.stride + column % width * CHUNK + column / width * self.leading
                }
            }
    }

    /// Rows and columns of chunks of the elements `from..to` of the factor's axis.
    fn chunks(&self, from: usize, to: usize) -> impl Iterator<Item = (u32, u32)> + use<> {
        let depth = DEPTH as u32;
        let (from, to) = (from as u32, to as u32);
        let (rows, columns) = match self.transpose {
            false => (from..to, 0..depth / 8),
            true => (0..depth, from / 8..to / 8),
        };
        rows.flat_map(move |row| columns.clone().map(move |column| (row, column)))
    }

    /// The bytes that elements `from..to` of the factor's axis occupy, as few ranges as possible.
    /// Swizzled chunks stay within their rows of 128 bytes.
    pub(super) fn ranges(&self, from: usize, to: usize) -> Vec<(u32, u32)> {
        // Eight rows lie together, with as many chunks as the swizzle has.
        let (width, depth) = (self.width(), DEPTH as u32 / 8);
        let (first, last) = (from as u32 / 8, (to as u32).div_ceil(8));
        let (rows, columns) = match self.transpose {
            false => (first..last, 0..depth),
            true => (0..depth, first..last),
        };
        let columns = columns.step_by(width.min(if self.transpose { 8 } else { depth }) as usize);
        let mut ranges: Vec<(u32, u32)> = rows
            .flat_map(|row| columns.clone().map(move |column| (8 * row, column)))
            .map(|(row, column)| {
                let at = self.offset(row, column);
                match self.swizzle {
                    Swizzle::None => (at, at + 8 * CHUNK),
                    _ => (at & !127, (at & !127) + 8 * width * CHUNK),
                }
            })
            .collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let joins = next.0 <= kept.1;
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        ranges
    }

    /// Reads elements `from..to` of the axis. Calls `put` with an element's place on the axis
    /// (counted from zero), its place along K, and its value.
    fn read(
        &self,
        shared: &Shared,
        factor: Factor,
        from: usize,
        to: usize,
        mut put: impl FnMut(usize, usize, &[f32; 8]),
    ) -> Result<(), Box<Trouble>> {
        for (row, column) in self.chunks(from, to) {
            let at = self.swizzle.apply(self.offset(row, column));
            let values = convert(shared.read(at, CHUNK as usize)?, factor);
            match self.transpose {
                false => put(row as usize, 8 * column as usize, &values),
                true => put(8 * column as usize, row as usize, &values),
            }
        }
        Ok(())
    }

    /// Reads A: rows of sixteen elements.
    pub(super) fn read_rows(
        &self,
        shared: &Shared,
        factor: Factor,
        rows: &mut [[f32; DEPTH]],
        from: usize,
    ) -> Result<(), Box<Trouble>> {
        let to = from + rows.len();
        let transpose = self.transpose;
        self.read(shared, factor, from, to, |row, k, values| match transpose {
            false => rows[row - from][k..k + 8].copy_from_slice(values),
            true => {
                for (i, &value) in values.iter().enumerate() {
                    rows[row - from + i][k] = value;
                }
            }
        })
    }

    /// Reads B: sixteen rows of `n` elements.
    pub(super) fn read_columns(
        &self,
        shared: &Shared,
        factor: Factor,
        columns: &mut [f32],
        n: usize,
    ) -> Result<(), Box<Trouble>> {
        let transpose = self.transpose;
        self.read(shared, factor, 0, n, |column, k, values| match transpose {
            false => {
                for (i, &value) in values.iter().enumerate() {
                    columns[(k + i) * n + column] = value;
                }
            }
            true => columns[k * n + column..k * n + column + 8].copy_from_slice(values),
        })
    }
}

/// Eight elements as f32.
fn convert(bytes: &[u8], factor: Factor) -> [f32; 8] {
    let mut bits = [0u16; 8];
    for (bits, pair) in bits.iter_mut().zip(bytes.chunks_exact(2)) {
        *bits = u16::from_le_bytes([pair[0], pair[1]]);
    }
    match factor {
        Factor::Bf16 => bits.map(|b| f32::from_bits(u32::from(b) << 16)),
        Factor::F16 => {
            let mut values = [0.0; 8];
            bits.map(f16::from_bits).convert_to_f32_slice(&mut values);
            values
        }
    }
}

/// The values of two halves in a register.
pub(super) fn halves(word: u32, factor: Factor) -> [f32; 2] {
    [word as u16, (word >> 16) as u16].map(|bits| match factor {
        Factor::Bf16 => f32::from_bits(u32::from(bits) << 16),
        Factor::F16 => f16::from_bits(bits).to_f32(),
    })
}
