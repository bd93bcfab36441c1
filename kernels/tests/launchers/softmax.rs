use proptest::prelude::*;
use slimpipe_kernels::cpu::softmax as cpu;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::{Float, softmax};

use super::figures::FORWARD;
use super::util::{
    Element, assert_close, assert_figure, both, cases, f64s, gpu, random, tolerance,
};

fn check<T: Element>(rows: usize, width: usize, skip: usize) {
    let Some(gpu) = gpu() else { return };
    let (x, dy): (Vec<T>, Vec<T>) = (random(1, rows * width), random(2, rows * width));
    let (y, dx) = gpu.schedules(|| {
        let (from, d) = (gpu.with_at(skip, &x), gpu.with_at(skip, &dy));
        let (y, dx) = (gpu.empty_at::<T>(skip, x.len()), gpu.empty_at::<T>(skip, x.len()));
        // SAFETY: buffers of that many elements.
        unsafe {
            softmax::forward(&gpu.stream, T::FLOAT, from.at, rows, width, y.at).unwrap();
            softmax::backward(&gpu.stream, T::FLOAT, y.at, d.at, rows, width, dx.at).unwrap();
        }
        (gpu.read(&y), gpu.read(&dx))
    });
    let (xs, dys) = (f64s(&x), f64s(&dy));
    let mut exact = Vec::new();
    for x in xs.chunks(width) {
        let max = x.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
        exact.extend(x.iter().map(|x| (x - max).exp() / sum));
    }
    assert_figure::<T>("softmax", &y, &exact, FORWARD);
    assert_close("softmax", &y, &exact, tolerance::<T>());
    // From the rounded output, as the kernel has it.
    let mut gradient = Vec::new();
    for (y, dy) in f64s(&y).chunks(width).zip(dys.chunks(width)) {
        let dot: f64 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
        gradient.extend(y.iter().zip(dy).map(|(y, dy)| y * (dy - dot)));
    }
    assert_close("gradient", &dx, &gradient, 2.0 * tolerance::<T>());
    let mut other = vec![T::default(); x.len()];
    cpu::forward(&Threads::default(), &x, width, &mut other);
    assert_close("softmax of the CPU", &y, &f64s(&other), tolerance::<T>());
}

#[test]
fn infinite_logits_are_certain_or_impossible_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let low = f32::NEG_INFINITY;
    let x = [low, 1.0, low, 2.0, low, low, low, low, 3.0, f32::NAN, 0.0, 0.0];
    let y = gpu.schedules(|| {
        let (from, y) = (gpu.with(&x), gpu.empty::<f32>(x.len()));
        // SAFETY: buffers of that many elements.
        unsafe { softmax::forward(&gpu.stream, Float::F32, from.at, 3, 4, y.at) }.unwrap();
        gpu.read(&y).into_iter().map(f32::to_bits).collect::<Vec<_>>()
    });
    let y: Vec<f32> = y.into_iter().map(f32::from_bits).collect();
    let mut other = [0.0; 12];
    cpu::forward(&Threads::default(), &x, 4, &mut other);
    for (y, other) in y.iter().zip(other) {
        assert!((y - other).abs() <= 1e-6 || (y.is_nan() && other.is_nan()), "{y} and {other}");
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn rows_of_any_width_and_alignment_match(
        rows in 0usize..6, width in prop_oneof![1usize..70, 1000usize..1100], skip in 0usize..2,
    ) {
        both!(check(rows, width, skip));
        both!(check(rows, width.next_multiple_of(8), 0));
    }
}

#[test]
fn rows_wider_than_a_pass_of_all_threads_match() {
    both!(check(2, 9000, 0));
}
