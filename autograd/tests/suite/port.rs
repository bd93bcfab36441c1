//! Attention that someone else computes a part of.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slimpipe_autograd::{
    AttentionCall, AttentionPort, AttentionResult, Error, KvCache, Parameter, Result, Tensor,
};
use slimpipe_ops::attention::{Chunk, ChunkGrad, GradRows, attend, attend_backward, merge};
use slimpipe_ops::elementwise::add_reusing;
use slimpipe_runtime::{DType, RawTensor};

use super::util::{device, distance, grad, parameter};

/// Attends to the first chunk apart from the others.
#[derive(Default)]
struct Apart {
    calls: AtomicUsize,
}

impl AttentionPort for Apart {
    fn forward(&self, call: &AttentionCall<'_>) -> Result<(RawTensor, RawTensor)> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let AttentionCall { q, chunks, scale, offset } = *call;
        let own = chunks.len().min(2) - 1;
        let (mut out, mut lse) = attend(q, &chunks[own..], scale, offset)?;
        if own > 0 {
            let (part, part_lse) = attend(q, &chunks[..own], scale, offset)?;
            merge(&mut out, &mut lse, &part, &part_lse)?;
        }
        Ok((out, lse))
    }

    fn backward(
        &self,
        call: &AttentionCall<'_>,
        result: &AttentionResult<'_>,
        grads: &mut [GradRows<'_>],
    ) -> Result<RawTensor> {
        let AttentionCall { q, chunks, scale, offset } = *call;
        let AttentionResult { out, lse, grad } = *result;
        let own = chunks.len().min(2) - 1;
        let (far, near) = grads.split_at_mut(own);
        let dq = attend_backward(q, &chunks[own..], out, lse, grad, scale, offset, near)?;
        let [first] = far else { return Ok(dq) };
        let zeros = |x: &RawTensor| RawTensor::zeros(*x.shape(), DType::F32, device());
        let Chunk { k, v, .. } = chunks[0];
        let mut part = ChunkGrad { dk: zeros(k)?, dv: zeros(v)? };
        let rows = &mut [GradRows::all(&mut part)];
        let far_dq = attend_backward(q, &chunks[..own], out, lse, grad, scale, offset, rows)?;
        first.add(&part.dk, &part.dv)?;
        Ok(add_reusing(dq, far_dq)?)
    }
}

/// Attends with three slices, and runs backward; gives outputs and gradients.
fn run(mut cache: KvCache) -> Vec<Vec<f32>> {
    let inputs: Vec<[Parameter; 3]> = (0..3)
        .map(|slice| {
            [("q", 4), ("k", 2), ("v", 2)].map(|(name, heads)| {
                parameter(&format!("{name}{slice}"), (5, heads, 6), DType::F32)
            })
        })
        .collect();
    let mut losses = Vec::new();
    let mut results = Vec::new();
    for inputs in &inputs {
        let [q, k, v] = inputs.each_ref().map(Parameter::tensor);
        let out = q.attend(&k, &v, &mut cache, 0.4).unwrap();
        results.push(out.raw().to_vec::<f32>().unwrap());
        losses.push(out.mul(&out).unwrap().sum().unwrap());
    }
    losses.iter().rev().for_each(|loss| loss.backward().unwrap());
    results.extend(inputs.iter().flatten().map(grad));
    results
}

#[test]
fn a_port_that_attends_in_parts_gives_the_same_outputs_and_gradients() {
    let port = Arc::new(Apart::default());
    let (apart, whole) = (run(KvCache::with_port(port.clone())), run(KvCache::new()));
    assert_eq!(port.calls.load(Ordering::Relaxed), 3);
    for (apart, whole) in apart.iter().zip(&whole) {
        assert!(distance(apart, whole) <= 1e-6);
    }
}

struct Refusing;

impl AttentionPort for Refusing {
    fn forward(&self, _: &AttentionCall<'_>) -> Result<(RawTensor, RawTensor)> {
        Err(Error::Port("nobody answers".into()))
    }

    fn backward(
        &self,
        _: &AttentionCall<'_>,
        _: &AttentionResult<'_>,
        _: &mut [GradRows<'_>],
    ) -> Result<RawTensor> {
        Err(Error::Port("nobody answers".into()))
    }
}

#[test]
fn what_a_port_meets_is_told_and_the_cache_stays_as_it_was() {
    let mut cache = KvCache::with_port(Arc::new(Refusing));
    let x = Tensor::new(&[1f32; 8], (2, 1, 4), device()).unwrap();
    let error = x.attend(&x, &x, &mut cache, 1.0).unwrap_err();
    assert_eq!(error.to_string(), "nobody answers");
    assert_eq!(cache.slices(), 0);
}

#[test]
fn a_cache_gives_what_was_written_and_forgets_what_it_is_told_to() {
    let mut cache = KvCache::new();
    let x = |value| Tensor::new(&[value; 8], (2, 1, 4), device()).unwrap();
    for value in [1f32, 2.0] {
        x(value).attend(&x(value), &x(-value), &mut cache, 1.0).unwrap();
    }
    let values = |(k, v): (&RawTensor, &RawTensor)| {
        (k.to_vec::<f32>().unwrap()[0], v.to_vec::<f32>().unwrap()[0])
    };
    assert_eq!(cache.slice(1).map(values), Some((2.0, -2.0)));
    cache.truncate(1);
    assert_eq!((cache.slices(), cache.slice(1).is_none(), cache.tokens()), (1, true, 2));
}
