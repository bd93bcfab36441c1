//! Every differentiable operation against differences of itself.

use std::sync::Arc;

use slimpipe_autograd::{
    CustomOp, Error, GradCheck, IGNORE, KvCache, Parameter, Result, RopeTable, Tensor, Unary,
    gradcheck,
};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{device, random};

/// Positive numbers away from zero.
fn positive(shape: &[usize], stream: u64) -> Tensor {
    random(shape, stream).sigmoid().unwrap().add_scalar(0.5).unwrap()
}

#[test]
fn arithmetic_in_all_forms_of_broadcasting() {
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[3, 4], &[3, 4]),
        (&[2, 3, 4], &[4]),
        (&[2, 3, 4], &[3, 1]),
        (&[4], &[3, 4]),
        (&[3, 1], &[1, 4]),
        (&[], &[2, 3]),
    ];
    for (left, right) in shapes {
        let inputs = [random(left, 1), positive(right, 2)];
        gradcheck(&inputs, |x| x[0].add(&x[1])).unwrap();
        gradcheck(&inputs, |x| x[0].sub(&x[1])).unwrap();
        gradcheck(&inputs, |x| x[0].mul(&x[1])).unwrap();
        gradcheck(&inputs, |x| x[0].div(&x[1])).unwrap();
    }
    gradcheck(&[random([3, 4], 1)], |x| x[0].mul(&x[0])).unwrap();
    gradcheck(&[random([3, 4], 1)], |x| x[0].scale(-1.5)?.add_scalar(2.0)).unwrap();
    gradcheck(&[random([3, 4], 1), random([3, 4], 2)], |x| x[0].exp()?.add_into(&x[1])).unwrap();
    gradcheck(&[random([3, 4], 1)], |x| x[0].clone().add_into(&x[0])).unwrap();
}

#[test]
fn functions_of_one_element() {
    let any = [random([5, 7], 3)];
    for f in [Unary::Exp, Unary::Tanh, Unary::Sigmoid, Unary::Silu, Unary::Gelu] {
        gradcheck(&any, |x| x[0].unary(f)).unwrap();
    }
    let positive = [positive(&[5, 7], 3)];
    for f in [Unary::Log, Unary::Sqrt, Unary::Rsqrt] {
        GradCheck { step: 2e-3, ..GradCheck::default() }.run(&positive, |x| x[0].unary(f)).unwrap();
    }
    // Away from the corner.
    gradcheck(&positive, |x| x[0].relu()).unwrap();
    gradcheck(&positive, |x| x[0].scale(-1.0)?.relu()).unwrap();
    gradcheck(&any, |x| x[0].tanh()?.to_dtype(DType::F32)?.exp()?.log()).unwrap();
}

#[test]
fn reductions_and_softmax() {
    let x = [random([3, 4, 5], 4)];
    gradcheck(&x, |x| x[0].sum()).unwrap();
    gradcheck(&x, |x| x[0].mean()).unwrap();
    for dim in 0..3 {
        gradcheck(&x, |x| x[0].sum_keepdim(dim)?.tanh()).unwrap();
        gradcheck(&x, |x| x[0].mean_keepdim(dim)?.tanh()).unwrap();
    }
    gradcheck(&x, |x| x[0].softmax()).unwrap();
    // Distinct values, further apart than the steps.
    let apart: Vec<f32> = (0..12).map(|i| (i * 7 % 12) as f32).collect();
    let x = [Tensor::new(&apart, (3, 4), device()).unwrap()];
    gradcheck(&x, |x| x[0].max_keepdim()?.scale(0.1)?.exp()).unwrap();
}

#[test]
fn views_and_concatenation() {
    let x = [random([3, 4, 2], 5)];
    gradcheck(&x, |x| x[0].reshape((6, 4))?.exp()).unwrap();
    gradcheck(&x, |x| x[0].transpose(0, 2)?.reshape(24)?.exp()).unwrap();
    gradcheck(&x, |x| x[0].permute(&[1, 2, 0])?.exp()).unwrap();
    gradcheck(&x, |x| x[0].narrow(1, 1, 2)?.exp()).unwrap();
    gradcheck(&x, |x| x[0].narrow(0, 1, 2)?.exp()).unwrap();
    gradcheck(&x, |x| x[0].exp()?.narrow(0, 1, 2)?.exp()).unwrap();
    gradcheck(&x, |x| x[0].unsqueeze(1)?.squeeze(1)?.exp()).unwrap();
    gradcheck(&x, |x| x[0].transpose(0, 1)?.contiguous()?.exp()).unwrap();
    gradcheck(&[random([4, 1], 5)], |x| x[0].broadcast_to((2, 4, 3))?.exp()).unwrap();
    for dim in 0..2 {
        let parts = [random([3, 4], 6), random([3, 4], 7)];
        let cat = |x: &[Tensor]| Tensor::cat(&[&x[0], &x[1], &x[0].exp()?], dim);
        gradcheck(&parts, |x| cat(x)?.tanh()).unwrap();
    }
}

