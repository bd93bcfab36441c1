//! `mov`: copies, packing and unpacking.

use crate::isa::decoder::{Decoder, class, exactly};
use crate::isa::op::{Op, Operands};
use crate::isa::opcode::Opcode;
use crate::isa::{Compute, Type};
use crate::parse::Operand;
use crate::registers::{Class, LANES, Slot};

pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<(), String> {
    let ty = op.ty()?;
    let [dst, src] = exactly(o)?;
    match (dst, src) {
        (_, Operand::Vector(parts)) => pack(d, ty, dst, parts),
        (Operand::Vector(parts), _) => unpack(d, ty, parts, src),
        (_, Operand::Name("%clock" | "%clock64" | "%globaltimer" | "%globaltimer_lo")) => {
            let mut operands = Operands::default();
            operands.dst[0] = d.dest(dst, class(ty))?;
            d.emit(Op::Clock, operands);
            Ok(())
        }
        _ => {
            let (dst, src) = (d.dest(dst, class(ty))?, d.source(src, ty)?);
            d.emit_compute(copy(class(ty)), &[dst], &[src]);
            Ok(())
        }
    }
}

fn copy(class: Class) -> Compute {
    match class {
        Class::Word => Box::new(|regs, o, mask| {
            let values = *regs.words(o.src[0]);
            regs.put_words(o.dst[0], mask, &values);
        }),
        Class::Double => Box::new(|regs, o, mask| {
            let values = *regs.doubles(o.src[0]);
            regs.put_doubles(o.dst[0], mask, &values);
        }),
        Class::Predicate => Box::new(|regs, o, mask| {
            regs.put_predicate(o.dst[0], mask, regs.predicate(o.src[0]));
        }),
    }
}

/// `dst[0] = !src[0]` of predicates.
pub(in crate::isa) fn not_predicate() -> Compute {
    Box::new(|regs, o, mask| regs.put_predicate(o.dst[0], mask, !regs.predicate(o.src[0])))
}

/// Bits of a part, if a value of `ty` has that many parts.
fn part_bits(ty: Type, parts: usize) -> Result<u32, String> {
    match (ty.bytes(), parts) {
        (4, 2) => Ok(16),
        (8, 2) => Ok(32),
        (8, 4) => Ok(16),
        (2, 2) => Ok(8),
        (4, 4) => Ok(8),
        _ => Err(format!("{parts} parts do not make a {ty:?}")),
    }
}

fn part_type(bits: u32) -> Type {
    match bits {
        8 => Type::B8,
        16 => Type::B16,
        _ => Type::B32,
    }
}

fn pack<'a>(
    d: &mut Decoder<'a>,
    ty: Type,
    dst: &Operand<'a>,
    parts: &[Operand<'a>],
) -> Result<(), String> {
    let bits = part_bits(ty, parts.len())?;
    let mut sources = [Slot::NONE; 5];
    for (slot, part) in sources.iter_mut().zip(parts) {
        *slot = d.source(part, part_type(bits))?;
    }
    let parts = parts.len();
    let dst = d.dest(dst, class(ty))?;
    let compute: Compute = match class(ty) {
        Class::Double => Box::new(move |regs, o, mask| {
            let mut values = [0u64; LANES];
            for (i, &slot) in o.src[..parts].iter().enumerate() {
                for (value, &part) in values.iter_mut().zip(regs.words(slot)) {
                    *value |= u64::from(part) << (bits * i as u32);
                }
            }
            regs.put_doubles(o.dst[0], mask, &values);
        }),
        _ => Box::new(move |regs, o, mask| {
            let mut values = [0u32; LANES];
            for (i, &slot) in o.src[..parts].iter().enumerate() {
                for (value, &part) in values.iter_mut().zip(regs.words(slot)) {
                    *value |= (part & ((1 << bits) - 1)) << (bits * i as u32);
                }
            }
            regs.put_words(o.dst[0], mask, &values);
        }),
    };
    d.emit_compute(compute, &[dst], &sources);
    Ok(())
}

fn unpack<'a>(
    d: &mut Decoder<'a>,
    ty: Type,
    parts: &[Operand<'a>],
    src: &Operand<'a>,
) -> Result<(), String> {
    let bits = part_bits(ty, parts.len())?;
    let mut targets = [Slot::NONE; 4];
    for (slot, part) in targets.iter_mut().zip(parts) {
        *slot = d.dest(part, Class::Word)?;
    }
    let parts = parts.len();
    let src = d.source(src, ty)?;
    let wide = class(ty) == Class::Double;
    let keep = if bits == 32 { u32::MAX } else { (1 << bits) - 1 };
    let compute: Compute = Box::new(move |regs, o, mask| {
        let values: [u64; LANES] = match wide {
            true => *regs.doubles(o.src[0]),
            false => regs.words(o.src[0]).map(u64::from),
        };
        for (i, &slot) in o.dst[..parts].iter().enumerate() {
            let part = values.map(|v| (v >> (bits * i as u32)) as u32 & keep);
            regs.put_words(slot, mask, &part);
        }
    });
    d.emit_compute(compute, &targets, &[src]);
    Ok(())
}
