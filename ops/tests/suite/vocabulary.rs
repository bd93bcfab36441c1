//! The output layer on parts of the vocabulary, put together again.

use slimpipe_ops::elementwise::add_assign;
use slimpipe_ops::vocabulary::{Block, SUMS, TOTALS, combine, part_gradient, part_sums};
use slimpipe_runtime::{DType, Device, RawTensor, Result};

use crate::suite::cross_entropy::{product, reference, some_labels};
use crate::suite::util::{FLOATS, assert_close, device, error, f64s, labels, random};

fn zeros(shape: [usize; 2], dtype: DType) -> RawTensor {
    RawTensor::zeros(shape, dtype, device()).unwrap()
}

/// Loss, dX and dW (added to what each part's accumulator holds) over parts of `sizes` rows.
pub fn in_parts(
    x: &RawTensor,
    weight: &RawTensor,
    labels: &[i64],
    scale: f32,
    sizes: &[usize],
) -> Result<(f64, RawTensor, Vec<RawTensor>)> {
    let labels = &self::labels(labels);
    let (rows, vocab) = (x.dims()[0], weight.dims()[0]);
    let starts = sizes.iter().scan(0, |end, size| {
        *end += size;
        Some(*end - size)
    });
    let mut parts = Vec::new();
    let mut sums = zeros([sizes.len() * rows, SUMS], DType::F32);
    for (i, (first, &size)) in starts.zip(sizes).enumerate() {
        let (weight, mut logits) =
            (weight.narrow(0, first, size)?, zeros([rows, size], DType::F32));
        let mut block = Block { x, weight: &weight, labels, first, logits: &mut logits };
        sums.with_rows(i * rows, rows, |sums| part_sums(&mut block, vocab, sums))?;
        parts.push((first, weight, logits));
    }
    let mut totals = zeros([rows, TOTALS], DType::F32);
    let mut losses = RawTensor::zeros(rows, DType::F32, device())?;
    combine(&sums, labels, vocab, &mut totals, &mut losses)?;
    let loss = f64s(&losses).iter().sum::<f64>() * f64::from(scale);
    let mut dx = zeros([rows, x.dims()[1]], DType::F32);
    let mut dweights = Vec::new();
    for (first, weight, mut logits) in parts {
        let mut low = zeros(logits.dims().try_into().unwrap(), x.dtype());
        let low = (x.dtype() != DType::F32).then_some(&mut low);
        let mut share = zeros(dx.dims().try_into().unwrap(), DType::F32);
        let mut dweight = zeros(weight.dims().try_into().unwrap(), DType::F32);
        let mut block = Block { x, weight: &weight, labels, first, logits: &mut logits };
        part_gradient(&mut block, &totals, scale, low, &mut share, (&mut dweight, true))?;
        add_assign(&mut dx, &share)?;
        dweights.push(dweight);
    }
    Ok((loss, dx, dweights))
}

#[test]
fn parts_of_any_size_give_the_loss_and_gradients_of_the_whole() {
    let (rows, width, vocab) = (90, 24, 70);
    for dtype in FLOATS {
        let (x, w) = (random(&[rows, width], 0, dtype), random(&[vocab, width], 1, dtype));
        let labels = some_labels(rows, vocab);
        let (xs, ws) = (f64s(&x), f64s(&w));
        let logits =
            product((rows, width, vocab), |i, l| xs[i * width + l], |l, j| ws[j * width + l]);
        let (loss, dz) = reference(&logits, &labels, 0.125);
        let dx = product((rows, vocab, width), |i, l| dz[i * vocab + l], |l, j| ws[l * width + j]);
        let dw = product((vocab, rows, width), |i, l| dz[l * vocab + i], |l, j| xs[l * width + j]);
        let tolerance = if dtype == DType::F32 { 1e-5 } else { 1.0 / 64.0 };
        for sizes in [&[70][..], &[35, 35], &[1, 68, 1], &[24, 23, 23], &[18, 18, 17, 17]] {
            let (found, found_dx, dweights) = in_parts(&x, &w, &labels, 0.125, sizes).unwrap();
            assert!((found - loss).abs() <= 1e-6 * loss, "{sizes:?}: {found} for {loss}");
            assert_close(&found_dx, &dx, tolerance);
            let parts: Vec<&RawTensor> = dweights.iter().collect();
            assert_close(&slimpipe_ops::cat::cat(&parts, 0).unwrap(), &dw, tolerance);
        }
    }
}

#[test]
fn logits_far_apart_between_parts_neither_overflow_nor_vanish() {
    // Of two parts one has logits near 3000, the other near -3000: a sum of exponentials that is
    // not taken relative to the largest of all would be infinite, or divide by zero.
    let x = RawTensor::from_slice(&[1f32, 1., 1.], (3, 1), device()).unwrap();
    let w = RawTensor::from_slice(&[-3000f32, -3001., 3000., 2999.], (4, 1), device()).unwrap();
    let labels = [2, 0, 3];
    let (loss, dx, _) = in_parts(&x, &w, &labels, 1.0, &[2, 2]).unwrap();
    let ln = (1.0 + (-1f64).exp()).ln();
    assert!((loss - (ln + 6000.0 + ln + 1.0 + ln)).abs() < 1e-3, "{loss}");
    let p = 1.0 / (1.0 + (-1f64).exp());
    let mean = p * 3000.0 + (1.0 - p) * 2999.0;
    assert_close(&dx, &[mean - 3000.0, mean + 3000.0, mean - 2999.0], 1e-6);
}

#[test]
fn ignored_rows_count_for_nothing() {
    let (x, w) = (random(&[4, 8], 0, DType::F32), random(&[10, 8], 1, DType::F32));
    let (loss, dx, dweights) = in_parts(&x, &w, &[-100; 4], 1.0, &[4, 6]).unwrap();
    assert_eq!(loss, 0.0);
    let zero = |x: &RawTensor| f64s(x).iter().all(|&x| x == 0.0);
    assert!(zero(&dx) && dweights.iter().all(zero));
}

#[test]
fn what_does_not_fit_is_refused() {
    let (x, w) = (random(&[4, 8], 0, DType::F32), random(&[10, 8], 1, DType::F32));
    for (beyond, text) in [(10, "label 10 in a vocabulary of 10"), (-1, "label -1")] {
        let result = in_parts(&x, &w, &[0, 1, beyond, 3], 1.0, &[4, 6]);
        if device() == Device::Cpu {
            assert!(error(result).contains(text));
        } else {
            assert!(result.unwrap().0.is_nan(), "no GPU waits to look at labels");
        }
    }
    let (mut logits, mut sums) = (zeros([4, 9], DType::F32), zeros([4, SUMS], DType::F32));
    let labels = labels(&[0; 4]);
    let mut block = Block { x: &x, weight: &w, labels: &labels, first: 0, logits: &mut logits };
    assert!(error(part_sums(&mut block, 10, &mut sums)).contains("[4, 9]"));
}
