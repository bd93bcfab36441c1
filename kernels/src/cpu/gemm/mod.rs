//! Matrix multiplication: C = A B or C += A B, accumulated in f32.
//!
//! Blocks of A and B are packed into panels of words (see `micro`) that all threads share; each
//! tile of C then runs in registers. The contracted dimension is cut at fixed places and never
//! divided among threads, so results do not depend on how many there are.
//!
//! Three paths: AMX (bf16), AVX-512 (f32 and bf16), portable (f32 through the `gemm` crate). Why, and
//! how they compare: `docs/decisions/0002-cpu-gemm.md`.

mod block;
mod fallback;
mod pack;
#[cfg(test)]
mod tests;
mod view;

use std::cell::RefCell;

use half::bf16;

use super::micro::{Multiply, NR, Path};
use super::scratch::Buffer;
use super::threads::{Shared, Threads};
use block::Block;
pub use view::{MatMut, MatRef};

/// Most words along the contracted dimension in one pass (twice as many on AMX, whose tiles are
/// computed in a quarter of the time): a tile of C is then read and written seldom enough.
const KC: usize = 512;
/// Words of B packed at once (2 MiB).
const B_WORDS: usize = 1 << 19;
/// f32 sums kept at once on their way to bf16 (2 MiB).
const SUMS: usize = 1 << 19;

/// What happens to the destination's old values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beta {
    /// They are overwritten, whatever they were.
    Overwrite,
    /// The product is added to them.
    Accumulate,
}

/// An element type of the operands.
pub trait Input: Multiply {}
impl Input for f32 {}
impl Input for bf16 {}

/// An element type of the destination.
pub trait Output: super::simd::Scalar {
    /// The same pointer, if the destination is f32.
    fn f32_pointer(data: *mut Self) -> Option<*mut f32>;

    /// Rounds sums into the destination, or adds them to it.
    fn store(beta: Beta, sums: &[f32], to: &mut [Self]) {
        match beta {
            Beta::Overwrite => round(sums, to),
            Beta::Accumulate => add_rounded(sums, to),
        }
    }
}

impl Output for f32 {
    fn f32_pointer(data: *mut Self) -> Option<*mut f32> {
        Some(data)
    }
}

impl Output for bf16 {
    fn f32_pointer(_: *mut Self) -> Option<*mut f32> {
        None
    }
}

super::simd::multiversion! {
    fn round<O: Output>(from: &[f32], to: &mut [O]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = O::from_f32(from);
        }
    }
}

super::simd::multiversion! {
    fn add_rounded<O: Output>(from: &[f32], to: &mut [O]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = O::from_f32(to.to_f32() + from);
        }
    }
}

thread_local! {
    /// Packed panels, and f32 sums on their way to bf16, reused from call to call.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    panels: Buffer<u32>,
    sums: Buffer<f32>,
}

/// C = A B (or C += A B); A is [m, k], B [k, n], C [m, n].
///
/// # Panics
/// Sizes that do not fit.
pub fn gemm<T: Input, O: Output>(
    threads: &Threads,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    beta: Beta,
    c: MatMut<'_, O>,
) {
    gemm_on(T::best_path(), threads, a, b, beta, c);
}

/// What [`gemm()`] runs on for operands of type `T`.
pub fn path_name<T: Input>() -> &'static str {
    match (T::best_path(), T::PER_WORD) {
        (Path::Amx, _) => "AMX",
        (Path::Avx512, 1) => "AVX-512",
        (Path::Avx512, _) => "AVX512-BF16",
        (Path::Portable, 1) => "gemm crate",
        (Path::Portable, _) => "portable",
    }
}

