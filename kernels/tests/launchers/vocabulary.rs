use proptest::prelude::*;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cpu::vocabulary::{self as cpu, SUMS, TOTALS};
use slimpipe_kernels::cuda::{Float, vocabulary};

use super::figures::{FORWARD, GRADIENT};
use super::loss::{labels, reference};
use super::util::{
    Element, assert_close, assert_figure, assert_near, both, cases, f64s, gpu, random,
};

const SCALE: f32 = 0.25;

/// The columns of `logits` from `first` on.
fn part(logits: &[f32], vocab: usize, first: usize, width: usize) -> Vec<f32> {
    logits.chunks(vocab).flat_map(|z| z[first..first + width].to_vec()).collect()
}

fn check<T: Element>(rows: usize, widths: &[usize]) {
    let Some(gpu) = gpu() else { return };
    let vocab = widths.iter().sum();
    let logits: Vec<f32> = random::<f32>(1, rows * vocab).iter().map(|z| z * 4.0).collect();
    let labels = labels(rows, vocab);
    let starts: Vec<usize> = (0..widths.len()).map(|i| widths[..i].iter().sum()).collect();
    let parts = || starts.iter().zip(widths).map(|(&first, &width)| (first, width));
    let (sums, totals, losses, gradients) = gpu.schedules(|| {
        let (at, stream) = (gpu.with(&labels), &gpu.stream);
        let sums = gpu.empty::<f32>(widths.len() * rows * SUMS);
        let (totals, losses) = (gpu.empty::<f32>(rows * TOTALS), gpu.empty::<f32>(rows));
        let z: Vec<_> =
            parts().map(|(first, width)| gpu.with(&part(&logits, vocab, first, width))).collect();
        // SAFETY: the buffers hold all that is read and written.
        unsafe {
            for (i, (first, width)) in parts().enumerate() {
                let to = sums.at.offset((i * rows * SUMS * 4) as u64);
                vocabulary::sums(stream, z[i].at, at.at, first, rows, width, to).unwrap();
            }
            let (count, totals) = (widths.len(), totals.at);
            let (sums, losses) = (sums.at, losses.at);
            vocabulary::combine(stream, sums, count, at.at, vocab, rows, totals, losses).unwrap();
        }
        let mut gradients = Vec::new();
        for (z, (first, width)) in z.iter().zip(parts()) {
            let apart = gpu.empty::<T>(rows * width);
            let in_place = T::FLOAT == Float::F32;
            let gradient = (T::FLOAT, if in_place { z.at } else { apart.at });
            let (labels, totals) = (at.at, totals.at);
            // SAFETY: the buffers hold all that is read and written.
            unsafe {
                vocabulary::gradient(
                    stream, z.at, labels, first, totals, SCALE, rows, width, gradient,
                )
            }
            .unwrap();
            let in_f32: Vec<f32> = match in_place {
                true => gpu.read(z),
                false => gpu.read(&apart).into_iter().map(|x| x.to_f32()).collect(),
            };
            gradients.push(in_f32);
        }
        (gpu.read(&sums), gpu.read(&totals), gpu.read(&losses), gradients)
    });
    let (exact, gradient) = reference(&logits, &labels, SCALE);
    assert_figure::<T>("cross-entropy in parts", &losses, &exact, FORWARD);
    assert_near("losses", &losses, &exact, 1e-6, 4.0);
    let rounding = if T::FLOAT == Float::F32 { 3e-6 } else { 1.0 / 256.0 };
    for (own, (first, width)) in gradients.iter().zip(parts()) {
        let exact: Vec<f64> =
            gradient.chunks(vocab).flat_map(|row| row[first..first + width].to_vec()).collect();
        assert_figure::<T>("a part's gradient of cross-entropy", own, &exact, GRADIENT);
        assert_near("gradient", own, &exact, rounding, f64::from(SCALE));
    }
    if rows == 0 {
        return;
    }
    let (mut other, mut other_totals) = (vec![0.0; sums.len()], vec![0.0; totals.len()]);
    for (i, (first, width)) in parts().enumerate() {
        let z = part(&logits, vocab, first, width);
        let to = &mut other[i * rows * SUMS..][..rows * SUMS];
        cpu::sums(&Threads::default(), &z, &labels, first, to);
    }
    let mut other_losses = vec![0.0; rows];
    cpu::combine(&other, &labels, &mut other_totals, &mut other_losses);
    assert_near("losses of the CPU", &losses, &f64s(&other_losses), 1e-6, 4.0);
    assert_close("sums of the CPU", &sums, &f64s(&other), 1e-6);
    assert_close("totals of the CPU", &totals, &f64s(&other_totals), 1e-6);
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn parts_come_to_the_loss_and_gradient_of_the_whole(
        rows in 0usize..7, widths in prop::collection::vec(prop_oneof![1usize..50, Just(64), Just(1000)], 1..4),
    ) {
        both!(check(rows, &widths));
    }
}
