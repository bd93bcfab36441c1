//! Cross-entropy on logits of a part of the vocabulary: the rest is elsewhere.
//!
//! A part's logits z of a row come to three numbers: the largest, m; the sum of exp(z - m); and the
//! label's logit, if the label is in the part. Those of all parts give the row's loss, and what each
//! part needs for its gradient.

use super::loss::{IGNORE, max, rows_per_task, sum_exp};
use super::simd::{exp, multiversion};
use super::threads::Threads;

/// Numbers that a row of a part comes to: the largest logit, the sum of exponentials of the logits
/// less that, and the label's logit (0 if the label is elsewhere).
pub const SUMS: usize = 3;

/// Numbers that a row of all parts comes to: the largest logit, and the sum of exponentials.
pub const TOTALS: usize = 2;

/// Where `label` is in a row of `width` logits that begins at token `first`.
#[inline(always)]
fn place(label: i64, first: usize, width: usize) -> Option<usize> {
    usize::try_from(label).ok()?.checked_sub(first).filter(|&at| at < width)
}

multiversion! {
    fn sum_rows(z: &[f32], labels: &[i64], first: usize, sums: &mut [f32]) {
        let width = z.len() / labels.len();
        let rows = z.chunks_exact(width).zip(labels).zip(sums.chunks_exact_mut(SUMS));
        for ((z, &label), sums) in rows {
            if label == IGNORE {
                sums.fill(0.0);
                continue;
            }
            let max = max(z);
            let own = place(label, first, width).map_or(0.0, |at| z[at]);
            sums.copy_from_slice(&[max, sum_exp::<FUSED>(z, max), own]);
        }
    }
}

multiversion! {
    fn gradient_rows(z: &mut [f32], labels: &[i64], first: usize, totals: &[f32], scale: f32) {
        let width = z.len() / labels.len();
        let rows = z.chunks_exact_mut(width).zip(labels).zip(totals.chunks_exact(TOTALS));
        for ((z, &label), totals) in rows {
            if label == IGNORE {
                z.fill(0.0);
                continue;
            }
            let (max, factor) = (totals[0], scale / totals[1]);
            for z in z.iter_mut() {
                *z = exp::<FUSED>(*z - max) * factor;
            }
            if let Some(at) = place(label, first, width) {
                z[at] -= scale;
            }
        }
    }
}

/// What each row of `logits` [rows, width], the part from token `first` on, comes to: `sums`
/// [rows, 3], see [`SUMS`]; zeros where the label is ignored.
///
/// # Panics
/// Sizes that do not fit.
pub fn sums(threads: &Threads, logits: &[f32], labels: &[i64], first: usize, sums: &mut [f32]) {
    let width = width(logits.len(), labels.len());
    assert_eq!(sums.len(), labels.len() * SUMS, "{SUMS} sums per row");
    let rows = rows_per_task(width);
    threads.chunks(sums, rows * SUMS, |i, sums| {
        let labels = &labels[i * rows..][..sums.len() / SUMS];
        sum_rows(&logits[i * rows * width..][..labels.len() * width], labels, first, sums);
    });
}

/// What the sums of all parts, [parts, rows, 3], come to, row by row: `totals` [rows, 2], see
/// [`TOTALS`], and the rows' `losses` (nats).
///
/// # Panics
/// Sizes that do not fit.
pub fn combine(parts: &[f32], labels: &[i64], totals: &mut [f32], losses: &mut [f32]) {
    let len = labels.len() * SUMS;
    assert!(len > 0 && parts.len().is_multiple_of(len), "{SUMS} sums per part and row");
    assert_eq!(totals.len(), labels.len() * TOTALS, "{TOTALS} totals per row");
    assert_eq!(losses.len(), labels.len(), "a loss per row");
    let rows = labels.iter().zip(totals.chunks_exact_mut(TOTALS)).zip(losses).enumerate();
    for (row, ((&label, totals), loss)) in rows {
        if label == IGNORE {
            totals.fill(0.0);
            *loss = 0.0;
            continue;
        }
        let parts = || parts.chunks_exact(len).map(|part| &part[row * SUMS..][..SUMS]);
        let max =
            parts().fold(f32::NEG_INFINITY, |max, part| if part[0] > max { part[0] } else { max });
        let (mut sum, mut own) = (0.0, 0.0);
        for part in parts() {
            sum += f64::from(part[1]) * f64::from(part[0] - max).exp();
            own += f64::from(part[2]);
        }
        totals.copy_from_slice(&[max, sum as f32]);
        *loss = (f64::from(max) + sum.ln() - own) as f32;
    }
}

/// Turns `logits` [rows, width], the part from token `first` on, into (softmax - onehot) * scale in
/// place (0 where ignored), given the `totals` [rows, 2] of all parts.
///
/// # Panics
/// Sizes that do not fit.
pub fn gradient(
    threads: &Threads,
    logits: &mut [f32],
    labels: &[i64],
    first: usize,
    totals: &[f32],
    scale: f32,
) {
    let width = width(logits.len(), labels.len());
    assert_eq!(totals.len(), labels.len() * TOTALS, "{TOTALS} totals per row");
    let rows = rows_per_task(width);
    threads.chunks(logits, rows * width, |i, logits| {
        let count = logits.len() / width;
        let totals = &totals[i * rows * TOTALS..][..count * TOTALS];
        gradient_rows(logits, &labels[i * rows..][..count], first, totals, scale);
    });
}

fn width(logits: usize, rows: usize) -> usize {
    assert!(
        rows > 0 && logits > 0 && logits.is_multiple_of(rows),
        "{logits} logits for {rows} rows"
    );
    logits / rows
}
