//! `cvt`: from one type to another.

use half::{bf16, f16};

use super::modes::Modes;
use crate::isa::compute::{binary, unary, wide};
use crate::isa::decoder::{Decoder, class};
use crate::isa::opcode::Opcode;
use crate::isa::{Compute, Type};
use crate::parse::Operand;
use crate::registers::{Class, Lane, Pair};

/// Where a value goes that the result cannot hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<(), String> {
    let rounding = op.choose(&[
        ("rn", Rounding::Nearest),
        ("rz", Rounding::Zero),
        ("rm", Rounding::Down),
        ("rp", Rounding::Up),
    ]);
    let integral = op.choose(&[
        ("rni", Rounding::Nearest),
        ("rzi", Rounding::Zero),
        ("rmi", Rounding::Down),
        ("rpi", Rounding::Up),
    ]);
    let modes =
        Modes { flush: op.has("ftz"), saturate: op.has("sat"), relu: op.has("relu"), nan: false };
    let (to, from) = (op.ty()?, op.ty()?);
    let rounding = rounding.unwrap_or(Rounding::Nearest);
    let bad = || format!("from {from:?} to {to:?} is not supported");
    if matches!(to, Type::F16x2 | Type::Bf16x2) {
        let compute = pair(to, from, rounding, modes).ok_or_else(bad)?;
        return super::emit(d, o, compute, to, &[from, from]);
    }
    let compute = match (to.float(), from.float()) {
        (false, false) => integer(to, from, modes.saturate),
        (true, false) => from_integer(to, from, rounding, modes),
        (false, true) => to_integer(to, from, integral.unwrap_or(Rounding::Zero), modes),
        (true, true) => float(to, from, rounding, integral, modes),
    };
    let compute = compute.ok_or_else(bad)?;
    // The source may be wider than its type: only its low bits count.
    if let Some(slot) = o.get(1).and_then(|o| d.any_register(o))
        && slot.class() == Class::Double
        && class(from) == Class::Word
        && o.len() == 2
    {
        let low = d.temporary(Class::Word);
        d.emit_compute(unary(|x: u64| x as u32), &[low], &[slot]);
        let dst = d.dest(&o[0], class(to))?;
        d.emit_compute(compute, &[dst], &[low]);
        return Ok(());
    }
    super::emit(d, o, compute, to, &[from])
}

/// Chooses the expression by integer type, eight bits included.
macro_rules! by_any_integer {
    ($ty:expr, $t:ident => $make:expr) => {
        match $ty {
            Type::U8 | Type::B8 => {
                type $t = u8;
                Some($make)
            }
            Type::S8 => {
                type $t = i8;
                Some($make)
            }
            Type::U16 | Type::B16 => {
                type $t = u16;
                Some($make)
            }
            Type::S16 => {
                type $t = i16;
                Some($make)
            }
            Type::U32 | Type::B32 => {
                type $t = u32;
                Some($make)
            }
            Type::S32 => {
                type $t = i32;
                Some($make)
            }
            Type::U64 | Type::B64 => {
                type $t = u64;
                Some($make)
            }
            Type::S64 => {
                type $t = i64;
                Some($make)
            }
            _ => None,
        }
    };
}

fn integer(to: Type, from: Type, saturate: bool) -> Option<Compute> {
    by_any_integer!(from, A => by_any_integer!(to, R => match saturate {
        false => unary(|a: A| a as R),
        true => unary(|a: A| i128::from(a).clamp(i128::from(R::MIN), i128::from(R::MAX)) as R),
    })?)
}

fn from_integer(to: Type, from: Type, rounding: Rounding, m: Modes) -> Option<Compute> {
    let nearest = rounding == Rounding::Nearest;
    by_any_integer!(from, A => match to {
        Type::F64 if nearest => unary(|a: A| a as f64),
        Type::F32 if nearest => unary(move |a: A| m.output(a as f32)),
        Type::F32 if from.bytes() <= 4 => {
            unary(move |a: A| m.output(narrow::<f32>(a as f64, rounding)))
        }
        Type::F16 if from.bytes() <= 4 => unary(move |a: A| narrow::<f16>(a as f64, rounding)),
        Type::Bf16 if from.bytes() <= 4 => unary(move |a: A| narrow::<bf16>(a as f64, rounding)),
        _ => return None,
    })
}

/// Values out of range become the nearest that the type has, NaN becomes zero.
fn to_integer(to: Type, from: Type, rounding: Rounding, m: Modes) -> Option<Compute> {
    by_any_integer!(to, R => match from {
        Type::F64 => unary(move |x: f64| whole(x, rounding) as R),
        Type::F32 => unary(move |x: f32| whole_single(m.input(x), rounding) as R),
        Type::F16 => unary(move |x: f16| whole(x.to_f64(), rounding) as R),
        Type::Bf16 => unary(move |x: bf16| whole(x.to_f64(), rounding) as R),
        _ => return None,
    })
}

