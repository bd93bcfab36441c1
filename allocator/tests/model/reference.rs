//! The model: a map of what is live, from which every figure is computed anew.

use std::collections::BTreeMap;

use slimpipe_allocator::{Gauge, Memory, MemoryStats, Region, UnitId};

/// Stands for a unit for as long as it is open: names are used again, these numbers are not.
pub type Serial = usize;

#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub region: Region,
    pub bytes: u64,
    pub requested: u64,
    /// The open unit whose memory it is.
    pub unit: Option<Serial>,
}

/// What should be true of a memory.
#[derive(Default)]
pub struct Reference {
    /// By first address.
    blocks: BTreeMap<u64, Block>,
    units: BTreeMap<Serial, UnitId>,
    /// Active and requested bytes by region, and of all.
    gauges: [[Gauge; 2]; Region::COUNT + 1],
    activations: Gauge,
    in_flight: Gauge,
    pub overflow_hits: u64,
    pub allocations: u64,
}

impl Reference {
    /// A block was placed: it must not touch any other.
    pub fn place(&mut self, address: u64, block: Block) {
        let before = self.blocks.range(..=address).next_back();
        let after = self.blocks.range(address..).next();
        assert!(before.is_none_or(|(&start, other)| start + other.bytes <= address), "{before:?}");
        assert!(after.is_none_or(|(&start, _)| address + block.bytes <= start), "{after:?}");
        self.blocks.insert(address, block);
        self.recount();
    }

    pub fn free(&mut self, address: u64) {
        self.blocks.remove(&address);
        self.recount();
    }

    pub fn open(&mut self, serial: Serial, id: UnitId) {
        self.units.insert(serial, id);
        self.recount();
    }

    /// A unit ends, and takes its blocks with it.
    pub fn close(&mut self, serial: Serial) {
        self.units.remove(&serial);
        self.blocks.retain(|_, block| block.unit != Some(serial));
        self.recount();
    }

    pub fn is_open(&self, serial: Serial) -> bool {
        self.units.contains_key(&serial)
    }

    pub fn open_units(&self) -> u64 {
        self.units.len() as u64
    }

    /// Whether anything is live in a region.
    pub fn is_used(&self, region: Region) -> bool {
        self.gauges[region.index()][0].current > 0
    }

    /// Whether anything lives in the slot of a unit.
    pub fn has_slot_blocks(&self, serial: Serial) -> bool {
        let mut blocks = self.blocks.values();
        blocks.any(|block| block.unit == Some(serial) && block.region == Region::Slot)
    }

    pub fn reset_peaks(&mut self) {
        let gauges = self.gauges.iter_mut().flatten();
        gauges.chain([&mut self.activations, &mut self.in_flight]).for_each(|gauge| {
            gauge.peak = gauge.current;
        });
        self.overflow_hits = 0;
    }

    fn sums(&self, which: impl Fn(&Block) -> bool) -> [u64; 2] {
        let blocks = || self.blocks.values().filter(|block| which(block));
        [blocks().map(|block| block.bytes).sum(), blocks().map(|block| block.requested).sum()]
    }

    fn recount(&mut self) {
        let set = |gauge: &mut Gauge, value| {
            *gauge = Gauge { current: value, peak: gauge.peak.max(value) };
        };
        for index in 0..=Region::COUNT {
            let sums = self.sums(|block| index == Region::COUNT || block.region.index() == index);
            let [active, requested] = &mut self.gauges[index];
            set(active, sums[0]);
            set(requested, sums[1]);
        }
        let activations = self.sums(|block| block.unit.is_some())[0];
        set(&mut self.activations, activations);
        set(&mut self.in_flight, self.units.len() as u64);
    }

    /// Compares the model with the memory. `bases` are the first addresses of the regions that are
    /// known.
    pub fn check(&self, memory: &Memory, bases: &BTreeMap<Region, u64>) {
        let stats = memory.stats();
        let usages = stats.regions.iter().chain([&stats.total]);
        for (usage, expected) in usages.zip(&self.gauges) {
            assert_eq!([usage.active, usage.requested], *expected);
        }
        assert_eq!(stats.activations, self.activations);
        assert_eq!(stats.units_in_flight, self.in_flight);
        assert_eq!(stats.overflow_hits, self.overflow_hits);
        assert_eq!(stats.allocations, self.allocations);
        self.check_units(memory);
        self.check_reserved(&stats, bases);
    }

    fn check_units(&self, memory: &Memory) {
        let mut found = memory.units();
        found.sort_by_key(|usage| usage.unit);
        let mut open: Vec<_> = self.units.iter().map(|(&serial, &id)| (id, serial)).collect();
        open.sort_unstable();
        assert_eq!(found.len(), open.len());
        for (found, (id, serial)) in found.iter().zip(open) {
            assert_eq!(found.unit, id);
            for (usage, region) in [(found.slot, Region::Slot), (found.kv, Region::Kv)] {
                let of = |block: &Block| block.unit == Some(serial) && block.region == region;
                assert_eq!([usage.active.current, usage.requested.current], self.sums(of));
                assert!(usage.active.current <= usage.reserved.current);
                assert!(usage.active.peak <= usage.reserved.peak);
            }
        }
    }

    /// Committed bytes cover all that is live.
    fn check_reserved(&self, stats: &MemoryStats, bases: &BTreeMap<Region, u64>) {
        let reserved = |region: Region| stats.region(region).reserved;
        for (address, block) in &self.blocks {
            if let Some(base) = bases.get(&block.region) {
                assert!(address + block.bytes <= base + reserved(block.region).current);
            }
        }
        let sum: u64 = Region::ALL.map(|region| reserved(region).current).iter().sum();
        assert_eq!(stats.total.reserved.current, sum);
        assert!(stats.total.reserved.peak >= stats.total.active.peak.max(sum));
    }
}
