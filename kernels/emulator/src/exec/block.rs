//! What the threads of a block share.

use super::barrier::{BARRIERS, NamedBarrier};
use super::shared::Shared;

/// A block that runs.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub index: [u32; 3],
    pub shared: Shared,
    pub barriers: [NamedBarrier; BARRIERS],
    /// Threads that have not exited.
    pub live: u32,
}

impl Block {
    pub(super) fn start(&mut self, index: [u32; 3], threads: u32, shared: u32) {
        self.index = index;
        self.shared.start(shared);
        self.barriers = Default::default();
        self.live = threads;
    }

    /// Threads leave: barriers for all of the block may be complete without them.
    pub(super) fn exit(&mut self, threads: u32) {
        self.live -= threads;
        for barrier in self.barriers.iter_mut().filter(|b| b.arrived > 0 && b.expected == 0) {
            barrier.settle(self.live);
        }
    }
}
