//! Sharing addresses among temporaries whose lifetimes are known.

/// A temporary: its size, and when it comes and goes.
pub(super) struct Lifetime {
    pub bytes: u64,
    pub born: u64,
    pub died: u64,
}

/// Offsets such that blocks alive at the same time never overlap, and the end of the highest one.
/// Largest first, each at the lowest offset that is free during its whole life.
pub(super) fn pack(blocks: &[Lifetime]) -> (Vec<u64>, u64) {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(blocks[i].bytes), blocks[i].born));
    let mut offsets = vec![0; blocks.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut extent = 0;
    for &i in &order {
        let block = &blocks[i];
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter(|&&j| blocks[j].born < block.died && block.born < blocks[j].died)
            .map(|&j| (offsets[j], offsets[j] + blocks[j].bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + block.bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[i] = offset;
        extent = extent.max(offset + block.bytes);
        placed.push(i);
    }
    (offsets, extent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_blocks_never_overlap_and_little_is_wasted(
            lives in prop::collection::vec((1u64..40, 0u64..60, 1u64..25), 1..60),
        ) {
            let blocks: Vec<Lifetime> = lives
                .iter()
                .map(|&(size, born, life)| Lifetime { bytes: size * 64, born, died: born + life })
                .collect();
            let (offsets, extent) = pack(&blocks);
            for i in 0..blocks.len() {
                for j in 0..i {
                    let (a, b) = (&blocks[i], &blocks[j]);
                    let together = a.born < b.died && b.born < a.died;
                    let overlap = offsets[i] < offsets[j] + b.bytes && offsets[j] < offsets[i] + a.bytes;
                    prop_assert!(!(together && overlap));
                }
            }
            let live = |t: u64| -> u64 { blocks.iter().filter(|b| b.born <= t && t < b.died).map(|b| b.bytes).sum() };
            let peak = (0..90).map(live).max().unwrap();
            prop_assert!(extent >= peak);
            prop_assert!(extent <= 2 * peak, "extent {extent} for a peak of {peak}");
        }
    }
}
