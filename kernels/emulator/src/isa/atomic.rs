//! `atom` and `red`: memory that is read and written at once.

use super::asynchronous::Reduction;
use super::decoder::{Decoder, class};
use super::memory::{hint, space};
use super::op::{Op, Operands, Space};
use super::opcode::Opcode;
use super::types::Type;
use crate::parse::Operand;

/// How the new value comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    Reduce(Reduction),
    Exchange,
    /// The second value, if memory holds the first.
    CompareAndSwap,
}

/// An atomic access: address in `src[0]`, values behind it, old values in `dst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Atomic {
    pub space: Space,
    pub update: Update,
    pub ty: Type,
    /// Elements: 1, 2 or 4, each atomic by itself.
    pub count: u8,
    pub offset: i64,
}

/// Decodes the instruction if it is one of these.
pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    let returns = match op.name {
        "atom" => true,
        "red" => false,
        _ => return Ok(false),
    };
    hint(op);
    op.has("noftz");
    let cached = op.has("L2::cache_hint");
    let space = space(op);
    let count: u8 = op.choose(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
    let update = op
        .take(|m| match m {
            "exch" => Some(Update::Exchange),
            "cas" => Some(Update::CompareAndSwap),
            _ => Reduction::parse(m).map(Update::Reduce),
        })
        .ok_or("the operation is missing")?;
    let ty = op.ty()?;
    let o = match cached {
        true => o.split_last().map_or(o, |(_, rest)| rest),
        false => o,
    };
    let (old, rest) = match (returns, o) {
        (true, [old, rest @ ..]) => (Some(old), rest),
        (false, rest) => (None, rest),
        _ => return Err("operands are missing".into()),
    };
    let (address, values) = match (update, rest) {
        (Update::CompareAndSwap, [address, a, b]) => (address, vec![a.clone(), b.clone()]),
        (_, [address, Operand::Vector(list)]) => (address, list.clone()),
        (_, [address, value]) => (address, vec![value.clone()]),
        _ => return Err("the operands do not fit".into()),
    };
    if update != Update::CompareAndSwap && values.len() != usize::from(count) {
        return Err("the number of values does not fit".into());
    }
    if !supported(update, ty) {
        return Err(format!("not defined for {ty:?}"));
    }
    let mut operands = Operands::default();
    let (slot, offset) = d.address(address)?;
    operands.src[0] = slot;
    for (slot, value) in operands.src[1..].iter_mut().zip(&values) {
        *slot = d.source(value, ty)?;
    }
    match old {
        Some(Operand::Vector(list)) => {
            for (slot, o) in operands.dst.iter_mut().zip(list) {
                *slot = d.dest(o, class(ty))?;
            }
        }
        Some(one) => operands.dst[0] = d.dest(one, class(ty))?,
        None => {}
    }
    d.emit(Op::Atomic(Atomic { space, update, ty, count, offset }), operands);
    Ok(true)
}

fn supported(update: Update, ty: Type) -> bool {
    let wide = ty.bytes() >= 4;
    match update {
        Update::Exchange => wide && !ty.float(),
        Update::CompareAndSwap => ty.bytes() >= 2 && !ty.float(),
        Update::Reduce(how) => reducible(how, ty),
    }
}

/// Whether memory can reduce values of a type this way.
pub(crate) fn reducible(how: Reduction, ty: Type) -> bool {
    match how {
        Reduction::Add => ty.float() || ty.bytes() >= 4,
        Reduction::Min | Reduction::Max => match ty {
            Type::F32 | Type::F64 => false,
            _ => ty.float() || ty.bytes() >= 4,
        },
        Reduction::Inc | Reduction::Dec => matches!(ty, Type::U32 | Type::B32),
        Reduction::And | Reduction::Or | Reduction::Xor => !ty.float() && ty.bytes() >= 4,
    }
}

/// `st.async` and `red.async`: address in `src[0]`, values behind it, mbarrier in `more[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreAsync {
    pub reduction: Option<Reduction>,
    pub ty: Type,
    pub count: u8,
}

/// Decodes the instruction if it is one of these.
pub(super) fn decode_async<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    let reduce = match op.name {
        "st" => false,
        "red" => true,
        _ => return Ok(false),
    };
    if !op.has("async") {
        return Ok(false);
    }
    hint(op);
    if !op.has("mbarrier::complete_tx::bytes") || space(op) != (Space::Shared { cluster: true }) {
        return Err("only the form with an mbarrier in shared::cluster is supported".into());
    }
    let reduction = match reduce {
        true => Some(op.take(Reduction::parse).ok_or("the operation is missing")?),
        false => None,
    };
    let count: u8 = op.choose(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
    let ty = op.ty()?;
    let [address, value, barrier] = super::decoder::exactly(o)?;
    let list = match value {
        Operand::Vector(list) => &list[..],
        one => std::slice::from_ref(one),
    };
    if list.len() != usize::from(count) || ty.bytes() < 4 {
        return Err("the number or type of the values is wrong".into());
    }
    let mut operands = Operands::default();
    operands.src[0] = d.whole_address(address)?;
    for (slot, value) in operands.src[1..].iter_mut().zip(list) {
        *slot = d.source(value, ty)?;
    }
    operands.more = [d.whole_address(barrier)?].into();
    d.emit(Op::StoreAsync(StoreAsync { reduction, ty, count }), operands);
    Ok(true)
}
