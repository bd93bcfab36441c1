//! The everyday surface: making, printing, combining.

use slimpipe_autograd::{Result, Tensor};
use slimpipe_runtime::DType;
use slimpipe_runtime::random::Random;

use super::util::{address, device, error, grad, parameter};

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, values.len(), device()).unwrap()
}

#[test]
fn operators_stand_for_the_methods() {
    let run = || -> Result<()> {
        let (a, b) = (tensor(&[1., 2.]), tensor(&[4., 8.]));
        assert_eq!((&a + &b)?.to_vec::<f32>()?, [5., 10.]);
        assert_eq!((&a - &b)?.to_vec::<f32>()?, [-3., -6.]);
        assert_eq!((&a * &b)?.to_vec::<f32>()?, [4., 16.]);
        assert_eq!((&b / &a)?.to_vec::<f32>()?, [4., 4.]);
        assert_eq!((&a + 1.0)?.to_vec::<f32>()?, [2., 3.]);
        assert_eq!((&a - 1.0)?.to_vec::<f32>()?, [0., 1.]);
        assert_eq!((&a * 3.0)?.to_vec::<f32>()?, [3., 6.]);
        assert_eq!((&a / 2.0)?.to_vec::<f32>()?, [0.5, 1.]);
        assert_eq!((-&a)?.to_vec::<f32>()?, [-1., -2.]);
        let w = parameter("w", 2, DType::F32);
        (&w.tensor() * 3.0)?.sum()?.backward()?;
        assert_eq!(grad(&w), [3.0; 2]);
        Ok(())
    };
    run().unwrap();
}

#[test]
fn tensors_are_made_filled_drawn_and_read() {
    let full = Tensor::full((2, 2), 1.5, DType::BF16, device()).unwrap();
    let text = |kind: &str| format!("{kind}[2, 2], bf16, {}", device());
    let shown = format!("[[1.5000, 1.5000],\n [1.5000, 1.5000]]\n{}]", text("Tensor["));
    assert_eq!(full.to_string(), shown);
    let zeros = Tensor::zeros(3, DType::I64, device()).unwrap();
    assert_eq!(zeros.to_vec::<i64>().unwrap(), [0; 3]);
    let draw = || Tensor::randn(8, 1.0, Random::new(1, 2), device()).unwrap();
    assert_eq!(draw().to_vec::<f32>().unwrap(), draw().to_vec::<f32>().unwrap());
    assert_eq!(full.sum().unwrap().to_scalar().unwrap(), 6.0);
    assert!(error(full.to_scalar()).contains("a tensor of shape [2, 2] is not a scalar"));
    assert_eq!(format!("{full:?}"), format!("{}, constant)", text("Tensor(")));
}

#[test]
fn sums_reuse_a_result_that_nobody_else_holds() {
    let (a, b) = (tensor(&[1., 2.]), tensor(&[3., 4.]));
    let own = a.scale(2.0).unwrap();
    let place = address(&own);
    let sum = own.add_into(&b).unwrap();
    assert_eq!(address(&sum), place);
    assert_eq!(sum.to_vec::<f32>().unwrap(), [5., 8.]);
    let kept = a.clone().add_into(&b).unwrap();
    assert_eq!(kept.to_vec::<f32>().unwrap(), [4., 6.]);
    assert_eq!(a.to_vec::<f32>().unwrap(), [1., 2.], "a tensor that others hold is left alone");
}

#[test]
fn mistakes_name_the_operation_and_the_shapes() {
    let (a, b) = (tensor(&[1., 2.]), tensor(&[3., 4., 5.]));
    assert_eq!(error(&a + &b), "add: shapes [2] and [3] do not broadcast");
    assert_eq!(error(a.sum_keepdim(1)), "reduce: no dimension 1 in shape [2]");
    assert_eq!(
        error(a.linear(&b)),
        "linear: x [2] and weight [3], expected [..., in] and [out, in]"
    );
    assert!(error(a.reshape(5)).contains("2 elements of shape [2] do not fill shape [5]"));
}
