//! A cluster of blocks that run together.

use std::sync::Arc;

use super::block::Block;
use super::commons::{ClusterBarrier, Commons};
use super::diagnose::{self, Place};
use super::flight::{self, Spot};
use super::matrix;
use super::policy::{Policy, Random};
use super::setup::{Dimensions, specials};
use super::step::{self, Machine, Raised};
use super::warp::{Wait, Warp};
use crate::fault::{Fault, FaultKind};
use crate::program::{Program, REGISTERS};
use crate::registers::{Constants, LANES};

/// Blocks and warps of a cluster.
#[derive(Default)]
pub(super) struct Cluster {
    number: u64,
    commons: Commons,
    warps: Vec<Warp>,
    /// Instructions since anything happened that others can see.
    idle: u64,
    progress: u64,
    /// How often waits have been given up since then.
    expirations: u32,
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
/// How often waits are given up before a cluster is said to be stuck: code may try other things.
const EXPIRATIONS: u32 = 32;

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
        (self.idle, self.progress, self.expirations) = (0, 0, 0);
        let (blocks, warps) = (dimensions.cluster_blocks() as usize, dimensions.warps() as usize);
        let commons = &mut self.commons;
        commons.random = match policy {
            Policy::Eager => None,
            _ => Some(Random::new(policy.seed(), number)),
        };
        commons.flights.clear();
        commons.barrier = ClusterBarrier::default();
        commons.global.start(program.async_loads);
        commons.clock = 1;
        commons.blocks.resize_with(blocks, Block::default);
        let registers = program.start_registers();
        for (rank, block) in commons.blocks.iter_mut().enumerate() {
            let index = dimensions.block_index(number, rank as u32);
            block.start(index, dimensions.threads(), dimensions.shared, program.async_reads);
            let used = registers.unwrap_or(0) * LANES as u32 * warps as u32;
            block.free_registers = i64::from(REGISTERS) - i64::from(used);
        }
        self.warps.truncate(blocks * warps);
        for i in 0..blocks * warps {
            let (block, in_block) = (i / warps, (i % warps) as u32);
            match self.warps.get_mut(i) {
                Some(warp) => warp.registers.poison(&constants[block]),
                None => {
                    let constants = Arc::clone(&constants[block]);
                    self.warps.push(Warp::new(program.registers, constants));
                }
            }
            let warp = &mut self.warps[i];
            let threads = dimensions.threads() - in_block * LANES as u32;
            let mask = if threads >= 32 { u32::MAX } else { (1 << threads) - 1 };
            warp.start(block, in_block, mask, program.local_bytes);
            warp.register_count = registers.unwrap_or(0);
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
            let ran = self.round(machine)?;
            if self.warps.iter().all(|w| w.live == 0) {
                self.end(machine)?;
                return Ok(Slice::Finished);
            }
            self.note_idle(machine, ran)?;
            if ran == 0 && self.nothing_runs(machine)? {
                self.unblock(machine)?;
            }
            left -= ran.max(1) as i64;
        }
        Ok(Slice::Running)
    }

    /// As many turns as there are warps.
    fn round(&mut self, machine: &mut Machine<'_>) -> Result<u64, Box<Fault>> {
        let mut ran = 0;
        for turn in 0..self.warps.len() {
            let (i, length, stir) = match &mut self.commons.random {
                None => (turn, TURN, self.warps[turn].turns as usize / 4),
                Some(random) => {
                    let i = random.below(self.warps.len());
                    let stir = if random.below(8) == 0 { random.below(32) } else { 0 };
                    (i, 1 + random.below(RANDOM_TURN) as u32, stir)
                }
            };
            ran += self.turn(machine, i, length, stir)?;
            if let Policy::Random { .. } = machine.policy {
                flight::drift(machine, &mut self.commons).map_err(|r| self.fault(machine, i, r))?;
                matrix::drift(machine, &mut self.commons)
                    .map_err(|trouble| diagnose::general(machine, trouble.kind, trouble.what))?;
            }
        }
        Ok(ran)
    }

    fn turn(
        &mut self,
        machine: &mut Machine<'_>,
        warp: usize,
        length: u32,
        stir: usize,
    ) -> Result<u64, Box<Fault>> {
        step::run(machine, &mut self.commons, &mut self.warps[warp], length, stir)
            .map(u64::from)
            .map_err(|raised| self.fault(machine, warp, raised))
    }

    /// Gives every warp a turn, in order; tells whether none could use it.
    fn nothing_runs(&mut self, machine: &mut Machine<'_>) -> Result<bool, Box<Fault>> {
        for i in 0..self.warps.len() {
            if self.turn(machine, i, 1, 0)? > 0 {
                return Ok(false);
            }
        }
        Ok(self.warps.iter().any(|w| w.live != 0))
    }

    /// All warps wait: a copy lands, or waits are given up, or it is a deadlock.
    fn unblock(&mut self, machine: &mut Machine<'_>) -> Result<(), Box<Fault>> {
        let waits: Vec<Spot> = self.warps.iter().flat_map(mbarrier_waits).collect();
        let landed = flight::land_one(machine, &mut self.commons, &waits);
        if landed.map_err(|raised| self.fault(machine, 0, raised))? {
            return Ok(());
        }
        let waits = self.warps.iter_mut().flat_map(|w| &mut w.groups);
        let waits = waits.filter(|g| matches!(g.wait, Wait::Mbarrier { .. }));
        self.expirations += 1;
        let mut any = false;
        if self.expirations <= EXPIRATIONS {
            for group in waits {
                (group.wait, group.expired, any) = (Wait::Ready, true, true);
            }
        }
        if any {
            return Ok(());
        }
        let places = diagnose::places(machine, &self.commons, &self.warps);
        let what = format!("no thread can go on\n{places}");
        Err(diagnose::general(machine, FaultKind::Deadlock, what))
    }

    fn note_idle(&mut self, machine: &Machine<'_>, ran: u64) -> Result<(), Box<Fault>> {
        if machine.progress != self.progress {
            self.progress = machine.progress;
            self.idle = 0;
            self.expirations = 0;
        }
        self.idle += ran;
        if self.idle < LONGEST_IDLE {
            return Ok(());
        }
        let places = diagnose::places(machine, &self.commons, &self.warps);
        let what = format!("{} instructions had no effect\n{places}", self.idle);
        Err(diagnose::general(machine, FaultKind::Livelock, what))
    }

    /// All threads have exited: what is left must be allowed to be left.
    fn end(&mut self, machine: &mut Machine<'_>) -> Result<(), Box<Fault>> {
        for block in &self.commons.blocks {
            diagnose::check_end(machine, block)?;
        }
        flight::land_rest(machine, &mut self.commons).map_err(|r| self.fault(machine, 0, r))
    }

    /// Adds to what was raised where it was.
    fn fault(&self, machine: &Machine<'_>, warp: usize, raised: Raised) -> Box<Fault> {
        let warp = &self.warps[warp];
        let (block, warp) = raised.issuer.unwrap_or((warp.block, warp.number));
        let place = Place { block: self.commons.blocks[block].index, warp, pc: raised.pc };
        diagnose::located(machine, place, *raised.trouble)
    }
}

/// The mbarriers that lanes of a warp wait for.
fn mbarrier_waits(warp: &Warp) -> impl Iterator<Item = Spot> {
    warp.groups.iter().filter_map(|group| match group.wait {
        Wait::Mbarrier { offset, .. } => Some(Spot { block: warp.block, offset }),
        _ => None,
    })
}
