//! What is told about memory: figures, owners, and the whole of it when there is none left.

use std::collections::HashMap;

use super::{Request, State};
use crate::adaptor::{Block, Event};
use crate::{AllocError, Bytes, MemoryStats, OutOfMemory, Owner, Region};

/// How many owners an out-of-memory report names.
const OWNERS: usize = 5;

impl State {
    pub(crate) fn stats(&self) -> MemoryStats {
        MemoryStats { largest_free: self.regions.largest_free(), ..self.stats.clone() }
    }

    pub(crate) fn reset_peaks(&mut self) {
        self.stats.reset_peaks();
    }

    /// The tightest budget that any adaptor enforces.
    pub(super) fn limit(&self) -> Option<u64> {
        self.adaptors.iter().filter_map(|adaptor| adaptor.limit()).min()
    }

    pub(super) fn out_of_memory(&mut self, request: &Request<'_>, cause: String) -> AllocError {
        let Request { op, location, bytes: requested, .. } = *request;
        self.tell(&Event::Refused { op, requested, location });
        AllocError::OutOfMemory(Box::new(OutOfMemory {
            rank: self.rank,
            op,
            requested: Bytes(requested),
            active: Bytes(self.stats.total.active.current),
            regions: self.regions_held(),
            reserved: Bytes(self.stats.total.reserved.current),
            limit: self.limit().map(Bytes),
            largest_free: Bytes(self.regions.largest_free()),
            cause,
            owners: self.owners(OWNERS),
        }))
    }

    /// Live bytes of each region that has some, most first.
    fn regions_held(&self) -> Vec<(Region, Bytes)> {
        let held = |region| (region, Bytes(self.stats.region(region).active.current));
        let mut held: Vec<_> = Region::ALL.map(held).into_iter().filter(|(_, b)| b.0 > 0).collect();
        held.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        held
    }

    /// Who holds most live bytes, largest first: equal (unit, layer, op, region) count together.
    pub(crate) fn owners(&self, most: usize) -> Vec<Owner> {
        let mut owners = HashMap::new();
        for live in self.blocks.iter().flatten() {
            if live.owner.is_some_and(|owner| self.units.get(owner.unit).is_none()) {
                continue; // went with its unit
            }
            let Block { unit, layer, op, region, bytes, .. } = live.block;
            let owner = owners.entry((unit, layer, op, region)).or_insert(Owner {
                rank: self.rank,
                unit,
                layer,
                op,
                region,
                bytes: Bytes(0),
                blocks: 0,
            });
            owner.bytes.0 += bytes;
            owner.blocks += 1;
        }
        let mut owners: Vec<Owner> = owners.into_values().collect();
        // Ties are broken by name, so that a report does not depend on chance.
        let rank = |owner: &Owner| {
            (std::cmp::Reverse(owner.bytes), owner.unit, owner.layer, owner.op, owner.region)
        };
        owners.sort_by(|a, b| rank(a).cmp(&rank(b)));
        owners.truncate(most);
        owners
    }
}
