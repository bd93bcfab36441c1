//! Instructions by which the lanes of a warp exchange values.

use super::Type;
use super::decoder::{Decoder, exactly};
use super::op::{Op, Operands};
use super::opcode::Opcode;
use crate::parse::Operand;
use crate::registers::{Class, Slot};

/// Where a lane's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What a vote asks of the lanes' predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

/// Which lanes a match looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Any,
    All,
}

/// An exchange between the lanes of a mask, all of which must be here. The mask is `src[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collective {
    /// `dst[0]` = value of `src[1]` in another lane; `dst[1]` tells whether there is one.
    /// `src[2]` is the distance or lane, `src[3]` the bounds of segments.
    Shuffle(ShuffleMode),
    /// `src[1]` is the predicate.
    Vote(VoteMode),
    /// `src[1]` is the value.
    Match { mode: Match, wide: bool },
    /// `src[1]` is the value.
    Reduce(ReduceOp),
    /// `dst[0]` = the leader's lane, `dst[1]` tells whether this is it.
    Elect,
    /// `dst[0]` = lanes that are here; needs no mask.
    ActiveMask,
}

/// How values of lanes are reduced to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReduceOp {
    Add,
    And,
    Or,
    Xor,
    Min,
    Max,
    SignedMin,
    SignedMax,
}

/// Decodes the instruction if it is one of these.
pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    let sync = op.has("sync");
    match op.name {
        "shfl" | "vote" | "match" | "redux" | "elect" if !sync => {
            return Err("only the .sync form exists on this architecture".into());
        }
        "shfl" => shuffle(d, op, o)?,
        "vote" => vote(d, op, o)?,
        "match" => matches(d, op, o)?,
        "redux" => reduce(d, op, o)?,
        "elect" => {
            let [dst, mask] = exactly(o)?;
            let dst = pair(d, dst, Class::Word)?;
            let mask = d.source(mask, Type::B32)?;
            emit(d, Collective::Elect, dst, &[mask]);
        }
        "activemask" => {
            op.ty()?;
            let [dst] = exactly(o)?;
            let dst = d.dest(dst, Class::Word)?;
            emit(d, Collective::ActiveMask, [dst, Slot::NONE], &[]);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn emit(d: &mut Decoder<'_>, collective: Collective, dst: [Slot; 2], src: &[Slot]) {
    let mut operands = Operands::default();
    operands.dst[..2].copy_from_slice(&dst);
    operands.src[..src.len()].copy_from_slice(src);
    d.emit(Op::Collective(collective), operands);
}

/// A destination and an optional predicate behind a bar.
fn pair<'a>(d: &Decoder<'a>, operand: &Operand<'a>, class: Class) -> Result<[Slot; 2], String> {
    Ok(match operand {
        Operand::Pair(a, p) => [d.dest(a, class)?, d.dest(p, Class::Predicate)?],
        a => [d.dest(a, class)?, Slot::NONE],
    })
}

fn shuffle<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let mode = op
        .choose(&[
            ("up", ShuffleMode::Up),
            ("down", ShuffleMode::Down),
            ("bfly", ShuffleMode::Butterfly),
            ("idx", ShuffleMode::Index),
        ])
        .ok_or("the mode is missing")?;
    op.ty()?;
    let [dst, value, lane, bounds, mask] = exactly(o)?;
    let dst = pair(d, dst, Class::Word)?;
    let src = [
        d.source(mask, Type::B32)?,
        d.source(value, Type::B32)?,
        d.source(lane, Type::B32)?,
        d.source(bounds, Type::B32)?,
    ];
    emit(d, Collective::Shuffle(mode), dst, &src);
    Ok(())
}

fn vote<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let mode = op
        .choose(&[
            ("all", VoteMode::All),
            ("any", VoteMode::Any),
            ("uni", VoteMode::Uniform),
            ("ballot", VoteMode::Ballot),
        ])
        .ok_or("the mode is missing")?;
    op.ty()?;
    let [dst, predicate, mask] = exactly(o)?;
    let class = if mode == VoteMode::Ballot { Class::Word } else { Class::Predicate };
    let dst = d.dest(dst, class)?;
    let src = [d.source(mask, Type::B32)?, d.source(predicate, Type::Pred)?];
    emit(d, Collective::Vote(mode), [dst, Slot::NONE], &src);
    Ok(())
}

fn matches<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let mode =
        op.choose(&[("any", Match::Any), ("all", Match::All)]).ok_or("the mode is missing")?;
    let ty = op.ty()?;
    let [dst, value, mask] = exactly(o)?;
    let dst = pair(d, dst, Class::Word)?;
    let src = [d.source(mask, Type::B32)?, d.source(value, ty)?];
    emit(d, Collective::Match { mode, wide: ty.bytes() == 8 }, dst, &src);
    Ok(())
}

fn reduce<'a>(d: &mut Decoder<'a>, op: &mut Opcode<'_>, o: &[Operand<'a>]) -> Result<(), String> {
    let how = op
        .choose(&[
            ("add", ReduceOp::Add),
            ("and", ReduceOp::And),
            ("or", ReduceOp::Or),
            ("xor", ReduceOp::Xor),
            ("min", ReduceOp::Min),
            ("max", ReduceOp::Max),
        ])
        .ok_or("the operation is missing")?;
    let ty = op.ty()?;
    let how = match (how, ty.signed()) {
        (ReduceOp::Min, true) => ReduceOp::SignedMin,
        (ReduceOp::Max, true) => ReduceOp::SignedMax,
        _ => how,
    };
    let [dst, value, mask] = exactly(o)?;
    let dst = d.dest(dst, Class::Word)?;
    let src = [d.source(mask, Type::B32)?, d.source(value, ty)?];
    emit(d, Collective::Reduce(how), [dst, Slot::NONE], &src);
    Ok(())
}
