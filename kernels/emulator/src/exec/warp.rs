//! A warp: registers, and where its lanes are.

use std::sync::Arc;

use super::flight::Groups;
use super::matrix::Track;
use crate::registers::{Constants, LANES, Registers};

/// What lanes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing.
    Ready,
    /// That these lanes come to the same instruction.
    Lanes(u32),
    /// That these lanes wait as well, wherever they are.
    WarpSync(u32),
    /// A named barrier's next completion.
    Barrier { number: u8, completions: u64 },
    /// The end of an mbarrier's phase.
    Mbarrier { offset: u32, phase: u64 },
    /// The next completion of the cluster's barrier.
    Cluster { completions: u64 },
    /// Products that other warps of the group have not issued yet.
    Products { end: u64 },
    /// Registers that other warps give back.
    Registers { needed: i64 },
}

/// Lanes that are at the same instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub pc: u32,
    pub mask: u32,
    pub wait: Wait,
    /// The wait has lasted as long as it may: the instruction runs without it.
    pub expired: bool,
}

impl Group {
    pub(super) fn new(pc: u32, mask: u32) -> Self {
        Self { pc, mask, wait: Wait::Ready, expired: false }
    }
}

/// Thirty-two threads, or fewer at a block's end.
pub(super) struct Warp {
    /// Number of the block in the cluster.
    pub block: usize,
    /// Number in the block.
    pub number: u32,
    /// Lanes that have not exited.
    pub live: u32,
    pub registers: Registers,
    pub groups: Vec<Group>,
    /// Local memory, one lane behind the other.
    pub local: Vec<u8>,
    /// Turns so far; now and then another group than the first runs.
    pub turns: u32,
    /// Completions of the cluster's barrier when the warp arrived, until it waits.
    pub cluster_arrival: Option<u64>,
    /// Registers per thread, or zero if nobody counts them.
    pub register_count: u32,
    pub products: Track,
    bulk: [Groups; LANES],
    copies: [Groups; LANES],
}

impl Warp {
    pub(super) fn new(counts: [usize; 3], constants: Arc<Constants>) -> Self {
        Self {
            block: 0,
            number: 0,
            live: 0,
            registers: Registers::new(counts, constants),
            groups: Vec::new(),
            local: Vec::new(),
            turns: 0,
            cluster_arrival: None,
            register_count: 0,
            products: Track::default(),
            bulk: Default::default(),
            copies: Default::default(),
        }
    }

    /// Begins a block's life: all lanes of `mask` at the first instruction.
    pub(super) fn start(&mut self, block: usize, number: u32, mask: u32, local_bytes: u32) {
        self.block = block;
        self.number = number;
        self.live = mask;
        self.groups.clear();
        self.groups.push(Group::new(0, mask));
        self.local.clear();
        self.local.resize(local_bytes as usize * 32, LOCAL_POISON);
        self.turns = 0;
        self.cluster_arrival = None;
        self.register_count = 0;
        self.products.start(self.registers.word_count());
        self.bulk.iter_mut().chain(&mut self.copies).for_each(Groups::clear);
    }

    /// Bulk copies of a lane.
    pub(super) fn bulk_groups(&mut self, lane: usize) -> &mut Groups {
        &mut self.bulk[lane]
    }

    /// Copies of a lane's own.
    pub(super) fn copy_groups(&mut self, lane: usize) -> &mut Groups {
        &mut self.copies[lane]
    }

    /// Joins groups that are at the same instruction.
    pub(super) fn merge(&mut self) {
        self.groups.sort_by_key(|g| g.pc);
        let joins = |w: Wait| matches!(w, Wait::Ready | Wait::Lanes(_));
        self.groups.dedup_by(|next, kept| {
            let same = next.pc == kept.pc && joins(next.wait) && joins(kept.wait);
            if same {
                kept.mask |= next.mask;
                if kept.wait == Wait::Ready {
                    kept.wait = next.wait;
                }
            }
            same
        });
    }
}

/// What local memory holds before it is written.
const LOCAL_POISON: u8 = 0xDD;
