//! What changed between two runs, by owner.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use slimpipe_allocator::Region;

use super::Summary;

/// What two runs have in common, and what changed in that.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Diff {
    /// Ranks that only the first has. They are not compared.
    pub only_before: Vec<u32>,
    /// And those that only the second has.
    pub only_after: Vec<u32>,
    /// What changed in ranks that both have: totals first, then the largest changes.
    pub changes: Vec<Change>,
}

/// Something that holds another number of bytes at most than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The rank.
    pub rank: u32,
    /// What it is the peak of.
    #[serde(flatten)]
    pub owner: Owner,
    /// Its highest bytes in the first run.
    pub before: u64,
    /// And in the second.
    pub after: u64,
    /// The difference, in percent of all that the rank held at most in the first run.
    pub percent: f64,
    /// Whether it depends on which rank waits for which, as messages do, and so differs between two
    /// runs of one program.
    pub is_timing: bool,
}

/// What peaks are compared of: all that a rank holds apart from messages, a region, or an operation in a
/// layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Owner {
    /// The region's name; `None` for all together.
    pub region: Option<&'static str>,
    /// The layer.
    pub layer: Option<u32>,
    /// The operation; `None` for all of a region.
    pub op: Option<String>,
}

impl Owner {
    const ALL: Self = Self { region: None, layer: None, op: None };

    fn is_timing(&self) -> bool {
        self.region == Some(Region::Comm.name())
    }
}

/// Highest bytes by rank and owner; logs of one rank, of a run that was resumed, count together.
fn peaks(summaries: &[Summary]) -> BTreeMap<u32, BTreeMap<Owner, u64>> {
    let mut ranks: BTreeMap<u32, BTreeMap<Owner, u64>> = BTreeMap::new();
    for summary in summaries {
        let peaks = ranks.entry(summary.rank).or_default();
        let mut note = |owner: Owner, bytes: u64| {
            let peak = peaks.entry(owner).or_default();
            *peak = (*peak).max(bytes);
        };
        note(Owner::ALL, summary.own_peak);
        for region in &summary.regions {
            note(Owner { region: Some(region.region), ..Owner::ALL }, region.active_peak);
        }
        for holder in &summary.holders {
            let (region, op) = (Some(holder.region), Some(holder.op.clone()));
            note(Owner { region, layer: holder.layer, op }, holder.peak);
        }
    }
    ranks
}

/// What changed from `before` to `after`: every rank's total, each region's, each owner's. Owners are
/// compared by the most they ever held, whenever that was.
pub fn diff(before: &[Summary], after: &[Summary]) -> Diff {
    let (before, after) = (peaks(before), peaks(after));
    let mut diff = Diff::default();
    diff.only_after.extend(after.keys().filter(|rank| !before.contains_key(rank)));
    for (&rank, old) in &before {
        let Some(new) = after.get(&rank) else {
            diff.only_before.push(rank);
            continue;
        };
        let whole = old.get(&Owner::ALL).copied().unwrap_or(0).max(1);
        for owner in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let [before, after] = [old, new].map(|peaks| peaks.get(owner).copied().unwrap_or(0));
            if before != after {
                let percent = 100.0 * (after as f64 - before as f64) / whole as f64;
                let (owner, is_timing) = (owner.clone(), owner.is_timing());
                diff.changes.push(Change { rank, owner, before, after, percent, is_timing });
            }
        }
    }
    diff.changes.sort_by_cached_key(|change| {
        let size = Reverse(change.before.abs_diff(change.after));
        (change.owner != Owner::ALL, size, change.rank, change.owner.clone())
    });
    diff
}
