use slimpipe_ops::matmul::{matmul, matmul_into};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{FLOATS, assert_close, device, error, f64s, labels, random, tolerance, views};

/// The product of two equally batched stacks of matrices, in f64.
fn reference(a: &RawTensor, b: &RawTensor) -> Vec<f64> {
    let (ra, rb) = (a.rank(), b.rank());
    let (m, k, n) = (a.dims()[ra - 2], a.dims()[ra - 1], b.dims()[rb - 1]);
    let batch: usize = a.dims()[..ra - 2].iter().product();
    let (x, y) = (f64s(a), f64s(b));
    let mut out = Vec::with_capacity(batch * m * n);
    for s in 0..batch {
        let (x, y) = (&x[s * m * k..], &y[if rb == 2 { 0 } else { s * k * n }..]);
        for i in 0..m {
            for j in 0..n {
                out.push((0..k).map(|l| x[i * k + l] * y[l * n + j]).sum());
            }
        }
    }
    out
}

#[test]
fn products_match_over_odd_shapes_batches_and_views() {
    let cases: [(&[usize], &[usize]); 9] = [
        (&[1, 1], &[1, 1]),
        (&[5, 7], &[7, 3]),
        (&[33, 65], &[65, 70]),
        (&[3, 5, 7], &[7, 4]), // a shared right operand
        (&[2, 3, 5, 7], &[7, 4]),
        (&[3, 5, 7], &[3, 7, 4]),       // a batch
        (&[2, 9, 5, 7], &[2, 9, 7, 4]), // a batch large enough to share by products
        (&[130, 257], &[257, 31]),
        (&[17, 600], &[600, 33]),
    ];
    for dtype in FLOATS {
        for (i, (left, right)) in cases.into_iter().enumerate() {
            let (a, b) = (random(left, i as u64, dtype), random(right, 50 + i as u64, dtype));
            let expected = reference(&a, &b);
            for a in views(&a) {
                for b in views(&b) {
                    let c = matmul(&a, &b).unwrap();
                    assert_eq!(c.dtype(), dtype);
                    assert_close(&c, &expected, 2.0 * tolerance(dtype));
                }
            }
        }
    }
}

#[test]
fn head_views_are_multiplied_without_a_copy() {
    // [rows, heads, dim] seen as [heads, rows, dim], the way attention scores are written by hand.
    let (q, k) = (random(&[9, 4, 6], 0, DType::F32), random(&[9, 4, 6], 1, DType::F32));
    let memory = crate::memory(slimpipe_allocator::Memory::builder(0)).build();
    let _entered = memory.enter();
    let (q, k) = (q.permute(&[1, 0, 2]).unwrap(), k.permute(&[1, 2, 0]).unwrap());
    let scores = matmul(&q, &k).unwrap();
    assert_eq!(memory.stats().allocations, 1, "the result alone");
    assert_close(&scores, &reference(&q, &k), 4e-6);
    let shared = random(&[6, 5], 2, DType::F32);
    assert_close(&matmul(&q, &shared).unwrap(), &reference(&q, &shared), 4e-6);
    let repeated = shared.unsqueeze(0).unwrap().broadcast_to((4, 6, 5)).unwrap();
    assert_close(&matmul(&q, &repeated).unwrap(), &reference(&q, &shared), 4e-6);
}

#[test]
fn bf16_products_accumulate_into_f32() {
    let (a, b) = (random(&[20, 30], 0, DType::BF16), random(&[30, 10], 1, DType::BF16));
    let mut sum = random(&[20, 10], 2, DType::F32);
    let before = f64s(&sum);
    matmul_into(&a, &b, &mut sum, false).unwrap();
    let product = reference(&a, &b);
    let expected: Vec<f64> = before.iter().zip(&product).map(|(s, p)| s + p).collect();
    assert_close(&sum, &expected, 4e-6);
    matmul_into(&a, &b, &mut sum, true).unwrap();
    assert_close(&sum, &product, 4e-6);
}

#[test]
fn empty_extents_give_empty_or_zero_products() {
    let zeros = |shape: (usize, usize)| RawTensor::zeros(shape, DType::F32, device()).unwrap();
    assert_eq!(matmul(&zeros((0, 3)), &zeros((3, 2))).unwrap().dims(), [0, 2]);
    assert_eq!(matmul(&zeros((2, 3)), &zeros((3, 0))).unwrap().dims(), [2, 0]);
    let nothing = matmul(&zeros((2, 0)), &zeros((0, 3))).unwrap();
    assert_eq!(f64s(&nothing), [0.0; 6]);
    let batch = RawTensor::zeros((0, 2, 3), DType::F32, device()).unwrap();
    assert_eq!(matmul(&batch, &zeros((3, 4))).unwrap().dims(), [0, 2, 4]);
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let x = |shape: &[usize]| random(shape, 0, DType::F32);
    assert_eq!(
        error(matmul(&x(&[2, 3]), &x(&[4, 2]))),
        "matmul: [2, 3] times [4, 2]: the inner extents 3 and 4 differ"
    );
    assert_eq!(
        error(matmul(&x(&[3]), &x(&[3, 2]))),
        "matmul: [3] times [3, 2]: both operands need two dimensions or more"
    );
    assert_eq!(
        error(matmul(&x(&[2, 4, 3]), &x(&[5, 3, 2]))),
        "matmul: [2, 4, 3] times [5, 3, 2]: the batches differ; repeat one with broadcast_to"
    );
    assert!(error(matmul(&x(&[2, 2]), &random(&[2, 2], 0, DType::BF16))).contains("f32 and bf16"));
    let ids = labels(&[1, 2]).reshape((1, 2)).unwrap();
    assert!(error(matmul(&ids, &ids)).contains("expected dtype f32 or bf16, got i64"));
    assert_eq!(
        error(matmul_into(&x(&[2, 3]), &x(&[3, 4]), &mut x(&[2, 3]), true)),
        "matmul: the product has shape [2, 4], the destination [2, 3]"
    );
}
