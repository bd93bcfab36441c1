use slimpipe_allocator::Memory;
use slimpipe_ops::cross_entropy::{IGNORE, cross_entropy, head_loss, head_loss_grad};
use slimpipe_runtime::{DType, Device, RawTensor};

use super::util::{FLOATS, assert_close, device, error, f64s, labels, random, tensor, views};

/// The summed loss times `scale`, and the gradient of the logits, in f64.
pub fn reference(logits: &[f64], labels: &[i64], scale: f64) -> (f64, Vec<f64>) {
    let vocab = logits.len() / labels.len();
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for (z, &label) in logits.chunks(vocab).zip(labels) {
        if label == IGNORE {
            gradient.extend(vec![0.0; vocab]);
            continue;
        }
        let max = z.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = z.iter().map(|z| (z - max).exp()).sum();
        loss += max + sum.ln() - z[label as usize];
        let hot = |j: usize| if j as i64 == label { 1.0 } else { 0.0 };
        gradient.extend((0..vocab).map(|j| scale * ((z[j] - max).exp() / sum - hot(j))));
    }
    (loss * scale, gradient)
}

/// a [m, k] times b [k, n], where (i, l) of a lies at a(i, l).
pub fn product(
    (m, k, n): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let at = |i: usize, j: usize| (0..k).map(|l| a(i, l) * b(l, j)).sum();
    (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect()
}

pub fn some_labels(rows: usize, vocab: usize) -> Vec<i64> {
    (0..rows).map(|i| if i % 5 == 3 { IGNORE } else { (i * 7 % vocab) as i64 }).collect()
}

#[test]
fn losses_and_gradients_of_logits_match_the_formula() {
    for (rows, vocab) in [(1, 2), (9, 33), (200, 1000)] {
        let logits = random(&[rows, vocab], 0, DType::F32);
        let targets = some_labels(rows, vocab);
        let (expected, gradient) = reference(&f64s(&logits), &targets, 0.25);
        for view in views(&logits) {
            let (loss, dz) = cross_entropy(&view, &labels(&targets), 0.25).unwrap();
            assert_close(&loss, &[expected], 1e-6);
            assert_close(&dz, &gradient, 1e-5);
        }
    }
}

#[test]
fn the_fused_head_equals_plain_logits_in_loss_and_gradients() {
    for dtype in FLOATS {
        let (rows, width, vocab) = (150, 24, 70);
        let (x, w) = (random(&[rows, width], 0, dtype), random(&[vocab, width], 1, dtype));
        let targets = some_labels(rows, vocab);
        let (xs, ws) = (f64s(&x), f64s(&w));
        let logits =
            product((rows, width, vocab), |i, l| xs[i * width + l], |l, j| ws[j * width + l]);
        let (expected, dz) = reference(&logits, &targets, 0.125);
        let dx = product((rows, vocab, width), |i, l| dz[i * vocab + l], |l, j| ws[l * width + j]);
        let dw = product((vocab, rows, width), |i, l| dz[l * vocab + i], |l, j| xs[l * width + j]);
        // In bf16 the gradient of the logits is rounded on its way into the products.
        let tolerance = if dtype == DType::F32 { 1e-5 } else { 1.0 / 64.0 };
        for x in views(&x) {
            let targets = labels(&targets);
            let loss = head_loss(&x, &w, &targets, 0.125).unwrap();
            assert_close(&loss, &[expected], 1e-6);
            let mut sum = RawTensor::zeros((vocab, width), DType::F32, device()).unwrap();
            slimpipe_ops::elementwise::fill(&mut sum, f32::NAN).unwrap();
            let (loss, gradient) =
                head_loss_grad(&x, &w, &targets, 0.125, Some((&mut sum, true))).unwrap();
            assert_close(&loss, &[expected], 1e-6);
            assert_close(&gradient, &dx, tolerance);
            assert_close(&sum, &dw, tolerance);
            head_loss_grad(&x, &w, &targets, 0.125, Some((&mut sum, false))).unwrap();
            let twice: Vec<f64> = dw.iter().map(|dw| 2.0 * dw).collect();
            assert_close(&sum, &twice, tolerance);
        }
    }
}

#[test]
fn no_more_than_one_block_of_logits_is_ever_held() {
    let (rows, width, vocab) = (3000, 8, 4096);
    for dtype in FLOATS {
        let (x, w) = (random(&[rows, width], 0, dtype), random(&[vocab, width], 1, dtype));
        let targets = some_labels(rows, vocab);
        let xs = f64s(&x);
        let ws = f64s(&w);
        let memory = crate::memory(Memory::builder(0)).build();
        let _entered = memory.enter();
        let targets_tensor = labels(&targets);
        let (loss, dx) = head_loss_grad(&x, &w, &targets_tensor, 1.0, None).unwrap();
        let block = (8u64 << 20) * if dtype == DType::F32 { 2 } else { 3 } / 2;
        let kept = (dx.bytes() + targets_tensor.bytes()) as u64;
        let peak = memory.stats().total.active.peak;
        assert!(peak <= block + kept + 4096, "{peak} bytes at the peak");
        assert!((block as usize) < rows * vocab * 4 / 2, "the test must need several blocks");
        // The blocks add up: compare with the losses of single rows.
        let mut expected = 0.0;
        for (x, &label) in xs.chunks(width).zip(&targets) {
            let z = product((1, width, vocab), |_, l| x[l], |l, j| ws[j * width + l]);
            expected += reference(&z, &[label], 1.0).0;
        }
        assert_close(&loss, &[expected], 1e-5);
    }
}

#[test]
fn rows_that_are_all_ignored_give_zero_loss_and_gradient() {
    let (x, w) = (random(&[4, 3], 0, DType::F32), random(&[5, 3], 1, DType::F32));
    let mut sum = tensor(&[7.0; 15], &[5, 3]);
    let (loss, dx) =
        head_loss_grad(&x, &w, &labels(&[IGNORE; 4]), 1.0, Some((&mut sum, true))).unwrap();
    assert_eq!((f64s(&loss), f64s(&dx), f64s(&sum)), (vec![0.0], vec![0.0; 12], vec![0.0; 15]));
}

#[test]
fn no_rows_give_zero_loss_and_an_emptied_gradient() {
    let x = RawTensor::zeros((0, 3), DType::F32, device()).unwrap();
    let w = random(&[5, 3], 1, DType::F32);
    let mut sum = tensor(&[7.0; 15], &[5, 3]);
    let (loss, dx) = head_loss_grad(&x, &w, &labels(&[]), 1.0, Some((&mut sum, true))).unwrap();
    assert_eq!((f64s(&loss), dx.dims(), f64s(&sum)), (vec![0.0], &[0, 3][..], vec![0.0; 15]));
    let logits = RawTensor::zeros((0, 5), DType::F32, device()).unwrap();
    assert_eq!(f64s(&cross_entropy(&logits, &labels(&[]), 1.0).unwrap().0), [0.0]);
}

#[test]
fn labels_and_shapes_that_do_not_fit_are_named_before_anything_is_written() {
    let (x, w) = (random(&[2, 3], 0, DType::F32), random(&[5, 3], 1, DType::F32));
    let mut sum = tensor(&[7.0; 15], &[5, 3]);
    let beyond = head_loss_grad(&x, &w, &labels(&[1, 5]), 1.0, Some((&mut sum, true)));
    if device() == Device::Cpu {
        assert_eq!(error(beyond), "head_loss: label 5 in a vocabulary of 5");
        assert_eq!(f64s(&sum), [7.0; 15]);
    } else {
        assert!(f64s(&beyond.unwrap().0)[0].is_nan(), "no GPU waits to look at labels");
    }
    assert_eq!(
        error(head_loss(&x, &w, &labels(&[1]), 1.0)),
        "head_loss: 2 rows need 2 labels of dtype i64, got [1] of i64"
    );
    let narrow = random(&[5, 4], 1, DType::F32);
    assert_eq!(
        error(head_loss(&x, &narrow, &labels(&[1, 1]), 1.0)),
        "head_loss: rows of 3 under a weight [5, 4]"
    );
    assert_eq!(
        error(cross_entropy(&random(&[1, 5], 0, DType::BF16), &labels(&[1]), 1.0)),
        "cross_entropy: expected dtype f32, got bf16; convert with to_dtype first"
    );
    let beyond = cross_entropy(&random(&[1, 5], 0, DType::F32), &labels(&[-1]), 1.0);
    if device() == Device::Cpu {
        assert_eq!(error(beyond), "cross_entropy: label -1 in a vocabulary of 5");
    } else {
        assert!(f64s(&beyond.unwrap().0)[0].is_nan());
    }
}
