//! Regions that keep their inputs only and run again in backward.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slimpipe_allocator::Memory;
use slimpipe_autograd::recompute::Outputs;
use slimpipe_autograd::{
    AttentionCall, AttentionPort, AttentionResult, Error, GradCheck, KvCache, Parameter, Result,
    Tensor, backward_input, no_grad, recompute,
};
use slimpipe_ops::attention::{GradRows, attend, attend_backward};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{device, error, grad, parameter, random};

const ROWS: usize = 40;
const WIDTH: usize = 16;
const INNER: usize = 64;

/// How often regions ran.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// A gated MLP with a residual, whose inner part may be a region.
#[derive(Clone)]
struct Mlp {
    norm: Parameter,
    gate: Parameter,
    up: Parameter,
    down: Parameter,
    runs: Runs,
}

impl Mlp {
    fn new(dtype: DType) -> Self {
        Self {
            norm: parameter("norm", WIDTH, dtype),
            gate: parameter("gate", (INNER, WIDTH), dtype),
            up: parameter("up", (INNER, WIDTH), dtype),
            down: parameter("down", (WIDTH, INNER), dtype),
            runs: Runs::default(),
        }
    }

    fn parameters(&self) -> [&Parameter; 4] {
        [&self.norm, &self.gate, &self.up, &self.down]
    }

    fn inner(&self, x: &Tensor) -> Result<Tensor> {
        self.runs.0.fetch_add(1, Ordering::Relaxed);
        let y = x.rms_norm(&self.norm.tensor(), 1e-5)?;
        let gate = y.linear(&self.gate.tensor())?;
        gate.swiglu(&y.linear(&self.up.tensor())?)
    }

    fn forward(&self, x: &Tensor, again: bool) -> Result<Tensor> {
        let inner = if again {
            let mlp = self.clone();
            recompute([x.clone()], move |[x]| mlp.inner(&x))?
        } else {
            self.inner(x)?
        };
        inner.linear(&self.down.tensor())?.add_into(x)
    }
}

/// Output, gradients, and the bytes held between forward and backward.
fn run(dtype: DType, layers: usize, again: bool, split: bool) -> (Vec<Vec<f32>>, u64) {
    let memory = crate::memory(Memory::builder(0)).build();
    let _entered = memory.enter();
    let mlp = Mlp::new(dtype);
    let x = parameter("x", (ROWS, WIDTH), dtype);
    let all = || mlp.parameters().into_iter().chain([&x]);
    all().for_each(|parameter| parameter.allocate_grad().unwrap());
    let live = || memory.stats().total.requested.current;
    let before = live();
    let mut out = x.tensor();
    for _ in 0..layers {
        out = mlp.forward(&out, again).unwrap();
    }
    let values = out.to_dtype(DType::F32).unwrap().to_vec::<f32>().unwrap();
    let root = out.tape_end().unwrap();
    drop(out);
    let held = live() - before;
    let dy = random([ROWS, WIDTH], 1).to_dtype(dtype).unwrap().raw().clone();
    if split {
        backward_input(root, dy, None).unwrap().1.run().unwrap();
    } else {
        slimpipe_autograd::backward(root, dy, None).unwrap();
    }
    assert_eq!(mlp.runs.take(), if again { 2 * layers } else { layers });
    assert_eq!(live(), before, "everything is given back");
    (all().map(grad).chain([values]).collect(), held)
}

#[test]
fn gradients_are_the_same_bit_for_bit_and_only_inputs_are_kept() {
    for dtype in [DType::F32, DType::BF16] {
        for layers in [1, 3] {
            let (whole, _) = run(dtype, layers, false, false);
            let (again, held) = run(dtype, layers, true, false);
            assert_eq!(again, whole, "{dtype}, {layers} layers");
            // The first layer's input is the parameter.
            let inputs = (layers - 1) * ROWS * WIDTH * dtype.size();
            assert_eq!(held, inputs as u64, "{dtype}, {layers} layers");
        }
    }
}

#[test]
fn a_backward_in_two_parts_runs_regions_once_more_too() {
    let (whole, _) = run(DType::F32, 2, false, true);
    assert_eq!(run(DType::F32, 2, true, true).0, whole);
}

