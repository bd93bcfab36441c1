//! Cross-entropy on blocks of logits.

use half::bf16;

use super::simd::{Scalar, exp, multiversion};
use super::threads::Threads;

/// Labels with this value count for nothing.
pub const IGNORE: i64 = -100;

#[inline(always)]
pub(super) fn max(z: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (full, rest) = z.as_chunks::<16>();
    for chunk in full {
        for (lane, &z) in lanes.iter_mut().zip(chunk) {
            *lane = if z > *lane { z } else { *lane };
        }
    }
    rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

#[inline(always)]
pub(super) fn sum_exp<const FUSED: bool>(z: &[f32], max: f32) -> f32 {
    let mut lanes = [0f32; 16];
    let (full, rest) = z.as_chunks::<16>();
    for chunk in full {
        for (lane, &z) in lanes.iter_mut().zip(chunk) {
            *lane += exp::<FUSED>(z - max);
        }
    }
    let tail: f32 = rest.iter().map(|&z| exp::<FUSED>(z - max)).sum();
    lanes.iter().sum::<f32>() + tail
}

#[inline(always)]
fn row_loss<const FUSED: bool>(z: &[f32], label: i64) -> (f32, f32, f32) {
    let max = max(z);
    let sum = sum_exp::<FUSED>(z, max);
    (max, sum, max + sum.ln() - z[label as usize])
}

multiversion! {
    fn loss_rows(z: &[f32], labels: &[i64], losses: &mut [f32]) {
        let vocab = z.len() / labels.len();
        for ((z, &label), loss) in z.chunks_exact(vocab).zip(labels).zip(losses) {
            *loss = if label == IGNORE { 0.0 } else { row_loss::<FUSED>(z, label).2 };
        }
    }
}

multiversion! {
    fn gradient_rows(z: &mut [f32], labels: &[i64], scale: f32, losses: &mut [f32]) {
        let vocab = z.len() / labels.len();
        for ((z, &label), loss) in z.chunks_exact_mut(vocab).zip(labels).zip(losses) {
            if label == IGNORE {
                *loss = 0.0;
                z.fill(0.0);
                continue;
            }
            let (max, sum, row) = row_loss::<FUSED>(z, label);
            *loss = row;
            let factor = scale / sum;
            for z in z.iter_mut() {
                *z = exp::<FUSED>(*z - max) * factor;
            }
            z[label as usize] -= scale;
        }
    }
}

multiversion! {
    fn to_bf16(from: &[f32], to: &mut [bf16]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = <bf16 as Scalar>::from_f32(from);
        }
    }
}

pub(super) fn rows_per_task(vocab: usize) -> usize {
    ((1 << 15) / vocab.max(1)).max(1)
}

/// The loss of each row of `logits` [rows, vocab] (0 where the label is ignored).
///
/// # Panics
/// Sizes that do not fit, a label outside the vocabulary.
pub fn cross_entropy_loss_block(
    threads: &Threads,
    logits: &[f32],
    labels: &[i64],
    losses: &mut [f32],
) {
    let vocab = check(logits.len(), labels, losses.len());
    let rows = rows_per_task(vocab);
    threads.chunks(losses, rows, |i, losses| {
        let labels = &labels[i * rows..][..losses.len()];
        loss_rows(&logits[i * rows * vocab..][..losses.len() * vocab], labels, losses);
    });
}

/// The loss of each row; `logits` become (softmax - onehot) * scale in place (0 where ignored).
///
/// # Panics
/// Sizes that do not fit, a label outside the vocabulary.
pub fn cross_entropy_block(
    threads: &Threads,
    logits: &mut [f32],
    labels: &[i64],
    scale: f32,
    losses: &mut [f32],
) {
    let vocab = check(logits.len(), labels, losses.len());
    let rows = rows_per_task(vocab);
    threads.chunks2((logits, rows * vocab), (losses, rows), |i, logits, losses| {
        gradient_rows(logits, &labels[i * rows..][..losses.len()], scale, losses);
    });
}

/// As [`cross_entropy_block`], with the gradient rounded into `gradient`.
///
/// # Panics
/// Sizes that do not fit, a label outside the vocabulary.
pub fn cross_entropy_block_bf16(
    threads: &Threads,
    logits: &mut [f32],
    labels: &[i64],
    scale: f32,
    losses: &mut [f32],
    gradient: &mut [bf16],
) {
    cross_entropy_block(threads, logits, labels, scale, losses);
    assert_eq!(logits.len(), gradient.len(), "gradient and logits differ in size");
    let logits = &*logits;
    threads.chunks(gradient, 1 << 15, |i, to| to_bf16(&logits[i << 15..][..to.len()], to));
}

fn check(logits: usize, labels: &[i64], losses: usize) -> usize {
    let rows = labels.len();
    assert!(
        rows > 0 && logits.is_multiple_of(rows) && losses == rows,
        "{logits} logits for {rows} rows"
    );
    let vocab = logits / rows;
    let valid = |&label: &i64| label == IGNORE || (0..vocab as i64).contains(&label);
    assert!(labels.iter().all(valid), "a label lies outside the vocabulary of {vocab}");
    vocab
}
