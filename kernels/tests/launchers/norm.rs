use proptest::prelude::*;
use slimpipe_kernels::cpu::norm as cpu;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::norm;

use super::figures::{FORWARD, GRADIENT};
use super::util::{
    Element, assert_close, assert_figure, assert_near, both, cases, f64s, gpu, random, tolerance,
};

const EPS: f32 = 1e-5;

fn check_rms<T: Element>(rows: usize, width: usize, skip: usize) {
    let Some(gpu) = gpu() else { return };
    let (x, dy): (Vec<T>, Vec<T>) = (random(1, rows * width), random(2, rows * width));
    let w: Vec<T> = random(3, width);
    let old: Vec<f32> = random(4, width);
    let (y, again, rstd, dx, dw) = gpu.schedules(|| {
        let [from, d] = [&x, &dy].map(|values| gpu.with_at(skip, values));
        let (weight, stream) = (gpu.with(&w), &gpu.stream);
        let [y, again, dx, plain] = [(); 4].map(|()| gpu.empty_at::<T>(skip, x.len()));
        let (rstd, dw) = (gpu.empty::<f32>(rows), gpu.with(&old));
        let (float, r) = (T::FLOAT, rstd.at);
        // SAFETY: buffers of that many elements.
        unsafe {
            norm::rms_norm(stream, float, from.at, weight.at, EPS, rows, width, y.at, r).unwrap();
            norm::rms_norm_apply(stream, float, from.at, weight.at, r, rows, width, again.at)
                .unwrap();
            for (dx, dw) in [(&dx, Some(dw.at)), (&plain, None)] {
                let (x, w, dy) = (from.at, weight.at, d.at);
                norm::rms_norm_backward(stream, float, x, w, r, dy, rows, width, dx.at, dw)
                    .unwrap();
            }
        }
        assert_eq!(gpu.read(&dx), gpu.read(&plain), "with the weight's gradient and without");
        (gpu.read(&y), gpu.read(&again), gpu.read(&rstd), gpu.read(&dx), gpu.read(&dw))
    });
    assert_eq!(y, again, "applied again");
    let (ws, mut exact) = (f64s(&w), [vec![], vec![], vec![], f64s(&old)]);
    for (x, dy) in f64s(&x).chunks(width).zip(f64s(&dy).chunks(width)) {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
        let r = 1.0 / (mean + f64::from(EPS)).sqrt();
        let dot: f64 = (0..width).map(|i| dy[i] * ws[i] * x[i]).sum::<f64>() / width as f64;
        exact[0].extend((0..width).map(|i| x[i] * r * ws[i]));
        exact[1].push(r);
        exact[2].extend((0..width).map(|i| r * (dy[i] * ws[i] - x[i] * r * r * dot)));
        (0..width).for_each(|i| exact[3][i] += dy[i] * x[i] * r);
    }
    assert_figure::<T>("RMSNorm", &y, &exact[0], FORWARD);
    if width >= 8 {
        assert_figure::<T>("RMSNorm's gradient", &dx, &exact[2], GRADIENT);
        assert_figure::<T>("RMSNorm's weight's gradient", &dw, &exact[3], GRADIENT);
    }
    assert_close("y", &y, &exact[0], tolerance::<T>());
    assert_close("rstd", &rstd, &exact[1], 1e-6);
    // Where all of a row is parallel to it, the gradient cancels out.
    let size = exact[1].iter().copied().fold(0.0, f64::max);
    assert_near("dx", &dx, &exact[2], 2.0 * tolerance::<T>(), size);
    assert_close("dweight", &dw, &exact[3], 1e-5);
    let (mut other, mut r) = (vec![T::default(); x.len()], vec![0.0; rows]);
    cpu::rms_norm(&Threads::default(), &x, &w, EPS, width, &mut other, &mut r);
    assert_close("y of the CPU", &y, &f64s(&other), tolerance::<T>());
}

