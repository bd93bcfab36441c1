//! One AdamW step on one parameter.

use half::bf16;

use super::simd::{Scalar, multiversion};
use super::threads::Threads;

/// The settings of a step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Number of this step, from 1.
    pub step: u64,
}

impl AdamW {
    /// The learning rate over the first moment's bias correction, and the root of the second moment's.
    pub(crate) fn corrected(&self) -> (f32, f32) {
        let step = self.step.min(1 << 30) as i32;
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(step);
        let rate = f64::from(self.lr) / correction(self.beta1);
        (rate as f32, correction(self.beta2).sqrt() as f32)
    }
}

/// Elements per task.
const TASK: usize = 1 << 14;

multiversion! {
    fn block(settings: AdamW, weight: &mut [f32], grad: &[f32], grad_scale: f32, m: &mut [f32], v: &mut [f32]) {
        let AdamW { lr, beta1, beta2, eps, weight_decay, .. } = settings;
        let (rate, root) = settings.corrected();
        let decay = 1.0 - lr * weight_decay;
        let moments = m.iter_mut().zip(v);
        for ((w, &g), (m, v)) in weight.iter_mut().zip(grad).zip(moments) {
            let g = g * grad_scale;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w = *w * decay - rate * *m / (v.sqrt() / root + eps);
        }
    }
}

multiversion! {
    fn round(from: &[f32], to: &mut [bf16]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = <bf16 as Scalar>::from_f32(from);
        }
    }
}

/// Updates `weight` and its moments from `grad * grad_scale`; `model_weight` gets the rounded result.
///
/// # Panics
/// Sizes that differ.
#[allow(clippy::too_many_arguments)]
pub fn step(
    threads: &Threads,
    settings: AdamW,
    weight: &mut [f32],
    model_weight: Option<&mut [bf16]>,
    grad: &[f32],
    grad_scale: f32,
    m: &mut [f32],
    v: &mut [f32],
) {
    let len = weight.len();
    assert!(
        grad.len() == len && m.len() == len && v.len() == len,
        "weight, gradient and moments differ in size"
    );
    let shared = super::threads::Shared(weight.as_mut_ptr());
    threads.chunks2((m, TASK), (v, TASK), |i, m, v| {
        // SAFETY: chunk `i` of the weight, as of the moments, is this task's alone.
        let weight = unsafe { shared.part(i * TASK, m.len()) };
        block(settings, weight, &grad[i * TASK..][..m.len()], grad_scale, m, v);
    });
    if let Some(low) = model_weight {
        let weight = &*weight;
        threads.chunks(low, TASK, |i, low| round(&weight[i * TASK..][..low.len()], low));
    }
}
