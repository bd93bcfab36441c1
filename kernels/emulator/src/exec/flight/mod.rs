//! Asynchronous copies: issued now, done later.

mod boxes;
mod claim;
mod groups;
mod issue;
mod land;
mod thread_copy;

use std::collections::VecDeque;

pub(super) use boxes::Global;
pub(super) use groups::Groups;
pub(super) use issue::{bulk, send};
pub(super) use land::{land, read_source};
pub(super) use thread_copy::copy_async;

use super::commons::Commons;
use super::policy::Policy;
use super::step::{Machine, Raised};
use crate::isa::{Reduction, Type};

/// Which thread issued what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Number of the block in its cluster.
    pub block: usize,
    pub warp: u32,
    pub lane: u32,
    pub pc: u32,
}

/// A place in the shared memory of a block of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub block: usize,
    pub offset: u32,
}

/// A copy that is under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub id: u64,
    pub origin: Origin,
    pub cargo: Cargo,
}

/// What moves from where to where.
#[derive(Debug)]
pub(super) enum Cargo {
    /// From global memory to the same offset in each of the blocks.
    Load { source: Global, offset: u32, blocks: Vec<usize>, barrier: u32 },
    /// From shared memory to global, combined with what is there or not.
    Store {
        target: Global,
        from: Spot,
        how: Option<(Reduction, Type)>,
        /// The bytes, once they have been read.
        read: Option<Vec<u8>>,
    },
    /// From one block's shared memory to another's.
    Remote { from: Spot, to: Spot, bytes: u32, how: Option<(Reduction, Type)>, barrier: Spot },
    /// A value to another block's shared memory.
    Value { value: Vec<u8>, to: Spot, how: Option<(Reduction, Type)>, barrier: Spot },
    /// A thread's own bytes from global memory; the first `read` of them, then zeros.
    Thread { source: u64, to: Spot, bytes: u8, read: u8 },
    /// An arrival when earlier copies of the thread have landed.
    Arrival { barrier: Spot, after: Vec<u64> },
}

impl Cargo {
    /// Whether the mbarrier at that place hears of the landing.
    fn reports_to(&self, spot: Spot) -> bool {
        match self {
            Self::Load { blocks, barrier, .. } => {
                *barrier == spot.offset && blocks.contains(&spot.block)
            }
            Self::Remote { barrier, .. }
            | Self::Value { barrier, .. }
            | Self::Arrival { barrier, .. } => *barrier == spot,
            Self::Store { .. } | Self::Thread { .. } => false,
        }
    }
}

/// Copies that are under way, in the order of their issue.
#[derive(Debug, Default)]
pub(super) struct Flights {
    list: VecDeque<Flight>,
    next: u64,
}

impl Flights {
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// A number for new work.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.list.iter().position(|f| f.id == id)
    }

    fn get(&mut self, id: u64) -> Option<&mut Flight> {
        self.list.iter_mut().find(|f| f.id == id)
    }

    /// Whether something lands by itself that others may wait for.
    fn waited_for(&self) -> impl Iterator<Item = &Flight> {
        self.list.iter().filter(|f| !matches!(f.cargo, Cargo::Store { .. }))
    }
}

/// Lets a new copy land or wait, as the policy says.
pub(super) fn depart(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    flight: Flight,
) -> Result<(), Raised> {
    let id = flight.id;
    commons.flights.list.push_back(flight);
    match machine.policy {
        Policy::Eager => land(machine, commons, id),
        Policy::Random { .. } | Policy::Latest { .. } => Ok(()),
    }
}

/// Now and then, in random order, something lands.
pub(super) fn drift(machine: &mut Machine<'_>, commons: &mut Commons) -> Result<(), Raised> {
    let count = commons.flights.list.len();
    let Some(random) = &mut commons.random else { return Ok(()) };
    if count == 0 || random.below(4) != 0 {
        return Ok(());
    }
    let id = commons.flights.list[random.below(count)].id;
    match commons.random.as_mut().is_some_and(|r| r.below(2) == 0) {
        // A store is done in two steps.
        true => read_source(machine, commons, id),
        false => land(machine, commons, id),
    }
}

/// Nothing else can go on: something lands that is reported to one of the mbarriers that threads
/// wait for, or else anything. Tells whether there was something.
pub(super) fn land_one(
    machine: &mut Machine<'_>,
    commons: &mut Commons,
    waits: &[Spot],
) -> Result<bool, Raised> {
    let needed = |f: &&Flight| waits.iter().any(|spot| f.cargo.reports_to(*spot));
    let mut ids: Vec<u64> = commons.flights.waited_for().filter(needed).map(|f| f.id).collect();
    if ids.is_empty() {
        ids = commons.flights.waited_for().map(|f| f.id).collect();
    }
    let Some(last) = ids.len().checked_sub(1) else { return Ok(false) };
    let chosen = commons.random.as_mut().map_or(0, |r| r.below(last + 1));
    land(machine, commons, ids[chosen])?;
    Ok(true)
}

/// The cluster has ended: what is under way to global memory lands.
pub(super) fn land_rest(machine: &mut Machine<'_>, commons: &mut Commons) -> Result<(), Raised> {
    while let Some(id) = commons.flights.list.front().map(|f| f.id) {
        land(machine, commons, id)?;
    }
    Ok(())
}
