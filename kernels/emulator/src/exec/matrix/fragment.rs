//! How the threads of a warp share a matrix: between registers and rows.
//!
//! Of every eight columns, lane `l` holds columns `l % 4 * 2` and the next one, of row `l / 4` and
//! of row `l / 4 + 8`.

use half::f16;

use super::descriptor::{DEPTH, halves};
use crate::isa::{Factor, Product};
use crate::registers::{ALL, LANES, Registers, Slot};

/// Rows of a warp's part of a warpgroup's matrix.
pub(super) const ROWS: usize = 16;

/// Reads accumulators into rows of `n` elements.
pub(super) fn gather(registers: &Registers, slots: &[Slot], product: &Product, rows: &mut [f32]) {
    let n = usize::from(product.n);
    let step = if product.half_result { 1 } else { 2 };
    // A step of registers is eight rows of eight columns.
    for (i, slots) in slots.chunks_exact(step).enumerate() {
        let (first, column) = (8 * (i % 2), i / 2 * 8);
        for row in 0..8 {
            let at = (first + row) * n + column;
            let target = &mut rows[at..at + 8];
            for c in 0..4 {
                let lane = 4 * row + c;
                let pair = match slots {
                    [both] => halves(registers.words(*both)[lane], Factor::F16),
                    [low, high, ..] => {
                        [low, high].map(|s| f32::from_bits(registers.words(*s)[lane]))
                    }
                    [] => [0.0; 2],
                };
                target[2 * c..2 * c + 2].copy_from_slice(&pair);
            }
        }
    }
}

/// Writes rows of `n` elements into accumulators.
pub(super) fn scatter(registers: &mut Registers, slots: &[Slot], product: &Product, rows: &[f32]) {
    let n = usize::from(product.n);
    let step = if product.half_result { 1 } else { 2 };
    for (i, slots) in slots.chunks_exact(step).enumerate() {
        let (first, column) = (8 * (i % 2), i / 2 * 8);
        let mut words = [[0u32; LANES]; 2];
        for row in 0..8 {
            let at = (first + row) * n + column;
            for (c, pair) in rows[at..at + 8].chunks_exact(2).enumerate() {
                let lane = 4 * row + c;
                match product.half_result {
                    true => {
                        let bits = |x: f32| u32::from(f16::from_f32(x).to_bits());
                        words[0][lane] = bits(pair[0]) | bits(pair[1]) << 16;
                    }
                    false => {
                        words[0][lane] = pair[0].to_bits();
                        words[1][lane] = pair[1].to_bits();
                    }
                }
            }
        }
        for (slot, words) in slots.iter().zip(&words) {
            registers.put_words(*slot, ALL, words);
        }
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
            let row = lane / 4 + 8 * (i % 2);
            let column = lane % 4 * 2 + 8 * (i / 2);
            rows[row][column..column + 2].copy_from_slice(&halves(word, factor));
        }
    }
}
