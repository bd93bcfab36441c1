use slimpipe_ops::softmax::{softmax, softmax_backward};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{FLOATS, assert_close, device, error, f64s, random, tensor, tolerance, views};

fn reference(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
    row.iter().map(|x| (x - max).exp() / sum).collect()
}

#[test]
fn rows_sum_to_one_and_match_the_formula() {
    for dtype in FLOATS {
        for shape in [&[1, 1][..], &[5, 7], &[3, 4, 33], &[2, 10_000], &[11]] {
            let x = random(shape, 0, dtype);
            let width = shape[shape.len() - 1];
            let expected: Vec<f64> = f64s(&x).chunks(width).flat_map(reference).collect();
            for view in views(&x) {
                assert_close(&softmax(&view).unwrap(), &expected, 4.0 * tolerance(dtype));
            }
        }
    }
}

#[test]
fn the_gradient_matches_the_formula() {
    for dtype in FLOATS {
        let (y, dy) = (softmax(&random(&[6, 37], 0, dtype)).unwrap(), random(&[6, 37], 1, dtype));
        let (ys, dys) = (f64s(&y), f64s(&dy));
        let mut expected = Vec::new();
        for (y, dy) in ys.chunks(37).zip(dys.chunks(37)) {
            let dot: f64 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
            expected.extend(y.iter().zip(dy).map(|(y, dy)| y * (dy - dot)));
        }
        for (y, dy) in views(&y).iter().zip(views(&dy)) {
            assert_close(&softmax_backward(y, &dy).unwrap(), &expected, tolerance(dtype));
        }
    }
}

#[test]
fn large_scores_do_not_overflow_and_masked_ones_vanish() {
    let x = tensor(&[1e4, 1e4, f32::NEG_INFINITY, -1e4], &[4]);
    assert_close(&softmax(&x).unwrap(), &[0.5, 0.5, 0.0, 0.0], 1e-6);
}

#[test]
fn empty_rows_and_scalars_are_handled() {
    let empty = RawTensor::zeros((3, 0), DType::F32, device()).unwrap();
    assert_eq!(softmax(&empty).unwrap().dims(), [3, 0]);
    assert_eq!(error(softmax(&tensor(&[1.0], &[]))), "softmax: a scalar has no last dimension");
}
