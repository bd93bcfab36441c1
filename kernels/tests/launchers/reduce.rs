use proptest::prelude::*;
use slimpipe_kernels::cpu::reduce as cpu;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::reduce::{self, Dims};

use super::elementwise::places;
use super::util::{Element, assert_close, both, cases, f64s, gpu, random};

/// Sums a tensor of `extents`, whose dimensions lie in memory in the order `order`, over the dimensions in `mask`.
fn check_sum<T: Element>(extents: &[usize], reversed: bool, mask: u8) {
    let Some(gpu) = gpu() else { return };
    let (mut strides, mut next) = (vec![0; extents.len()], 1);
    let mut order: Vec<usize> = (0..extents.len()).rev().collect();
    if reversed {
        order.reverse();
    }
    for axis in order {
        strides[axis] = next;
        next *= extents[axis];
    }
    let x: Vec<T> = random(1, next);
    let pick = |reduced: bool, of: &[usize]| -> Vec<usize> {
        let axes = (0..of.len()).filter(|axis| (mask >> axis & 1 == 1) == reduced);
        axes.map(|axis| of[axis]).collect()
    };
    let [kept, reduced] = [false, true].map(|r| (pick(r, extents), pick(r, &strides)));
    let outputs = kept.0.iter().product();
    let sums = gpu.schedules(|| {
        let (from, out) = (gpu.with(&x), gpu.empty::<T>(outputs));
        let dims =
            |(extents, strides): &(Vec<usize>, Vec<usize>)| (extents.clone(), strides.clone());
        let (k, r) = (dims(&kept), dims(&reduced));
        let kept = Dims { extents: &k.0, strides: &k.1 };
        let reduced = Dims { extents: &r.0, strides: &r.1 };
        // SAFETY: the buffers hold all that is read and written.
        unsafe { reduce::sum(&gpu.stream, T::FLOAT, from.at, kept, reduced, out.at) }.unwrap();
        gpu.read(&out)
    });
    let terms = places(&reduced.0, &reduced.1);
    let exact: Vec<T> = places(&kept.0, &kept.1)
        .into_iter()
        .map(|start| {
            let sum: f64 = terms.iter().map(|at| f64::from(x[start + at].to_f32())).sum();
            T::from_f32(sum as f32)
        })
        .collect();
    // f64 sums of f32 numbers differ by their order in bits that f32 seldom shows.
    assert_close("sum", &sums, &f64s(&exact), 1e-7 + f64::from(T::FLOAT.size() == 2) / 256.0);
}

