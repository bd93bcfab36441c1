//! SwiGLU and its backward.

use super::simd::{Scalar, multiversion, sigmoid};
use super::threads::Threads;

/// Elements per task.
const TASK: usize = 1 << 14;

multiversion! {
    fn forward_block<T: Scalar>(gate: &[T], up: &[T], out: &mut [T]) {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            let g = gate.to_f32();
            *out = T::from_f32(g * sigmoid::<FUSED>(g) * up.to_f32());
        }
    }
}

multiversion! {
    fn backward_block<T: Scalar>(gate: &[T], up: &[T], dout: &[T], dgate: &mut [T], dup: &mut [T]) {
        let inputs = gate.iter().zip(up).zip(dout);
        for (((gate, up), d), (dgate, dup)) in inputs.zip(dgate.iter_mut().zip(dup)) {
            let (g, u, d) = (gate.to_f32(), up.to_f32(), d.to_f32());
            let s = sigmoid::<FUSED>(g);
            *dup = T::from_f32(d * g * s);
            *dgate = T::from_f32(d * u * s * (1.0 + g * (1.0 - s)));
        }
    }
}

/// `out = silu(gate) * up`.
///
/// # Panics
/// Sizes that differ.
pub fn forward<T: Scalar>(threads: &Threads, gate: &[T], up: &[T], out: &mut [T]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gate, up and out differ in size");
    threads.chunks(out, TASK, |i, out| {
        let span = i * TASK..i * TASK + out.len();
        forward_block(&gate[span.clone()], &up[span], out);
    });
}

/// The gradients of gate and up.
///
/// # Panics
/// Sizes that differ.
pub fn backward<T: Scalar>(
    threads: &Threads,
    gate: &[T],
    up: &[T],
    dout: &[T],
    dgate: &mut [T],
    dup: &mut [T],
) {
    assert!(
        gate.len() == up.len() && gate.len() == dout.len() && gate.len() == dgate.len(),
        "sizes differ"
    );
    threads.chunks2((dgate, TASK), (dup, TASK), |i, dgate, dup| {
        let span = i * TASK..i * TASK + dgate.len();
        backward_block(&gate[span.clone()], &up[span.clone()], &dout[span], dgate, dup);
    });
}