fn check_layer<T: Element>(rows: usize, width: usize, skip: usize) {
    let Some(gpu) = gpu() else { return };
    let (x, dy): (Vec<T>, Vec<T>) = (random(1, rows * width), random(2, rows * width));
    let (w, b): (Vec<T>, Vec<T>) = (random(3, width), random(4, width));
    let [old_w, old_b]: [Vec<f32>; 2] = [5, 6].map(|seed| random(seed, width));
    let (y, again, saved, dx, dw, db) = gpu.schedules(|| {
        let [from, d] = [&x, &dy].map(|values| gpu.with_at(skip, values));
        let (weight, bias, stream, float) = (gpu.with(&w), gpu.with(&b), &gpu.stream, T::FLOAT);
        let [y, again, dx] = [(); 3].map(|()| gpu.empty_at::<T>(skip, x.len()));
        let saved = gpu.empty::<f32>(2 * rows);
        let (dw, db) = (gpu.with(&old_w), gpu.with(&old_b));
        let (x, w, b, s) = (from.at, weight.at, bias.at, saved.at);
        // SAFETY: buffers of that many elements.
        unsafe {
            norm::layer_norm(stream, float, x, w, b, EPS, rows, width, y.at, s).unwrap();
            norm::layer_norm_apply(stream, float, x, w, b, s, rows, width, again.at).unwrap();
            let params = Some([dw.at, db.at]);
            norm::layer_norm_backward(stream, float, x, w, s, d.at, rows, width, dx.at, params)
                .unwrap();
        }
        let grads = (gpu.read(&dx), gpu.read(&dw), gpu.read(&db));
        (gpu.read(&y), gpu.read(&again), gpu.read(&saved), grads.0, grads.1, grads.2)
    });
    assert_eq!(y, again, "applied again");
    let (ws, bs) = (f64s(&w), f64s(&b));
    let mut exact = [vec![], vec![], vec![], f64s(&old_w), f64s(&old_b)];
    let n = width as f64;
    for (x, dy) in f64s(&x).chunks(width).zip(f64s(&dy).chunks(width)) {
        let mean = x.iter().sum::<f64>() / n;
        let var = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let r = 1.0 / (var + f64::from(EPS)).sqrt();
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * r).collect();
        let g: Vec<f64> = (0..width).map(|i| dy[i] * ws[i]).collect();
        let mean_g = g.iter().sum::<f64>() / n;
        let mean_gn = g.iter().zip(&normal).map(|(g, n)| g * n).sum::<f64>() / n;
        exact[0].extend((0..width).map(|i| normal[i] * ws[i] + bs[i]));
        exact[1].extend([mean, r]);
        exact[2].extend((0..width).map(|i| r * (g[i] - mean_g - normal[i] * mean_gn)));
        (0..width).for_each(|i| exact[3][i] += dy[i] * normal[i]);
        (0..width).for_each(|i| exact[4][i] += dy[i]);
    }
    // Rounding of the mean is enlarged where a row hardly varies.
    let spread = (0..rows).map(|row| exact[1][2 * row + 1]).fold(1.0, f64::max);
    let slack = 3.0 * spread;
    assert_close("y", &y, &exact[0], slack * tolerance::<T>());
    assert_close("statistics", &saved, &exact[1], slack * 1e-6);
    assert_near("dx", &dx, &exact[2], slack * 2.0 * tolerance::<T>(), spread);
    assert_close("dweight", &dw, &exact[3], slack * 1e-5);
    assert_close("dbias", &db, &exact[4], 1e-5);
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn root_mean_squares_match_and_weights_accumulate(
        rows in 0usize..10, width in 1usize..150, skip in 0usize..2,
    ) {
        both!(check_rms(rows, width, skip));
        both!(check_rms(rows, width.next_multiple_of(8), 0));
    }

    #[test]
    fn layer_norms_match_and_their_parameters_accumulate(
        rows in 0usize..10, width in 2usize..150, skip in 0usize..2,
    ) {
        both!(check_layer(rows, width, skip));
        both!(check_layer(rows, width.next_multiple_of(8), 0));
    }
}

#[test]
fn more_rows_than_blocks_and_rows_wider_than_a_warp_match() {
    both!(check_rms(520, 24, 0));
    both!(check_layer(300, 9, 0));
    both!(check_rms(3, 4104, 0));
    both!(check_layer(2, 2001, 1));
}
