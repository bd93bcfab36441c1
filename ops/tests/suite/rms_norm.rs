use slimpipe_ops::rms_norm::{rms_norm, rms_norm_apply, rms_norm_backward};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{FLOATS, assert_close, bytes, device, error, f64s, random, tolerance, views};

const EPS: f32 = 1e-5;

#[test]
fn rows_are_scaled_by_their_root_mean_square() {
    for dtype in FLOATS {
        for shape in [&[1, 1][..], &[5, 7], &[3, 4, 65], &[300, 96]] {
            let width = shape[shape.len() - 1];
            let (x, w) = (random(shape, 0, dtype), random(&[width], 1, dtype));
            let (xs, ws) = (f64s(&x), f64s(&w));
            let (mut y, mut r) = (Vec::new(), Vec::new());
            for row in xs.chunks(width) {
                let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
                r.push(1.0 / (mean + f64::from(EPS)).sqrt());
                y.extend(row.iter().zip(&ws).map(|(x, w)| x * r[r.len() - 1] * w));
            }
            for view in views(&x) {
                let (out, rstd) = rms_norm(&view, &w, EPS).unwrap();
                assert_close(&out, &y, tolerance(dtype));
                assert_close(&rstd, &r, 1e-6);
                let again = rms_norm_apply(&view, &w, &rstd).unwrap();
                assert_eq!(bytes(&again), bytes(&out));
            }
        }
    }
}

#[test]
fn gradients_match_the_formula_and_the_weights_accumulates() {
    for dtype in FLOATS {
        let (rows, width) = (150, 37);
        let x = random(&[rows, width], 0, dtype);
        let (w, dy) = (random(&[width], 1, dtype), random(&[rows, width], 2, dtype));
        let (_, rstd) = rms_norm(&x, &w, EPS).unwrap();
        let (xs, ws, dys) = (f64s(&x), f64s(&w), f64s(&dy));
        let (mut dx, mut dw) = (Vec::new(), vec![1.0; width]);
        for (x, dy) in xs.chunks(width).zip(dys.chunks(width)) {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
            let r = 1.0 / (mean + f64::from(EPS)).sqrt();
            let dot: f64 = (0..width).map(|i| dy[i] * ws[i] * x[i]).sum::<f64>() / width as f64;
            dx.extend((0..width).map(|i| r * (dy[i] * ws[i] - x[i] * r * r * dot)));
            (0..width).for_each(|i| dw[i] += dy[i] * x[i] * r);
        }
        for (x, dy) in views(&x).iter().zip(views(&dy)) {
            let mut out = RawTensor::zeros((rows, width), dtype, device()).unwrap();
            let mut sum = super::util::tensor(&vec![1.0; width], &[width]);
            rms_norm_backward(x, &w, &rstd, &dy, &mut out, Some(&mut sum)).unwrap();
            assert_close(&out, &dx, 2.0 * tolerance(dtype));
            assert_close(&sum, &dw, 1e-5);
        }
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let x = random(&[2, 4], 0, DType::F32);
    let weight = random(&[3], 0, DType::F32);
    assert_eq!(error(rms_norm(&x, &weight, EPS)), "rms_norm: a weight of shape [3] for rows of 4");
    assert!(error(rms_norm(&x, &random(&[4], 0, DType::BF16), EPS)).contains("f32 and bf16"));
    let empty = RawTensor::zeros((0, 4), DType::F32, device()).unwrap();
    assert_eq!(rms_norm(&empty, &random(&[4], 0, DType::F32), EPS).unwrap().0.dims(), [0, 4]);
}
