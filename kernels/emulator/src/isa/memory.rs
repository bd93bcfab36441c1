//! Loads, stores and addresses.

use super::Type;
use super::compute::{Compute, unary};
use super::decoder::{Decoder, class};
use super::op::{Op, Operands, Space};
use super::opcode::Opcode;
use crate::memory::window;
use crate::parse::Operand;
use crate::registers::{Class, Slot};

/// Bytes of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    B1,
    B2,
    B4,
    B8,
}

impl Width {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::B1 => 1,
            Self::B2 => 2,
            Self::B4 => 4,
            Self::B8 => 8,
        }
    }

    fn of(ty: Type) -> Self {
        match ty.bytes() {
            1 => Self::B1,
            2 => Self::B2,
            4 => Self::B4,
            _ => Self::B8,
        }
    }
}

/// What a load or store moves per lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub space: Space,
    pub width: Width,
    /// Elements: 1, 2 or 4.
    pub count: u8,
    /// Loaded values are sign-extended.
    pub signed: bool,
    /// Added to the address.
    pub offset: i64,
}

/// Decodes the instruction if it is one of these.
pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    match op.name {
        "ld" | "ldu" => transfer(d, op, o, true)?,
        "st" => transfer(d, op, o, false)?,
        "cvta" => convert(d, op, o)?,
        "isspacep" => belongs(d, op, o)?,
        "prefetch" | "prefetchu" | "discard" | "applypriority" => {
            hint(op);
            for level in ["L1", "L2", "global", "local", "tensormap"] {
                op.has(level);
            }
            d.emit(Op::Nop, Operands::default());
        }
        "membar" | "fence" => {
            thread_fence(op);
            d.emit(Op::Nop, Operands::default());
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Fences between threads: the emulator keeps all accesses in order.
fn thread_fence(op: &mut Opcode<'_>) {
    for modifier in [
        "cta",
        "cluster",
        "gl",
        "gpu",
        "sys",
        "sc",
        "acq_rel",
        "acquire",
        "release",
        "sync_restrict::shared::cta",
        "sync_restrict::shared::cluster",
    ] {
        op.has(modifier);
    }
}

/// Takes modifiers that only speak of caches and order.
pub(super) fn hint(op: &mut Opcode<'_>) {
    for modifier in [
        "weak", "volatile", "relaxed", "acquire", "release", "acq_rel", "mmio", "cta", "cluster",
        "gpu", "sys", "ca", "cg", "cs", "cv", "lu", "wb", "wt", "nc",
    ] {
        op.has(modifier);
    }
    op.take(|m| {
        let known = ["L1::", "L2::"].iter().any(|level| m.starts_with(level));
        known.then_some(())
    });
    op.take(|m| m.starts_with("L2::").then_some(()));
    op.take(|m| m.starts_with("L2::").then_some(()));
}

/// The address space that the modifiers name.
pub(super) fn space(op: &mut Opcode<'_>) -> Space {
    let space = op.choose(&[
        ("global", Space::Global),
        ("const", Space::Global),
        ("shared", Space::Shared { cluster: false }),
        ("shared::cta", Space::Shared { cluster: false }),
        ("shared::cluster", Space::Shared { cluster: true }),
        ("local", Space::Local),
        ("param", Space::Param),
        ("param::entry", Space::Param),
    ]);
    space.unwrap_or(Space::Generic)
}

fn transfer<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
    load: bool,
) -> Result<(), String> {
    hint(op);
    let space = space(op);
    let count: u8 = op.choose(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
    let ty = op.ty()?;
    // A third operand is a policy for caches.
    let [values, address] = match (load, o) {
        (true, [values, address] | [values, address, _]) => [values, address],
        (false, [address, values] | [address, values, _]) => [values, address],
        _ => return Err("expected an address and values".into()),
    };
    let (base, offset) = d.address(address)?;
    let list = match values {
        Operand::Vector(list) => &list[..],
        one => std::slice::from_ref(one),
    };
    if list.len() != usize::from(count) || ty == Type::Pred {
        return Err("the number or type of the values is wrong".into());
    }
    let access = Access { space, width: Width::of(ty), count, signed: ty.signed() && load, offset };
    if access.width.bytes() * list.len() > 16 {
        return Err("an access has at most 16 bytes".into());
    }
    let mut operands = Operands::default();
    operands.src[0] = base;
    for (i, value) in list.iter().enumerate() {
        // Registers may be wider than the type.
        let slot = match d.any_register(value) {
            Some(slot) if slot.class() == Class::Predicate => {
                return Err("predicates cannot be in memory".into());
            }
            Some(slot) if wide_enough(slot, ty) => slot,
            Some(_) => return Err("a register is too narrow".into()),
            None if load => d.dest(value, class(ty))?,
            None => d.source(value, ty)?,
        };
        match load {
            true => operands.dst[i] = slot,
            false => operands.src[1 + i] = slot,
        }
    }
    d.emit(if load { Op::Load(access) } else { Op::Store(access) }, operands);
    Ok(())
}

fn wide_enough(slot: Slot, ty: Type) -> bool {
    slot.class() == Class::Double || ty.bytes() <= 4
}

/// `cvta`: between a space's own addresses and generic ones.
fn convert<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let to = op.has("to");
    let space = space(op);
    let ty = op.ty()?;
    let base = match space {
        Space::Global | Space::Generic => 0,
        Space::Shared { .. } => window::SHARED,
        Space::Local => window::LOCAL,
        Space::Param => window::PARAM,
    };
    let base = if to { base.wrapping_neg() } else { base };
    let compute = unary(move |a: u64| a.wrapping_add(base));
    let [dst, src] = super::decoder::exactly(o)?;
    let (dst, src) = (d.dest(dst, class(ty))?, d.source(src, ty)?);
    if ty.bytes() != 8 {
        return Err("addresses have 64 bits".into());
    }
    d.emit_compute(compute, &[dst], &[src]);
    Ok(())
}

/// `isspacep`: whether a generic address is in a space's window.
fn belongs<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let space = space(op);
    let [dst, src] = super::decoder::exactly(o)?;
    let (dst, src) = (d.dest(dst, Class::Predicate)?, d.source(src, Type::U64)?);
    let compute: Compute = Box::new(move |regs, o, mask| {
        let mut inside = 0;
        for (lane, &address) in regs.doubles(o.src[0]).iter().enumerate() {
            let here = match window::place(address) {
                window::Place::Global(_) => space == Space::Global,
                window::Place::Shared(_) => matches!(space, Space::Shared { .. }),
                window::Place::Local(_) => space == Space::Local,
                window::Place::Param(_) => space == Space::Param,
            };
            inside |= u32::from(here) << lane;
        }
        regs.put_predicate(o.dst[0], mask, inside);
    });
    d.emit_compute(compute, &[dst], &[src]);
    Ok(())
}
