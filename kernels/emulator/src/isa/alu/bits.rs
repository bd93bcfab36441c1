//! Logic, shifts and bit fields.

use super::{by_integer, emit};
use crate::isa::compute::{binary, quaternary, ternary, unary};
use crate::isa::decoder::Decoder;
use crate::isa::opcode::Opcode;
use crate::isa::{Compute, Type};
use crate::parse::Operand;

pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<(), String> {
    let name = op.name;
    match name {
        "shf" => return funnel(d, op, o),
        "prmt" => return permute(d, op, o),
        "lop3" => {
            op.ty()?;
            return emit(d, o, lut(), Type::B32, &[Type::B32; 4]);
        }
        _ => {}
    }
    let amount = op.has("shiftamt");
    let clamp = op.has("clamp");
    let ty = op.ty()?;
    let bad = || format!("not defined for {ty:?}");
    let (compute, result, sources): (_, _, &[Type]) = match name {
        "and" | "or" | "xor" => (logic(name, ty), ty, &[ty, ty]),
        "not" => (not(ty), ty, &[ty]),
        "cnot" => (by_integer!(ty, T => unary(|a: T| T::from(a == 0))), ty, &[ty]),
        "shl" | "shr" => (shift(name, ty), ty, &[ty, Type::U32]),
        "popc" => (count(ty, u32::count_ones, u64::count_ones), Type::U32, &[ty]),
        "clz" => (count(ty, u32::leading_zeros, u64::leading_zeros), Type::U32, &[ty]),
        "brev" => (reverse(ty), ty, &[ty]),
        "bfind" => (find(ty, amount), Type::U32, &[ty]),
        "bfe" => (extract(ty), ty, &[ty, Type::U32, Type::U32]),
        "bfi" => (insert(ty), ty, &[ty, ty, Type::U32, Type::U32]),
        "bmsk" if clamp => (Some(mask()), Type::B32, &[Type::U32, Type::U32]),
        _ => return Err("the instruction is not supported".into()),
    };
    emit(d, o, compute.ok_or_else(bad)?, result, sources)
}

fn logic(name: &str, ty: Type) -> Option<Compute> {
    if ty == Type::Pred {
        return Some(match name {
            "and" => Box::new(|r, o, m| {
                r.put_predicate(o.dst[0], m, r.predicate(o.src[0]) & r.predicate(o.src[1]));
            }),
            "or" => Box::new(|r, o, m| {
                r.put_predicate(o.dst[0], m, r.predicate(o.src[0]) | r.predicate(o.src[1]));
            }),
            _ => Box::new(|r, o, m| {
                r.put_predicate(o.dst[0], m, r.predicate(o.src[0]) ^ r.predicate(o.src[1]));
            }),
        });
    }
    match name {
        "and" => by_integer!(ty, T => binary(|a: T, b: T| a & b)),
        "or" => by_integer!(ty, T => binary(|a: T, b: T| a | b)),
        _ => by_integer!(ty, T => binary(|a: T, b: T| a ^ b)),
    }
}

fn not(ty: Type) -> Option<Compute> {
    match ty {
        Type::Pred => Some(super::not_predicate()),
        _ => by_integer!(ty, T => unary(|a: T| !a)),
    }
}

/// Amounts beyond the width shift everything out.
fn shift(name: &str, ty: Type) -> Option<Compute> {
    match name {
        "shl" => by_integer!(ty, T => binary(|a: T, n: u32| a.checked_shl(n).unwrap_or(0))),
        _ => by_integer!(ty, T => binary(|a: T, n: u32| {
            // Signed values leave their sign, unsigned ones nothing.
            let last = a >> (T::BITS - 1);
            a.checked_shr(n).unwrap_or(if T::MIN == 0 { 0 } else { last })
        })),
    }
}

fn count(ty: Type, word: fn(u32) -> u32, double: fn(u64) -> u32) -> Option<Compute> {
    match ty.bytes() {
        4 => Some(unary(word)),
        8 => Some(unary(double)),
        _ => None,
    }
}

fn reverse(ty: Type) -> Option<Compute> {
    match ty.bytes() {
        4 => Some(unary(u32::reverse_bits)),
        8 => Some(unary(u64::reverse_bits)),
        _ => None,
    }
}

/// Position of the highest bit that differs from the sign, or how far to shift it up.
fn find(ty: Type, amount: bool) -> Option<Compute> {
    macro_rules! find {
        ($t:ty, $flip:expr) => {{
            let flip = $flip;
            unary(move |a: $t| {
                let a = flip(a);
                match (a, amount) {
                    (0, _) => u32::MAX,
                    (_, true) => a.leading_zeros(),
                    (_, false) => <$t>::BITS - 1 - a.leading_zeros(),
                }
            })
        }};
    }
    Some(match ty {
        Type::U32 => find!(u32, |a| a),
        Type::U64 => find!(u64, |a| a),
        Type::S32 => find!(u32, |a: u32| if (a as i32) < 0 { !a } else { a }),
        Type::S64 => find!(u64, |a: u64| if (a as i64) < 0 { !a } else { a }),
        _ => return None,
    })
}

