//! Instructions that only touch registers: arithmetic, logic, comparison, conversion.

mod bits;
mod compare;
mod convert;
mod float;
mod half;
mod integer;
mod modes;
mod mov;

use convert::Rounding;

use super::decoder::{Decoder, class};
use super::opcode::Opcode;
use super::{Compute, Type};
use crate::parse::Operand;
use crate::registers::Slot;

pub(super) use mov::not_predicate;

/// Decodes the instruction if it is one of these.
pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    match op.name {
        "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max"
        | "sad" | "copysign" | "mul24" => arithmetic(d, op, o)?,
        "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" => {
            let function = op.name;
            let modes = modes::Modes::parse(op);
            let ty = op.ty()?;
            let compute = float::function(function, modes, ty).ok_or("no such type")?;
            emit(d, o, compute, ty, &[ty])?;
        }
        "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "prmt" | "bfe" | "bfi"
        | "bfind" | "brev" | "popc" | "clz" | "lop3" | "bmsk" | "szext" => {
            bits::decode(d, op, o)?;
        }
        "setp" | "set" | "selp" | "slct" | "testp" => compare::decode(d, op, o)?,
        "cvt" => convert::decode(d, op, o)?,
        "mov" => mov::decode(d, op, o)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn arithmetic<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<(), String> {
    let name = op.name;
    if matches!(name, "mul" | "mad" | "mul24") && integer::product(d, op, o)? {
        return Ok(());
    }
    // NVIDIA's exponential function rounds one product down.
    let down = name == "fma" && op.has("rm");
    let modes = modes::Modes::parse(op);
    let ty = op.ty()?;
    let compute = match ty {
        Type::F32 if down => Some(float::fused(modes, Rounding::Down)),
        _ if down => None,
        Type::F32 => float::single(name, modes),
        Type::F64 => float::double(name),
        _ if ty.float() => half::arithmetic(name, modes, ty),
        _ => integer::arithmetic(name, ty),
    };
    let compute = compute.ok_or_else(|| format!("not defined for {ty:?}"))?;
    let sources = match name {
        "abs" | "neg" => 1,
        "fma" | "mad" | "sad" => 3,
        _ => 2,
    };
    emit(d, o, compute, ty, &vec![ty; sources])
}

/// Adds a computation whose first operand is the destination.
fn emit<'a>(
    d: &mut Decoder<'a>,
    o: &[Operand<'a>],
    compute: Compute,
    dst: Type,
    src: &[Type],
) -> Result<(), String> {
    let (first, rest) = o.split_first().ok_or("operands are missing")?;
    if rest.len() != src.len() {
        return Err(format!("expected {} operands, found {}", src.len() + 1, o.len()));
    }
    let dst = d.dest(first, class(dst))?;
    let mut sources = [Slot::NONE; 5];
    for ((slot, operand), &ty) in sources.iter_mut().zip(rest).zip(src) {
        *slot = d.source(operand, ty)?;
    }
    d.emit_compute(compute, &[dst], &sources);
    Ok(())
}

/// Chooses the expression by integer type; `$t` names the Rust type in it.
macro_rules! by_integer {
    ($ty:expr, $t:ident => $make:expr) => {
        match $ty {
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
use by_integer;
