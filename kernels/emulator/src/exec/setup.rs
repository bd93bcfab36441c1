//! What a launch, a block and a warp begin with.

use std::sync::Arc;

use super::warp::Warp;
use crate::isa::{Constant, Special};
use crate::memory::{Memory, window};
use crate::program::Program;
use crate::registers::{ALL, Class, Constants, LANES};

/// Sizes of a launch that has been checked.
#[derive(Clone, Debug)]
pub(super) struct Dimensions {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Blocks of a cluster.
    pub cluster: [u32; 3],
    /// Whether the kernel or launch named a cluster.
    pub explicit_cluster: bool,
    /// Shared bytes of a block behind the reserved ones.
    pub shared: u32,
    pub dynamic: u32,
}

impl Dimensions {
    pub(super) fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    pub(super) fn warps(&self) -> u32 {
        self.threads().div_ceil(LANES as u32)
    }

    pub(super) fn cluster_blocks(&self) -> u32 {
        self.cluster.iter().product()
    }

    /// Clusters along each axis.
    pub(super) fn clusters(&self) -> [u32; 3] {
        [0, 1, 2].map(|i| self.grid[i] / self.cluster[i])
    }

    /// The block of that rank in a cluster.
    pub(super) fn block_index(&self, cluster: u64, rank: u32) -> [u32; 3] {
        let place = unfold(cluster, self.clusters());
        let inner = unfold(u64::from(rank), self.cluster);
        [0, 1, 2].map(|i| place[i] * self.cluster[i] + inner[i])
    }

    /// The thread of a block.
    pub(super) fn thread(&self, number: u32) -> [u32; 3] {
        unfold(u64::from(number), self.block)
    }
}

/// Coordinates of a running number, x fastest.
fn unfold(number: u64, sizes: [u32; 3]) -> [u32; 3] {
    let (x, y) = (u64::from(sizes[0]), u64::from(sizes[1]));
    [(number % x) as u32, (number / x % y) as u32, (number / x / y) as u32]
}

/// Constants as the blocks of each rank see them.
pub(super) fn constants(
    program: &Program,
    memory: &Memory,
    dimensions: &Dimensions,
) -> Vec<Arc<Constants>> {
    let addresses = program.variables.addresses(memory);
    let rank = |rank: u32| {
        let value = |c: &Constant| match *c {
            Constant::Bits(bits) => bits,
            Constant::Shared(offset) => u64::from(rank << window::RANK_SHIFT | offset),
            Constant::Global(number, offset) => addresses[number].wrapping_add(offset as u64),
        };
        let [words, doubles, predicates] = &program.constants;
        Arc::new(Constants {
            words: words.iter().map(|c| [value(c) as u32; LANES]).collect(),
            doubles: doubles.iter().map(|c| [value(c); LANES]).collect(),
            predicates: predicates.iter().map(|c| value(c) as u32).collect(),
        })
    };
    (0..dimensions.cluster_blocks()).map(rank).collect()
}

/// Fills the special registers of a warp that has been started.
pub(super) fn specials(program: &Program, warp: &mut Warp, launch: &Dimensions, cluster: u64) {
    let rank = warp.block as u32;
    let index = launch.block_index(cluster, rank);
    let place = unfold(cluster, launch.clusters());
    let inner = unfold(u64::from(rank), launch.cluster);
    for &(special, slot) in &program.specials {
        let same = |v: u32| [v; LANES];
        let lanes = |f: &dyn Fn(u32) -> u32| std::array::from_fn(|l| f(l as u32));
        let values = match special {
            Special::Tid(axis) => {
                lanes(&|l| launch.thread(warp.number * LANES as u32 + l)[axis as usize])
            }
            Special::Ntid(axis) => same(launch.block[axis as usize]),
            Special::Ctaid(axis) => same(index[axis as usize]),
            Special::Nctaid(axis) => same(launch.grid[axis as usize]),
            Special::ClusterId(axis) => same(place[axis as usize]),
            Special::NclusterId(axis) => same(launch.clusters()[axis as usize]),
            Special::ClusterCtaid(axis) => same(inner[axis as usize]),
            Special::ClusterNctaid(axis) => same(launch.cluster[axis as usize]),
            Special::ClusterCtarank => same(rank),
            Special::ClusterNctarank => same(launch.cluster_blocks()),
            Special::ExplicitCluster => same(if launch.explicit_cluster { ALL } else { 0 }),
            Special::LaneId => lanes(&|l| l),
            Special::WarpId => same(warp.number),
            Special::Nwarpid => same(64),
            Special::SmId => same((cluster % u64::from(MULTIPROCESSORS)) as u32),
            Special::Nsmid => same(MULTIPROCESSORS),
            Special::GridId => same(1),
            Special::LanemaskEq => lanes(&|l| 1 << l),
            Special::LanemaskLt => lanes(&|l| (1 << l) - 1),
            Special::LanemaskLe => lanes(&|l| (1 << l) | ((1 << l) - 1)),
            Special::LanemaskGt => lanes(&|l| !((1 << l) | ((1 << l) - 1))),
            Special::LanemaskGe => lanes(&|l| !((1 << l) - 1)),
            Special::DynamicSmemSize => same(launch.dynamic),
            Special::TotalSmemSize => same(launch.shared),
        };
        match slot.class() {
            Class::Word => warp.registers.put_words(slot, ALL, &values),
            Class::Double => warp.registers.put_doubles(slot, ALL, &values.map(u64::from)),
            Class::Predicate => warp.registers.put_predicate(slot, ALL, values[0]),
        }
    }
}

/// Multiprocessors of the device that is imitated.
const MULTIPROCESSORS: u32 = 132;
