//! Packing: operands into panels that register kernels read.
//!
//! A panel of *lanes* has rows side by side, step after step: word w of row i at `w * lanes + i`. A
//! panel of *rows* keeps rows dense: word w of row i at `i * steps + w`.

use super::MatRef;
use crate::cpu::micro::Multiply;
use crate::cpu::simd::prefetch;
use crate::cpu::transpose::transpose;
use crate::cpu::words::words_along;

/// Steps that are fetched ahead of their use.
const AHEAD: usize = 8;

/// Part of a view's rows and of their words.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    /// The rows of one panel, or fewer at the matrix's edge.
    pub view: MatRef<'a, T>,
    /// The first word of each row.
    pub first: usize,
    /// Words of each row; those behind the matrix's edge are zero.
    pub steps: usize,
}

impl<T: Multiply> Source<'_, T> {
    /// Words whose elements all exist.
    fn whole(&self) -> usize {
        let elements = self.view.cols().saturating_sub(self.first * T::PER_WORD);
        (elements / T::PER_WORD).min(self.steps)
    }

    /// Word `step` of row `row`; elements that do not exist are zero.
    fn word(&self, row: usize, step: usize) -> u32 {
        let (row_stride, col_stride) = self.view.strides();
        let first = (self.first + step) * T::PER_WORD;
        let at = |col: usize| {
            if col < self.view.cols() {
                self.view.data()[row * row_stride + col * col_stride]
            } else {
                T::default()
            }
        };
        T::word(at(first), at(first + T::PER_WORD - 1))
    }

    /// Fills panels of `LANES` lanes with the rows.
    pub(super) fn to_lanes<const LANES: usize>(self, panels: &mut [u32]) {
        let (row_stride, col_stride) = self.view.strides();
        let (data, rows, whole) = (self.view.data(), self.view.rows(), self.whole());
        let from = &data[(self.first * T::PER_WORD * col_stride).min(data.len())..];
        let size = LANES * self.steps;
        // Whole panels of rows that lie side by side are packed together, step by step.
        let together = if row_stride == 1 && col_stride != 1 { rows / LANES } else { 0 };
        interleave::<T, LANES>(from, col_stride, whole, &mut panels[..together * size], size);
        for (i, panel) in panels.chunks_exact_mut(size).enumerate() {
            let first = i * LANES;
            let rows = LANES.min(rows - first);
            let mut done = whole;
            if rows < LANES {
                panel.fill(0);
            }
            if col_stride == 1 {
                transpose(&from[first * row_stride..], row_stride, (rows, whole), panel, LANES);
            } else if i >= together {
                done = 0;
            }
            for (step, line) in panel.chunks_exact_mut(LANES).enumerate().skip(done) {
                for (row, word) in line.iter_mut().enumerate().take(rows) {
                    *word = self.word(first + row, step);
                }
            }
        }
    }

    /// Fills panels of rows, as many as there is room for.
    pub(super) fn to_rows(self, panels: &mut [u32]) {
        let (row_stride, col_stride) = self.view.strides();
        let (rows, whole, steps) = (self.view.rows(), self.whole(), self.steps);
        let (filled, rest) = panels.split_at_mut(rows * steps);
        rest.fill(0);
        if col_stride == 1 {
            for (row, line) in filled.chunks_exact_mut(steps).enumerate() {
                let from = &self.view.data()[row * row_stride + self.first * T::PER_WORD..];
                words_along(&from[..whole * T::PER_WORD], &mut line[..whole]);
                for (step, word) in line.iter_mut().enumerate().skip(whole) {
                    *word = self.word(row, step);
                }
            }
            return;
        }
        // By way of lanes, a few steps of a few rows at a time.
        const LANES: usize = 32;
        const STRIP: usize = 64;
        let mut lanes = [0u32; LANES * STRIP];
        for (i, panel) in filled.chunks_mut(LANES * steps).enumerate() {
            let first_row = i * LANES;
            let rows = LANES.min(rows - first_row);
            for start in (0..steps).step_by(STRIP) {
                let len = STRIP.min(steps - start);
                let view = self.view.narrow_rows(first_row, rows);
                let strip = Self { view, first: self.first + start, steps: len };
                strip.to_lanes::<LANES>(&mut lanes[..len * LANES]);
                let lanes: &[f32] = bytemuck::cast_slice(&lanes[..len * LANES]);
                transpose(lanes, LANES, (len, rows), &mut panel[start..], steps);
            }
        }
    }
}

crate::cpu::simd::multiversion! {
    /// Rows that lie side by side, `stride` elements from step to step, to panels of `size` words.
    fn interleave<T: Multiply, const LANES: usize>(data: &[T], stride: usize, steps: usize, panels: &mut [u32], size: usize) {
        let count = panels.len() / size;
        for step in 0..steps {
            let first = step * T::PER_WORD;
            let a = &data[first * stride..][..count * LANES];
            let b = &data[(first + T::PER_WORD - 1) * stride..][..count * LANES];
            // The next rows lie on other pages, where the processor does not look ahead by itself.
            for ahead in (0..count * LANES).step_by(64 / size_of::<T>()) {
                for row in 0..T::PER_WORD {
                    prefetch(a.as_ptr().wrapping_add((AHEAD * T::PER_WORD + row) * stride + ahead));
                }
            }
            for (i, (a, b)) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0).enumerate() {
                let line: &mut [u32; LANES] = panels[i * size + step * LANES..].first_chunk_mut().expect("a whole line");
                for ((word, &a), &b) in line.iter_mut().zip(a).zip(b) {
                    *word = T::word(a, b);
                }
            }
        }
    }
}
