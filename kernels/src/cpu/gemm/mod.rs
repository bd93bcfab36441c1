//! Matrix multiplication: C = A B or C += A B, accumulated in f32.
//!
//! Blocks of A and B are packed into panels of words (see `micro`) that all threads share; each
//! tile of C then runs in registers. The contracted dimension is cut at fixed places and never
//! divided among threads, so results do not depend on how many there are.
//!
//! f32 runs on the `gemm` crate where AVX-512 is missing, in fixed blocks of rows; measured beside
//! it on AVX-512 machines, the kernel here is faster (`docs/decisions/0002-cpu-gemm.md`).

mod pack;
mod view;

use std::cell::RefCell;

use half::bf16;

use super::micro::{Multiply, NR, Path, Strides, tile};
use super::threads::{Shared, Threads};
use pack::pack;
pub use view::{MatMut, MatRef};

/// Rows of a tile of C: with two registers per row, 24 of the 32 hold sums.
const MR: usize = 12;
/// Rows of A packed at once; whole tiles.
const MC: usize = 768;
/// Columns of B packed at once.
const NC: usize = 1024;
/// Words along the contracted dimension packed at once.
const KC: usize = 512;
/// Tiles of one task: rows, columns.
const TASK: (usize, usize) = (8, 8);

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
    /// The destination as f32, if that is what it is.
    fn as_f32(data: &mut [Self]) -> Option<&mut [f32]>;
}

impl Output for f32 {
    fn as_f32(data: &mut [Self]) -> Option<&mut [f32]> {
        Some(data)
    }
}

impl Output for bf16 {
    fn as_f32(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

thread_local! {
    /// Packed panels and f32 results on their way to bf16, reused from call to call.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    a: Vec<u32>,
    b: Vec<u32>,
    c: Vec<f32>,
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

/// What [`gemm`] runs on for operands of type `T`.
pub fn path_name<T: Input>() -> &'static str {
    match (T::best_path(), T::PER_WORD) {
        (Path::Avx512, 1) => "AVX-512",
        (Path::Avx512, _) => "AVX512-BF16",
        (Path::Portable, 1) => "gemm crate",
        (Path::Portable, _) => "portable",
    }
}

/// As [`gemm`], on a path of one's choice; for tests and benchmarks.
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
    assert!(
        path == Path::Portable || path == T::best_path(),
        "this machine has no {path:?} kernel"
    );
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    assert!(b.rows() == k, "{m}x{k} times {}x{n}", b.rows());
    assert!(c.rows() == m && c.cols() == n, "{m}x{n} into {}x{}", c.rows(), c.cols());
    if m == 0 || n == 0 {
        return;
    }
    let data = c.into_data();
    if O::as_f32(data).is_some() {
        let c = O::as_f32(data).expect("asked one line above");
        into_f32(path, threads, a, b, beta, c, n);
        return;
    }
    // A bf16 destination is rounded once: rows are computed in f32 first, a block at a time.
    let rows = (MC * NC / n / MR).max(1) * MR;
    let mut block = SCRATCH.with_borrow_mut(|scratch| std::mem::take(&mut scratch.c));
    for start in (0..m).step_by(rows) {
        let len = rows.min(m - start);
        block.resize((rows.min(m) * n).max(len * n), 0.0);
        let block = &mut block[..len * n];
        into_f32(path, threads, a.narrow_rows(start, len), b, Beta::Overwrite, block, n);
        let block = &*block;
        let out = &mut data[start * n..][..len * n];
        threads.chunks(out, 1 << 14, |i, out| {
            let from = &block[i << 14..][..out.len()];
            if beta == Beta::Overwrite {
                round::<O>(from, out)
            } else {
                add_rounded::<O>(from, out)
            }
        });
    }
    SCRATCH.with_borrow_mut(|scratch| scratch.c = block);
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

fn into_f32<T: Input>(
    path: Path,
    threads: &Threads,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    beta: Beta,
    c: &mut [f32],
    n: usize,
) {
    if let (Path::Portable, Some(a), Some(b)) = (path, a.as_f32(), b.as_f32()) {
        return through_crate(threads, a, b, beta, c);
    }
    let (m, words) = (a.rows(), a.cols().div_ceil(T::PER_WORD));
    if words == 0 {
        if beta == Beta::Overwrite {
            c.fill(0.0);
        }
        return;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        for jc in (0..n).step_by(NC) {
            let nc = NC.min(n - jc);
            for kc in (0..words).step_by(KC) {
                let steps = KC.min(words - kc);
                // B's columns are the lanes of its panels, A's rows those of its own.
                pack(threads, b.t().narrow_rows(jc, nc), kc, steps, NR, &mut scratch.b);
                for ic in (0..m).step_by(MC) {
                    let mc = MC.min(m - ic);
                    pack(threads, a.narrow_rows(ic, mc), kc, steps, MR, &mut scratch.a);
                    let block = Block {
                        a: &scratch.a,
                        b: &scratch.b,
                        steps,
                        mc,
                        nc,
                        ldc: n,
                        accumulate: kc > 0 || beta == Beta::Accumulate,
                    };
                    block.run::<T>(path, threads, &mut c[ic * n + jc..]);
                }
            }
        }
    });
}

/// One packed block of A against one of B.
struct Block<'a> {
    a: &'a [u32],
    b: &'a [u32],
    steps: usize,
    mc: usize,
    nc: usize,
    ldc: usize,
    accumulate: bool,
}

