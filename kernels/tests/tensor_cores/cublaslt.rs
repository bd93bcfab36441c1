//! Products by cuBLASLt, which the mock imitates; their results are looked at in [`crate::gemm`].

use half::bf16;
use slimpipe_kernels::cuda::Float;
use slimpipe_kernels::cuda::gemm::{Matrices, gemm};

use crate::gpu::{Gpu, gpu};

/// A B, of ones, in f32; A begins `skip` elements into its memory.
fn ones(gpu: &Gpu, (m, n, k): (usize, usize, usize), skip: usize) -> Vec<f32> {
    let one = bf16::ONE;
    let (a, b) = (gpu.upload(&vec![one; skip + m * k]), gpu.upload(&vec![one; n * k]));
    let c = gpu.memory(4 * m * n);
    let matrices = |at, row_stride, column_stride| Matrices {
        at,
        row_stride,
        column_stride,
        batch_strides: &[],
    };
    let (a, b) = (matrices(a.at.offset(2 * skip as u64), k, 1), matrices(b.at, 1, k));
    // SAFETY: the matrices lie in the memory that was allocated for them.
    unsafe { gemm(&gpu.stream, Float::Bf16, a, b, &[], (m, n, k), false, (Float::F32, c.at)) }
        .unwrap();
    gpu.wait();
    c.read()
}

#[test]
fn operands_that_are_barely_aligned_are_said_to_be() {
    let Some(gpu) = gpu() else { return };
    // The mock refuses operands that are less aligned than it was told; 8 elements are 16 bytes.
    for skip in [0, 8, 64] {
        let found = gpu.by_cublaslt(|| ones(gpu, (32, 16, 24), skip));
        assert!(found.is_none_or(|found| found == [24.0; 32 * 16]));
    }
}

#[test]
fn what_it_has_no_algorithm_for_our_kernel_computes() {
    let Some(gpu) = gpu().filter(|gpu| gpu.is_mock()) else { return };
    let mock = slimpipe_mock::cublaslt();
    let found = gpu.by_cublaslt(|| {
        mock.set("algorithms", 0);
        let before = mock.counters();
        let found = ones(gpu, (40, 48, 56), 0);
        mock.set("algorithms", 1);
        assert_eq!(mock.counters(), before);
        // That there is none for a shape is remembered; another shape has one.
        assert_eq!(ones(gpu, (40, 48, 56), 0), found);
        assert_eq!(mock.counters(), before);
        assert_eq!(ones(gpu, (48, 40, 56), 0), found);
        assert_eq!(mock.counters().since(&before).get("products"), 1);
        found
    });
    assert_eq!(found.unwrap(), [56.0; 40 * 48]);
}
