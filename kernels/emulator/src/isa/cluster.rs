//! Clusters of blocks, proxies, register counts, and other hints to the hardware.

use super::Type;
use super::compute::{binary, unary};
use super::decoder::{Decoder, class, exactly};
use super::memory::space;
use super::op::{Op, Operands, Space};
use super::opcode::Opcode;
use crate::memory::window::{RANK_SHIFT, SHARED};
use crate::parse::Operand;
use crate::registers::Class;

/// Decodes the instruction if it is one of these.
pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    let name = op.name;
    match name {
        "barrier" if op.has("cluster") => {
            for modifier in ["aligned", "release", "relaxed", "acquire"] {
                op.has(modifier);
            }
            let arrive = op.has("arrive");
            if !arrive && !op.has("wait") {
                return Err("expected arrive or wait".into());
            }
            exactly::<0>(o)?;
            d.emit(if arrive { Op::ClusterArrive } else { Op::ClusterWait }, Operands::default());
        }
        "mapa" => map(d, op, o)?,
        "getctarank" => {
            let wide = space(op) == Space::Generic;
            op.ty()?;
            let [dst, address] = exactly(o)?;
            let dst = d.dest(dst, Class::Word)?;
            let ty = if wide { Type::U64 } else { Type::U32 };
            let src = d.source(address, ty)?;
            let compute = match wide {
                true => unary(|a: u64| (a.wrapping_sub(SHARED) >> RANK_SHIFT) as u32),
                false => unary(|a: u32| a >> RANK_SHIFT),
            };
            d.emit_compute(compute, &[dst], &[src]);
        }
        "fence" if op.has("proxy") => proxy(d, op)?,
        "fence" if op.has("mbarrier_init") => {
            let _ = (op.has("release"), op.has("cluster"));
            d.emit(Op::InitFence, Operands::default());
        }
        "setmaxnreg" => registers(d, op, o)?,
        "griddepcontrol" => {
            let _ = (op.has("wait"), op.has("launch_dependents"));
            d.emit(Op::Nop, Operands::default());
        }
        "createpolicy" => {
            op.take(|m| m.starts_with("fractional").then_some(()));
            for _ in 0..3 {
                op.take(|m| m.starts_with("L2::").then_some(()));
            }
            let ty = op.ty()?;
            let dst = d.dest(o.first().ok_or("operands are missing")?, class(ty))?;
            let zero = d.bits(0, ty);
            d.emit_compute(unary(|x: u64| x), &[dst], &[zero]);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// `mapa`: the same place in another block's shared memory.
fn map<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let generic = space(op) == Space::Generic;
    let ty = op.ty()?;
    let [dst, address, rank] = exactly(o)?;
    let src = [d.source(address, ty)?, d.source(rank, Type::U32)?];
    let dst = d.dest(dst, class(ty))?;
    const OFFSET: u32 = (1 << RANK_SHIFT) - 1;
    let compute = match (ty.bytes(), generic) {
        (4, false) => binary(|a: u32, rank: u32| a & OFFSET | rank << RANK_SHIFT),
        (8, _) => binary(|a: u64, rank: u32| {
            a & !(u64::from(u32::MAX)) | a & u64::from(OFFSET) | u64::from(rank) << RANK_SHIFT
        }),
        _ => return Err("generic addresses have 64 bits".into()),
    };
    d.emit_compute(compute, &[dst], &src);
    Ok(())
}

fn proxy(d: &mut Decoder<'_>, op: &mut Opcode<'_>) -> Result<(), String> {
    if op.has("async") {
        let (global, shared) =
            match (op.has("global"), op.has("shared::cta") | op.has("shared::cluster")) {
                (false, false) => (true, true),
                named => named,
            };
        d.emit(Op::ProxyFence { shared, global }, Operands::default());
        return Ok(());
    }
    // Tensor maps are read when a copy is issued, in the order of the text.
    if op.has("alias") || op.has("tensormap::generic") {
        for modifier in ["acquire", "release", "cta", "cluster", "gpu", "sys"] {
            op.has(modifier);
        }
        d.emit(Op::Nop, Operands::default());
        return Ok(());
    }
    Err("the proxy is not supported".into())
}

fn registers<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<(), String> {
    let more = op.choose(&[("inc", true), ("dec", false)]).ok_or("expected inc or dec")?;
    let _ = (op.has("sync"), op.has("aligned"), op.ty()?);
    let [Operand::Integer(count)] = o else {
        return Err("expected a number of registers".into());
    };
    if !(24..=256).contains(count) || count % 8 != 0 {
        return Err("24 to 256 registers in steps of 8 are possible".into());
    }
    d.emit(Op::SetRegisters { count: *count as u32, more }, Operands::default());
    Ok(())
}
