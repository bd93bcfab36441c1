//! `(&a + &b)?`: the operators of Rust on tensors and numbers. They give a `Result`, as the methods
//! they stand for do.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::{Result, Tensor};

macro_rules! operators {
    ($($trait:ident :: $method:ident, $scalar:expr;)*) => {
        $(
            impl $trait for &Tensor {
                type Output = Result<Tensor>;

                #[track_caller]
                fn $method(self, other: Self) -> Result<Tensor> {
                    Tensor::$method(self, other)
                }
            }

            impl $trait<f32> for &Tensor {
                type Output = Result<Tensor>;

                #[track_caller]
                fn $method(self, number: f32) -> Result<Tensor> {
                    let scalar: fn(&Tensor, f32) -> Result<Tensor> = $scalar;
                    scalar(self, number)
                }
            }
        )*
    };
}

operators! {
    Add::add, |x, number| x.add_scalar(number);
    Sub::sub, |x, number| x.add_scalar(-number);
    Mul::mul, |x, number| x.scale(number);
    Div::div, |x, number| x.scale(1.0 / number);
}

impl Neg for &Tensor {
    type Output = Result<Tensor>;

    #[track_caller]
    fn neg(self) -> Result<Tensor> {
        self.scale(-1.0)
    }
}
