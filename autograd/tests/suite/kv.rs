//! Attention of a sequence cut in slices, and gradients that cross from slice to slice.

use std::sync::Arc;

use slimpipe_allocator::{Memory, Region};
use slimpipe_autograd::{
    KvCache, Parameter, Result, RopeTable, TapeEnd, Tensor, backward, no_grad,
};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{device, distance, error, grad, parameter, random};

const ROWS: usize = 24;
const LAYERS: usize = 2;

struct Layer {
    q: Parameter,
    k: Parameter,
    v: Parameter,
    o: Parameter,
}

struct Model {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    layers: Vec<Layer>,
    dtype: DType,
}

impl Model {
    fn new(heads: usize, kv_heads: usize, dim: usize, dtype: DType) -> Self {
        let width = heads * dim;
        let layer = |layer: usize| {
            let make = |name: &str, rows: usize, columns: usize| {
                parameter(&format!("{layer}.{name}"), (rows, columns), dtype)
            };
            Layer {
                q: make("q", width, width),
                k: make("k", kv_heads * dim, width),
                v: make("v", kv_heads * dim, width),
                o: make("o", width, width),
            }
        };
        Self { heads, kv_heads, dim, layers: (0..LAYERS).map(layer).collect(), dtype }
    }

    fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.layers.iter().flat_map(|layer| [&layer.q, &layer.k, &layer.v, &layer.o])
    }

    /// Two layers of attention with residuals.
    fn forward(
        &self,
        x: &Tensor,
        caches: &mut [KvCache],
        table: &Arc<RopeTable>,
    ) -> Result<Tensor> {
        let rows = x.dims()[0];
        let mut x = x.clone();
        for (layer, cache) in self.layers.iter().zip(caches) {
            let offset = cache.tokens();
            let heads = |x: Tensor, heads: usize| x.reshape((rows, heads, self.dim));
            let k = heads(x.linear(&layer.k.tensor())?, self.kv_heads)?.rope_into(table, offset)?;
            let v = heads(x.linear(&layer.v.tensor())?, self.kv_heads)?;
            let q = heads(x.linear(&layer.q.tensor())?, self.heads)?.rope_into(table, offset)?;
            let out = q.attend(&k, &v, cache, 1.0 / (self.dim as f32).sqrt())?;
            let out = out.reshape((rows, self.heads * self.dim))?.linear(&layer.o.tensor())?;
            x = out.add_into(&x)?;
        }
        Ok(x)
    }

    /// Runs the sequence in `slices` slices forward, then backward in reverse order. Gives outputs,
    /// the gradient of the input, and those of the parameters.
    fn run(&self, slices: usize) -> (Vec<f32>, Vec<f32>, Vec<Vec<f32>>) {
        let (len, width) = (ROWS / slices, self.heads * self.dim);
        let to = |x: Tensor| x.to_dtype(self.dtype).unwrap();
        let (x, dy) = (to(random([ROWS, width], 1)), to(random([ROWS, width], 2)));
        let table = Arc::new(RopeTable::new(frequencies(self.dim), len, device()).unwrap());
        let mut caches: Vec<KvCache> = (0..LAYERS).map(|_| KvCache::new()).collect();
        let (mut live, mut outputs): (Vec<(TapeEnd, TapeEnd)>, Vec<f32>) = (Vec::new(), Vec::new());
        for slice in 0..slices {
            let x = Tensor::leaf(x.narrow(0, slice * len, len).unwrap().raw().clone());
            let y = self.forward(&x, &mut caches, &table).unwrap();
            outputs.extend(floats(y.raw()));
            live.push((y.tape_end().unwrap(), x.tape_end().unwrap()));
        }
        assert!(caches.iter().all(|cache| cache.slices() == slices && cache.tokens() == ROWS));
        drop(caches);
        let mut dx = Vec::new();
        for (slice, (root, leaf)) in live.into_iter().enumerate().rev() {
            let dy = dy.narrow(0, slice * len, len).unwrap().raw().clone();
            let part = backward(root, dy, Some(&leaf)).unwrap().unwrap();
            dx.splice(0..0, floats(&part));
        }
        let gradients = self.parameters().map(grad).collect();
        self.parameters().for_each(Parameter::zero_grad);
        (outputs, dx, gradients)
    }
}

fn frequencies(dim: usize) -> Vec<f64> {
    (0..dim / 2).map(|j| 100f64.powf(-(j as f64) / (dim / 2) as f64)).collect()
}

