//! What the warps of a cluster have in common.

use super::block::Block;
use super::flight::Flights;
use super::global_watch::GlobalWatch;
use super::policy::Random;
use crate::fault::{FaultKind, Trouble};

/// Blocks, what is under way between them, and the time.
#[derive(Default)]
pub(super) struct Commons {
    pub blocks: Vec<Block>,
    pub flights: Flights,
    pub barrier: ClusterBarrier,
    pub global: GlobalWatch,
    /// Counts fences; a write is visible to the async proxy if a fence has a later time.
    pub clock: u32,
    /// `None` if nothing is left to chance.
    pub random: Option<Random>,
}

/// The barrier of a cluster's blocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterBarrier {
    arrived: u32,
    pub completions: u64,
}

impl ClusterBarrier {
    pub(super) fn arrive(&mut self, threads: u32, live: u32) {
        self.arrived += threads;
        self.settle(live);
    }

    /// Completes the barrier if all `live` threads of the cluster came.
    pub(super) fn settle(&mut self, live: u32) {
        if self.arrived > 0 && self.arrived >= live {
            self.arrived = 0;
            self.completions += 1;
        }
    }
}

impl Commons {
    /// Threads of all blocks that have not exited.
    pub(super) fn live(&self) -> u32 {
        self.blocks.iter().map(|b| b.live).sum()
    }

    /// Threads of a block leave.
    pub(super) fn exit(&mut self, block: usize, threads: u32) {
        self.blocks[block].exit(threads);
        let live = self.live();
        self.barrier.settle(live);
    }

    /// The block that a rank names, if it has not exited.
    pub(super) fn block(&mut self, rank: usize) -> Result<&mut Block, Box<Trouble>> {
        let blocks = self.blocks.len();
        match self.blocks.get_mut(rank) {
            Some(block) if block.live > 0 => Ok(block),
            Some(_) => {
                let what = format!("block {rank} of the cluster has exited");
                Err(Trouble::new(FaultKind::Freed, what))
            }
            None => {
                let what = format!("there is no block {rank} in a cluster of {blocks}");
                Err(Trouble::new(FaultKind::OutOfBounds, what))
            }
        }
    }
}
