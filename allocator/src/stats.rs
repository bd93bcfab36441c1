//! Figures: what is asked for, live and committed, now and at its highest.

use std::fmt;

use crate::{Bytes, Region, UnitId};

/// A figure and the highest it has been since the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// Now.
    pub current: u64,
    /// The highest since the last reset.
    pub peak: u64,
}

impl Gauge {
    pub(crate) fn add(&mut self, amount: u64) {
        self.current += amount;
        self.peak = self.peak.max(self.current);
    }

    pub(crate) fn sub(&mut self, amount: u64) {
        debug_assert!(amount <= self.current, "a gauge fell below zero");
        self.current -= amount;
    }

    pub(crate) fn set(&mut self, value: u64) {
        self.current = value;
        self.peak = self.peak.max(value);
    }

    pub(crate) fn reset_peak(&mut self) {
        self.peak = self.current;
    }
}

/// The figures of a region, or of all of them, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// What callers asked for.
    pub requested: Gauge,
    /// Live blocks: requested, rounded up to the alignment.
    pub active: Gauge,
    /// Committed pages.
    pub reserved: Gauge,
}

impl Usage {
    pub(crate) fn count(&mut self, active: u64, requested: u64) {
        self.active.add(active);
        self.requested.add(requested);
    }

    pub(crate) fn forget(&mut self, active: u64, requested: u64) {
        self.active.sub(active);
        self.requested.sub(requested);
    }

    pub(crate) fn reset_peaks(&mut self) {
        self.requested.reset_peak();
        self.active.reset_peak();
        self.reserved.reset_peak();
    }
}

/// The figures of a unit in flight: its live bytes in each region it holds a part of, since it was
/// opened. `reserved` is that part: the cells that the plan gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitUsage {
    /// The unit.
    pub unit: UnitId,
    /// Its slot: what forward saved, less what backward has used up.
    pub slot: Usage,
    /// Its keys and values.
    pub kv: Usage,
}

/// A snapshot of a rank's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Each region's figures, by [`Region::index`].
    pub regions: [Usage; Region::COUNT],
    /// All regions together; the peaks are peaks of the sums.
    pub total: Usage,
    /// Live bytes that forwards saved for backwards: slots and K/V together.
    pub activations: Gauge,
    /// Bytes of activations in the second memory.
    pub offloaded: Gauge,
    /// Units between the start of their forward and the end of their backward.
    pub units_in_flight: Gauge,
    /// Allocations inside units that no plan covered, since the last reset.
    pub overflow_hits: u64,
    /// Blocks placed since the start: allocations, and what came back from the second memory.
    pub allocations: u64,
    /// The largest block that could be had without committing more, in bytes.
    pub largest_free: u64,
}

impl MemoryStats {
    /// The figures of one region.
    pub fn region(&self, region: Region) -> &Usage {
        &self.regions[region.index()]
    }

    pub(crate) fn count(&mut self, region: Region, active: u64, requested: u64) {
        self.regions[region.index()].count(active, requested);
        self.total.count(active, requested);
    }

    pub(crate) fn forget(&mut self, region: Region, active: u64, requested: u64) {
        self.regions[region.index()].forget(active, requested);
        self.total.forget(active, requested);
    }

    pub(crate) fn reset_peaks(&mut self) {
        self.regions.iter_mut().chain([&mut self.total]).for_each(Usage::reset_peaks);
        self.activations.reset_peak();
        self.offloaded.reset_peak();
        self.units_in_flight.reset_peak();
        self.overflow_hits = 0;
    }
}

/// Who holds live bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The rank.
    pub rank: u32,
    /// The unit, if one owns it.
    pub unit: Option<UnitId>,
    /// The layer, if it was made in one.
    pub layer: Option<u32>,
    /// The operation that made it.
    pub op: &'static str,
    /// The region it lies in.
    pub region: Region,
    /// Live bytes.
    pub bytes: Bytes,
    /// Live blocks.
    pub blocks: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10}  rank {}", self.bytes.to_string(), self.rank)?;
        if let Some(unit) = self.unit {
            write!(f, ", {unit}")?;
        }
        if let Some(layer) = self.layer {
            write!(f, ", layer {layer}")?;
        }
        let plural = if self.blocks == 1 { "" } else { "s" };
        write!(f, ", {} ({}, {} block{plural})", self.op, self.region, self.blocks)
    }
}