#[test]
fn a_region_passes_the_gradient_check() {
    let inputs = [random([5, 6], 1), random([4, 6], 2), random([4], 3)];
    let body = |[x, w, y]: [Tensor; 3]| x.linear(&w)?.silu()?.mul(&y);
    GradCheck::default()
        .run(&inputs, |x| recompute([0, 1, 2].map(|i| x[i].clone()), body)?.tanh())
        .unwrap();
}

#[test]
fn outputs_may_be_several_and_some_of_no_use() {
    let (a, b) = (parameter("a", (3, 4), DType::F32), parameter("b", (3, 4), DType::F32));
    let body = |[a, b]: [Tensor; 2]| Ok([a.mul(&b)?, a.add(&b)?, a.silu()?]);
    let loss = |[product, sum, _]: [Tensor; 3]| product.mul(&sum)?.sum();
    let run = |again: bool| {
        let inputs = [a.tensor(), b.tensor()];
        let outputs = if again { recompute(inputs, body) } else { body(inputs) }.unwrap();
        loss(outputs).unwrap().backward().unwrap();
        let gradients = [grad(&a), grad(&b)];
        [&a, &b].into_iter().for_each(Parameter::zero_grad);
        gradients
    };
    assert_eq!(run(true), run(false));
    // As many as the region says when it runs.
    let many = recompute([a.tensor()], |[x]| Ok(vec![x; 5])).unwrap();
    assert_eq!(many.len(), 5);
    many[4].sum().unwrap().backward().unwrap();
    assert_eq!(grad(&a), [1.0; 12]);
}

#[test]
fn regions_nest() {
    let (x, runs) = (parameter("x", (3, 4), DType::F32), Runs::default());
    let count = runs.clone();
    let y = recompute([x.tensor()], move |[outer]| {
        let count = count.clone();
        recompute([outer.silu()?], move |[inner]| {
            count.0.fetch_add(1, Ordering::Relaxed);
            inner.tanh()
        })
    });
    y.unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(runs.take(), 3); // once each: forward, the outer region again, the inner one again
    let again = grad(&x);
    x.zero_grad();
    x.tensor().silu().unwrap().tanh().unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(again, grad(&x));
}

#[test]
fn nothing_is_kept_under_no_grad() {
    let memory = crate::memory(Memory::builder(0)).build();
    let _entered = memory.enter();
    let x = parameter("x", (3, 4), DType::F32);
    let _quiet = no_grad();
    let y = recompute([x.tensor()], |[x]| x.silu()?.tanh()).unwrap();
    assert!(!y.requires_grad());
    assert_eq!(memory.stats().total.requested.current, 2 * 4 * 12);
}

#[test]
fn a_region_that_fails_or_was_used_up_says_so() {
    let (x, runs) = (parameter("x", (3, 4), DType::F32), Runs::default());
    let body = move |[x]: [Tensor; 1]| match runs.0.fetch_add(1, Ordering::Relaxed) {
        0 => x.silu(),
        _ => Err(Error::Custom { op: "body", what: "only once".to_owned() }),
    };
    let y = recompute([x.tensor()], body).unwrap().sum().unwrap();
    assert_eq!(error(y.backward()), "custom op `body`: only once");
    let y = recompute([x.tensor()], |[x]| x.silu()).unwrap();
    let (one, two) = (y.sum().unwrap(), y.sum().unwrap());
    one.backward().unwrap();
    let used_up = error(two.backward());
    assert!(used_up.starts_with("backward of `recompute`"), "{used_up}");
}

#[test]
fn a_long_chain_of_regions_is_dropped_without_deep_recursion() {
    let mut x = parameter("x", 1, DType::F32).tensor();
    for _ in 0..20_000 {
        x = recompute([x], |[x]| x.scale(0.5)).unwrap().scale(2.0).unwrap();
    }
    assert!(x.requires_grad());
}

/// Attends as it would be done without it, and counts.
#[derive(Default)]
struct Counting(AtomicUsize);

