//! Arithmetic in f32 and f64, and the functions a GPU approximates.

use half::{bf16, f16};

use super::convert::{Rounding, narrow};
use super::modes::{Modes, larger, smaller};
use crate::isa::compute::{binary, ternary, unary, wide};
use crate::isa::{Compute, Type};
use crate::registers::{Lane, Pair};

/// Arithmetic in f32.
pub(super) fn single(name: &str, m: Modes) -> Option<Compute> {
    if m.plain()
        && let Some(compute) = plain(name)
    {
        return Some(compute);
    }
    let i = move |x: f32| m.input(x);
    Some(match name {
        "add" => binary(move |a, b| m.output(i(a) + i(b))),
        "sub" => binary(move |a, b| m.output(i(a) - i(b))),
        "mul" => binary(move |a, b| m.output(i(a) * i(b))),
        "div" => binary(move |a, b| m.output(i(a) / i(b))),
        "fma" | "mad" => wide::ternary(move |a, b, c| m.output(i(a).mul_add(i(b), i(c)))),
        "min" => binary(move |a, b| m.output(smaller(i(a), i(b), m.nan))),
        "max" => binary(move |a, b| m.output(larger(i(a), i(b), m.nan))),
        "abs" => unary(move |a: f32| m.output(a).abs()),
        "neg" => unary(move |a: f32| -m.output(a)),
        // The sign comes from the first operand.
        "copysign" => binary(|a: f32, b: f32| b.copysign(a)),
        _ => return None,
    })
}

/// a b + c, rounded once.
pub(super) fn fused(m: Modes, rounding: Rounding) -> Compute {
    ternary(move |a: f32, b: f32, c: f32| {
        let [a, b, c] = [a, b, c].map(|x| f64::from(m.input(x)));
        m.output(narrow::<f32>(add_to_odd(a * b, c), rounding))
    })
}

/// The sum, or, where there is no such f64, the one of its two neighbours whose last bit is set: rounded to a
/// shorter type, that gives what the exact sum would.
fn add_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    let bits = sum.to_bits();
    if error == 0.0 || !error.is_finite() || bits & 1 == 1 {
        return sum;
    }
    f64::from_bits(if (error > 0.0) == (sum > 0.0) { bits + 1 } else { bits - 1 })
}

/// Arithmetic without modifiers, in as few steps as possible.
fn plain(name: &str) -> Option<Compute> {
    Some(match name {
        "add" => wide::binary(|a: f32, b: f32| a + b),
        "sub" => wide::binary(|a: f32, b: f32| a - b),
        "mul" => wide::binary(|a: f32, b: f32| a * b),
        "div" => wide::binary(|a: f32, b: f32| a / b),
        "fma" | "mad" => wide::ternary(|a: f32, b: f32, c: f32| a.mul_add(b, c)),
        "min" => wide::binary(|a, b| smaller(a, b, false)),
        "max" => wide::binary(|a, b| larger(a, b, false)),
        _ => return None,
    })
}

/// Arithmetic in f64.
pub(super) fn double(name: &str) -> Option<Compute> {
    Some(match name {
        "add" => binary(|a: f64, b: f64| a + b),
        "sub" => binary(|a: f64, b: f64| a - b),
        "mul" => binary(|a: f64, b: f64| a * b),
        "div" => binary(|a: f64, b: f64| a / b),
        "fma" | "mad" => ternary(|a: f64, b: f64, c: f64| a.mul_add(b, c)),
        "min" => binary(f64::min),
        "max" => binary(f64::max),
        "abs" => unary(f64::abs),
        "neg" => unary(|a: f64| -a),
        "copysign" => binary(|a: f64, b: f64| b.copysign(a)),
        _ => return None,
    })
}

/// A function of one argument.
pub(super) fn function(name: &str, m: Modes, ty: Type) -> Option<Compute> {
    match name {
        "rcp" => apply(|x| 1.0 / x, m, ty).or_else(|| in_f64(|x| 1.0 / x, ty)),
        "sqrt" => apply(f32::sqrt, m, ty).or_else(|| in_f64(f64::sqrt, ty)),
        "rsqrt" => apply(|x| (1.0 / f64::from(x).sqrt()) as f32, m, ty)
            .or_else(|| in_f64(|x| 1.0 / x.sqrt(), ty)),
        "sin" => apply(f32::sin, m, ty),
        "cos" => apply(f32::cos, m, ty),
        "lg2" => apply(f32::log2, m, ty),
        "ex2" => match ty {
            Type::F32 => Some(wide::unary(move |x| m.output(exp2(m.input(x))))),
            _ => apply(exp2, m, ty),
        },
        "tanh" => apply(f32::tanh, m, ty),
        _ => None,
    }
}

fn apply(
    f: impl Fn(f32) -> f32 + Copy + Send + Sync + 'static,
    m: Modes,
    ty: Type,
) -> Option<Compute> {
    Some(match ty {
        Type::F32 => unary(move |x| m.output(f(m.input(x)))),
        Type::F16 => unary(move |x: f16| f16::from_f32(f(x.to_f32()))),
        Type::Bf16 => unary(move |x: bf16| bf16::from_f32(f(x.to_f32()))),
        Type::F16x2 => halves(move |x: f16| f16::from_f32(f(x.to_f32()))),
        Type::Bf16x2 => halves(move |x: bf16| bf16::from_f32(f(x.to_f32()))),
        _ => return None,
    })
}

fn halves<T: Lane<Word = u32>>(f: impl Fn(T) -> T + Send + Sync + 'static) -> Compute {
    unary(move |x: Pair<T>| Pair(f(x.0), f(x.1)))
}

fn in_f64(f: impl Fn(f64) -> f64 + Send + Sync + 'static, ty: Type) -> Option<Compute> {
    (ty == Type::F64).then(|| unary(f))
}

/// 2^x within two units in the last place, without branches, so that lanes are computed together.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    // Beyond these, results are zero or infinite. A NaN stays one.
    let x = if x < -160.0 { -160.0 } else { x };
    let x = if x > 160.0 { 160.0 } else { x };
    // Adding and taking away a large number rounds to a whole one.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x + ROUND;
    let whole = shifted - ROUND;
    let f = x - whole;
    // The series of 2^f for |f| <= 1/2: powers of ln 2 over factorials.
    let mut p = 1.525_273_4e-5_f32;
    for c in
        [1.540_353e-4, 1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 2.402_265e-1, 6.931_472e-1, 1.0]
    {
        p = p.mul_add(f, c);
    }
    // Two steps, so that subnormal results are rounded once, at the end.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    p * power(half) * power(n - half)
}