fn whole(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

fn whole_single(x: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

fn float(
    to: Type,
    from: Type,
    rounding: Rounding,
    integral: Option<Rounding>,
    m: Modes,
) -> Option<Compute> {
    let nearest = rounding == Rounding::Nearest;
    Some(match (to, from, integral) {
        (Type::F32, Type::F32, Some(mode)) => {
            unary(move |x: f32| m.output(whole_single(m.input(x), mode)))
        }
        (Type::F64, Type::F64, Some(mode)) => unary(move |x: f64| whole(x, mode)),
        (Type::F16, Type::F16, Some(mode)) => {
            unary(move |x: f16| f16::from_f64(whole(x.to_f64(), mode)))
        }
        (_, _, Some(_)) => return None,
        (Type::F32, Type::F32, None) => unary(move |x: f32| m.output(m.input(x))),
        (Type::F64, Type::F64, None) => unary(|x: f64| x),
        (Type::F64, Type::F32, None) => unary(move |x: f32| f64::from(m.input(x))),
        (Type::F32, Type::F64, None) => unary(move |x: f64| m.output(narrow::<f32>(x, rounding))),
        (Type::F32, Type::F16, None) => unary(move |x: f16| m.output(x.to_f32())),
        (Type::F32, Type::Bf16, None) => unary(move |x: bf16| m.output(x.to_f32())),
        (Type::F64, Type::F16, None) => unary(f16::to_f64),
        (Type::F64, Type::Bf16, None) => unary(bf16::to_f64),
        (Type::Bf16, Type::F32, None) if nearest => {
            unary(move |x: f32| nearest_bf16(m.output(m.input(x))))
        }
        (Type::F16, Type::F32, None) => {
            unary(move |x: f32| narrow::<f16>(f64::from(m.output(m.input(x))), rounding))
        }
        (Type::Bf16, Type::F32, None) => {
            unary(move |x: f32| narrow::<bf16>(f64::from(m.output(m.input(x))), rounding))
        }
        (Type::F16, Type::F64, None) => unary(move |x: f64| narrow::<f16>(x, rounding)),
        (Type::Bf16, Type::F64, None) => unary(move |x: f64| narrow::<bf16>(x, rounding)),
        _ => return None,
    })
}

/// Two f32 to a pair; the first operand becomes the upper half.
fn pair(to: Type, from: Type, rounding: Rounding, m: Modes) -> Option<Compute> {
    let nearest = rounding == Rounding::Nearest;
    Some(match (to, from) {
        (Type::Bf16x2, Type::F32) if nearest && m.plain() => {
            wide::binary(|high: f32, low: f32| Pair(nearest_bf16(low), nearest_bf16(high)))
        }
        (Type::Bf16x2, Type::F32) if nearest => binary(move |high: f32, low: f32| {
            Pair(nearest_bf16(m.output(low)), nearest_bf16(m.output(high)))
        }),
        (Type::Bf16x2, Type::F32) => binary(move |high: f32, low: f32| {
            let half = |x: f32| narrow::<bf16>(f64::from(m.output(x)), rounding);
            Pair(half(low), half(high))
        }),
        (Type::F16x2, Type::F32) => binary(move |high: f32, low: f32| {
            let half = |x: f32| narrow::<f16>(f64::from(m.output(x)), rounding);
            Pair(half(low), half(high))
        }),
        _ => return None,
    })
}

/// Rounds to the nearest, ties to even; a NaN becomes the canonical one.
#[inline(always)]
fn nearest_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16;
    bf16::from_bits(if x.is_nan() { 0x7FFF } else { rounded })
}

/// A type that an f64 is rounded to.
pub(super) trait Narrow: Lane {
    fn nearest(x: f64) -> Self;
    fn value(self) -> f64;
    /// The neighbour with the next smaller magnitude.
    fn inward(self) -> Self;
    /// The neighbour with the next larger magnitude.
    fn outward(self) -> Self;
    fn nan() -> Self;
}

macro_rules! narrow {
    ($t:ty, $nearest:expr, $value:expr, $nan:expr) => {
        impl Narrow for $t {
            fn nearest(x: f64) -> Self {
                $nearest(x)
            }

            fn value(self) -> f64 {
                $value(self)
            }

            fn inward(self) -> Self {
                <$t>::from_bits(self.to_bits() - 1)
            }

            fn outward(self) -> Self {
                <$t>::from_bits(self.to_bits() + 1)
            }

            fn nan() -> Self {
                <$t>::from_bits($nan)
            }
        }
    };
}

narrow!(f32, |x| x as f32, f64::from, 0x7FFF_FFFF);
narrow!(f16, f16::from_f64, f16::to_f64, 0x7FFF);
narrow!(bf16, bf16::from_f64, bf16::to_f64, 0x7FFF);

pub(super) fn narrow<T: Narrow>(x: f64, rounding: Rounding) -> T {
    if x.is_nan() {
        return T::nan();
    }
    let near = T::nearest(x);
    let value = near.value();
    let too_far = value.abs() > x.abs();
    let too_near = value.abs() < x.abs();
    match rounding {
        Rounding::Zero if too_far => near.inward(),
        Rounding::Down if value > x && too_far => near.inward(),
        Rounding::Down if value > x && too_near => near.outward(),
        Rounding::Up if value < x && too_far => near.inward(),
        Rounding::Up if value < x && too_near => near.outward(),
        _ => near,
    }
}
