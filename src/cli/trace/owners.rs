//! Who held memory at a peak: region, layer and operation, units, layers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use slimpipe::allocator::UnitId;
use slimpipe::train::trace::summary::{Owner, Peak, kind};

use super::summary::{bytes, percent, plural};

/// How many ranges of units are named of a holder.
const RANGES: usize = 3;

/// What an operation in a layer held in a region, all units together.
#[derive(Default)]
struct Holder {
    bytes: u64,
    blocks: u64,
    units: BTreeSet<UnitId>,
}

/// Prints the `top` holders with their units, those that held most first.
pub fn print_holders(peak: &Peak, top: usize) {
    let mut holders: BTreeMap<_, Holder> = BTreeMap::new();
    for owner in &peak.owners {
        // Parameters and what is kept for them have names; all of a kind count together.
        let holder = holders.entry((owner.region, owner.layer, kind(&owner.op))).or_default();
        holder.bytes += owner.bytes;
        holder.blocks += owner.blocks;
        holder.units.extend(owner.unit);
    }
    let mut holders: Vec<_> = holders.into_iter().collect();
    holders.sort_by_key(|(_, holder)| Reverse(holder.bytes));
    println!("\nwho held it, of {}", plural(holders.len() as u64, "owner"));
    for ((region, layer, op), holder) in holders.iter().take(top) {
        let layer = layer.map_or("-".to_owned(), |layer| format!("layer {layer}"));
        println!(
            "{:>10}  {:>5.1} %  {region:<12}  {layer:<9} {op:<14} {:>10}  {}",
            bytes(holder.bytes),
            percent(holder.bytes, peak.active),
            plural(holder.blocks, "block"),
            told(&holder.units)
        );
    }
}

/// Units in a few words: `10 units: mb0/slice0-1/chunk0, mb1/slice0-7/chunk0`.
fn told(units: &BTreeSet<UnitId>) -> String {
    if units.is_empty() {
        return "outside units".to_owned();
    }
    let mut ranges: Vec<(UnitId, u32)> = Vec::new();
    let mut units: Vec<_> = units.iter().copied().collect();
    let count = plural(units.len() as u64, "unit");
    units.sort_by_key(|unit| (unit.microbatch, unit.chunk, unit.slice));
    for unit in units {
        match ranges.last_mut() {
            Some((first, last)) if UnitId { slice: *last + 1, ..*first } == unit => *last += 1,
            _ => ranges.push((unit, unit.slice)),
        }
    }
    let named = ranges.iter().take(RANGES).map(|&(unit, last)| {
        let UnitId { microbatch, slice, chunk } = unit;
        match slice == last {
            true => unit.to_string(),
            false => format!("mb{microbatch}/slice{slice}-{last}/chunk{chunk}"),
        }
    });
    let more = if ranges.len() > RANGES { ", ..." } else { "" };
    format!("{count}: {}{more}", named.collect::<Vec<_>>().join(", "))
}

/// Prints the `top` units: microbatch, slice and chunk.
pub fn print_units(peak: &Peak, top: usize) {
    let name = |o: &Owner| o.unit.map_or("outside units".to_owned(), |unit| unit.to_string());
    print_sums("in which units", peak, top, name);
}

/// Prints the `top` layers.
pub fn print_layers(peak: &Peak, top: usize) {
    let name =
        |o: &Owner| o.layer.map_or("outside layers".to_owned(), |layer| format!("layer {layer}"));
    print_sums("in which layers", peak, top, name);
}

fn print_sums(title: &str, peak: &Peak, top: usize, name: impl Fn(&Owner) -> String) {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for owner in &peak.owners {
        *sums.entry(name(owner)).or_default() += owner.bytes;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| Reverse(*sum));
    println!("\n{title}, of {}", sums.len());
    for (name, sum) in sums.iter().take(top) {
        println!("{:>10}  {:>5.1} %  {name}", bytes(*sum), percent(*sum, peak.active));
    }
}
