//! What the threads of a block share.

use super::barrier::{BARRIERS, MBarriers, NamedBarrier};
use super::matrix::ProductQueue;
use super::shared::Shared;
use super::watch::Watch;

/// A block that runs.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub index: [u32; 3],
    pub shared: Shared,
    pub watch: Watch,
    pub mbarriers: MBarriers,
    pub barriers: [NamedBarrier; BARRIERS],
    /// Threads that have not exited.
    pub live: u32,
    /// Products of each warpgroup.
    pub products: Vec<ProductQueue>,
    /// Registers that no warp has.
    pub free_registers: i64,
}

impl Block {
    /// Begins a block's life; `remember` who writes if the async proxy reads.
    pub(super) fn start(&mut self, index: [u32; 3], threads: u32, shared: u32, remember: bool) {
        self.index = index;
        self.shared.start(shared);
        self.watch.start(self.shared.bytes(), threads, remember);
        self.mbarriers.clear();
        self.barriers = Default::default();
        self.live = threads;
        self.products.clear();
        self.free_registers = 0;
    }

    /// The products of a warpgroup.
    pub(super) fn queue(&mut self, group: usize) -> &mut ProductQueue {
        self.queue_and_shared(group).0
    }

    /// The products of a warpgroup, and the memory they read.
    pub(super) fn queue_and_shared(&mut self, group: usize) -> (&mut ProductQueue, &Shared) {
        if self.products.len() <= group {
            self.products.resize_with(group + 1, ProductQueue::default);
        }
        (&mut self.products[group], &self.shared)
    }

    /// Threads leave: barriers for all of the block may be complete without them.
    pub(super) fn exit(&mut self, threads: u32) {
        self.live -= threads;
        for barrier in self.barriers.iter_mut().filter(|b| b.arrived > 0 && b.expected == 0) {
            barrier.settle(self.live);
        }
    }
}
