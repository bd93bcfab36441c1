//! The second reading: who held memory when most was live.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;

use serde::Serialize;
use slimpipe_allocator::{Phase, Region, UnitId};

use super::{seconds, unit_name};
use crate::trace::{Held, Playback, Replay, TraceError};

/// The moment at which most was live.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// When.
    pub seconds: f64,
    /// The training step; `None` before the first.
    pub step: Option<u64>,
    /// The unit whose phase ran.
    #[serde(serialize_with = "unit_name")]
    pub unit: Option<UnitId>,
    /// That phase.
    pub phase: Option<&'static str>,
    /// Live bytes.
    pub active: u64,
    /// Committed bytes.
    pub reserved: u64,
    /// Units in flight.
    pub in_flight: u64,
    /// Live bytes of each region, by its number.
    #[serde(skip)]
    pub regions: [u64; Region::COUNT],
    /// What is committed or taken without being used.
    pub fragmentation: Fragmentation,
    /// Who held what, largest first.
    pub owners: Vec<Owner>,
    /// The Rust code that made what was live, by what it held.
    pub sites: Vec<Site>,
}

/// Bytes that are there and hold nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Fragmentation {
    /// Bytes of live blocks beyond what was asked for.
    pub padding: u64,
    /// Committed bytes that no block takes.
    pub idle: u64,
    /// The longest stretch of those.
    pub longest_idle: u64,
}

/// Live blocks of one unit, layer, operation and region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The unit that made them; `None` for parameters and such.
    #[serde(serialize_with = "unit_name")]
    pub unit: Option<UnitId>,
    /// The layer, if in one.
    pub layer: Option<u32>,
    /// The operation.
    pub op: String,
    /// The region's name.
    pub region: &'static str,
    /// Bytes.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
}

/// Live blocks of one call site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// The Rust file.
    pub file: String,
    /// The line.
    pub line: u32,
    /// The operation it named, of those for a parameter its [`kind`].
    pub op: String,
    /// Bytes.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
}

/// An operation without the parameter it is for: `gradient` of `gradient head.weight`.
pub fn kind(op: &str) -> &str {
    op.split_once(' ').map_or(op, |(kind, _)| kind)
}

impl Peak {
    /// Reads the log at `path` up to its event number `event`, counted from 1.
    pub(super) fn at(path: &Path, event: u64) -> Result<Self, TraceError> {
        let mut log = Playback::open(path)?;
        let mut time = 0;
        for _ in 0..event {
            // The end cannot come earlier than when the log was read before, unless it was cut since.
            let Some(event) = log.next()? else { break };
            time = event.time;
        }
        let memory = log.memory();
        let phase = memory.phase();
        Ok(Self {
            seconds: seconds(time),
            step: memory.step(),
            unit: phase.map(|(unit, _)| unit),
            phase: phase.map(|(_, phase)| phase_name(phase)),
            active: memory.active().current,
            reserved: memory.reserved().current,
            in_flight: memory.units().current,
            regions: Region::ALL.map(|region| memory.region(region).active().current),
            fragmentation: Fragmentation::of(memory),
            owners: owners(&log),
            sites: sites(&log),
        })
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Forward => "forward",
        Phase::Backward => "backward",
        Phase::Weight => "weight part of the backward",
    }
}

impl Fragmentation {
    fn of(memory: &Replay) -> Self {
        let padding = memory.live().map(|held| held.block.bytes - held.block.requested).sum();
        Region::ALL.iter().fold(Self { padding, ..Self::default() }, |sum, &region| {
            let (longest, idle) = memory.region(region).free();
            let longest_idle = sum.longest_idle.max(longest);
            Self { idle: sum.idle + idle, longest_idle, ..sum }
        })
    }
}

/// Bytes and number of live blocks by what `of` says of them.
fn sums<'a, K: Eq + Hash>(
    live: impl Iterator<Item = &'a Held>,
    of: impl Fn(&Held) -> K,
) -> HashMap<K, (u64, u64)> {
    let mut sums = HashMap::new();
    for held in live {
        let (bytes, blocks) = sums.entry(of(held)).or_insert((0, 0));
        *bytes += held.block.bytes;
        *blocks += 1;
    }
    sums
}

fn owners(log: &Playback) -> Vec<Owner> {
    let of = |held: &Held| {
        let block = &held.block;
        (block.unit, block.layer, log.name(block.name).op(), block.region)
    };
    let sums = sums(log.memory().live(), of).into_iter();
    let mut owners: Vec<_> = sums
        .map(|((unit, layer, op, region), (bytes, blocks))| {
            let (op, region) = (op.to_owned(), region.name());
            Owner { unit, layer, op, region, bytes, blocks }
        })
        .collect();
    owners.sort_by_cached_key(|o| (Reverse(o.bytes), o.unit, o.layer, o.op.clone(), o.region));
    owners
}

fn sites(log: &Playback) -> Vec<Site> {
    let site = |held: &Held| {
        let name = log.name(held.block.name);
        (name.location(), kind(name.op()))
    };
    let sums = sums(log.memory().live(), site).into_iter();
    let mut sites: Vec<_> = sums
        .map(|(((file, line), op), (bytes, blocks))| {
            let (file, op) = (file.to_owned(), op.to_owned());
            Site { file, line, op, bytes, blocks }
        })
        .collect();
    sites.sort_by_cached_key(|s| (Reverse(s.bytes), s.file.clone(), s.line, s.op.clone()));
    sites
}
