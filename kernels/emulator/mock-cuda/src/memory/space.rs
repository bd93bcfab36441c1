//! The address space that devices and host share: which addresses are mapped, to what, for whom.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, LazyLock, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use slimpipe_emulator::Memory;

use super::{
    pages::{Pages, Physical},
    pool::Pool,
};
use crate::settings::MOST_DEVICES;

/// How an address came to be mapped, and what keeps the memory behind it.
#[derive(Clone)]
pub enum Origin {
    /// `cuMemAlloc` and its like, from a pool if it was stream-ordered.
    Allocation(Arc<Pages>, Option<Arc<Pool>>),
    /// `cuMemMap` into a reserved range.
    Virtual(Arc<Physical>),
    /// Pinned host memory that the driver allocated.
    Pinned(Arc<Pages>),
    /// The program's own memory, registered. It is kept by the program.
    Registered,
}

/// Which devices may access a mapping, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access(u32);

impl Access {
    /// Every device, as for pinned host memory.
    pub const ALL: Access = Access((1 << MOST_DEVICES) - 1);

    /// One device.
    pub fn of(device: usize) -> Access {
        Access(1 << device)
    }

    /// With or without `device`.
    pub fn with(self, device: usize, allowed: bool) -> Access {
        if allowed { Access(self.0 | 1 << device) } else { Access(self.0 & !(1 << device)) }
    }

    /// The devices.
    fn devices(self) -> impl Iterator<Item = usize> {
        (0..MOST_DEVICES).filter(move |device| self.allows(*device))
    }

    /// Whether `device` is among them.
    pub fn allows(self, device: usize) -> bool {
        self.0 & (1 << device) != 0
    }
}

/// A piece of the address space with memory behind it.
#[derive(Clone)]
pub struct Mapping {
    /// Length.
    pub bytes: usize,
    /// Where its first byte lies in this process.
    pub host: usize,
    /// How it came about.
    pub origin: Origin,
    /// Who may access it.
    pub access: Access,
}

impl Mapping {
    /// The device whose memory it is; none for host memory.
    pub fn device(&self) -> Option<usize> {
        match &self.origin {
            Origin::Allocation(pages, _) => pages.device(),
            Origin::Virtual(physical) => Some(physical.device()),
            Origin::Pinned(_) | Origin::Registered => None,
        }
    }
}

/// A part of an access that lies in one mapping: where in this process, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Where it lies in this process.
    pub host: usize,
    /// Length.
    pub bytes: usize,
}

/// What the kernels of each device see of the table.
static DEVICES: [LazyLock<Memory>; MOST_DEVICES] =
    [const { LazyLock::new(Memory::new) }; MOST_DEVICES];

/// The memory that kernels of a device see.
pub fn of_device(device: usize) -> &'static Memory {
    &DEVICES[device]
}

/// Lets the kernels of a device see a mapping, or not any more.
fn show(device: usize, address: u64, mapping: &Mapping, visible: bool) {
    let memory = of_device(device);
    let done = if visible {
        // SAFETY: what is mapped stays until `unmap` has waited for all that hold memory, as every
        // kernel does. Both addresses begin a page, an allocation or what the program registered.
        unsafe { memory.map(address, mapping.host as *mut u8, mapping.bytes) }
    } else {
        memory.unmap(address)
    };
    if let Err(wrong) = done {
        eprintln!("mock CUDA driver: device {device} and its address space differ: {wrong}");
    }
}

/// While somebody holds it for reading, nothing that is mapped goes away: kernels and copies work on
/// addresses of this process.
static IN_USE: RwLock<()> = RwLock::new(());

/// Keeps all that is mapped as long as the answer lives.
pub fn hold() -> RwLockReadGuard<'static, ()> {
    IN_USE.read().unwrap_or_else(|e| e.into_inner())
}

/// Waits until nobody works on memory, and keeps others from beginning.
fn alone() -> RwLockWriteGuard<'static, ()> {
    IN_USE.write().unwrap_or_else(|e| e.into_inner())
}

type Table = BTreeMap<u64, Mapping>;

