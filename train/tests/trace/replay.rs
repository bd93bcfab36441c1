//! A replayed log beside the allocator itself.

use proptest::collection::vec;
use proptest::prelude::*;
use slimpipe_allocator::Region;
use slimpipe_train::trace::{Diff, Playback, Summary, What, diff};
use tempfile::TempDir;

use crate::program::{self, digest};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_replay_has_the_live_blocks_of_the_allocator_after_every_event(
        choices in vec(any::<u8>(), 0..100),
    ) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("rank.events");
        let (watched, stats) = program::run(&choices, 3, &path);
        let mut log = Playback::open(&path).unwrap();
        let mut digests = Vec::new();
        let (mut active, mut own_peak) = (0u64, 0);
        while let Some(event) = log.next().unwrap() {
            match event.what {
                What::Alloc(block) => active += block.bytes,
                What::Free { bytes, .. } => {
                    let held = event.freed.unwrap();
                    prop_assert_eq!(held.block.bytes, bytes);
                    prop_assert!(held.since <= event.time);
                    active -= bytes;
                }
                _ => {
                    prop_assert!(event.freed.is_none());
                    continue;
                }
            }
            prop_assert_eq!(log.memory().active().current, active);
            let messages = log.memory().region(Region::Comm).live().map(|held| held.block.bytes);
            own_peak = own_peak.max(active - messages.sum::<u64>());
            let live = log.memory().live().map(|h| (h.block.region, h.block.offset, h.block.bytes));
            digests.push(digest(live));
        }
        prop_assert_eq!(&digests, &watched.digests);
        prop_assert_eq!(log.memory().live().count(), watched.live.len());
        let summary = Summary::of(&path).unwrap();
        prop_assert_eq!(summary.rank, 3);
        prop_assert_eq!(summary.active_peak, stats.total.active.peak);
        prop_assert_eq!(summary.own_peak, own_peak);
        prop_assert_eq!(summary.reserved_peak, stats.total.reserved.peak);
        prop_assert_eq!(summary.in_flight_peak, stats.units_in_flight.peak);
        prop_assert_eq!(summary.overflow_hits, stats.overflow_hits);
        prop_assert_eq!(summary.allocations, stats.allocations);
        prop_assert_eq!(summary.cut_at, None);
        for region in Region::ALL {
            let peak = summary.region(region).map_or(0, |summary| summary.active_peak);
            prop_assert_eq!(peak, stats.region(region).active.peak);
        }
        if let Some(peak) = &summary.peak {
            let sum: u64 = peak.owners.iter().map(|owner| owner.bytes).sum();
            prop_assert_eq!((sum, peak.active), (stats.total.active.peak, sum));
            let idle = peak.fragmentation.idle;
            prop_assert_eq!(idle, peak.reserved - peak.active);
        }
        let same = std::slice::from_ref(&summary);
        prop_assert_eq!(diff(same, same), Diff::default());
    }
}
