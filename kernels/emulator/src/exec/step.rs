//! One warp, one instruction after the other.

use super::collective;
use super::commons::Commons;
use super::execute::{At, Next, execute};
use super::matrix;
use super::policy::Policy;
use super::report::Report;
use super::setup::Dimensions;
use super::warp::{Group, Wait, Warp};
use crate::fault::Trouble;
use crate::isa::Op;
use crate::memory::View;
use crate::program::Program;

/// What a thread of the emulator executes with.
pub(super) struct Machine<'a> {
    pub program: &'a Program,
    pub view: View<'a>,
    pub params: &'a [u8],
    pub dimensions: &'a Dimensions,
    pub policy: Policy,
    pub report: Report,
    /// Counts what others can see: stores, arrivals, copies that land.
    pub progress: u64,
}

impl Machine<'_> {
    /// Line of the text of an instruction.
    pub(super) fn line(&self, pc: u32) -> u32 {
        self.program.code[pc as usize].line
    }
}

/// A fault and the instruction that raised it.
pub(super) struct Raised {
    pub trouble: Box<Trouble>,
    pub pc: u32,
    /// Block and warp that issued it, if not the ones that run now.
    pub issuer: Option<(usize, u32)>,
}

/// Runs a warp for up to `budget` instructions; returns how many it executed. Zero means that it
/// waits. With `stir` another group than the first may run.
pub(super) fn run(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    warp: &mut Warp,
    budget: u32,
    stir: usize,
) -> Result<u32, Raised> {
    let mut left = budget;
    warp.turns = warp.turns.wrapping_add(1);
    while left > 0 {
        wake(machine, commons, warp);
        let Some((chosen, stop)) = choose(warp, if left == budget { stir } else { 0 }) else {
            break;
        };
        let before = left;
        let yielded = run_group(machine, commons, warp, chosen, stop, &mut left)?;
        if yielded || before == left {
            break;
        }
    }
    machine.report.instructions += u64::from(budget - left);
    Ok(budget - left)
}

/// Ends waits whose reason is gone, and joins groups.
fn wake(machine: &mut Machine<'_>, commons: &Commons, warp: &mut Warp) {
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
            Wait::Mbarrier { offset, phase } => {
                let barrier = commons.blocks[warp.block].mbarriers.peek(offset);
                if barrier.is_none_or(|b| b.phase != phase) {
                    group.wait = Wait::Ready;
                }
            }
            Wait::Cluster { completions } => {
                if commons.barrier.completions > completions {
                    group.pc += 1;
                    group.wait = Wait::Ready;
                }
            }
            Wait::Products { end } => {
                if matrix::ready(&commons.blocks[warp.block], warp.number, end) {
                    group.wait = Wait::Ready;
                }
            }
            Wait::Registers { needed } => {
                if commons.blocks[warp.block].free_registers >= needed {
                    group.wait = Wait::Ready;
                }
            }
            Wait::Barrier { number, completions } => {
                let barrier = &commons.blocks[warp.block].barriers[usize::from(number)];
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
    commons: &mut Commons,
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
        if instr.matrix && active != 0 {
            matrix::touch(machine, warp, instr).map_err(|trouble| Raised {
                trouble,
                pc,
                issuer: None,
            })?;
        }
        if let Op::Compute(compute) = &instr.op {
            if active != 0 {
                compute(&mut warp.registers, &instr.operands, active);
            }
            pc += 1;
            continue;
        }
        let next = match instr.op {
            Op::Branch { target } if active == mask => Next::Jump(target),
            _ if active == 0 => Next::Step,
            Op::Branch { target } => Next::Split(target, active),
            _ => {
                let expired = std::mem::take(&mut warp.groups[chosen].expired);
                let at = At { instr, pc, group: mask, active, expired };
                execute(machine, commons, warp, at)?
            }
        };
        match next {
            Next::Step => pc += 1,
            Next::Jump(target) => pc = target,
            Next::Split(target, lanes) | Next::Peel(target, lanes) => {
                let behind = if matches!(next, Next::Split(..)) { pc + 1 } else { pc };
                warp.groups[chosen] = Group::new(behind, mask & !lanes);
                warp.groups.push(Group::new(target, lanes));
                return Ok(false);
            }
            Next::Wait(wait) => {
                // It runs again when the wait is over.
                *left += u32::from(!matches!(wait, Wait::Barrier { .. } | Wait::Cluster { .. }));
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
                commons.exit(warp.block, lanes.count_ones());
                machine.progress += 1;
                if mask == lanes {
                    warp.groups.remove(chosen);
                } else {
                    warp.groups[chosen] = Group::new(pc + 1, mask & !lanes);
                }
                return Ok(false);
            }
        }
    }
    warp.groups[chosen].pc = pc;
    Ok(false)
}