impl AttentionPort for Counting {
    fn forward(&self, call: &AttentionCall<'_>) -> Result<(RawTensor, RawTensor)> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(attend(call.q, call.chunks, call.scale, call.offset)?)
    }

    fn backward(
        &self,
        call: &AttentionCall<'_>,
        result: &AttentionResult<'_>,
        grads: &mut [GradRows<'_>],
    ) -> Result<RawTensor> {
        let AttentionCall { q, chunks, scale, offset } = *call;
        let AttentionResult { out, lse, grad } = *result;
        Ok(attend_backward(q, chunks, out, lse, grad, scale, offset, grads)?)
    }
}

/// Three slices of attention, whose queries are made in the region: outputs and gradients.
fn attention(again: bool, cache: &mut KvCache) -> Vec<Vec<f32>> {
    let [q, k, v] = ["q", "k", "v"].map(|name| parameter(name, (8, 8), DType::F32));
    let inputs: Vec<Parameter> =
        (0..3).map(|slice| parameter(&format!("{slice}"), (5, 8), DType::F32)).collect();
    let (mut results, mut losses) = (Vec::new(), Vec::new());
    for input in &inputs {
        let x = input.tensor();
        let heads = |x: Tensor| x.reshape((5, 2, 4));
        let [k, v] = [&k, &v].map(|w| heads(x.linear(&w.tensor()).unwrap()).unwrap());
        let (kv, weight) = (cache.write(&k, &v).unwrap(), q.clone());
        let body =
            move |[x]: [Tensor; 1]| heads(x.linear(&weight.tensor())?)?.attend_to(&kv, 0.4)?.tanh();
        let y = if again { recompute([x], body) } else { body([x]) }.unwrap();
        results.push(y.to_vec::<f32>().unwrap());
        losses.push(y.sum().unwrap());
    }
    losses.iter().rev().for_each(|loss| loss.backward().unwrap());
    results.extend([&q, &k, &v].into_iter().chain(&inputs).map(grad));
    results
}

#[test]
fn attention_made_again_reads_the_cache_and_appends_nothing() {
    let port = Arc::new(Counting::default());
    let (mut again, mut whole) = (KvCache::with_port(port.clone()), KvCache::new());
    assert_eq!(attention(true, &mut again), attention(false, &mut whole));
    assert_eq!((again.slices(), again.tokens()), (3, 15));
    assert_eq!(port.0.load(Ordering::Relaxed), 3, "the others take part in forward only");
}

#[test]
fn slices_with_regions_run_backward_in_reverse_order_only() {
    let mut cache = KvCache::new();
    let mut loss = |name: &str| {
        let x = parameter(name, (4, 2, 4), DType::F32).tensor();
        let kv = cache.write(&x, &x).unwrap();
        recompute([x], move |[x]| x.attend_to(&kv, 1.0)).unwrap().sum().unwrap()
    };
    let (first, second) = (loss("first"), loss("second"));
    let refused = error(first.backward());
    assert!(refused.starts_with("backward of slice 0 before that of slice 1"), "{refused}");
    second.backward().unwrap();
}

#[test]
fn a_region_that_writes_to_a_cache_is_refused() {
    let cache = parking_lot::Mutex::new(KvCache::new());
    let x = Tensor::new(&[1f32; 8], (2, 1, 4), device()).unwrap();
    let refused = error(recompute([x], move |[x]| x.attend(&x, &x, &mut cache.lock(), 1.0)));
    assert!(refused.contains("call KvCache::write before it"), "{refused}");
}

/// A user's own kind of result.
struct Pair {
    left: Tensor,
    right: Tensor,
}

impl Outputs for Pair {
    fn map(self, mut f: impl FnMut(Tensor) -> Tensor) -> Self {
        Self { left: f(self.left), right: f(self.right) }
    }
}

#[test]
fn results_of_a_users_own_kind_will_do() {
    let x = parameter("x", 4, DType::F32);
    let Pair { left, right } =
        recompute([x.tensor()], |[x]| Ok(Pair { left: x.scale(2.0)?, right: x.scale(3.0)? }))
            .unwrap();
    left.add(&right).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(grad(&x), [5.0; 4]);
}
