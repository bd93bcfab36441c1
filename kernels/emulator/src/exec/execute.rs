//! Instructions that are more than computations.

use super::access;
use super::atomic;
use super::barrier::{mbarrier, meet};
use super::collective::{self, Presence};
use super::commons::Commons;
use super::flight;
use super::matrix;
use super::step::{Machine, Raised};
use super::warp::{Wait, Warp};
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Instr, Op, Operands};
use crate::registers::{Class, LANES};

/// What becomes of the group after an instruction.
pub(super) enum Next {
    /// On to the instruction behind.
    Step,
    Jump(u32),
    /// Some lanes go elsewhere, the others on.
    Split(u32, u32),
    /// Some lanes go elsewhere, the others stay.
    Peel(u32, u32),
    /// Stay here and wait.
    Wait(Wait),
    /// On to the instruction behind, but let others run first.
    Yield,
    /// Lanes end.
    Exit(u32),
}

/// An instruction of a group: which lanes are at it, and which of them execute it.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub instr: &'a Instr,
    pub pc: u32,
    pub group: u32,
    pub active: u32,
    /// A wait here has lasted as long as it may.
    pub expired: bool,
}

/// Executes an instruction for the active lanes, of which there is at least one.
pub(super) fn execute(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    at: At<'_>,
) -> Result<Next, Raised> {
    let At { instr, pc, active, .. } = at;
    let operands = &instr.operands;
    match &instr.op {
        Op::Bulk(copy) => {
            flight::bulk(machine, commons, warp, copy, operands, active, pc)?;
        }
        Op::CopyAsync(copy) => {
            flight::copy_async(machine, commons, warp, *copy, operands, active, pc)?;
        }
        Op::BulkWait { pending, read } => {
            bulk_wait(machine, commons, warp, *pending, *read, active)?;
        }
        Op::StoreAsync(access) => {
            access::store_async(machine, commons, warp, access, operands, active, pc)?;
        }
        _ => {
            return simple(machine, commons, warp, at).map_err(|trouble| Raised {
                trouble,
                pc,
                issuer: None,
            });
        }
    }
    Ok(Next::Step)
}

/// Executes what cannot blame an earlier instruction.
fn simple(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    at: At<'_>,
) -> Result<Next, Box<Trouble>> {
    let At { instr, group, active, expired, .. } = at;
    let operands = &instr.operands;
    match &instr.op {
        Op::BranchTable { targets } => return table(warp, operands, targets, active),
        Op::Exit if warp.products.busy() => {
            let what = "the warp exits while its matrix products are under way";
            return Err(Trouble::new(FaultKind::Register, what));
        }
        Op::Exit => return Ok(Next::Exit(active)),
        Op::Trap => {
            return Err(Trouble::new(FaultKind::Trap, "the kernel executed trap")
                .at_lane(active.trailing_zeros() as usize));
        }
        Op::Load(access) => access::load(machine, commons, warp, access, operands, active)?,
        Op::Store(access) => access::store(machine, commons, warp, access, operands, active)?,
        Op::Atomic(atomic) => atomic::execute(machine, commons, warp, atomic, operands, active)?,
        Op::Barrier(barrier) => {
            machine.progress += 1;
            return meet(&mut commons.blocks[warp.block], warp, *barrier, operands, active);
        }
        Op::Mbarrier(operation) => {
            return mbarrier(machine, commons, warp, *operation, operands, active, expired);
        }
        Op::WarpSync => {
            let named = warp.registers.words(operands.src[0])[active.trailing_zeros() as usize];
            if named & warp.live & !active == 0 {
                return Ok(Next::Step);
            }
            if active != group {
                let what = "a predicate switches the barrier off for some lanes";
                return Err(Trouble::new(FaultKind::Divergence, what));
            }
            return Ok(Next::Wait(Wait::WarpSync(named)));
        }
        Op::Collective(c) => {
            if operands.src[0].is_some()
                && let Presence::Missing(lanes) =
                    collective::presence(warp, operands.src[0], group, active)?
            {
                return Ok(Next::Wait(Wait::Lanes(lanes | active)));
            }
            collective::execute(&mut warp.registers, *c, operands, active)?;
        }
        Op::Product(product) => {
            return matrix::issue(machine, commons, warp, product, operands, active, at.pc);
        }
        Op::ProductFence => matrix::fence(warp),
        Op::ProductCommit => return Ok(matrix::commit(warp, active)),
        Op::ProductWait { pending } => {
            return matrix::wait(machine, commons, warp, *pending, active);
        }
        Op::WarpProduct(product) => return matrix::warp_product(warp, product, operands, active),
        Op::MoveMatrix(moved) => {
            return matrix::move_matrix(machine, commons, warp, moved, operands, active);
        }
        Op::ClusterArrive | Op::ClusterWait => {
            let arrive = matches!(instr.op, Op::ClusterArrive);
            return cluster_barrier(machine, commons, warp, arrive, active);
        }
        Op::BulkCommit => {
            for lane in access::lanes(active) {
                warp.bulk_groups(lane).commit();
            }
        }
        Op::ProxyFence { .. } | Op::InitFence => {
            commons.clock += 1;
            let now = commons.clock;
            let watch = &mut commons.blocks[warp.block].watch;
            for lane in access::lanes(active) {
                let thread = warp.number * LANES as u32 + lane as u32;
                match instr.op {
                    Op::ProxyFence { shared, global } => watch.fence(thread, now, shared, global),
                    _ => watch.init_fence(thread, now),
                }
            }
        }
        Op::SetRegisters { count, more } => {
            return set_registers(commons, warp, *count, *more, active);
        }
        Op::Clock => {
            let now = machine.report.instructions + u64::from(warp.turns);
            let slot = operands.dst[0];
            match slot.class() {
                Class::Double => warp.registers.put_doubles(slot, active, &[now; LANES]),
                _ => warp.registers.put_words(slot, active, &[now as u32; LANES]),
            }
        }
        Op::Pause => return Ok(Next::Yield),
        Op::Nop => {}
        Op::Compute(_)
        | Op::Branch { .. }
        | Op::Bulk(_)
        | Op::CopyAsync(_)
        | Op::BulkWait { .. }
        | Op::StoreAsync(_) => unreachable!("executed elsewhere"),
    }
    Ok(Next::Step)
}