fn check_max<T: Element>(rows: usize, width: usize, skip: usize, special: Option<f32>) {
    let Some(gpu) = gpu() else { return };
    let mut x: Vec<T> = random(1, rows * width);
    // Equal elements, and what is no ordinary number.
    for (i, x) in x.iter_mut().enumerate() {
        *x = T::from_f32((x.to_f32() * 2.0).round());
        if let Some(special) = special
            && i % 5 == 3
        {
            *x = T::from_f32(special);
        }
    }
    let dy: Vec<T> = random(2, rows);
    let (values, at, dx) = gpu.schedules(|| {
        let (from, d) = (gpu.with_at(skip, &x), gpu.with(&dy));
        let (values, places) = (gpu.empty::<T>(rows), gpu.empty::<u32>(rows));
        let (dx, stream) = (gpu.empty_at::<T>(skip, x.len()), &gpu.stream);
        // SAFETY: the buffers hold all that is read and written.
        unsafe {
            let (values, places) = (values.at, places.at);
            reduce::max_rows(stream, T::FLOAT, from.at, rows, width, values, places).unwrap();
            reduce::max_rows_backward(stream, T::FLOAT, d.at, places, rows, width, dx.at).unwrap();
        }
        let bits = |values: Vec<T>| values.iter().map(|v| v.to_f32().to_bits()).collect::<Vec<_>>();
        (bits(gpu.read(&values)), gpu.read(&places), gpu.read(&dx))
    });
    for (i, row) in x.chunks(width).enumerate() {
        let mut best = 0;
        for (j, x) in row.iter().enumerate() {
            let (x, top) = (x.to_f32(), row[best].to_f32());
            if x > top || (x.is_nan() && !top.is_nan()) {
                best = j;
            }
        }
        assert_eq!((values[i], at[i]), (row[best].to_f32().to_bits(), best as u32));
        let expected = (0..width).map(|j| if j == best { dy[i] } else { T::default() });
        assert!(expected.eq(dx[i * width..][..width].iter().copied()), "gradient of row {i}");
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn sums_over_any_dimensions_match(
        extents in prop::collection::vec(prop_oneof![Just(1usize), 2usize..9, 30usize..40], 1..4),
        reversed in any::<bool>(),
        mask in 0u8..8,
    ) {
        both!(check_sum(&extents, reversed, mask));
    }

    #[test]
    fn the_first_of_the_largest_counts(
        rows in 0usize..6, width in prop_oneof![1usize..40, 300usize..310], skip in 0usize..2,
        special in prop_oneof![Just(None), Just(Some(f32::NAN)), Just(Some(f32::NEG_INFINITY))],
    ) {
        both!(check_max(rows, width, skip, special));
    }
}

#[test]
fn long_sums_are_divided_among_blocks() {
    both!(check_sum(&[20_000], false, 1));
    both!(check_sum(&[700, 35], false, 1));
    both!(check_sum(&[3, 5000], false, 2));
    both!(check_sum(&[0, 5], false, 1));
}

#[test]
fn squares_of_many_tensors_add_up_and_their_norm_is_clipped() {
    let Some(gpu) = gpu() else { return };
    let lens = [5, 0, 40_000, 16_384, 1, 333];
    let tensors: Vec<Vec<f32>> =
        lens.iter().enumerate().map(|(i, &len)| random(i as u64, len)).collect();
    let totals = gpu.schedules(|| {
        let buffers: Vec<_> =
            tensors.iter().enumerate().map(|(i, x)| gpu.with_at(i % 2, x)).collect();
        let list: Vec<_> = buffers.iter().zip(lens).map(|(b, len)| (b.at, len)).collect();
        let (total, factors) = (gpu.with(&[1.0f64]), gpu.empty::<f32>(3));
        // SAFETY: the buffers hold all that is read and written.
        unsafe {
            reduce::sum_squares(&gpu.stream, &list, total.at, false).unwrap();
            reduce::sum_squares(&gpu.stream, &list[..1], total.at, true).unwrap();
            for (i, most) in [0.0, 1e9, 2.0].into_iter().enumerate() {
                let to = factors.at.offset(4 * i as u64);
                reduce::clip_factor(&gpu.stream, total.at, 0.5, most, to).unwrap();
            }
        }
        (gpu.read(&total), gpu.read(&factors))
    });
    let sum = |x: &Vec<f32>| cpu::sum_squares(&Threads::default(), x);
    let exact = tensors.iter().map(sum).sum::<f64>() + sum(&tensors[0]);
    assert!((totals.0[0] - exact).abs() <= 1e-6 * exact, "{} instead of {exact}", totals.0[0]);
    assert_eq!(totals.1[..2], [1.0, 1.0]);
    assert_close("factor", &totals.1[2..], &[2.0 / (exact.sqrt() * 0.5)], 1e-6);
}

#[test]
fn losses_add_up() {
    let Some(gpu) = gpu() else { return };
    let losses: Vec<f32> = random(1, 1300);
    let total = gpu.schedules(|| {
        let (from, total) = (gpu.with(&losses), gpu.empty::<f32>(1));
        // SAFETY: the buffers hold all that is read and written.
        unsafe { reduce::sum_losses(&gpu.stream, from.at, losses.len(), 0.25, total.at) }.unwrap();
        gpu.read(&total)
    });
    assert_close("sum", &total, &[f64s(&losses).iter().sum::<f64>() * 0.25], 1e-7);
}
