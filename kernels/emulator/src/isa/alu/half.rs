//! Arithmetic in f16 and bf16, single and in pairs.

use half::{bf16, f16};

use super::modes::{Modes, larger, smaller};
use crate::isa::compute::{binary, ternary, unary};
use crate::isa::{Compute, Type};
use crate::registers::{Lane, Pair};

/// A sixteen-bit float. Sums and products are formed in a wider type and rounded once: the wider
/// one has more than twice the digits, so that rounding twice changes nothing.
trait Half: Lane<Word = u32> {
    fn wide(self) -> f32;
    fn narrow(x: f32) -> Self;
    fn narrow_double(x: f64) -> Self;
    fn abs(self) -> Self;
    fn neg(self) -> Self;
}

macro_rules! half {
    ($t:ty) => {
        impl Half for $t {
            #[inline(always)]
            fn wide(self) -> f32 {
                self.to_f32()
            }

            #[inline(always)]
            fn narrow(x: f32) -> Self {
                match x.is_nan() {
                    true => <$t>::from_bits(0x7FFF),
                    false => <$t>::from_f32(x),
                }
            }

            #[inline(always)]
            fn narrow_double(x: f64) -> Self {
                match x.is_nan() {
                    true => <$t>::from_bits(0x7FFF),
                    false => <$t>::from_f64(x),
                }
            }

            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::from_bits(self.to_bits() & 0x7FFF)
            }

            #[inline(always)]
            fn neg(self) -> Self {
                <$t>::from_bits(self.to_bits() ^ 0x8000)
            }
        }
    };
}

half!(f16);
half!(bf16);

/// Arithmetic in a sixteen-bit type.
pub(super) fn arithmetic(name: &str, m: Modes, ty: Type) -> Option<Compute> {
    match ty {
        Type::F16 => of::<f16>(name, m, false),
        Type::Bf16 => of::<bf16>(name, m, false),
        Type::F16x2 => of::<f16>(name, m, true),
        Type::Bf16x2 => of::<bf16>(name, m, true),
        _ => None,
    }
}

fn of<T: Half>(name: &str, m: Modes, pair: bool) -> Option<Compute> {
    let m = Modes { flush: false, ..m };
    Some(match name {
        "add" => two::<T>(pair, move |a, b| T::narrow(m.output(a.wide() + b.wide()))),
        "sub" => two::<T>(pair, move |a, b| T::narrow(m.output(a.wide() - b.wide()))),
        "mul" => two::<T>(pair, move |a, b| T::narrow(m.output(a.wide() * b.wide()))),
        "min" => two::<T>(pair, move |a, b| T::narrow(smaller(a.wide(), b.wide(), m.nan))),
        "max" => two::<T>(pair, move |a, b| T::narrow(larger(a.wide(), b.wide(), m.nan))),
        "fma" => three::<T>(pair, move |a, b, c| {
            let exact = f64::from(a.wide()).mul_add(f64::from(b.wide()), f64::from(c.wide()));
            match m.relu || m.saturate {
                true => T::narrow(m.output(exact as f32)),
                false => T::narrow_double(exact),
            }
        }),
        "abs" => one::<T>(pair, T::abs),
        "neg" => one::<T>(pair, T::neg),
        _ => return None,
    })
}

fn one<T: Half>(pair: bool, f: impl Fn(T) -> T + Send + Sync + 'static) -> Compute {
    match pair {
        false => unary(f),
        true => unary(move |a: Pair<T>| Pair(f(a.0), f(a.1))),
    }
}

fn two<T: Half>(pair: bool, f: impl Fn(T, T) -> T + Send + Sync + 'static) -> Compute {
    match pair {
        false => binary(f),
        true => binary(move |a: Pair<T>, b: Pair<T>| Pair(f(a.0, b.0), f(a.1, b.1))),
    }
}

fn three<T: Half>(pair: bool, f: impl Fn(T, T, T) -> T + Send + Sync + 'static) -> Compute {
    match pair {
        false => ternary(f),
        true => ternary(move |a: Pair<T>, b: Pair<T>, c: Pair<T>| {
            Pair(f(a.0, b.0, c.0), f(a.1, b.1, c.1))
        }),
    }
}
