//! `cp.async.bulk` and its like: copies by the tensor memory accelerator.

use crate::isa::Type;
use crate::isa::decoder::Decoder;
use crate::isa::op::{Op, Operands};
use crate::isa::opcode::Opcode;
use crate::parse::Operand;
use crate::registers::Slot;

/// Where a bulk copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From global memory to shared; bytes are reported to the mbarrier `src[2]`.
    Load,
    /// From shared memory to global; part of the thread's bulk group.
    Store,
    /// From the own shared memory at `src[1]` to another block's at `src[0]`, with an mbarrier.
    Remote,
}

/// How an element that is stored meets what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
}

impl Reduction {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "add" => Self::Add,
            "min" => Self::Min,
            "max" => Self::Max,
            "inc" => Self::Inc,
            "dec" => Self::Dec,
            "and" => Self::And,
            "or" => Self::Or,
            "xor" => Self::Xor,
            _ => return None,
        })
    }
}

/// A bulk copy: `src[0]` is the address in shared memory, `src[1]` the one in global memory or
/// of the tensor map, `src[2]` the mbarrier, `src[3]` the bytes, `src[4]` the blocks that get it;
/// coordinates follow in `more`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bulk {
    pub direction: Direction,
    /// Whether `src[1]` is a tensor map.
    pub tensor: bool,
    pub reduction: Option<Reduction>,
    /// Type of the elements that a reduction of plain bytes combines.
    pub element: Option<Type>,
}

pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
    reduce: bool,
) -> Result<(), String> {
    if op.has("commit_group") {
        d.emit(Op::BulkCommit, Operands::default());
        return Ok(());
    }
    if op.has("wait_group") {
        let read = op.has("read");
        let [Operand::Integer(pending)] = o else {
            return Err("expected a number of groups".into());
        };
        d.emit(Op::BulkWait { pending: *pending as u32, read }, Operands::default());
        return Ok(());
    }
    if op.has("prefetch") {
        for modifier in ["tensor", "L2", "global", "tile", "L2::cache_hint"] {
            op.has(modifier);
        }
        op.choose(&RANKS);
        d.emit(Op::Nop, Operands::default());
        return Ok(());
    }
    let tensor = op.has("tensor");
    let rank = op.choose(&RANKS);
    op.has("tile");
    let hint = op.has("L2::cache_hint");
    let multicast = op.has("multicast::cluster");
    let reduction = if reduce {
        op.has("noftz");
        Some(op.take(Reduction::parse).ok_or("the reduction is missing")?)
    } else {
        None
    };
    let element = if reduce && !tensor { Some(op.ty()?) } else { None };
    let direction = direction(op)?;
    if direction == Direction::Load && reduce {
        return Err("a load cannot reduce".into());
    }
    let mut operands = Operands::default();
    let count = o.len() - usize::from(hint && !o.is_empty());
    let o = &o[..count];
    let (shared, other, rest) = match (direction, tensor, o) {
        (Direction::Store, _, [other, shared, rest @ ..]) => (shared, other, rest),
        (_, _, [shared, other, rest @ ..]) => (shared, other, rest),
        _ => return Err("operands are missing".into()),
    };
    operands.src[0] = d.whole_address(shared)?;
    if tensor {
        let Operand::Address { base, offset, coordinates } = other else {
            return Err("expected a tensor map with coordinates".into());
        };
        if rank != Some(coordinates.len() as u8) {
            return Err("the number of coordinates does not fit".into());
        }
        let coordinates = coordinates.iter().map(|c| d.source(c, Type::S32));
        let coordinates: Vec<Slot> = coordinates.collect::<Result<_, _>>()?;
        operands.more = coordinates.into();
        let map = Operand::Address { base: base.clone(), offset: *offset, coordinates: vec![] };
        operands.src[1] = d.whole_address(&map)?;
    } else {
        operands.src[1] = d.whole_address(other)?;
    }
    let mut rest = rest.iter();
    let mut next = || rest.next().ok_or("operands are missing");
    if !tensor {
        operands.src[3] = d.source(next()?, Type::U32)?;
    }
    if direction != Direction::Store {
        operands.src[2] = d.whole_address(next()?)?;
    }
    if multicast {
        operands.src[4] = d.source(next()?, Type::U16)?;
    }
    match rest.next() {
        None => {
            d.emit(Op::Bulk(Bulk { direction, tensor, reduction, element }), operands);
            Ok(())
        }
        Some(_) => Err("there are too many operands".into()),
    }
}

const RANKS: [(&str, u8); 5] = [("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)];

/// The two spaces stand in the order destination, source.
fn direction(op: &mut Opcode<'_>) -> Result<Direction, String> {
    let spaces = [("global", 'g'), ("shared::cta", 's'), ("shared::cluster", 'c')];
    let to = op.choose(&spaces).ok_or("the destination's space is missing")?;
    let from = op.choose(&spaces).ok_or("the source's space is missing")?;
    let (direction, completion) = match (to, from) {
        ('c' | 's', 'g') => (Direction::Load, "mbarrier::complete_tx::bytes"),
        ('g', 's') => (Direction::Store, "bulk_group"),
        ('c', 's') => (Direction::Remote, "mbarrier::complete_tx::bytes"),
        _ => return Err("there is no copy between these spaces".into()),
    };
    match op.has(completion) {
        true => Ok(direction),
        false => Err(format!("'.{completion}' is missing")),
    }
}
