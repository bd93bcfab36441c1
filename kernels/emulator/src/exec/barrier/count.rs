//! Threads meet mbarriers.

use super::mbarrier::{BYTES, MBarrier};
use crate::exec::access::{lanes, shared_place};
use crate::exec::commons::Commons;
use crate::exec::execute::Next;
use crate::exec::step::Machine;
use crate::exec::warp::{Wait, Warp};
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Mbarrier, Operands};
use crate::registers::{Class, LANES, Slot};

/// Executes an operation on mbarriers for the active lanes. `expired` tells that the thread has
/// been suspended as long as a wait may take.
pub(in crate::exec) fn mbarrier(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    operation: Mbarrier,
    operands: &Operands,
    active: u32,
    expired: bool,
) -> Result<Next, Box<Trouble>> {
    if let Mbarrier::Wait { suspend, parity } = operation {
        return wait(commons, warp, suspend && !expired, parity, operands, active);
    }
    machine.progress += 1;
    let mut states = [0; LANES];
    for lane in lanes(active) {
        let spot = place(commons, warp, operands.src[0], lane);
        spot.and_then(|(block, offset)| {
            let thread = warp.number * LANES as u32 + lane as u32;
            let value = match operands.src[1].is_some() {
                true => value(warp, operands.src[1], lane) as u32,
                false => 1,
            };
            let clock = commons.clock;
            let target = commons.block(block)?;
            match operation {
                Mbarrier::Init => {
                    target.shared.write(offset, BYTES as usize)?;
                    if let Err(conflict) = target.watch.check(offset, offset + BYTES, true) {
                        let line = machine.line(conflict.pc);
                        return Err(conflict.trouble("an mbarrier is made in", offset, line));
                    }
                    target.mbarriers.insert(offset, MBarrier::new(value, (thread, clock))?);
                    return Ok(());
                }
                Mbarrier::Invalidate => {
                    target.mbarriers.get(offset)?;
                    target.mbarriers.remove(offset);
                    return Ok(());
                }
                _ => {}
            }
            let barrier = target.mbarriers.get(offset)?;
            states[lane] = barrier.state();
            match operation {
                Mbarrier::Expect => barrier.expect(i64::from(value))?,
                Mbarrier::Complete => barrier.expect(-i64::from(value))?,
                Mbarrier::Arrive { expect: true, drop, .. } => {
                    barrier.expect(i64::from(value))?;
                    barrier.arrive(1, drop)?;
                }
                Mbarrier::Arrive { drop, incomplete, .. } => {
                    if incomplete && value >= barrier.pending {
                        let what = "an arrival that must not end the phase would end it";
                        return Err(Trouble::new(FaultKind::Mbarrier, what));
                    }
                    barrier.arrive(value, drop)?;
                }
                Mbarrier::Init | Mbarrier::Invalidate | Mbarrier::Wait { .. } => {}
            }
            Ok(())
        })
        .map_err(|trouble| trouble.at_lane(lane))?;
    }
    warp.registers.put_doubles(operands.dst[0], active, &states);
    // Whoever waited may go on at once, and be early.
    Ok(match commons.random {
        Some(_) => Next::Yield,
        None => Next::Step,
    })
}

fn value(warp: &Warp, slot: Slot, lane: usize) -> u64 {
    match slot.class() {
        Class::Double => warp.registers.doubles(slot)[lane],
        _ => u64::from(warp.registers.words(slot)[lane]),
    }
}

fn place(
    commons: &Commons,
    warp: &Warp,
    slot: Slot,
    lane: usize,
) -> Result<(usize, u32), Box<Trouble>> {
    let (block, offset) = shared_place(&commons.blocks, warp, value(warp, slot, lane))?;
    match offset.is_multiple_of(BYTES) {
        true => Ok((block, offset)),
        false => {
            let what = format!("the mbarrier's address {offset:#x} is no multiple of {BYTES}");
            Err(Trouble::new(FaultKind::Misaligned, what))
        }
    }
}

/// Tests phases; with `suspend` the warp waits if one is not over.
fn wait(
    commons: &mut Commons,
    warp: &mut Warp,
    suspend: bool,
    parity: bool,
    operands: &Operands,
    active: u32,
) -> Result<Next, Box<Trouble>> {
    let mut over = 0;
    let mut missing = None;
    for lane in lanes(active) {
        let (block, offset) = place(commons, warp, operands.src[0], lane)?;
        if block != warp.block {
            let what = "threads can only wait for mbarriers of their own block";
            return Err(Trouble::new(FaultKind::Mbarrier, what).at_lane(lane));
        }
        let phase = value(warp, operands.src[1], lane);
        let barrier = commons.blocks[block].mbarriers.peek(offset).ok_or_else(|| {
            let what = format!("there is no initialised mbarrier at {offset:#x}");
            Trouble::new(FaultKind::Mbarrier, what).at_lane(lane)
        })?;
        let done = match parity {
            true => barrier.parity_over(phase as u32),
            false => barrier.state_over(phase),
        };
        match done {
            true => over |= 1 << lane,
            false => missing = Some(Wait::Mbarrier { offset, phase: barrier.phase }),
        }
    }
    let missing = match missing {
        // Now and then a wait gives up early, as it may.
        Some(wait) if suspend && commons.random.as_mut().is_none_or(|r| r.below(8) != 0) => {
            return Ok(Next::Wait(wait));
        }
        missing => missing,
    };
    warp.registers.put_predicate(operands.dst[0], active, over);
    Ok(if missing.is_some() { Next::Yield } else { Next::Step })
}
