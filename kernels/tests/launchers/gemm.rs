use proptest::prelude::*;
use slimpipe_kernels::cuda::plain_gemm::{self, Matrices};

use super::figures::FORWARD;
use super::util::{Element, assert_close, assert_figure, cases, f64s, gpu, random};

#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
    turned: [bool; 2],
    gap: usize,
    shared_b: bool,
    accumulate: bool,
}

fn cases_of() -> impl Strategy<Value = Case> {
    let size = || prop_oneof![1usize..9, 30usize..70];
    let sizes = (0usize..3, size(), size(), prop_oneof![0usize..40, 60usize..70]);
    let flags = (any::<[bool; 2]>(), 0usize..3, any::<bool>(), any::<bool>());
    (sizes, flags).prop_map(|((batch, m, n, k), (turned, gap, shared_b, accumulate))| Case {
        batch,
        m,
        n,
        k,
        turned,
        gap,
        shared_b,
        accumulate,
    })
}

fn check<T: Element, O: Element>(case: &Case) {
    let Some(gpu) = gpu() else { return };
    let &Case { batch, m, n, k, turned, gap, shared_b, accumulate } = case;
    let strides = |turned: bool, rows: usize, columns: usize| {
        if turned { (1, rows + gap) } else { (columns + gap, 1) }
    };
    let (a_strides, b_strides) = (strides(turned[0], m, k), strides(turned[1], k, n));
    let size = |(rows, columns): (usize, usize), height: usize, width: usize| {
        height.saturating_sub(1) * rows + width.saturating_sub(1) * columns + 1
    };
    let (a_size, b_size) = (size(a_strides, m, k), size(b_strides, k, n));
    let (a, b): (Vec<T>, Vec<T>) = (random(1, batch * a_size), random(2, batch * b_size));
    let old: Vec<O> = random(3, batch * m * n);
    let b_batch = if shared_b { 0 } else { b_size };
    let c = gpu.schedules(|| {
        let (x, y, c) = (gpu.with(&a), gpu.with(&b), gpu.with(&old));
        let matrices = |at, (row_stride, column_stride), batch_strides| Matrices {
            at,
            row_stride,
            column_stride,
            batch_strides,
        };
        let (a_batch, b_batch) = ([a_size], [b_batch]);
        // SAFETY: the buffers hold all that is read and written.
        unsafe {
            plain_gemm::gemm(
                &gpu.stream,
                T::FLOAT,
                matrices(x.at, a_strides, &a_batch),
                matrices(y.at, b_strides, &b_batch),
                &[batch],
                (m, n, k),
                accumulate,
                (O::FLOAT, c.at),
            )
        }
        .unwrap();
        gpu.read(&c)
    });
    let (a, b, mut exact) = (f64s(&a), f64s(&b), f64s(&old));
    for (at, exact) in exact.iter_mut().enumerate() {
        let (matrix, i, j) = (at / (m * n), at / n % m, at % n);
        let product = |l: usize| {
            let a = a[matrix * a_size + i * a_strides.0 + l * a_strides.1];
            a * b[matrix * b_batch + l * b_strides.0 + j * b_strides.1]
        };
        let sum: f64 = (0..k).map(product).sum();
        *exact = if accumulate { *exact + sum } else { sum };
    }
    if O::FLOAT == T::FLOAT {
        assert_figure::<T>("a product on plain cores", &c, &exact, FORWARD);
    }
    assert_close("product", &c, &exact, if O::FLOAT.size() == 4 { 2e-6 } else { 1.0 / 256.0 });
}

proptest! {
    #![proptest_config(cases(10))]

    #[test]
    fn products_of_any_strides_and_batches_match(case in cases_of()) {
        check::<f32, f32>(&case);
        check::<half::bf16, half::bf16>(&case);
        check::<half::bf16, f32>(&case);
    }
}
