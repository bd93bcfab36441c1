//! Packing: lanes (rows of A, columns of B) side by side, step after step.

use super::MatRef;
use crate::cpu::micro::Multiply;
use crate::cpu::threads::Threads;

/// Lanes that one task packs.
const TASK: usize = 96;

/// Packs words `first..first + steps` of the rows of `view` into panels of `lanes` rows: word w of
/// row i lies in panel i / lanes at `w * lanes + i % lanes`. Missing rows and elements are zero.
pub(super) fn pack<T: Multiply>(
    threads: &Threads,
    view: MatRef<'_, T>,
    first: usize,
    steps: usize,
    lanes: usize,
    out: &mut Vec<u32>,
) {
    let panels = view.rows().div_ceil(lanes);
    let len = panels * steps * lanes;
    if out.len() < len {
        out.resize(len, 0);
    }
    let per_task = (TASK / lanes).max(1);
    threads.chunks(&mut out[..len], per_task * steps * lanes, |task, out| {
        for (i, panel) in out.chunks_exact_mut(steps * lanes).enumerate() {
            let start = (task * per_task + i) * lanes;
            let rows = lanes.min(view.rows() - start);
            pack_panel(view.narrow_rows(start, rows), first, steps, lanes, panel);
        }
    });
}

fn pack_panel<T: Multiply>(
    view: MatRef<'_, T>,
    first: usize,
    steps: usize,
    lanes: usize,
    panel: &mut [u32],
) {
    let (row_stride, col_stride) = view.strides();
    let (data, rows) = (view.data(), view.rows());
    let element = first * T::PER_WORD;
    // Steps whose elements all exist; a last odd element of bf16 is paired with zero below.
    let whole = ((view.cols() - element) / T::PER_WORD).min(steps);
    if rows < lanes {
        panel.fill(0);
    }
    if row_stride == 1 {
        pack_rows_dense::<T>(&data[element * col_stride..], rows, col_stride, whole, lanes, panel);
    } else if col_stride == 1 {
        let words = Rows { data: &data[element..], row_stride };
        words.transpose(rows, whole, lanes, panel);
    } else {
        for (step, line) in panel.chunks_exact_mut(lanes).take(whole).enumerate() {
            for (row, word) in line[..rows].iter_mut().enumerate() {
                let at = |e: usize| {
                    data[row * row_stride + (element + step * T::PER_WORD + e) * col_stride]
                };
                *word = T::word(at(0), at(T::PER_WORD - 1));
            }
        }
    }
    if whole < steps {
        let line = &mut panel[whole * lanes..][..lanes];
        for (row, word) in line[..rows].iter_mut().enumerate() {
            let last = data[row * row_stride + (element + whole * T::PER_WORD) * col_stride];
            *word = T::word(last, T::default());
        }
    }
}

crate::cpu::simd::multiversion! {
    fn pack_rows_dense<T: Multiply>(data: &[T], rows: usize, stride: usize, steps: usize, lanes: usize, panel: &mut [u32]) {
        for (step, line) in panel.chunks_exact_mut(lanes).take(steps).enumerate() {
            let first = &data[step * T::PER_WORD * stride..][..rows];
            let second = &data[(step * T::PER_WORD + T::PER_WORD - 1) * stride..][..rows];
            for ((word, &a), &b) in line[..rows].iter_mut().zip(first).zip(second) {
                *word = T::word(a, b);
            }
        }
    }
}

/// Rows whose elements lie densely.
struct Rows<'a, T> {
    data: &'a [T],
    row_stride: usize,
}

impl<T: Multiply> Rows<'_, T> {
    fn word(&self, row: usize, step: usize) -> u32 {
        let at = row * self.row_stride + step * T::PER_WORD;
        T::word(self.data[at], self.data[at + T::PER_WORD - 1])
    }

    /// Transposes 4 x 4 words at a time: rows become lanes.
    fn transpose(&self, rows: usize, steps: usize, lanes: usize, panel: &mut [u32]) {
        let (full_rows, full_steps) = (rows - rows % 4, steps - steps % 4);
        for row in (0..full_rows).step_by(4) {
            self.transpose_4(row, full_steps, lanes, panel);
        }
        for step in full_steps..steps {
            for row in 0..full_rows {
                panel[step * lanes + row] = self.word(row, step);
            }
        }
        for row in full_rows..rows {
            for step in 0..steps {
                panel[step * lanes + row] = self.word(row, step);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn transpose_4(&self, row: usize, steps: usize, lanes: usize, panel: &mut [u32]) {
        use std::arch::x86_64::*;
        if steps == 0 {
            return;
        }
        let last = (row + 3) * self.row_stride + steps * T::PER_WORD;
        assert!(
            last <= self.data.len() && (steps - 1) * lanes + row + 4 <= panel.len(),
            "a panel leaves its matrix"
        );
        let source = |i: usize| self.data[(row + i) * self.row_stride..].as_ptr().cast::<u32>();
        let from = [source(0), source(1), source(2), source(3)];
        for step in (0..steps).step_by(4) {
            // SAFETY: `steps` words can be read from each of the four rows, and four lanes written at
            // each step, both asserted above. SSE2 is part of x86-64; no alignment is needed.
            unsafe {
                let load = |i: usize| _mm_castsi128_ps(_mm_loadu_si128(from[i].add(step).cast()));
                let (mut a, mut b, mut c, mut d) = (load(0), load(1), load(2), load(3));
                _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
                for (i, line) in [a, b, c, d].into_iter().enumerate() {
                    let to = panel.as_mut_ptr().add((step + i) * lanes + row);
                    _mm_storeu_si128(to.cast(), _mm_castps_si128(line));
                }
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn transpose_4(&self, row: usize, steps: usize, lanes: usize, panel: &mut [u32]) {
        for step in 0..steps {
            for row in row..row + 4 {
                panel[step * lanes + row] = self.word(row, step);
            }
        }
    }
}
