//! Integer arithmetic.

use super::by_integer;
use crate::isa::compute::{binary, ternary, unary};
use crate::isa::decoder::Decoder;
use crate::isa::opcode::Opcode;
use crate::isa::{Compute, Type};
use crate::parse::Operand;

/// Arithmetic whose result has the type of its operands.
pub(super) fn arithmetic(name: &str, ty: Type) -> Option<Compute> {
    match name {
        "add" => by_integer!(ty, T => binary(|a: T, b: T| a.wrapping_add(b))),
        "sub" => by_integer!(ty, T => binary(|a: T, b: T| a.wrapping_sub(b))),
        // What a GPU does without a fault: all ones.
        "div" => by_integer!(ty, T => binary(|a: T, b: T| match b {
            0 => !0,
            _ => a.wrapping_div(b),
        })),
        "rem" => by_integer!(ty, T => binary(|a: T, b: T| match b {
            0 => a,
            _ => a.wrapping_rem(b),
        })),
        "min" => by_integer!(ty, T => binary(|a: T, b: T| a.min(b))),
        "max" => by_integer!(ty, T => binary(|a: T, b: T| a.max(b))),
        "sad" => by_integer!(ty, T => ternary(|a: T, b: T, c: T| {
            c.wrapping_add(if a > b { a.wrapping_sub(b) } else { b.wrapping_sub(a) })
        })),
        "abs" => match ty {
            Type::S16 => Some(unary(i16::wrapping_abs)),
            Type::S32 => Some(unary(i32::wrapping_abs)),
            Type::S64 => Some(unary(i64::wrapping_abs)),
            _ => None,
        },
        "neg" => match ty {
            Type::S16 => Some(unary(i16::wrapping_neg)),
            Type::S32 => Some(unary(i32::wrapping_neg)),
            Type::S64 => Some(unary(i64::wrapping_neg)),
            _ => None,
        },
        _ => None,
    }
}

/// Decodes `mul`, `mad` and `mul24` of integers.
pub(super) fn product<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    let Some(part) = op.choose(&[("lo", Part::Low), ("hi", Part::High), ("wide", Part::Wide)])
    else {
        return Ok(false);
    };
    let ty = op.ty()?;
    let short = op.name == "mul24";
    let add = op.name == "mad";
    let compute = match (part, short) {
        (Part::Low, true) => low24(ty),
        (_, true) => None,
        (Part::Low, _) => low(ty, add),
        (Part::High, _) => high(ty, add),
        (Part::Wide, _) => wide(ty, add),
    };
    let compute = compute.ok_or_else(|| format!("not defined for {ty:?}"))?;
    let result = if part == Part::Wide { widened(ty) } else { ty };
    let sources = [ty, ty, result];
    super::emit(d, o, compute, result, &sources[..2 + usize::from(add)])?;
    Ok(true)
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Low,
    High,
    Wide,
}

fn widened(ty: Type) -> Type {
    match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        _ => Type::S64,
    }
}

fn low(ty: Type, add: bool) -> Option<Compute> {
    match add {
        false => by_integer!(ty, T => binary(|a: T, b: T| a.wrapping_mul(b))),
        true => by_integer!(ty, T => ternary(|a: T, b: T, c: T| {
            a.wrapping_mul(b).wrapping_add(c)
        })),
    }
}

fn low24(ty: Type) -> Option<Compute> {
    match ty {
        Type::U32 => Some(binary(|a: u32, b: u32| (a & 0xFF_FFFF).wrapping_mul(b & 0xFF_FFFF))),
        Type::S32 => Some(binary(|a: i32, b: i32| (a << 8 >> 8).wrapping_mul(b << 8 >> 8))),
        _ => None,
    }
}

fn high(ty: Type, add: bool) -> Option<Compute> {
    macro_rules! high {
        ($t:ty, $wide:ty) => {{
            let product = |a: $t, b: $t| ((a as $wide * b as $wide) >> <$t>::BITS) as $t;
            match add {
                false => binary(product),
                true => ternary(move |a: $t, b: $t, c: $t| product(a, b).wrapping_add(c)),
            }
        }};
    }
    Some(match ty {
        Type::U16 => high!(u16, u32),
        Type::S16 => high!(i16, i32),
        Type::U32 => high!(u32, u64),
        Type::S32 => high!(i32, i64),
        Type::U64 => high!(u64, u128),
        Type::S64 => high!(i64, i128),
        _ => return None,
    })
}

fn wide(ty: Type, add: bool) -> Option<Compute> {
    macro_rules! wide {
        ($t:ty, $wide:ty) => {
            match add {
                false => binary(|a: $t, b: $t| <$wide>::from(a) * <$wide>::from(b)),
                true => ternary(|a: $t, b: $t, c: $wide| {
                    (<$wide>::from(a) * <$wide>::from(b)).wrapping_add(c)
                }),
            }
        };
    }
    Some(match ty {
        Type::U16 => wide!(u16, u32),
        Type::S16 => wide!(i16, i32),
        Type::U32 => wide!(u32, u64),
        Type::S32 => wide!(i32, i64),
        _ => return None,
    })
}
