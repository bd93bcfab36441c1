//! What the tape records, frees and refuses.

use std::sync::{Arc, Mutex};

use slimpipe_allocator::Memory;
use slimpipe_autograd::{
    CustomOp, KvCache, Parameter, Result, Tensor, backward, is_recording, no_grad,
};
use slimpipe_runtime::{DType, Device, RawTensor};

use crate::suite::util::{error, grad, parameter, random};

/// The identity, whose backward notes the live bytes.
struct Probe(Memory, Arc<Mutex<Vec<u64>>>);

impl CustomOp for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn forward(&self, inputs: &[RawTensor]) -> Result<RawTensor> {
        Ok(inputs[0].clone())
    }

    fn backward(
        &self,
        _: &[RawTensor],
        _: &RawTensor,
        grad: &RawTensor,
    ) -> Result<Vec<Option<RawTensor>>> {
        self.1.lock().unwrap().push(self.0.stats().total.requested.current);
        Ok(vec![Some(grad.clone())])
    }
}

#[test]
fn backward_frees_each_saved_tensor_as_it_consumes_it() {
    const BYTES: u64 = 4096;
    let memory = Memory::builder(0).build();
    let _entered = memory.enter();
    let x = Parameter::new("x", RawTensor::zeros(1024, DType::F32, Device::Cpu).unwrap());
    x.allocate_grad().unwrap();
    let before = memory.stats().total.requested.current;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut y = x.tensor();
    for _ in 0..6 {
        // Each function of one element saves its input.
        y = y.sigmoid().unwrap();
        y = Tensor::apply(Probe(memory.clone(), seen.clone()), &[&y]).unwrap();
    }
    let end = y.tape_end().unwrap();
    drop(y);
    let ones = RawTensor::from_slice(&[1f32; 1024], 1024, Device::Cpu).unwrap();
    backward(end, ones, None).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 6);
    // One gradient takes the place of one activation at each step.
    for pair in seen.windows(2) {
        assert_eq!(pair[0] - pair[1], BYTES, "{seen:?}");
    }
    assert_eq!(memory.stats().total.requested.current, before, "nothing is left but the parameter");
}

#[test]
fn a_graph_that_is_dropped_gives_everything_back_however_deep() {
    let memory = Memory::builder(0).build();
    let _entered = memory.enter();
    let x = parameter("x", 4, DType::F32);
    let before = memory.stats().total.requested.current;
    let mut y = x.tensor();
    for _ in 0..200_000 {
        y = y.add_scalar(1.0).unwrap();
    }
    drop(y);
    assert_eq!(memory.stats().total.requested.current, before);
}

#[test]
fn a_graph_can_be_walked_once() {
    let x = parameter("x", 4, DType::F32);
    let loss = x.tensor().exp().unwrap().sum().unwrap();
    loss.backward().unwrap();
    assert_eq!(
        error(loss.backward()),
        "backward of `sum`: its saved tensors were already consumed; run forward again before a second backward"
    );
    // A part of the graph that was consumed with it is refused as well.
    let y = x.tensor().exp().unwrap();
    let (first, second) = (y.sum().unwrap(), y.mean().unwrap());
    first.backward().unwrap();
    assert!(error(second.backward()).starts_with("backward of `exp`"));
}

#[test]
fn a_tensor_used_many_times_collects_all_its_gradients() {
    let x = parameter("x", (2, 2), DType::F32);
    let y = x.tensor().scale(2.0).unwrap();
    let sum = y.add(&y).unwrap().add(&y.scale(3.0).unwrap()).unwrap();
    sum.sum().unwrap().backward().unwrap();
    assert_eq!(grad(&x), [10.0; 4]);
}

