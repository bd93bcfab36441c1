//! Branches, ends and barriers of blocks.

use super::Type;
use super::decoder::{Decoder, class, exactly};
use super::op::{Barrier, BarrierKind, Op, Operands};
use super::opcode::Opcode;
use crate::parse::Operand;
use crate::registers::Slot;

/// Decodes the instruction if it is one of these.
pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    match op.name {
        "bra" => {
            op.has("uni");
            let [Operand::Name(label)] = o else {
                return Err("expected a label".into());
            };
            d.emit_branch(Op::Branch { target: 0 }, Operands::default(), label);
        }
        "brx" => {
            op.has("idx");
            op.has("uni");
            let [index, Operand::Name(list)] = o else {
                return Err("expected an index and a list of labels".into());
            };
            let mut operands = Operands::default();
            operands.src[0] = d.source(index, Type::U32)?;
            d.emit_branch(Op::BranchTable { targets: Box::default() }, operands, list);
        }
        "ret" | "exit" => {
            op.has("uni");
            exactly::<0>(o)?;
            d.emit(Op::Exit, Operands::default());
        }
        "trap" => d.emit(Op::Trap, Operands::default()),
        "call" => return Err("functions are not supported: inline them".into()),
        "nanosleep" => {
            op.ty()?;
            d.emit(Op::Pause, Operands::default());
        }
        "bar" | "barrier" => barrier(d, op, o)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn barrier<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    if op.has("warp") {
        op.has("sync");
        let [mask] = exactly(o)?;
        let mut operands = Operands::default();
        operands.src[0] = d.source(mask, Type::B32)?;
        d.emit(Op::WarpSync, operands);
        return Ok(());
    }
    op.has("cta");
    // The older spelling always means whole warps.
    let aligned = op.has("aligned") || op.name == "bar";
    let mut operands = Operands::default();
    if op.has("red") {
        return reduce(d, op, o, aligned);
    }
    let kind = match op.choose(&[("sync", BarrierKind::Sync), ("arrive", BarrierKind::Arrive)]) {
        Some(kind) => kind,
        None => return Err("expected sync, arrive or red".into()),
    };
    let (number, threads) = match o {
        [number] if kind == BarrierKind::Sync => (number, None),
        [number, threads] => (number, Some(threads)),
        _ => return Err("expected a barrier and a number of threads".into()),
    };
    operands.src[0] = d.source(number, Type::U32)?;
    if let Some(threads) = threads {
        operands.src[1] = d.source(threads, Type::U32)?;
    }
    d.emit(Op::Barrier(Barrier { kind, aligned }), operands);
    Ok(())
}

fn reduce<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
    aligned: bool,
) -> Result<(), String> {
    let kind = op
        .choose(&[("popc", BarrierKind::Count), ("and", BarrierKind::And), ("or", BarrierKind::Or)])
        .ok_or("expected popc, and or or")?;
    let ty = op.ty()?;
    let (dst, number, threads, predicate) = match o {
        [dst, number, predicate] => (dst, number, None, predicate),
        [dst, number, threads, predicate] => (dst, number, Some(threads), predicate),
        _ => return Err("expected a result, a barrier and a predicate".into()),
    };
    let mut operands = Operands::default();
    operands.dst[0] = d.dest(dst, class(ty))?;
    operands.src[0] = d.source(number, Type::U32)?;
    operands.src[1] = match threads {
        Some(threads) => d.source(threads, Type::U32)?,
        None => Slot::NONE,
    };
    operands.src[2] = d.source(predicate, Type::Pred)?;
    d.emit(Op::Barrier(Barrier { kind, aligned }), operands);
    Ok(())
}
