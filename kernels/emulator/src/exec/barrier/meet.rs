//! A warp comes to a named barrier.

use super::named::BARRIERS;
use crate::exec::access::lanes;
use crate::exec::block::Block;
use crate::exec::execute::Next;
use crate::exec::warp::{Wait, Warp};
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Barrier, BarrierKind, Operands};
use crate::registers::{LANES, Slot};

/// Executes a barrier of the block for the active lanes.
pub(in crate::exec) fn meet(
    block: &mut Block,
    warp: &Warp,
    barrier: Barrier,
    operands: &Operands,
    active: u32,
) -> Result<Next, Box<Trouble>> {
    if barrier.aligned && active != warp.live {
        return Ok(Next::Wait(Wait::Lanes(warp.live)));
    }
    let number = uniform(warp, operands.src[0], active)?;
    if number as usize >= BARRIERS {
        let what = format!("there is no barrier {number}: a block has {BARRIERS}");
        return Err(Trouble::new(FaultKind::Barrier, what));
    }
    let mut expected = 0;
    if operands.src[1].is_some() {
        expected = uniform(warp, operands.src[1], active)?;
        if expected == 0 || expected % LANES as u32 != 0 {
            let what = format!("a barrier's count must be a multiple of 32, not {expected}");
            return Err(Trouble::new(FaultKind::Barrier, what));
        }
    }
    let threads = match expected {
        // A warp counts whole, as on the device.
        1.. if barrier.aligned => LANES as u32,
        _ => active.count_ones(),
    };
    let holds = match operands.src[2].is_some() {
        true => (warp.registers.predicate(operands.src[2]) & active).count_ones(),
        false => 0,
    };
    let live = block.live;
    let named = &mut block.barriers[number as usize];
    let completions = named.completions;
    named.arrive(threads, holds, expected, live)?;
    Ok(match barrier.kind {
        BarrierKind::Arrive => Next::Yield,
        _ => Next::Wait(Wait::Barrier { number: number as u8, completions }),
    })
}

/// The value that all active lanes have.
fn uniform(warp: &Warp, slot: Slot, active: u32) -> Result<u32, Box<Trouble>> {
    let values = warp.registers.words(slot);
    let first = values[active.trailing_zeros() as usize % LANES];
    match lanes(active).find(|&l| values[l] != first) {
        None => Ok(first),
        Some(lane) => {
            let what = "lanes of a warp name different barriers or counts";
            Err(Trouble::new(FaultKind::Barrier, what).at_lane(lane))
        }
    }
}
