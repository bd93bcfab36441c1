//! A cluster of blocks that run together.

use super::block::Block;
use super::policy::{Policy, Random};
use super::setup::{Dimensions, specials};
use super::step::{self, Machine, Raised};
use super::warp::{Wait, Warp};
use crate::fault::{Fault, FaultKind, Trouble};
use crate::program::Program;
use crate::registers::{Constants, LANES};
use std::sync::Arc;

/// Blocks and warps of a cluster.
#[derive(Default)]
pub(super) struct Cluster {
    number: u64,
    blocks: Vec<Block>,
    warps: Vec<Warp>,
    random: Option<Random>,
    /// Instructions since anything happened that others can see.
    idle: u64,
    progress: u64,
}

/// How a slice of a cluster's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slice {
    Finished,
    /// It used up its slice.
    Running,
}

/// Instructions of a warp's turn.
const TURN: u32 = 4096;
/// Most instructions of a warp's turn in random order.
const RANDOM_TURN: usize = 400;
/// Instructions without any effect after which a cluster is said to run for ever.
const LONGEST_IDLE: u64 = 50_000_000;

impl Cluster {
    /// Begins the life of cluster `number`.
    pub(super) fn start(
        &mut self,
        number: u64,
        program: &Program,
        dimensions: &Dimensions,
        constants: &[Arc<Constants>],
        policy: Policy,
    ) {
        self.number = number;
        self.random = match policy {
            Policy::Eager => None,
            _ => Some(Random::new(policy.seed(), number)),
        };
        (self.idle, self.progress) = (0, 0);
        let blocks = dimensions.cluster_blocks();
        let warps = dimensions.warps();
        self.blocks.resize_with(blocks as usize, Block::default);
        for (rank, block) in self.blocks.iter_mut().enumerate() {
            let index = dimensions.block_index(number, rank as u32);
            block.start(index, dimensions.threads(), dimensions.shared);
        }
        self.warps.truncate((blocks * warps) as usize);
        for warp in &mut self.warps {
            warp.registers.poison(&constants[0]);
        }
        while self.warps.len() < (blocks * warps) as usize {
            self.warps.push(Warp::new(program.registers, Arc::clone(&constants[0])));
        }
        for (i, warp) in self.warps.iter_mut().enumerate() {
            let (block, number_in_block) = (i / warps as usize, i as u32 % warps);
            if block > 0 {
                warp.registers.poison(&constants[block]);
            }
            let threads = dimensions.threads() - number_in_block * LANES as u32;
            let mask = if threads >= 32 { u32::MAX } else { (1 << threads) - 1 };
            warp.start(block, number_in_block, mask, program.local_bytes);
            specials(program, warp, dimensions, number);
        }
    }

    /// Runs for about `budget` instructions.
    pub(super) fn run(
        &mut self,
        machine: &mut Machine<'_>,
        budget: u64,
    ) -> Result<Slice, Box<Fault>> {
        let mut left = budget as i64;
        while left > 0 {
            let mut ran = 0u64;
            let mut alive = false;
            for turn in 0..self.warps.len() {
                let (i, length, stir) = match &mut self.random {
                    None => (turn, TURN, self.warps[turn].turns as usize / 4),
                    Some(random) => {
                        let i = random.below(self.warps.len());
                        let stir = if random.below(8) == 0 { random.below(32) } else { 0 };
                        (i, 1 + random.below(RANDOM_TURN) as u32, stir)
                    }
                };
                let warp = &mut self.warps[i];
                let done = step::run(machine, &mut self.blocks, warp, length, stir)
                    .map_err(|raised| self.fault(machine, i, raised))?;
                ran += u64::from(done);
            }
            alive |= self.warps.iter().any(|w| w.live != 0);
            if !alive {
                self.check_end(machine)?;
                return Ok(Slice::Finished);
            }
            if ran == 0 && self.nothing_runs(machine)? {
                return Err(self.deadlock(machine));
            }
            self.note_idle(machine, ran)?;
            left -= ran as i64;
        }
        Ok(Slice::Running)
    }

    /// Gives every warp a turn, in order; tells whether none could use it.
    fn nothing_runs(&mut self, machine: &mut Machine<'_>) -> Result<bool, Box<Fault>> {
        for i in 0..self.warps.len() {
            let done = step::run(machine, &mut self.blocks, &mut self.warps[i], 1, 0)
                .map_err(|raised| self.fault(machine, i, raised))?;
            if done > 0 {
                return Ok(false);
            }
        }
        Ok(self.warps.iter().any(|w| w.live != 0))
    }

    fn note_idle(&mut self, machine: &Machine<'_>, ran: u64) -> Result<(), Box<Fault>> {
        if machine.progress != self.progress {
            self.progress = machine.progress;
            self.idle = 0;
        }
        self.idle += ran;
        if self.idle < LONGEST_IDLE {
            return Ok(());
        }
        let what = format!("{} instructions had no effect\n{}", self.idle, self.places(machine));
        Err(self.general(machine, FaultKind::Livelock, what))
    }

    /// What must hold when all threads have exited.
    fn check_end(&self, machine: &Machine<'_>) -> Result<(), Box<Fault>> {
        for block in &self.blocks {
            let waiting = block.barriers.iter().enumerate().find(|(_, b)| b.arrived > 0);
            if let Some((number, barrier)) = waiting {
                let what = format!(
                    "the block exited while {} of {} threads had arrived at barrier {number}",
                    barrier.arrived, barrier.expected
                );
                let mut fault = self.general(machine, FaultKind::Barrier, what);
                fault.block = Some(block.index);
                return Err(fault);
            }
        }
        Ok(())
    }

    fn deadlock(&self, machine: &Machine<'_>) -> Box<Fault> {
        let what = format!("no thread can go on\n{}", self.places(machine));
        self.general(machine, FaultKind::Deadlock, what)
    }

    /// Where every warp is, a line each.
    fn places(&self, machine: &Machine<'_>) -> String {
        let mut text = String::new();
        for warp in &self.warps {
            for group in &warp.groups {
                let instr = &machine.program.code[group.pc as usize];
                let reason = match group.wait {
                    Wait::Ready => "runs",
                    Wait::Lanes(_) => "waits for lanes of its warp",
                    Wait::WarpSync(_) => "waits at a warp barrier",
                    Wait::Barrier { .. } => "waits at a barrier",
                };
                text += &format!(
                    "    block {:?} warp {} lanes {:#010x} {reason}, line {}: {}\n",
                    self.blocks[warp.block].index,
                    warp.number,
                    group.mask,
                    instr.line,
                    machine.program.line(instr.line)
                );
            }
        }
        text.trim_end().to_string()
    }

    fn general(&self, machine: &Machine<'_>, kind: FaultKind, what: String) -> Box<Fault> {
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

    /// Adds to what was raised where it was.
    fn fault(&self, machine: &Machine<'_>, warp: usize, raised: Raised) -> Box<Fault> {
        let Raised { trouble, pc } = raised;
        let Trouble { kind, what, lane } = *trouble;
        let warp = &self.warps[warp];
        let line = machine.program.code[pc as usize].line;
        let thread = lane.map(|lane| machine.dimensions.thread(warp.number * LANES as u32 + lane));
        Box::new(Fault {
            kind,
            what,
            kernel: machine.program.name.clone(),
            block: Some(self.blocks[warp.block].index),
            warp: Some(warp.number),
            thread,
            line,
            text: machine.program.line(line),
        })
    }
}
