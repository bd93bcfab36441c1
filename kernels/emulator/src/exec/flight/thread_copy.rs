//! `cp.async`: copies of each thread's own.

use super::issue::{lane_value, send};
use super::{Cargo, Origin, Spot, land};
use crate::exec::access::{lanes, shared_place};
use crate::exec::commons::Commons;
use crate::exec::step::{Machine, Raised};
use crate::exec::warp::Warp;
use crate::fault::{FaultKind, Trouble};
use crate::isa::{CopyAsync, Operands};

/// Executes one of the family for the active lanes.
pub(in crate::exec) fn copy_async(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    copy: CopyAsync,
    operands: &Operands,
    active: u32,
    pc: u32,
) -> Result<(), Raised> {
    for lane in lanes(active) {
        let origin = Origin { block: warp.block, warp: warp.number, lane: lane as u32, pc };
        let due = match copy {
            CopyAsync::Copy { bytes } => {
                let cargo = operands_of(commons, warp, operands, bytes, lane)
                    .map_err(|trouble| Raised::at(origin, trouble))?;
                let id = send(machine, commons, origin, cargo)?;
                warp.copy_groups(lane).add(id);
                continue;
            }
            CopyAsync::Arrive { counted } => {
                let spot = place(commons, warp, operands, lane)
                    .map_err(|trouble| Raised::at(origin, trouble))?;
                let after = warp.copy_groups(lane).all();
                if !counted {
                    let more = expect_arrival(commons, spot);
                    more.map_err(|trouble| Raised::at(origin, trouble))?;
                }
                send(machine, commons, origin, Cargo::Arrival { barrier: spot, after })?;
                continue;
            }
            CopyAsync::Commit => {
                warp.copy_groups(lane).commit();
                continue;
            }
            CopyAsync::Wait(pending) => warp.copy_groups(lane).due(pending, false),
            CopyAsync::WaitAll => warp.copy_groups(lane).take_all(),
        };
        for id in due {
            land(machine, commons, id)?;
        }
    }
    Ok(())
}

fn place(
    commons: &Commons,
    warp: &Warp,
    operands: &Operands,
    lane: usize,
) -> Result<Spot, Box<Trouble>> {
    let address = lane_value(&warp.registers, operands.src[0], lane);
    let (block, offset) = shared_place(&commons.blocks, warp, address)?;
    Ok(Spot { block, offset })
}

/// The barrier waits for one arrival more, which the copies will bring.
fn expect_arrival(commons: &mut Commons, spot: Spot) -> Result<(), Box<Trouble>> {
    commons.block(spot.block)?.mbarriers.get(spot.offset)?.pending += 1;
    Ok(())
}

fn operands_of(
    commons: &Commons,
    warp: &Warp,
    operands: &Operands,
    bytes: u8,
    lane: usize,
) -> Result<Cargo, Box<Trouble>> {
    let to = place(commons, warp, operands, lane)?;
    let source = lane_value(&warp.registers, operands.src[1], lane);
    for at in [u64::from(to.offset), source] {
        if !at.is_multiple_of(u64::from(bytes)) {
            let what = format!("the address {at:#x} is no multiple of {bytes}");
            return Err(Trouble::new(FaultKind::Misaligned, what));
        }
    }
    let mut read = u64::from(bytes);
    if operands.src[2].is_some() {
        read = lane_value(&warp.registers, operands.src[2], lane);
        if read > u64::from(bytes) {
            let what = format!("{read} bytes are to be read for a copy of {bytes}");
            return Err(Trouble::new(FaultKind::Operand, what));
        }
    }
    if operands.src[3].is_some() && warp.registers.predicate(operands.src[3]) >> lane & 1 == 1 {
        read = 0;
    }
    Ok(Cargo::Thread { source, to, bytes, read: read as u8 })
}