#[test]
fn matrix_products_of_parameters_and_of_other_tensors() {
    gradcheck(&[random([5, 4], 1), random([4, 3], 2)], |x| x[0].matmul(&x[1])).unwrap();
    gradcheck(&[random([5, 4], 1), random([4, 3], 2)], |x| x[0].tanh()?.matmul(&x[1].tanh()?))
        .unwrap();
    gradcheck(&[random([2, 5, 4], 1), random([4, 3], 2)], |x| x[0].matmul(&x[1].tanh()?)).unwrap();
    gradcheck(&[random([2, 5, 4], 1), random([2, 4, 3], 2)], |x| x[0].matmul(&x[1])).unwrap();
    gradcheck(&[random([5, 4], 1)], |x| x[0].matmul(&x[0].transpose(0, 1)?)?.scale(0.3)).unwrap();
    gradcheck(&[random([5, 4], 1), random([3, 4], 2)], |x| x[0].linear(&x[1])).unwrap();
    gradcheck(&[random([2, 5, 4], 1), random([3, 4], 2), random(3, 3)], |x| {
        x[0].tanh()?.linear(&x[1].tanh()?)?.add(&x[2])
    })
    .unwrap();
    // Three products add into one gradient; heads are batches of transposed views.
    gradcheck(&[random([5, 4], 1), random([4, 4], 2), random([4, 4], 3)], |x| {
        let y = x[0].tanh()?;
        y.linear(&x[1])?.add(&y.linear(&x[2])?)?.mul(&y.linear(&x[1])?)?.scale(0.3)
    })
    .unwrap();
    gradcheck(&[random([5, 2, 4], 1), random([5, 2, 4], 2)], |x| {
        let (q, k) = (x[0].permute(&[1, 0, 2])?, x[1].permute(&[1, 2, 0])?);
        q.matmul(&k)?.scale(0.5)?.softmax()
    })
    .unwrap();
}

#[test]
fn norms_and_gates() {
    let (x, w, b) = (random([6, 8], 1), random(8, 2), random(8, 3));
    gradcheck(&[x.clone(), w.clone()], |x| x[0].rms_norm(&x[1], 1e-5)).unwrap();
    gradcheck(&[x.clone(), w.clone()], |x| x[0].rms_norm(&x[1].tanh()?, 1e-5)).unwrap();
    gradcheck(&[x.clone(), w.clone(), b.clone()], |x| x[0].layer_norm(&x[1], &x[2], 1e-5)).unwrap();
    gradcheck(&[x.clone(), w, b], |x| x[0].layer_norm(&x[1].tanh()?, &x[2].tanh()?, 1e-5)).unwrap();
    gradcheck(&[x, random([6, 8], 4)], |x| x[0].swiglu(&x[1])).unwrap();
}

#[test]
fn embeddings_of_parameters_and_of_other_tables() {
    let ids = RawTensor::from_slice(&[2u32, 0, 2, 4], (2, 2), device()).unwrap();
    gradcheck(&[random([5, 3], 1)], |x| x[0].embedding(&ids)).unwrap();
    gradcheck(&[random([5, 3], 1)], |x| x[0].tanh()?.embedding(&ids)?.exp()).unwrap();
}

#[test]
fn rotations() {
    let table = Arc::new(RopeTable::new(vec![1.0, 0.1, 0.01], 5, device()).unwrap());
    gradcheck(&[random([5, 2, 6], 1)], |x| x[0].rope(&table, 7)).unwrap();
    gradcheck(&[random([5, 2, 6], 1)], |x| x[0].tanh()?.rope_into(&table, 7)?.exp()).unwrap();
}

#[test]
fn losses() {
    let labels = RawTensor::from_slice(&[1i64, IGNORE, 4, 0], 4, device()).unwrap();
    gradcheck(&[random([4, 5], 1)], |x| x[0].cross_entropy(&labels, 0.25)?.scale(3.0)).unwrap();
}

#[test]
fn attention_over_earlier_slices() {
    for (heads, kv_heads) in [(2, 2), (4, 2), (2, 1)] {
        let slice = |heads: usize, stream| random([4, heads, 6], stream);
        let inputs = [
            slice(heads, 1),
            slice(kv_heads, 2),
            slice(kv_heads, 3),
            slice(heads, 4),
            slice(kv_heads, 5),
            slice(kv_heads, 6),
        ];
        // One graph holds both slices, so that one backward runs them in reverse order.
        gradcheck(&inputs, |x| {
            let mut cache = KvCache::new();
            let first = x[0].attend(&x[1], &x[2], &mut cache, 0.4)?;
            let second = x[3].attend(&x[4], &x[5], &mut cache, 0.4)?;
            Tensor::cat(&[&first, &second], 0)
        })
        .unwrap();
    }
}

/// The exponential function with a gradient that is two percent too large.
struct Wrong;

impl CustomOp for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn forward(&self, inputs: &[RawTensor]) -> Result<RawTensor> {
        Ok(slimpipe_ops::unary::unary(Unary::Exp, &inputs[0])?)
    }

    fn backward(
        &self,
        _: &[RawTensor],
        output: &RawTensor,
        grad: &RawTensor,
    ) -> Result<Vec<Option<RawTensor>>> {
        let right = Tensor::from(grad.clone()).mul(&output.clone().into())?;
        Ok(vec![Some(right.scale(1.02)?.raw().clone())])
    }
}

#[test]
fn a_wrong_gradient_is_found_and_named() {
    let result = gradcheck(&[random(3, 1), random(3, 2)], |x| {
        x[0].exp()?.add(&Tensor::apply(Wrong, &[&x[1]])?)
    });
    match result {
        Err(Error::GradientCheck { input: 1, analytic, numeric, .. }) => {
            assert!((analytic / numeric - 1.02).abs() < 1e-3, "{analytic} {numeric}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_gradient_is_found() {
    let result = gradcheck(&[random(3, 1)], |x| x[0].detach().exp()?.add(&x[0]));
    assert!(matches!(result, Err(Error::GradientCheck { input: 0, .. })), "{result:?}");
}

#[test]
fn checking_leaves_the_inputs_alone() {
    let x = Parameter::new("x", random(4, 1).raw().clone());
    gradcheck(&[x.tensor()], |x| x[0].exp()).unwrap();
    assert!(x.grad_to_vec().unwrap().is_none());
    assert_eq!(x.value().to_vec::<f32>().unwrap(), random(4, 1).to_vec::<f32>().unwrap());
}
