use slimpipe_ops::reduce::{max_last, max_last_backward, sum_all, sum_to};
use slimpipe_runtime::{DType, Layout, RawTensor, Shape};

use super::util::{
    FLOATS, assert_close, device, error, f64s, labels, random, tensor, tolerance, views,
};

/// Sums in f64, element by element.
fn reference(x: &RawTensor, shape: Shape) -> Vec<f64> {
    let target = Layout::contiguous(shape).broadcast_to(*x.shape()).unwrap();
    let mut sums = vec![0.0; shape.elem_count()];
    for (x, to) in f64s(x).into_iter().zip(target.indices()) {
        sums[to] += x;
    }
    sums
}

#[test]
fn sums_reduce_any_dimensions_of_any_view() {
    let cases: [(&[usize], &[usize]); 15] = [
        (&[5, 7], &[7]), // the gradient of a bias
        (&[5, 7], &[1, 7]),
        (&[5, 7], &[5, 1]), // row sums
        (&[5, 7], &[]),
        (&[3, 4, 5, 6], &[4, 1, 6]), // mixed
        (&[3, 4, 5, 6], &[3, 1, 5, 1]),
        (&[3, 4, 5, 6], &[1, 4, 5, 1]),
        (&[3, 4, 5, 6], &[6]),
        (&[5, 7], &[5, 7]),
        (&[3000, 40], &[40]),    // several blocks of rows
        (&[3, 40_000], &[3, 1]), // several blocks of a row
        (&[100_000], &[]),
        (&[2, 70_000], &[70_000]), // few rows, many columns
        (&[0, 3], &[3]),
        (&[4, 0], &[4, 1]),
    ];
    for dtype in FLOATS {
        for (i, (from, to)) in cases.into_iter().enumerate() {
            let x = random(from, i as u64, dtype);
            let shape = Shape::from(to);
            let expected = reference(&x, shape);
            for view in views(&x) {
                let sum = sum_to(&view, shape).unwrap();
                assert_eq!((*sum.shape(), sum.dtype()), (shape, dtype));
                assert_close(&sum, &expected, tolerance(dtype));
            }
        }
    }
}

#[test]
fn repeated_views_are_summed_as_often_as_they_repeat() {
    let row = random(&[1, 6], 3, DType::F32);
    let sum = sum_to(&row.broadcast_to((50, 6)).unwrap(), Shape::from([1, 6])).unwrap();
    let expected: Vec<f64> = f64s(&row).iter().map(|x| 50.0 * x).collect();
    assert_close(&sum, &expected, 1e-6);
    let all = sum_all(&row.broadcast_to((50, 6)).unwrap()).unwrap();
    assert_close(&all, &[expected.iter().sum()], 1e-6);
}

#[test]
fn sums_do_not_lose_small_terms_beside_large_ones() {
    let mut values = vec![1e-3f32; 1 << 20];
    values[0] = 1e6;
    let exact: f64 = values.iter().map(|&x| f64::from(x)).sum();
    let sum = sum_all(&tensor(&values, &[1 << 20])).unwrap();
    assert_close(&sum, &[exact], 1e-7);
}

#[test]
fn maxima_name_the_first_place_and_show_nan() {
    let x = tensor(&[1., 3., 3., -1., -2., -5., f32::NAN, 9., 0.], &[3, 3]);
    for view in views(&x) {
        let (max, at) = max_last(&view).unwrap();
        assert_eq!((max.dims(), at.dims()), ([3, 1].as_slice(), [3, 1].as_slice()));
        let values = max.to_vec::<f32>().unwrap();
        assert_eq!(values[..2], [3.0, -1.0]);
        assert!(values[2].is_nan());
        assert_eq!(at.to_vec::<u32>().unwrap(), [1, 0, 0]);
    }
    let dy = tensor(&[10., 20., 30.], &[3, 1]);
    let (_, at) = max_last(&x).unwrap();
    let dx = max_last_backward(&dy, &at, *x.shape()).unwrap();
    assert_eq!(f64s(&dx), [0., 10., 0., 20., 0., 0., 30., 0., 0.]);
}

#[test]
fn maxima_of_many_rows_match_a_search() {
    for dtype in FLOATS {
        let x = random(&[7, 90, 33], 5, dtype);
        let rows = f64s(&x);
        let expected: Vec<f64> =
            rows.chunks(33).map(|row| row.iter().copied().fold(f64::MIN, f64::max)).collect();
        for view in views(&x) {
            assert_eq!(f64s(&max_last(&view).unwrap().0), expected);
        }
    }
}

#[test]
fn what_cannot_be_reduced_is_refused() {
    let x = random(&[2, 3], 0, DType::F32);
    assert_eq!(error(sum_to(&x, Shape::from([2, 2]))), "sum: [2, 3] does not reduce to [2, 2]");
    assert!(error(sum_all(&labels(&[1]))).contains("expected dtype f32 or bf16, got i64"));
    let empty = RawTensor::zeros((2, 0), DType::F32, device()).unwrap();
    assert_eq!(error(max_last(&empty)), "max: an empty row has no maximum");
    let scalar = tensor(&[1.0], &[]);
    assert_eq!(error(max_last(&scalar)), "max: a scalar has no last dimension");
}
