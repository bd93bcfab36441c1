//! Faults with all that is known about them.

use super::block::Block;
use super::commons::Commons;
use super::step::Machine;
use super::warp::{Wait, Warp};
use crate::fault::{Fault, FaultKind, Trouble};
use crate::registers::LANES;

/// Where something happened.
pub(super) struct Place {
    pub block: [u32; 3],
    pub warp: u32,
    pub pc: u32,
}

/// A fault of an instruction.
pub(super) fn located(machine: &Machine<'_>, place: Place, trouble: Trouble) -> Box<Fault> {
    let Trouble { kind, what, lane } = trouble;
    let line = machine.line(place.pc);
    let thread = lane.map(|lane| machine.dimensions.thread(place.warp * LANES as u32 + lane));
    Box::new(Fault {
        kind,
        what,
        kernel: machine.program.name.clone(),
        block: Some(place.block),
        warp: Some(place.warp),
        thread,
        line,
        text: machine.program.line(line),
    })
}

/// A fault that no single instruction is to blame for.
pub(super) fn general(machine: &Machine<'_>, kind: FaultKind, what: String) -> Box<Fault> {
    Box::new(Fault {
        kind,
        what,
        kernel: machine.program.name.clone(),
        block: None,
        warp: None,
        thread: None,
        line: 0,
        text: String::new(),
    })
}

/// Where every warp is, a line each.
pub(super) fn places(machine: &Machine<'_>, commons: &Commons, warps: &[Warp]) -> String {
    let mut text = String::new();
    for warp in warps {
        let block = &commons.blocks[warp.block];
        for group in &warp.groups {
            let line = machine.line(group.pc);
            text += &format!(
                "    block {:?} warp {} lanes {:#010x} {}, line {line}: {}\n",
                block.index,
                warp.number,
                group.mask,
                reason(group.wait, block),
                machine.program.line(line)
            );
        }
    }
    text.trim_end().to_string()
}

fn reason(wait: Wait, block: &Block) -> String {
    match wait {
        Wait::Ready => "runs".into(),
        Wait::Lanes(_) => "waits for lanes of its warp".into(),
        Wait::WarpSync(_) => "waits at a warp barrier".into(),
        Wait::Barrier { number, .. } => {
            let barrier = &block.barriers[usize::from(number)];
            let needed = if barrier.expected == 0 { block.live } else { barrier.expected };
            format!("waits at barrier {number} with {} of {needed} threads", barrier.arrived)
        }
        Wait::Mbarrier { offset, .. } => match block.mbarriers.peek(offset) {
            Some(b) => format!(
                "waits at mbarrier {offset:#x}, phase {}, for {} arrivals and {} bytes",
                b.phase, b.pending, b.bytes
            ),
            None => format!("waits at an mbarrier that is gone, {offset:#x}"),
        },
        Wait::Cluster { .. } => "waits at the cluster's barrier".into(),
        Wait::Products { .. } => "waits for products its warpgroup has not issued".into(),
        Wait::Registers { needed } => {
            format!("waits for {needed} registers, of which {} are free", block.free_registers)
        }
    }
}

/// What must hold when all threads of a block have exited.
pub(super) fn check_end(machine: &Machine<'_>, block: &Block) -> Result<(), Box<Fault>> {
    let fault = |kind, what: String, pc: Option<u32>| {
        let mut fault = general(machine, kind, what);
        fault.block = Some(block.index);
        if let Some(pc) = pc {
            fault.line = machine.line(pc);
            fault.text = machine.program.line(fault.line);
        }
        Err(fault)
    };
    for (number, barrier) in block.barriers.iter().enumerate() {
        if barrier.arrived > 0 {
            let what = format!(
                "the block exited while {} of {} threads had arrived at barrier {number}",
                barrier.arrived, barrier.expected
            );
            return fault(FaultKind::Barrier, what, None);
        }
    }
    if let Some((pc, writes)) = block.watch.any_use() {
        let how = if writes { "written" } else { "read" };
        let what = format!(
            "the block exited while its shared memory was still to be {how}: a wait is missing"
        );
        return fault(FaultKind::Race, what, Some(pc));
    }
    Ok(())
}
