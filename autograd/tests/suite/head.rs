//! The fused output layer and loss.

use slimpipe_autograd::{IGNORE, Parameter, Tensor, no_grad};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{device, distance, error, grad, parameter, random};

fn labels() -> RawTensor {
    RawTensor::from_slice(&[1i64, IGNORE, 6, 0, 2], 5, device()).unwrap()
}

#[test]
fn it_equals_a_linear_layer_and_a_cross_entropy() {
    let (x, w) = (parameter("x", (5, 4), DType::F32), parameter("w", (7, 4), DType::F32));
    let fused = x.tensor().head_loss(&w, &labels(), 0.25).unwrap();
    fused.backward().unwrap();
    let (dx, dw) = (grad(&x), grad(&w));
    x.zero_grad();
    w.zero_grad();
    let plain = x.tensor().linear(&w.tensor()).unwrap().cross_entropy(&labels(), 0.25).unwrap();
    plain.backward().unwrap();
    let (fused, plain) = (fused.to_scalar().unwrap(), plain.to_scalar().unwrap());
    assert!((fused - plain).abs() < 1e-6);
    assert!(distance(&dx, &grad(&x)) < 1e-6 && distance(&dw, &grad(&w)) < 1e-6);
    let _quiet = no_grad();
    let alone = x.tensor().head_loss(&w, &labels(), 0.25).unwrap();
    assert!((alone.to_scalar().unwrap() - plain).abs() < 1e-6 && !alone.requires_grad());
    assert!(distance(&dw, &grad(&w)) < 1e-6, "under no_grad no gradient is accumulated");
}

#[test]
fn a_tied_embedding_collects_both_gradients() {
    let w = parameter("w", (7, 4), DType::F32);
    let ids = RawTensor::from_slice(&[3u32, 1, 1, 0, 6], 5, device()).unwrap();
    let run = |table: &Parameter, head: &Parameter| {
        let x = table.tensor().embedding(&ids).unwrap();
        x.head_loss(head, &labels(), 0.25).unwrap().backward().unwrap();
    };
    run(&w, &w);
    let (table, head) = (parameter("w", (7, 4), DType::F32), parameter("w", (7, 4), DType::F32));
    run(&table, &head);
    let sum: Vec<f32> = grad(&table).iter().zip(grad(&head)).map(|(a, b)| a + b).collect();
    assert!(distance(&grad(&w), &sum) < 1e-6);
}

#[test]
fn a_head_on_constant_rows_still_learns() {
    let w = parameter("w", (7, 4), DType::F32);
    random([5, 4], 1).head_loss(&w, &labels(), 1.0).unwrap().backward().unwrap();
    assert!(grad(&w).iter().any(|x| *x != 0.0));
}

#[test]
fn a_loss_that_is_scaled_afterwards_is_refused() {
    let (x, w) = (parameter("x", (5, 4), DType::F32), parameter("w", (7, 4), DType::F32));
    let loss: Tensor = x.tensor().head_loss(&w, &labels(), 1.0).unwrap().scale(0.5).unwrap();
    assert!(error(loss.backward()).contains("scale through the `scale` argument"));
}
