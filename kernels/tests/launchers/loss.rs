use proptest::prelude::*;
use slimpipe_kernels::cpu::loss::{self as cpu, IGNORE};
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::{Float, loss};

use super::figures::{FORWARD, GRADIENT};
use super::util::{Element, assert_figure, assert_near, both, cases, f64s, gpu, random};

const SCALE: f32 = 0.125;

/// Labels below `vocab`, some of them ignored.
pub fn labels(rows: usize, vocab: usize) -> Vec<i64> {
    let label = |i: usize| if i % 4 == 3 { IGNORE } else { (i * 31 % vocab) as i64 };
    (0..rows).map(label).collect()
}

/// The losses of rows of logits and their gradients.
pub fn reference(logits: &[f32], labels: &[i64], scale: f32) -> (Vec<f64>, Vec<f64>) {
    let vocab = logits.len() / labels.len().max(1);
    let (mut losses, mut gradient) = (Vec::new(), Vec::new());
    for (z, &label) in f64s(logits).chunks(vocab.max(1)).zip(labels) {
        if label == IGNORE {
            losses.push(0.0);
            gradient.extend(vec![0.0; vocab]);
            continue;
        }
        let max = z.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = z.iter().map(|z| (z - max).exp()).sum();
        losses.push(max + sum.ln() - z[label as usize]);
        let one = |j| f64::from(u8::from(j as i64 == label));
        let p = z.iter().map(|z| (z - max).exp() / sum).enumerate();
        gradient.extend(p.map(|(j, p)| (p - one(j)) * f64::from(scale)));
    }
    (losses, gradient)
}

fn check<T: Element>(rows: usize, vocab: usize, skip: usize) {
    let Some(gpu) = gpu() else { return };
    let logits: Vec<f32> = random::<f32>(1, rows * vocab).iter().map(|z| z * 4.0).collect();
    let labels = labels(rows, vocab);
    let (alone, losses, gradient) = gpu.schedules(|| {
        let (z, at) = (gpu.with_at(skip, &logits), gpu.with(&labels));
        let (alone, losses) = (gpu.empty::<f32>(rows), gpu.empty::<f32>(rows));
        let apart = gpu.empty_at::<T>(skip, logits.len());
        // Over the logits where the dtype allows it.
        let to = if T::FLOAT == Float::F32 { z.at } else { apart.at };
        // SAFETY: the buffers hold all that is read and written.
        unsafe {
            let (stream, labels) = (&gpu.stream, at.at);
            loss::cross_entropy_loss_block(stream, z.at, labels, rows, vocab, alone.at).unwrap();
            let gradient = (T::FLOAT, to);
            loss::cross_entropy_block(
                stream, z.at, labels, SCALE, rows, vocab, losses.at, gradient,
            )
            .unwrap();
        }
        let gradient = if T::FLOAT == Float::F32 {
            gpu.read(&z).into_iter().map(T::from_f32).collect()
        } else {
            gpu.read(&apart)
        };
        (gpu.read(&alone), gpu.read(&losses), gradient)
    });
    let (exact, exact_gradient) = reference(&logits, &labels, SCALE);
    assert_figure::<T>("cross-entropy", &losses, &exact, FORWARD);
    assert_figure::<T>("cross-entropy's gradient", &gradient, &exact_gradient, GRADIENT);
    // A certain row's loss is the difference of large logits.
    let terms = 4.0;
    assert_near("loss", &losses, &exact, 1e-6, terms);
    assert_near("loss without gradient", &alone, &exact, 1e-6, terms);
    let rounding = if T::FLOAT == Float::F32 { 3e-6 } else { 1.0 / 256.0 };
    assert_near("gradient", &gradient, &exact_gradient, rounding, f64::from(SCALE));
    if rows > 0 {
        let mut other = vec![0.0; rows];
        cpu::cross_entropy_loss_block(&Threads::default(), &logits, &labels, &mut other);
        assert_near("loss of the CPU", &losses, &f64s(&other), 1e-6, terms);
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn losses_and_gradients_match_for_any_vocabulary_and_alignment(
        rows in 0usize..7, vocab in prop_oneof![1usize..80, 1000usize..1050], skip in 0usize..2,
    ) {
        both!(check(rows, vocab, skip));
        both!(check(rows, vocab.next_multiple_of(8), 0));
    }
}

#[test]
fn a_vocabulary_wider_than_a_pass_of_all_threads_matches() {
    both!(check(2, 8200, 0));
}

#[test]
fn a_label_outside_the_vocabulary_gives_nan() {
    let Some(gpu) = gpu() else { return };
    let losses = gpu.schedules(|| {
        let (z, labels) = (gpu.with(&[0.0f32; 12]), gpu.with(&[4i64, -1, 3]));
        let losses = gpu.empty::<f32>(3);
        // SAFETY: the buffers hold all that is read and written.
        unsafe {
            let (stream, gradient) = (&gpu.stream, (Float::F32, z.at));
            loss::cross_entropy_block(stream, z.at, labels.at, 1.0, 3, 4, losses.at, gradient)
                .unwrap();
        }
        gpu.read(&losses).into_iter().map(|loss| loss.to_bits()).collect::<Vec<_>>()
    });
    let losses: Vec<f32> = losses.into_iter().map(f32::from_bits).collect();
    assert!(losses[0].is_nan() && losses[1].is_nan() && losses[2] > 1.3, "{losses:?}");
}