/// As [`gemm()`], on a path of one's choice; for tests and benchmarks.
///
/// # Panics
/// Sizes that do not fit, or the machine lacks what the path needs.
pub fn gemm_on<T: Input, O: Output>(
    path: Path,
    threads: &Threads,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    beta: Beta,
    c: MatMut<'_, O>,
) {
    assert!(T::paths().contains(&path), "this machine has no {path:?} kernel");
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    assert!(b.rows() == k, "{m}x{k} times {}x{n}", b.rows());
    assert!(c.rows() == m && c.cols() == n, "{m}x{n} into {}x{}", c.rows(), c.cols());
    if m == 0 || n == 0 {
        return;
    }
    let data = c.into_data();
    if k == 0 {
        if beta == Beta::Overwrite {
            data.fill(O::default());
        }
        return;
    }
    let product = Product { path, threads, a, columns: b.t() };
    SCRATCH.with_borrow_mut(|scratch| match path {
        Path::Amx => product.run::<O, 32>(scratch, beta, data),
        _ => product.run::<O, 12>(scratch, beta, data),
    });
}

/// The product of a matrix's rows with another's columns.
#[derive(Clone, Copy)]
struct Product<'a, T> {
    path: Path,
    threads: &'a Threads,
    a: MatRef<'a, T>,
    /// B transposed.
    columns: MatRef<'a, T>,
}

impl<T: Input> Product<'_, T> {
    /// C = or += A B.
    fn run<O: Output, const MR: usize>(
        &self,
        Scratch { panels, sums }: &mut Scratch,
        beta: Beta,
        c: &mut [O],
    ) {
        let (m, n) = (self.a.rows(), self.columns.rows());
        // Several passes along the contracted dimension add in f32; the whole is rounded once.
        let by_way_of_sums = O::f32_pointer(c.as_mut_ptr()).is_none() && self.passes() > 1;
        let width = (B_WORDS / self.steps()).next_multiple_of(NR);
        for col in (0..n).step_by(width) {
            let cols = width.min(n - col);
            let product = Self { columns: self.columns.narrow_rows(col, cols), ..*self };
            if !by_way_of_sums {
                product.sum::<O, MR>(panels, beta, &mut c[col..], n);
                continue;
            }
            let height = (SUMS / cols).next_multiple_of(MR);
            for row in (0..m).step_by(height) {
                let rows = height.min(m - row);
                let sums = sums.fit(rows * cols);
                let product = Product { a: self.a.narrow_rows(row, rows), ..product };
                product.sum::<f32, MR>(panels, Beta::Overwrite, sums, cols);
                let (sums, c) = (&*sums, Shared(c[row * n + col..].as_mut_ptr()));
                self.threads.run(rows, |row| {
                    // SAFETY: this part of a row of C is the task's own.
                    let c = unsafe { c.part(row * n, cols) };
                    O::store(beta, &sums[row * cols..][..cols], c);
                });
            }
        }
    }

    fn words(&self) -> usize {
        self.a.cols().div_ceil(T::PER_WORD)
    }

    /// Parts that the contracted dimension is cut into.
    fn passes(&self) -> usize {
        self.words().div_ceil(match self.path {
            Path::Amx => 2 * KC,
            _ => KC,
        })
    }

    /// Words of each part.
    fn steps(&self) -> usize {
        self.words().div_ceil(self.passes()).next_multiple_of(self.path.step_unit())
    }

    /// C = or += A B in as many passes as it takes; C's rows are `ldc` apart.
    fn sum<O: Output, const MR: usize>(
        &self,
        panels: &mut Buffer<u32>,
        beta: Beta,
        c: &mut [O],
        ldc: usize,
    ) {
        let Self { path, threads, a, columns } = *self;
        if let (Path::Portable, Some(a), Some(columns), Some(c)) =
            (path, a.as_f32(), columns.as_f32(), O::f32_pointer(c.as_mut_ptr()))
        {
            // SAFETY: C holds as many rows and columns as the operands.
            return unsafe { fallback::gemm(threads, a, columns, beta, c, ldc) };
        }
        for first in (0..self.words()).step_by(self.steps()) {
            let beta = if first > 0 { Beta::Accumulate } else { beta };
            let block = Block::pack(path, threads, columns, (first, self.steps()), panels);
            block.run::<T, O, MR>(threads, a, beta, c, ldc);
        }
    }
}