static TABLE: RwLock<Table> = RwLock::new(BTreeMap::new());

fn table() -> RwLockReadGuard<'static, Table> {
    TABLE.read().unwrap_or_else(|e| e.into_inner())
}

fn table_mut() -> RwLockWriteGuard<'static, Table> {
    TABLE.write().unwrap_or_else(|e| e.into_inner())
}

/// Whether something is mapped in `address..address + bytes`.
pub fn overlaps(address: u64, bytes: usize) -> bool {
    let end = address.saturating_add(bytes as u64);
    let table = table();
    let below = table.range(..end).next_back();
    below.is_some_and(|(base, mapping)| base + mapping.bytes as u64 > address)
}

/// Maps addresses that are not mapped.
pub fn map(address: u64, mapping: Mapping) {
    let mut table = table_mut();
    mapping.access.devices().for_each(|device| show(device, address, &mapping, true));
    table.insert(address, mapping);
}

/// Takes away the mapping that begins at `address`, if `fits` it, once nobody uses memory. `end` gets
/// it while that is so.
pub fn unmap(address: u64, fits: impl FnOnce(&Mapping) -> bool, end: impl FnOnce(Mapping)) -> bool {
    let _alone = alone();
    let mut table = table_mut();
    if !table.get(&address).is_some_and(fits) {
        return false;
    }
    if let Some(mapping) = table.remove(&address) {
        mapping.access.devices().for_each(|device| show(device, address, &mapping, false));
        end(mapping);
    }
    true
}

/// Changes whether a device may access the mappings that begin at `bases`.
pub fn set_access(bases: &[u64], device: usize, allowed: bool) {
    let _alone = (!allowed).then(alone);
    let mut table = table_mut();
    for base in bases {
        if let Some(mapping) = table.get_mut(base)
            && mapping.access.allows(device) != allowed
        {
            mapping.access = mapping.access.with(device, allowed);
            show(device, *base, mapping, allowed);
        }
    }
}

/// Beginnings of the mappings that fill `address..address + bytes` without a gap and without
/// sticking out; none if they do not.
pub fn tiling(address: u64, bytes: usize) -> Option<Vec<u64>> {
    let end = address.checked_add(bytes as u64)?;
    let mut bases = Vec::new();
    let mut at = address;
    for (base, mapping) in table().range(address..end) {
        if *base != at {
            return None;
        }
        bases.push(*base);
        at += mapping.bytes as u64;
    }
    (at == end).then_some(bases)
}

/// The mapping that holds `address`, with its beginning.
pub fn find(address: u64) -> Option<(u64, Mapping)> {
    let table = table();
    let (base, mapping) = table.range(..=address).next_back()?;
    (address - base < mapping.bytes as u64).then(|| (*base, mapping.clone()))
}

/// Beginnings of all mappings that `wanted` picks.
pub fn all(wanted: impl Fn(&Mapping) -> bool) -> Vec<u64> {
    table().iter().filter(|(_, mapping)| wanted(mapping)).map(|(base, _)| *base).collect()
}

/// The memory behind `address..address + bytes`, which may lie in several mappings.
///
/// # Errors
/// The first address without memory that anybody may access.
pub fn segments(address: u64, bytes: usize) -> Result<Vec<Segment>, u64> {
    let table = table();
    let end = address.checked_add(bytes as u64).ok_or(address)?;
    let mut segments = Vec::new();
    let mut at = address;
    let first = table.range(..=at).next_back().map_or(at, |(base, _)| *base);
    let mut mappings = table.range((Bound::Included(first), Bound::Excluded(end)));
    while at < end {
        let (base, mapping) = mappings.next().ok_or(at)?;
        let offset = at.checked_sub(*base).ok_or(at)?;
        let left = (mapping.bytes as u64).checked_sub(offset).filter(|n| *n > 0).ok_or(at)?;
        if mapping.access == Access::default() {
            return Err(at);
        }
        let bytes = left.min(end - at) as usize;
        let host = mapping.host + offset as usize;
        segments.push(Segment { host, bytes });
        at += bytes as u64;
    }
    Ok(segments)
}
