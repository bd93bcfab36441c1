//! Where gradients end.

use slimpipe_allocator::{Memory, Region};
use slimpipe_autograd::{Parameter, Tensor};
use slimpipe_ops::elementwise::fill;
use slimpipe_runtime::{DType, RawTensor};

use super::util::{device, distance, grad, parameter, random};

#[test]
fn gradients_add_up_over_backward_runs_until_they_are_emptied() {
    let w = parameter("w", (3, 4), DType::F32);
    let x = random([5, 4], 1);
    let step = || x.linear(&w.tensor()).unwrap().sum().unwrap().backward().unwrap();
    assert!(w.grad_to_vec().unwrap().is_none());
    step();
    let once = grad(&w);
    step();
    let twice: Vec<f32> = once.iter().map(|x| 2.0 * x).collect();
    assert!(distance(&grad(&w), &twice) < 1e-6);
    w.zero_grad();
    assert!(w.grad_to_vec().unwrap().is_none());
    step();
    assert!(distance(&grad(&w), &once) < 1e-6);
}

#[test]
fn gradients_of_a_bf16_model_add_up_in_f32() {
    // 1 + 2^-9 + 2^-9 + ...: in bf16 the small terms would vanish one by one.
    let w = parameter("w", (1, 1), DType::BF16);
    let run = |value: f32| {
        let x = Tensor::full((1, 1), value, DType::BF16, device()).unwrap();
        x.linear(&w.tensor()).unwrap().sum().unwrap().backward().unwrap();
    };
    run(1.0);
    (0..64).for_each(|_| run(1.0 / 512.0));
    assert_eq!(grad(&w), [1.0 + 64.0 / 512.0]);
    assert_eq!(w.grad().get().unwrap().dtype(), DType::F32);
}

#[test]
fn every_way_into_a_bf16_parameter_reaches_its_f32_gradient() {
    let ids = RawTensor::from_slice(&[1u32, 1, 0], 3, device()).unwrap();
    let f = |w: &Tensor, gain: &Tensor| {
        let x = w.embedding(&ids)?.rms_norm(gain, 1e-5)?;
        let x = x.layer_norm(gain, gain, 1e-5)?.linear(w)?.add(&w.narrow(0, 1, 3)?.matmul(w)?)?;
        x.mul(gain)?.to_dtype(DType::F32)?.sum()
    };
    let gradients = |dtype| {
        let (w, gain) = (parameter("w", (4, 4), dtype), parameter("gain", 4, dtype));
        f(&w.tensor(), &gain.tensor()).unwrap().backward().unwrap();
        [grad(&w), grad(&gain)]
    };
    let (low, exact) = (gradients(DType::BF16), gradients(DType::F32));
    for (low, exact) in low.iter().zip(&exact) {
        assert!(distance(low, exact) < 0.05, "{low:?} {exact:?}");
    }
}

#[test]
fn a_gradients_memory_is_persistent_and_allocated_once() {
    let memory = crate::memory(Memory::builder(0)).build();
    let _entered = memory.enter();
    let w = parameter("w", (16, 16), DType::F32);
    w.allocate_grad().unwrap();
    assert_eq!(memory.stats().region(Region::Persistent).requested.current, 1024);
    assert!(w.grad_to_vec().unwrap().is_none(), "allocated is not filled");
    for _ in 0..3 {
        let x = random([4, 16], 1);
        x.linear(&w.tensor()).unwrap().sum().unwrap().backward().unwrap();
        w.zero_grad();
    }
    assert_eq!(memory.stats().region(Region::Persistent).requested.peak, 1024);
}

#[test]
fn a_value_can_be_changed_in_place_once_no_graph_holds_it() {
    let w = parameter("w", 4, DType::F32);
    let y = w.tensor().exp().unwrap();
    let set = || fill(&mut w.value_mut(), 5.0);
    assert!(set().is_err(), "the graph reads it");
    drop(y);
    set().unwrap();
    assert_eq!(w.tensor().to_vec::<f32>().unwrap(), [5.0; 4]);
}

#[test]
fn a_failed_write_leaves_an_empty_gradient_empty() {
    let head = parameter("head", (5, 4), DType::F32);
    let x = random([2, 4], 1);
    let wrong = RawTensor::from_slice(&[1i64, 3, 2], 3, device()).unwrap();
    assert!(x.head_loss(&head, &wrong, 1.0).is_err());
    assert!(head.grad_to_vec().unwrap().is_none());
    let right = RawTensor::from_slice(&[1i64, 4], 2, device()).unwrap();
    x.head_loss(&head, &right, 1.0).unwrap().backward().unwrap();
    assert!(grad(&head).iter().all(|x| x.is_finite()));
}

#[test]
fn a_parameter_can_be_the_root_of_backward() {
    let w = parameter("w", 3, DType::F32);
    w.tensor().backward_with(random(3, 1).raw().clone()).unwrap();
    assert_eq!(grad(&w), random(3, 1).to_vec::<f32>().unwrap());
    assert_eq!(format!("{w:?}"), "Parameter(w, [3], f32)");
    let _: &Parameter = &w;
}
