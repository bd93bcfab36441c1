//! f32 on machines without AVX-512, through the `gemm` crates: of the parts for each type only that for f32.

use super::{Beta, MatRef};
use crate::cpu::threads::{Shared, Threads};

/// Rows of one single-threaded call; fixed, so that results do not depend on the team.
const ROWS: usize = 128;

/// C = or += A B, with B given as its columns and C's rows `ldc` apart.
///
/// # Safety
/// C holds as many rows and columns as the operands.
pub(super) unsafe fn gemm(
    threads: &Threads,
    a: MatRef<'_, f32>,
    columns: MatRef<'_, f32>,
    beta: Beta,
    c: *mut f32,
    ldc: usize,
) {
    let c = Shared(c);
    threads.run(a.rows().div_ceil(ROWS), |task| {
        let start = task * ROWS;
        let a = a.narrow_rows(start, ROWS.min(a.rows() - start));
        let ((a_row, a_col), (b_col, b_row)) = (a.strides(), columns.strides());
        // SAFETY: the views were checked against their slices; these rows of C exist and belong to
        // this task alone; they are read only when accumulating.
        unsafe {
            gemm_f32::gemm::f32::get_gemm_fn()(
                a.rows(),
                columns.rows(),
                a.cols(),
                c.at(start * ldc),
                1,
                ldc as isize,
                beta == Beta::Accumulate,
                a.as_ptr(),
                a_col as isize,
                a_row as isize,
                columns.as_ptr(),
                b_col as isize,
                b_row as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm_common::Parallelism::None,
            );
        }
    });
}
