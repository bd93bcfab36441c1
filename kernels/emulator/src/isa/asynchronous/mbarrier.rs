//! `mbarrier`: barriers in shared memory that count arrivals and bytes.

use crate::isa::decoder::{Decoder, exactly};
use crate::isa::memory::{hint, space};
use crate::isa::op::{Op, Operands, Space};
use crate::isa::opcode::Opcode;
use crate::isa::{Type, compute};
use crate::parse::Operand;
use crate::registers::{Class, Slot};

/// What is done with the mbarrier at `src[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mbarrier {
    /// For `src[1]` arrivals per phase.
    Init,
    Invalidate,
    /// `dst[0]` = state before; `src[1]` arrivals (or one), or with `expect` that many bytes more
    /// to come and one arrival.
    Arrive {
        expect: bool,
        /// The thread leaves: later phases need fewer arrivals.
        drop: bool,
        /// The phase must not end by this.
        incomplete: bool,
    },
    /// `src[1]` bytes more are to come.
    Expect,
    /// `src[1]` bytes came.
    Complete,
    /// `dst[0]` = whether the phase is over that `src[1]` names.
    Wait {
        /// The thread may be suspended until it is.
        suspend: bool,
        /// The phase is named by its parity, not by a state.
        parity: bool,
    },
}

pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<(), String> {
    if op.has("pending_count") {
        op.ty()?;
        let [dst, state] = exactly(o)?;
        let (dst, state) = (d.dest(dst, Class::Word)?, d.source(state, Type::B64)?);
        d.emit_compute(compute::unary(|state: u64| (state >> 32) as u32), &[dst], &[state]);
        return Ok(());
    }
    let kinds = [
        ("init", Mbarrier::Init),
        ("inval", Mbarrier::Invalidate),
        ("arrive", Mbarrier::Arrive { expect: false, drop: false, incomplete: false }),
        ("arrive_drop", Mbarrier::Arrive { expect: false, drop: true, incomplete: false }),
        ("test_wait", Mbarrier::Wait { suspend: false, parity: false }),
        ("try_wait", Mbarrier::Wait { suspend: true, parity: false }),
        ("complete_tx", Mbarrier::Complete),
        ("expect_tx", Mbarrier::Expect),
    ];
    let kind = op.choose(&kinds).ok_or("the operation is not supported")?;
    let (expect, incomplete, parity) =
        (op.has("expect_tx"), op.has("noComplete"), op.has("parity"));
    let kind = match kind {
        Mbarrier::Arrive { drop, .. } => Mbarrier::Arrive { expect, drop, incomplete },
        Mbarrier::Wait { suspend, .. } => Mbarrier::Wait { suspend, parity },
        kind => kind,
    };
    hint(op);
    if !matches!(space(op), Space::Generic | Space::Shared { .. }) {
        return Err("an mbarrier lies in shared memory".into());
    }
    op.ty()?;
    let mut operands = Operands::default();
    let (address, value) = match (kind, o) {
        (Mbarrier::Init | Mbarrier::Expect | Mbarrier::Complete, [address, value]) => {
            (address, Some(d.source(value, Type::U32)?))
        }
        (Mbarrier::Invalidate, [address]) => (address, None),
        (Mbarrier::Arrive { expect: false, .. }, [state, address]) => {
            operands.dst[0] = d.dest(state, Class::Double)?;
            (address, None)
        }
        (Mbarrier::Arrive { .. }, [state, address, value]) => {
            operands.dst[0] = d.dest(state, Class::Double)?;
            (address, Some(d.source(value, Type::U32)?))
        }
        // A limit of time may follow.
        (Mbarrier::Wait { .. }, [holds, address, phase] | [holds, address, phase, _]) => {
            operands.dst[0] = d.dest(holds, Class::Predicate)?;
            let ty = if parity { Type::U32 } else { Type::B64 };
            (address, Some(d.source(phase, ty)?))
        }
        _ => return Err("the operands do not fit".into()),
    };
    operands.src[0] = d.whole_address(address)?;
    operands.src[1] = value.unwrap_or(Slot::NONE);
    d.emit(Op::Mbarrier(kind), operands);
    Ok(())
}
