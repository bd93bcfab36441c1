//! Exchanges between the lanes of a warp.

use super::access::lanes;
use super::warp::Warp;
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Collective, Match, Operands, ReduceOp, ShuffleMode, VoteMode};
use crate::registers::{ALL, Class, LANES, Registers, Slot};

/// Whether the lanes that a mask names are here.
pub(super) enum Presence {
    All,
    /// These are still elsewhere.
    Missing(u32),
}

/// Compares the mask that the active lanes name with the lanes that are here: `group` are at this
/// instruction, `active` of them execute it.
pub(super) fn presence(
    warp: &Warp,
    mask: Slot,
    group: u32,
    active: u32,
) -> Result<Presence, Box<Trouble>> {
    let masks = warp.registers.words(mask);
    let named = masks[active.trailing_zeros() as usize % LANES];
    let divergence = |what: String| Trouble::new(FaultKind::Divergence, what);
    if !mask.is_constant()
        && let Some(lane) = lanes(active).find(|&l| masks[l] != named)
    {
        let what = format!("lanes name different masks: {named:#x} and {:#x}", masks[lane]);
        return Err(divergence(what).at_lane(lane));
    }
    if active & !named != 0 {
        let lane = (active & !named).trailing_zeros() as usize;
        return Err(
            divergence(format!("the mask {named:#x} leaves out an executing lane")).at_lane(lane)
        );
    }
    let needed = named & warp.live;
    if needed & group & !active != 0 {
        let lane = (needed & group & !active).trailing_zeros() as usize;
        return Err(divergence(format!(
            "the mask {named:#x} names a lane whose predicate switches the instruction off"
        ))
        .at_lane(lane));
    }
    Ok(match needed & !active {
        0 => Presence::All,
        missing => Presence::Missing(missing),
    })
}

/// Executes an exchange of the active lanes.
pub(super) fn execute(
    registers: &mut Registers,
    collective: Collective,
    o: &Operands,
    active: u32,
) -> Result<(), Box<Trouble>> {
    match collective {
        Collective::Shuffle(mode) => return shuffle(registers, mode, o, active),
        Collective::Vote(mode) => vote(registers, mode, o, active),
        Collective::Match { mode, wide } => matches(registers, mode, wide, o, active),
        Collective::Reduce(how) => {
            let values = registers.words(o.src[1]);
            let result = lanes(active)
                .map(|l| values[l])
                .reduce(|a, b| reduce(how, a, b))
                .unwrap_or_default();
            registers.put_words(o.dst[0], active, &[result; LANES]);
        }
        Collective::Elect => {
            let leader = active.trailing_zeros();
            registers.put_words(o.dst[0], active, &[leader; LANES]);
            registers.put_predicate(o.dst[1], active, 1 << leader);
        }
        Collective::ActiveMask => registers.put_words(o.dst[0], active, &[active; LANES]),
    }
    Ok(())
}

fn shuffle(
    registers: &mut Registers,
    mode: ShuffleMode,
    o: &Operands,
    active: u32,
) -> Result<(), Box<Trouble>> {
    let values = *registers.words(o.src[1]);
    let (distances, bounds) = (registers.words(o.src[2]), registers.words(o.src[3]));
    let mut from = [0u32; LANES];
    let mut found = 0;
    for lane in 0..LANES {
        let (b, c) = (distances[lane] & 31, bounds[lane]);
        let (clamp, segment) = (c & 31, c >> 8 & 31);
        let this = lane as u32;
        let first = this & segment;
        let last = first | clamp & !segment;
        let (there, exists) = match mode {
            ShuffleMode::Up => (this.wrapping_sub(b), this as i32 - b as i32 >= last as i32),
            ShuffleMode::Down => (this + b, this + b <= last),
            ShuffleMode::Butterfly => (this ^ b, (this ^ b) <= last),
            ShuffleMode::Index => (first | b & !segment, (first | b & !segment) <= last),
        };
        from[lane] = if exists { there & 31 } else { this };
        found |= u32::from(exists) << lane;
    }
    if active != ALL
        && let Some(lane) = lanes(active).find(|&l| active >> from[l] & 1 == 0)
    {
        let what = format!("the value comes from lane {}, which does not take part", from[lane]);
        return Err(Trouble::new(FaultKind::Divergence, what).at_lane(lane));
    }
    let mut result = [0; LANES];
    for (result, &from) in result.iter_mut().zip(&from) {
        *result = values[from as usize % LANES];
    }
    registers.put_words(o.dst[0], active, &result);
    registers.put_predicate(o.dst[1], active, found);
    Ok(())
}

fn vote(registers: &mut Registers, mode: VoteMode, o: &Operands, active: u32) {
    let holds = registers.predicate(o.src[1]) & active;
    let all = |yes: bool| if yes { u32::MAX } else { 0 };
    match mode {
        VoteMode::Ballot => registers.put_words(o.dst[0], active, &[holds; LANES]),
        VoteMode::All => registers.put_predicate(o.dst[0], active, all(holds == active)),
        VoteMode::Any => registers.put_predicate(o.dst[0], active, all(holds != 0)),
        VoteMode::Uniform => {
            registers.put_predicate(o.dst[0], active, all(holds == active || holds == 0));
        }
    }
}

fn matches(registers: &mut Registers, mode: Match, wide: bool, o: &Operands, active: u32) {
    let values: [u64; LANES] = match wide {
        true => *registers.doubles(o.src[1]),
        false => registers.words(o.src[1]).map(u64::from),
    };
    let mut result = [0; LANES];
    for lane in lanes(active) {
        result[lane] =
            lanes(active).filter(|&l| values[l] == values[lane]).fold(0, |mask, l| mask | 1 << l);
    }
    if mode == Match::All {
        let equal = lanes(active).all(|l| result[l] == active);
        let mask = if equal { active } else { 0 };
        registers.put_words(o.dst[0], active, &[mask; LANES]);
        registers.put_predicate(o.dst[1], active, if equal { u32::MAX } else { 0 });
    } else {
        registers.put_words(o.dst[0], active, &result);
    }
}

fn reduce(how: ReduceOp, a: u32, b: u32) -> u32 {
    match how {
        ReduceOp::Add => a.wrapping_add(b),
        ReduceOp::And => a & b,
        ReduceOp::Or => a | b,
        ReduceOp::Xor => a ^ b,
        ReduceOp::Min => a.min(b),
        ReduceOp::Max => a.max(b),
        ReduceOp::SignedMin => (a as i32).min(b as i32) as u32,
        ReduceOp::SignedMax => (a as i32).max(b as i32) as u32,
    }
}

/// Writes what a barrier answers.
pub(super) fn answer(registers: &mut Registers, slot: Slot, mask: u32, value: u32) {
    if !slot.is_some() {
        return;
    }
    match slot.class() {
        Class::Predicate => {
            registers.put_predicate(slot, mask, if value != 0 { u32::MAX } else { 0 });
        }
        _ => registers.put_words(slot, mask, &[value; LANES]),
    }
}
