//! What changed between two runs, by owner.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use slimpipe_allocator::Region;

use super::Summary;

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
    /// The difference, in percent of all that the rank held at most in the first run (in the second, if
    /// the first has no such rank).
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

/// What changed from `before` to `after`: every rank's peak, each region's, each owner's, largest
/// change first. Owners are compared by the most they ever held, whenever that was.
pub fn diff(before: &[Summary], after: &[Summary]) -> Vec<Change> {
    let (before, after) = (peaks(before), peaks(after));
    let (none, mut changes) = (BTreeMap::new(), Vec::new());
    for rank in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let [old, new] = [&before, &after].map(|ranks| ranks.get(rank).unwrap_or(&none));
        let whole = old.get(&Owner::ALL).or(new.get(&Owner::ALL)).copied().unwrap_or(0).max(1);
        for owner in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let [before, after] = [old, new].map(|peaks| peaks.get(owner).copied().unwrap_or(0));
            if before != after {
                let percent = 100.0 * (after as f64 - before as f64) / whole as f64;
                let (owner, is_timing) = (owner.clone(), owner.is_timing());
                changes.push(Change { rank: *rank, owner, before, after, percent, is_timing });
            }
        }
    }
    changes.sort_by_cached_key(|change| {
        (Reverse(change.before.abs_diff(change.after)), change.rank, change.owner.clone())
    });
    changes
}
