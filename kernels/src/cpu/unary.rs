//! Functions of one element and their derivatives.

use super::simd::{Scalar, exp, sigmoid};
use super::threads::Threads;

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// e^x
    Exp,
    /// ln x
    Log,
    /// The square root of x.
    Sqrt,
    /// One over the square root of x.
    Rsqrt,
    /// The hyperbolic tangent of x.
    Tanh,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// x sigmoid(x)
    Silu,
    /// x Phi(x) with Phi the normal distribution function.
    Gelu,
    /// max(x, 0)
    Relu,
}

/// The normal distribution function, Phi(x) = erfc(-x / sqrt 2) / 2.
fn phi(x: f32) -> f32 {
    0.5 * libm::erfcf(-x * std::f32::consts::FRAC_1_SQRT_2)
}

impl Unary {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Exp,
        Self::Log,
        Self::Sqrt,
        Self::Rsqrt,
        Self::Tanh,
        Self::Sigmoid,
        Self::Silu,
        Self::Gelu,
        Self::Relu,
    ];

    /// The name in traces and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sqrt => "sqrt",
            Self::Rsqrt => "rsqrt",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::Relu => "relu",
        }
    }

    /// f(x).
    pub fn value(self, x: f32) -> f32 {
        match self {
            Self::Exp => exp::<false>(x),
            Self::Log => x.ln(),
            Self::Sqrt => x.sqrt(),
            Self::Rsqrt => 1.0 / x.sqrt(),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => sigmoid::<false>(x),
            Self::Silu => x * sigmoid::<false>(x),
            Self::Gelu => x * phi(x),
            Self::Relu => x.max(0.0),
        }
    }

    /// f'(x).
    pub fn derivative(self, x: f32) -> f32 {
        match self {
            Self::Exp => exp::<false>(x),
            Self::Log => 1.0 / x,
            Self::Sqrt => 0.5 / x.sqrt(),
            Self::Rsqrt => -0.5 / (x * x.sqrt()),
            Self::Tanh => 1.0 - x.tanh() * x.tanh(),
            Self::Sigmoid => sigmoid::<false>(x) * (1.0 - sigmoid::<false>(x)),
            Self::Silu => sigmoid::<false>(x) * (1.0 + x * (1.0 - sigmoid::<false>(x))),
            Self::Gelu => phi(x) + x * (-0.5 * x * x).exp() * 0.398_942_3,
            Self::Relu => f32::from(u8::from(x > 0.0)),
        }
    }
}

/// Elements per task.
const TASK: usize = 1 << 12;

/// `y = f(x)`.
///
/// # Panics
/// Sizes that differ.
pub fn forward<T: Scalar>(threads: &Threads, f: Unary, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "input and output differ in size");
    threads.chunks(y, TASK, |i, y| {
        for (y, x) in y.iter_mut().zip(&x[i * TASK..]) {
            *y = T::from_f32(f.value(x.to_f32()));
        }
    });
}

/// `dx = dy f'(x)`.
///
/// # Panics
/// Sizes that differ.
pub fn backward<T: Scalar>(threads: &Threads, f: Unary, x: &[T], dy: &[T], dx: &mut [T]) {
    assert!(x.len() == dy.len() && x.len() == dx.len(), "input and gradients differ in size");
    threads.chunks(dx, TASK, |i, dx| {
        for ((dx, x), dy) in dx.iter_mut().zip(&x[i * TASK..]).zip(&dy[i * TASK..]) {
            *dx = T::from_f32(dy.to_f32() * f.derivative(x.to_f32()));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_match_central_differences() {
        for f in Unary::ALL {
            for x in [0.3f32, 0.9, 1.7, 4.0] {
                let h = 1e-2;
                let numeric =
                    (f64::from(f.value(x + h)) - f64::from(f.value(x - h))) / (2.0 * f64::from(h));
                let error = (numeric - f64::from(f.derivative(x))).abs() / (1.0 + numeric.abs());
                assert!(error < 2e-3, "{f:?} at {x}: {error}");
            }
        }
    }

    #[test]
    fn phi_is_the_normal_distribution_function() {
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_8),
            (-2.0, 0.022_750_132),
            (4.0, 0.999_968_33),
            (-6.0, 9.865_876e-10),
        ] {
            assert!((phi(x) - expected).abs() <= 3e-6 * expected, "phi({x}) = {}", phi(x));
        }
    }
}