impl Block<'_> {
    fn run<T: Input>(&self, path: Path, threads: &Threads, c: &mut [f32]) {
        let (row_tiles, col_tiles) = (self.mc.div_ceil(MR), self.nc.div_ceil(NR));
        let (row_tasks, col_tasks) = (row_tiles.div_ceil(TASK.0), col_tiles.div_ceil(TASK.1));
        let shared = Shared(c.as_mut_ptr());
        threads.run(row_tasks * col_tasks, |task| {
            let (rows, cols) = (task / col_tasks * TASK.0, task % col_tasks * TASK.1);
            for col in cols..col_tiles.min(cols + TASK.1) {
                for row in rows..row_tiles.min(rows + TASK.0) {
                    self.tile::<T>(path, row, col, &shared);
                }
            }
        });
    }

    fn tile<T: Input>(&self, path: Path, row: usize, col: usize, c: &Shared<f32>) {
        let a = self.a[row * self.steps * MR..][..self.steps * MR].as_ptr();
        let b = self.b[col * self.steps * NR..][..self.steps * NR].as_ptr();
        let strides = Strides { row: 1, step: MR };
        let (rows, cols) = (MR.min(self.mc - row * MR), NR.min(self.nc - col * NR));
        let at = row * MR * self.ldc + col * NR;
        if rows == MR && cols == NR {
            // SAFETY: panels hold `steps` words per lane (the slices above), the path is this
            // machine's, and this tile of C, all of it inside, belongs to this task alone.
            unsafe {
                tile::<T, MR>(
                    path,
                    self.steps,
                    a,
                    strides,
                    b,
                    NR,
                    c.0.add(at),
                    self.ldc,
                    self.accumulate,
                )
            };
            return;
        }
        // A ragged edge: the whole tile goes to scratch, what is inside goes on to C.
        let mut edge = [0f32; MR * NR];
        // SAFETY: as above; the scratch is a whole tile.
        unsafe { tile::<T, MR>(path, self.steps, a, strides, b, NR, edge.as_mut_ptr(), NR, false) };
        for row in 0..rows {
            // SAFETY: the row's part inside C belongs to this task alone.
            let out = unsafe { c.part(at + row * self.ldc, cols) };
            for (out, value) in out.iter_mut().zip(&edge[row * NR..]) {
                *out = if self.accumulate { *out + value } else { *value };
            }
        }
    }
}

/// f32 on machines without AVX-512: one single-threaded call per fixed block of rows.
fn through_crate(
    threads: &Threads,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    beta: Beta,
    c: &mut [f32],
) {
    let (n, k) = (b.cols(), b.rows());
    const ROWS: usize = 128;
    threads.chunks(c, ROWS * n, |i, c| {
        let rows = c.len() / n;
        let a = a.narrow_rows(i * ROWS, rows);
        let ((ars, acs), (brs, bcs)) = (a.strides(), b.strides());
        // SAFETY: the views were checked against their slices, C is `rows` dense rows of n; the
        // destination is read only when accumulating.
        unsafe {
            gemm::gemm(
                rows,
                n,
                k,
                c.as_mut_ptr(),
                1,
                n as isize,
                beta == Beta::Accumulate,
                a.as_ptr(),
                acs as isize,
                ars as isize,
                b.as_ptr(),
                bcs as isize,
                brs as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    });
}
