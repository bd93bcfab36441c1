//! The register file of one warp.

use std::sync::Arc;

use super::{ALL, LANES, Slot};

/// Constants of a kernel, one value in all lanes.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    pub words: Vec<[u32; LANES]>,
    pub doubles: Vec<[u64; LANES]>,
    pub predicates: Vec<u32>,
}

/// Registers of a warp; constants are shared with other warps.
#[derive(Debug)]
pub(crate) struct Registers {
    words: Vec<[u32; LANES]>,
    doubles: Vec<[u64; LANES]>,
    predicates: Vec<u32>,
    constants: Arc<Constants>,
}

/// What a register holds before it is written: a NaN as a float, far out as an address.
const POISON: u64 = 0xFFFD_DEAD_FFF2_DEAD;

impl Registers {
    pub(crate) fn new(counts: [usize; 3], constants: Arc<Constants>) -> Self {
        Self {
            words: vec![[POISON as u32; LANES]; counts[0]],
            doubles: vec![[POISON; LANES]; counts[1]],
            predicates: vec![0xA5A5_5A5A; counts[2]],
            constants,
        }
    }

    /// Registers of up to 32 bits.
    pub(crate) fn word_count(&self) -> usize {
        self.words.len()
    }

    /// Forgets all values, for the next block.
    pub(crate) fn poison(&mut self, constants: &Arc<Constants>) {
        self.words.fill([POISON as u32; LANES]);
        self.doubles.fill([POISON; LANES]);
        self.predicates.fill(0xA5A5_5A5A);
        self.constants = Arc::clone(constants);
    }

    #[inline(always)]
    pub(crate) fn words(&self, slot: Slot) -> &[u32; LANES] {
        match slot.is_constant() {
            true => &self.constants.words[slot.index()],
            false => &self.words[slot.index()],
        }
    }

    #[inline(always)]
    pub(crate) fn doubles(&self, slot: Slot) -> &[u64; LANES] {
        match slot.is_constant() {
            true => &self.constants.doubles[slot.index()],
            false => &self.doubles[slot.index()],
        }
    }

    #[inline(always)]
    pub(crate) fn predicate(&self, slot: Slot) -> u32 {
        match slot.is_constant() {
            true => self.constants.predicates[slot.index()],
            false => self.predicates[slot.index()],
        }
    }

    #[inline(always)]
    pub(crate) fn put_words(&mut self, slot: Slot, mask: u32, values: &[u32; LANES]) {
        if slot.is_some() {
            blend(&mut self.words[slot.index()], mask, values);
        }
    }

    #[inline(always)]
    pub(crate) fn put_doubles(&mut self, slot: Slot, mask: u32, values: &[u64; LANES]) {
        if slot.is_some() {
            blend(&mut self.doubles[slot.index()], mask, values);
        }
    }

    #[inline(always)]
    pub(crate) fn put_predicate(&mut self, slot: Slot, mask: u32, bits: u32) {
        if slot.is_some() {
            let old = &mut self.predicates[slot.index()];
            *old = *old & !mask | bits & mask;
        }
    }
}

#[inline(always)]
fn blend<T: Copy>(old: &mut [T; LANES], mask: u32, values: &[T; LANES]) {
    if mask == ALL {
        *old = *values;
        return;
    }
    for (lane, (old, new)) in old.iter_mut().zip(values).enumerate() {
        *old = if mask >> lane & 1 == 1 { *new } else { *old };
    }
}