fn extract(ty: Type) -> Option<Compute> {
    macro_rules! extract {
        ($t:ty, $u:ty) => {
            ternary(|a: $t, position: u32, length: u32| {
                let (position, length) = (position & 0xFF, length & 0xFF);
                let bits = <$t>::BITS;
                if length == 0 {
                    return 0;
                }
                let signed = <$t>::MIN != 0;
                let top = (position + length - 1).min(bits - 1);
                let sign = if signed { a >> top & 1 } else { 0 };
                let field = (a as $u).checked_shr(position).unwrap_or(0);
                if length >= bits {
                    // Bits above the value are copies of the sign.
                    let fill = if sign != 0 && position > 0 {
                        <$u>::MAX.checked_shl(bits.saturating_sub(position)).unwrap_or(<$u>::MAX)
                    } else {
                        0
                    };
                    return (field | fill) as $t;
                }
                let keep = ((1 as $u) << length) - 1;
                let mut field = field & keep;
                if sign != 0 {
                    let held = bits.saturating_sub(position).min(length);
                    let low = if held == 0 { 0 } else { <$u>::MAX >> (bits - held) };
                    field |= !low;
                }
                field as $t
            })
        };
    }
    Some(match ty {
        Type::U32 => extract!(u32, u32),
        Type::S32 => extract!(i32, u32),
        Type::U64 => extract!(u64, u64),
        Type::S64 => extract!(i64, u64),
        _ => return None,
    })
}

fn insert(ty: Type) -> Option<Compute> {
    macro_rules! insert {
        ($t:ty) => {
            quaternary(|a: $t, b: $t, position: u32, length: u32| {
                let (position, length) = (position & 0xFF, length & 0xFF);
                let field = match length {
                    0 => 0,
                    n if n >= <$t>::BITS => <$t>::MAX,
                    n => (1 << n) - 1,
                };
                let field = <$t>::checked_shl(field, position).unwrap_or(0);
                let a = a.checked_shl(position).unwrap_or(0);
                b & !field | a & field
            })
        };
    }
    Some(match ty {
        Type::B32 => insert!(u32),
        Type::B64 => insert!(u64),
        _ => return None,
    })
}

fn mask() -> Compute {
    binary(|from: u32, length: u32| {
        let low = if from >= 32 { 0 } else { u32::MAX << from };
        let end = from.saturating_add(length);
        let high = if end >= 32 { 0 } else { u32::MAX << end };
        low & !high
    })
}

/// `shf`: the upper or lower half of a shifted pair.
fn funnel<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let left = op.choose(&[("l", true), ("r", false)]).ok_or("the direction is missing")?;
    let wrap = op.choose(&[("wrap", true), ("clamp", false)]).ok_or("the mode is missing")?;
    op.ty()?;
    let compute = ternary(move |low: u32, high: u32, n: u32| {
        let n = if wrap { n & 31 } else { n.min(32) };
        let both = u64::from(high) << 32 | u64::from(low);
        match left {
            true => ((both << n) >> 32) as u32,
            false => (both >> n) as u32,
        }
    });
    emit(d, o, compute, Type::B32, &[Type::B32, Type::B32, Type::U32])
}

/// `prmt`: four bytes chosen out of eight.
fn permute<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    op.ty()?;
    let compute = match op.take(Selection::parse) {
        None => ternary(|a: u32, b: u32, chosen: u32| {
            let both = u64::from(b) << 32 | u64::from(a);
            (0..4).fold(0, |r, i| {
                let nibble = chosen >> (4 * i) & 0xF;
                let byte = (both >> (8 * (nibble & 7))) as u8;
                let byte = match nibble & 8 {
                    0 => byte,
                    _ => ((byte as i8) >> 7) as u8,
                };
                r | u32::from(byte) << (8 * i)
            })
        }),
        Some(mode) => ternary(move |a: u32, b: u32, chosen: u32| {
            let both = u64::from(b) << 32 | u64::from(a);
            (0..4).fold(0, |r, i| {
                let byte = (both >> (8 * mode.byte(chosen & 3, i))) as u8;
                r | u32::from(byte) << (8 * i)
            })
        }),
    };
    emit(d, o, compute, Type::B32, &[Type::B32, Type::B32, Type::U32])
}

/// Fixed patterns of `prmt`.
#[derive(Clone, Copy)]
enum Selection {
    Forward,
    Backward,
    Replicate8,
    ClampLeft,
    ClampRight,
    Replicate16,
}

impl Selection {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "f4e" => Self::Forward,
            "b4e" => Self::Backward,
            "rc8" => Self::Replicate8,
            "ecl" => Self::ClampLeft,
            "ecr" => Self::ClampRight,
            "rc16" => Self::Replicate16,
            _ => return None,
        })
    }

    /// Which of the eight bytes becomes byte `i`.
    fn byte(self, n: u32, i: u32) -> u32 {
        match self {
            Self::Forward => n + i,
            Self::Backward => (n + 8 - i) & 7,
            Self::Replicate8 => n,
            Self::ClampLeft => n.max(i),
            Self::ClampRight => n.min(i),
            Self::Replicate16 => (n & 1) * 2 + (i & 1),
        }
    }
}

/// `lop3`: the table's bit at (a, b, c).
fn lut() -> Compute {
    quaternary(|a: u32, b: u32, c: u32, table: u32| {
        (0..8u32).fold(0, |r, i| {
            let pick = |v: u32, bit: u32| if i >> bit & 1 == 1 { v } else { !v };
            let here = pick(a, 2) & pick(b, 1) & pick(c, 0);
            if table >> i & 1 == 1 { r | here } else { r }
        })
    })
}