#[test]
fn a_strided_gradient_that_waits_is_added_to() {
    // The gradient that comes through the transpose is a view, and comes first.
    let (a, b) = (parameter("a", (3, 3), DType::F32), random([3, 3], 1));
    let y = a.tensor().scale(1.0).unwrap();
    let product = y.linear(&b).unwrap();
    let turned = y.transpose(0, 1).unwrap().mul(&b).unwrap();
    product.add(&turned).unwrap().sum().unwrap().backward().unwrap();
    let b = b.to_vec::<f32>().unwrap();
    for i in 0..3 {
        for j in 0..3 {
            let expected: f32 = (0..3).map(|o| b[o * 3 + j]).sum::<f32>() + b[j * 3 + i];
            assert!((grad(&a)[i * 3 + j] - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn under_no_grad_nothing_is_recorded_or_saved() {
    let memory = Memory::builder(0).build();
    let _entered = memory.enter();
    let x = parameter("x", 1000, DType::F32);
    let before = memory.stats().total.requested.current;
    let guard = no_grad();
    assert!(!is_recording());
    let y = x.tensor().exp().unwrap().tanh().unwrap().sigmoid().unwrap();
    assert!(!y.requires_grad());
    assert_eq!(memory.stats().total.requested.current, before + 4000, "the result alone");
    assert_eq!(
        error(y.sum().unwrap().backward()),
        "backward: the tensor does not depend on any parameter, or was made under no_grad"
    );
    drop(guard);
    assert!(is_recording() && x.tensor().requires_grad());
}

#[test]
fn backward_itself_records_nothing() {
    struct Recording;
    impl CustomOp for Recording {
        fn name(&self) -> &'static str {
            "recording"
        }
        fn forward(&self, inputs: &[RawTensor]) -> Result<RawTensor> {
            Ok(inputs[0].clone())
        }
        fn backward(
            &self,
            _: &[RawTensor],
            _: &RawTensor,
            grad: &RawTensor,
        ) -> Result<Vec<Option<RawTensor>>> {
            assert!(!is_recording());
            Ok(vec![Some(grad.clone())])
        }
    }
    let x = parameter("x", 2, DType::F32);
    Tensor::apply(Recording, &[&x.tensor()]).unwrap().sum().unwrap().backward().unwrap();
    assert!(is_recording());
}

#[test]
fn the_gradient_of_a_leaf_is_handed_back() {
    let leaf = Tensor::leaf(random([2, 3], 1).raw().clone());
    let w = parameter("w", (4, 3), DType::F32);
    let root = leaf.linear(&w.tensor()).unwrap().tape_end().unwrap();
    let end = leaf.tape_end().unwrap();
    let dy = random([2, 4], 2);
    let dx = backward(root, dy.raw().clone(), Some(&end)).unwrap().unwrap();
    let expected = dy.matmul(&Tensor::from(w.value())).unwrap();
    assert_eq!(dx.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());

    let elsewhere = Tensor::leaf(random([2, 3], 1).raw().clone()).tape_end().unwrap();
    let root = leaf.linear(&w.tensor()).unwrap().tape_end().unwrap();
    assert!(backward(root, dy.raw().clone(), Some(&elsewhere)).unwrap().is_none());
}

#[test]
fn gradients_that_do_not_fit_their_tensor_are_refused() {
    let x = parameter("x", (2, 3), DType::F32);
    let y = x.tensor().exp().unwrap();
    assert_eq!(
        error(y.backward()),
        "a tensor of shape [2, 3] is not a scalar: reduce it with sum or mean, or pass its gradient with backward_with"
    );
    assert_eq!(
        error(y.backward_with(random([3, 2], 1).raw().clone())),
        "backward of `backward`: gradient of shape [3, 2] for a tensor of shape [2, 3]"
    );
    let low = random([2, 3], 1).to_dtype(DType::BF16).unwrap();
    assert!(error(y.backward_with(low.raw().clone())).contains("gradient of dtype bf16"));
    // None of the attempts has consumed the graph.
    y.backward_with(random([2, 3], 1).raw().clone()).unwrap();
}

#[test]
fn constants_and_integers_carry_no_gradient() {
    let x = parameter("x", 3, DType::F32);
    assert!(!random(3, 1).exp().unwrap().requires_grad());
    assert!(!x.tensor().detach().requires_grad());
    assert!(!x.tensor().to_dtype(DType::I32).unwrap().requires_grad());
    assert!(x.tensor().to_dtype(DType::BF16).unwrap().requires_grad());
}

#[test]
fn tensors_and_parameters_may_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Tensor>();
    crosses::<Parameter>();
    crosses::<KvCache>();
    let x = parameter("x", 100, DType::F32);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let x = x.clone();
            std::thread::spawn(move || x.tensor().scale(2.0)?.sum()?.backward())
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    assert_eq!(grad(&x), [8.0; 100]);
}
