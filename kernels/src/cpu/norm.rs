//! Root-mean-square normalisation of rows.

use super::simd::{Scalar, multiversion};
use super::threads::Threads;

/// Elements per task.
const TASK: usize = 1 << 14;
/// Partial sums per row sum: enough for two AVX-512 registers, in a fixed order.
const LANES: usize = 32;

fn rows_per_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// Sums `f(i)` over a row in a fixed order that vectorises.
#[inline(always)]
fn row_sum(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let full = len - len % LANES;
    for base in (0..full).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(base + lane);
        }
    }
    for i in full..len {
        lanes[i - full] += f(i);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

multiversion! {
    fn forward_rows<T: Scalar>(x: &[T], weight: &[T], eps: f32, y: &mut [T], rstd: &mut [f32]) {
        let width = weight.len();
        for ((x, y), r) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(rstd) {
            let squares = row_sum(width, |i| x[i].to_f32() * x[i].to_f32());
            *r = 1.0 / (squares / width as f32 + eps).sqrt();
            apply_row(x, weight, *r, y);
        }
    }
}

multiversion! {
    fn apply_rows<T: Scalar>(x: &[T], weight: &[T], rstd: &[f32], y: &mut [T]) {
        let width = weight.len();
        for ((x, y), r) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(rstd) {
            apply_row(x, weight, *r, y);
        }
    }
}

#[inline(always)]
fn apply_row<T: Scalar>(x: &[T], weight: &[T], r: f32, y: &mut [T]) {
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = T::from_f32(x.to_f32() * r * w.to_f32());
    }
}

multiversion! {
    fn backward_rows<T: Scalar>(x: &[T], weight: &[T], rstd: &[f32], dy: &[T], dx: &mut [T], dw: &mut [f32]) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)).zip(rstd);
        for (((x, dy), dx), &r) in rows {
            let dot = row_sum(width, |i| dy[i].to_f32() * weight[i].to_f32() * x[i].to_f32());
            let pull = r * r * r * dot / width as f32;
            for i in 0..width {
                let (x, g) = (x[i].to_f32(), dy[i].to_f32());
                dx[i] = T::from_f32(r * g * weight[i].to_f32() - pull * x);
                dw[i] += g * x * r;
            }
        }
    }
}

/// y = x r w per row with r = 1 / sqrt(mean(x^2) + eps); `x`, `y` are [rows, width], `rstd` `[rows]`.
///
/// # Panics
/// Sizes that do not fit.
pub fn rms_norm<T: Scalar>(
    threads: &Threads,
    x: &[T],
    weight: &[T],
    eps: f32,
    width: usize,
    y: &mut [T],
    rstd: &mut [f32],
) {
    check(x, weight, rstd.len(), width, y.len());
    let rows = rows_per_task(width);
    threads.chunks2((y, rows * width), (rstd, rows), |i, y, rstd| {
        let start = i * rows * width;
        forward_rows(&x[start..start + y.len()], weight, eps, y, rstd);
    });
}

/// The same `y` again, bit for bit, from the saved `rstd`.
///
/// # Panics
/// Sizes that do not fit.
pub fn rms_norm_apply<T: Scalar>(
    threads: &Threads,
    x: &[T],
    weight: &[T],
    rstd: &[f32],
    width: usize,
    y: &mut [T],
) {
    check(x, weight, rstd.len(), width, y.len());
    let rows = rows_per_task(width);
    threads.chunks(y, rows * width, |i, y| {
        let start = i * rows * width;
        apply_rows(&x[start..start + y.len()], weight, &rstd[i * rows..][..y.len() / width], y);
    });
}

/// `dx` is overwritten; the weight's gradient is added to `dweight`.
///
/// # Panics
/// Sizes that do not fit.
#[allow(clippy::too_many_arguments)]
pub fn rms_norm_backward<T: Scalar>(
    threads: &Threads,
    x: &[T],
    weight: &[T],
    rstd: &[f32],
    dy: &[T],
    width: usize,
    dx: &mut [T],
    dweight: Option<&mut [f32]>,
) {
    check(x, weight, rstd.len(), width, dx.len());
    assert_eq!(x.len(), dy.len(), "dy must be as large as x");
    let rows = rows_per_task(width);
    let tasks = rstd.len().div_ceil(rows);
    // Each task sums the weight's gradient over its own rows; the sums are then added in task order.
    let mut partial = vec![0f32; tasks * width];
    threads.chunks2((dx, rows * width), (&mut partial, width), |i, dx, dw| {
        let span = i * rows * width..i * rows * width + dx.len();
        let rstd = &rstd[i * rows..][..dx.len() / width];
        backward_rows(&x[span.clone()], weight, rstd, &dy[span], dx, dw);
    });
    if let Some(dweight) = dweight {
        assert_eq!(dweight.len(), width, "the weight's gradient must be one row");
        for dw in partial.chunks_exact(width) {
            dweight.iter_mut().zip(dw).for_each(|(sum, part)| *sum += part);
        }
    }
}

fn check<T>(x: &[T], weight: &[T], rows: usize, width: usize, out: usize) {
    assert!(
        width > 0 && weight.len() == width,
        "the weight has {} elements for rows of {width}",
        weight.len()
    );
    assert!(
        x.len() == rows * width && out == x.len(),
        "{} elements are not {rows} rows of {width}",
        x.len()
    );
}
