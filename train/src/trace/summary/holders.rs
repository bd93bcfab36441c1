//! The most that each kind of owner ever held, whenever that was.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Serialize;
use slimpipe_allocator::Region;
use slimpipe_allocator::events::{Block, NameId};

use crate::trace::Playback;

/// What an operation in a layer held in a region, all units and call sites together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The region's name.
    pub region: &'static str,
    /// The layer, if in one.
    pub layer: Option<u32>,
    /// The operation.
    pub op: String,
    /// Most bytes at once.
    pub peak: u64,
    /// Blocks placed, over the whole log.
    pub blocks: u64,
}

#[derive(Default)]
pub(super) struct Holders {
    /// By region, layer and name: where the holder is.
    known: HashMap<(Region, Option<u32>, NameId), usize>,
    /// By region, layer and operation, which several names may share.
    by_op: HashMap<(Region, Option<u32>, Box<str>), usize>,
    /// With what each holds now.
    all: Vec<(Holder, u64)>,
}

impl Holders {
    pub fn place(&mut self, block: &Block, log: &Playback) {
        let key = (block.region, block.layer, block.name);
        let number = match self.known.get(&key) {
            Some(&number) => number,
            None => self.add(key, log.name(block.name).op()),
        };
        let (holder, held) = &mut self.all[number];
        *held += block.bytes;
        holder.peak = holder.peak.max(*held);
        holder.blocks += 1;
    }

    fn add(&mut self, key: (Region, Option<u32>, NameId), op: &str) -> usize {
        let (region, layer, _) = key;
        let next = self.all.len();
        let number = *self.by_op.entry((region, layer, op.into())).or_insert(next);
        if number == next {
            let (region, op) = (region.name(), op.to_owned());
            self.all.push((Holder { region, layer, op, peak: 0, blocks: 0 }, 0));
        }
        self.known.insert(key, number);
        number
    }

    pub fn free(&mut self, block: &Block) {
        if let Some(&number) = self.known.get(&(block.region, block.layer, block.name)) {
            self.all[number].1 -= block.bytes;
        }
    }

    /// All of them, largest first; ties by name.
    pub fn finish(self) -> Vec<Holder> {
        let mut all: Vec<_> = self.all.into_iter().map(|(holder, _)| holder).collect();
        let key = |holder: &Holder| {
            (Reverse(holder.peak), holder.region, holder.layer, holder.op.clone())
        };
        all.sort_by_cached_key(key);
        all
    }
}