/// A branch to one of many places; lanes that go to the same one stay together.
fn table(
    warp: &Warp,
    operands: &Operands,
    targets: &[u32],
    active: u32,
) -> Result<Next, Box<Trouble>> {
    let indices = warp.registers.words(operands.src[0]);
    let first = active.trailing_zeros() as usize;
    let lanes = access::lanes(active)
        .filter(|&l| indices[l] == indices[first])
        .fold(0u32, |mask, lane| mask | 1 << lane);
    let target = *targets.get(indices[first] as usize).ok_or_else(|| {
        let what = format!("index {} into a list of {} labels", indices[first], targets.len());
        Trouble::new(FaultKind::Operand, what).at_lane(first)
    })?;
    // Lanes that go elsewhere stay here and branch in their turn.
    Ok(match lanes == active {
        true => Next::Jump(target),
        false => Next::Peel(target, lanes),
    })
}

/// Work of a thread's older bulk groups is done now: it may have waited until here.
fn bulk_wait(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    pending: u32,
    read: bool,
    active: u32,
) -> Result<(), Raised> {
    for lane in access::lanes(active) {
        for id in warp.bulk_groups(lane).due(pending, read) {
            match read {
                true => flight::read_source(machine, commons, id)?,
                false => flight::land(machine, commons, id)?,
            }
            for block in &mut commons.blocks {
                block.watch.end(id);
            }
        }
    }
    Ok(())
}

fn cluster_barrier(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    arrive: bool,
    active: u32,
) -> Result<Next, Box<Trouble>> {
    if active != warp.live {
        return Ok(Next::Wait(Wait::Lanes(warp.live)));
    }
    let misuse = |what: &str| Err(Trouble::new(FaultKind::Barrier, what));
    if !arrive {
        return match warp.cluster_arrival.take() {
            Some(completions) => Ok(Next::Wait(Wait::Cluster { completions })),
            None => misuse("a wait at the cluster's barrier without an arrival"),
        };
    }
    if warp.cluster_arrival.is_some() {
        return misuse("a second arrival at the cluster's barrier without a wait between");
    }
    machine.progress += 1;
    warp.cluster_arrival = Some(commons.barrier.completions);
    let live = commons.live();
    commons.barrier.arrive(active.count_ones(), live);
    Ok(Next::Step)
}

/// `setmaxnreg`: registers come from a pool of the block, into which others give theirs.
fn set_registers(
    commons: &mut Commons,
    warp: &mut Warp,
    count: u32,
    more: bool,
    active: u32,
) -> Result<Next, Box<Trouble>> {
    if active != warp.live {
        return Ok(Next::Wait(Wait::Lanes(warp.live)));
    }
    // Without a bound on its threads, the compiler ignores the instruction.
    if warp.register_count == 0 {
        return Ok(Next::Step);
    }
    let held = warp.register_count;
    if more != (count > held) && count != held {
        let what = format!(
            "setmaxnreg.{} {count} in a warp that has {held}",
            if more { "inc" } else { "dec" }
        );
        return Err(Trouble::new(FaultKind::Operand, what));
    }
    let needed = (i64::from(count) - i64::from(held)) * LANES as i64;
    let block = &mut commons.blocks[warp.block];
    if needed > block.free_registers {
        return Ok(Next::Wait(Wait::Registers { needed }));
    }
    block.free_registers -= needed;
    warp.register_count = count;
    Ok(Next::Step)
}
