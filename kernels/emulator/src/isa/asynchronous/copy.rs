//! `cp.async`: copies of each thread's own, and their groups.

use super::bulk;
use crate::isa::Type;
use crate::isa::decoder::Decoder;
use crate::isa::memory::hint;
use crate::isa::op::{Op, Operands};
use crate::isa::opcode::Opcode;
use crate::parse::Operand;
use crate::registers::{Class, Slot};

/// Copies of each thread's own, from global memory to shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyAsync {
    /// `bytes` from `src[1]` to `src[0]`; only the first `src[2]` are read, the rest is zero.
    /// Nothing is read if the predicate `src[3]` holds.
    Copy { bytes: u8 },
    /// Ends the group of the copies before.
    Commit,
    /// Until at most so many groups are under way.
    Wait(u32),
    /// Until everything has landed.
    WaitAll,
    /// An arrival at the mbarrier `src[0]` when the copies before have landed; without `counted`
    /// the barrier expects one arrival more.
    Arrive { counted: bool },
}

pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<(), String> {
    let reduce = op.has("reduce");
    if !op.has("async") {
        return Err("only asynchronous copies are supported".into());
    }
    if op.has("bulk") {
        return bulk::decode(d, op, o, reduce);
    }
    let mut operands = Operands::default();
    let kind = if op.has("commit_group") {
        CopyAsync::Commit
    } else if op.has("wait_all") {
        CopyAsync::WaitAll
    } else if op.has("wait_group") {
        let [Operand::Integer(pending)] = o else {
            return Err("expected a number of groups".into());
        };
        CopyAsync::Wait(*pending as u32)
    } else if op.has("mbarrier") {
        let (_, counted) = (op.has("arrive"), op.has("noinc"));
        op.has("shared");
        op.has("shared::cta");
        op.ty()?;
        let [address] = o else {
            return Err("expected an address".into());
        };
        operands.src[0] = d.whole_address(address)?;
        CopyAsync::Arrive { counted }
    } else {
        hint(op);
        let _ = (op.has("shared"), op.has("shared::cta"));
        if !op.has("global") {
            return Err("the source must be in global memory".into());
        }
        let [dst, src, Operand::Integer(bytes), rest @ ..] = o else {
            return Err("expected two addresses and a number of bytes".into());
        };
        if !matches!(bytes, 4 | 8 | 16) {
            return Err("4, 8 or 16 bytes are possible".into());
        }
        operands.src[0] = d.whole_address(dst)?;
        operands.src[1] = d.whole_address(src)?;
        // The bytes to read or a predicate, then a policy for caches.
        match rest.first() {
            Some(o @ Operand::Integer(_)) => operands.src[2] = d.source(o, Type::U32)?,
            Some(o) => match d.any_register(o).map(Slot::class) {
                Some(Class::Word) => operands.src[2] = d.source(o, Type::U32)?,
                Some(Class::Predicate) => operands.src[3] = d.source(o, Type::Pred)?,
                _ => {}
            },
            None => {}
        }
        CopyAsync::Copy { bytes: *bytes as u8 }
    };
    d.emit(Op::CopyAsync(kind), operands);
    Ok(())
}
