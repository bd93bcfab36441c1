//! The fused halves of a SwiGLU MLP.

use half::bf16;
use proptest::prelude::*;
use slimpipe_kernels::cuda::gemm::Matrices;
use slimpipe_kernels::cuda::{DevicePtr, mlp_swiglu};

use crate::figures::{FORWARD, GRADIENT, assert_within};
use crate::gpu::{Gpu, Random, gpu};
use crate::reference::sigmoid;

#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    /// The weights are [k, n] in memory instead of [n, k].
    turned: bool,
    /// What forward saves, or backward makes again.
    more: bool,
}

/// A product's operands and the weights' strides.
impl Case {
    fn x(&self, at: DevicePtr) -> Matrices<'static> {
        Matrices { at, row_stride: self.k, column_stride: 1, batch_strides: &[] }
    }

    fn weight(&self, at: DevicePtr) -> Matrices<'static> {
        let (row_stride, column_stride) = if self.turned { (self.n, 1) } else { (1, self.k) };
        Matrices { at, row_stride, column_stride, batch_strides: &[] }
    }

    /// The product of `x` and a weight.
    fn product(&self, x: &[bf16], weight: &[bf16]) -> Vec<f64> {
        let Self { m, n, k, turned, .. } = *self;
        let of = |i: usize| {
            let (row, column) = (i / n, i % n);
            let weight = |j: usize| weight[if turned { j * n + column } else { column * k + j }];
            (0..k).map(|j| x[row * k + j].to_f64() * weight(j).to_f64()).sum()
        };
        (0..m * n).map(of).collect()
    }

    fn check_forward(&self, gpu: &Gpu) {
        let Self { m, n, k, more, .. } = *self;
        let mut random = Random::new(3);
        let (x, gate, up) = (random.bf16(m * k), random.bf16(n * k), random.bf16(n * k));
        let got = gpu.under_every_schedule(|| {
            let [x, gate, up] = [&x, &gate, &up].map(|values| gpu.upload(values));
            let outs = [(); 3].map(|()| gpu.memory(2 * m * n));
            let saved = more.then_some((outs[1].at, outs[2].at));
            let (gate, up, sizes) = (self.weight(gate.at), self.weight(up.at), (m, n, k));
            let (stream, out) = (&gpu.stream, outs[0].at);
            // SAFETY: all lies in memory that was allocated for it.
            unsafe { mlp_swiglu::forward(stream, self.x(x.at), gate, up, sizes, out, saved) }
                .unwrap();
            gpu.wait();
            outs[..if more { 3 } else { 1 }]
                .iter()
                .map(|out| out.read::<bf16>())
                .collect::<Vec<_>>()
        });
        let (gate, up) = (self.product(&x, &gate), self.product(&x, &up));
        let out = gate.iter().zip(&up).map(|(g, u)| g * sigmoid(*g) * u).collect();
        for (got, reference) in got.iter().zip([out, gate, up]) {
            assert_within("an MLP's hidden layer", got, &reference, FORWARD, self);
        }
    }

    fn check_backward(&self, gpu: &Gpu) {
        let Self { m, n, k, more, .. } = *self;
        let mut random = Random::new(4);
        let (dy, weight) = (random.bf16(m * k), random.bf16(n * k));
        let (gate, up) = (random.bf16(m * n), random.bf16(m * n));
        let got = gpu.under_every_schedule(|| {
            let [dy, weight, gate, up] =
                [&dy, &weight, &gate, &up].map(|values| gpu.upload(values));
            let [dgate, dup, hidden] = [(); 3].map(|()| gpu.memory(2 * m * n));
            let (a, b, sizes) = (self.x(dy.at), self.weight(weight.at), (m, n, k));
            let (out, extra) = ((dgate.at, dup.at), more.then_some(hidden.at));
            let stream = &gpu.stream;
            // SAFETY: all lies in memory that was allocated for it.
            unsafe { mlp_swiglu::backward(stream, a, b, sizes, (gate.at, up.at), out, extra) }
                .unwrap();
            gpu.wait();
            let outs = [dgate, dup, hidden];
            outs[..if more { 3 } else { 2 }]
                .iter()
                .map(|out| out.read::<bf16>())
                .collect::<Vec<_>>()
        });
        let dh = self.product(&dy, &weight);
        let mut reference = [vec![], vec![], vec![]];
        for ((d, g), u) in dh.iter().zip(&gate).zip(&up) {
            let (g, u) = (g.to_f64(), u.to_f64());
            let s = sigmoid(g);
            let values = [d * u * s * (1.0 + g * (1.0 - s)), d * g * s, g * s * u];
            reference.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
        }
        for (got, reference) in got.iter().zip(reference) {
            assert_within("an MLP's gradients", got, &reference, GRADIENT, self);
        }
    }
}

const RAGGED: Case = Case { m: 200, n: 264, k: 136, turned: false, more: true };

#[test]
fn the_hidden_layer_is_right() {
    let Some(gpu) = gpu() else { return };
    RAGGED.check_forward(gpu);
    Case { turned: true, more: false, ..RAGGED }.check_forward(gpu);
}

#[test]
fn the_gradients_of_gate_and_up_are_right() {
    let Some(gpu) = gpu() else { return };
    RAGGED.check_backward(gpu);
    Case { turned: true, more: false, ..RAGGED }.check_backward(gpu);
}

#[test]
fn a_block_computes_many_tiles_of_a_hidden_layer_one_after_the_other() {
    let Some(gpu) = gpu() else { return };
    let case = Case { m: 300, n: 520, k: 64, turned: true, more: true };
    case.check_forward(gpu);
    case.check_backward(gpu);
}

#[test]
fn what_cannot_be_read_is_refused_with_a_reason() {
    let Some(gpu) = gpu() else { return };
    let case = Case { m: 8, n: 12, k: 16, ..RAGGED };
    let memory = gpu.memory(4096);
    let (x, weight) = (case.x(memory.at), case.weight(memory.at));
    assert!(!mlp_swiglu::fits(x, weight, (8, 12, 16)) && mlp_swiglu::fits(x, weight, (8, 16, 16)));
    let (stream, out) = (&gpu.stream, memory.at);
    // SAFETY: nothing is launched.
    let refused = unsafe { mlp_swiglu::forward(stream, x, weight, weight, (8, 12, 16), out, None) };
    let text = refused.unwrap_err().to_string();
    assert_eq!(text, "mlp_swiglu_fwd: a hidden layer of 12; it must be a multiple of 8");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn hidden_layers_of_any_size_are_right(
        (m, n, k) in (1usize..200, 1usize..40, 1usize..20),
        (turned, more) in any::<(bool, bool)>(),
    ) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let case = Case { m, n: 8 * n, k: 8 * k, turned, more };
        case.check_forward(gpu);
        case.check_backward(gpu);
    }
}
