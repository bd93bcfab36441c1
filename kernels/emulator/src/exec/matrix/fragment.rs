//! How the threads of a warp share a matrix: between registers and rows.

use half::f16;

use super::descriptor::{DEPTH, halves};
use crate::isa::{Factor, Product};
use crate::registers::{ALL, LANES, Registers, Slot};

/// Rows of a warp's part of a warpgroup's matrix.
pub(super) const ROWS: usize = 16;

/// Row and first column of the pair of elements that a lane holds: register pair `pair` of each
/// block of eight columns has rows 0..8, the next one rows 8..16.
fn place(lane: usize, pair: usize) -> (usize, usize) {
    (lane / 4 + 8 * pair, lane % 4 * 2)
}

/// Reads accumulators into rows of `n` elements.
pub(super) fn gather(registers: &Registers, slots: &[Slot], product: &Product, rows: &mut [f32]) {
    let n = usize::from(product.n);
    for (i, &slot) in slots.iter().enumerate() {
        let values = registers.words(slot);
        if product.half_result {
            let (block, pair) = (i / 2, i % 2);
            for (lane, &word) in values.iter().enumerate() {
                let (row, column) = place(lane, pair);
                let at = row * n + 8 * block + column;
                rows[at..at + 2].copy_from_slice(&halves(word, Factor::F16));
            }
        } else {
            let (block, pair, side) = (i / 4, i / 2 % 2, i % 2);
            for (lane, &word) in values.iter().enumerate() {
                let (row, column) = place(lane, pair);
                rows[row * n + 8 * block + column + side] = f32::from_bits(word);
            }
        }
    }
}

/// Writes rows of `n` elements into accumulators.
pub(super) fn scatter(registers: &mut Registers, slots: &[Slot], product: &Product, rows: &[f32]) {
    let n = usize::from(product.n);
    for (i, &slot) in slots.iter().enumerate() {
        let mut values = [0; LANES];
        if product.half_result {
            let (block, pair) = (i / 2, i % 2);
            for (lane, word) in values.iter_mut().enumerate() {
                let (row, column) = place(lane, pair);
                let at = row * n + 8 * block + column;
                let bits = |x: f32| u32::from(f16::from_f32(x).to_bits());
                *word = bits(rows[at]) | bits(rows[at + 1]) << 16;
            }
        } else {
            let (block, pair, side) = (i / 4, i / 2 % 2, i % 2);
            for (lane, word) in values.iter_mut().enumerate() {
                let (row, column) = place(lane, pair);
                *word = rows[row * n + 8 * block + column + side].to_bits();
            }
        }
        registers.put_words(slot, ALL, &values);
    }
}

/// Reads a factor A from registers: pairs of columns 0..8 and 8..16 of rows 0..8 and 8..16.
pub(super) fn gather_factor(
    registers: &Registers,
    slots: &[Slot],
    factor: Factor,
    rows: &mut [[f32; DEPTH]],
) {
    for (i, &slot) in slots.iter().enumerate() {
        for (lane, &word) in registers.words(slot).iter().enumerate() {
            let (row, column) = place(lane, i % 2);
            let column = column + 8 * (i / 2);
            rows[row][column..column + 2].copy_from_slice(&halves(word, factor));
        }
    }
}