fn floats(x: &RawTensor) -> Vec<f32> {
    slimpipe_ops::cast::cast(x, DType::F32).unwrap().to_vec::<f32>().unwrap()
}

fn sliced_equals_whole(dtype: DType, tolerance: f64) {
    for (heads, kv_heads) in [(2, 2), (4, 2), (4, 1)] {
        let model = Model::new(heads, kv_heads, 6, dtype);
        let (out, dx, gradients) = model.run(1);
        for slices in [2, 3, 4] {
            let (sliced_out, sliced_dx, sliced) = model.run(slices);
            assert!(distance(&sliced_out, &out) <= tolerance, "outputs, {slices} slices");
            let apart = distance(&sliced_dx, &dx);
            assert!(apart <= tolerance, "input gradient, {slices} slices: {apart:e}");
            for ((parameter, sliced), whole) in model.parameters().zip(&sliced).zip(&gradients) {
                let apart = distance(sliced, whole);
                assert!(apart <= tolerance, "{parameter:?}, {slices} slices: {apart:e}");
            }
        }
    }
}

#[test]
fn slices_give_the_outputs_and_gradients_of_the_whole_sequence() {
    sliced_equals_whole(DType::F32, 1e-5);
}

#[test]
fn slices_of_a_bf16_model_agree_within_its_precision() {
    // Two layers of roundings of 2^-9 each, in another order.
    sliced_equals_whole(DType::BF16, 4e-2);
}

#[test]
fn backward_out_of_order_is_refused() {
    let q = |stream| parameter(&format!("{stream}"), (4, 2, 4), DType::F32);
    let (first, second) = (q(1), q(2));
    let mut cache = KvCache::new();
    let mut attend = |x: &Parameter| {
        let x = x.tensor();
        x.attend(&x, &x, &mut cache, 1.0).unwrap().sum().unwrap()
    };
    let (first, second) = (attend(&first), attend(&second));
    let refused = error(first.backward());
    assert!(refused.starts_with("backward of slice 0 before that of slice 1"), "{refused}");
    second.backward().unwrap();
}

#[test]
fn slices_made_under_no_grad_are_a_prefix_without_a_backward() {
    let x = |stream: u64| parameter(&format!("{stream}"), (4, 2, 4), DType::F32);
    let (prompt, first, second) = (x(1), x(2), x(3));
    let mut cache = KvCache::new();
    let mut attend = |x: &Parameter| {
        let x = x.tensor();
        x.attend(&x, &x, &mut cache, 1.0)
    };
    {
        let _quiet = no_grad();
        attend(&prompt).unwrap();
    }
    let (a, b) = (attend(&first).unwrap(), attend(&second).unwrap());
    b.sum().unwrap().backward().unwrap();
    a.sum().unwrap().backward().unwrap();
    assert!(prompt.grad_to_vec().unwrap().is_none());
    assert!(grad(&first).iter().all(|x| x.is_finite()));
}

#[test]
fn an_attention_that_fails_leaves_the_cache_as_it_was() {
    let mut cache = KvCache::new();
    let (q, odd) = (random([4, 2, 6], 1), random([4, 2, 4], 2));
    assert!(q.attend(&odd, &odd, &mut cache, 1.0).is_err());
    assert_eq!((cache.slices(), cache.tokens()), (0, 0));
    q.attend(&q, &q, &mut cache, 1.0).unwrap();
    assert_eq!((cache.slices(), cache.tokens()), (1, 4));
}

#[test]
fn accumulators_live_from_the_last_slices_backward_to_their_own() {
    let memory = crate::memory(Memory::builder(0)).build();
    let _entered = memory.enter();
    let slices: Vec<Parameter> =
        (0..3).map(|i| parameter(&format!("{i}"), (4, 2, 8), DType::F32)).collect();
    slices.iter().for_each(|slice| slice.allocate_grad().unwrap());
    let mut cache = KvCache::new();
    let mut losses = Vec::new();
    for slice in &slices {
        let x = slice.tensor();
        losses.push(x.attend(&x, &x, &mut cache, 1.0).unwrap().sum().unwrap());
    }
    let live = || memory.stats().region(Region::KvGrad).requested.current;
    let chunk = 2 * 4 * 2 * 8 * 4; // dK and dV in f32
    assert_eq!(live(), 0);
    for (slice, loss) in losses.iter().enumerate().rev() {
        loss.backward().unwrap();
        assert_eq!(live(), slice as u64 * chunk, "after slice {slice}");
    }
}
