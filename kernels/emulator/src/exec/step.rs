//! One warp, one instruction after the other.

use super::access;
use super::barrier::BARRIERS;
use super::block::Block;
use super::collective::{self, Presence};
use super::report::Report;
use super::setup::Dimensions;
use super::warp::{Group, Wait, Warp};
use crate::fault::{FaultKind, Trouble};
use crate::isa::{Barrier, BarrierKind, Instr, Op, Operands};
use crate::memory::View;
use crate::program::Program;
use crate::registers::{Class, LANES};

/// What a thread of the emulator executes with.
pub(super) struct Machine<'a> {
    pub program: &'a Program,
    pub view: View<'a>,
    pub params: &'a [u8],
    pub dimensions: &'a Dimensions,
    pub report: Report,
    /// Counts what others can see: stores, arrivals, copies that land.
    pub progress: u64,
}

/// A fault and the instruction that raised it.
pub(super) struct Raised {
    pub trouble: Box<Trouble>,
    pub pc: u32,
}

/// What becomes of the group after an instruction.
enum Next {
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

/// Runs a warp for up to `budget` instructions; returns how many it executed. Zero means that it
/// waits. With `stir` another group than the first may run.
pub(super) fn run(
    machine: &mut Machine<'_>,
    blocks: &mut [Block],
    warp: &mut Warp,
    budget: u32,
    stir: usize,
) -> Result<u32, Raised> {
    let mut left = budget;
    warp.turns = warp.turns.wrapping_add(1);
    while left > 0 {
        wake(machine, blocks, warp);
        let Some((chosen, stop)) = choose(warp, if left == budget { stir } else { 0 }) else {
            break;
        };
        let before = left;
        let yielded = run_group(machine, blocks, warp, chosen, stop, &mut left)?;
        if yielded || before == left {
            break;
        }
    }
    machine.report.instructions += u64::from(budget - left);
    Ok(budget - left)
}

/// Ends waits whose reason is gone, and joins groups.
fn wake(machine: &mut Machine<'_>, blocks: &[Block], warp: &mut Warp) {
    if let [Group { wait: Wait::Ready, .. }] = warp.groups[..] {
        return;
    }
    warp.merge();
    release_warp_sync(warp);
    for group in &mut warp.groups {
        match group.wait {
            Wait::Ready | Wait::WarpSync(_) => {}
            Wait::Lanes(mask) => {
                if mask & warp.live & !group.mask == 0 {
                    group.wait = Wait::Ready;
                }
            }
            Wait::Barrier { number, completions } => {
                let barrier = &blocks[warp.block].barriers[usize::from(number)];
                if barrier.completions > completions {
                    let instr = &machine.program.code[group.pc as usize];
                    if let Op::Barrier(b) = &instr.op {
                        let value = barrier.answer(b.kind);
                        let dst = instr.operands.dst[0];
                        collective::answer(&mut warp.registers, dst, group.mask, value);
                    }
                    group.pc += 1;
                    group.wait = Wait::Ready;
                }
            }
        }
    }
}

/// Lets lanes go on that wait for each other and are all there, wherever they are.
fn release_warp_sync(warp: &mut Warp) {
    let waiting = |mask: u32, groups: &[Group]| {
        groups.iter().filter(|g| g.wait == Wait::WarpSync(mask)).fold(0, |m, g| m | g.mask)
    };
    for i in 0..warp.groups.len() {
        if let Wait::WarpSync(mask) = warp.groups[i].wait
            && mask & warp.live & !waiting(mask, &warp.groups) == 0
        {
            for group in warp.groups.iter_mut().filter(|g| g.wait == Wait::WarpSync(mask)) {
                group.pc += 1;
                group.wait = Wait::Ready;
            }
        }
    }
}

/// The group to run, and the place where it meets another one.
fn choose(warp: &Warp, stir: usize) -> Option<(usize, u32)> {
    if let [group] = &warp.groups[..] {
        return (group.wait == Wait::Ready).then_some((0, u32::MAX));
    }
    let ready = || (0..warp.groups.len()).filter(|&i| warp.groups[i].wait == Wait::Ready);
    let count = ready().count();
    // Groups are in order of their places: the first one comes to where the others are.
    let chosen = ready().nth(stir % count.max(1))?;
    let pc = warp.groups[chosen].pc;
    let others =
        warp.groups.iter().filter(|g| matches!(g.wait, Wait::Ready | Wait::Lanes(_)) && g.pc > pc);
    Some((chosen, others.map(|g| g.pc).min().unwrap_or(u32::MAX)))
}

/// Runs one group until it waits, splits, meets another or has used up its budget. Tells whether
/// other warps should run now.
fn run_group(
    machine: &mut Machine<'_>,
    blocks: &mut [Block],
    warp: &mut Warp,
    chosen: usize,
    stop: u32,
    left: &mut u32,
) -> Result<bool, Raised> {
    let program = machine.program;
    let Group { mut pc, mask, .. } = warp.groups[chosen];
    while *left > 0 && pc < stop {
        let instr = &program.code[pc as usize];
        let mut active = mask;
        if instr.guard.is_some() {
            let holds = warp.registers.predicate(instr.guard);
            active &= if instr.guard_negated { !holds } else { holds };
        }
        *left -= 1;
        if let Op::Compute(compute) = &instr.op {
            if active != 0 {
                compute(&mut warp.registers, &instr.operands, active);
            }
            pc += 1;
            continue;
        }
        let next = execute(machine, blocks, warp, instr, mask, active)
            .map_err(|trouble| Raised { trouble, pc })?;
        match next {
            Next::Step => pc += 1,
            Next::Jump(target) => pc = target,
            Next::Split(target, lanes) | Next::Peel(target, lanes) => {
                let behind = if matches!(next, Next::Split(..)) { pc + 1 } else { pc };
                warp.groups[chosen] = Group { pc: behind, mask: mask & !lanes, wait: Wait::Ready };
                warp.groups.push(Group { pc: target, mask: lanes, wait: Wait::Ready });
                return Ok(false);
            }
            Next::Wait(wait) => {
                // It runs again when the wait is over.
                *left += u32::from(!matches!(wait, Wait::Barrier { .. }));
                warp.groups[chosen].pc = pc;
                warp.groups[chosen].wait = wait;
                return Ok(false);
            }
            Next::Yield => {
                warp.groups[chosen].pc = pc + 1;
                return Ok(true);
            }
            Next::Exit(lanes) => {
                warp.live &= !lanes;
                blocks[warp.block].exit(lanes.count_ones());
                machine.progress += 1;
                if mask == lanes {
                    warp.groups.remove(chosen);
                } else {
                    warp.groups[chosen] =
                        Group { pc: pc + 1, mask: mask & !lanes, wait: Wait::Ready };
                }
                return Ok(false);
            }
        }
    }
    warp.groups[chosen].pc = pc;
    Ok(false)
}

/// Executes anything that is more than a computation.
fn execute(
    machine: &mut Machine<'_>,
    blocks: &mut [Block],
    warp: &mut Warp,
    instr: &Instr,
    mask: u32,
    active: u32,
) -> Result<Next, Box<Trouble>> {
    if let Op::Branch { target } = instr.op {
        return Ok(match active {
            0 => Next::Step,
            _ if active == mask => Next::Jump(target),
            _ => Next::Split(target, active),
        });
    }
    if active == 0 {
        return Ok(Next::Step);
    }
    let operands = &instr.operands;
    match &instr.op {
        Op::Compute(_) | Op::Nop | Op::Branch { .. } => Ok(Next::Step),
        Op::BranchTable { targets } => table(warp, operands, targets, active),
        Op::Exit => Ok(Next::Exit(active)),
        Op::Trap => Err(Trouble::new(FaultKind::Trap, "the kernel executed trap")
            .at_lane(active.trailing_zeros() as usize)),
        Op::Load(access) => {
            access::load(machine, blocks, warp, access, operands, active)?;
            Ok(Next::Step)
        }
        Op::Store(access) => {
            access::store(machine, blocks, warp, access, operands, active)?;
            Ok(Next::Step)
        }
        Op::Barrier(barrier) => {
            let block = &mut blocks[warp.block];
            machine.progress += 1;
            meet(block, warp, *barrier, operands, active)
        }
        Op::WarpSync => {
            let named = warp.registers.words(operands.src[0])[active.trailing_zeros() as usize];
            if named & warp.live & !active == 0 {
                return Ok(Next::Step);
            }
            if active != mask {
                let what = "a predicate switches the barrier off for some lanes";
                return Err(Trouble::new(FaultKind::Divergence, what));
            }
            Ok(Next::Wait(Wait::WarpSync(named)))
        }
        Op::Collective(c) => {
            if operands.src[0].is_some()
                && let Presence::Missing(lanes) =
                    collective::presence(warp, operands.src[0], mask, active)?
            {
                return Ok(Next::Wait(Wait::Lanes(lanes | active)));
            }
            collective::execute(&mut warp.registers, *c, operands, active)?;
            Ok(Next::Step)
        }
        Op::Clock => {
            let now = machine.report.instructions + u64::from(warp.turns);
            let slot = operands.dst[0];
            match slot.class() {
                Class::Double => warp.registers.put_doubles(slot, active, &[now; LANES]),
                _ => warp.registers.put_words(slot, active, &[now as u32; LANES]),
            }
            Ok(Next::Step)
        }
    }
}

/// A branch to one of many places; lanes that go to the same one stay together.
fn table(
    warp: &Warp,
    operands: &Operands,
    targets: &[u32],
    active: u32,
) -> Result<Next, Box<Trouble>> {
    let indices = warp.registers.words(operands.src[0]);
    let first = indices[active.trailing_zeros() as usize];
    let lanes = access::lanes(active)
        .filter(|&l| indices[l] == first)
        .fold(0u32, |mask, lane| mask | 1 << lane);
    let target = *targets.get(first as usize).ok_or_else(|| {
        let what = format!("index {first} into a list of {} labels", targets.len());
        Trouble::new(FaultKind::Operand, what).at_lane(active.trailing_zeros() as usize)
    })?;
    // Lanes that go elsewhere stay here and branch in their turn.
    Ok(match lanes == active {
        true => Next::Jump(target),
        false => Next::Peel(target, lanes),
    })
}

/// A warp, or lanes of it, come to a named barrier.
fn meet(
    block: &mut Block,
    warp: &Warp,
    barrier: Barrier,
    operands: &Operands,
    active: u32,
) -> Result<Next, Box<Trouble>> {
    if barrier.aligned && active != warp.live {
        return Ok(Next::Wait(Wait::Lanes(warp.live)));
    }
    let first = active.trailing_zeros() as usize;
    let uniform = |slot| -> Result<u32, Box<Trouble>> {
        let values = warp.registers.words(slot);
        match access::lanes(active).find(|&l| values[l] != values[first]) {
            None => Ok(values[first]),
            Some(lane) => {
                let what = "lanes of a warp name different barriers or counts";
                Err(Trouble::new(FaultKind::Barrier, what).at_lane(lane))
            }
        }
    };
    let number = uniform(operands.src[0])?;
    if number as usize >= BARRIERS {
        let what = format!("there is no barrier {number}: a block has {BARRIERS}");
        return Err(Trouble::new(FaultKind::Barrier, what));
    }
    let mut expected = 0;
    if operands.src[1].is_some() {
        expected = uniform(operands.src[1])?;
        if expected == 0 || expected % LANES as u32 != 0 {
            let what = format!("a barrier's count must be a multiple of 32, not {expected}");
            return Err(Trouble::new(FaultKind::Barrier, what));
        }
    }
    let threads = match expected {
        0 => active.count_ones(),
        // A warp counts whole, as on the device.
        _ if barrier.aligned => LANES as u32,
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
