//! Operations from outside.

use slimpipe_autograd::{CustomOp, Error, Result, Tensor, gradcheck};
use slimpipe_runtime::{DType, RawTensor};

use crate::suite::util::{error, grad, parameter, random};

/// a b + c, whose third input may be declared to have no gradient.
struct MultiplyAdd {
    third: bool,
}

impl CustomOp for MultiplyAdd {
    fn name(&self) -> &'static str {
        "multiply_add"
    }

    fn forward(&self, inputs: &[RawTensor]) -> Result<RawTensor> {
        let [a, b, c] = inputs else {
            let what = format!("takes 3 inputs, got {}", inputs.len());
            return Err(Error::Custom { op: self.name(), what });
        };
        let product = Tensor::from(a.clone()).mul(&b.clone().into())?;
        Ok(product.add(&c.clone().into())?.raw().clone())
    }

    fn backward(
        &self,
        inputs: &[RawTensor],
        _: &RawTensor,
        grad: &RawTensor,
    ) -> Result<Vec<Option<RawTensor>>> {
        let times = |x: &RawTensor| -> Result<RawTensor> {
            Ok(Tensor::from(grad.clone()).mul(&x.clone().into())?.raw().clone())
        };
        let third = self.third.then(|| grad.clone());
        Ok(vec![Some(times(&inputs[1])?), Some(times(&inputs[0])?), third])
    }
}

#[test]
fn an_operation_of_several_inputs_is_differentiated() {
    let inputs = [random([3, 4], 1), random([3, 4], 2), random([3, 4], 3)];
    gradcheck(&inputs, |x| Tensor::apply(MultiplyAdd { third: true }, &[&x[0], &x[1], &x[2]]))
        .unwrap();
}

#[test]
fn gradients_reach_a_custom_backward_dense() {
    // Through the transpose the gradient arrives as a strided view; `slice` needs it dense.
    struct Dense;
    impl CustomOp for Dense {
        fn name(&self) -> &'static str {
            "dense"
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
            grad.slice::<f32>("dense")?;
            Ok(vec![Some(grad.clone())])
        }
    }
    gradcheck(&[random([3, 4], 1)], |x| Tensor::apply(Dense, &[&x[0]])?.transpose(0, 1)?.exp())
        .unwrap();
}

#[test]
fn inputs_without_a_gradient_get_none() {
    let [a, b, c] = ["a", "b", "c"].map(|name| parameter(name, 4, DType::F32));
    let op = MultiplyAdd { third: false };
    let y = Tensor::apply(op, &[&a.tensor(), &b.tensor().detach(), &c.tensor()]).unwrap();
    y.sum().unwrap().backward().unwrap();
    assert_eq!(grad(&a), b.value().to_vec::<f32>().unwrap());
    assert!(b.grad_to_vec().unwrap().is_none() && c.grad_to_vec().unwrap().is_none());
}

/// A backward that gives whatever it was made with.
struct Faulty(Option<Vec<Option<RawTensor>>>);

impl CustomOp for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn forward(&self, inputs: &[RawTensor]) -> Result<RawTensor> {
        Ok(inputs[0].clone())
    }

    fn backward(
        &self,
        _: &[RawTensor],
        _: &RawTensor,
        _: &RawTensor,
    ) -> Result<Vec<Option<RawTensor>>> {
        self.0.clone().ok_or(Error::Custom { op: "faulty", what: "ran out of luck".to_owned() })
    }
}

#[test]
fn mistakes_of_a_custom_operation_are_named() {
    let x = parameter("x", (2, 3), DType::F32);
    let run = |gradients| {
        let y = Tensor::apply(Faulty(gradients), &[&x.tensor()]).unwrap();
        error(y.sum().unwrap().backward())
    };
    assert_eq!(run(None), "custom op `faulty`: ran out of luck");
    assert_eq!(run(Some(vec![])), "custom op `faulty`: backward gave 0 gradients for 1 inputs");
    let turned = random([3, 2], 1).raw().clone();
    assert_eq!(
        run(Some(vec![Some(turned)])),
        "backward of `faulty`: gradient of shape [3, 2] for a tensor of shape [2, 3]"
    );
    assert_eq!(
        error(Tensor::apply(MultiplyAdd { third: true }, &[&x.tensor()])),
        "custom op `multiply_add`: takes 3 inputs, got 1"
    );
}

#[test]
fn without_a_backward_the_error_says_what_to_implement() {
    struct Forward;
    impl CustomOp for Forward {
        fn name(&self) -> &'static str {
            "forward_only"
        }
        fn forward(&self, inputs: &[RawTensor]) -> Result<RawTensor> {
            Ok(inputs[0].clone())
        }
    }
    let x = parameter("x", 2, DType::F32);
    let y = Tensor::apply(Forward, &[&x.tensor()]).unwrap();
    assert_eq!(
        error(y.sum().unwrap().backward()),
        "custom op `forward_only`: has no backward; implement CustomOp::backward"
    );
}
