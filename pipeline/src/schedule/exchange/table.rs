//! All moves of a step, computed once: they repeat from microbatch to microbatch.

use super::super::Unit;
use super::super::builders::{Alternating, SlimPipe};
use super::super::lock_step::LockStep;
use super::super::size::Size;
use super::{Exchange, Move, Pass};

/// The moves of every step, by rank.
///
/// A full step looks the same in every microbatch, so there is one entry for each place that rank 0
/// can be at within a microbatch; then one for each step in which the pipeline fills or drains.
#[derive(Debug)]
pub(in super::super) struct Table {
    clock: LockStep,
    size: Size,
    order: SlimPipe,
    /// By entry and rank: where its moves begin in `moves`.
    starts: Vec<u32>,
    /// Each move twice: at its owner and at its helper.
    moves: Vec<Move>,
}

impl Table {
    /// The moves of `exchange` among ranks that run units in `order`.
    pub fn new(exchange: Exchange, size: Size, order: SlimPipe) -> Self {
        let per_microbatch = size.per_microbatch();
        let clock = LockStep::new(size.ranks, per_microbatch, size.units());
        let mut table = Self { clock, size, order, starts: vec![0], moves: Vec::new() };
        // A rank is one unit behind the one before it, around the end of the microbatch.
        for place in 0..per_microbatch {
            let unit = |rank| (place + u64::from(rank) * (per_microbatch - 1)) % per_microbatch;
            table.push(exchange, |rank| Some(unit(rank)));
        }
        for step in (0..clock.steps()).filter(|&step| !clock.is_full(step)) {
            table.push(exchange, |rank| clock.unit_at(Pass::Forward, rank, step));
        }
        table
    }

    /// Adds the moves of a step in which each rank runs the forward unit that `unit_at` tells.
    fn push(&mut self, exchange: Exchange, unit_at: impl Fn(u32) -> Option<u64>) {
        let prefix = |rank| unit_at(rank).map(|k| self.order.forward(k).slice);
        let moves = exchange.moves(&(0..self.size.ranks).map(prefix).collect::<Vec<_>>());
        for rank in 0..self.size.ranks {
            let own = moves.iter().filter(|m| m.owner == rank || m.helper == rank);
            self.moves.extend(own);
            self.starts.push(self.moves.len() as u32);
        }
    }

    /// The moves that `rank` has a part in at `step` of `pass`.
    pub fn moves(&self, pass: Pass, step: u64, rank: u32) -> &[Move] {
        let forward = match pass {
            Pass::Forward => step,
            Pass::Backward => self.clock.steps() - 1 - step,
        };
        let fill = u64::from(self.size.ranks) - 1;
        let entry = if self.clock.is_full(forward) {
            forward % self.size.per_microbatch()
        } else if forward < fill {
            self.size.per_microbatch() + forward
        } else {
            // Steps that are neither full nor before the pipeline is: they come last.
            let full = self.size.units().saturating_sub(fill);
            self.size.per_microbatch() + forward - full
        };
        let at = (entry * u64::from(self.size.ranks)) as usize + rank as usize;
        &self.moves[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// The unit that `rank` runs at `step` of `pass`.
    pub fn unit(&self, pass: Pass, step: u64, rank: u32) -> Option<Unit> {
        let k = self.clock.unit_at(pass, rank, step)?;
        Some(match pass {
            Pass::Forward => self.order.forward(k),
            Pass::Backward => self.order.backward(k),
        })
    }
}
