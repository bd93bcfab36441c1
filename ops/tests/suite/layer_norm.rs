use slimpipe_ops::layer_norm::{layer_norm, layer_norm_apply, layer_norm_backward};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{
    FLOATS, assert_close, bytes, device, error, f64s, random, tensor, tolerance, views,
};

const EPS: f32 = 1e-5;

/// Mean and reciprocal deviation of a row.
fn stats(row: &[f64]) -> (f64, f64) {
    let mean = row.iter().sum::<f64>() / row.len() as f64;
    let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
    (mean, 1.0 / (var + f64::from(EPS)).sqrt())
}

#[test]
fn rows_are_centred_scaled_and_shifted() {
    for dtype in FLOATS {
        for shape in [&[1, 2][..], &[5, 7], &[3, 4, 65], &[300, 96]] {
            let width = shape[shape.len() - 1];
            let x = random(shape, 0, dtype);
            let (w, b) = (random(&[width], 1, dtype), random(&[width], 2, dtype));
            let (xs, ws, bs) = (f64s(&x), f64s(&w), f64s(&b));
            let mut y = Vec::new();
            for row in xs.chunks(width) {
                let (mean, r) = stats(row);
                y.extend((0..width).map(|i| (row[i] - mean) * r * ws[i] + bs[i]));
            }
            for view in views(&x) {
                let (out, stats) = layer_norm(&view, &w, &b, EPS).unwrap();
                assert_close(&out, &y, tolerance(dtype));
                let again = layer_norm_apply(&view, &w, &b, &stats).unwrap();
                assert_eq!(bytes(&again), bytes(&out));
            }
        }
    }
}

#[test]
fn a_large_mean_does_not_swallow_the_deviations() {
    let values: Vec<f32> = (0..64).map(|i| 1e4 + (i % 8) as f32).collect();
    let exact: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    let (mean, r) = stats(&exact);
    let expected: Vec<f64> = exact.iter().map(|x| (x - mean) * r).collect();
    let (one, zero) = (tensor(&[1.0; 64], &[64]), tensor(&[0.0; 64], &[64]));
    let (y, _) = layer_norm(&tensor(&values, &[1, 64]), &one, &zero, EPS).unwrap();
    assert_close(&y, &expected, 1e-3);
}

#[test]
fn gradients_match_the_formula_and_the_parameters_accumulate() {
    for dtype in FLOATS {
        let (rows, width) = (900, 37);
        let x = random(&[rows, width], 0, dtype);
        let (w, dy) = (random(&[width], 1, dtype), random(&[rows, width], 2, dtype));
        let (_, saved) = layer_norm(&x, &w, &w, EPS).unwrap();
        let (xs, ws, dys) = (f64s(&x), f64s(&w), f64s(&dy));
        let (mut dx, mut dw, mut db) = (Vec::new(), vec![1.0; width], vec![2.0; width]);
        for (x, dy) in xs.chunks(width).zip(dys.chunks(width)) {
            let (mean, r) = stats(x);
            let n: Vec<f64> = x.iter().map(|x| (x - mean) * r).collect();
            let g: Vec<f64> = dy.iter().zip(&ws).map(|(dy, w)| dy * w).collect();
            let mean_g = g.iter().sum::<f64>() / width as f64;
            let mean_gn = g.iter().zip(&n).map(|(g, n)| g * n).sum::<f64>() / width as f64;
            for i in 0..width {
                dx.push(r * (g[i] - mean_g - n[i] * mean_gn));
                dw[i] += dy[i] * n[i];
                db[i] += dy[i];
            }
        }
        for (x, dy) in views(&x).iter().zip(views(&dy)) {
            let mut dweight = tensor(&vec![1.0; width], &[width]);
            let mut dbias = tensor(&vec![2.0; width], &[width]);
            let out =
                layer_norm_backward(x, &w, &saved, &dy, Some([&mut dweight, &mut dbias])).unwrap();
            assert_close(&out, &dx, 2.0 * tolerance(dtype));
            assert_close(&dweight, &dw, 1e-5);
            assert_close(&dbias, &db, 1e-5);
        }
    }
}

#[test]
fn parameters_that_do_not_fit_are_named() {
    let (x, w) = (random(&[2, 4], 0, DType::F32), random(&[4], 0, DType::F32));
    assert_eq!(
        error(layer_norm(&x, &w, &random(&[3], 0, DType::F32), EPS)),
        "layer_norm: a weight of shape [3] for rows of 4"
    );
    let empty = RawTensor::zeros((0, 4), DType::F32, device()).unwrap();
    assert_eq!(layer_norm(&empty, &w, &w, EPS).unwrap().0.dims(), [0, 4]);
}
